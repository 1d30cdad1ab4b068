//! The engine without a disk: a store in memory, bounded by bytes, for tests and demonstrations. Its commits are decided
//! where they are asked for, one at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::packed;
use tollgate_store::plan::{self, page};
use tollgate_store::ports::Store;
use tollgate_store::retention::{Keeping, Retention};

use crate::Clock;
use crate::batcher::{Answered, CommitBatcher};
use crate::engine::Engine;
use crate::stats::{Count, Stats};
use crate::tails::{Tail, Tails, first_messages};

/// How often expired entries and old messages are removed, milliseconds: by whichever call comes first after that.
const SWEEP_INTERVAL_MS: u64 = 1_000;

/// Keeps everything in memory and nothing longer than the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InMemoryEngine {
    shared: Arc<Shared>,
}

struct Shared {
    store: InMemoryStore,
    tails: Tails,
    wall: Clock,
    keeping: Mutex<Keeping>,
    swept_at: AtomicU64,
    closed: AtomicBool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    commits: Count,
    dropped: Count,
    refused: Count,
    hits: Count,
    swept: Count,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl InMemoryEngine {
    /// An empty one. A commit after which it would hold more than `max_bytes` is refused as `Unavailable`. `clock`: the wall
    /// clock.
    pub fn new(max_bytes: u64, clock: Clock) -> Self {
        let now = clock();
        let shared = Shared {
            store: InMemoryStore::bounded(now, max_bytes),
            tails: Tails::default(),
            wall: clock,
            keeping: Mutex::default(),
            swept_at: AtomicU64::new(now),
            closed: AtomicBool::new(false),
            counts: Counts::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Shared {
    /// The store, at the present time, and rid of what that removes.
    fn store(&self) -> &InMemoryStore {
        let now = (self.wall)().min(plan::MAX_STORED);
        self.store.set_now(now);
        let swept_at = self.swept_at.load(Ordering::Relaxed);
        let due = now >= swept_at.saturating_add(SWEEP_INTERVAL_MS);
        let relaxed = Ordering::Relaxed;
        // One of those who find that it is time.
        if due
            && self
                .swept_at
                .compare_exchange(swept_at, now, relaxed, relaxed)
                .is_ok()
        {
            let keeping = self.keeping().clone();
            self.counts.swept.add(self.store.sweep(&keeping));
        }
        &self.store
    }

    fn keeping(&self) -> MutexGuard<'_, Keeping> {
        // No code that runs under the lock panics.
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        let topics: Vec<String> = commit.appends.iter().map(|append| append.topic.clone()).collect();
        let outcome = self.store().commit_now(commit);
        self.counts.commits.add(1);
        match &outcome {
            Ok(Outcome::Committed(done)) => {
                for (topic, sequence) in topics.iter().zip(&done.sequences) {
                    self.tails.publish(topic, *sequence);
                }
            }
            Err(StoreError::Unavailable(_)) => self.counts.refused.add(1),
            _ => {}
        }
        outcome
    }
}

impl Engine for InMemoryEngine {
    type Batcher = Immediate;

    fn get_now(&self, key: &str) -> Option<Option<Arc<Entry>>> {
        self.get_all_now(&[key])?.into_iter().next()
    }

    fn get_all_now(&self, keys: &[impl AsRef<str>]) -> Option<Vec<Option<Arc<Entry>>>> {
        self.shared.counts.hits.add(keys.len() as u64);
        Some(self.shared.store().get_shared(keys))
    }

    fn batcher(&self, _: Duration) -> Immediate {
        Immediate(Arc::clone(&self.shared))
    }

    fn subscribe(&self, topic: &str) -> Tail {
        self.shared.tails.subscribe(topic)
    }

    fn set_retention(&self, default: Retention, named: impl IntoIterator<Item = (String, Retention)>) {
        let mut keeping = self.shared.keeping();
        keeping.default = Some(default);
        keeping.retention = named.into_iter().collect();
    }

    fn set_low_water(&self, topic: &str, sequence: u64) {
        self.shared.keeping().low_water.insert(topic.to_owned(), sequence);
    }

    fn now(&self) -> u64 {
        self.shared.store().now()
    }

    fn health(&self) -> Result<(), String> {
        match self.shared.store().is_full() {
            true => Err("the store in memory is full; raise store.max_bytes".into()),
            false => Ok(()),
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            commits: self.shared.counts.commits.get(),
            overflowed: self.shared.counts.refused.get(),
            dropped: self.shared.counts.dropped.get(),
            cache_hits: self.shared.counts.hits.get(),
            swept: self.shared.counts.swept.get(),
            ..Stats::default()
        }
    }

    fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl Store for InMemoryEngine {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.shared.commit_now(commit)
    }

    fn defer(&self, commit: Commit) {
        if plan::measure_deferred(&commit).is_err() || self.shared.commit_now(commit).is_err() {
            self.shared.counts.dropped.add(1);
        }
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let found = self.shared.store().get_shared(keys);
        Ok(found
            .into_iter()
            .map(|found| found.map(Arc::unwrap_or_clone))
            .collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.shared.store().scan(prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let read = || self.shared.store().read(topic, after, limit, 0);
        match wait {
            0 => read().await,
            _ => first_messages(self.subscribe(topic), wait, read).await,
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.shared.store().topics(after, limit).await
    }
}

/// Carries commits out where they are asked for: nothing is gained by waiting for others.
#[derive(Debug)]
pub struct Immediate(Arc<Shared>);

impl CommitBatcher for Immediate {
    fn commit(&self, commit: Commit) -> Answered {
        Answered::now(self.0.commit_now(commit))
    }

    fn commit_packed(&self, packed: Vec<u8>) -> Answered {
        let commit: Option<Commit> = packed::unpack(&packed);
        let commit = commit.ok_or_else(|| StoreError::Invalid("this is not a commit".into()));
        Answered::now(commit.and_then(|commit| self.0.commit_now(commit)))
    }

    async fn run(&self) {
        std::future::pending().await
    }
}
