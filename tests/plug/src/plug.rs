//! The ports, answered by instances of the component over one database.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::{Buckets, Store, Upkeep};
use tollgate_store::retention::Retention;

use crate::instance::Instance;

/// Instances over one database: Spin starts several, too.
const INSTANCES: usize = 3;
const NS_PER_MS: u64 = 1_000_000;
/// 2027, nanoseconds since 1970.
const START_NS: u64 = 1_800_000_000_000 * NS_PER_MS;

/// Calls go to the instances in turn.
pub struct Plug {
    instances: Vec<Instance>,
    next: Cell<usize>,
    clock: Arc<AtomicU64>,
    directory: TempDir,
}

impl Plug {
    /// An empty database, and instances that open it with their first call. Inside [`run`].
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let clock = Arc::new(AtomicU64::new(START_NS));
        let start = |_| Instance::start(path(&directory), Arc::clone(&clock));
        Self {
            instances: (0..INSTANCES).map(start).collect(),
            next: Cell::new(0),
            clock,
            directory,
        }
    }

    /// The same, for the store's contract: its time stands still but for [`Self::pass`].
    pub async fn with_stopped_clock() -> Self {
        let plug = Self::new();
        plug.get("", &[]).await.unwrap(); // makes the tables
        // The store's time never runs backwards, so it stays where the machine's clock will not be for a day.
        plug.set_now("CAST(unixepoch('subsec') * 1000 AS INTEGER) + 86400000");
        plug
    }

    /// Lets time pass: that of the store, once it was stopped, and the wall clock of the instances.
    pub fn pass(&self, ms: u64) {
        self.set_now(&format!("value + {ms}"));
        self.clock.fetch_add(ms * NS_PER_MS, Ordering::Relaxed);
    }

    fn set_now(&self, to: &str) {
        let sql = format!("UPDATE meta SET value = {to} WHERE name = 'now'");
        assert_eq!(self.raw().execute(&sql, []).unwrap(), 1);
    }

    /// Another connection to the database.
    pub fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(path(&self.directory)).unwrap()
    }

    fn instance(&self) -> &Instance {
        let next = self.next.get();
        self.next.set(next + 1);
        &self.instances[next % INSTANCES]
    }
}

impl Default for Plug {
    fn default() -> Self {
        Self::new()
    }
}

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("sqlite_db.db")
}

impl Store for Plug {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let commit = commit.into();
        let call = self.instance().call(move |accessor, instance| {
            Box::pin(instance.tollgate_edge_store().call_commit(accessor, commit))
        });
        Ok(call.await?.into())
    }

    fn defer(&self, commit: Commit) {
        let commit = commit.into();
        // Nobody waits for the answer.
        drop(self.instance().begin(move |accessor, instance| {
            Box::pin(instance.tollgate_edge_store().call_defer(accessor, commit))
        }));
    }

    async fn settle(&self) -> Result<(), StoreError> {
        let call = self
            .instance()
            .call(move |accessor, instance| Box::pin(instance.tollgate_edge_store().call_settle(accessor)));
        Ok(call.await?)
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let (partition, keys) = (partition.to_owned(), keys.to_vec());
        let call = self.instance().call(move |accessor, instance| {
            Box::pin(instance.tollgate_edge_store().call_get(accessor, partition, keys))
        });
        let entries = call.await?.into_iter();
        Ok(entries.map(|entry| entry.map(Into::into)).collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let call = self.instance().call(move |accessor, instance| {
            Box::pin(
                instance
                    .tollgate_edge_store()
                    .call_scan(accessor, prefix, after, limit),
            )
        });
        Ok(call.await?.into_iter().map(Into::into).collect())
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let topic = topic.to_owned();
        let call = self.instance().call(move |accessor, instance| {
            let store = instance.tollgate_edge_store();
            Box::pin(store.call_read(accessor, topic, after, limit, wait))
        });
        Ok(call.await?.into_iter().map(Into::into).collect())
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let after = after.map(str::to_owned);
        let call = self.instance().call(move |accessor, instance| {
            Box::pin(instance.tollgate_edge_store().call_topics(accessor, after, limit))
        });
        Ok(call.await?.into_iter().map(Into::into).collect())
    }
}

impl Upkeep for Plug {
    async fn expire(&self) -> Result<bool, StoreError> {
        let call = self
            .instance()
            .call(move |accessor, instance| Box::pin(instance.tollgate_edge_upkeep().call_expire(accessor)));
        Ok(call.await?)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        let (topic, retention) = (topic.to_owned(), retention.into());
        let call = self.instance().call(move |accessor, instance| {
            let upkeep = instance.tollgate_edge_upkeep();
            Box::pin(upkeep.call_trim(accessor, topic, retention, needed))
        });
        Ok(call.await?)
    }
}

impl Buckets for Plug {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let buckets = buckets.into_iter().map(Into::into).collect();
        let call = self.instance().call(move |accessor, instance| {
            Box::pin(instance.tollgate_edge_buckets().call_take(accessor, buckets))
        });
        Ok(call.await?.into_iter().map(Into::into).collect())
    }
}

/// Runs a case to its end, with the instances that it starts.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, case);
}
