//! The commits that wait for the writer. Bounded by count and bytes; there is no timer for a commit that somebody
//! waits for: a group is whatever arrived while the disk was busy with the one before.
//!
//! Deferred changes are another matter: nobody waits for them, and a thousand clicks on one link are one addition. They
//! are combined by key in memory, and go with the next group, or alone after [`DEFER_PATIENCE`], so that clicks alone
//! cost ten syncs a second and no more.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::deferred::Deferred;
use crate::job::{Job, Refused};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long a deferred change may wait for company.
pub const DEFER_PATIENCE: Duration = Duration::from_millis(100);

/// Deferred commits may fill this part of the queue; the rest is for commits that somebody waits for.
const SUBMITTED_SHARE: usize = 2;
/// The most bytes of commits in one group (one commit may exceed it).
const GROUP_BYTES: usize = 8 << 20;

/// The next work of the writer.
#[derive(Debug)]
pub enum Next {
    /// Write these together.
    Group(Vec<Job>),
    /// Nothing arrived for a while.
    Idle,
    /// Nothing will arrive any more.
    Closed,
}

/// Commits that wait for the writer, and deferred changes.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    max_jobs: usize,
    max_bytes: usize,
    max_group: usize,
    /// [`DEFER_PATIENCE`]; a test makes it longer than itself.
    defer_patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    deferred: Deferred,
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
            defer_patience: DEFER_PATIENCE,
        }
    }

    /// Adds a job.
    pub fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.state();
        let (refused, wake) = self.add(&mut state, job);
        self.wake(state, wake);
        refused.map_or(Ok(()), |(refused, _)| Err(refused))
    }

    /// Adds jobs in their order, and gives back those from the first on that was not taken.
    pub fn push_all(&self, jobs: Vec<Job>) -> Result<(), (Refused, Vec<Job>)> {
        let mut state = self.state();
        let mut jobs = jobs.into_iter();
        let mut wake = false;
        while let Some(job) = jobs.next() {
            let (refused, woken) = self.add(&mut state, job);
            wake |= woken;
            if let Some((refused, job)) = refused {
                self.wake(state, wake);
                return Err((refused, std::iter::once(job).chain(jobs).collect()));
            }
        }
        self.wake(state, wake);
        Ok(())
    }

    /// Gives back a job that is not taken, and says whether the writer must know.
    fn add(&self, state: &mut State, job: Job) -> (Option<(Refused, Job)>, bool) {
        let share = if job.reply.is_some() { 1 } else { SUBMITTED_SHARE };
        if state.closed {
            return (Some((Refused::Closed, job)), false);
        }
        let bytes = state.bytes + state.deferred.bytes() + job.bytes;
        let jobs = state.jobs.len() + state.deferred.len();
        if jobs >= self.max_jobs / share || bytes > self.max_bytes / share {
            return (Some((Refused::Full, job)), false);
        }
        let first = state.deferred.is_empty();
        match state.deferred.combine(job) {
            // The first one starts the clock; the writer must know.
            Ok(()) => (None, first),
            Err(job) => {
                state.bytes += job.bytes;
                state.jobs.push_back(job);
                (None, true)
            }
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, wake: bool) {
        if wake && state.writer_waits {
            state.writer_waits = false;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Takes a group, waiting up to `patience` for the first job. A closed queue is emptied first.
    pub fn take(&self, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while state.jobs.is_empty() && !state.closed {
            let patience = until.saturating_duration_since(Instant::now());
            let patience = state
                .deferred
                .left(self.defer_patience)
                .map_or(patience, |deferred| deferred.min(patience));
            if patience.is_zero() {
                break;
            }
            state.writer_waits = true;
            let waited = self.arrived.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.writer_waits = false;
        }
        let left = state.deferred.left(self.defer_patience);
        let due = state.closed || left.is_some_and(|left| left.is_zero());
        if state.jobs.is_empty() && (!due || state.deferred.is_empty()) {
            return if state.closed { Next::Closed } else { Next::Idle };
        }
        let mut group = state.deferred.take();
        group.reserve(state.jobs.len().min(self.max_group));
        let limit = group.len() + self.max_group;
        let mut bytes = 0;
        while group.len() < limit
            && let Some(job) = state.jobs.front()
            && (bytes == 0 || bytes + job.bytes <= GROUP_BYTES)
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
        let state = self.state();
        state.jobs.len() + state.deferred.len()
    }

    /// Whether it takes no more jobs.
    pub fn is_closed(&self) -> bool {
        self.state().closed
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
        let mut jobs = state.deferred.take();
        jobs.extend(std::mem::take(&mut state.jobs));
        jobs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
use crate::job::Asked;
#[cfg(test)]
use tollgate_store::commit::{Commit, Mutation};

/// A deferred commit that counts one more.
#[cfg(test)]
fn click(key: &str, bytes: usize) -> Job {
    let commit = Commit {
        mutations: vec![Mutation::Add {
            key: key.to_owned(),
            delta: 1,
            min: None,
            max: None,
        }],
        ..Commit::default()
    };
    Job {
        asked: Asked::Commit(Box::new(commit)),
        bytes,
        reply: None,
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod interleavings;

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tollgate_store::commit::StoreError;
    use tollgate_store::packed;

    use super::*;
    use crate::reply::Reply;

    fn job(bytes: usize, waits: bool) -> Job {
        Job {
            asked: Asked::Commit(Box::default()),
            bytes,
            reply: waits.then(|| Reply::Alone(oneshot::channel().0)),
        }
    }

    /// A deferred commit that cannot be combined with others.
    fn event(bytes: usize) -> Job {
        let append = tollgate_store::commit::Append {
            topic: "t".into(),
            id: "i".into(),
            key: "k".into(),
            kind: "e".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: Vec::new(),
        };
        Job {
            asked: Asked::Commit(Box::new(Commit {
                appends: vec![append],
                ..Commit::default()
            })),
            ..job(bytes, false)
        }
    }

    #[test]
    fn deferred_changes_to_one_key_are_one_change_and_go_with_the_next_group() {
        let mut queue = Queue::new(100, 1_000, 10);
        queue.defer_patience = Duration::MAX;
        for _ in 0..5_000 {
            assert!(queue.push(click("visits/a", 10)).is_ok());
        }
        assert!(queue.push(click("visits/b", 10)).is_ok());
        assert_eq!(taken(&queue), 0, "they wait for company");
        assert!(queue.push(job(1, true)).is_ok());
        let Next::Group(group) = queue.take(Duration::ZERO) else {
            panic!("a group was due")
        };
        let mut deltas: Vec<(String, i64)> = group
            .into_iter()
            .flat_map(|job| job.asked.commit().unwrap().mutations)
            .map(|change| match change {
                Mutation::Add { key, delta, .. } => (key, delta),
                other => panic!("{other:?}"),
            })
            .collect();
        deltas.sort_unstable();
        assert_eq!(
            deltas,
            [("visits/a".to_owned(), 5_000), ("visits/b".to_owned(), 1)]
        );
        assert_eq!(taken(&queue), 0);
    }

    #[test]
    fn submitted_changes_do_not_wait_for_company_for_ever() {
        let queue = Queue::new(100, 1_000, 10);
        assert!(queue.push(click("visits/a", 10)).is_ok());
        assert!(matches!(queue.take(DEFER_PATIENCE * 50), Next::Group(_)));
    }

    #[test]
    fn submitted_changes_are_written_before_a_closed_queue_ends() {
        let queue = Queue::new(100, 1_000, 10);
        assert!(queue.push(click("visits/a", 10)).is_ok());
        queue.close();
        assert_eq!(taken(&queue), 1);
        assert!(matches!(queue.take(Duration::ZERO), Next::Closed));
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
        assert!(queue.push(event(1)).is_ok() && queue.push(event(1)).is_ok());
        assert!(matches!(queue.push(event(1)), Err(Refused::Full)));
        assert!(queue.push(job(1, true)).is_ok() && queue.push(job(1, true)).is_ok());
        assert!(matches!(queue.push(job(1, true)), Err(Refused::Full)));
        assert_eq!(taken(&queue), 4);
        assert!(matches!(queue.push(job(101, true)), Err(Refused::Full)));
        assert!(queue.push(job(100, true)).is_ok());
    }

    #[test]
    fn those_that_come_together_are_taken_as_far_as_there_is_room() {
        let queue = Queue::new(3, 100, 1_024);
        let jobs = (1..=5).map(|bytes| job(bytes, true)).collect();
        let Err((Refused::Full, left)) = queue.push_all(jobs) else {
            panic!("there is room for three")
        };
        assert_eq!(left.iter().map(|job| job.bytes).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(taken(&queue), 3);
        assert!(queue.push_all(left).is_ok());
        queue.close();
        assert_eq!(taken(&queue), 2);
        assert!(
            matches!(queue.push_all(vec![job(1, true)]), Err((Refused::Closed, left)) if left.len() == 1)
        );
    }

    #[test]
    fn what_comes_packed_is_held_to_the_same_rules() {
        let commit = |key: &str| Commit {
            partition: "p".into(),
            mutations: vec![Mutation::Delete { key: key.into() }],
            ..Commit::default()
        };
        let good = packed::pack(&commit("k"), packed::COMMIT_BYTES);
        assert_eq!(Asked::Packed(good.clone()).commit(), Ok(commit("k")));
        let invalid = |packed| matches!(Asked::Packed(packed).commit(), Err(StoreError::Invalid(_)));
        assert!(invalid(good[1..].to_vec()));
        assert!(
            invalid(packed::pack(&commit(""), packed::COMMIT_BYTES)),
            "no key is empty"
        );
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
