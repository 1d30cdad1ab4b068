//! Token buckets in memory: shared by all threads of one process, gone with it.
//!
//! A bucket is found by a 128-bit SipHash of its key under a seed of this process. The key itself is not
//! kept, so an idle client costs at most 128 bytes, however long its name. Two of a million live keys share a
//! bucket with a probability of about 2^-89, and without the seed nobody can look for two that do.
//!
//! The number of buckets is bounded. Full ones are dropped along the way, which changes nothing, since a
//! bucket that was never seen is full. When no bucket is full, the table looks at a few and evicts the one
//! that would be full first. So a client that is being refused stays refused, unless the buckets around it
//! are drained deeper than its own.

pub mod debts;
pub mod exact;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod shard;
mod shared;
pub(crate) mod telling;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use siphasher::sip128::SipHasher13;
use tollgate_store::bucket::{Bucket, Level, MAX_BUCKETS, State, TakeError, take_all, take_one};
use tollgate_store::ports::Buckets;

use crate::sync::plain::{Mutex, MutexGuard};
use shard::Shard;

pub use shared::{GatewayBuckets, SharedLimits, Together};

/// How many buckets are kept unless the caller says otherwise.
pub const DEFAULT_MAX_KEYS: usize = 1_000_000;
/// Parts of the table, each with a lock of its own. A power of two.
const SHARDS: usize = 64;

/// Nanoseconds since some fixed point; may be read by several threads at once.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The buckets of one process.
pub struct MemoryBuckets {
    shards: Vec<Padded>,
    seed: [u8; 16],
    clock: Clock,
}

/// A shard on cache lines of its own, so that a lock taken by one core does not slow down its neighbour's.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl MemoryBuckets {
    /// At most `max_keys` buckets (at least one in each of 64 shards), by the monotonic clock.
    pub fn new(max_keys: usize) -> Self {
        let base = Instant::now();
        // 2^64 nanoseconds are 584 years of running.
        Self::with_clock(max_keys, move || {
            u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
    }

    /// As [`MemoryBuckets::new`], by a clock that gives nanoseconds since a fixed point.
    pub fn with_clock(max_keys: usize, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let shard = || Padded(Mutex::new(Shard::new((max_keys / SHARDS).max(1))));
        // The standard library's hasher is seeded by the operating system.
        let random = || RandomState::new().hash_one(());
        let mut seed = [0; 16];
        for (to, from) in seed
            .iter_mut()
            .zip(random().to_le_bytes().into_iter().chain(random().to_le_bytes()))
        {
            *to = from;
        }
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            seed,
            clock: Box::new(clock),
        }
    }

    /// Takes every cost or none; see [`take_all`]. Never waits for anything but other takes.
    pub fn take_now(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        match buckets {
            [bucket] => Ok(vec![self.take_one_now(bucket)?]),
            several => self.take_several(several),
        }
    }

    /// The same of one bucket.
    pub fn take_one_now(&self, bucket: &Bucket) -> Result<Level, TakeError> {
        let id = self.id(&bucket.key);
        let mut shard = self.shard(id).lock();
        let now = (self.clock)();
        let mut state = shard.get(id);
        let level = take_one(&mut state, bucket, now)?;
        shard.put(id, state, now);
        Ok(level)
    }

    /// The bucket's level. Nothing is taken; `next_ns` is 0 where it has its cost.
    ///
    /// # Errors
    /// It is out of bounds.
    pub(crate) fn look_now(&self, bucket: &Bucket) -> Result<Level, TakeError> {
        let id = self.id(&bucket.key);
        let state = self.shard(id).lock().get(id);
        let now = (self.clock)();
        let (mut taken, mut same) = (state, state);
        match take_one(&mut taken, bucket, now) {
            Ok(_) => {
                let free = Bucket {
                    cost: 0,
                    ..bucket.clone()
                };
                take_one(&mut same, &free, now)
            }
            Err(TakeError::Refused { levels, .. }) => tollgate_store::ports::one_level(&levels),
            Err(error) => Err(error),
        }
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Whether no bucket is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap that the buckets take, their unused room included.
    pub fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().heap_bytes()).sum()
    }

    fn take_several(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        if buckets.len() > MAX_BUCKETS {
            return Err(TakeError::Invalid(format!(
                "more than {MAX_BUCKETS} buckets in one take"
            )));
        }
        let ids: Vec<u128> = buckets.iter().map(|bucket| self.id(&bucket.key)).collect();
        let mut order: Vec<usize> = ids.iter().map(|id| shard_of(*id)).collect();
        order.sort_unstable();
        order.dedup();
        // Always in the order of the shards: two takes can wait for each other, but not both at once.
        let mut guards: Vec<(usize, MutexGuard<'_, Shard>)> = order
            .iter()
            .filter_map(|&index| Some((index, self.shards.get(index)?.0.lock())))
            .collect();
        let now = (self.clock)();
        let find = |guards: &[(usize, MutexGuard<'_, Shard>)], id| {
            guards.iter().position(|(index, _)| *index == shard_of(id))
        };
        let mut states: Vec<Option<State>> = ids
            .iter()
            .map(|&id| {
                find(&guards, id)
                    .and_then(|at| guards.get(at))
                    .and_then(|(_, shard)| shard.get(id))
            })
            .collect();
        let levels = take_all(&mut states, buckets, now)?;
        for (id, state) in ids.into_iter().zip(states) {
            if let Some((_, shard)) = find(&guards, id).and_then(|at| guards.get_mut(at)) {
                shard.put(id, state, now);
            }
        }
        Ok(levels)
    }

    fn id(&self, key: &str) -> u128 {
        SipHasher13::new_with_key(&self.seed)
            .hash(key.as_bytes())
            .as_u128()
    }

    fn shard(&self, id: u128) -> &Mutex<Shard> {
        &self.shards[shard_of(id)].0
    }
}

impl Default for MemoryBuckets {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_KEYS)
    }
}

impl Buckets for MemoryBuckets {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        self.take_now(&buckets)
    }
}

/// By the upper bits: a shard's own table uses the lower 64.
fn shard_of(id: u128) -> usize {
    usize::try_from((id >> 64) % SHARDS as u128).unwrap_or(0)
}
