//! The store of a fleet: many gateways over one Postgres. Postgres locks, reads and writes; what a commit means is decided by
//! `tollgate_store::plan`, as in every engine. See `docs/fleet.md`.
//!
//! One thread of its own drives all connections: [`writer`]s with their [`flight`]s, [`reads`], and what is looked at again
//! and again ([`watch`]).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch as channel};
use tollgate_store::cache::Cache;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::{self, page};
use tollgate_store::ports::Store;
use tollgate_store::retention::Retention;

use crate::batcher::ThreadBatcher;
use crate::buckets::{SharedLimits, exact, telling};
use crate::engine::Engine;
use crate::reply::Reply;
use crate::sqlite::OpenError;
use crate::stats::{Room, Stats};
use crate::tails::{Tail, Tails, first_messages};

mod connect;
mod flight;
mod limits;
pub mod migrate;
mod options;
mod queue;
mod reads;
mod schema;
mod shared;
mod sweep;
mod takes;
mod watch;
mod writer;

use connect::{Address, Session, told};
use queue::Queue;
use reads::Readers;
use shared::{Counts, Shared};

pub use options::PostgresOptions;
pub use schema::SQL as SCHEMA;
pub use takes::Takes;

/// Between two attempts at the start.
const START_AGAIN: Duration = Duration::from_millis(300);

/// The store. Its futures must run on Tokio.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    end: channel::Sender<bool>,
    written: Mutex<Option<mpsc::Receiver<()>>>,
}

impl PostgresStore {
    /// Connects, checks what the database promises, and makes the tables where they are missing. Blocks.
    ///
    /// # Errors
    /// It cannot be reached within the patience of the options, promises too little, or its tables are others.
    pub fn open(options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let address = Address::parse(&options.url).map_err(|why| OpenError::Database {
            at: "store.url".into(),
            why,
        })?;
        let at = address.shown.clone();
        let failed = |why: String| OpenError::Database { at: at.clone(), why };
        let (end, ends) = channel::channel(false);
        let (started, start) = mpsc::channel();
        let (writers_end, written) = mpsc::channel();
        std::thread::Builder::new()
            .name("store-postgres".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error.to_string()))),
                };
                runtime.block_on(run(address, options, started, ends, writers_end));
            })
            .map_err(|error| failed(error.to_string()))?;
        let shared = start
            .recv()
            .unwrap_or_else(|_| Err("its thread has failed".into()))
            .map_err(failed)?;
        Ok(Arc::new(Self {
            shared,
            end,
            written: Mutex::new(Some(written)),
        }))
    }

    /// The limits that gateways share over it.
    pub fn limits(&self) -> SharedLimits {
        self.shared.limits.clone()
    }

    /// Where the database is, without a password.
    pub fn shown(&self) -> &str {
        &self.shared.address.shown
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.end.send_replace(true);
    }
}

/// The engine's thread.
async fn run(
    address: Address,
    options: PostgresOptions,
    started: mpsc::Sender<Result<Arc<Shared>, String>>,
    mut end: channel::Receiver<bool>,
    writers_end: mpsc::Sender<()>,
) {
    let (shared, session) = match start(address, &options).await {
        Ok(parts) => parts,
        Err(why) => return drop(started.send(Err(why))),
    };
    let writers: Vec<_> = (0..options.writers.max(1))
        .map(|place| tokio::spawn(writer::Writer::new(Arc::clone(&shared), place).run()))
        .collect();
    let watching = tokio::spawn(watch::run(Arc::clone(&shared), session, end.clone()));
    let sweeping = tokio::spawn(watch::sweep(Arc::clone(&shared), end.clone()));
    let told = limits::Told::new(Arc::clone(&shared));
    let telling = tokio::spawn(telling::run(Arc::clone(&shared.limits.debts), told, end.clone()));
    let asked = takes::Takes::new(Arc::clone(&shared));
    let taking = tokio::spawn(exact::run(Arc::clone(&shared.limits.exact), asked, end.clone()));
    _ = started.send(Ok(shared));
    for writer in writers {
        _ = writer.await;
    }
    drop(writers_end);
    while !*end.borrow() && end.changed().await.is_ok() {}
    watching.abort();
    sweeping.abort();
    telling.abort();
    taking.abort();
}

async fn start(address: Address, options: &PostgresOptions) -> Result<(Arc<Shared>, Session), String> {
    let until = Instant::now() + options.patience;
    let session = loop {
        let opened = tokio::time::timeout(options.patience, Session::open(&address)).await;
        let opened = opened.map_err(|_| "it does not answer".to_owned())?;
        match opened {
            Ok(session) => break session,
            // A wrong password does not become right.
            Err(error)
                if Instant::now() >= until
                    || error.code().is_some_and(|code| code.code().starts_with("28")) =>
            {
                return Err(format!("it cannot be reached: {}", told(&error)));
            }
            Err(error) => {
                tracing::warn!(
                    database = address.shown,
                    error = told(&error),
                    "the database does not answer yet"
                );
                tokio::time::sleep(START_AGAIN).await;
            }
        }
    };
    session.promises().await.map_err(|error| told(&error))??;
    schema::make(&session.client, options.lanes)
        .await
        .map_err(|fault| match fault {
            schema::Fault::Database(error) => format!("its tables cannot be made: {}", told(&error)),
            schema::Fault::Unfit(why) => why,
        })?;
    let shared = Arc::new(Shared {
        address,
        lanes: options.lanes,
        queue: Queue::new(options.writers, options.queue_commits, options.queue_bytes),
        cache: Cache::new(options.cache_entries, options.cache_bytes),
        readers: Readers::new(options.readers),
        tails: Tails::default(),
        keeping: Mutex::default(),
        sweeps: AtomicBool::new(true),
        revalidate: options.revalidate,
        stale_if_error: options.stale_if_error,
        began: Instant::now(),
        moments: AtomicU64::new(1),
        offset: AtomicI64::new(0),
        latest: AtomicU64::new(0),
        ahead: Arc::clone(&options.ahead_ms),
        limits: SharedLimits::new(options.sharing, options.take_patience),
        counts: Counts::default(),
    });
    let asked = Instant::now();
    let clock = session
        .client
        .query_one(flight::CLOCK, &[])
        .await
        .map_err(|error| told(&error))?;
    shared.saw_clock(clock.get(0), asked);
    shared
        .readers
        .fill(&shared.address)
        .await
        .map_err(|error| told(&error))?;
    Ok((shared, session))
}

impl Engine for PostgresStore {
    type Batcher = ThreadBatcher;

    fn get_now(&self, key: &str) -> Option<Option<Arc<Entry>>> {
        let (found, _) = self.shared.cache.get(key, self.shared.oldest())?;
        self.shared.counts.hits.add(1);
        Some(found.filter(|entry| entry.expires.is_none() || plan::is_live(entry, self.shared.now())))
    }

    fn get_all_now(&self, keys: &[impl AsRef<str>]) -> Option<Vec<Option<Arc<Entry>>>> {
        let oldest = self.shared.oldest();
        let known: Option<Vec<_>> = keys
            .iter()
            .map(|key| self.shared.cache.get(key.as_ref(), oldest))
            .collect();
        let known = known?;
        // All at one moment, or not known.
        if known.windows(2).any(|pair| pair[0].1.number != pair[1].1.number) {
            return None;
        }
        self.shared.counts.hits.add(keys.len() as u64);
        Some(
            self.shared
                .living(known.into_iter().map(|(found, _)| found).collect()),
        )
    }

    fn batcher(&self, patience: Duration) -> ThreadBatcher {
        ThreadBatcher::new(self.shared.clone(), patience)
    }

    fn subscribe(&self, topic: &str) -> Tail {
        self.shared.tails.subscribe(topic)
    }

    fn set_retention(&self, default: Retention, named: impl IntoIterator<Item = (String, Retention)>) {
        let mut keeping = self.shared.keeping_mut();
        keeping.default = Some(default);
        keeping.retention = named.into_iter().collect();
    }

    fn set_low_water(&self, topic: &str, sequence: u64) {
        self.shared
            .keeping_mut()
            .low_water
            .insert(topic.to_owned(), sequence);
    }

    fn set_sweeps(&self, sweeps: bool) {
        self.shared.sweeps.store(sweeps, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.shared.now()
    }

    fn health(&self) -> Result<(), String> {
        match self.shared.queue.away() {
            Some(why) => Err(format!("{} does not answer: {why}", self.shared.address.shown)),
            None => Ok(()),
        }
    }

    fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let (entries, bytes) = self.shared.cache.room();
        Stats {
            commits: counts.commits.get(),
            groups: counts.groups.get(),
            failed: counts.failed.get(),
            group_commits: counts.group_commits.get(),
            syncs: counts.syncs.get(),
            queued: self.shared.queue.waiting() as u64,
            overflowed: counts.overflowed.get(),
            dropped: counts.dropped.get(),
            cache_hits: counts.hits.get(),
            cache_misses: counts.misses.get(),
            cached: Room { entries, bytes },
            swept: counts.swept.get(),
            retries: counts.retries.get(),
            resolved: counts.resolved.get(),
            revalidated: counts.revalidated.get(),
            lanes: self.shared.lanes.into(),
            ..Stats::default()
        }
    }

    fn close(&self) {
        self.shared.queue.close();
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(written) = written {
            // Nothing is ever sent: it ends when the writers have.
            _ = written.recv();
        }
    }
}

impl Store for PostgresStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let bytes = plan::measure(&commit)?;
        let (reply, outcome) = oneshot::channel();
        self.shared
            .push(commit, bytes, Some(Reply::Alone(reply)))
            .map_err(|(error, _)| error)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(StoreError::Unknown("the writer has stopped".into())))
    }

    fn defer(&self, commit: Commit) {
        let taken =
            plan::measure_deferred(&commit).is_ok_and(|bytes| self.shared.push(commit, bytes, None).is_ok());
        if !taken {
            self.shared.counts.dropped.add(1);
        }
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let shared = &self.shared;
        let generations: Vec<_> = keys.iter().map(|key| shared.cache.generation(key)).collect();
        // Before the question: what it shows is not older.
        let moment = shared.moment();
        let found = shared
            .readers
            .ask(|reader| async move { reader.get(keys).await })
            .await?;
        shared.counts.misses.add(keys.len() as u64);
        for ((key, found), generation) in keys.iter().zip(&found).zip(generations) {
            shared.cache.fill(key, found.clone(), generation, moment);
        }
        Ok(shared
            .living(found)
            .into_iter()
            .map(|found| found.map(Arc::unwrap_or_clone))
            .collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let now = self.shared.now();
        self.shared
            .readers
            .ask(|reader| async move { reader.scan(prefix, after, limit, now).await })
            .await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let read = || {
            let readers = &self.shared.readers;
            readers.ask(move |reader| async move { reader.read(topic, after, limit).await })
        };
        match wait {
            0 => read().await,
            _ => first_messages(self.subscribe(topic), wait, read).await,
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.shared
            .readers
            .ask(|reader| async move { reader.topics(after, limit).await })
            .await
    }
}
