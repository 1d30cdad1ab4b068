//! Entries of a store that others write to, in memory, and how long ago each was true. What is used is looked at again by and by
//! ([`Cache::take_used`], [`Cache::confirm`]); what was not looked at within the bound is read anew. Times are passed in.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plan::group::Found;
use hashbrown::HashMap;

const SHARDS: usize = 64;
/// The bytes that the maps need for one entry besides its key and value, roughly.
const OVERHEAD_BYTES: usize = 160;
/// A value over this share of its shard is not kept.
const LARGEST_SHARE: usize = 8;

/// A state of the database: when it was asked for, milliseconds of the engine, and a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nothing that it shows was already changed at this time.
    pub at: u64,
    /// Entries of one number were true together.
    pub number: u64,
}

struct Kept {
    found: Found,
    moment: Moment,
    used: bool,
}

#[derive(Default)]
struct Shard {
    generation: u64,
    young: HashMap<Box<str>, Kept>,
    old: HashMap<Box<str>, Kept>,
    young_bytes: usize,
    old_bytes: usize,
    used: Vec<Box<str>>,
}

fn weight(key: &str, found: &Found) -> usize {
    OVERHEAD_BYTES + key.len() + found.as_ref().map_or(0, |entry| entry.value.len())
}

/// The generation of a shard when it was asked in vain.
#[derive(Clone, Copy, Debug)]
pub struct Generation(u64);

/// Entries that were read or written lately, absent ones too.
pub struct Cache<S = RandomState> {
    shards: Vec<Mutex<Shard>>,
    hasher: S,
    max_entries: usize,
    max_bytes: usize,
}

impl<S> std::fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Cache {
    /// At most that many entries and bytes, about.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self::with_hasher(max_entries, max_bytes, RandomState::new())
    }
}

impl<S: BuildHasher> Cache<S> {
    /// The same; which keys share a lock, the hasher says.
    pub fn with_hasher(max_entries: usize, max_bytes: usize, hasher: S) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher,
            max_entries: (max_entries / SHARDS / 2).max(1),
            max_bytes: (max_bytes / SHARDS / 2).max(1),
        }
    }

    /// The key's entry and when it was true, if it was at `oldest` or later.
    pub fn get(&self, key: &str, oldest: u64) -> Option<(Found, Moment)> {
        let mut guard = self.shard(key);
        let shard = &mut *guard;
        if let Some(kept) = shard.old.remove(key) {
            shard.old_bytes -= weight(key, &kept.found);
            self.insert(shard, key, kept);
        }
        let kept = shard.young.get_mut(key)?;
        if kept.moment.at < oldest {
            return None;
        }
        if !kept.used {
            kept.used = true;
            shard.used.push(key.into());
        }
        Some((kept.found.clone(), kept.moment))
    }

    /// To be passed to [`Cache::fill`], after the database was asked.
    pub fn generation(&self, key: &str) -> Generation {
        Generation(self.shard(key).generation)
    }

    /// Keeps what was read at a moment, unless the shard was written since `generation`.
    pub fn fill(&self, key: &str, found: Found, generation: Generation, moment: Moment) {
        let mut shard = self.shard(key);
        if shard.generation == generation.0 {
            self.put(&mut shard, key, found, moment);
        }
    }

    /// Shows what a group of ours found or wrote, if the key is kept.
    pub fn publish(&self, key: &str, found: Found, moment: Moment) {
        let mut shard = self.shard(key);
        shard.generation += 1;
        if shard.young.contains_key(key) || shard.old.contains_key(key) {
            self.put(&mut shard, key, found, moment);
        }
    }

    /// Takes up to so many keys that were used since the last time, each with its version (0: absent).
    pub fn take_used(&self, most: usize) -> (Vec<String>, Vec<i64>) {
        let (mut keys, mut versions) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut guard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let shard = &mut *guard;
            while keys.len() < most
                && let Some(key) = shard.used.pop()
            {
                let Some(kept) = shard.young.get_mut(&key).or(shard.old.get_mut(&key)) else {
                    continue;
                };
                kept.used = false;
                versions.push(version(&kept.found));
                keys.push(key.into());
            }
        }
        (keys, versions)
    }

    /// The key still had that version at the moment.
    pub fn confirm(&self, key: &str, seen: i64, moment: Moment) {
        let mut guard = self.shard(key);
        let shard = &mut *guard;
        if let Some(kept) = shard.young.get_mut(key).or(shard.old.get_mut(key))
            && version(&kept.found) == seen
            && kept.moment.at < moment.at
        {
            kept.moment = moment;
        }
    }

    /// The key has changed: it is read anew.
    pub fn forget(&self, key: &str) {
        let mut guard = self.shard(key);
        let shard = &mut *guard;
        shard.generation += 1;
        if let Some(kept) = shard.young.remove(key) {
            shard.young_bytes -= weight(key, &kept.found);
        }
        if let Some(kept) = shard.old.remove(key) {
            shard.old_bytes -= weight(key, &kept.found);
        }
    }

    /// Entries and bytes that it holds.
    pub fn room(&self) -> (u64, u64) {
        let (mut entries, mut bytes) = (0, 0);
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            entries += (shard.young.len() + shard.old.len()) as u64;
            bytes += (shard.young_bytes + shard.old_bytes) as u64;
        }
        (entries, bytes)
    }

    fn put(&self, shard: &mut Shard, key: &str, found: Found, moment: Moment) {
        let mut used = false;
        if let Some(before) = shard.young.remove(key) {
            shard.young_bytes -= weight(key, &before.found);
            used = before.used;
        }
        if let Some(before) = shard.old.remove(key) {
            shard.old_bytes -= weight(key, &before.found);
            used |= before.used;
        }
        self.insert(shard, key, Kept { found, moment, used });
    }

    fn insert(&self, shard: &mut Shard, key: &str, kept: Kept) {
        let bytes = weight(key, &kept.found);
        if bytes > self.max_bytes / LARGEST_SHARE {
            return;
        }
        if shard.young.len() >= self.max_entries || shard.young_bytes + bytes > self.max_bytes {
            shard.old = std::mem::take(&mut shard.young);
            shard.old_bytes = std::mem::take(&mut shard.young_bytes);
            // At most one for each entry that is kept.
            let (young, old) = (&shard.young, &shard.old);
            shard
                .used
                .retain(|key| young.contains_key(key) || old.contains_key(key));
        }
        shard.young_bytes += bytes;
        shard.young.insert(key.into(), kept);
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let place = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        // No code that runs under the lock panics.
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(found: &Found) -> i64 {
    found
        .as_ref()
        .map_or(0, |entry| i64::try_from(entry.version).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::commit::Entry;

    use super::*;

    fn entry(version: u64) -> Found {
        Some(Arc::new(Entry {
            value: vec![1; 10],
            version,
            expires: None,
        }))
    }

    fn at(at: u64) -> Moment {
        Moment { at, number: at }
    }

    #[test]
    fn what_was_not_looked_at_within_the_bound_is_not_known() {
        let cache = Cache::new(1_000, 1 << 20);
        let generation = cache.generation("a");
        cache.fill("a", entry(1), generation, at(100));
        assert!(cache.get("a", 100).is_some() && cache.get("a", 101).is_none());
        let (keys, versions) = cache.take_used(10);
        assert_eq!(
            (keys.as_slice(), versions.as_slice()),
            (&["a".to_owned()][..], &[1][..])
        );
        cache.confirm("a", 1, at(200));
        assert!(cache.get("a", 150).is_some());
        assert_eq!(cache.take_used(10).0.len(), 1, "used again");
        cache.confirm("a", 2, at(300));
        assert!(cache.get("a", 250).is_none(), "another version was confirmed");
        cache.forget("a");
        assert!(cache.get("a", 0).is_none());
    }

    #[test]
    fn a_read_from_before_a_write_is_not_kept() {
        let cache = Cache::new(1_000, 1 << 20);
        let generation = cache.generation("a");
        cache.publish("a", entry(2), at(5));
        cache.fill("a", entry(1), generation, at(6));
        assert!(cache.get("a", 0).is_none());
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let cache = Cache::new(64 * SHARDS, 1 << 20);
        for index in 0..20_000 {
            let key = format!("key {index}");
            let generation = cache.generation(&key);
            cache.fill(&key, entry(1), generation, at(1));
            cache.get(&key, 0);
        }
        let (entries, bytes) = cache.room();
        assert!(
            entries > 100 && entries <= 64 * SHARDS as u64 && bytes <= 1 << 20,
            "{entries} entries, {bytes} bytes"
        );
        let used: usize = cache
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().used.len())
            .sum();
        assert!(used <= 2 * 64 * SHARDS, "{used}");
    }
}
