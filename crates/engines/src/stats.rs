//! The counters of engines.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start, and the queue's length now. For metrics. Counters that an engine does not have
/// stay zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits decided, whatever the outcome; deferred ones too.
    pub commits: u64,
    /// Groups written to disk.
    pub groups: u64,
    /// Groups that were not written.
    pub failed: u64,
    /// Of the groups, by [`GROUP_COMMITS`], how many commits they had.
    pub group_commits: Observed<{ GROUP_COMMITS.len() }>,
    /// By [`SYNC_MICROS`], how long each COMMIT took, microseconds: mostly the disk's time.
    pub syncs: Observed<{ SYNC_MICROS.len() }>,
    /// Commits that wait for the disk now.
    pub queued: u64,
    /// Commits refused since the queue was full.
    pub overflowed: u64,
    /// Deferred commits that were dropped: invalid, not applicable, the queue or the disk was full, or the sync failed.
    pub dropped: u64,
    /// Entries that the cache or the memtable answered for, absent ones too.
    pub cache_hits: u64,
    /// Entries that were read from the database.
    pub cache_misses: u64,
    /// Entries in the read cache now, and the bytes they take, roughly.
    pub cached: Room,
    /// Expired entries and ids, and messages past their retention, that were removed.
    pub swept: u64,
    /// Checkpoints of the write-ahead log.
    pub checkpoints: u64,
    /// Entries in the journal now, not in their table yet, and the bytes they take in memory, roughly.
    pub journaled: Room,
    /// Entries that were flushed from the journal into their table.
    pub flushed: u64,
    /// Groups that were tried again: another gateway was faster, or a connection was lost.
    pub retries: u64,
    /// Lost answers to COMMIT of which it was learned what had become of them.
    pub resolved: u64,
    /// Entries in memory that were compared with the database.
    pub revalidated: u64,
    /// Locks that commits share out; 0 where there is one writer only.
    pub lanes: u64,
    /// Whether the filter of keys is in use: it has all that the database held when the store was opened.
    pub filters: bool,
}

/// Upper bounds of the commits of a group; the last is beyond all.
pub const GROUP_COMMITS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, u64::MAX];
/// Upper bounds of the time of a COMMIT, microseconds; the last is beyond all.
pub const SYNC_MICROS: [u64; 13] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    u64::MAX,
];

/// What was observed, by upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<const N: usize> {
    /// How many were within each bound, and not within the one before.
    pub counts: [u64; N],
    /// Of all.
    pub sum: u64,
}

impl<const N: usize> Default for Observed<N> {
    fn default() -> Self {
        Self {
            counts: [0; N],
            sum: 0,
        }
    }
}

/// What entries take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// How many there are.
    pub entries: u64,
    /// Bytes of memory, roughly.
    pub bytes: u64,
}

/// Counts by upper bounds, the last of which is beyond all.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    bounds: [u64; N],
    counts: [Count; N],
    sum: Count,
}

impl<const N: usize> Buckets<N> {
    /// None yet, by these bounds.
    pub fn new(bounds: [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Count::default()),
            sum: Count::default(),
        }
    }

    /// One of this size.
    pub fn add(&self, size: u64) {
        let both = self.bounds.iter().zip(&self.counts);
        if let Some((_, count)) = both.into_iter().find(|(bound, _)| size <= **bound) {
            count.add(1);
            self.sum.add(size);
        }
    }

    /// What was observed so far.
    pub fn get(&self) -> Observed<N> {
        Observed {
            counts: self.counts.each_ref().map(Count::get),
            sum: self.sum.get(),
        }
    }
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
