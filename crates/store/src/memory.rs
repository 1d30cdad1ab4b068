//! A store in memory: the same decisions as the native engines make, a clock that is set from outside, and for tests
//! failures on demand. Nothing is durable and nothing waits.

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use crate::deleted;
use crate::plan;
use crate::plan::page::{self, Page};
use crate::ports::{Outbound, Store, Upkeep};
use crate::retention::{Keeping, Retention};

mod buckets;
mod state;

pub use buckets::InMemoryBuckets;

use state::{MAX_SWEPT, State};

/// Where the clock of a new store stands: 2027-01-15T08:00:00Z.
pub const START: u64 = 1_800_000_000_000;

/// Entries, topics and ids in trees, behind one lock.
#[derive(Debug)]
pub struct InMemoryStore {
    state: Mutex<State>,
}

impl Default for InMemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// A store of its own, with what is in this one.
impl Clone for InMemoryStore {
    fn clone(&self) -> Self {
        Self {
            state: Mutex::new(self.state().clone()),
        }
    }
}

impl InMemoryStore {
    /// Empty, at [`START`], and without a bound.
    pub fn new() -> Self {
        Self::bounded(START, u64::MAX)
    }

    /// Empty, at `now` (Unix milliseconds). A commit after which it would weigh more than `max_bytes` (keys, values,
    /// messages, and what their places take, about) is refused as [`StoreError::Unavailable`].
    pub fn bounded(now: u64, max_bytes: u64) -> Self {
        Self {
            state: Mutex::new(State::new(now, max_bytes)),
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

    /// Makes the next call other than `defer` fail. `Unavailable` and `Invalid`: nothing is done. `Unknown`: a commit
    /// is carried out and its answer is lost, which is the harder case for a caller.
    pub fn fail_next(&self, error: StoreError) {
        self.state().next_failure = Some(error);
    }

    /// What the next call of [`Outbound::post`] answers; without it nobody is asked.
    pub fn answer_next(&self, answer: Result<Vec<u8>, String>) {
        self.state().next_answer = Some(answer);
    }

    /// What was posted since the last call: URLs and forms.
    pub fn posted(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state().posted)
    }

    /// Whether commits are refused, as by a full disk; reads go on.
    pub fn refuse_commits(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// See [`Store::commit`].
    pub fn commit_now(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.state().commit(commit)
    }

    /// See [`Store::get`]; the entries shared instead of copied.
    pub fn get_shared(&self, keys: &[impl AsRef<str>]) -> Vec<Option<Arc<Entry>>> {
        let state = self.state();
        keys.iter().map(|key| state.live(key.as_ref()).cloned()).collect()
    }

    /// Removes a bounded number of expired entries and ids, and of messages past their retention; how many.
    pub fn sweep(&self, keeping: &Keeping) -> u64 {
        self.state().sweep(keeping)
    }

    /// Whether a commit was refused for want of room, and still would be.
    pub fn is_full(&self) -> bool {
        self.state().is_full()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while holding it did so between whole steps: a failed assertion of a test.
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

impl Store for InMemoryStore {
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

    fn defer(&self, commit: Commit) {
        if plan::measure_deferred(&commit).is_ok() {
            // Nobody waits for the outcome: a value that is not a counter, or would overflow, is left as it
            // is.
            let _ = self.state().commit(commit);
        }
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let state = self.answering()?;
        let found = keys.iter().map(|key| state.live(key));
        Ok(found
            .map(|entry| entry.map(|entry| Entry::clone(entry)))
            .collect())
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
                entry: Entry::clone(entry),
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
        let after = after.max(state.deleted_through(topic));
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
            let mut topic = Topic {
                name: name.clone(),
                first: first.map_or(log.last + 1, |message| message.sequence),
                last: log.last,
                first_time: first.map(|message| message.time),
                last_time: last.map(|message| message.time),
                bytes: log.bytes,
            };
            if deleted::clamp(&mut topic, state.deleted_through(name)) {
                topic.first_time = log.messages.get(&topic.first).map(|message| message.time);
            }
            topic
        });
        Ok(topics.collect())
    }
}

impl Outbound for InMemoryStore {
    async fn post(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        let mut state = self.state();
        let answer = state.next_answer.take();
        if answer.is_some() {
            state.posted.push((url.to_owned(), form));
        }
        answer.unwrap_or_else(|| Err("nobody is asked".to_owned()))
    }
}

impl Upkeep for InMemoryStore {
    async fn expire(&self) -> Result<bool, StoreError> {
        let mut state = self.answering()?;
        let expired = state.expire();
        Ok(expired.max(state.forget_deleted()) >= MAX_SWEPT)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        Ok(self.answering()?.trim(topic, retention, needed) >= MAX_SWEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Append, Mutation, literal};
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
        let store = InMemoryStore::new();
        store.fail_next(StoreError::Unavailable("down".into()));
        assert!(block_on(store.commit(set("a"))).is_err());
        store.fail_next(StoreError::Unknown("lost".into()));
        assert!(block_on(store.commit(set("b"))).is_err());
        let found = block_on(store.get("", &["a".into(), "b".into()])).unwrap();
        assert!(found[0].is_none() && found[1].is_some());
    }

    #[test]
    fn the_clock_is_set_by_hand_and_never_runs_backwards() {
        let store = InMemoryStore::new();
        block_on(store.commit(set("a"))).unwrap();
        store.set_now(START + 10);
        store.set_now(START);
        assert_eq!(block_on(store.get("", &["a".into()])).unwrap(), [None]);
    }

    fn put(key: &str, value: &str) -> Commit {
        let mutation = Mutation::Set {
            key: key.into(),
            value: literal(value),
            expires: None,
        };
        Commit {
            mutations: vec![mutation],
            ..Commit::default()
        }
    }

    fn append(n: u64) -> Commit {
        let append = Append {
            topic: "t".into(),
            id: format!("m{n}"),
            key: String::new(),
            kind: "x".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: literal(vec![0; 100]),
        };
        let mut commit = put(&crate::commit::record_key(&format!("m{n}")), "v");
        commit.appends.push(append);
        commit
    }

    #[test]
    fn a_full_store_takes_what_makes_room_and_nothing_else_and_weighs_nothing_when_it_is_empty() {
        let store = InMemoryStore::bounded(START, 2_000);
        let mut taken = 0;
        while store.commit_now(put(&format!("k{taken}"), "v")).is_ok() {
            taken += 1;
        }
        assert!((5..20).contains(&taken) && store.is_full());
        assert!(matches!(
            store.commit_now(append(1)),
            Err(StoreError::Unavailable(_))
        ));
        store.commit_now(put("k0", "w")).expect("it takes no more room");
        for n in 0..taken {
            let key = format!("k{n}");
            let commit = Commit {
                mutations: vec![Mutation::Delete { key }],
                ..Commit::default()
            };
            store.commit_now(commit).expect("it makes room");
        }
        assert!(!store.is_full());
        assert_eq!(store.state().bytes, 0);
    }

    #[test]
    fn what_has_expired_is_swept_and_its_room_is_free() {
        let store = InMemoryStore::new();
        block_on(store.commit(set("a"))).unwrap();
        block_on(store.commit(put("b", "v"))).unwrap();
        let both = store.state().bytes;
        assert_eq!(store.sweep(&Keeping::default()), 0);
        store.set_now(START + 10);
        assert_eq!(store.sweep(&Keeping::default()), 1);
        assert!(store.state().bytes < both && store.state().entries.len() == 1);
    }

    #[test]
    fn messages_past_their_retention_go_with_their_entries_unless_a_subscription_needs_them() {
        let store = InMemoryStore::new();
        for n in 1..=10 {
            store.commit_now(append(n)).unwrap();
        }
        let least = Retention {
            age_ms: None,
            max_bytes: Some(0),
            ..Retention::default()
        };
        let mut keeping = Keeping::default();
        assert_eq!(store.sweep(&keeping), 0, "nothing is said, so everything is kept");
        keeping.default = Some(least);
        keeping.low_water.insert("t".into(), 8);
        assert_eq!(store.sweep(&keeping), 7);
        let topic = block_on(store.topics(None, 1)).unwrap().remove(0);
        assert_eq!((topic.first, topic.last), (8, 10));
        assert_eq!(store.state().entries.len(), 3);
        keeping.low_water.clear();
        keeping.default = Some(Retention {
            age_ms: Some(1_000),
            max_bytes: None,
            ..Retention::default()
        });
        assert_eq!(store.sweep(&keeping), 0);
        store.set_now(START + 1_000);
        assert_eq!(store.sweep(&keeping), 3);
        assert!(store.state().entries.is_empty());
    }

    #[test]
    fn the_oldest_go_beyond_what_is_said_although_they_are_needed() {
        let store = InMemoryStore::new();
        for n in 1..=10 {
            store.commit_now(append(n)).unwrap();
        }
        let all = block_on(store.topics(None, 1)).unwrap().remove(0).bytes;
        let mut keeping = Keeping {
            default: Some(Retention::default()),
            ..Keeping::default()
        };
        keeping.low_water.insert("t".into(), 1);
        assert_eq!(store.sweep(&keeping), 0, "a subscription needs them");
        keeping.default = Some(Retention {
            drop_beyond: Some(all / 2),
            ..Retention::default()
        });
        // The tenth weighs a little more than each of the others.
        assert_eq!(store.sweep(&keeping), 6);
        let topic = block_on(store.topics(None, 1)).unwrap().remove(0);
        assert_eq!((topic.first, topic.last), (7, 10));
        assert!(topic.bytes <= all / 2);
    }
}
