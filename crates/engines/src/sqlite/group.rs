//! A group of commits in one transaction: `tollgate_store::plan::group` decides, this writes.

use std::sync::Arc;

use rusqlite::{Connection, params};
use tollgate_store::commit::Entry;
use tollgate_store::plan::group::{self, Base, Change, Found};
use tollgate_store::plan::{Extent, Record};

use super::cache::Cache;
use super::journal;
use super::memtable::{Flushed, Memtable};
use super::query::{self, Entries, integer};
use super::records;
use crate::tails::Tails;

/// The entries of a flush that a group writes for each entry of its own,
const FLUSH_SHARE: usize = 2;
/// and those that it writes in addition.
const FLUSH_AT_LEAST: usize = 64;

/// The group of the writer.
pub type Group<'a> = group::Group<Tables<'a>>;

/// The durable state beneath a group. It is read from the cache (which holds nothing older than the last
/// commit), then from the memtable, then over the writer's connection inside the group's transaction.
pub struct Tables<'a> {
    connection: &'a Connection,
    entries: Entries<'a>,
    cache: &'a Cache,
    memtable: &'a Memtable,
}

impl<'a> Tables<'a> {
    /// The writer's connection, and what it shares with the readers.
    pub fn new(
        connection: &'a Connection,
        cache: &'a Cache,
        memtable: &'a Memtable,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            entries: Entries::prepare(connection)?,
            cache,
            memtable,
        })
    }
}

impl Base for Tables<'_> {
    type Error = rusqlite::Error;

    fn cached(&mut self, key: &str) -> Option<Found> {
        self.cache.get(key).ok()
    }

    fn entry(&mut self, key: &str) -> rusqlite::Result<Found> {
        match self.memtable.get(key) {
            Some(found) => Ok(found),
            None => {
                let found = self.entries.get(key)?;
                if found.is_none() {
                    self.memtable.filter().looked_in_vain();
                }
                Ok(found.map(Into::into))
            }
        }
    }

    fn topic(&mut self, topic: &str) -> rusqlite::Result<Extent> {
        query::extent(self.connection, topic)
    }

    fn record(&mut self, id: &str) -> rusqlite::Result<Option<Record>> {
        let Some(found) = self.memtable.get(&records::key(id)) else {
            let found = query::record(self.connection, id)?;
            if found.is_none() {
                self.memtable.filter().looked_in_vain();
            }
            return Ok(found);
        };
        let read = |entry: Arc<Entry>| records::record(id, &entry).ok_or_else(journal::damaged);
        found.map(read).transpose()
    }
}

/// Writes all of it into the open transaction, each key once, into the journal; and beside it the next slice of a flush
/// that is under way.
pub fn write(
    group: &Group<'_>,
    changes: &[Change<'_>],
    connection: &Connection,
    memtable: &Memtable,
) -> rusqlite::Result<Option<Flushed>> {
    write_messages(group, connection)?;
    write_changes(changes, connection, memtable, group.revision(), group.now())
}

/// The same of changes alone: what keys then hold, at a revision and time of the store.
pub fn write_changes(
    changes: &[Change<'_>],
    connection: &Connection,
    memtable: &Memtable,
    revision: u64,
    now: u64,
) -> rusqlite::Result<Option<Flushed>> {
    let mut flushed = None;
    if !changes.is_empty() {
        // More than it brings, so that the flush ends before the next must begin.
        let most = FLUSH_SHARE * changes.len() + FLUSH_AT_LEAST;
        flushed = journal::flush(connection, memtable, most, now)?;
        journal::append(connection, changes, revision)?;
    }
    let mut meta = connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
    meta.execute(params!["revision", integer(revision)])?;
    meta.execute(params!["now", integer(now)])?;
    Ok(flushed)
}

fn write_messages(group: &Group<'_>, connection: &Connection) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO messages (topic, sequence, id, key, type, content_type, time, attributes, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for m in group.messages() {
        let (sequence, time) = (integer(m.sequence), integer(m.time));
        insert.execute(params![
            m.topic,
            sequence,
            m.id,
            m.key,
            m.kind,
            m.content_type,
            time,
            m.attributes,
            m.payload
        ])?;
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO topics (name, last, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET last = ?2, bytes = bytes + ?3",
    )?;
    for (name, tail) in group.topics() {
        upsert.execute(params![name, integer(tail.last), integer(tail.added_bytes)])?;
    }
    Ok(())
}

/// Before COMMIT: from here on the memtable may show what the cache does not yet.
pub fn announce(entries: &[Change<'_>], cache: &Cache) {
    for (key, _) in entries {
        cache.announce(key);
    }
}

/// Shows the group, which is now durable, to all readers, and wakes those that wait for it.
pub fn publish<B: Base>(group: group::Group<B>, cache: &Cache, tails: &Tails) {
    let appended: Vec<(String, u64)> = group
        .topics()
        .into_iter()
        .map(|(name, tail)| (name.to_owned(), tail.last))
        .collect();
    for (key, known) in group.into_known() {
        if known.written {
            cache.publish(key, known.found, known.in_base);
        } else if known.in_base
            && let Err(generation) = cache.get(&key)
        {
            // Read from the database by this group: nobody but us could have changed it since.
            cache.fill(&key, known.found, generation);
        }
    }
    for (name, last) in appended {
        tails.publish(&name, last);
    }
}
