//! Folding goes round: a step folds the notes that come after those of the step before, by link and time. A round leaves a link
//! when it meets notes that are younger than itself. So every link has its turn, and the longer a round takes, the more notes of one
//! link a commit has.
//!
//! Where notes come faster than they are folded, rounds become longer. A round that has met [`MAX_BYTES`] of notes says so in
//! its entry. While it does, visits are counted as ever, and not noted ([`is_full`]).

use serde::{Deserialize, Serialize};
use tollgate_store::commit::{Commit, Entry, Mutation, StoreError, literal};
use tollgate_store::packed;
use tollgate_store::ports::Store;

use super::fold::{self, PAGE};
use super::{NOTES, TIME_DIGITS};

/// The key of a round that is under way, and its partition. There is none where all that waits fits into a step.
pub const ROUND: &str = "folding";
/// Notes that may wait, bytes. What comes during the round that finds so many is taken, so that a few times as much may lie in the store.
pub const MAX_BYTES: u64 = 128 << 20;

/// What comes after the slash: the first key after all that begin with a link and a slash.
const AFTER_A_LINK: char = '0';

/// How far folding has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// When it began, Unix milliseconds.
    began: u64,
    /// The key that it goes on after; empty at the beginning.
    after: String,
    /// Bytes of notes that this round has met.
    met: u64,
    /// Bytes of notes that the one before had met.
    before: u64,
}

impl Round {
    /// What the entry of [`ROUND`] says. One that cannot be read is a round that begins.
    pub fn of(entry: Option<&Entry>) -> Self {
        entry
            .and_then(|entry| packed::unpack(&entry.value))
            .unwrap_or_default()
    }

    /// Bytes of notes that wait, as far as it is known.
    pub fn waiting(&self) -> u64 {
        self.met.max(self.before.saturating_sub(self.met))
    }

    /// Whether visits are not noted, since too much waits already.
    pub fn is_full(&self) -> bool {
        self.waiting() >= MAX_BYTES
    }

    /// After another step, which met notes of so many bytes up to the key `last`.
    fn gone_on(self, last: &str, bytes: u64) -> Self {
        let after = match link_and_time(last) {
            Some((link, time)) if time > self.began => format!("{link}{AFTER_A_LINK}"),
            _ => last.to_owned(),
        };
        Self {
            after,
            met: self.met.saturating_add(bytes),
            ..self
        }
    }

    /// The round after this one, from `now` on; `None` if it needs no entry.
    fn next(self, now: u64) -> Option<Self> {
        (self.met >= MAX_BYTES).then(|| Self {
            began: now,
            before: self.met,
            ..Self::default()
        })
    }
}

/// Of the key of a note: what those of its link begin with, without the slash, and its time in Unix milliseconds.
fn link_and_time(key: &str) -> Option<(&str, u64)> {
    let (link, unique) = key.rsplit_once('/')?;
    Some((link, u64::from_str_radix(unique.get(..TIME_DIGITS)?, 16).ok()?))
}

/// Folds the next notes of the round; logs keep so many visits. `true`: there may be more, or somebody else folds them just now.
/// Several may do so at once: then each goes on after either.
///
/// # Errors
/// Those of the store; what was folded stays folded.
pub async fn step<S: Store>(store: &S, keep: u32, now: u64) -> Result<bool, StoreError> {
    let found = store.get(ROUND, &[ROUND.to_owned()]).await?;
    let found = found.into_iter().next().flatten();
    let mut round = Round::of(found.as_ref());
    if round.after.is_empty() {
        round.began = now;
    }
    let after = (!round.after.is_empty()).then_some(round.after.as_str());
    let items = store.scan(NOTES, after, PAGE).await?;
    let bytes = fold::bytes(&items);
    let last = items.last().map(|item| item.key.clone());
    let is_page = fold::is_page(&items);
    let refused = fold::items(store, items, keep).await?;
    let (next, more) = match last {
        Some(last) if is_page => (Some(round.gone_on(&last, bytes as u64)), true),
        // The end of the round; the next one looks at what came meanwhile, if this one took several steps.
        _ => (round.next(now), refused || found.is_some()),
    };
    if next.is_some() || found.is_some() {
        write(store, next).await?;
    }
    Ok(more)
}

/// A round that has met so many bytes of notes.
#[cfg(test)]
pub(crate) async fn write_met<S: Store>(store: &S, met: u64) {
    let round = Round {
        met,
        ..Round::default()
    };
    write(store, Some(round)).await.unwrap();
}

async fn write<S: Store>(store: &S, round: Option<Round>) -> Result<(), StoreError> {
    let key = ROUND.to_owned();
    let mutation = match round {
        Some(round) => Mutation::Set {
            key,
            value: literal(packed::pack(&round, 64)),
            expires: None,
        },
        None => Mutation::Delete { key },
    };
    let commit = Commit {
        partition: ROUND.to_owned(),
        mutations: vec![mutation],
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ready;
    use tollgate_store::memory::InMemoryStore;

    /// Writes a thousand and one notes of a link; what cannot be read is folded as what tells of no visit.
    fn notes(store: &InMemoryStore, link: &str, now: u64) {
        let note = |number| Mutation::Set {
            key: format!("{NOTES}{link}/{now:0TIME_DIGITS$x}{number:016x}"),
            value: literal("?"),
            expires: None,
        };
        for part in (0..1_001).collect::<Vec<_>>().chunks(32) {
            let commit = Commit {
                partition: NOTES.to_owned(),
                mutations: part.iter().copied().map(note).collect(),
                ..Commit::default()
            };
            ready(store.commit(commit)).unwrap();
        }
    }

    fn waiting(store: &InMemoryStore, link: &str) -> usize {
        ready(store.scan(&format!("{NOTES}{link}/"), None, 1_000))
            .unwrap()
            .len()
    }

    #[test]
    fn every_link_has_its_turn_though_one_before_it_is_visited_all_the_time() {
        let store = InMemoryStore::new();
        notes(&store, "a", 1);
        notes(&store, "z", 1);
        for now in 1..6 {
            assert_eq!(ready(step(&store, 0, now)), Ok(true));
            notes(&store, "a", now + 1);
        }
        assert_eq!((waiting(&store, "z"), waiting(&store, "a")), (0, 1_000));
        while ready(step(&store, 0, 6)).unwrap() {}
        assert_eq!(waiting(&store, "a"), 0);
        assert_eq!(
            ready(store.scan("", None, 10)),
            Ok(Vec::new()),
            "no round, no entry"
        );
    }

    #[test]
    fn a_round_is_full_until_the_next_one_has_met_most_of_what_it_left() {
        let begun = Round::default();
        assert!(!begun.is_full() && begun.clone().next(1).is_none());
        let long = begun.gone_on("seen/k", MAX_BYTES);
        assert!(long.is_full());
        let longer = long.gone_on("seen/z", MAX_BYTES / 2);
        let next = longer.next(2).unwrap();
        assert!(next.is_full(), "what came during the last round may be as much");
        let next = next.gone_on("seen/b", MAX_BYTES / 2 + 1);
        assert!(!next.is_full());
        assert_eq!(next.next(3), None);
    }

    #[test]
    fn an_entry_that_cannot_be_read_begins_a_round() {
        let entry = Entry {
            value: b"?".to_vec(),
            version: 1,
            expires: None,
        };
        assert_eq!(Round::of(Some(&entry)), Round::default());
    }
}
