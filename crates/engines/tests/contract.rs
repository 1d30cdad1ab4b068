//! The contract of the store, run against every engine as a host holds it.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use tollgate_contract::StoreHarness;
use tollgate_contract::postgres::Postgres as Server;
use tollgate_engines::{
    AnyEngine, Clock, InMemoryEngine, Options, PostgresOptions, PostgresStore, SqliteStore,
};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::memory::START;
use tollgate_store::ports::Store;

/// An engine, in a directory of its own if it needs one, whose clock is moved by hand.
struct Temporary {
    store: AnyEngine,
    clock: Arc<AtomicU64>,
    _directory: Option<TempDir>,
}

fn clock() -> (Arc<AtomicU64>, Clock) {
    let clock = Arc::new(AtomicU64::new(START));
    let read = Arc::clone(&clock);
    (clock, Arc::new(move || read.load(Ordering::Relaxed)))
}

async fn pass(store: &Temporary, ms: u64) {
    store.clock.fetch_add(ms, Ordering::Relaxed);
}

struct Sqlite;

impl StoreHarness for Sqlite {
    type Store = Temporary;

    async fn fresh(&self) -> Temporary {
        let directory = TempDir::new().unwrap();
        let (clock, read) = clock();
        let mut options = Options::new(directory.path().join("tollgate.db"));
        // Few enough that entries are in the journal and in their table.
        options.memtable_entries = 3;
        options.clock = read;
        Temporary {
            store: AnyEngine::Sqlite(SqliteStore::open(options).unwrap()),
            clock,
            _directory: Some(directory),
        }
    }

    async fn pass(&self, store: &Temporary, ms: u64) {
        pass(store, ms).await;
    }
}

struct Memory;

impl StoreHarness for Memory {
    type Store = Temporary;

    async fn fresh(&self) -> Temporary {
        let (clock, read) = clock();
        Temporary {
            store: AnyEngine::Memory(InMemoryEngine::new(1 << 30, read)),
            clock,
            _directory: None,
        }
    }

    async fn pass(&self, store: &Temporary, ms: u64) {
        pass(store, ms).await;
    }
}

/// A real Postgres, with a schema of its own for each case.
struct Postgres;

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

fn server() -> Option<&'static Server> {
    SERVER.get_or_init(|| Server::start("")).as_ref()
}

impl StoreHarness for Postgres {
    type Store = Temporary;

    async fn fresh(&self) -> Temporary {
        let clock = Arc::new(AtomicU64::new(0));
        let mut options = PostgresOptions::new(server().unwrap().fresh());
        (options.lanes, options.ahead_ms) = (4, Arc::clone(&clock));
        Temporary {
            store: AnyEngine::Postgres(PostgresStore::open(options).unwrap()),
            clock,
            _directory: None,
        }
    }

    async fn pass(&self, store: &Temporary, ms: u64) {
        pass(store, ms).await;
        // What is deferred waits for company by the clock on the wall.
        tokio::time::sleep(Duration::from_millis(ms.min(20))).await;
    }
}

fn run_on_postgres(case: impl Future<Output = ()>) {
    if server().is_some() {
        run(case);
    }
}

impl Store for Temporary {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.store.commit(commit).await
    }

    fn defer(&self, commit: Commit) {
        self.store.defer(commit);
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

mod sqlite {
    tollgate_contract::store_contract!(super::Sqlite, super::run);
}

mod memory {
    tollgate_contract::store_contract!(super::Memory, super::run);
}

mod postgres {
    tollgate_contract::store_contract!(super::Postgres, super::run_on_postgres);
}
