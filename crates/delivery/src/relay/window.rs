//! The messages that are not finished and known here: which may be sent, which wait, and which stand behind another
//! message of their key. Those that wait for long are *parked*: durable in an entry of their own, passed over by the
//! progress, and without their payload in memory until it is their turn.

mod slot;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::record::{Waiting, lane_of};
use tollgate_store::commit::Message;

pub(super) use slot::Slot;
use slot::State;

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
    lanes: HashMap<u64, Lane>,
    /// To be sent for the first time.
    fresh: BTreeSet<u64>,
    /// To be sent again.
    again: BTreeSet<u64>,
    /// Whose turn it is when there are both.
    again_next: bool,
    /// By time.
    waiting: BTreeSet<(u64, u64)>,
    /// Their turn has come, but their message is not here.
    due: BTreeSet<u64>,
    /// Their message is here, and it is not their turn.
    resting: BTreeSet<u64>,
    given_up: usize,
    loaded: usize,
    bytes: usize,
    redriven: usize,
}

impl Window {
    pub fn new(ordered: bool) -> Self {
        Self {
            ordered,
            slots: BTreeMap::new(),
            lanes: HashMap::new(),
            fresh: BTreeSet::new(),
            again: BTreeSet::new(),
            again_next: false,
            waiting: BTreeSet::new(),
            due: BTreeSet::new(),
            resting: BTreeSet::new(),
            given_up: 0,
            loaded: 0,
            bytes: 0,
            redriven: 0,
        }
    }

    /// All that are known, parked ones too.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Those whose message is in memory.
    pub fn loaded(&self) -> usize {
        self.loaded
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn redriven(&self) -> usize {
        self.redriven
    }

    /// May be sent at once.
    pub fn ready(&self) -> usize {
        self.fresh.len() + self.again.len()
    }

    /// Of these, the ones that were never tried.
    pub fn fresh(&self) -> usize {
        self.fresh.len()
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
        let (sequence, lane) = (message.sequence, lane_of(&message.key));
        self.add(
            sequence,
            Slot::new(waiting.as_ref(), lane, Some(Arc::new(message))),
        );
    }

    /// A message that is not there yet, of which only the entry was read.
    pub fn insert_parked(&mut self, sequence: u64, waiting: &Waiting) {
        self.add(sequence, Slot::new(Some(waiting), waiting.lane, None));
    }

    fn add(&mut self, sequence: u64, slot: Slot) {
        let lane = slot.lane;
        self.loaded += usize::from(slot.message.is_some());
        self.bytes += slot.bytes();
        self.redriven += usize::from(slot.redriven);
        self.slots.insert(sequence, slot);
        // A message without a key has no order to keep.
        if self.ordered && lane != 0 {
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.queued.insert(sequence);
                self.set_state(sequence, State::Queued);
                return;
            }
            let lane_of_its_own = Lane {
                active: sequence,
                queued: BTreeSet::new(),
            };
            self.lanes.insert(lane, lane_of_its_own);
        }
        self.wait(sequence);
    }

    /// Takes a slot out of the set of its state and puts it into that of another.
    fn set_state(&mut self, sequence: u64, state: State) {
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        match slot.state {
            State::Waiting => _ = self.waiting.remove(&(slot.due_at, sequence)),
            State::Due => _ = self.due.remove(&sequence),
            State::Ready => _ = self.fresh.remove(&sequence) || self.again.remove(&sequence),
            State::Queued | State::Fetching | State::UnderWay => {}
        }
        self.resting.remove(&sequence);
        slot.state = state;
        if slot.message.is_some() && matches!(state, State::Queued | State::Waiting) {
            self.resting.insert(sequence);
        }
        match state {
            State::Waiting => {
                slot.due_at = slot.next_at;
                self.waiting.insert((slot.due_at, sequence));
            }
            State::Due => _ = self.due.insert(sequence),
            State::Ready if slot.attempts == 0 => _ = self.fresh.insert(sequence),
            State::Ready => _ = self.again.insert(sequence),
            State::Queued | State::Fetching | State::UnderWay => {}
        }
    }

    /// The active message of its key waits until its `next_at`.
    pub fn wait(&mut self, sequence: u64) {
        self.set_state(sequence, State::Waiting);
    }

    /// Whatever waited until `now` may be sent, once its message is here.
    pub fn wake(&mut self, now: u64) {
        while let Some(&(at, sequence)) = self.waiting.first() {
            if at > now {
                return;
            }
            let loaded = self.slots.get(&sequence).is_some_and(|s| s.message.is_some());
            self.set_state(sequence, if loaded { State::Ready } else { State::Due });
        }
    }

    /// Whatever waits for a time may be sent once its message is here. Its entry is left as it is: after a restart it waits again.
    pub fn hurry(&mut self, now: u64) {
        let waiting: Vec<u64> = self.waiting.iter().map(|(_, sequence)| *sequence).collect();
        for sequence in waiting {
            if let Some(slot) = self.slots.get_mut(&sequence) {
                slot.next_at = slot.next_at.min(now);
                self.set_state(sequence, State::Waiting);
            }
        }
    }

    /// Those whose turn has come and whose message is to be read, oldest first.
    pub fn take_due(&mut self, limit: usize) -> Vec<u64> {
        let due: Vec<u64> = self.due.iter().copied().take(limit).collect();
        for &sequence in &due {
            self.set_state(sequence, State::Fetching);
        }
        due
    }

    /// It could not be read: to be tried again.
    pub fn not_fetched(&mut self) {
        let fetching = |(sequence, slot): (&u64, &Slot)| (slot.state == State::Fetching).then_some(*sequence);
        let all: Vec<u64> = self.slots.iter().filter_map(fetching).collect();
        all.into_iter()
            .for_each(|sequence| self.set_state(sequence, State::Due));
    }

    pub fn is_fetching(&self, sequence: u64) -> bool {
        let slot = self.slots.get(&sequence);
        slot.is_some_and(|slot| slot.state == State::Fetching)
    }

    /// A message that was asked for; ignored if it is not wanted any more.
    pub fn fetched(&mut self, message: Message, last_error: Option<String>) {
        let sequence = message.sequence;
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        if slot.state != State::Fetching {
            return;
        }
        slot.last_error = slot.last_error.take().or(last_error);
        slot.message = Some(Arc::new(message));
        self.loaded += 1;
        self.bytes += slot.bytes();
        self.set_state(sequence, State::Ready);
    }

    /// The oldest message that may be sent, now under way. New messages and those that are sent again take turns, so that
    /// many of the latter hold up nobody. For a probe, the one with the fewest attempts: an outage is not to use up the
    /// attempts of the same message over and over.
    pub fn begin(&mut self, probe: bool, now: u64) -> Option<(u64, &Slot)> {
        let attempts = |s: &u64| self.slots.get(s).map_or(u32::MAX, |slot| slot.attempts);
        let sequence = match (self.fresh.first(), self.again.first()) {
            (Some(&fresh), None) => fresh,
            (Some(&fresh), Some(_)) if probe || !self.again_next => fresh,
            (None, Some(_)) if probe => self.again.iter().copied().min_by_key(|s| (attempts(s), *s))?,
            (_, Some(&again)) => again,
            (None, None) => return None,
        };
        self.again_next = !self.again_next;
        self.set_state(sequence, State::UnderWay);
        let slot = self.slots.get_mut(&sequence)?;
        slot.first_at.get_or_insert(now);
        Some((sequence, slot))
    }

    /// A message that was under way may be sent again at once.
    pub fn release(&mut self, sequence: u64) {
        self.set_state(sequence, State::Ready);
    }

    /// Called when more than `loaded` messages, or `bytes`, are in memory. Drops from memory the messages
    /// that are durable and whose turn is not near. Returns those that are to be made durable first: the
    /// failed ones and, in order, the others of the keys that they hold up. So the parked messages of a key
    /// are always older than the rest.
    pub fn spill(&mut self, loaded: usize, bytes: usize) -> Vec<(u64, Waiting)> {
        if self.loaded <= loaded && self.bytes <= bytes {
            return Vec::new();
        }
        let resting: Vec<u64> = self.resting.iter().copied().collect();
        for &sequence in resting.iter().rev() {
            if self.loaded <= loaded && self.bytes <= bytes {
                return Vec::new();
            }
            self.unload(sequence);
        }
        let (mut left, mut left_bytes, mut parked) = (self.loaded, self.bytes, Vec::new());
        for sequence in resting {
            if left <= loaded && left_bytes <= bytes {
                break;
            }
            let Some(slot) = self.slots.get(&sequence).filter(|slot| slot.message.is_some()) else {
                continue;
            };
            if !slot.apart {
                let may = match slot.state {
                    State::Waiting => slot.attempts > 0,
                    _ => self.is_held_up(slot.lane),
                };
                if !may {
                    continue;
                }
                parked.extend(self.park(sequence).map(|waiting| (sequence, waiting)));
            }
            // Parked, and soon durable.
            if let Some(slot) = self.slots.get(&sequence) {
                (left, left_bytes) = (left - 1, left_bytes.saturating_sub(slot.bytes()));
            }
        }
        parked
    }

    /// The active message of a key is parked: it has failed, or one before it has.
    fn is_held_up(&self, lane: u64) -> bool {
        let active = self.lanes.get(&lane).map(|lane| lane.active);
        active
            .and_then(|sequence| self.slots.get(&sequence))
            .is_some_and(|slot| slot.apart && slot.attempts > 0)
    }

    /// From now on it is delivered because of its entry, and the progress passes over it.
    fn park(&mut self, sequence: u64) -> Option<Waiting> {
        let slot = self.slots.get_mut(&sequence)?;
        (slot.apart, slot.entry, slot.saved) = (true, true, false);
        Some(slot.waiting())
    }

    /// This entry is durable. Nothing if more has happened since.
    pub fn saved(&mut self, sequence: u64, entry: &Waiting) {
        if let Some(slot) = self.slots.get_mut(&sequence) {
            slot.saved = slot.apart
                && entry.is_apart()
                && (slot.attempts, slot.next_at) == (entry.attempts, entry.next_at);
        }
    }

    fn unload(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get_mut(&sequence).filter(|slot| slot.saved) else {
            return;
        };
        self.bytes -= slot.bytes();
        self.loaded -= usize::from(slot.message.is_some());
        (slot.message, slot.last_error) = (None, None);
        self.resting.remove(&sequence);
    }

    /// Gives up as many as there are more than `most`, those first that would wait longest: once their message is here they
    /// are [`Slot::given_up`]. Those that only stand behind another, or whose turn has come, are spared.
    pub fn give_up_beyond(&mut self, most: usize) {
        while self.slots.len() > most + self.given_up {
            let Some(&(_, sequence)) = self.waiting.last() else {
                return;
            };
            let Some(slot) = self.slots.get_mut(&sequence) else {
                return;
            };
            slot.given_up = true;
            self.given_up += 1;
            let loaded = slot.message.is_some();
            self.set_state(sequence, if loaded { State::Ready } else { State::Due });
        }
    }

    /// One that is given up and whose message is here.
    pub fn next_given_up(&self) -> Option<u64> {
        if self.given_up == 0 {
            return None;
        }
        let given_up = |s: &u64| self.slots.get(s).is_some_and(|slot| slot.given_up);
        self.again.iter().chain(&self.fresh).copied().find(given_up)
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
        self.set_state(sequence, State::UnderWay);
        let slot = self.slots.remove(&sequence)?;
        self.bytes -= slot.bytes();
        self.loaded -= usize::from(slot.message.is_some());
        self.redriven -= usize::from(slot.redriven);
        self.given_up -= usize::from(slot.given_up);
        if let Some(lane) = self.lanes.get_mut(&slot.lane) {
            if lane.active != sequence {
                lane.queued.remove(&sequence);
            } else if let Some(next) = lane.queued.pop_first() {
                lane.active = next;
                self.wait(next);
            } else {
                self.lanes.remove(&slot.lane);
            }
        }
        Some(slot)
    }
}
