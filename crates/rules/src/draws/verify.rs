//! Checking a draw without asking anybody: from the document of `GET …/entries/{user}/proof` alone.

use serde::{Deserialize, Serialize};

use super::merkle::{self, Hash};
use super::pool::Word;
use super::record::{leaf, owner};
use super::seed;
use super::view::View;

/// That an entry is in the tree.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "EntryProof")
)]
pub struct Proof {
    /// The entry's id; null for the one that was drawn, unless it is the user's.
    pub id: Option<String>,
    /// Whose it is; null as its id is.
    pub user: Option<String>,
    /// Its index in the tree, and one.
    pub sequence: u64,
    /// The hash of its id and its user.
    pub owner: String,
    /// Its pick.
    pub words: Vec<Word>,
    /// Its hash in the tree, hexadecimal.
    pub leaf: String,
    /// The hashes that lead from it to the root, from below, hexadecimal (RFC 9162, section 2.1.3).
    pub path: Vec<String>,
}

/// A draw, and that a user's entries and the one that was drawn are in its tree.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawProof")
)]
pub struct Proofs {
    /// The draw.
    pub draw: View,
    /// The entry that was drawn; null until then.
    pub winner: Option<Proof>,
    /// The last entry: that it is in the tree, with nothing behind it, shows how many there are.
    pub last: Option<Proof>,
    /// The user's entries.
    pub entries: Vec<Proof>,
}

/// Something that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in a sentence that is true if it holds.
    pub what: String,
    /// Whether it holds.
    pub holds: bool,
}

/// What was checked of a draw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The draw.
    pub draw: String,
    /// All that was checked, in turn.
    pub checks: Vec<Check>,
    /// What it means, and what cannot be checked from this document.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.holds)
    }

    fn check(&mut self, holds: bool, what: impl Into<String>) {
        self.checks.push(Check {
            what: what.into(),
            holds,
        });
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// Checks the document of `…/proof`. `commitment`: the one that was told before the first entry, if it was kept.
///
/// # Errors
/// It is no such document.
pub fn verify(document: &[u8], commitment: Option<&str>) -> Result<Report, String> {
    let proofs: Proofs = serde_json::from_slice(document).map_err(|error| {
        format!("this is no proof of a draw, as GET …/entries/{{user}}/proof gives it: {error}")
    })?;
    let draw = &proofs.draw;
    let mut report = Report {
        draw: draw.id.clone(),
        ..Report::default()
    };
    match commitment {
        Some(kept) => report.check(
            kept.eq_ignore_ascii_case(&draw.commitment),
            "the commitment is the one that was kept",
        ),
        None => report
            .note("Compare the commitment with the one that was told before the first entry (--commitment)."),
    }
    let Some(root) = draw.root.as_deref().and_then(merkle::parse) else {
        report.check(false, "the root is a hash");
        return Ok(report);
    };
    // A path fits trees of several sizes; that of the last leaf fits one.
    let last = proofs.last.as_ref();
    report.check(
        last.is_some_and(|last| last.sequence == draw.entries && is_in(draw, root, last)),
        format!(
            "the tree has {} entries: the last of them is in it, and none behind it",
            draw.entries
        ),
    );
    match draw.seed.as_deref() {
        Some(seed) => drawn(&mut report, &proofs, root, seed),
        None => {
            let tells = draw.winner.is_some() || draw.winning_words.is_some() || proofs.winner.is_some();
            report.check(!tells, "no winner is told before the seed is");
            report.note("The draw is not drawn yet: there is no seed and no winner to check.");
        }
    }
    for proof in &proofs.entries {
        entry(&mut report, draw, root, proof);
    }
    if proofs.entries.is_empty() {
        report.note("The document holds no entry of the user's.");
    }
    if draw.prizes.iter().any(|prize| prize.quantity.is_some()) {
        report.note("How many entries reached a prize before another did is not told here: where a prize has a quantity, only the matches are checked.");
    }
    Ok(report)
}

/// The seed, the winner and its words.
fn drawn(report: &mut Report, proofs: &Proofs, root: Hash, seed: &str) {
    let draw = &proofs.draw;
    let Some(seed) = merkle::parse(seed) else {
        return report.check(false, "the seed is a hash");
    };
    report.check(
        seed::commitment(&seed) == draw.commitment,
        "the seed is the one that was committed to: SHA-256(seed) is the commitment",
    );
    let index = seed::winner(&seed, &root, draw.beacon.as_deref(), draw.entries);
    let Some(winner) = &proofs.winner else {
        return report.check(false, "the entry that was drawn is there");
    };
    report.check(
        winner.sequence == index + 1
            && draw
                .winner
                .as_ref()
                .is_some_and(|told| told.sequence == index + 1),
        format!(
            "the entry that was drawn is the one that seed, root and beacon choose: number {} of {}",
            index + 1,
            draw.entries
        ),
    );
    report.check(
        draw.winner
            .as_ref()
            .is_some_and(|told| told.owner == winner.owner),
        "it belongs to whom the draw says",
    );
    report.check(
        is_in(draw, root, winner),
        "it is in the tree, under the root, with its words",
    );
    report.check(
        draw.winning_words.as_ref() == Some(&winner.words),
        "its words are the winning words",
    );
    match (&draw.beacon_source, &draw.beacon) {
        (Some(source), Some(beacon)) => report.note(format!(
            "The beacon was to be: {source}. Check that this was {beacon}, and was not known before the close."
        )),
        (None, Some(beacon)) => report.note(format!(
            "The beacon {beacon} was not announced when the draw was made: whoever drew could have chosen it."
        )),
        _ => report.note("There is no beacon: whoever could read the seed before the close could have added entries to choose the winner."),
    }
}

/// Whether an entry is in the tree.
fn is_in(draw: &View, root: Hash, proof: &Proof) -> bool {
    let path: Option<Vec<Hash>> = proof.path.iter().map(|hash| merkle::parse(hash)).collect();
    let leaf = leaf(&draw.id, proof.sequence, &proof.owner, &proof.words);
    let Some(index) = proof.sequence.checked_sub(1) else {
        return false;
    };
    let reached = path.and_then(|path| merkle::root_by(leaf, index, draw.entries, &path));
    merkle::parse(&proof.leaf) == Some(leaf) && reached == Some(root)
}

/// An entry of the user's.
fn entry(report: &mut Report, draw: &View, root: Hash, proof: &Proof) {
    let number = proof.sequence;
    let own = proof.id.as_deref().zip(proof.user.as_deref());
    report.check(
        own.is_some_and(|(id, user)| owner(id, user) == proof.owner),
        format!(
            "entry {number} belongs to {}",
            proof.user.as_deref().unwrap_or("nobody")
        ),
    );
    report.check(
        is_in(draw, root, proof),
        format!("entry {number} is in the tree, under the root, with its words"),
    );
    if let Some(winning) = &draw.winning_words {
        let shared = proof.words.iter().filter(|word| winning.contains(word)).count() as u64;
        let prize = draw.prizes.iter().find(|prize| prize.matches <= shared);
        let prize = prize.map_or("no prize".to_owned(), |prize| format!("the prize {}", prize.name));
        report.note(format!(
            "Entry {number} shares {shared} words with the winning words: {prize}."
        ));
    }
}
