//! A Bloom filter of the keys that may be held. A key that it rules out is held nowhere: neither the memtable
//! nor a page of the database need be looked at. A claim asks for what its user has claimed before. For
//! nearly all users that is nothing, and each question would cost a page of its own.
//!
//! It rules nothing out before it has every key that the database held when the store was opened. The first
//! keys are read while it opens, which may be all. A thread of its own reads the others beside the work, and
//! only once enough keys were looked for in vain. Keys are never taken out of it: one that was deleted costs
//! a look, as all do without it.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use fastbloom::AtomicBloomFilter;
use rusqlite::Connection;

use super::options::{OpenError, Options};
use super::{Shared, query, records, schema};

/// Hash functions, that is, bits that are set for each key. A look touches three lines of the processor's
/// cache. With 27 bits for each key, one key in a thousand is a false positive.
const HASHES: u32 = 3;
/// With fewer bits for each key, one key in seven or more would be a false positive. Then the database's keys
/// are not read.
const BITS_PER_KEY: usize = 4;
/// The keys of one read, of entries and of records each: while the store is opened, and by the thread
/// afterwards.
const KEYS_AT_ONCE: u32 = 4_096;
/// The looks in vain after which the other keys are read.
const LOOKS_IN_VAIN: usize = 1_000;
/// After each read the thread rests for this many times the duration of the read.
const REST: u32 = 4;

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
    fn is_wanted(&self) -> bool {
        self.looks_in_vain.load(Ordering::Relaxed) >= LOOKS_IN_VAIN
    }

    /// Whether more keys would make it useless.
    fn is_full(&self) -> bool {
        self.keys.load(Ordering::Relaxed) > self.bits.num_bits() / BITS_PER_KEY
    }
}

/// Reads the keys of the database into the filter.
pub struct Reading {
    options: Options,
    /// The last key that was read; nothing if the thread has begun, or there are no more.
    after: Option<String>,
    thread: Option<JoinHandle<()>>,
}

impl Reading {
    /// Reads the first keys.
    pub fn begin(connection: &Connection, filter: &Filter, options: Options) -> rusqlite::Result<Self> {
        let after = read(connection, filter, &records::key(""))?;
        if after.is_none() {
            filter.complete();
        }
        Ok(Self {
            options,
            after,
            thread: None,
        })
    }

    /// Begins to read the others, if that is wanted and was not begun.
    pub fn go_on(&mut self, shared: &Arc<Shared>) {
        if !shared.memtable.filter().is_wanted() {
            return;
        }
        let Some(after) = self.after.take() else {
            return;
        };
        let (shared, options) = (Arc::clone(shared), self.options.clone());
        let thread = thread::Builder::new()
            .name("store-keys".into())
            .spawn(move || {
                if let Err(error) = read_all(&shared, &options, after) {
                    tracing::warn!(%error, "the keys of the database were not read; claims go on without their filter");
                }
            });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread to read the keys of the database"),
        }
    }
}

impl Drop for Reading {
    /// Waits for the thread, which ends once the store's queue is closed.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // If it has panicked, the filter stays as it is.
            _ = thread.join();
        }
    }
}

fn read_all(shared: &Shared, options: &Options, mut after: String) -> Result<(), OpenError> {
    let filter = shared.memtable.filter();
    let connection = schema::open_reader(options)?;
    while !shared.queue.is_closed() && !filter.is_full() {
        let started = Instant::now();
        let read = read(&connection, filter, &after);
        match read.map_err(|source| OpenError::from_sqlite(&options.path, source))? {
            Some(last) => after = last,
            None => {
                filter.complete();
                return Ok(());
            }
        }
        // The thread that waits for this one wakes it.
        thread::park_timeout(started.elapsed().saturating_mul(REST));
    }
    Ok(())
}

/// Reads the next keys after that one, those of records first. Returns the last key if there may be more.
fn read(connection: &Connection, filter: &Filter, after: &str) -> rusqlite::Result<Option<String>> {
    let mut after = after;
    if let Some(id) = records::id(after) {
        let take = |id: &str| filter.insert(&records::key(id));
        let last = query::keys(connection, query::IDS, id, KEYS_AT_ONCE, take)?;
        if let Some(id) = last {
            return Ok(Some(records::key(&id)));
        }
        after = "";
    }
    query::keys(connection, query::ENTRIES, after, KEYS_AT_ONCE, |key| {
        filter.insert(key);
    })
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
