//! What requests defer, combined where it arose, as in a thread of the host, and who is still to defer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use tollgate_store::commit::Commit;
use tollgate_store::plan::coalescer::{Coalescer, Note};

use crate::world::Sim;

/// How long a deferred change may be combined where it arose before that, as in a thread's rules, microseconds.
pub const FLUSH: u64 = 20_000;

/// What was deferred and not handed on yet, and requests that may be redirects.
#[derive(Default)]
pub struct Front {
    near: RefCell<Coalescer>,
    /// Whether somebody will hand it on.
    flushing: Cell<bool>,
    visits: RefCell<BTreeSet<u64>>,
    next_visit: Cell<u64>,
}

impl Front {
    /// A request that may be a redirect comes in; see [`Front::leave`].
    pub fn enter(&self) -> u64 {
        let number = self.next_visit.replace(self.next_visit.get() + 1);
        self.visits.borrow_mut().insert(number);
        number
    }

    /// It was answered.
    pub fn leave(&self, number: u64) {
        self.visits.borrow_mut().remove(&number);
    }

    /// Combines; gives what is to be handed on at once, and whether somebody is to call [`Front::flush`] soon.
    pub fn add(&self, commit: Commit, mark: Option<u64>, note: Option<Note>) -> (Vec<Commit>, bool) {
        let handed_on = self.near.borrow_mut().add(commit, mark, note);
        (handed_on, !self.flushing.replace(true))
    }

    /// Combines the same once more, if it is remembered.
    pub fn again(&self, sim: &Sim, partition: &str, mark: u64) -> bool {
        let again = self.near.borrow_mut().again(partition, mark);
        if again {
            let code = partition.trim_start_matches("link/");
            sim.model.borrow_mut().clicked_again(code);
        }
        again
    }

    /// What was combined, to be handed on.
    pub fn take(&self) -> Vec<Commit> {
        self.near.take().take()
    }

    /// The same, for who was asked to.
    pub fn flush(&self) -> Vec<Commit> {
        self.flushing.set(false);
        self.take()
    }

    /// As the host does: redirects that are under way are seen off.
    pub async fn see_off(&self, sim: &Sim) {
        let next = self.next_visit.get();
        while self.visits.borrow().first().is_some_and(|first| *first < next) {
            sim.executor.sleep(200).await;
        }
    }
}
