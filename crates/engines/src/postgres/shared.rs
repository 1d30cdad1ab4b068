//! What the threads of the gateway and the engine's own thread share, and what either does with it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tollgate_store::cache::{Cache, Moment};
use tollgate_store::commit::{Commit, Outcome, StoreError};
use tollgate_store::plan;
use tollgate_store::plan::group::Found;
use tollgate_store::retention::Keeping;

use super::connect::Address;
use super::flight::Written;
use super::queue::{self, Queue, Refused, Waiting};
use super::reads::Readers;
use crate::batcher::TakesJobs;
use crate::buckets::SharedLimits;
use crate::clock::system_clock;
use crate::job::Job;
use crate::reply::{Post, Reply};
use crate::stats::{Buckets, Count, GROUP_COMMITS, SYNC_MICROS};
use crate::tails::Tails;

/// What the threads of the gateway and the engine's own share.
pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) lanes: u32,
    pub(super) queue: Queue,
    pub(super) cache: Cache,
    pub(super) readers: Readers,
    pub(super) tails: Tails,
    pub(super) keeping: Mutex<Keeping>,
    /// See [`Engine::set_sweeps`].
    pub(super) sweeps: AtomicBool,
    pub(super) revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) began: Instant,
    pub(super) moments: AtomicU64,
    /// The database's clock less ours, milliseconds.
    pub(super) offset: AtomicI64,
    pub(super) latest: AtomicU64,
    pub(super) ahead: Arc<AtomicU64>,
    pub(super) limits: SharedLimits,
    pub(super) counts: Counts,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("database", &self.address.shown)
            .finish_non_exhaustive()
    }
}

/// What is counted for [`super::Engine::stats`].
pub(super) struct Counts {
    pub(super) commits: Count,
    pub(super) groups: Count,
    pub(super) failed: Count,
    pub(super) retries: Count,
    pub(super) resolved: Count,
    pub(super) revalidated: Count,
    pub(super) group_commits: Buckets<{ GROUP_COMMITS.len() }>,
    pub(super) syncs: Buckets<{ SYNC_MICROS.len() }>,
    pub(super) overflowed: Count,
    pub(super) dropped: Count,
    pub(super) hits: Count,
    pub(super) misses: Count,
    pub(super) swept: Count,
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
    pub(super) fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A state of the database that is asked for from now on.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            at: self.millis(),
            number: self.moments.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The store's time: the database's, as far as it is known.
    pub(super) fn now(&self) -> u64 {
        let offset = self.offset.load(Ordering::Relaxed);
        let wall = system_clock()
            .saturating_add_signed(offset)
            .saturating_add(self.ahead())
            .min(plan::MAX_STORED);
        self.latest.fetch_max(wall, Ordering::AcqRel).max(wall)
    }

    pub(super) fn saw_clock(&self, database: i64, asked: Instant) {
        let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(0);
        let ours = i64::try_from(system_clock()).unwrap_or(i64::MAX);
        self.offset.store(
            database.saturating_add(half).saturating_sub(ours),
            Ordering::Relaxed,
        );
    }

    /// The oldest state that memory may answer with.
    pub(super) fn oldest(&self) -> u64 {
        let bound = match self.queue.away() {
            None => self.revalidate,
            Some(_) => self.revalidate.max(self.stale_if_error),
        };
        self.millis()
            .saturating_sub(u64::try_from(bound.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn keeping(&self) -> Keeping {
        self.keeping_mut().clone()
    }

    pub(super) fn keeping_mut(&self) -> MutexGuard<'_, Keeping> {
        // No code that runs under the lock panics.
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what a group found and wrote to readers, and wakes those who wait for it.
    pub(super) fn show(&self, written: Written, moment: Moment) -> Vec<Result<Outcome, StoreError>> {
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

    pub(super) fn answer(&self, jobs: Vec<Waiting>, outcomes: Vec<Result<Outcome, StoreError>>) {
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

    pub(super) fn refused(&self, refused: Refused) -> StoreError {
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
    pub(super) fn set_away(&self, why: Option<String>) {
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

    pub(super) fn push(
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

    pub(super) fn living(&self, found: Vec<Found>) -> Vec<Found> {
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
