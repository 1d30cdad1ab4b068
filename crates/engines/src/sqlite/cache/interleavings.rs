//! The cache under many schedules: a writer that commits and then publishes, readers that fill it from the database,
//! and others that push entries out.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;
use tollgate_store::commit::Entry;

use super::*;
use crate::sync::explore;

const KEY: &str = "key";
const COMMITS: u64 = 3;

fn entry(version: u64) -> Found {
    Some(Arc::new(Entry {
        value: Vec::new(),
        version,
        expires: None,
    }))
}

fn version(found: Found) -> u64 {
    found.map_or(0, |entry| entry.version)
}

/// Another key of the same shard as `key`.
pub fn neighbour(cache: &Cache, key: &str, nth: usize) -> String {
    let shard = |key: &str| shard(cache.hasher.hash_one(key));
    let mut others = (0..)
        .map(|n| format!("other {n}"))
        .filter(|other| shard(other) == shard(key));
    others.nth(nth).unwrap()
}

#[test]
fn a_reader_never_sees_less_than_was_acknowledged_nor_than_it_saw() {
    explore(|| {
        // One entry, and one that is about to be forgotten.
        let cache = Arc::new(Cache::new(1, 1 << 20));
        let database = Arc::new(Mutex::new(0));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writer = {
            let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
            let acknowledged = Arc::clone(&acknowledged);
            thread::spawn(move || {
                for version in 1..=COMMITS {
                    cache.announce(KEY);
                    *database.lock().unwrap() = version;
                    cache.publish(KEY.into(), entry(version), version != 2);
                    acknowledged.store(version, Ordering::SeqCst);
                }
            })
        };
        let evictor = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                (0..3).for_each(|nth| cache.publish(neighbour(&cache, KEY, nth), None, true))
            })
        };
        let readers = (0..2).map(|_| {
            let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
            let acknowledged = Arc::clone(&acknowledged);
            thread::spawn(move || {
                let mut seen = 0;
                for _ in 0..3 {
                    let least = acknowledged.load(Ordering::SeqCst).max(seen);
                    seen = match cache.get(KEY) {
                        Ok(found) => version(found),
                        Err(generation) => {
                            let read = *database.lock().unwrap();
                            version(cache.fill(KEY, entry(read), generation))
                        }
                    };
                    assert!(seen >= least, "{seen} after {least}");
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        for thread in readers.into_iter().chain([writer, evictor]) {
            thread.join().unwrap();
        }
        if let Ok(found) = cache.get(KEY) {
            assert_eq!(version(found), COMMITS, "what is kept is the newest");
        }
    });
}
