//! Deferred changes that wait for the next group, combined by key: a thousand clicks on one link are one addition.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tollgate_store::commit::{Commit, MAX_STEPS, Mutation};

use crate::job::{Asked, Job};

/// Deferred changes, combined by key.
#[derive(Debug, Default)]
pub struct Deferred {
    changes: HashMap<String, Mutation>,
    bytes: usize,
    since: Option<Instant>,
}

impl Deferred {
    /// Takes the changes of a commit, or gives the commit back where they cannot be combined with what is there.
    pub fn combine(&mut self, job: Job) -> Result<(), Job> {
        let Job {
            asked: Asked::Commit(commit),
            bytes,
            reply: None,
        } = job
        else {
            return Err(job);
        };
        let plain = commit.appends.is_empty() && commit.conditions.is_empty();
        let combines = |new: &Mutation| match self.changes.get(new.key()) {
            None | Some(Mutation::Add { .. }) => true,
            Some(Mutation::Set { .. } | Mutation::Delete { .. }) => !matches!(new, Mutation::Add { .. }),
        };
        if !plain || !commit.mutations.iter().all(combines) {
            let asked = Asked::Commit(commit);
            let reply = None;
            return Err(Job { asked, bytes, reply });
        }
        self.since.get_or_insert_with(Instant::now);
        for new in commit.mutations {
            match (self.changes.get_mut(new.key()), &new) {
                (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => {
                    *delta = delta.saturating_add(*more);
                }
                (Some(there), _) => *there = new,
                (None, _) => {
                    self.bytes += bytes;
                    self.changes.insert(new.key().to_owned(), new);
                }
            }
        }
        Ok(())
    }

    /// All of it as commits, for the front of a group.
    pub fn take(&mut self) -> Vec<Job> {
        self.since = None;
        self.bytes = 0;
        let mut changes = self.changes.drain();
        let mut jobs = Vec::new();
        loop {
            let mutations: Vec<Mutation> = changes
                .by_ref()
                .take(MAX_STEPS)
                .map(|(_, change)| change)
                .collect();
            if mutations.is_empty() {
                return jobs;
            }
            let commit = Commit {
                partition: "submitted".to_owned(),
                mutations,
                ..Commit::default()
            };
            jobs.push(Job {
                asked: Asked::Commit(commit.into()),
                bytes: 0,
                reply: None,
            });
        }
    }

    /// How many keys they change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// How much longer they may wait, of `patience` in all; nothing if there are none.
    pub fn left(&self, patience: Duration) -> Option<Duration> {
        self.since.map(|since| patience.saturating_sub(since.elapsed()))
    }
}
