//! Commits that wait for the writers of a gateway, after `crates/engines/src/postgres/queue.rs`: each writer's lanes are its own.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tollgate_store::commit::{Commit, MAX_STEPS, Mutation, Outcome, StoreError};
use tollgate_store::lane::lane;

use super::{Gateway, LANES, WRITERS, unavailable};
use crate::coverage::Seen;
use crate::executor::Parcel;

/// The most commits that wait. Small, so that it happens.
const QUEUE: usize = 12;
/// The most commits that somebody waits for in one group.
const GROUP: usize = 6;
/// How long a deferred change may wait for company, microseconds.
const DEFER_PATIENCE: u64 = 100_000;

/// Told when it is known what became of a commit.
pub type Reply = Rc<Parcel<Result<Outcome, StoreError>>>;

/// A commit in its lane; nobody waits for one that was deferred.
pub struct Waiting {
    pub commit: Commit,
    pub lane: u32,
    pub reply: Option<Reply>,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Waiting>,
    /// Deferred changes of each lane, combined by key, and since when they wait.
    deferred: BTreeMap<u32, (u64, BTreeMap<String, Mutation>)>,
}

/// A line for each writer.
#[derive(Default)]
pub struct Queue {
    lines: [Line; WRITERS],
}

fn commits_of(lane: u32, changes: BTreeMap<String, Mutation>) -> Vec<Waiting> {
    let mut changes = changes.into_values();
    let mut taken = Vec::new();
    loop {
        let mutations: Vec<Mutation> = changes.by_ref().take(MAX_STEPS).collect();
        if mutations.is_empty() {
            return taken;
        }
        let commit = Commit {
            partition: "submitted".into(),
            mutations,
            ..Commit::default()
        };
        taken.push(Waiting {
            commit,
            lane,
            reply: None,
        });
    }
}

impl Line {
    fn take_deferred(&mut self, is_meant: impl Fn(u32, u64) -> bool) -> Vec<Waiting> {
        let lanes = self
            .deferred
            .iter()
            .filter(|(lane, (since, _))| is_meant(**lane, *since));
        let lanes: Vec<u32> = lanes.map(|(lane, _)| *lane).collect();
        let deferred = lanes
            .into_iter()
            .filter_map(|lane| Some((lane, self.deferred.remove(&lane)?.1)));
        deferred
            .flat_map(|(lane, changes)| commits_of(lane, changes))
            .collect()
    }
}

impl Gateway {
    fn is_full(&self) -> bool {
        let queue = self.queue.borrow();
        let of =
            |line: &Line| line.jobs.len() + line.deferred.values().map(|(_, all)| all.len()).sum::<usize>();
        queue.lines.iter().map(of).sum::<usize>() >= QUEUE
    }

    /// Takes a commit for its writer.
    pub(super) fn push(&self, commit: Commit, reply: Option<Reply>) -> Result<(), StoreError> {
        if let Some(why) = &*self.away.borrow() {
            return Err(unavailable(why));
        }
        if self.is_full() {
            self.sim.saw(Seen::QueueFull);
            return Err(unavailable("too many commits are waiting for the database"));
        }
        let lane = lane(&commit.partition, LANES);
        let mut queue = self.queue.borrow_mut();
        let line = &mut queue.lines[lane as usize % WRITERS];
        if reply.is_some() {
            line.jobs.push_back(Waiting { commit, lane, reply });
        } else {
            let now = self.sim.executor.now();
            let (_, known) = line
                .deferred
                .entry(lane)
                .or_insert_with(|| (now, BTreeMap::new()));
            for new in commit.mutations {
                match (known.get_mut(new.key()), &new) {
                    (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => *delta += more,
                    _ => drop(known.insert(new.key().to_owned(), new)),
                }
            }
        }
        drop(queue);
        for writer in self.writers.take() {
            self.sim.executor.wake(writer);
        }
        Ok(())
    }

    /// The next group of a writer.
    pub(super) async fn take(&self, writer: usize) -> Vec<Waiting> {
        poll_fn(|_| {
            let mut queue = self.queue.borrow_mut();
            let line = &mut queue.lines[writer];
            let now = self.sim.executor.now();
            if line.jobs.is_empty() {
                let due = line.take_deferred(|_, since| now >= since + DEFER_PATIENCE);
                if !due.is_empty() {
                    return Poll::Ready(due);
                }
                if let Some(first) = line.deferred.values().map(|(since, _)| *since).min() {
                    self.sim.executor.wake_at(first + DEFER_PATIENCE);
                }
                self.writers.borrow_mut().push(self.sim.executor.current());
                return Poll::Pending;
            }
            let count = line.jobs.len().min(GROUP);
            let mut jobs: Vec<Waiting> = line.jobs.drain(..count).collect();
            let lanes: Vec<u32> = jobs.iter().map(|job| job.lane).collect();
            // What was deferred before a commit of its lane is decided before it.
            let mut group = line.take_deferred(|lane, _| lanes.contains(&lane));
            group.append(&mut jobs);
            Poll::Ready(group)
        })
        .await
    }

    /// The database does not answer, or does again. Nobody waits for one that does not.
    pub(super) fn set_away(&self, why: Option<&str>) {
        let was_away = self.is_away();
        if was_away {
            self.away_at.set(Some(self.sim.executor.now()));
        }
        *self.away.borrow_mut() = why.map(ToOwned::to_owned);
        let Some(why) = why else { return };
        if !was_away {
            self.sim.saw(Seen::Away);
            self.sim
                .note(|| format!("for gateway {} the database is away", self.place));
        }
        let mut jobs = Vec::new();
        for line in &mut self.queue.borrow_mut().lines {
            jobs.extend(line.take_deferred(|_, _| true));
            jobs.extend(line.jobs.drain(..));
        }
        self.answer(jobs.into_iter().map(|job| (job, Err(unavailable(why)))));
    }

    /// Tells those who wait.
    pub(super) fn answer(&self, outcomes: impl IntoIterator<Item = (Waiting, Result<Outcome, StoreError>)>) {
        for (job, outcome) in outcomes {
            match job.reply {
                Some(reply) => reply.send(&self.sim.executor, outcome),
                None if outcome.is_err() => {
                    self.sim.saw(Seen::ClicksDropped);
                    self.sim.model.borrow_mut().is_lossy = true;
                }
                None => {}
            }
        }
    }
}
