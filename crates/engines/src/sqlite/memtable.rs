//! The memtable: entries (and [`records`] as entries) that are durable in the [`journal`](super::journal) and not in their
//! table yet, by key.
//!
//! Claims come in no order of their users. In `entries` each would dirty a page of its own: 4 KiB into the
//! log and 4 KiB into the database, for 100 bytes. So a group writes what it changed as one row of the
//! journal, a few pages in a row, and the memtable answers for it. When it is full it is flushed: written
//! into `entries` in the order of its keys, where neighbours share pages. Each group writes a slice of it,
//! while a second table takes what is new. Only then do its rows leave the journal. A read asks the cache,
//! then the memtable, then the database. In another order it could miss an entry that is flushed meanwhile.
//! For most keys that are held nowhere, the memtable's [`Filter`] says so.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Bound;
use std::sync::PoisonError;

use tollgate_store::commit::Entry;
use tollgate_store::plan::group::Found;

use super::filter::Filter;
use super::records;
use crate::stats::Room;
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The bytes that the map needs for one entry besides its key and value, roughly.
const OVERHEAD_BYTES: usize = 128;

/// Entries that are durable in the journal and not in their table yet, by key.
#[derive(Debug)]
pub struct Memtable {
    tables: RwLock<Tables>,
    filter: Filter,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Tables {
    /// Takes what is committed.
    active: Table,
    /// On its way into the database; changes no more.
    flushing: Table,
    /// The last key of `flushing` that is in the database.
    flushed: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Box<str>, Found>,
    bytes: usize,
    /// The revision of the newest group in it.
    revision: u64,
}

impl Table {
    fn insert(&mut self, key: &str, found: Found) {
        let weight = |found: &Found| found.as_ref().map_or(0, |entry| entry.value.len());
        self.bytes += weight(&found);
        // One search: most keys are new.
        match self.entries.entry(key.into()) {
            MapEntry::Occupied(before) => self.bytes -= weight(&std::mem::replace(before.into_mut(), found)),
            MapEntry::Vacant(new) => {
                self.bytes += key.len() + OVERHEAD_BYTES;
                new.insert(found);
            }
        }
    }

    /// In the order of the keys.
    fn range(&self, start: Bound<&str>) -> impl Iterator<Item = (&str, &Found)> {
        let range = self.entries.range::<str, _>((start, Bound::Unbounded));
        range.map(|(key, found)| (&**key, found))
    }
}

/// A slice of a flush, to be told to [`Memtable::forget`] once it is durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Its last key.
    upto: Box<str>,
    /// If it is the last slice, the revision up to which nothing is needed of the journal any more.
    pub revision: Option<u64>,
    /// How many entries it has.
    pub entries: usize,
}

/// The keys that a scan has yet to see.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// What all keys begin with.
    pub prefix: &'a str,
    /// The last key before; otherwise the prefix itself is the first.
    pub after: Option<&'a str>,
}

impl Range<'_> {
    /// The bound at which keys begin.
    pub fn start(&self) -> Bound<&str> {
        match self.after {
            Some(after) if after >= self.prefix => Bound::Excluded(after),
            // Records are nothing that a scan may find.
            _ if self.prefix.is_empty() => Bound::Included(records::FIRST_KEY),
            _ => Bound::Included(self.prefix),
        }
    }
}

/// The memtable's entries of a range of keys, in their order.
#[derive(Debug)]
pub struct Segment {
    /// Absent keys included.
    pub entries: Vec<(Box<str>, Found)>,
    /// Beyond this key, which is its last, there may be more of them.
    pub end: Option<Box<str>>,
}

impl Memtable {
    /// A flush begins at that many entries or bytes. It holds about twice as much until the flush has ended.
    pub fn new(max_entries: usize, max_bytes: usize, filter: Filter) -> Self {
        Self {
            tables: RwLock::default(),
            filter,
            max_entries: max_entries.max(1),
            max_bytes: max_bytes.max(1),
        }
    }

    /// The filter of keys. A reader that looks into the database in vain tells it so.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The key's entry, if it is known without the database: `Some(None)` is a key that was deleted, or never
    /// existed.
    pub fn get(&self, key: &str) -> Option<Found> {
        if self.filter.rules_out(key) {
            return Some(None);
        }
        let tables = self.read();
        let found = tables.active.entries.get(key);
        found.or_else(|| tables.flushing.entries.get(key)).cloned()
    }

    /// Whether nothing is needed of the journal.
    pub fn is_empty(&self) -> bool {
        let tables = self.read();
        tables.active.entries.is_empty() && tables.flushing.entries.is_empty()
    }

    /// Its entries, and the bytes they take, roughly; one that is in both tables counts twice.
    pub fn room(&self) -> Room {
        let tables = self.read();
        let both = [&tables.active, &tables.flushing];
        Room {
            entries: both.iter().map(|table| table.entries.len() as u64).sum(),
            bytes: both.iter().map(|table| table.bytes as u64).sum(),
        }
    }

    /// Takes a group that is durable, all at once.
    pub fn insert<'k>(&self, entries: impl IntoIterator<Item = (&'k str, Found)>, revision: u64) {
        let mut tables = self.write();
        for (key, found) in entries {
            self.filter.insert(key);
            tables.active.insert(key, found);
        }
        tables.active.revision = revision;
    }

    /// Begins a flush if none is under way and the memtable is full, or `early`. Answers whether one is under way.
    pub fn begin_flush(&self, early: bool) -> bool {
        let mut tables = self.write();
        let due = early || self.is_full(&tables.active);
        if due && tables.flushing.entries.is_empty() {
            tables.flushing = std::mem::take(&mut tables.active);
            tables.flushed = None;
        }
        !tables.flushing.entries.is_empty()
    }

    fn is_full(&self, table: &Table) -> bool {
        table.entries.len() >= self.max_entries || table.bytes >= self.max_bytes
    }

    /// Gives the next slice of a flush to `write`: at most that many entries, or all that are left if the table that fills
    /// meanwhile is full. What has expired by the store's time `now` is given as absent.
    pub fn flush<E>(
        &self,
        most: usize,
        now: u64,
        mut write: impl FnMut(&str, Option<&Entry>) -> Result<(), E>,
    ) -> Result<Option<Flushed>, E> {
        let tables = self.read();
        let most = if self.is_full(&tables.active) {
            usize::MAX
        } else {
            most
        };
        let start = tables
            .flushed
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = tables.flushing.range(start).peekable();
        let (mut last, mut entries) = (None, 0);
        for (key, found) in left.by_ref().take(most.max(1)) {
            write(key, alive(found, now))?;
            (last, entries) = (Some(key), entries + 1);
        }
        let is_last = left.peek().is_none();
        Ok(last.map(|key| Flushed {
            upto: key.into(),
            revision: is_last.then_some(tables.flushing.revision),
            entries,
        }))
    }

    /// A slice is in the database.
    pub fn forget(&self, flushed: Flushed) {
        let mut tables = self.write();
        if flushed.revision.is_none() {
            tables.flushed = Some(flushed.upto);
            return;
        }
        tables.flushed = None;
        let done = std::mem::take(&mut tables.flushing);
        // Freeing so many entries takes a while.
        drop(tables);
        drop(done);
    }

    /// Gives all there is to `write`; of a key that comes twice, the later holds.
    pub fn flush_all<E>(
        &self,
        now: u64,
        mut write: impl FnMut(&str, Option<&Entry>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let tables = self.read();
        let entries = [&tables.flushing, &tables.active].into_iter();
        let entries = entries.flat_map(|table| table.range(Bound::Unbounded));
        let mut count = 0;
        for (key, found) in entries {
            write(key, alive(found, now))?;
            count += 1;
        }
        Ok(count)
    }

    /// All of it is in the database.
    pub fn clear(&self) {
        let before = std::mem::take(&mut *self.write());
        drop(before);
    }

    /// The next entries of a scan, at most that many. Nothing changes here, and so nothing is flushed, until the guard is
    /// dropped: until then the reader begins to look at the database.
    pub fn segment(&self, from: Range<'_>, most: usize) -> (Segment, impl Sized + '_) {
        let tables = self.read();
        let range = |table: &Table| {
            let range = table.range(from.start());
            let range = range.take_while(|(key, _)| key.starts_with(from.prefix));
            let clone = |(key, found): (&str, &Found)| (Box::<str>::from(key), found.clone());
            range.take(most).map(clone).collect::<Vec<_>>()
        };
        let (active, flushing) = (range(&tables.active), range(&tables.flushing));
        // Beyond where one of them was cut, nothing is known of it.
        let end = [&active, &flushing].into_iter().filter(|part| part.len() == most);
        let end = end
            .filter_map(|part| part.last())
            .map(|(key, _)| key.clone())
            .min();
        let mut entries = merge(active, flushing);
        if let Some(end) = &end {
            entries.truncate(entries.partition_point(|(key, _)| key <= end));
        }
        (Segment { entries, end }, tables)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // No code that runs under the lock panics.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both in the order of their keys; of a key that is in both, the newer holds.
fn merge(newer: Vec<(Box<str>, Found)>, older: Vec<(Box<str>, Found)>) -> Vec<(Box<str>, Found)> {
    if newer.is_empty() {
        return older;
    }
    let mut merged = Vec::with_capacity(newer.len() + older.len());
    let mut newer = newer.into_iter().peekable();
    for (key, found) in older {
        while let Some(first) = newer.next_if(|(first, _)| *first < key) {
            merged.push(first);
        }
        if newer.peek().is_none_or(|(first, _)| *first != key) {
            merged.push((key, found));
        }
    }
    merged.extend(newer);
    merged
}

fn alive(found: &Found, now: u64) -> Option<&Entry> {
    let entry = found.as_deref()?;
    tollgate_store::plan::is_live(entry, now).then_some(entry)
}

#[cfg(test)]
mod tests;
