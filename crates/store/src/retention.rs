//! How long topics are kept.

use std::collections::{BTreeMap, HashMap};

/// How long and how much of a topic is kept. Messages that a subscription still needs are kept in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds; for ever if missing.
    pub age_ms: Option<u64>,
    /// What messages may take, bytes ([`weight`](crate::commit::weight)); any number if missing.
    pub max_bytes: Option<u64>,
}

/// The retention of every topic, and what subscriptions still need.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// For topics that `retention` does not name; `None` keeps everything.
    pub default: Option<Retention>,
    /// Per topic.
    pub retention: BTreeMap<String, Retention>,
    /// Per topic, the oldest sequence that a subscription still needs.
    pub low_water: HashMap<String, u64>,
}

impl Keeping {
    /// The retention of a topic, and the sequence from which on its messages are needed; `None` keeps
    /// everything.
    pub fn of(&self, topic: &str) -> Option<(Retention, u64)> {
        let retention = self.retention.get(topic).copied().or(self.default);
        let retention = self.default.and(retention)?;
        Some((retention, self.low_water.get(topic).copied().unwrap_or(u64::MAX)))
    }
}
