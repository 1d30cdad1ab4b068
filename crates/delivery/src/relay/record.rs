//! The durable form of a relay: the entries of the partition `relay/<topic>/<name>` (for a subscription of the file) or
//! `relay/<topic>/~<id>` (for one that was made over HTTP).
//!
//! | entry | holds | written by |
//! |---|---|---|
//! | `…/progress` | [`Progress`](super::progress::Progress) | the relay alone, guarded by its version |
//! | `…/control` | [`Control`] | the API (pause, resume) and the relay (410) |
//! | `…/redrives` | a counter that grows with each redrive, so that the relay looks again | the API |
//! | `…/breaker` | [`BreakerRecord`]; absent is closed | the relay when it changes; the API when it resets it |
//! | `…/resets` | a counter that grows with each reset of the breaker | the API |
//! | `…/hurries` | a counter that grows each time that what waits is to be tried at once | the API |
//! | `…/lease`, `…/epoch` | who serves it, where several processes share a store: see [`lease`](crate::lease) | the relay |
//! | `…/attempt/<place>/<number>` | [`Attempt`](super::attempt::Attempt): what is kept of an attempt | the relay |
//! | `…/health` | [`Health`](super::attempt::Health): how the last hour went | the relay |
//! | `…/retry/<sequence>` | [`Waiting`]: attempts of a message that waits | the relay; the API when it redrives or replays |
//! | `…/dead/<sequence>` | [`DeadLetter`] | the relay; removed by the API when it redrives |
//!
//! Sequences are written in 20 digits, so that keys sort as numbers do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use tollgate_store::commit::{Message, key_part};

/// The largest payload, bytes, that a dead letter carries with it; larger ones stay in the topic only, for as long as
/// retention keeps them. Leaves room for base64 and the rest within one commit.
pub const MAX_EMBEDDED_BYTES: usize = 512 << 10;
/// The longest description of an error, bytes.
pub const MAX_ERROR_BYTES: usize = 200;

/// The keys of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    partition: String,
    /// Begins every key, without its slash.
    base: String,
}

impl Keys {
    /// Of the subscription `name` of `topic`.
    pub fn new(topic: &str, name: &str) -> Self {
        Self::of_base(format!("relay/{}/{}", key_part(topic), key_part(name)))
    }

    /// Keys that are a partition of their own.
    fn of_base(base: String) -> Self {
        Self {
            partition: base.clone(),
            base,
        }
    }

    /// Of something else that is done by one at a time, whose keys begin with `base`, a partition of its own.
    pub fn of_work(base: &str) -> Self {
        Self::of_base(base.to_owned())
    }

    /// Of the subscription with this id, which nothing else ever has, whatever its name: names are used again.
    pub fn of_id(topic: &str, id: &str) -> Self {
        // No name begins with a tilde.
        Self::of_base(format!("relay/{}/~{}", key_part(topic), key_part(id)))
    }

    /// Of the consumer group with this id, in the partition of all groups of the topic, where its record is too.
    pub fn of_group(topic: &str, id: &str) -> Self {
        let topic = key_part(topic);
        Self {
            partition: format!("groups/{topic}"),
            base: format!("groups/{topic}/~{}", key_part(id)),
        }
    }

    /// The partition of all its keys.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// Begins every key.
    pub fn prefix(&self) -> String {
        format!("{}/", self.base)
    }

    /// The key of the progress.
    pub fn progress(&self) -> String {
        format!("{}/progress", self.base)
    }

    /// The key of the control entry.
    pub fn control(&self) -> String {
        format!("{}/control", self.base)
    }

    /// The key of the counter of redrives.
    pub fn redrives(&self) -> String {
        format!("{}/redrives", self.base)
    }

    /// The key of the breaker's state.
    pub fn breaker(&self) -> String {
        format!("{}/breaker", self.base)
    }

    /// The key of the counter of resets.
    pub fn resets(&self) -> String {
        format!("{}/resets", self.base)
    }

    /// The key of the counter of hurries.
    pub fn hurries(&self) -> String {
        format!("{}/hurries", self.base)
    }

    /// The key of how deliveries went of late.
    pub fn health(&self) -> String {
        format!("{}/health", self.base)
    }

    /// The key of a place where an attempt is kept.
    pub fn attempt(&self, place: u64, number: u32) -> String {
        format!("{}/attempt/{place:05}/{number:02}", self.base)
    }
    /// The key of the lease.
    pub fn lease(&self) -> String {
        format!("{}/lease", self.base)
    }

    /// The key of the counter of the lease's takeovers.
    pub fn epoch(&self) -> String {
        format!("{}/epoch", self.base)
    }

    /// The key of the counter of dead letters that a consumer group ever had.
    pub fn deaths(&self) -> String {
        format!("{}/deaths", self.base)
    }

    /// The key of the window of a consumer group with this number.
    pub fn window(&self, number: u64) -> String {
        format!("{}/window/{number:020}", self.base)
    }

    /// Begins the keys of waiting messages.
    pub fn retry_prefix(&self) -> String {
        format!("{}/retry/", self.base)
    }

    /// The key of a waiting message.
    pub fn retry(&self, sequence: u64) -> String {
        format!("{}/retry/{sequence:020}", self.base)
    }

    /// Begins the keys of dead letters.
    pub fn dead_prefix(&self) -> String {
        format!("{}/dead/", self.base)
    }

    /// The key of a dead letter.
    pub fn dead(&self, sequence: u64) -> String {
        format!("{}/dead/{sequence:020}", self.base)
    }

    /// The sequence that a retry or dead letter key ends with.
    pub fn sequence_of(key: &str) -> Option<u64> {
        key.rsplit('/').next()?.parse().ok()
    }
}

/// Why a subscription is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PauseReason")
)]
#[serde(rename_all = "camelCase")]
pub enum PauseReason {
    /// Through the API.
    Requested,
    /// The origin answered 410 Gone.
    Gone,
    /// There was nothing but failure for longer than `pauseAfter`.
    Failing,
}

/// Whether the relay may deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Control {
    /// Nothing is sent while it is set.
    pub paused: bool,
    /// Why, while it is paused.
    pub reason: Option<PauseReason>,
    /// Since when it is paused, or is not any more; Unix milliseconds.
    pub since: Option<u64>,
}

impl Control {
    /// Paused at `now`.
    pub fn paused(reason: PauseReason, now: u64) -> Self {
        Self {
            paused: true,
            reason: Some(reason),
            since: Some(now),
        }
    }

    /// Goes on from `now`.
    pub fn resumed(now: u64) -> Self {
        Self {
            since: Some(now),
            ..Self::default()
        }
    }

    /// Since when nothing pauses it, if it was paused.
    pub fn resumed_at(&self) -> Option<u64> {
        self.since.filter(|_| !self.paused)
    }
}

/// The last known state of a subscription's circuit breaker. The default: closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerRecord {
    /// Nothing is sent until then, Unix milliseconds; after it, a probe at a time. `None`: closed.
    pub until: Option<u64>,
    /// The failure that opened it.
    pub why: Option<String>,
}

/// A message that waits for its next attempt. Absent for one that was never tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// Attempts that failed.
    pub attempts: u32,
    /// Not before, Unix milliseconds.
    pub next_at: u64,
    /// When the first attempt began, Unix milliseconds.
    pub first_at: Option<u64>,
    /// The last failure.
    pub last_error: Option<String>,
    /// It was a dead letter: to be delivered although its sequence is finished.
    pub redriven: bool,
    /// See [`Batching`](super::Batching): it is sent by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// The progress has passed over it: to be delivered although its sequence counts as finished there.
    pub parked: bool,
    /// See [`lane_of`]; 0 also where it was not written down.
    pub lane: u64,
    /// The message itself, where it came from a dead letter.
    pub message: Option<StoredMessage>,
}

impl Waiting {
    /// Its sequence counts as finished in the progress, and only this entry says otherwise.
    pub fn is_apart(&self) -> bool {
        self.parked || self.redriven
    }
}

/// The hash of an ordering key, where many are remembered: 64 bits of its SHA-256, so that nobody finds a key
/// that collides with another's. 0 for the empty key, which has no order.
pub fn lane_of(key: &str) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(key));
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The message's id.
    pub id: String,
    /// Its sequence.
    pub sequence: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// The last failure.
    pub last_error: String,
    /// When the first attempt began, Unix milliseconds.
    pub first_at: u64,
    /// When the last attempt failed, Unix milliseconds.
    pub died_at: u64,
    /// The message itself, so that retention cannot take it; see [`MAX_EMBEDDED_BYTES`].
    pub message: Option<StoredMessage>,
}

/// A message inside an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredMessage {
    id: String,
    key: String,
    #[serde(rename = "type")]
    kind: String,
    content_type: String,
    time: u64,
    /// Missing in letters of the version before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    attributes_base64: String,
    data_base64: String,
}

impl StoredMessage {
    /// The message's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// See [`lane_of`].
    pub fn lane(&self) -> u64 {
        lane_of(&self.key)
    }

    /// `None` if the payload is too large to be embedded.
    pub fn of(message: &Message) -> Option<Self> {
        (message.payload.len() <= MAX_EMBEDDED_BYTES).then(|| Self {
            id: message.id.clone(),
            key: message.key.clone(),
            kind: message.kind.clone(),
            content_type: message.content_type.clone(),
            time: message.time,
            attributes_base64: STANDARD.encode(&message.attributes),
            data_base64: STANDARD.encode(&message.payload),
        })
    }

    /// The message it was made of; `None` if the entry is damaged.
    pub fn restore(&self, topic: &str, sequence: u64) -> Option<Message> {
        Some(Message {
            topic: topic.to_owned(),
            sequence,
            id: self.id.clone(),
            key: self.key.clone(),
            kind: self.kind.clone(),
            content_type: self.content_type.clone(),
            time: self.time,
            attributes: STANDARD.decode(&self.attributes_base64).ok()?,
            payload: STANDARD.decode(&self.data_base64).ok()?,
        })
    }
}

/// An error's text cut to [`MAX_ERROR_BYTES`].
pub fn bounded_error(text: &str) -> String {
    let mut end = text.len().min(MAX_ERROR_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_share_their_partition_and_names_cannot_leave_it() {
        let keys = Keys::new("a/b", "c%\u{7}");
        assert_eq!(keys.partition(), "relay/a%2Fb/c%25%07");
        assert_eq!(keys.retry(7), "relay/a%2Fb/c%25%07/retry/00000000000000000007");
        assert_eq!(Keys::sequence_of(&keys.dead(u64::MAX)), Some(u64::MAX));
        assert!(keys.dead(9) < keys.dead(10));
    }

    #[test]
    fn a_message_survives_in_a_dead_letter_and_a_huge_one_stays_in_its_topic() {
        let mut message = Message {
            topic: "t".into(),
            sequence: 3,
            id: "m".into(),
            key: "k".into(),
            kind: "x".into(),
            content_type: "text/plain".into(),
            time: 5,
            attributes: b"{}".into(),
            payload: vec![0, 255, 10],
        };
        assert_eq!(
            StoredMessage::of(&message).unwrap().restore("t", 3),
            Some(message.clone())
        );
        message.payload = vec![0; MAX_EMBEDDED_BYTES + 1];
        assert_eq!(StoredMessage::of(&message), None);
    }

    #[test]
    fn errors_are_cut_between_characters() {
        let text = "ä".repeat(MAX_ERROR_BYTES);
        let cut = bounded_error(&format!("x{text}"));
        assert!(cut.len() <= MAX_ERROR_BYTES && cut.ends_with('ä'));
    }
}
