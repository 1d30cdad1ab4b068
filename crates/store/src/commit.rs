//! A commit: conditions, mutations and appends that happen together or not at all. The same shapes as
//! `tollgate:edge/store` in `wit/edge.wit`, where each is documented.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The most conditions, mutations or appends (each) of one commit.
pub const MAX_STEPS: usize = 64;
/// The most bytes of keys, values and payloads in one commit.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// The most keys of one `get`.
pub const MAX_GET_KEYS: usize = 1_024;
/// The most entries, messages or topics of one `scan`, `read` or `topics`.
pub const MAX_PAGE: u32 = 1_000;
/// The most bytes of one `scan` or `read` (one item may exceed it).
pub const MAX_PAGE_BYTES: usize = 1 << 20;
/// The longest wait of a `read`, in milliseconds.
pub const MAX_WAIT_MS: u32 = 30_000;

/// A piece of a value; see `part` in the WIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Literal bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The result of the `add` at this mutation index, in decimal.
    Sum(u32),
    /// The sequence of the append at this index, in decimal.
    Sequence(u32),
    /// The commit's time, Unix milliseconds, in decimal.
    Time,
}

/// A value that may hold numbers which only the commit knows.
pub type Template = Vec<Part>;

/// A template of literal bytes.
pub fn literal(bytes: impl Into<Vec<u8>>) -> Template {
    vec![Part::Bytes(bytes.into())]
}

/// What must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The key has no live entry.
    Absent(String),
    /// The key's entry has exactly this version.
    Version {
        /// The key.
        key: String,
        /// The version it must have.
        version: u64,
    },
    /// The store's time is in `[start, end)`, Unix milliseconds.
    NowIn {
        /// Open if missing.
        start: Option<u64>,
        /// Open if missing.
        end: Option<u64>,
    },
    /// The messages that the topic keeps weigh less than so many bytes; see [`weight`].
    TopicBelow {
        /// The topic.
        topic: String,
        /// The bytes.
        bytes: u64,
    },
}

impl Condition {
    /// The key's entry is as it was read: of this version, or absent.
    pub fn unchanged(key: impl Into<String>, version: Option<u64>) -> Self {
        let key = key.into();
        match version {
            Some(version) => Self::Version { key, version },
            None => Self::Absent(key),
        }
    }
}

/// One change to one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// Writes an entry.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: Template,
        /// Unix milliseconds at which the entry ceases to exist.
        expires: Option<u64>,
    },
    /// Removes an entry, if there is one.
    Delete {
        /// The key.
        key: String,
    },
    /// Adds to a counter; refuses the commit when the result would leave `[min, max]`.
    Add {
        /// The key.
        key: String,
        /// What is added.
        delta: i64,
        /// Inclusive lower bound.
        min: Option<i64>,
        /// Inclusive upper bound.
        max: Option<i64>,
    },
}

impl Mutation {
    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key } | Self::Add { key, .. } => key,
        }
    }
}

/// A message for the end of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The topic: its name.
    pub topic: String,
    /// Stable and unique.
    pub id: String,
    /// Messages of one key are delivered in order.
    pub key: String,
    /// CloudEvents type.
    pub kind: String,
    /// Media type of the payload.
    pub content_type: String,
    /// What else belongs to the message, in the rules' own format; empty for nothing.
    #[serde(with = "serde_bytes")]
    pub attributes: Vec<u8>,
    /// The payload.
    pub payload: Template,
}

/// Makes a commit repeatable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotence {
    /// Unique per intention; the caller scopes it (by user, by client).
    pub id: String,
    /// What must be the same on a repetition.
    #[serde(with = "serde_bytes")]
    pub fingerprint: Vec<u8>,
    /// Given back on a repetition.
    pub answer: Template,
    /// Milliseconds after which the id is forgotten.
    pub ttl: u64,
}

/// One atomic step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// What all keys of the commit share.
    pub partition: String,
    /// Repeatable, if present.
    pub idempotence: Option<Idempotence>,
    /// Checked first, in order.
    pub conditions: Vec<Condition>,
    /// Then applied, in order.
    pub mutations: Vec<Mutation>,
    /// Then appended, in order.
    pub appends: Vec<Append>,
}

/// The result of a commit that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The version that entries set by this commit now have.
    pub version: u64,
    /// Per mutation: the result of an `Add`, 0 for the others.
    pub sums: Vec<i64>,
    /// Per append: its sequence.
    pub sequences: Vec<u64>,
    /// The store's time, Unix milliseconds.
    pub time: u64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The condition at this index did not hold.
    Condition(u32),
    /// The `Add` at this mutation index would leave its bounds.
    Mutation(u32),
}

/// The result of a commit that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done and durable.
    Committed(Committed),
    /// Done before; the stored answer.
    Replayed(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The id was used before with another fingerprint.
    Conflict,
    /// Nothing was done.
    Refused(Refusal),
}

/// A live entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Of the commit that wrote it last.
    pub version: u64,
    /// Unix milliseconds.
    pub expires: Option<u64>,
}

/// An entry with its key, from a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: String,
    /// Its entry.
    pub entry: Entry,
}

/// A message in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// Dense per topic, from 1.
    pub sequence: u64,
    /// Stable and unique.
    pub id: String,
    /// Messages of one key are delivered in order.
    pub key: String,
    /// CloudEvents type.
    pub kind: String,
    /// Media type of the payload.
    pub content_type: String,
    /// When it was committed, Unix milliseconds.
    pub time: u64,
    /// What else belongs to the message, in the rules' own format; empty for nothing.
    pub attributes: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// The bytes that a message takes on disk besides its parts: its row, the half-empty pages of a tree, and its
/// [`record_key`]'s entry. Measured: 20,000 posts without a body, a query or a header take 480 bytes each.
pub const MESSAGE_OVERHEAD: u64 = 512;

/// The bytes that a message takes on disk, roughly. `max_bytes` counts these. SQL engines say the same by
/// [`crate::schema::WEIGHT`].
pub fn weight(message: &Message) -> u64 {
    let texts = [
        &message.topic,
        &message.id,
        &message.key,
        &message.kind,
        &message.content_type,
    ];
    let parts = texts.iter().map(|text| text.len()).sum::<usize>();
    MESSAGE_OVERHEAD + (parts + message.attributes.len() + message.payload.len()) as u64
}

/// The key of the entry that goes with a message: an engine that removes the message removes it too.
pub fn record_key(id: &str) -> String {
    [RECORD_PREFIX, id].concat()
}

/// What a [`record_key`] begins with.
pub const RECORD_PREFIX: &str = "message/";

/// A topic's extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// The oldest sequence still kept; `last + 1` when none is.
    pub first: u64,
    /// The newest sequence given out; 0 before the first.
    pub last: u64,
    /// When the oldest kept message was committed.
    pub first_time: Option<u64>,
    /// When the newest kept message was committed.
    pub last_time: Option<u64>,
    /// What the kept messages take, bytes: see [`weight`].
    pub bytes: u64,
}

/// Why a store did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done. Trying again later may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It may or may not have been done.
    #[error("the outcome of the commit is not known: {0}")]
    Unknown(String),
    /// The call breaks a rule of the port.
    #[error("not a valid call to the store: {0}")]
    Invalid(String),
}

/// A caller's text as a part of a key: `/`, `%` and control characters percent-escaped, at most three times as long.
pub fn key_part(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte != b'/' && byte != b'%' && !byte.is_ascii_control();
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '/' || c == '%' || c.is_ascii_control() {
            escaped.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}
