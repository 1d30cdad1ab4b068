//! Token buckets in memory, of a clock that is set from outside: for tests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::bucket::{Bucket, Level, State, TakeError, take_all};
use crate::ports::Buckets;

/// Buckets by key, and the time in nanoseconds. Not bounded.
#[derive(Debug, Default)]
pub struct InMemoryBuckets(Mutex<(HashMap<String, State>, u64)>);

impl InMemoryBuckets {
    /// Sets the clock, nanoseconds.
    pub fn set_now(&self, now: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = now;
    }
}

impl Buckets for InMemoryBuckets {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let (all, now) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = buckets.iter().map(|bucket| all.get(&bucket.key).copied());
        let mut states: Vec<_> = known.collect();
        let levels = take_all(&mut states, &buckets, *now)?;
        let keys = buckets.into_iter().map(|bucket| bucket.key);
        all.extend(keys.zip(states.into_iter().flatten()));
        Ok(levels)
    }
}
