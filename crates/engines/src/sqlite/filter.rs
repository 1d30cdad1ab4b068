//! A Bloom filter of the keys that may be held. A key that it rules out is held nowhere: neither the memtable
//! nor a page of the database need be looked at. A claim asks for what its user has claimed before. For
//! nearly all users that is nothing, and each question would cost a page of its own.
//!
//! It rules nothing out before it has every key that the database held when the store was opened
//! ([`super::keys`] reads them). Keys are never taken out of it: one that was deleted costs a look, as all do
//! without it.

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fastbloom::AtomicBloomFilter;

/// Hash functions, that is, bits that are set for each key. A look touches three lines of the processor's
/// cache. With 27 bits for each key, one key in a thousand is a false positive.
const HASHES: u32 = 3;
/// With fewer bits for each key, one key in seven or more would be a false positive. Then the database's keys
/// are not read.
const BITS_PER_KEY: usize = 4;
/// The looks in vain after which the other keys are read.
const LOOKS_IN_VAIN: usize = 1_000;

/// A Bloom filter of the keys that may be held.
#[derive(Debug)]
pub struct Filter {
    bits: AtomicBloomFilter<RandomState>,
    /// How many keys it has, about.
    keys: AtomicUsize,
    looks_in_vain: AtomicUsize,
    is_complete: AtomicBool,
}

impl Filter {
    /// An empty one of that many bytes, which is not complete.
    pub fn new(bytes: usize) -> Self {
        let bits = bytes.max(8).saturating_mul(8);
        Self {
            bits: AtomicBloomFilter::with_num_bits(bits)
                .hasher(RandomState::new())
                .hashes(HASHES),
            keys: AtomicUsize::new(0),
            looks_in_vain: AtomicUsize::new(0),
            is_complete: AtomicBool::new(false),
        }
    }

    /// Adds a key. The writer of a key calls this before anybody hears of its commit.
    pub fn insert(&self, key: &str) {
        if !self.bits.insert(key) {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the key is held nowhere, for certain.
    pub fn rules_out(&self, key: &str) -> bool {
        // Acquire: a thread that sees that it is complete sees all its keys.
        self.is_complete.load(Ordering::Acquire) && !self.bits.contains(key)
    }

    /// Counts a look into the database for a key that was not there.
    pub fn looked_in_vain(&self) {
        self.looks_in_vain.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks the filter as complete: it has all keys that the database held when the store was opened.
    pub fn complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }

    /// Whether it rules anything out.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Whether it is worth reading the keys of the database.
    pub fn is_wanted(&self) -> bool {
        self.looks_in_vain.load(Ordering::Relaxed) >= LOOKS_IN_VAIN
    }

    /// Whether more keys would make it useless.
    pub fn is_full(&self) -> bool {
        self.keys.load(Ordering::Relaxed) > self.bits.num_bits() / BITS_PER_KEY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rules_out_what_it_was_not_told_of_and_nothing_else() {
        let filter = Filter::new(1 << 16);
        let key = |number: usize| format!("claim/spring/{number}/1");
        for number in 0..10_000 {
            filter.insert(&key(number));
        }
        assert!(!filter.rules_out("claim/autumn/1/1"), "it is not complete");
        filter.complete();
        assert!((0..10_000).all(|number| !filter.rules_out(&key(number))));
        let ruled_out = (10_000..20_000).filter(|&number| filter.rules_out(&key(number)));
        assert!(ruled_out.count() > 9_900);
    }

    #[test]
    fn it_knows_when_it_is_of_no_more_use() {
        let filter = Filter::new(1_000);
        let keys = 8 * 1_000 / BITS_PER_KEY;
        for number in 0..keys / 2 {
            filter.insert(&number.to_string());
            filter.insert(&number.to_string());
        }
        assert!(!filter.is_full(), "a key counts once");
        for number in 0..3 * keys {
            filter.insert(&number.to_string());
        }
        assert!(filter.is_full());
    }
}
