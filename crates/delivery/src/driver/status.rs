//! How the subscriptions stand, for metrics and people.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::relay::Snapshot;

/// How one subscription stands. Counters begin with the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Of these, those that were acknowledged.
    pub delivered: u64,
    /// Those to which the receiver said that it wants no more.
    pub unwanted: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// The state machine.
    pub machine: Snapshot,
}

/// How the subscriptions of a relay stand, now and later; empty once it has ended.
#[derive(Clone, Debug)]
pub struct Statuses(pub(crate) Arc<Board>);

impl Statuses {
    /// All of them, by topic and name.
    pub fn all(&self) -> Vec<SubscriptionStatus> {
        self.0.all()
    }
}

/// The board of statuses, which the workers write and [`super::Relay::status`] reads.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: Mutex<BTreeMap<(String, String), SubscriptionStatus>>,
}

impl Board {
    pub fn set(&self, status: &SubscriptionStatus) {
        self.rows()
            .insert((status.topic.clone(), status.name.clone()), status.clone());
    }

    pub fn remove(&self, topic: &str, name: &str) {
        self.rows().remove(&(topic.to_owned(), name.to_owned()));
    }

    pub fn all(&self) -> Vec<SubscriptionStatus> {
        self.rows().values().cloned().collect()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<(String, String), SubscriptionStatus>> {
        // Rows are replaced whole: there is no half-written one.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
