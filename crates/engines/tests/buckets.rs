//! The contract of the buckets, run against the engine in memory.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_contract::BucketsHarness;
use tollgate_engines::MemoryBuckets;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

/// More than any case uses.
const MAX_KEYS: usize = 100_000;
const NS_PER_MS: u64 = 1_000_000;

/// Buckets whose clock is moved by hand.
struct ByHand {
    buckets: MemoryBuckets,
    clock: Arc<AtomicU64>,
}

impl Deref for ByHand {
    type Target = MemoryBuckets;

    fn deref(&self) -> &MemoryBuckets {
        &self.buckets
    }
}

impl Buckets for ByHand {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.buckets.take_now(&buckets)
    }
}

struct Memory;

impl BucketsHarness for Memory {
    type Buckets = ByHand;

    async fn fresh(&self) -> ByHand {
        let clock = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&clock);
        ByHand {
            buckets: MemoryBuckets::with_clock(MAX_KEYS, move || read.load(Ordering::Relaxed)),
            clock,
        }
    }

    async fn pass(&self, buckets: &ByHand, ms: u64) {
        buckets.clock.fetch_add(ms * NS_PER_MS, Ordering::Relaxed);
    }
}

tollgate_contract::buckets_contract!(Memory, futures::executor::block_on);
