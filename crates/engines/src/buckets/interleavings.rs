//! The buckets under many schedules: takes of several shards at once neither wait for each other for ever nor take a
//! part, and admit what they must.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;

use shuttle::sync::Mutex as ModelMutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::*;
use crate::sync::explore;

const CAPACITY: u64 = 3;
const SECOND: u64 = 1_000_000_000;

fn bucket(key: &str) -> Bucket {
    Bucket {
        key: key.into(),
        capacity: CAPACITY,
        refill: 1,
        interval_ns: SECOND,
        cost: 1,
    }
}

#[test]
fn takes_of_several_buckets_are_whole_and_exact() {
    explore(|| {
        let buckets = Arc::new(MemoryBuckets::with_clock(1_000, || SECOND));
        let taken = Arc::new(ModelMutex::new([0_u64; 3]));
        let wants = [["a", "b"], ["b", "c"], ["c", "a"], ["b", "a"]];
        let takers = wants.map(|keys| {
            let (buckets, taken) = (Arc::clone(&buckets), Arc::clone(&taken));
            thread::spawn(move || {
                for _ in 0..2 {
                    if buckets.take_now(&keys.map(bucket)).is_ok() {
                        let mut taken = taken.lock().unwrap();
                        for key in keys {
                            taken[usize::from(key.as_bytes()[0] - b'a')] += 1;
                        }
                    }
                }
            })
        });
        for taker in takers {
            taker.join().unwrap();
        }
        let mut taken = *taken.lock().unwrap();
        assert!(taken.iter().all(|taken| *taken <= CAPACITY), "{taken:?}");
        // What is left can be taken, to the last one: a refusal took nothing.
        for (taken, key) in taken.iter_mut().zip(["a", "b", "c"]) {
            while buckets.take_now(&[bucket(key)]).is_ok() {
                *taken += 1;
            }
        }
        assert_eq!(taken, [CAPACITY; 3]);
    });
}

#[test]
fn a_clock_that_moves_meanwhile_refills_no_more_than_its_rate() {
    explore(|| {
        let clock = Arc::new(AtomicU64::new(SECOND));
        let own = Arc::clone(&clock);
        let buckets = Arc::new(MemoryBuckets::with_clock(64, move || own.load(Ordering::SeqCst)));
        let taken = Arc::new(AtomicU64::new(0));
        let takers = [0; 3].map(|_| {
            let (buckets, taken, clock) = (Arc::clone(&buckets), Arc::clone(&taken), Arc::clone(&clock));
            thread::spawn(move || {
                for _ in 0..3 {
                    if buckets.take_now(&[bucket("a")]).is_ok() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                    clock.fetch_add(SECOND / 5, Ordering::SeqCst);
                }
            })
        });
        for taker in takers {
            taker.join().unwrap();
        }
        let elapsed = clock.load(Ordering::SeqCst) - SECOND;
        assert!(taken.load(Ordering::SeqCst) <= CAPACITY + elapsed.div_ceil(SECOND));
    });
}
