//! The records of a draw and its entries, their keys, and how answers show them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::merkle::{self, Hash};
use super::pool::{Pool, Word};
use super::prizes::{Given, Prize};
use tollgate_api::ids;
use tollgate_store::commit::{Condition, Mutation, StoreError, Template, key_part};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::{self, Number};

/// The most entries of a draw.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// The most entries of one user.
pub const MAX_PER_USER: u64 = 100;
/// The most prizes of a draw.
pub const MAX_PRIZES: usize = 20;
/// The longest name of a prize, and the longest source of a beacon, in characters.
pub const MAX_NAME: usize = 100;
/// The longest beacon, in characters.
pub const MAX_BEACON: usize = 256;
/// Where entries are announced unless the draw says otherwise.
pub const DEFAULT_TOPIC: &str = "draw";
/// The prefix of what says that a draw is not drawn yet.
pub const UNDRAWN: &str = "undrawn/";
/// The first line of what is hashed for an entry.
const LEAF_FORM: &str = "tollgate draw entry 1";

/// A draw as it is stored. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draw {
    /// A slug.
    pub id: String,
    /// Words of a pick.
    pub pick: u64,
    /// What is picked from.
    pub pool: Pool,
    /// Entries of one user.
    pub per_user: u64,
    /// From when on it takes entries.
    pub opens_at: Option<u64>,
    /// From when on it takes no more.
    pub closes_at: u64,
    /// The most matches first.
    pub prizes: Vec<Prize>,
    /// Where entries are announced.
    pub topic: String,
    /// When it was made.
    pub created_at: u64,
    /// SHA-256 of the seed, hexadecimal.
    pub commitment: String,
    /// Which public value of after the close counts, if one does.
    pub beacon_source: Option<String>,
    /// Once it takes no more entries.
    pub closed: Option<Closed>,
    /// Once it is drawn.
    pub outcome: Option<Outcome>,
}

/// A draw that takes no more entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When it closed.
    pub time: Number,
    /// How many entries it has.
    pub entries: Number,
    /// The root of the tree over them, hexadecimal, once it is known.
    pub root: Option<String>,
    /// The last of them, from then on: its proof shows how many there are.
    pub last: Option<Entry>,
    /// The public value.
    pub beacon: Option<String>,
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When.
    pub time: Number,
    /// The seed, hexadecimal.
    pub seed: String,
    /// The entry; none in a draw without entries.
    pub winner: Option<Entry>,
    /// Of each prize, who has it.
    pub given: Vec<Given>,
}

/// The state of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DrawState")
)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Before `opensAt`.
    Scheduled,
    /// Takes entries.
    Open,
    /// Takes no more, and is being drawn, or waits for its beacon.
    Closed,
    /// Drawn.
    Drawn,
    /// Closed without entries.
    Void,
}

impl Draw {
    /// The partition of all its keys; also the key of its record.
    pub fn partition(id: &str) -> String {
        ["draw/", id].concat()
    }

    /// The key of its seed.
    pub fn seed_key(id: &str) -> String {
        ["seed/", id].concat()
    }

    /// The key that is there until it is drawn.
    pub fn undrawn_key(id: &str) -> String {
        [UNDRAWN, id].concat()
    }

    /// The key of its counter of entries.
    pub fn count_key(id: &str) -> String {
        ["entries/", id].concat()
    }

    /// The key of a user's counter of entries.
    pub fn user_count_key(id: &str, user: &str) -> String {
        ["entrants/", id, "/", &key_part(user)].concat()
    }

    /// The prefix of all keys of a user's entries.
    pub fn user_prefix(id: &str, user: &str) -> String {
        ["entrant/", id, "/", &key_part(user), "/"].concat()
    }

    /// The key of the roots of its tree's pages.
    pub fn tree_key(id: &str) -> String {
        ["tree/", id].concat()
    }

    /// The key of the leaves of one of them.
    pub fn leaves_key(id: &str, page: u64) -> String {
        format!("leaves/{id}/{page:04x}")
    }

    /// The key of what is counted so far.
    pub fn tally_key(id: &str) -> String {
        ["tally/", id].concat()
    }

    /// Its state.
    pub fn state(&self, now: u64) -> State {
        match &self.outcome {
            Some(Outcome { winner: Some(_), .. }) => State::Drawn,
            Some(_) => State::Void,
            None if self.closed.is_some() || self.closes_at <= now => State::Closed,
            None if self.opens_at.is_some_and(|start| now < start) => State::Scheduled,
            None => State::Open,
        }
    }

    /// The root, if it is known.
    pub fn root(&self) -> Option<Hash> {
        self.closed.as_ref()?.root.as_deref().and_then(merkle::parse)
    }

    /// Its record, written.
    pub fn set(&self) -> Mutation {
        Mutation::Set {
            key: Self::partition(&self.id),
            value: template::json(self),
            expires: None,
        }
    }

    /// An entry's hash in the tree.
    pub fn leaf(&self, entry: &Entry) -> Hash {
        let words: Vec<_> = self.pool.words(&entry.words);
        let sequence = entry.sequence.known().unwrap_or_default();
        leaf(&self.id, sequence, &owner(&entry.id, &entry.user), &words)
    }
}

/// An entry's hash in the tree: of lines, none of which can hold the end of one.
pub fn leaf(draw: &str, sequence: u64, owner: &str, words: &[Word]) -> Hash {
    let mut text = format!("{LEAF_FORM}\n{draw}\n{sequence}\n{owner}");
    for word in words {
        text.push('\n');
        text.push_str(&word.to_string());
    }
    merkle::leaf(text.as_bytes())
}

/// Whose an entry is, for everybody else: the hash of its user, and of its id, which nobody else knows.
pub fn owner(entry: &str, user: &str) -> String {
    ids::hex(&Sha256::digest([entry, "\n", user].concat()))
}

/// A draw as it was read.
pub struct Live {
    /// The record.
    pub draw: Draw,
    /// The record's version.
    pub version: u64,
    /// How many entries there are.
    pub entries: u64,
}

impl Live {
    /// It is still the one that was read.
    pub fn unchanged(&self) -> Condition {
        Condition::Version {
            key: Draw::partition(&self.draw.id),
            version: self.version,
        }
    }
}

/// Reads a draw with the number of its entries, at one moment; `None` if there is none.
pub async fn load<S: Store>(store: &S, id: &str) -> Result<Option<Live>, StoreError> {
    let partition = Draw::partition(id);
    let keys = [partition.clone(), Draw::count_key(id)];
    live(&store.get(&partition, &keys).await?)
}

/// The same for an entry, whose commit decides.
pub async fn load_for_entry<S: Store>(store: &S, id: &str) -> Result<Option<Live>, StoreError> {
    let partition = Draw::partition(id);
    let keys = [partition.clone(), Draw::count_key(id)];
    live(&store.get_each(&partition, &keys).await?)
}

fn live(found: &[Option<tollgate_store::commit::Entry>]) -> Result<Option<Live>, StoreError> {
    let Some(entry) = found.first().and_then(Option::as_ref) else {
        return Ok(None);
    };
    Ok(Some(Live {
        draw: stored::decode("draw", entry)?,
        version: entry.version,
        entries: stored::count("number of entries", found.get(1).and_then(Option::as_ref))?,
    }))
}

/// How far a draw is that is not drawn yet, for whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undrawn {
    /// The draw's id.
    pub id: String,
    /// How many entries there are.
    pub entries: u64,
}

/// The first `limit` draws by id that are not drawn yet.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn undrawn<S: Store>(store: &S, limit: u32) -> Result<Vec<Undrawn>, StoreError> {
    let mut undrawn = Vec::new();
    for item in store.scan(UNDRAWN, None, limit).await? {
        let id = item.key.strip_prefix(UNDRAWN).unwrap_or_default();
        if let Some(Live { draw, entries, .. }) = load(store, id).await? {
            undrawn.push(Undrawn { id: draw.id, entries });
        }
    }
    Ok(undrawn)
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Dense per draw from 1, in order of admission.
    pub sequence: Number,
    /// Unguessable; also the id of its message.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// The pick: places in the pool.
    pub words: Vec<u32>,
    /// When it was made, Unix milliseconds.
    pub time: Number,
}

impl Entry {
    /// As it is stored.
    pub fn template(&self) -> Template {
        template::json(self)
    }
}
