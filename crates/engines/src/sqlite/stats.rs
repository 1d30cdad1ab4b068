//! The counters of the store.

use super::cache::Cache;
use super::memtable::Memtable;
use crate::stats::{Buckets, Count, GROUP_COMMITS, SYNC_MICROS, Stats};

/// The counters behind [`Stats`].
#[derive(Debug)]
#[allow(missing_docs, reason = "the same as in Stats")]
pub struct Counts {
    pub commits: Count,
    pub groups: Count,
    pub failed: Count,
    pub group_commits: Buckets<{ GROUP_COMMITS.len() }>,
    pub syncs: Buckets<{ SYNC_MICROS.len() }>,
    pub overflowed: Count,
    pub dropped: Count,
    pub cache_hits: Count,
    pub cache_misses: Count,
    pub swept: Count,
    pub checkpoints: Count,
    pub flushed: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let count = Count::default;
        Self {
            commits: count(),
            groups: count(),
            failed: count(),
            group_commits: Buckets::new(GROUP_COMMITS),
            syncs: Buckets::new(SYNC_MICROS),
            overflowed: count(),
            dropped: count(),
            cache_hits: count(),
            cache_misses: count(),
            swept: count(),
            checkpoints: count(),
            flushed: count(),
        }
    }
}

impl Counts {
    /// All of them at about the same time.
    pub fn read(&self, queued: usize, cache: &Cache, memtable: &Memtable) -> Stats {
        Stats {
            failed: self.failed.get(),
            group_commits: self.group_commits.get(),
            syncs: self.syncs.get(),
            cached: cache.room(),
            commits: self.commits.get(),
            groups: self.groups.get(),
            queued: queued as u64,
            overflowed: self.overflowed.get(),
            dropped: self.dropped.get(),
            cache_hits: self.cache_hits.get(),
            cache_misses: self.cache_misses.get(),
            swept: self.swept.get(),
            checkpoints: self.checkpoints.get(),
            journaled: memtable.room(),
            flushed: self.flushed.get(),
            filters: memtable.filter().is_complete(),
            ..Stats::default()
        }
    }
}
