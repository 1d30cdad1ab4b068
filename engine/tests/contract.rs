//! The contract of the store, run against SQLite on a disk.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tollgate_contract::StoreHarness;
use tollgate_core::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_core::ports::Store;
use tollgate_engine::{Options, SqliteStore};

/// A store in a directory of its own, whose clock is moved by hand.
struct Temporary {
    store: Arc<SqliteStore>,
    clock: Arc<AtomicU64>,
    _directory: TempDir,
}

impl Deref for Temporary {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}

struct Sqlite;

impl StoreHarness for Sqlite {
    type Store = Temporary;

    async fn fresh(&self) -> Temporary {
        let directory = TempDir::new().unwrap();
        let clock = Arc::new(AtomicU64::new(tollgate_core::memory::START));
        let read = Arc::clone(&clock);
        let mut options = Options::new(directory.path().join("tollgate.db"));
        // Few enough that entries are in the journal and in their table.
        options.memtable_entries = 3;
        options.clock = Arc::new(move || read.load(Ordering::Relaxed));
        Temporary {
            store: SqliteStore::open(options).unwrap(),
            clock,
            _directory: directory,
        }
    }

    async fn pass(&self, store: &Temporary, ms: u64) {
        store.clock.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Store for Temporary {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.store.commit(commit).await
    }

    fn submit(&self, commit: Commit) {
        self.store.submit(commit);
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.store.get(partition, keys).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.store.read(topic, after, limit, wait).await
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.store.topics(after, limit).await
    }
}

fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(case);
}

tollgate_contract::store_contract!(Sqlite, run);
