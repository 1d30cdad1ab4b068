//! The store of a fleet: many gateways over one Postgres. Postgres locks, reads and writes; what a commit means is decided by
//! `tollgate_store::plan`, as in every engine. See `docs/fleet.md`.
//!
//! One thread of its own drives all connections: [`writer`]s with their [`flight`]s, [`reads`], and what is looked at again
//! and again ([`watch`]).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch as channel};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::plan::group::Found;
use tollgate_store::plan::{self, page};
use tollgate_store::ports::Store;
use tollgate_store::retention::{Keeping, Retention};

use crate::batcher::{TakesJobs, ThreadBatcher};
use crate::buckets::{SharedLimits, exact, telling};
use crate::clock::system_clock;
use crate::engine::Engine;
use crate::job::Job;
use crate::reply::{Post, Reply};
use crate::sqlite::OpenError;
use crate::stats::{Buckets, Count, GROUP_COMMITS, SYNC_MICROS, Stats};
use crate::tails::{Tail, Tails, first_messages};

mod cache;
mod connect;
mod flight;
mod limits;
pub mod migrate;
mod options;
mod queue;
mod reads;
mod schema;
mod sweep;
mod takes;
mod watch;
mod writer;

use cache::{Cache, Moment};
use connect::{Address, Session, told};
use flight::Written;
use queue::{Queue, Refused, Waiting};
use reads::Readers;

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

/// What the threads of the gateway and the engine's own share.
struct Shared {
    address: Address,
    lanes: u32,
    queue: Queue,
    cache: Cache,
    readers: Readers,
    tails: Tails,
    keeping: Mutex<Keeping>,
    /// See [`Engine::set_sweeps`].
    sweeps: AtomicBool,
    revalidate: Duration,
    stale_if_error: Duration,
    began: Instant,
    moments: AtomicU64,
    /// The database's clock less ours, milliseconds.
    offset: AtomicI64,
    latest: AtomicU64,
    ahead: Arc<AtomicU64>,
    limits: SharedLimits,
    counts: Counts,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("database", &self.address.shown)
            .finish_non_exhaustive()
    }
}

struct Counts {
    commits: Count,
    groups: Count,
    failed: Count,
    retries: Count,
    resolved: Count,
    revalidated: Count,
    group_commits: Buckets<{ GROUP_COMMITS.len() }>,
    syncs: Buckets<{ SYNC_MICROS.len() }>,
    overflowed: Count,
    dropped: Count,
    hits: Count,
    misses: Count,
    swept: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let count = Count::default;
        Self {
            commits: count(),
            groups: count(),
            failed: count(),
            retries: count(),
            resolved: count(),
            revalidated: count(),
            group_commits: Buckets::new(GROUP_COMMITS),
            syncs: Buckets::new(SYNC_MICROS),
            overflowed: count(),
            dropped: count(),
            hits: count(),
            misses: count(),
            swept: count(),
        }
    }
}

impl Shared {
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A state of the database that is asked for from now on.
    fn moment(&self) -> Moment {
        Moment {
            at: self.millis(),
            number: self.moments.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The store's time: the database's, as far as it is known.
    fn now(&self) -> u64 {
        let offset = self.offset.load(Ordering::Relaxed);
        let wall = system_clock()
            .saturating_add_signed(offset)
            .saturating_add(self.ahead())
            .min(plan::MAX_STORED);
        self.latest.fetch_max(wall, Ordering::AcqRel).max(wall)
    }

    fn saw_clock(&self, database: i64, asked: Instant) {
        let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(0);
        let ours = i64::try_from(system_clock()).unwrap_or(i64::MAX);
        self.offset.store(
            database.saturating_add(half).saturating_sub(ours),
            Ordering::Relaxed,
        );
    }

    /// The oldest state that memory may answer with.
    fn oldest(&self) -> u64 {
        let bound = match self.queue.away() {
            None => self.revalidate,
            Some(_) => self.revalidate.max(self.stale_if_error),
        };
        self.millis()
            .saturating_sub(u64::try_from(bound.as_millis()).unwrap_or(u64::MAX))
    }

    fn keeping(&self) -> Keeping {
        self.keeping_mut().clone()
    }

    fn keeping_mut(&self) -> MutexGuard<'_, Keeping> {
        // No code that runs under the lock panics.
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what a group found and wrote to readers, and wakes those who wait for it.
    fn show(&self, written: Written, moment: Moment) -> Vec<Result<Outcome, StoreError>> {
        let Written {
            outcomes,
            known,
            appended,
            now,
            dirty: _,
        } = written;
        self.latest.fetch_max(now, Ordering::AcqRel);
        for (key, found) in known {
            self.cache.publish(&key, found, moment);
        }
        for (topic, last) in appended {
            self.tails.publish_newer(&topic, last);
        }
        outcomes
    }

    fn answer(&self, jobs: Vec<Waiting>, outcomes: Vec<Result<Outcome, StoreError>>) {
        let mut post = Post::default();
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            match job.reply {
                Some(reply) => post.answer(reply, outcome),
                None if outcome.is_err() => self.counts.dropped.add(1),
                None => {}
            }
        }
        post.deliver();
    }

    fn refused(&self, refused: Refused) -> StoreError {
        StoreError::Unavailable(match refused {
            Refused::Full => {
                self.counts.overflowed.add(1);
                "too many commits are waiting for the database".into()
            }
            Refused::Closed => "the store is closed".into(),
            Refused::Away(why) => format!("the database does not answer: {why}"),
        })
    }

    /// The database does not answer, or does again.
    fn set_away(&self, why: Option<String>) {
        let before = self.queue.away();
        match (&before, &why) {
            (None, Some(why)) => {
                tracing::error!(database = self.address.shown, why, "the database does not answer")
            }
            (Some(_), None) => tracing::info!(database = self.address.shown, "the database answers again"),
            _ => {}
        }
        let jobs = self.queue.set_away(why.clone());
        if let Some(why) = why {
            let outcomes = jobs
                .iter()
                .map(|_| Err(self.refused(Refused::Away(why.clone()))))
                .collect();
            self.answer(jobs, outcomes);
        }
    }

    fn push(
        &self,
        commit: Commit,
        bytes: usize,
        reply: Option<Reply>,
    ) -> Result<(), (StoreError, Option<Reply>)> {
        let lane = queue::lane(&commit.partition, self.lanes);
        let pushed = self.queue.push(Waiting {
            commit,
            lane,
            bytes,
            reply,
        });
        pushed.map_err(|(refused, reply)| (self.refused(refused), reply))
    }

    fn living(&self, found: Vec<Found>) -> Vec<Found> {
        if found.iter().flatten().all(|entry| entry.expires.is_none()) {
            return found;
        }
        let now = self.now();
        found
            .into_iter()
            .map(|found| found.filter(|entry| plan::is_live(entry, now)))
            .collect()
    }
}

impl TakesJobs for Shared {
    fn take_jobs(&self, jobs: Vec<Job>) {
        let mut post = Post::default();
        for Job { asked, bytes, reply } in jobs {
            let refused = match asked.commit() {
                Ok(commit) => self.push(commit, bytes, reply).err(),
                Err(invalid) => Some((invalid, reply)),
            };
            if let Some((error, Some(reply))) = refused {
                post.answer(reply, Err(error));
            }
        }
        post.deliver();
    }
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
            cached: self.shared.cache.room(),
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
