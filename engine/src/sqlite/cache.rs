//! The cache of entries: sharded, bounded, and never stale.
//!
//! The writer puts what it committed into the cache before it answers the commit, and raises the shard's generation as
//! it does. A reader that found nothing notes the generation, reads the database, and keeps what it read only if the
//! generation is still the same: it cannot put an older entry over a newer one. A commit shows in the database a moment
//! before it is published: while the writer commits a key, no reader may keep it, or one that read before the commit could
//! hide it from one that read after.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};
use tollgate_core::plan::group::Found;

/// Enough that two threads seldom meet, few enough that the bound per shard stays useful.
const SHARDS: usize = 64;
/// What the maps need for one entry besides its key and value, roughly.
const OVERHEAD_BYTES: usize = 128;
/// A value over this share of its shard is not kept: it would push out everything else.
const LARGEST_SHARE: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    max_entries: usize,
    max_bytes: usize,
}

/// Entries age in two steps: what is used moves to `young`; when that is half of the bound, it becomes `old` and what
/// was old is forgotten. Nearly as good as least-recently-used, at the cost of one map operation.
#[derive(Debug, Default)]
struct Shard {
    generation: u64,
    young: HashMap<String, Found>,
    old: HashMap<String, Found>,
    young_bytes: usize,
    /// The hashes of the keys that the writer is about to publish.
    announced: Vec<u64>,
}

/// Where a shard stood when a key was not found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

impl Cache {
    /// At most that many entries and bytes, about.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            max_entries: (max_entries / SHARDS / 2).max(1),
            max_bytes: (max_bytes / SHARDS / 2).max(1),
        }
    }

    /// What the key holds, or else what to give to [`Cache::fill`].
    pub fn get(&self, key: &str) -> Result<Found, Generation> {
        let mut shard = self.shard(key);
        if let Some(found) = shard.young.get(key) {
            return Ok(found.clone());
        }
        match shard.old.remove_entry(key) {
            Some((key, found)) => {
                self.insert(&mut shard, key, found.clone());
                Ok(found)
            }
            None => Err(Generation(shard.generation)),
        }
    }

    /// Keeps what was read from the database, unless the shard has changed since `generation`. Gives what the reader is
    /// to believe: what is kept by now comes first, since what was read may not be published yet.
    pub fn fill(&self, key: &str, found: Found, generation: Generation) -> Found {
        let (hash, mut shard) = self.locate(key);
        if let Some(kept) = shard.young.get(key).or_else(|| shard.old.get(key)) {
            return kept.clone();
        }
        if shard.generation == generation.0 && !shard.announced.contains(&hash) {
            self.insert(&mut shard, key.to_owned(), found.clone());
        }
        found
    }

    /// The writer is about to commit the key; readers do not keep it until it is published.
    pub fn announce(&self, key: &str) {
        let (hash, mut shard) = self.locate(key);
        shard.announced.push(hash);
    }

    /// Nothing came of what was announced.
    pub fn retract(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.announced.clear();
        }
    }

    /// Keeps what the writer has committed.
    pub fn publish(&self, key: String, found: Found) {
        let (hash, mut shard) = self.locate(&key);
        shard.announced.retain(|announced| *announced != hash);
        shard.generation += 1;
        shard.old.remove(&key);
        self.insert(&mut shard, key, found);
    }

    fn insert(&self, shard: &mut Shard, key: String, found: Found) {
        let bytes = weight(&key, &found);
        if bytes > self.max_bytes / LARGEST_SHARE {
            if let Some(before) = shard.young.remove(&key) {
                shard.young_bytes -= weight(&key, &before);
            }
            return;
        }
        if shard.young.len() >= self.max_entries || shard.young_bytes + bytes > self.max_bytes {
            shard.old = std::mem::take(&mut shard.young);
            shard.old.remove(&key);
            shard.young_bytes = 0;
        }
        let key_bytes = key.len();
        let before = shard.young.insert(key, found);
        shard.young_bytes += bytes;
        if let Some(before) = before {
            shard.young_bytes -= OVERHEAD_BYTES + key_bytes + value_bytes(&before);
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        self.locate(key).1
    }

    /// The key's hash and shard.
    fn locate(&self, key: &str) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[hash as usize % SHARDS];
        // No code that runs under the lock panics.
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn weight(key: &str, found: &Found) -> usize {
    OVERHEAD_BYTES + key.len() + value_bytes(found)
}

fn value_bytes(found: &Found) -> usize {
    found.as_ref().map_or(0, |entry| entry.value.len())
}

#[cfg(all(test, feature = "shuttle"))]
pub mod models;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_core::commit::Entry;

    use super::*;

    fn entry(version: u64, bytes: usize) -> Found {
        Some(Arc::new(Entry {
            value: vec![0; bytes],
            version,
            expires: None,
        }))
    }

    fn version(cache: &Cache, key: &str) -> Option<u64> {
        cache.get(key).ok().flatten().map(|entry| entry.version)
    }

    #[test]
    fn a_fill_that_was_overtaken_by_the_writer_is_dropped() {
        let cache = Cache::new(1_000, 1 << 20);
        let generation = cache.get("a").unwrap_err();
        cache.publish("a".into(), entry(2, 1));
        cache.fill("a", entry(1, 1), generation);
        assert_eq!(version(&cache, "a"), Some(2));
    }

    #[test]
    fn a_fill_is_dropped_even_if_the_newer_entry_was_forgotten_meanwhile() {
        let cache = Cache::new(1_000, 1 << 20);
        let generation = cache.get("a").unwrap_err();
        cache.publish("a".into(), entry(2, 1 << 20));
        cache.fill("a", entry(1, 1), generation);
        assert!(
            cache.get("a").is_err(),
            "too large to keep, and the fill was stale"
        );
    }

    #[test]
    fn what_was_published_replaces_what_had_aged() {
        let cache = Cache::new(2 * SHARDS * 2, 1 << 30);
        cache.publish("a".into(), entry(1, 1));
        for index in 0..10 * SHARDS {
            cache.publish(format!("other {index}"), None);
            cache.publish("a".into(), entry(2 + index as u64, 1));
            assert_eq!(version(&cache, "a"), Some(2 + index as u64));
        }
        cache.publish("a".into(), entry(9_999, 1 << 30));
        assert_eq!(version(&cache, "a"), None, "no older entry comes back");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let cache = Cache::new(64 * SHARDS, 1 << 20);
        for index in 0..20_000 {
            cache.publish(format!("key {index}"), entry(1, index % 500));
        }
        let (mut entries, mut bytes) = (0, 0);
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            entries += shard.young.len() + shard.old.len();
            bytes += shard
                .young
                .iter()
                .chain(&shard.old)
                .map(|(key, found)| weight(key, found))
                .sum::<usize>();
            let young: usize = shard.young.iter().map(|(key, found)| weight(key, found)).sum();
            assert_eq!(young, shard.young_bytes);
        }
        assert!(entries > 100 && entries <= 64 * SHARDS, "{entries}");
        assert!(bytes <= 1 << 20, "{bytes}");
    }

    #[test]
    fn what_is_used_stays_longest() {
        let cache = Cache::new(100 * SHARDS, 1 << 30);
        cache.publish("hot".into(), entry(1, 1));
        for index in 0..50_000 {
            cache.publish(format!("key {index}"), None);
            assert_eq!(version(&cache, "hot"), Some(1));
        }
    }
}
