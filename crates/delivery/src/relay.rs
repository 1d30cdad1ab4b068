//! The relay of one subscription, as a pure state machine: it takes [`Event`]s with the time and gives [`Action`]s. A
//! driver carries the actions out against a store and an origin; a simulation does the same with neither.
//!
//! * At most `rate_per_second` deliveries are begun per second, evenly, and at most `concurrency` are under way.
//! * `ordered`: of the messages of one key, one is delivered at a time, in order; a failing message holds up its own
//!   key and no other. A message with an empty key has no order.
//! * A delivery is finished when its sink says that it was accepted, or by a dead letter after its last attempt. A
//!   receiver that wants no more pauses the subscription, which costs no attempt. A refusal is a failed attempt.
//! * Refusals that are the origin's fault count against the circuit breaker. While it is open nothing is sent and no
//!   attempt is spent.
//! * At least once: the progress moves only over messages that were acknowledged or recorded as dead letters.
//!   A dead letter becomes durable in the same commit as the progress over it. Commits follow the order in
//!   which messages finished, so that after a crash a key is repeated from some point on and never out of
//!   order.
//! * Bounded, and a refused message holds up its own key only, however many are refused. At most [`WINDOW`]
//!   messages (or [`WINDOW_BYTES`]) are in memory. When the window is half full, messages that wait, and
//!   those that stand behind them, are parked. A parked message becomes durable in an entry of its own, the
//!   progress passes over it, and it is read again when its turn comes. Some 200 bytes are remembered of a
//!   parked message, and at most [`MAX_HELD`] messages are remembered in all. Beyond that, those that would
//!   wait longest become dead letters early. New messages and repeated ones take turns.
//! * Of one key, parked messages are always older than those that are not parked, in memory and in every
//!   commit. So nothing overtakes, after a crash either.
//! * Batches: as many messages as may be sent are one delivery, once there are enough or the first has waited for the
//!   interval. A batch holds one message of a key at most. It is accepted or refused as a whole, and each of its messages
//!   spends an attempt. Where the messages are to blame, none does: each is sent alone from then on, so that one bad
//!   message makes no other a dead letter.
//! * A message that the filter does not pass is finished when it is loaded, and neither waits nor takes a place. What
//!   waits for another attempt is looked at again when its turn comes; a dead letter that was redriven goes anyway.
//! * Each attempt is written down in the commit of what became of it; of each message the newest, of the newest messages.
//! * A subscription that has failed for longer than `pause_after_ms`, and often enough, is paused as by its receiver.
//! * Two relays of one subscription on one store both deliver, but their progress stays right. A commit is
//!   made on condition that the progress is the one last seen. A relay whose commit is refused reads the
//!   progress again and merges.

use std::sync::Arc;

use crate::breaker;
use crate::retry::Schedule;
use crate::subscription::{BATCH_INTERVAL, Filter, MAX_BATCH, Subscription};
use tollgate_store::commit::{Commit, Message};

pub mod address;
pub mod attempt;
mod delivered;
pub mod delivery;
mod journal;
mod machine;
mod pacer;
pub mod progress;
pub mod record;
pub mod restore;
#[cfg(test)]
mod simulation;
mod window;

pub use delivered::{Blame, Delivered};
pub use machine::Machine;
pub use pacer::{MAX_RATE, MIN_RATE};

use attempt::Answered;
use record::PauseReason;
use restore::{Found, Polled, Restored};

/// The most messages that are loaded and not finished: in memory, that is.
pub const WINDOW: usize = 1_024;
/// The most messages that are known and not finished, parked ones included; one load may exceed it. (About 200 bytes each.)
pub const MAX_HELD: usize = 65_536;
/// The most parked messages that are read at a time.
pub const MAX_FETCH: usize = 64;
/// The most bytes of the messages of [`WINDOW`]; one load may exceed it.
pub const WINDOW_BYTES: usize = 16 << 20;
/// The most bytes of the payloads of a batch, unless it is a single message.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// The most messages of one load.
pub const MAX_LOAD: usize = 256;
/// Messages are loaded while fewer than this are ready to be sent (or four times the concurrency, if that is more).
pub const LOW_WATER: usize = 64;
/// The most redriven messages that are worked on at a time.
pub const MAX_REDRIVEN: usize = 256;
/// The most deliveries under way.
pub const MAX_CONCURRENCY: u32 = 1_024;
/// Progress is made durable at most this often, milliseconds: a crash repeats what was delivered since.
pub const PERSIST_INTERVAL_MS: u64 = 20;

/// How messages are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most messages of a batch.
    pub most: usize,
    /// The longest that they wait for more, milliseconds.
    pub interval_ms: u64,
}

/// How one subscription is served.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPolicy {
    /// The topic.
    pub topic: String,
    /// The subscription's name.
    pub name: String,
    /// Where its durable form is.
    pub keys: record::Keys,
    /// The most deliveries begun per second; may be below one.
    pub rate_per_second: f64,
    /// The most deliveries under way.
    pub concurrency: u32,
    /// One message of a key at a time, in order.
    pub ordered: bool,
    /// Which messages are delivered; without one, all are.
    pub filter: Option<Filter>,
    /// Several messages at a time.
    pub batch: Option<Batching>,
    /// When to try again.
    pub schedule: Schedule,
    /// See [`WINDOW`].
    pub window: usize,
    /// See [`MAX_HELD`].
    pub held: usize,
    /// When to leave the origin alone.
    pub breaker: breaker::Thresholds,
    /// Paused after nothing but failure for so many milliseconds; `None`: never.
    pub pause_after_ms: Option<u64>,
}

impl DeliveryPolicy {
    /// Whether a message is for this subscription.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.passes(message))
    }

    /// Of a subscription of the file.
    pub fn from_config(topic: &str, subscription: &Subscription) -> Self {
        let keys = record::Keys::new(topic, &subscription.name);
        Self::new(topic, keys, subscription)
    }

    /// Of a subscription whose durable form is at `keys`.
    pub fn new(topic: &str, keys: record::Keys, subscription: &Subscription) -> Self {
        Self {
            topic: topic.to_owned(),
            name: subscription.name.clone(),
            keys,
            rate_per_second: subscription.rate_per_second.0.clamp(MIN_RATE, MAX_RATE),
            concurrency: subscription.concurrency.clamp(1, MAX_CONCURRENCY),
            ordered: subscription.ordered,
            filter: subscription.filter.clone(),
            batch: subscription.batch.map(|most| Batching {
                most: most.clamp(1, MAX_BATCH) as usize,
                interval_ms: subscription.batch_interval.unwrap_or(BATCH_INTERVAL).as_millis(),
            }),
            schedule: Schedule::from_config(&subscription.retry),
            window: WINDOW,
            held: MAX_HELD,
            breaker: breaker::Thresholds::default(),
            pause_after_ms: Some(subscription.pause_after.as_millis()).filter(|ms| *ms > 0),
        }
    }
}

/// An event that the machine is told of.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// [`Action::Restore`] was carried out.
    Restored(Box<Restored>),
    /// It could not be; the driver has waited a little.
    RestoreFailed,
    /// The small entries were read: to be done about every half second.
    Polled(Polled),
    /// [`Action::Load`] was carried out, with as many messages as there are.
    Loaded(Vec<Message>),
    /// It could not be; the driver has waited a little.
    LoadFailed,
    /// [`Action::Fetch`] was carried out.
    Fetched(Vec<Found>),
    /// It could not be; the driver has waited a little.
    FetchFailed,
    /// [`Action::Send`] was carried out.
    Attempted {
        /// Which message.
        sequence: u64,
        /// How it ended.
        delivered: Delivered,
        /// What the receiver said.
        answered: Answered,
    },
    /// [`Action::Send`] was not carried out, and costs nothing. The small entries, if they say why: it was paused.
    Withheld {
        /// Which message.
        sequence: u64,
        /// As of then. `None`: they could not be read; the driver has waited a little.
        polled: Option<Polled>,
    },
    /// The same, because the subscription was changed or removed: nothing more is sent.
    Superseded {
        /// Which message.
        sequence: u64,
    },
    /// [`Action::SendBatch`] was carried out.
    BatchAttempted {
        /// Which.
        number: u64,
        /// How it ended, for all of them.
        delivered: Delivered,
        /// What the receiver said.
        answered: Answered,
    },
    /// [`Action::SendBatch`] was not carried out; see [`Event::Withheld`].
    BatchWithheld {
        /// Which.
        number: u64,
        /// As of then.
        polled: Option<Polled>,
    },
    /// See [`Event::Superseded`].
    BatchSuperseded {
        /// Which.
        number: u64,
    },
    /// [`Action::Persist`] was committed with this version.
    Persisted {
        /// Of the entries it set.
        version: u64,
    },
    /// It was refused, or failed, or its outcome is not known. The driver has waited a little unless it was refused.
    PersistFailed,
    /// Send and load no more; finish the deliveries under way.
    Stop,
}

/// An action that the machine wants done.
#[derive(Debug)]
pub enum Action {
    /// Read the durable form ([`restore::restore`]).
    Restore,
    /// Read messages of the topic; wait for the first.
    Load {
        /// With a greater sequence than this.
        after: u64,
        /// At most this many.
        limit: u32,
    },
    /// Read messages that wait ([`restore::fetch`]).
    Fetch {
        /// Which, at most [`MAX_FETCH`].
        sequences: Vec<u64>,
    },
    /// Deliver a message.
    Send {
        /// The message.
        message: Arc<Message>,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// Deliver these together.
    SendBatch {
        /// Tells it from the others that are under way.
        number: u64,
        /// The messages, each with its attempt.
        messages: Vec<(Arc<Message>, u32)>,
    },
    /// Commit; one at a time.
    Persist(Commit),
    /// Send [`Event::Tick`] at this time, Unix milliseconds. Takes the place of an earlier one.
    Wake {
        /// Unix milliseconds.
        at: u64,
    },
    /// Something worth telling.
    Note(Note),
    /// The subscription's durable form was removed: end, and persist nothing.
    Halt,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The breaker's state changed.
    Breaker(breaker::Change),
    /// A message was given up.
    Dead {
        /// Its sequence.
        sequence: u64,
        /// Its id.
        id: String,
        /// Attempts that failed.
        attempts: u32,
        /// The last failure.
        error: String,
    },
    /// The subscription is paused: its receiver wants no more, or has failed for long.
    Paused(PauseReason),
    /// Retention removed these before they were delivered.
    Skipped {
        /// The first.
        start: u64,
        /// The last.
        end: u64,
    },
    /// A redriven message is no longer there.
    Lost {
        /// Its sequence.
        sequence: u64,
    },
}

/// How things stand, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Deliveries under way.
    pub under_way: usize,
    /// Messages in memory.
    pub window: usize,
    /// Messages that are known and not finished, parked ones included.
    pub held: usize,
    /// Up to where all are finished and durable, or parked.
    pub watermark: u64,
    /// Nothing is sent.
    pub paused: bool,
    /// Why, while it is paused.
    pub pause_reason: Option<PauseReason>,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
}
