//! The commits that wait for the writers of this gateway: bounded, and each writer's lanes are its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tollgate_store::commit::Commit;
pub use tollgate_store::lane::lane;

use crate::deferred::Deferred;
use crate::job::{Asked, Job};
use crate::reply::Reply;

/// The most commits that become durable together.
pub const GROUP_COMMITS: usize = 256;
/// The most bytes of them (one commit may exceed it).
pub const GROUP_BYTES: usize = 4 << 20;
/// How long a deferred change may wait for company.
const DEFER_PATIENCE: Duration = Duration::from_millis(100);
/// Deferred commits may fill this part of the queue.
const DEFERRED_SHARE: usize = 2;

/// A commit in its lane.
#[derive(Debug)]
pub struct Waiting {
    /// The commit, valid.
    pub commit: Commit,
    /// Its lane.
    pub lane: u32,
    /// Its size.
    pub bytes: usize,
    /// The caller that waits; nobody if it was deferred.
    pub reply: Option<Reply>,
}

/// Why a commit was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue holds all it may.
    Full,
    /// The store is closing.
    Closed,
    /// The database does not answer.
    Away(String),
}

#[derive(Debug, Default)]
struct State {
    writers: Vec<Line>,
    jobs: usize,
    bytes: usize,
    closed: bool,
    away: Option<String>,
}

#[derive(Debug, Default)]
struct Line {
    jobs: VecDeque<Waiting>,
    deferred: BTreeMap<u32, Deferred>,
}

impl Line {
    fn is_due(&self) -> bool {
        self.deferred
            .values()
            .any(|d| d.left(DEFER_PATIENCE).is_some_and(|left| left.is_zero()))
    }

    fn due_in(&self) -> Option<Duration> {
        self.deferred
            .values()
            .filter_map(|d| d.left(DEFER_PATIENCE))
            .min()
    }

    /// The deferred changes of these lanes, or of all, as commits.
    fn take_deferred(&mut self, of: Option<&[u32]>) -> Vec<Waiting> {
        let lanes: Vec<u32> = self
            .deferred
            .keys()
            .copied()
            .filter(|lane| of.is_none_or(|of| of.contains(lane)))
            .collect();
        let mut taken = Vec::new();
        for lane in lanes {
            let Some(mut deferred) = self.deferred.remove(&lane) else {
                continue;
            };
            taken.extend(deferred.take().into_iter().filter_map(|job| {
                let commit = job.asked.commit().ok()?;
                Some(Waiting {
                    commit,
                    lane,
                    bytes: 0,
                    reply: None,
                })
            }));
        }
        taken
    }
}

/// Commits that wait for the writers.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Vec<Notify>,
    max_jobs: usize,
    max_bytes: usize,
}

impl Queue {
    /// An open queue for so many writers.
    pub fn new(writers: usize, max_jobs: usize, max_bytes: usize) -> Self {
        let writers = writers.max(1);
        Self {
            state: Mutex::new(State {
                writers: (0..writers).map(|_| Line::default()).collect(),
                ..State::default()
            }),
            arrived: (0..writers).map(|_| Notify::new()).collect(),
            max_jobs,
            max_bytes,
        }
    }

    /// Adds a commit.
    pub fn push(&self, job: Waiting) -> Result<(), (Refused, Option<Reply>)> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.closed {
            return Err((Refused::Closed, job.reply));
        }
        if let Some(why) = &state.away {
            return Err((Refused::Away(why.clone()), job.reply));
        }
        let share = if job.reply.is_some() { 1 } else { DEFERRED_SHARE };
        let deferred = state.writers.iter().flat_map(|line| line.deferred.values());
        let (jobs, bytes) = deferred.fold((state.jobs, state.bytes), |(jobs, bytes), d| {
            (jobs + d.len(), bytes + d.bytes())
        });
        if jobs >= self.max_jobs / share || bytes + job.bytes > self.max_bytes / share {
            return Err((Refused::Full, job.reply));
        }
        let writer = job.lane as usize % state.writers.len();
        let Waiting {
            commit,
            lane,
            bytes,
            reply,
        } = job;
        let commit = match reply {
            Some(_) => commit,
            None => {
                let asked = Asked::Commit(Box::new(commit));
                let deferred = state.writers[writer].deferred.entry(lane).or_default();
                let first = deferred.is_empty();
                match deferred.combine(Job {
                    asked,
                    bytes,
                    reply: None,
                }) {
                    Ok(()) => {
                        drop(guard);
                        if first {
                            self.arrived[writer].notify_one();
                        }
                        return Ok(());
                    }
                    Err(Job { asked, .. }) => match asked.commit() {
                        Ok(commit) => commit,
                        Err(_) => return Ok(()),
                    },
                }
            }
        };
        state.jobs += 1;
        state.bytes += bytes;
        state.writers[writer].jobs.push_back(Waiting {
            commit,
            lane,
            bytes,
            reply,
        });
        drop(guard);
        self.arrived[writer].notify_one();
        Ok(())
    }

    /// The next group of a writer; `None` once the queue is closed and empty. Safe to cancel.
    pub async fn take(&self, writer: usize) -> Option<Vec<Waiting>> {
        loop {
            let patience = {
                let mut guard = self.state();
                let state = &mut *guard;
                let line = &mut state.writers[writer];
                let due = state.closed || line.is_due();
                if !line.jobs.is_empty() || (due && !line.deferred.is_empty()) {
                    let mut jobs = Vec::new();
                    let mut bytes = 0;
                    while jobs.len() < GROUP_COMMITS
                        && let Some(job) = line.jobs.front()
                        && (bytes == 0 || bytes + job.bytes <= GROUP_BYTES)
                        && let Some(job) = line.jobs.pop_front()
                    {
                        bytes += job.bytes;
                        jobs.push(job);
                    }
                    state.jobs -= jobs.len();
                    state.bytes -= bytes;
                    let lanes: Vec<u32> = jobs.iter().map(|job| job.lane).collect();
                    // What was deferred before a commit of its lane is decided before it.
                    let mut group = line.take_deferred(if due { None } else { Some(&lanes) });
                    group.append(&mut jobs);
                    if !group.is_empty() {
                        return Some(group);
                    }
                }
                if state.closed && line.jobs.is_empty() {
                    return None;
                }
                line.due_in()
            };
            let arrived = self.arrived[writer].notified();
            match patience {
                Some(patience) => _ = tokio::time::timeout(patience, arrived).await,
                None => arrived.await,
            }
        }
    }

    /// From now on commits are refused for this reason; those that wait are given back. `None`: they are taken again.
    pub fn set_away(&self, why: Option<String>) -> Vec<Waiting> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.away = why;
        if state.away.is_none() {
            return Vec::new();
        }
        (state.jobs, state.bytes) = (0, 0);
        state
            .writers
            .iter_mut()
            .flat_map(|line| {
                let mut jobs = line.take_deferred(None);
                jobs.extend(line.jobs.drain(..));
                jobs
            })
            .collect()
    }

    /// Why the database does not answer, while it does not.
    pub fn away(&self) -> Option<String> {
        self.state().away.clone()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().jobs
    }

    /// Takes no more; those that wait are still taken out.
    pub fn close(&self) {
        self.state().closed = true;
        self.arrived.iter().for_each(Notify::notify_one);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_store::commit::Mutation;

    fn job(lane: u32, bytes: usize) -> Waiting {
        let reply = Some(Reply::Alone(tokio::sync::oneshot::channel().0));
        Waiting {
            commit: Commit::default(),
            lane,
            bytes,
            reply,
        }
    }

    fn click(lane: u32) -> Waiting {
        let add = Mutation::Add {
            key: "n".into(),
            delta: 1,
            min: None,
            max: None,
        };
        Waiting {
            commit: Commit {
                mutations: vec![add],
                ..Commit::default()
            },
            lane,
            bytes: 1,
            reply: None,
        }
    }

    #[tokio::test]
    async fn a_writer_gets_its_own_lanes_and_what_was_deferred_comes_first() {
        let queue = Queue::new(2, 100, 1_000);
        for _ in 0..10 {
            queue.push(click(2)).unwrap();
        }
        queue.push(job(2, 1)).unwrap();
        queue.push(job(3, 1)).unwrap();
        let group = queue.take(0).await.unwrap();
        assert_eq!(group.iter().map(|job| job.lane).collect::<Vec<_>>(), [2, 2]);
        assert!(group[0].reply.is_none() && group[1].reply.is_some());
        assert_eq!(queue.take(1).await.unwrap().len(), 1);
        queue.push(click(0)).unwrap();
        assert_eq!(queue.take(0).await.unwrap().len(), 1, "it does not wait for ever");
    }

    #[tokio::test]
    async fn it_is_bounded_and_emptied_before_it_ends() {
        let queue = Queue::new(1, 2, 100);
        queue.push(job(0, 60)).unwrap();
        assert!(matches!(queue.push(job(0, 60)), Err((Refused::Full, Some(_)))));
        queue.push(job(0, 1)).unwrap();
        assert!(matches!(queue.push(job(0, 1)), Err((Refused::Full, Some(_)))));
        queue.close();
        assert!(matches!(queue.push(job(0, 1)), Err((Refused::Closed, _))));
        assert_eq!(queue.take(0).await.unwrap().len(), 2);
        assert!(queue.take(0).await.is_none());
    }

    #[tokio::test]
    async fn while_the_database_is_away_nobody_waits() {
        let queue = Queue::new(1, 10, 100);
        queue.push(job(0, 1)).unwrap();
        assert_eq!(queue.set_away(Some("gone".into())).len(), 1);
        assert!(matches!(queue.push(job(0, 1)), Err((Refused::Away(_), _))));
        queue.set_away(None);
        queue.push(job(0, 1)).unwrap();
    }

    #[test]
    fn a_partition_has_the_same_lane_everywhere() {
        assert_eq!(
            [lane("campaign/a", 16), lane("", 16), lane("campaign/a", 1)],
            [lane("campaign/a", 16), lane("", 16), 0]
        );
    }
}
