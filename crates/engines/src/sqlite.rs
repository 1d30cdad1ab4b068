//! The embedded store: one SQLite file in WAL mode, one writer thread with group commit, a cache that is never stale.
//!
//! A commit waits in a bounded [`queue`] and is decided by `tollgate_store::plan` on top of its [`group`]. It
//! is answered once the group's fsync has returned. The [`writer`] says what happens when a sync fails. What
//! a commit changed goes to the [`journal`] first, and into its table in bulk later. Reads come from the
//! [`cache`], else from the [`memtable`], else from [`readers`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::deleted;
use tollgate_store::plan::{self, page};
use tollgate_store::ports::Store;
use tollgate_store::retention::Retention;

use crate::batcher::TakesJobs;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::job::{Asked, Job, Refused};
use crate::reply::{Post, Reply};
use crate::stats::Stats;
use crate::tails::{Tail, Tails, first_messages};

pub mod backup;
mod cache;
mod filter;
mod group;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod journal;
mod keys;
mod memtable;
mod moment;
mod options;
mod query;
mod queue;
mod readers;
mod records;
pub(crate) mod schema;
mod stats;
mod sweep;
mod walk;
mod writer;

use cache::Cache;
use filter::Filter;
use keys::Reading;
use memtable::{Memtable, Range};
use moment::Shown;
use query::Entries;
use queue::Queue;
use readers::Readers;
use stats::Counts;
use walk::Kept;
use writer::checkpoint::Copier;

pub use crate::batcher::ThreadBatcher as Batcher;
pub use options::{OpenError, Options};
pub use schema::{APPLICATION_ID, SCHEMA, SCHEMA_VERSION};

/// Entries of one `get` that are read where it was asked; more go to a thread.
const INLINE_READS: usize = 16;

/// The store. Cheap to share; all methods take `&self`, and their futures are `Send`. They run on any executor, except
/// that a `read` that waits needs a Tokio timer.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    readers: Readers,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: schema::Lock,
}

/// The state that the writer and the callers share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: Queue,
    cache: Cache,
    memtable: Memtable,
    shown: Shown,
    tails: Tails,
    time: Time,
    counts: Counts,
    keeping: Mutex<Kept>,
    checkpoint_pages: i64,
    poison: OnceLock<String>,
    /// Why the last group was not written, while nothing has been written since.
    refusing: Mutex<Option<String>>,
}

/// The store's clock: the wall clock, but never backwards, across restarts too.
struct Time {
    wall: Clock,
    latest: AtomicU64,
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Time").field(&self.latest).finish()
    }
}

impl Time {
    fn now(&self) -> u64 {
        let wall = (self.wall)().min(plan::MAX_STORED);
        let latest = self.latest.load(Ordering::Acquire);
        // Most calls come within the same millisecond, and write nothing.
        if wall <= latest {
            latest
        } else {
            self.latest.fetch_max(wall, Ordering::AcqRel).max(wall)
        }
    }

    fn not_before(&self, time: u64) {
        self.latest.fetch_max(time, Ordering::AcqRel);
    }
}

impl Shared {
    fn keeping_mut(&self) -> MutexGuard<'_, Kept> {
        // No code that runs under the lock panics.
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all writing for good.
    fn poison(&self, why: &str) {
        tracing::error!(path = %self.path.display(), error = why, "the store has stopped; restart the process");
        _ = self.poison.set(why.to_owned());
    }

    /// Says why no group can be written now; `None` once one was.
    fn set_refusing(&self, why: Option<String>) {
        // No code that runs under the lock panics.
        *self.refusing.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The error for a commit that was not taken; counts it.
    fn refused(&self, refused: Refused) -> StoreError {
        match refused {
            Refused::Full => {
                self.counts.overflowed.add(1);
                StoreError::Unavailable("too many commits are waiting for the disk".into())
            }
            Refused::Closed => self.closed(),
        }
    }

    /// Why commits are no longer taken.
    fn closed(&self) -> StoreError {
        StoreError::Unavailable(match self.poison.get() {
            Some(why) => format!("the store has stopped: {why}"),
            None => "the store is closed".into(),
        })
    }
}

impl TakesJobs for Shared {
    fn take_jobs(&self, jobs: Vec<Job>) {
        let Err((refused, jobs)) = self.queue.push_all(jobs) else {
            return;
        };
        let mut post = Post::default();
        for reply in jobs.into_iter().filter_map(|job| job.reply) {
            post.answer(reply, Err(self.refused(refused)));
        }
        post.deliver();
    }
}

impl SqliteStore {
    /// Opens the database, creating it if it is not there (its directory must be), and starts the writer. Only one
    /// process at a time can hold it.
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let path = options.path.clone();
        let mut lock = schema::lock(&path)?;
        backup::finish(&path)?;
        lock.check(&path)?;
        let connection = schema::open_writer(&options)?;
        lock.remember()?;
        let filter = Filter::new(options.filter_bytes);
        let memtable = Memtable::new(options.memtable_entries, options.memtable_bytes, filter);
        let sqlite = |source| OpenError::from_sqlite(&path, source);
        journal::load(&connection, &memtable).map_err(sqlite)?;
        let keys = Reading::begin(&connection, memtable.filter(), options.clone()).map_err(sqlite)?;
        let readers = Readers::open(&options)?;
        let copier = Copier::start(schema::open_copier(&options)?);
        let copier = copier.map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })?;
        let shared = Arc::new(Shared {
            path: path.clone(),
            queue: Queue::new(options.queue_commits, options.queue_bytes, options.group_commits),
            cache: Cache::new(options.cache_entries, options.cache_bytes),
            memtable,
            shown: Shown::default(),
            tails: Tails::default(),
            time: Time {
                wall: options.clock,
                latest: AtomicU64::new(0),
            },
            counts: Counts::default(),
            keeping: Mutex::default(),
            checkpoint_pages: options.checkpoint_pages.max(1).into(),
            poison: OnceLock::new(),
            refusing: Mutex::default(),
        });
        let writer = writer::Writer::new(Arc::clone(&shared), connection, copier, keys);
        let writer = writer.map_err(|source| OpenError::from_sqlite(&path, source))?;
        let thread = thread::Builder::new()
            .name("store-write".into())
            .spawn(|| writer.run());
        let thread = thread.map_err(|source| OpenError::Io { path, source })?;
        Ok(Arc::new(Self {
            shared,
            readers,
            writer: Mutex::new(Some(thread)),
            _lock: lock,
        }))
    }

    /// See [`Store::commit`]. Goes on even if its future is dropped.
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let bytes = plan::measure(&commit)?;
        let (reply, outcome) = oneshot::channel();
        let pushed = self.shared.queue.push(Job {
            asked: Asked::Commit(commit.into()),
            bytes,
            reply: Some(Reply::Alone(reply)),
        });
        pushed.map_err(|refused| self.shared.refused(refused))?;
        outcome
            .await
            .unwrap_or_else(|_| Err(StoreError::Unknown("the writer has stopped".into())))
    }

    /// See [`Store::defer`]. What cannot be taken is counted in [`Stats::dropped`].
    pub fn defer(&self, commit: Commit) {
        let taken = plan::measure_deferred(&commit).is_ok_and(|bytes| {
            self.shared
                .queue
                .push(Job {
                    asked: Asked::Commit(commit.into()),
                    bytes,
                    reply: None,
                })
                .is_ok()
        });
        if !taken {
            self.shared.counts.dropped.add(1);
        }
    }

    /// Leaves out entries that have expired.
    fn living(&self, found: Vec<Option<Arc<Entry>>>) -> Vec<Option<Arc<Entry>>> {
        let now = self.shared.time.now();
        let living = found
            .into_iter()
            .map(|found| found.filter(|entry| plan::is_live(entry, now)));
        living.collect()
    }

    /// See [`Store::get`]; the entries shared instead of copied.
    pub async fn get_shared(&self, keys: &[String]) -> Result<Vec<Option<Arc<Entry>>>, StoreError> {
        page::check_get(keys)?;
        // One key needs no moment.
        let shown = (keys.len() > 1).then(|| self.shared.shown.hold());
        let (mut entries, missed) = moment::near(&self.shared.cache, &self.shared.memtable, keys);
        drop(shown);
        self.shared
            .counts
            .cache_hits
            .add((keys.len() - missed.len()) as u64);
        self.shared.counts.cache_misses.add(missed.len() as u64);
        match (keys, missed.as_slice()) {
            (_, []) => {}
            ([key], [(_, generation)]) => {
                let read = read_entries(&self.readers.point(), keys).map_err(readers::unavailable)?;
                let found = read.into_iter().next().flatten();
                if found.is_none() {
                    self.shared.memtable.filter().looked_in_vain();
                }
                entries = vec![self.shared.cache.fill(key, found, *generation)];
            }
            (_, missed) if missed.len() <= INLINE_READS => {
                entries = self.shared.at_one_moment(&self.readers.point(), keys)?;
            }
            _ => {
                let (shared, keys) = (Arc::clone(&self.shared), keys.to_vec());
                let read = move |connection: &Connection| Ok(shared.at_one_moment(connection, &keys));
                entries = self.readers.page(read).await??;
            }
        }
        Ok(self.living(entries))
    }

    /// See [`Store::get`].
    pub async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let entries = self.get_shared(keys).await?;
        Ok(entries
            .into_iter()
            .map(|found| found.map(Arc::unwrap_or_clone))
            .collect())
    }

    /// See [`Store::scan`].
    pub async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let shared = Arc::clone(&self.shared);
        let now = shared.time.now();
        self.readers
            .page(move |connection| {
                let (prefix, after) = (prefix.as_str(), after.as_deref());
                query::scan(connection, &shared.memtable, Range { prefix, after }, limit, now)
            })
            .await
    }

    /// See [`Store::read`]. Woken by the writer; with a `wait`, it must run on Tokio.
    pub async fn read(
        &self,
        topic: &str,
        after: u64,
        limit: u32,
        wait: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let read = || self.read_once(topic, after, limit);
        match wait {
            0 => read().await,
            _ => first_messages(self.subscribe(topic), wait, read).await,
        }
    }

    async fn read_once(&self, topic: &str, after: u64, limit: u32) -> Result<Vec<Message>, StoreError> {
        let went = self.get_shared(&[deleted::key(topic)]).await?;
        let after = after.max(deleted::through(went.first().and_then(Option::as_deref)));
        let topic = topic.to_owned();
        self.readers
            .page(move |connection| query::read(connection, &topic, after, limit))
            .await
    }

    /// See [`Store::topics`].
    pub async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let after = after.map(str::to_owned);
        let mut topics = self
            .readers
            .page(move |connection| query::topics(connection, after.as_deref(), limit))
            .await?;
        let keys: Vec<String> = topics.iter().map(|topic| deleted::key(&topic.name)).collect();
        let went = self.get_shared(&keys).await?;
        for (topic, went) in topics.iter_mut().zip(&went) {
            if deleted::clamp(topic, deleted::through(went.as_deref())) {
                // The sweep has not come to it yet: this is rare.
                let first = self.read_once(&topic.name, topic.first - 1, 1).await?;
                topic.first_time = first.first().map(|message| message.time);
            }
        }
        Ok(topics)
    }
}

impl Engine for SqliteStore {
    type Batcher = Batcher;

    fn get_now(&self, key: &str) -> Option<Option<Arc<Entry>>> {
        let found = self.shared.cache.get(key).ok()?;
        self.shared.counts.cache_hits.add(1);
        // Few expire: for the others the clock need not be read.
        Some(found.filter(|entry| entry.expires.is_none() || plan::is_live(entry, self.shared.time.now())))
    }

    fn get_all_now(&self, keys: &[impl AsRef<str>]) -> Option<Vec<Option<Arc<Entry>>>> {
        let shown = self.shared.shown.hold();
        let found = keys.iter().map(|key| self.shared.cache.get(key.as_ref()).ok());
        let found: Vec<_> = found.collect::<Option<_>>()?;
        drop(shown);
        self.shared.counts.cache_hits.add(keys.len() as u64);
        Some(self.living(found))
    }

    fn batcher(&self, patience: Duration) -> Batcher {
        Batcher::new(self.shared.clone(), patience)
    }

    fn subscribe(&self, topic: &str) -> Tail {
        self.shared.tails.subscribe(topic)
    }

    fn set_retention(&self, default: Retention, named: impl IntoIterator<Item = (String, Retention)>) {
        self.shared.keeping_mut().set_retention(default, named);
    }

    fn set_low_water(&self, topic: &str, sequence: u64) {
        self.shared.keeping_mut().set_low_water(topic, sequence);
    }

    fn now(&self) -> u64 {
        self.shared.time.now()
    }

    fn health(&self) -> Result<(), String> {
        let (shared, path) = (&self.shared, self.shared.path.display());
        if let Some(why) = shared.poison.get() {
            return Err(format!("{path} has stopped: {why}; restart the process"));
        }
        let refusing = shared.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refusing {
            Some(why) => Err(format!("{path} cannot be written: {why}")),
            None => Ok(()),
        }
    }

    fn stats(&self) -> Stats {
        let shared = &self.shared;
        shared
            .counts
            .read(shared.queue.waiting(), &shared.cache, &shared.memtable)
    }

    fn close(&self) {
        self.shared.queue.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            self.shared.poison("the writer has failed");
        }
    }
}

fn read_entries(
    connection: &Connection,
    keys: &[impl AsRef<str>],
) -> rusqlite::Result<Vec<Option<Arc<Entry>>>> {
    let mut entries = Entries::prepare(connection)?;
    keys.iter()
        .map(|key| Ok(entries.get(key.as_ref())?.map(Arc::new)))
        .collect()
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for SqliteStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        Self::commit(self, commit).await
    }

    fn defer(&self, commit: Commit) {
        Self::defer(self, commit);
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        Self::get(self, partition, keys).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        Self::scan(self, prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        Self::read(self, topic, after, limit, wait).await
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        Self::topics(self, after, limit).await
    }
}
