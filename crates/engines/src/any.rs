//! The engines behind the seam. The next one is a module of this crate, a row of [`AnyEngine`] and
//! [`AnyBatcher`], and a row of the settings ([`open`]).

use std::sync::Arc;
use std::time::Duration;

use tollgate_store::bucket::debt::Sharing;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::Store;
use tollgate_store::retention::Retention;
use tollgate_store::settings::{LimitsStore, StoreSettings};

use crate::batcher::{Answered, CommitBatcher};
use crate::buckets::SharedLimits;
use crate::clock::system_clock;
use crate::engine::Engine;
use crate::memory::{Immediate, InMemoryEngine};
use crate::postgres::{PostgresOptions, PostgresStore};
use crate::sqlite::{Batcher, OpenError, Options, SqliteStore};
use crate::stats::Stats;
use crate::tails::Tail;

/// An engine of any kind, chosen when the gateway starts. Cheap to clone.
#[derive(Clone, Debug)]
pub enum AnyEngine {
    /// One SQLite file.
    Sqlite(Arc<SqliteStore>),
    /// Memory, which nothing outlives.
    Memory(InMemoryEngine),
    /// A Postgres that many gateways share.
    Postgres(Arc<PostgresStore>),
}

/// The batcher of one thread, of any engine.
#[derive(Debug)]
pub enum AnyBatcher {
    /// See [`Batcher`].
    Sqlite(Batcher),
    /// See [`Immediate`].
    Memory(Immediate),
    /// The same as SQLite's, over another engine.
    Postgres(Batcher),
}

/// Opens the engine that the settings name, creating what it needs. A file's directory must be there; a name without one is
/// taken from the working directory.
///
/// # Errors
/// The file is in use, is no store of ours, or cannot be used; memory can always be had.
pub fn open(settings: &StoreSettings, limits: &LimitsStore) -> Result<AnyEngine, OpenError> {
    match settings {
        StoreSettings::Sqlite {
            path,
            cache_entries,
            cache_bytes,
        } => {
            // Absolute, so that SQLite takes no name for anything else (`:memory:`, `file:…`).
            let absolute = std::path::absolute(path).map_err(|source| OpenError::Io {
                path: path.into(),
                source,
            })?;
            let store = SqliteStore::open(Options {
                cache_entries: usize::try_from(*cache_entries).unwrap_or(usize::MAX),
                cache_bytes: usize::try_from(cache_bytes.0).unwrap_or(usize::MAX),
                ..Options::new(absolute)
            });
            store.map(AnyEngine::Sqlite)
        }
        StoreSettings::Memory { max_bytes } => {
            let engine = InMemoryEngine::new(max_bytes.0, Arc::new(system_clock));
            Ok(AnyEngine::Memory(engine))
        }
        StoreSettings::Postgres(settings) => {
            let store = PostgresStore::open(PostgresOptions {
                lanes: settings.lanes,
                writers: settings.writers as usize,
                revalidate: settings.revalidate.into(),
                stale_if_error: settings.stale_if_error.into(),
                cache_entries: usize::try_from(settings.cache_entries).unwrap_or(usize::MAX),
                cache_bytes: usize::try_from(settings.cache_bytes.0).unwrap_or(usize::MAX),
                sharing: Sharing {
                    gateways: settings.gateways,
                    debt_percent: settings.debt_percent,
                },
                take_patience: limits.timeout.into(),
                ..PostgresOptions::new(settings.url.expose())
            });
            store.map(AnyEngine::Postgres)
        }
    }
}

macro_rules! each {
    ($kinds:ident, $this:expr, $one:ident => $what:expr) => {
        match $this {
            $kinds::Sqlite($one) => $what,
            $kinds::Memory($one) => $what,
            $kinds::Postgres($one) => $what,
        }
    };
}

impl AnyEngine {
    /// The limits that gateways share over it, where they can.
    pub fn limits(&self) -> Option<SharedLimits> {
        match self {
            Self::Postgres(store) => Some(store.limits()),
            Self::Sqlite(_) | Self::Memory(_) => None,
        }
    }
}

impl Engine for AnyEngine {
    type Batcher = AnyBatcher;

    fn get_now(&self, key: &str) -> Option<Option<Arc<Entry>>> {
        each!(AnyEngine, self, engine => engine.get_now(key))
    }

    fn get_all_now(&self, keys: &[impl AsRef<str>]) -> Option<Vec<Option<Arc<Entry>>>> {
        each!(AnyEngine, self, engine => engine.get_all_now(keys))
    }

    fn batcher(&self, patience: Duration) -> AnyBatcher {
        match self {
            Self::Sqlite(engine) => AnyBatcher::Sqlite(engine.batcher(patience)),
            Self::Memory(engine) => AnyBatcher::Memory(engine.batcher(patience)),
            Self::Postgres(engine) => AnyBatcher::Postgres(engine.batcher(patience)),
        }
    }

    fn subscribe(&self, topic: &str) -> Tail {
        each!(AnyEngine, self, engine => engine.subscribe(topic))
    }

    fn set_retention(&self, default: Retention, named: impl IntoIterator<Item = (String, Retention)>) {
        each!(AnyEngine, self, engine => engine.set_retention(default, named));
    }

    fn set_low_water(&self, topic: &str, sequence: u64) {
        each!(AnyEngine, self, engine => engine.set_low_water(topic, sequence));
    }

    fn set_sweeps(&self, sweeps: bool) {
        each!(AnyEngine, self, engine => engine.set_sweeps(sweeps));
    }

    fn now(&self) -> u64 {
        each!(AnyEngine, self, engine => engine.now())
    }

    fn health(&self) -> Result<(), String> {
        each!(AnyEngine, self, engine => engine.health())
    }

    fn stats(&self) -> Stats {
        each!(AnyEngine, self, engine => engine.stats())
    }

    fn close(&self) {
        each!(AnyEngine, self, engine => engine.close());
    }
}

impl Store for AnyEngine {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        each!(AnyEngine, self, engine => engine.commit(commit).await)
    }

    fn defer(&self, commit: Commit) {
        each!(AnyEngine, self, engine => engine.defer(commit));
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        each!(AnyEngine, self, engine => engine.get(partition, keys).await)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        each!(AnyEngine, self, engine => engine.scan(prefix, after, limit).await)
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        each!(AnyEngine, self, engine => engine.read(topic, after, limit, wait).await)
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        each!(AnyEngine, self, engine => engine.topics(after, limit).await)
    }
}

impl CommitBatcher for AnyBatcher {
    fn commit(&self, commit: Commit) -> Answered {
        each!(AnyBatcher, self, batcher => batcher.commit(commit))
    }

    fn commit_packed(&self, packed: Vec<u8>) -> Answered {
        each!(AnyBatcher, self, batcher => batcher.commit_packed(packed))
    }

    async fn run(&self) {
        each!(AnyBatcher, self, batcher => batcher.run().await);
    }
}
