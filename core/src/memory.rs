//! A store in memory, for tests and simulation: the same decisions as the native engine, a clock that is set by
//! hand, and failures on demand. Nothing is durable and nothing waits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::commit::{self, Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use crate::plan::page::{self, Page};
use crate::plan::{self, Extent, Lookup, Plan, Record, Writes};
use crate::ports::Store;

/// Where the clock of a new store stands: 2027-01-15T08:00:00Z.
pub const START: u64 = 1_800_000_000_000;

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: u64,
    revision: u64,
    entries: BTreeMap<String, Entry>,
    topics: BTreeMap<String, Log>,
    records: BTreeMap<String, Record>,
    next_failure: Option<StoreError>,
    refuses: bool,
}

#[derive(Debug, Default)]
struct Log {
    last: u64,
    bytes: u64,
    messages: BTreeMap<u64, Message>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Empty, at [`START`].
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                now: START,
                revision: 0,
                entries: BTreeMap::new(),
                topics: BTreeMap::new(),
                records: BTreeMap::new(),
                next_failure: None,
                refuses: false,
            }),
        }
    }

    /// The store's time, Unix milliseconds.
    pub fn now(&self) -> u64 {
        self.state().now
    }

    /// Sets the clock. A store's clock never runs backwards: an earlier time is ignored.
    pub fn set_now(&self, now: u64) {
        let mut state = self.state();
        state.now = state.now.max(now);
    }

    /// Makes the next call other than `submit` fail. `Unavailable` and `Invalid`: nothing is done. `Unknown`: a commit
    /// is carried out and its answer is lost, which is the harder case for a caller.
    pub fn fail_next(&self, error: StoreError) {
        self.state().next_failure = Some(error);
    }

    /// Whether commits are refused, as by a full disk; reads go on.
    pub fn refuse_commits(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it did so between whole steps: a failed assertion of a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless this call is to fail.
    fn answering(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        match state.next_failure.take() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }
}

impl State {
    fn commit(&mut self, commit: Commit) -> Result<Outcome, StoreError> {
        if self.refuses {
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        plan::validate(&commit)?;
        let Plan { outcome, writes } = plan::plan(commit, self.now, self.revision + 1, self)?;
        if let Some(writes) = writes {
            self.apply(writes);
        }
        Ok(outcome)
    }

    fn apply(&mut self, writes: Writes) {
        self.revision += 1;
        for (key, entry) in writes.entries {
            match entry {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
        for message in writes.messages {
            let log = self.topics.entry(message.topic.clone()).or_default();
            log.last = message.sequence;
            log.bytes += commit::weight(&message);
            log.messages.insert(message.sequence, message);
        }
        if let Some(record) = writes.record {
            self.records.insert(record.id.clone(), record);
        }
    }

    fn live(&self, key: &str) -> Option<Entry> {
        self.entries
            .get(key)
            .filter(|entry| plan::is_live(entry, self.now))
            .cloned()
    }
}

impl Lookup for State {
    type Found = Entry;

    fn entry(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn topic(&mut self, topic: &str) -> Result<Extent, StoreError> {
        Ok(self.topics.get(topic).map_or_else(Extent::default, |log| Extent {
            last: log.last,
            bytes: log.bytes,
        }))
    }

    fn idempotence(&mut self, id: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(id).cloned())
    }
}

impl Store for MemoryStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let mut state = self.state();
        match state.next_failure.take() {
            None => state.commit(commit),
            Some(error) => {
                if matches!(error, StoreError::Unknown(_)) {
                    state.commit(commit)?;
                }
                Err(error)
            }
        }
    }

    fn submit(&self, commit: Commit) {
        if plan::measure_submitted(&commit).is_ok() {
            // Nobody waits for the outcome: a counter that is none, or overflows, is left as it is.
            let _ = self.state().commit(commit);
        }
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let state = self.answering()?;
        Ok(keys.iter().map(|key| state.live(key)).collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let state = self.answering()?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = Page::new(limit);
        let from_start = state.entries.range::<str, _>((start, Bound::Unbounded));
        for (key, entry) in from_start.take_while(|(key, _)| key.starts_with(prefix)) {
            if !plan::is_live(entry, state.now) {
                continue;
            }
            let item = Item {
                key: key.clone(),
                entry: entry.clone(),
            };
            let bytes = page::item_bytes(&item);
            if !page.push(item, bytes) {
                break;
            }
        }
        Ok(page.into_items())
    }

    /// Does not wait: a test that wants a message appends it first.
    async fn read(
        &self,
        topic: &str,
        after: u64,
        limit: u32,
        _wait: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let state = self.answering()?;
        let mut page = Page::new(limit);
        let messages = state.topics.get(topic).map(|log| &log.messages);
        let newer = (Bound::Excluded(after), Bound::Unbounded);
        for message in messages
            .into_iter()
            .flat_map(|messages| messages.range(newer))
            .map(|(_, m)| m)
        {
            if !page.push(message.clone(), page::message_bytes(message)) {
                break;
            }
        }
        Ok(page.into_items())
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let state = self.answering()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let named = state.topics.range::<str, _>((start, Bound::Unbounded));
        let topics = named.take(page::limit(limit) as usize).map(|(name, log)| {
            let (first, last) = (log.messages.values().next(), log.messages.values().next_back());
            Topic {
                name: name.clone(),
                first: first.map_or(log.last + 1, |message| message.sequence),
                last: log.last,
                first_time: first.map(|message| message.time),
                last_time: last.map(|message| message.time),
            }
        });
        Ok(topics.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Mutation, literal};
    use futures::executor::block_on;

    fn set(key: &str) -> Commit {
        let mutation = Mutation::Set {
            key: key.into(),
            value: literal("v"),
            expires: Some(START + 10),
        };
        Commit {
            mutations: vec![mutation],
            ..Commit::default()
        }
    }

    #[test]
    fn an_unknown_outcome_was_carried_out_and_an_unavailable_one_was_not() {
        let store = MemoryStore::new();
        store.fail_next(StoreError::Unavailable("down".into()));
        assert!(block_on(store.commit(set("a"))).is_err());
        store.fail_next(StoreError::Unknown("lost".into()));
        assert!(block_on(store.commit(set("b"))).is_err());
        let found = block_on(store.get("", &["a".into(), "b".into()])).unwrap();
        assert!(found[0].is_none() && found[1].is_some());
    }

    #[test]
    fn the_clock_is_set_by_hand_and_never_runs_backwards() {
        let store = MemoryStore::new();
        block_on(store.commit(set("a"))).unwrap();
        store.set_now(START + 10);
        store.set_now(START);
        assert_eq!(block_on(store.get("", &["a".into()])).unwrap(), [None]);
    }
}
