//! The one thread that writes.
//!
//! What makes it fast: a group is whatever arrived while the disk was busy with the one before, and costs one
//! fsync. What a group changed is one row of the [`journal`], and is [flushed](super::memtable) beside later
//! groups. What makes it safe: nothing is shown to readers or answered before that fsync has returned. Once a
//! sync has failed, nothing is written any more, since the kernel may have dropped the pages and called them
//! clean. Only a restart from the file finds out what is there.

pub mod checkpoint;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};
use tollgate_store::commit::{Outcome, StoreError};
use tollgate_store::plan::group::Change;

use self::checkpoint::Copier;
use super::Shared;
use super::group::{self, Group, Tables};
use super::journal;
use super::keys::Reading;
use super::memtable::Flushed;
use super::query;
use super::queue::Next;
use super::records;
use super::schema;
use super::sweep;
use super::walk::Walk;
use crate::job::{Asked, Job};
use crate::reply::{Post, Reply};

/// How often expired rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The same while commits keep coming and there is more than one sweep takes.
const SWEEP_ON_EVERY: Duration = Duration::from_millis(100);
/// The rows of a kind that a sweep removes for each commit since the sweep before, so that it keeps pace.
const SWEPT_PER_COMMIT: u32 = 2;
/// The most entries that are written into their table at once while nothing else is to do.
const FLUSHED_AT_ONCE: usize = 4_096;
/// The entry that is written to find out whether the disk has room again, and its bytes.
const PROBE: &str = "health";
const PROBE_BYTES: u32 = 64 << 10;

/// The thread that decides commits, writes groups, flushes and sweeps.
pub struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    revision: u64,
    swept: Instant,
    sweep_more: bool,
    /// The topics that the next sweep looks at.
    walk: Walk,
    /// Commits since the last sweep.
    unswept: u32,
    keys: Reading,
    /// Whether the last group could not be written: [`super::SqliteStore::health`] says so.
    refusing: bool,
    /// Pages of the log at which readers are waited for again, where that was in vain.
    wait_at: i64,
    copier: Copier,
}

/// Why a group, a sweep or a checkpoint was not written.
struct Failure {
    error: rusqlite::Error,
    /// COMMIT was begun, and it is not known what came of it.
    unknown: bool,
}

impl Failure {
    fn before_commit(error: rusqlite::Error) -> Self {
        Self {
            error,
            unknown: false,
        }
    }

    /// Whether the writer may go on: the disk (or the allowed size) was full, or somebody held a lock, and the
    /// transaction was undone. SQLite says FULL only if a page could not be written, so that the record which ends
    /// the transaction never was.
    fn is_passing(&self) -> bool {
        let code = self.error.sqlite_error_code();
        self.is_full() || (!self.unknown && code == Some(ErrorCode::DatabaseBusy))
    }

    /// Whether the disk (or the allowed size) was full, and nothing was done.
    fn is_full(&self) -> bool {
        !self.unknown && self.error.sqlite_error_code() == Some(ErrorCode::DiskFull)
    }

    fn told(&self) -> StoreError {
        let why = self.error.to_string();
        if self.unknown {
            StoreError::Unknown(why)
        } else {
            StoreError::Unavailable(why)
        }
    }
}

impl Writer {
    /// A writer that goes on from what the database holds.
    pub fn new(
        shared: Arc<Shared>,
        connection: Connection,
        copier: Copier,
        keys: Reading,
    ) -> rusqlite::Result<Self> {
        let revision = query::meta(&connection, "revision")?;
        shared.time.not_before(query::meta(&connection, "now")?);
        *shared.shown.change() = revision;
        Ok(Self {
            shared,
            connection,
            revision,
            swept: Instant::now(),
            sweep_more: false,
            walk: Walk::new(Instant::now()),
            unswept: 0,
            keys,
            refusing: false,
            wait_at: 0,
            copier,
        })
    }

    /// Writes until the queue is closed and empty, or the disk fails.
    pub fn run(mut self) {
        // However this thread ends, nobody is left waiting.
        let _abandon = Abandon(Arc::clone(&self.shared));
        loop {
            self.keys.go_on(&self.shared);
            let patience = if self.sweep_more {
                Duration::ZERO
            } else {
                SWEEP_EVERY
            };
            let done = match self.shared.queue.take(patience) {
                Next::Group(jobs) => {
                    let written = self.group(jobs);
                    // Where there is no room, what has expired may make some.
                    let patience = match &written {
                        Ok(()) if self.sweep_more => Some(SWEEP_ON_EVERY),
                        Ok(()) => Some(SWEEP_EVERY),
                        Err(failure) => failure.is_passing().then_some(SWEEP_EVERY),
                    };
                    let due = patience.is_some_and(|patience| self.swept.elapsed() >= patience);
                    let swept = if due { self.sweep() } else { Ok(()) };
                    swept.and(written)
                }
                Next::Idle => {
                    let swept = self.sweep().and_then(|()| self.flush_some());
                    let tried = if self.refusing { self.try_again() } else { Ok(()) };
                    swept.and(tried)
                }
                Next::Closed => {
                    self.close();
                    return;
                }
            };
            if let Err(failure) = done.and_then(|()| self.checkpoint_if_due())
                && !failure.is_passing()
            {
                self.shared.poison(&failure.error.to_string());
                return;
            }
        }
    }

    /// Decides, writes, publishes, answers: in this order.
    fn group(&mut self, jobs: Vec<Job>) -> Result<(), Failure> {
        let (asked, replies): (Vec<Asked>, Vec<Option<Reply>>) =
            jobs.into_iter().map(|job| (job.asked, job.reply)).unzip();
        self.shared.counts.commits.add(asked.len() as u64);
        self.unswept = self
            .unswept
            .saturating_add(u32::try_from(asked.len()).unwrap_or(u32::MAX));
        let mut post = Post::default();
        match self.write_group(asked) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    match reply {
                        Some(reply) => post.answer(reply, outcome),
                        None if outcome.is_err() => self.shared.counts.dropped.add(1),
                        None => {}
                    }
                }
                post.deliver();
                Ok(())
            }
            Err(failure) => {
                tracing::error!(error = %failure.error, unknown = failure.unknown, "a group was not written");
                self.shared.counts.failed.add(1);
                // Before anybody is answered: a caller that is refused then finds the store not ready.
                self.refusing = true;
                self.shared.set_refusing(Some(failure.error.to_string()));
                for reply in replies {
                    match reply {
                        Some(reply) => post.answer(reply, Err(failure.told())),
                        None => self.shared.counts.dropped.add(1),
                    }
                }
                post.deliver();
                Err(failure)
            }
        }
    }

    fn write_group(&mut self, asked: Vec<Asked>) -> Result<Vec<Result<Outcome, StoreError>>, Failure> {
        let shared = Arc::clone(&self.shared);
        self.begin()?;
        let tables = Tables::new(&self.connection, &shared.cache, &shared.memtable);
        let tables = self.or_undo(tables)?;
        let mut group = Group::new(tables, shared.time.now(), self.revision);
        let decide = |asked: Asked| match asked.commit() {
            Ok(commit) => group.decide(commit),
            Err(invalid) => Ok(Err(invalid)),
        };
        let decided = asked.into_iter().map(decide).collect();
        let outcomes: Vec<_> = self.or_undo(decided)?;
        if !group.is_dirty() {
            self.commit()?;
            group::publish(group, &shared.cache, &shared.tails);
            return Ok(outcomes);
        }
        let entries = group.entries();
        group::announce(&entries, &shared.cache);
        let records: Vec<_> = group.records().into_iter().map(records::entry).collect();
        // In the order of their keys.
        let changes = records.iter().map(|(key, entry)| (key.as_str(), Some(entry)));
        let changes: Vec<Change<'_>> = changes.chain(entries).collect();
        let mut written = self.write(&group, &changes);
        if written.as_ref().is_err_and(Failure::is_full) && !shared.memtable.is_empty() {
            // What is in the journal takes room twice, or keeps what was deleted. Nothing else has changed since the
            // group was decided.
            written = self.flush_all().and_then(|()| {
                self.begin()?;
                self.write(&group, &changes)
            });
        }
        let flushed = written.inspect_err(|failure| {
            if !failure.unknown {
                shared.cache.retract();
            }
        })?;
        shared.counts.groups.add(1);
        shared.counts.group_commits.add(outcomes.len() as u64);
        self.revision = group.revision();
        let mut shown = shared.shown.change();
        let changed = changes.iter().map(|(key, found)| (*key, found.cloned()));
        shared.memtable.insert(changed, self.revision);
        self.forget(flushed);
        shared.memtable.begin_flush(false);
        for (topic, _) in group.topics() {
            self.walk.touch(topic);
        }
        group::publish(group, &shared.cache, &shared.tails);
        *shown = self.revision;
        self.has_written();
        Ok(outcomes)
    }

    /// After a group was refused, while nobody commits: writes as much as a group may well have. The entry has expired, so
    /// that nobody sees it and the next sweep removes it.
    fn try_again(&mut self) -> Result<(), Failure> {
        self.begin()?;
        let entry =
            "INSERT OR REPLACE INTO entries (key, value, version, expires) VALUES (?1, zeroblob(?2), 0, 0)";
        let tried = self.connection.execute(entry, params![PROBE, PROBE_BYTES]);
        self.or_undo(tried)?;
        self.commit()?;
        self.has_written();
        Ok(())
    }

    fn has_written(&mut self) {
        if std::mem::take(&mut self.refusing) {
            tracing::info!("the store can be written again");
            self.shared.set_refusing(None);
        }
    }

    /// Writes a group into the open transaction, and ends it.
    fn write(&self, group: &Group<'_>, changes: &[Change<'_>]) -> Result<Option<Flushed>, Failure> {
        let written = group::write(group, changes, &self.connection, &self.shared.memtable);
        let flushed = self.or_undo(written)?;
        self.commit()?;
        Ok(flushed)
    }

    /// Tells the memtable that a slice of a flush is durable.
    fn forget(&self, flushed: Option<Flushed>) {
        if let Some(flushed) = flushed {
            self.shared.counts.flushed.add(flushed.entries as u64);
            self.shared.memtable.forget(flushed);
        }
    }

    /// Flushes the whole memtable, in one transaction.
    fn flush_all(&self) -> Result<(), Failure> {
        self.flush_all_and(|_| Ok(()))
    }

    /// The same, with something besides.
    fn flush_all_and(&self, also: impl Fn(&Connection) -> rusqlite::Result<()>) -> Result<(), Failure> {
        let (memtable, now) = (&self.shared.memtable, self.shared.time.now());
        self.begin()?;
        let flushed = journal::flush_all(&self.connection, memtable, now);
        let flushed = self.or_undo(flushed.and_then(|flushed| also(&self.connection).map(|()| flushed)))?;
        self.commit()?;
        memtable.clear();
        self.shared.counts.flushed.add(flushed as u64);
        Ok(())
    }

    /// Empties the journal into the tables, leaves the database to others, and empties the log into it.
    fn close(&mut self) {
        self.copier.stop();
        if let Err(failure) = self.flush_all_and(schema::release) {
            tracing::warn!(error = %failure.error, "the journal was not emptied on closing; it is kept");
            if !failure.is_passing() {
                // What the log holds is not known: it must not be copied.
                self.shared.poison(&failure.error.to_string());
                return;
            }
        }
        if let Err(failure) = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(error = %failure.error, "the log was not emptied on closing; it is kept");
        }
    }

    /// Begins to write, if the database is still as this writer left it.
    fn begin(&self) -> Result<(), Failure> {
        self.connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(Failure::before_commit)?;
        let found = self.or_undo(query::revision(&self.connection))?;
        self.or_undo(match found == self.revision {
            true => Ok(()),
            false => Err(foreign(self.revision, found)),
        })
    }

    /// Returns the result; if it is an error, rolls the transaction back. COMMIT has not begun, so nothing
    /// was done.
    fn or_undo<T>(&self, result: rusqlite::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| {
            self.undo();
            Failure::before_commit(error)
        })
    }

    /// Whether the transaction is over, with nothing done.
    fn undo(&self) -> bool {
        // SQLite undoes some transactions by itself when they fail.
        self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok()
    }

    fn commit(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let committed = self.connection.execute_batch("COMMIT");
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.counts.syncs.add(micros);
        committed.map_err(|error| {
            let undone = self.undo();
            let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
            Failure {
                error,
                unknown: !(full && undone),
            }
        })
    }

    fn sweep(&mut self) -> Result<(), Failure> {
        self.swept = Instant::now();
        self.sweep_more = false;
        let shared = Arc::clone(&self.shared);
        let (keeping, now) = (shared.keeping_mut().told(&mut self.walk), shared.time.now());
        let unswept = std::mem::take(&mut self.unswept);
        let batch = unswept
            .saturating_mul(SWEPT_PER_COMMIT)
            .clamp(sweep::BATCH, sweep::MAX_BATCH);
        self.begin()?;
        let walk = &mut self.walk;
        let swept = sweep::sweep(&self.connection, &shared.memtable, &keeping, now, batch, walk);
        let swept = self.or_undo(swept)?;
        self.remove(&swept.records)?;
        shared.counts.swept.add(swept.rows);
        self.sweep_more = swept.more;
        Ok(())
    }

    /// Removes entries, in their order, as a commit of a group would, and ends the open transaction.
    fn remove(&mut self, keys: &[String]) -> Result<(), Failure> {
        if keys.is_empty() {
            return self.commit();
        }
        let shared = Arc::clone(&self.shared);
        let changes: Vec<Change<'_>> = keys.iter().map(|key| (key.as_str(), None)).collect();
        group::announce(&changes, &shared.cache);
        let revision = self.revision + 1;
        let written = group::write_changes(
            &changes,
            &self.connection,
            &shared.memtable,
            revision,
            shared.time.now(),
        );
        let written = self
            .or_undo(written)
            .and_then(|flushed| self.commit().map(|()| flushed));
        let flushed = written.inspect_err(|failure| {
            if !failure.unknown {
                shared.cache.retract();
            }
        })?;
        self.revision = revision;
        let mut shown = shared.shown.change();
        shared
            .memtable
            .insert(keys.iter().map(|key| (key.as_str(), None)), revision);
        self.forget(flushed);
        shared.memtable.begin_flush(false);
        for key in keys {
            shared.cache.publish(key.clone(), None, false);
        }
        *shown = revision;
        Ok(())
    }

    /// Flushes some of the memtable, while nothing else is to do; all of it, where a part has no room beside its journal.
    fn flush_some(&mut self) -> Result<(), Failure> {
        if !self.shared.memtable.begin_flush(true) {
            return Ok(());
        }
        match self.flush_slice() {
            Ok(flushed) => self.forget(flushed),
            Err(failure) if failure.is_full() => self.flush_all()?,
            Err(failure) => return Err(failure),
        }
        self.sweep_more |= !self.shared.memtable.is_empty();
        Ok(())
    }

    fn flush_slice(&self) -> Result<Option<Flushed>, Failure> {
        let (memtable, now) = (&self.shared.memtable, self.shared.time.now());
        self.begin()?;
        let slice = journal::flush(&self.connection, memtable, FLUSHED_AT_ONCE, now);
        let flushed = self.or_undo(slice)?;
        self.commit()?;
        Ok(flushed)
    }
}

/// The error after a commit of another program. Memory is older than the database now, and could admit claims
/// on stock that is gone.
fn foreign(ours: u64, found: u64) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
    let told = format!("another program has written to it (revision {found}, not {ours}): stop that program");
    rusqlite::Error::SqliteFailure(code, Some(told))
}

/// Closes the queue and answers all callers that wait in it.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        let mut post = Post::default();
        for job in self.0.queue.abandon() {
            if let Some(reply) = job.reply {
                post.answer(reply, Err(self.0.closed()));
            }
        }
        post.deliver();
    }
}
