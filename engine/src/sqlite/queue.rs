//! The commits that wait for the writer. Bounded by count and bytes; there is no timer: a group is whatever arrived
//! while the disk was busy with the one before.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_core::commit::{Commit, Outcome, StoreError};

/// Submitted commits may fill this part of the queue; the rest is for commits that somebody waits for.
const SUBMITTED_SHARE: usize = 2;
/// The most bytes of commits in one group (one commit may exceed it).
const GROUP_BYTES: usize = 8 << 20;

/// A commit on its way to the writer.
#[derive(Debug)]
pub struct Job {
    /// Has been validated.
    pub commit: Commit,
    /// Its size.
    pub bytes: usize,
    /// Who waits for the outcome; nobody if it was submitted.
    pub reply: Option<oneshot::Sender<Result<Outcome, StoreError>>>,
}

/// What the writer is to do next.
#[derive(Debug)]
pub enum Next {
    /// Write these together.
    Group(Vec<Job>),
    /// Nothing arrived for a while.
    Idle,
    /// Nothing will arrive any more.
    Closed,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It holds all it may.
    Full,
    /// The store is closing, or has failed.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    max_jobs: usize,
    max_bytes: usize,
    max_group: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
    writer_waits: bool,
}

impl Queue {
    /// An open queue.
    pub fn new(max_jobs: usize, max_bytes: usize, max_group: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            max_jobs,
            max_bytes,
            max_group: max_group.max(1),
        }
    }

    /// Adds a job.
    pub fn push(&self, job: Job) -> Result<(), Refused> {
        let share = if job.reply.is_some() { 1 } else { SUBMITTED_SHARE };
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let bytes = state.bytes + job.bytes;
        if state.jobs.len() >= self.max_jobs / share || bytes > self.max_bytes / share {
            return Err(Refused::Full);
        }
        state.bytes = bytes;
        state.jobs.push_back(job);
        if state.writer_waits {
            state.writer_waits = false;
            drop(state);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes a group, waiting up to `patience` for the first job. A closed queue is emptied first.
    pub fn take(&self, patience: Duration) -> Next {
        let mut state = self.state();
        if state.jobs.is_empty() && !state.closed {
            state.writer_waits = true;
            let waited = self
                .arrived
                .wait_timeout_while(state, patience, |s| s.jobs.is_empty() && !s.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.writer_waits = false;
        }
        if state.jobs.is_empty() {
            return if state.closed { Next::Closed } else { Next::Idle };
        }
        let mut group = Vec::with_capacity(state.jobs.len().min(self.max_group));
        let mut bytes = 0;
        while group.len() < self.max_group
            && let Some(job) = state.jobs.front()
            && (group.is_empty() || bytes + job.bytes <= GROUP_BYTES)
            && let Some(job) = state.jobs.pop_front()
        {
            bytes += job.bytes;
            group.push(job);
        }
        state.bytes -= bytes;
        Next::Group(group)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().jobs.len()
    }

    /// Takes no more jobs; those that wait are still taken out.
    pub fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_all();
    }

    /// Takes no more jobs, and gives those that wait back.
    pub fn abandon(&self) -> Vec<Job> {
        let mut state = self.state();
        state.closed = true;
        state.bytes = 0;
        std::mem::take(&mut state.jobs).into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize, waits: bool) -> Job {
        Job {
            commit: Commit::default(),
            bytes,
            reply: waits.then(|| oneshot::channel().0),
        }
    }

    fn taken(queue: &Queue) -> usize {
        match queue.take(Duration::ZERO) {
            Next::Group(jobs) => jobs.len(),
            Next::Idle | Next::Closed => 0,
        }
    }

    #[test]
    fn it_is_bounded_by_count_and_bytes_and_keeps_room_for_those_who_wait() {
        let queue = Queue::new(4, 100, 1_024);
        assert!(queue.push(job(1, false)).is_ok() && queue.push(job(1, false)).is_ok());
        assert!(matches!(queue.push(job(1, false)), Err(Refused::Full)));
        assert!(queue.push(job(1, true)).is_ok() && queue.push(job(1, true)).is_ok());
        assert!(matches!(queue.push(job(1, true)), Err(Refused::Full)));
        assert_eq!(taken(&queue), 4);
        assert!(matches!(queue.push(job(101, true)), Err(Refused::Full)));
        assert!(queue.push(job(100, true)).is_ok());
    }

    #[test]
    fn a_group_is_bounded_by_count_and_bytes() {
        let queue = Queue::new(100, usize::MAX, 3);
        for bytes in [1, 1, 1, GROUP_BYTES + 1, 1, GROUP_BYTES] {
            assert!(queue.push(job(bytes, true)).is_ok());
        }
        assert_eq!(
            [taken(&queue), taken(&queue), taken(&queue), taken(&queue)],
            [3, 1, 1, 1]
        );
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new(10, 100, 10);
        assert!(queue.push(job(1, true)).is_ok());
        queue.close();
        assert!(matches!(queue.push(job(1, true)), Err(Refused::Closed)));
        assert_eq!(taken(&queue), 1);
        assert!(matches!(queue.take(Duration::ZERO), Next::Closed));
    }
}
