//! A lease as one commit: what runs out or was given back, then new messages, within the bounds of a commit.

use std::collections::BTreeSet;

use super::Asked;
use crate::groups::MAX_CHANGED;
use crate::groups::give_up::{Done, carried_entries, message};
use crate::world::World;
use tollgate_delivery::groups::window::Held;
use tollgate_delivery::groups::{MAX_OUT, MAX_WINDOWS, State};
use tollgate_delivery::relay::record::{Keys, Waiting, lane_of};
use tollgate_store::commit::{
    Commit, Condition, MAX_PAGE, MAX_PAGE_BYTES, Message, Mutation, Outcome, StoreError,
};
use tollgate_store::plan::page;
use tollgate_store::ports::Store;
use tollgate_store::{stored, template};

/// The most reads of messages that were leased before: neighbours are one read.
const MAX_RUNS: usize = 64;
/// The most messages of one lease that carry their message, each of which may be large.
const MAX_CARRIED: usize = 16;
/// The most pages of new messages that one lease looks at: those behind others of their key are passed over.
const MAX_PAGES: usize = 8;

/// Tells a lease from every other; never 0.
fn new_lease<S>(world: &World<'_, S>) -> u64 {
    let fresh = u128::from_le_bytes((world.fresh)());
    (fresh as u64 ^ (fresh >> 64) as u64).max(1)
}

/// A lease that is being put together.
pub(super) struct Leasing<'a, S> {
    world: &'a World<'a, S>,
    asked: &'a Asked<'a>,
    keys: &'a Keys,
    pub(super) state: State,
    /// What the head is to say.
    redrives: u64,
    next: u64,
    windows_changed: bool,
    pub(super) lease: u64,
    pub(super) taken: Vec<(Message, Held)>,
    bytes: usize,
    /// The latest time at which one of the messages that were leased before may be leased again.
    pub(super) due: u64,
}

impl<'a, S: Store> Leasing<'a, S> {
    /// One with nothing in it yet, on top of what the group has leased.
    pub(super) fn new(world: &'a World<'a, S>, asked: &'a Asked<'a>, keys: &'a Keys, state: State) -> Self {
        Self {
            world,
            asked,
            keys,
            redrives: state.head.redrives,
            next: state.head.next,
            windows_changed: false,
            lease: new_lease(world),
            state,
            taken: Vec::new(),
            bytes: 0,
            due: 0,
        }
    }

    pub(super) fn has_changes(&self) -> bool {
        self.windows_changed
            || !self.taken.is_empty()
            || self.next != self.state.head.next
            || self.redrives != self.state.head.redrives
    }

    /// Whether one more message can be put into its window.
    fn has_room(&self, sequence: u64) -> bool {
        let windows = &self.state.windows;
        let (changes, adds) = windows.costs(sequence);
        windows.len() < MAX_OUT
            && !(changes && windows.changed() >= MAX_CHANGED)
            && !(adds && windows.count() >= MAX_WINDOWS)
    }

    fn set(&mut self, sequence: u64, held: Held) {
        self.state.windows.set(sequence, held);
        self.windows_changed = true;
    }

    /// Takes in dead letters that were redriven: each has an entry, and is in no window.
    pub(super) async fn take_in(&mut self) -> Result<(), StoreError> {
        if self.state.redrives == self.state.head.redrives {
            return Ok(());
        }
        let (prefix, mut after) = (self.keys.retry_prefix(), None::<String>);
        loop {
            let page = self.world.store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for item in &page {
                let Some(sequence) = Keys::sequence_of(&item.key) else {
                    continue;
                };
                if self.state.windows.get(sequence).is_some() {
                    continue;
                }
                if !self.has_room(sequence) {
                    // The rest comes with another lease.
                    return Ok(());
                }
                let waiting: Waiting = stored::decode("message that was redriven", &item.entry)?;
                let mut lane = waiting.lane;
                if waiting.message.is_none() {
                    let found = message(self.world.store, self.asked.topic, sequence).await?;
                    lane = found.map_or(0, |message| lane_of(&message.key));
                }
                self.set(sequence, Held::waiting(lane, true));
            }
        }
        self.redrives = self.state.redrives;
        Ok(())
    }

    /// Leases a message, if it has room.
    fn take(&mut self, message: Message, held: Held) -> bool {
        let size = page::message_bytes(&message);
        if !self.taken.is_empty() && self.bytes + size > MAX_PAGE_BYTES {
            return false;
        }
        self.bytes += size;
        let leased = held.leased(self.lease, self.asked.lease_ms);
        self.set(message.sequence, leased);
        self.taken.push((message, leased));
        true
    }

    /// Leases messages that were looked at before.
    pub(super) async fn again(&mut self, sequences: &[u64]) -> Result<(), StoreError> {
        let held = |lease: &Self, sequence| lease.state.windows.get(sequence).copied();
        let is_carried = |lease: &Self, sequence| held(lease, sequence).is_some_and(|held| held.carried);
        let mut carried = sequences
            .iter()
            .copied()
            .filter(|sequence| is_carried(self, *sequence));
        let carried: Vec<u64> = carried.by_ref().take(MAX_CARRIED).collect();
        for (sequence, waiting) in carried_entries(self.world.store, self.keys, &carried).await? {
            let embedded = waiting
                .message
                .and_then(|message| message.restore(self.asked.topic, sequence));
            let found = match embedded {
                Some(message) => Some(message),
                None => message(self.world.store, self.asked.topic, sequence).await?,
            };
            if !self.offer(sequence, found) {
                return Ok(());
            }
        }
        let others: Vec<u64> = sequences
            .iter()
            .copied()
            .filter(|sequence| !is_carried(self, *sequence))
            .collect();
        for run in others.chunk_by(|a, b| a + 1 == *b).take(MAX_RUNS) {
            let (Some(&first), count) = (run.first(), run.len() as u32) else {
                continue;
            };
            let before = first.saturating_sub(1);
            let found = self.world.store.read(self.asked.topic, before, count, 0).await?;
            // Retention removes the oldest: what lies before the first that is there is gone.
            let oldest = found.first().map_or(u64::MAX, |message| message.sequence);
            for &sequence in run.iter().take_while(|sequence| **sequence < oldest) {
                if !self.offer(sequence, None) {
                    return Ok(());
                }
            }
            for message in found {
                if message.sequence > first + u64::from(count) - 1 {
                    break;
                }
                if !self.offer(message.sequence, Some(message)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Leases a message that was looked at before, or forgets it where it is gone. `false` if there is no room.
    fn offer(&mut self, sequence: u64, message: Option<Message>) -> bool {
        let Some(held) = self.state.windows.get(sequence).copied() else {
            return true;
        };
        let (changes, _) = self.state.windows.costs(sequence);
        if changes && self.state.windows.changed() >= MAX_CHANGED || self.taken.len() >= self.asked.limit {
            return false;
        }
        let taken = match message {
            Some(message) => self.take(message, held),
            None => {
                self.state.windows.remove(sequence);
                self.windows_changed = true;
                true
            }
        };
        if taken {
            self.due = self.due.max(held.due());
        }
        taken
    }

    /// Leases new messages. One whose key has another that is not finished is passed over, and waits.
    pub(super) async fn fresh(&mut self, ordered: bool, lanes: &mut BTreeSet<u64>) -> Result<(), StoreError> {
        for _ in 0..MAX_PAGES {
            let wanted = self.asked.limit - self.taken.len();
            if wanted == 0 || self.bytes >= MAX_PAGE_BYTES || self.state.windows.len() >= MAX_OUT {
                return Ok(());
            }
            let before = self.next.saturating_sub(1);
            let page = self
                .world
                .store
                .read(self.asked.topic, before, wanted as u32, 0)
                .await?;
            let is_last = page.len() < wanted;
            for message in page {
                let sequence = message.sequence;
                if !self.has_room(sequence) {
                    return Ok(());
                }
                let lane = lane_of(&message.key);
                if ordered && lane != 0 && lanes.contains(&lane) {
                    self.set(sequence, Held::waiting(lane, false));
                } else if self.take(message, Held::waiting(lane, false)) {
                    lanes.insert(lane);
                } else {
                    return Ok(());
                }
                self.next = sequence + 1;
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What became of it, and the time of the commit.
    pub(super) async fn commit(&self) -> Result<(Done, u64), StoreError> {
        let key = self.keys.progress();
        let head = self.state.moved_to(self.next, self.redrives);
        let mut commit = Commit {
            partition: self.keys.partition().to_owned(),
            conditions: vec![
                Condition::Version {
                    key: key.clone(),
                    version: self.state.version,
                },
                Condition::NowIn {
                    start: Some(self.due),
                    end: None,
                },
            ],
            mutations: vec![Mutation::Set {
                key,
                value: template::json(&head),
                expires: None,
            }],
            ..Commit::default()
        };
        self.state.windows.write(self.keys, &mut commit);
        Ok(match self.world.store.commit(commit).await? {
            Outcome::Committed(done) => (Done::Committed, done.time),
            Outcome::Refused(refusal) => (Done::refused(refusal, 1), 0),
            Outcome::Replayed(_) | Outcome::Conflict => (Done::Conflict, 0),
        })
    }
}
