//! The counters of engines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters since the start, and the queue's length now. For metrics. Counters that an engine does not have
/// stay zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits decided, whatever the outcome; submitted ones too.
    pub commits: u64,
    /// Groups written to disk.
    pub groups: u64,
    /// The time spent in COMMIT: mostly the disk's.
    pub sync_time: Duration,
    /// Commits that wait for the disk now.
    pub queued: u64,
    /// Commits refused since the queue was full.
    pub overflowed: u64,
    /// Submitted commits that were dropped: invalid, not applicable, the queue or the disk was full, or the sync failed.
    pub dropped: u64,
    /// Entries that the cache or the memtable answered for, absent ones too.
    pub cache_hits: u64,
    /// Entries that were read from the database.
    pub cache_misses: u64,
    /// Expired entries and ids, and messages past their retention, that were removed.
    pub swept: u64,
    /// Checkpoints of the write-ahead log.
    pub checkpoints: u64,
    /// Entries in the journal now, not in their table yet.
    pub journaled: u64,
    /// Entries that were flushed from the journal into their table.
    pub flushed: u64,
    /// Whether the filter of keys is in use: it has all that the database held when the store was opened.
    pub filters: bool,
}

/// A count that many threads raise. Relaxed: nothing is ordered by it.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Raises it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
