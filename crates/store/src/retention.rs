//! How long topics are kept.

use std::collections::{BTreeMap, HashMap};

/// How long and how much of a topic is kept. Messages that a subscription still needs are kept unless `drop_beyond` says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds; for ever if missing.
    pub age_ms: Option<u64>,
    /// What messages may take, bytes ([`weight`](crate::commit::weight)); any number if missing.
    pub max_bytes: Option<u64>,
    /// What messages may take, bytes, before even those go that a subscription still needs; any number if missing.
    pub drop_beyond: Option<u64>,
}

impl Retention {
    /// Whether the oldest message goes: written at `time`, with `bytes` of all, the oldest included. `needed`: a subscription has not
    /// had it. Times are Unix milliseconds.
    pub fn lets_go(&self, needed: bool, time: u64, bytes: u64, now: u64) -> bool {
        if needed {
            return self.drop_beyond.is_some_and(|most| bytes > most);
        }
        let is_old = self.age_ms.is_some_and(|age| time <= now.saturating_sub(age));
        is_old || self.max_bytes.is_some_and(|max| bytes > max)
    }

    /// The sequence from which on no message goes, of a topic whose messages are needed from `low_water` on.
    pub fn end(&self, low_water: u64) -> u64 {
        match self.drop_beyond {
            Some(_) => u64::MAX,
            None => low_water,
        }
    }
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
