//! The counters of the store.

use std::time::Duration;

use super::memtable::Memtable;
use crate::stats::{Count, Stats};

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the same as in Stats")]
pub struct Counts {
    pub commits: Count,
    pub groups: Count,
    pub sync_micros: Count,
    pub overflowed: Count,
    pub dropped: Count,
    pub cache_hits: Count,
    pub cache_misses: Count,
    pub swept: Count,
    pub checkpoints: Count,
    pub flushed: Count,
}

impl Counts {
    /// All of them at about the same time.
    pub fn read(&self, queued: usize, memtable: &Memtable) -> Stats {
        Stats {
            commits: self.commits.get(),
            groups: self.groups.get(),
            sync_time: Duration::from_micros(self.sync_micros.get()),
            queued: queued as u64,
            overflowed: self.overflowed.get(),
            dropped: self.dropped.get(),
            cache_hits: self.cache_hits.get(),
            cache_misses: self.cache_misses.get(),
            swept: self.swept.get(),
            checkpoints: self.checkpoints.get(),
            journaled: memtable.len() as u64,
            flushed: self.flushed.get(),
            filters: memtable.filter().is_complete(),
        }
    }
}
