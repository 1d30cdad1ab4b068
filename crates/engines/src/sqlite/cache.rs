//! The cache of entries: sharded, bounded, and never stale.
//!
//! The writer puts what it committed into the cache before it answers the commit, and raises the shard's
//! generation as it does. A reader that found nothing notes the generation and reads the database. It keeps
//! what it read only if the generation is still the same, so it cannot put an older entry over a newer one. A
//! commit shows in the database a moment before it is published. So while the writer commits a key, no reader
//! may keep it. Otherwise a reader from before the commit could hide the new entry from one that came after
//! it.

use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use hashbrown::HashTable;

use crate::stats::Room;
use crate::sync::{Mutex, MutexGuard};
use tollgate_store::plan::group::Found;

/// Enough that two threads seldom meet, few enough that the bound per shard stays useful.
const SHARDS: usize = 64;
/// The bytes that the maps need for one entry besides its key and value, roughly.
const OVERHEAD_BYTES: usize = 128;
/// A value over this share of its shard is not kept: it would push out everything else.
const LARGEST_SHARE: usize = 8;

/// Entries that were read or written lately, absent ones too.
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
    young: HashTable<Kept>,
    old: HashTable<Kept>,
    young_bytes: usize,
    old_bytes: usize,
    /// The hashes of the keys that the writer is about to publish.
    announced: Vec<u64>,
}

impl Shard {
    fn take_old(&mut self, hash: u64, key: &str) -> Option<Kept> {
        let kept = take(&mut self.old, hash, key)?;
        self.old_bytes -= kept.weight();
        Some(kept)
    }
}

/// A key with its hash, and what it holds.
#[derive(Debug)]
struct Kept {
    hash: u64,
    key: Box<str>,
    found: Found,
}

impl Kept {
    fn is<'a>(hash: u64, key: &'a str) -> impl Fn(&Self) -> bool + 'a {
        move |kept| kept.hash == hash && *kept.key == *key
    }

    fn weight(&self) -> usize {
        let value = self.found.as_ref().map_or(0, |entry| entry.value.len());
        OVERHEAD_BYTES + self.key.len() + value
    }
}

/// The generation of a shard when a key was not found in it.
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

    /// The cached entry of the key, or else the generation to pass to [`Cache::fill`].
    pub fn get(&self, key: &str) -> Result<Found, Generation> {
        let (hash, mut shard) = self.locate(key);
        if let Some(kept) = shard.young.find(hash, Kept::is(hash, key)) {
            return Ok(kept.found.clone());
        }
        match shard.take_old(hash, key) {
            Some(kept) => {
                let found = kept.found.clone();
                self.insert(&mut shard, kept);
                Ok(found)
            }
            None => Err(Generation(shard.generation)),
        }
    }

    /// Keeps what was read from the database, unless the shard has changed since `generation`. Returns the
    /// entry to use: the cached one if there is one by now, since the one that was read may not be published
    /// yet.
    pub fn fill(&self, key: &str, found: Found, generation: Generation) -> Found {
        let (hash, mut shard) = self.locate(key);
        let find = |map: &HashTable<Kept>| map.find(hash, Kept::is(hash, key)).map(|kept| kept.found.clone());
        if let Some(kept) = find(&shard.young).or_else(|| find(&shard.old)) {
            return kept;
        }
        if shard.generation == generation.0 && !shard.announced.contains(&hash) {
            let (key, found) = (key.into(), found.clone());
            self.insert(&mut shard, Kept { hash, key, found });
        }
        found
    }

    /// The writer is about to commit the key; readers do not keep it until it is published.
    pub fn announce(&self, key: &str) {
        let (hash, mut shard) = self.locate(key);
        shard.announced.push(hash);
    }

    /// Withdraws an announcement: the commit did not happen.
    pub fn retract(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.announced.clear();
        }
    }

    /// Shows what the writer has committed. It is cached if the key was cached before, or if `keep` says so.
    /// New entries that nobody has asked for (the claims of a sale) would only push out those that are in
    /// use.
    pub fn publish(&self, key: String, found: Found, keep: bool) {
        let (hash, mut shard) = self.locate(&key);
        shard.announced.retain(|announced| *announced != hash);
        shard.generation += 1;
        let was_old = shard.take_old(hash, &key).is_some();
        if keep || was_old || shard.young.find(hash, Kept::is(hash, &key)).is_some() {
            let key = key.into_boxed_str();
            self.insert(&mut shard, Kept { hash, key, found });
        }
    }

    /// What it holds. Takes each shard's lock, one after the other.
    pub fn room(&self) -> Room {
        let mut room = Room::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            room.entries += (shard.young.len() + shard.old.len()) as u64;
            room.bytes += (shard.young_bytes + shard.old_bytes) as u64;
        }
        room
    }

    fn insert(&self, shard: &mut Shard, kept: Kept) {
        let bytes = kept.weight();
        if let Some(before) = take(&mut shard.young, kept.hash, &kept.key) {
            shard.young_bytes -= before.weight();
        }
        if bytes > self.max_bytes / LARGEST_SHARE {
            return;
        }
        if shard.young.len() >= self.max_entries || shard.young_bytes + bytes > self.max_bytes {
            shard.old = std::mem::take(&mut shard.young);
            shard.old_bytes = std::mem::take(&mut shard.young_bytes);
        }
        shard.young_bytes += bytes;
        shard.young.insert_unique(kept.hash, kept, |kept| kept.hash);
    }

    /// The key's hash and shard.
    fn locate(&self, key: &str) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[shard(hash)];
        // No code that runs under the lock panics.
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By other bits than those by which a table places it.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn take(map: &mut HashTable<Kept>, hash: u64, key: &str) -> Option<Kept> {
    let found = map.find_entry(hash, Kept::is(hash, key)).ok()?;
    Some(found.remove().0)
}

#[cfg(all(test, feature = "shuttle"))]
pub mod interleavings;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_store::commit::Entry;

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
        cache.publish("a".into(), entry(2, 1), true);
        cache.fill("a", entry(1, 1), generation);
        assert_eq!(version(&cache, "a"), Some(2));
    }

    #[test]
    fn a_fill_is_dropped_even_if_the_newer_entry_was_forgotten_meanwhile() {
        let cache = Cache::new(1_000, 1 << 20);
        let generation = cache.get("a").unwrap_err();
        cache.publish("a".into(), entry(2, 1 << 20), true);
        cache.fill("a", entry(1, 1), generation);
        assert!(
            cache.get("a").is_err(),
            "too large to keep, and the fill was stale"
        );
    }

    #[test]
    fn what_was_published_replaces_what_had_aged() {
        let cache = Cache::new(2 * SHARDS * 2, 1 << 30);
        cache.publish("a".into(), entry(1, 1), true);
        for index in 0..10 * SHARDS {
            cache.publish(format!("other {index}"), None, true);
            cache.publish("a".into(), entry(2 + index as u64, 1), true);
            assert_eq!(version(&cache, "a"), Some(2 + index as u64));
        }
        cache.publish("a".into(), entry(9_999, 1 << 30), true);
        assert_eq!(version(&cache, "a"), None, "no older entry comes back");
    }

    #[test]
    fn what_nobody_asked_for_is_not_kept_and_what_is_kept_is_replaced() {
        let cache = Cache::new(4 * SHARDS, 1 << 20);
        let generation = cache.get("a").unwrap_err();
        cache.publish("a".into(), entry(1, 1), false);
        assert!(cache.get("a").is_err(), "new, and nobody keeps it");
        assert_eq!(cache.fill("a", None, generation), None);
        assert!(cache.get("a").is_err(), "read before it was written");
        let generation = cache.get("a").unwrap_err();
        cache.fill("a", entry(1, 1), generation);
        for other in 0..100 * SHARDS {
            let version = u64::try_from(other).unwrap() + 2;
            cache.publish("a".into(), entry(version, 1), false);
            assert_eq!(self::version(&cache, "a"), Some(version), "young or old");
            cache.publish(format!("other {other}"), None, true);
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let cache = Cache::new(64 * SHARDS, 1 << 20);
        for index in 0..20_000 {
            cache.publish(format!("key {index}"), entry(1, index % 500), true);
        }
        let (mut entries, mut bytes) = (0, 0);
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            entries += shard.young.len() + shard.old.len();
            bytes += shard
                .young
                .iter()
                .chain(&shard.old)
                .map(Kept::weight)
                .sum::<usize>();
            let young: usize = shard.young.iter().map(Kept::weight).sum();
            assert_eq!(young, shard.young_bytes);
        }
        assert!(entries > 100 && entries <= 64 * SHARDS, "{entries}");
        assert!(bytes <= 1 << 20, "{bytes}");
    }

    #[test]
    fn what_is_used_stays_longest() {
        let cache = Cache::new(100 * SHARDS, 1 << 30);
        cache.publish("hot".into(), entry(1, 1), true);
        for index in 0..50_000 {
            cache.publish(format!("key {index}"), None, true);
            assert_eq!(version(&cache, "hot"), Some(1));
        }
    }
}
