//! One message of the window.

use std::sync::Arc;

use super::super::record::{StoredMessage, Waiting};
use tollgate_store::commit::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Behind another message of its key.
    Queued,
    Waiting,
    /// Its turn has come, and its message is to be read.
    Due,
    Fetching,
    Ready,
    UnderWay,
}

/// A message that is not finished.
#[derive(Debug)]
pub(in super::super) struct Slot {
    /// `None`: only in the store; read again when its turn comes.
    pub message: Option<Arc<Message>>,
    pub attempts: u32,
    pub first_at: Option<u64>,
    pub next_at: u64,
    pub last_error: Option<String>,
    /// An entry may exist in the store.
    pub entry: bool,
    /// The progress has passed over it (or will, in the commit that parks it): it is delivered because of its entry.
    pub apart: bool,
    /// Its entry in the store says all that is known, and that it is apart.
    pub saved: bool,
    pub redriven: bool,
    /// A batch with it was refused because of its messages: it is sent by itself.
    pub alone: bool,
    /// Finished by somebody else while it was under way here.
    pub obsolete: bool,
    /// There were too many that wait: it becomes a dead letter once its message is here.
    pub given_up: bool,
    /// See [`super::super::record::lane_of`].
    pub(super) lane: u64,
    pub(super) state: State,
    /// `next_at` when it began to wait: its place among those that wait.
    pub(super) due_at: u64,
}

impl Slot {
    pub(super) fn new(waiting: Option<&Waiting>, lane: u64, message: Option<Arc<Message>>) -> Self {
        let entry = waiting.is_some();
        let none = Waiting::default();
        let waiting = waiting.unwrap_or(&none);
        Self {
            message,
            attempts: waiting.attempts,
            first_at: waiting.first_at,
            next_at: waiting.next_at,
            last_error: waiting.last_error.clone(),
            entry,
            apart: waiting.is_apart(),
            saved: entry && waiting.is_apart(),
            redriven: waiting.redriven,
            alone: waiting.alone,
            obsolete: false,
            given_up: false,
            lane,
            state: State::Queued,
            due_at: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.payload.len())
    }

    /// It counts in [`super::super::progress::Progress::parked`].
    pub fn is_parked(&self) -> bool {
        self.apart && !self.redriven
    }

    /// Its entry.
    pub fn waiting(&self) -> Waiting {
        // A redriven message may be gone from its topic.
        let embedded = self.message.as_ref().filter(|_| self.redriven);
        Waiting {
            attempts: self.attempts,
            next_at: self.next_at,
            first_at: self.first_at,
            last_error: self.last_error.clone(),
            redriven: self.redriven,
            alone: self.alone,
            parked: self.is_parked(),
            lane: self.lane,
            message: embedded.and_then(|message| StoredMessage::of(message)),
        }
    }
}
