//! Several keys at one moment. What a group changed shows in the database, then in the memtable, then key by
//! key in the cache. A reader of several keys must not see some of it and miss the rest.
//!
//! The writer holds [`Shown`] for writing while it shows a group. A reader of several keys holds it for
//! reading, so that the cache and the memtable stand still. The database may be a group ahead by then. So the
//! reader takes the database's revision from the same transaction, and tries again unless it is the one that
//! is shown.

use std::sync::{Arc, PoisonError};
use std::thread;

use rusqlite::Connection;
use tollgate_store::commit::{Entry, StoreError};

use super::cache::{Cache, Generation};
use super::memtable::Memtable;
use super::{Shared, query, read_entries, readers};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How often a reader tries. The database is ahead for as long as the writer needs to go from its commit to showing it.
const TRIES: usize = 10_000;

type Entries = Vec<Option<Arc<Entry>>>;
/// The places of the keys that are not in memory.
type Missed = Vec<(usize, Generation)>;

/// The revision of the newest group that readers see.
#[derive(Debug, Default)]
pub struct Shown(RwLock<u64>);

impl Shown {
    /// Keeps the writer from showing a group for as long as this is held. Hold it for a short time only: the
    /// writer waits.
    pub fn hold(&self) -> RwLockReadGuard<'_, u64> {
        // No code that runs under the lock panics.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer shows a group, whose revision it then puts there.
    pub fn change(&self) -> RwLockWriteGuard<'_, u64> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entries of the keys that memory holds, and the places of those that it does not. At one moment, under
/// [`Shown::hold`].
pub fn near(cache: &Cache, memtable: &Memtable, keys: &[String]) -> (Entries, Missed) {
    let mut entries = Vec::with_capacity(keys.len());
    let mut missed = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        entries.push(match cache.get(key) {
            Ok(found) => found,
            Err(generation) => match memtable.get(key) {
                Some(found) => cache.fill(key, found, generation),
                None => {
                    missed.push((index, generation));
                    None
                }
            },
        });
    }
    (entries, missed)
}

impl Shared {
    /// The keys at one moment, those that are not in memory from the database. Expired entries too.
    pub(super) fn at_one_moment(
        &self,
        connection: &Connection,
        keys: &[String],
    ) -> Result<Entries, StoreError> {
        for _ in 0..TRIES {
            let shown = self.shown.hold();
            let (mut entries, missed) = near(&self.cache, &self.memtable, keys);
            if missed.is_empty() {
                return Ok(entries);
            }
            let asked: Vec<&String> = missed.iter().map(|(index, _)| &keys[*index]).collect();
            let (revision, read) = snapshot(connection, &asked).map_err(readers::unavailable)?;
            if revision == *shown {
                for ((index, generation), found) in missed.into_iter().zip(read) {
                    if found.is_none() {
                        self.memtable.filter().looked_in_vain();
                    }
                    entries[index] = self.cache.fill(&keys[index], found, generation);
                }
                return Ok(entries);
            }
            drop(shown);
            if self.poison.get().is_some() {
                return Err(self.closed());
            }
            thread::yield_now();
        }
        Err(StoreError::Unavailable(
            "too much is written to read it at one moment".into(),
        ))
    }
}

/// The keys in one state of the database, and its revision.
fn snapshot(connection: &Connection, keys: &[&String]) -> rusqlite::Result<(u64, Entries)> {
    let transaction = connection.unchecked_transaction()?;
    let revision = query::revision(&transaction)?;
    let read = read_entries(&transaction, keys)?;
    transaction.finish()?;
    Ok((revision, read))
}
