//! The messages that are loaded and not finished: which may be sent, which wait, and which stand behind another
//! message of their key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::record::{StoredMessage, Waiting};
use crate::commit::Message;

/// A loaded message.
#[derive(Debug)]
pub(super) struct Slot {
    pub message: Arc<Message>,
    pub attempts: u32,
    pub first_at: Option<u64>,
    pub next_at: u64,
    pub last_error: Option<String>,
    /// A retry entry may exist in the store.
    pub entry: bool,
    pub redriven: bool,
    /// Finished by somebody else while it was under way here.
    pub obsolete: bool,
    state: State,
}

impl Slot {
    /// Its retry entry.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            attempts: self.attempts,
            next_at: self.next_at,
            first_at: self.first_at,
            last_error: self.last_error.clone(),
            redriven: self.redriven,
            // A redriven message may be gone from its topic.
            message: self.redriven.then(|| StoredMessage::of(&self.message)).flatten(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Behind another message of its key.
    Queued,
    Ready,
    Waiting,
    UnderWay,
}

/// The messages of one key: one is active, the others stand behind it in order.
#[derive(Debug)]
struct Lane {
    active: u64,
    queued: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Window {
    ordered: bool,
    slots: BTreeMap<u64, Slot>,
    /// Only for messages with a key, only if ordered.
    lanes: HashMap<String, Lane>,
    ready: BTreeSet<u64>,
    /// By time.
    waiting: BTreeSet<(u64, u64)>,
    bytes: usize,
    redriven: usize,
}

impl Window {
    pub fn new(ordered: bool) -> Self {
        Self {
            ordered,
            slots: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            bytes: 0,
            redriven: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn redriven(&self) -> usize {
        self.redriven
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    pub fn next_waiting(&self) -> Option<u64> {
        self.waiting.first().map(|&(at, _)| at)
    }

    pub fn contains(&self, sequence: u64) -> bool {
        self.slots.contains_key(&sequence)
    }

    pub fn sequences(&self) -> impl Iterator<Item = (u64, bool)> {
        self.slots
            .iter()
            .map(|(sequence, slot)| (*sequence, slot.redriven))
    }

    pub fn slot_mut(&mut self, sequence: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&sequence)
    }

    /// A message that is not there yet, with what is known of its attempts.
    pub fn insert(&mut self, message: Message, waiting: Option<Waiting>) {
        let sequence = message.sequence;
        let entry = waiting.is_some();
        let waiting = waiting.unwrap_or_default();
        self.bytes += message.payload.len();
        self.redriven += usize::from(waiting.redriven);
        let key = message.key.clone();
        let slot = Slot {
            message: Arc::new(message),
            attempts: waiting.attempts,
            first_at: waiting.first_at,
            next_at: waiting.next_at,
            last_error: waiting.last_error,
            entry,
            redriven: waiting.redriven,
            obsolete: false,
            state: State::Queued,
        };
        self.slots.insert(sequence, slot);
        // A message without a key has no order to keep.
        if self.ordered && !key.is_empty() {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.queued.insert(sequence);
                return;
            }
            self.lanes.insert(
                key,
                Lane {
                    active: sequence,
                    queued: BTreeSet::new(),
                },
            );
        }
        self.wait(sequence);
    }

    /// The active message of its key waits until its `next_at`.
    pub fn wait(&mut self, sequence: u64) {
        if let Some(slot) = self.slots.get_mut(&sequence) {
            slot.state = State::Waiting;
            self.waiting.insert((slot.next_at, sequence));
        }
    }

    /// Whatever waited until `now` may be sent.
    pub fn wake(&mut self, now: u64) {
        while let Some(&(at, sequence)) = self.waiting.first() {
            if at > now {
                return;
            }
            self.waiting.pop_first();
            if let Some(slot) = self.slots.get_mut(&sequence) {
                slot.state = State::Ready;
                self.ready.insert(sequence);
            }
        }
    }

    /// The oldest message that may be sent, now under way. For a probe, the one with the fewest attempts: an outage is
    /// not to use up the attempts of the same message over and over.
    pub fn begin(&mut self, probe: bool, now: u64) -> Option<(u64, &Slot)> {
        let sequence = if probe {
            let attempts = |s: &u64| self.slots.get(s).map_or(u32::MAX, |slot| slot.attempts);
            self.ready.iter().copied().min_by_key(|s| (attempts(s), *s))?
        } else {
            *self.ready.first()?
        };
        self.ready.remove(&sequence);
        let slot = self.slots.get_mut(&sequence)?;
        slot.state = State::UnderWay;
        slot.first_at.get_or_insert(now);
        Some((sequence, slot))
    }

    /// A message that was under way may be sent again at once.
    pub fn release(&mut self, sequence: u64) {
        if let Some(slot) = self.slots.get_mut(&sequence) {
            slot.state = State::Ready;
            self.ready.insert(sequence);
        }
    }

    /// Finished elsewhere: it goes, at once or when its attempt ends.
    pub fn forget(&mut self, sequence: u64) {
        match self.slots.get_mut(&sequence) {
            Some(slot) if slot.state == State::UnderWay => slot.obsolete = true,
            _ => {
                self.finish(sequence);
            }
        }
    }

    /// Takes a message out; the next of its key takes its place.
    pub fn finish(&mut self, sequence: u64) -> Option<Slot> {
        let slot = self.slots.remove(&sequence)?;
        self.bytes -= slot.message.payload.len();
        self.redriven -= usize::from(slot.redriven);
        self.ready.remove(&sequence);
        self.waiting.remove(&(slot.next_at, sequence));
        if let Some(lane) = self.lanes.get_mut(&slot.message.key) {
            if lane.active != sequence {
                lane.queued.remove(&sequence);
            } else if let Some(next) = lane.queued.pop_first() {
                lane.active = next;
                self.wait(next);
            } else {
                self.lanes.remove(&slot.message.key);
            }
        }
        Some(slot)
    }
}
