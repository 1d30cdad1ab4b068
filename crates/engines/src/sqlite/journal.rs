//! The table `journal`: what groups changed and `entries` and `idempotence` do not hold yet, one row for each
//! group. Its rows are read when the store is opened, and only then: the [`Memtable`] answers for them. As
//! long as there may be any, `meta` says so ([`schema::IN_USE`](super::schema::IN_USE)). A program that does
//! not know the journal then refuses the file instead of missing entries.

use std::sync::Arc;

use rusqlite::{Connection, ffi, params};
use serde_bytes::{ByteBuf, Bytes};
use tollgate_store::commit::Entry;
use tollgate_store::packed;
use tollgate_store::plan::Record;
use tollgate_store::plan::group::Change;

use super::memtable::{Flushed, Memtable};
use super::query::{integer, unsigned};
use super::records;

/// [`Change`], as it is written: value, version, expiry. Nothing if the key is absent.
type Written<'a> = (&'a str, Option<(&'a Bytes, u64, Option<u64>)>);
/// [`Written`], read again.
type Read = (String, Option<(ByteBuf, u64, Option<u64>)>);

/// The bytes that one change takes besides its key and value, roughly.
const CHANGE_BYTES: usize = 24;

/// Fills the memtable with what the journal holds.
pub fn load(connection: &Connection, memtable: &Memtable) -> rusqlite::Result<()> {
    read(connection, |revision, changes| {
        let entries: Vec<_> = changes
            .into_iter()
            .map(|(key, held)| {
                let entry = held.map(|(value, version, expires)| Entry {
                    value: value.into_vec(),
                    version,
                    expires,
                });
                (key, entry.map(Arc::new))
            })
            .collect();
        let entries = entries.iter().map(|(key, found)| (key.as_str(), found.clone()));
        memtable.insert(entries, revision);
    })
}

/// Checks that every row reads back as it was written.
pub fn check(connection: &Connection) -> rusqlite::Result<()> {
    read(connection, |_, _| {})
}

/// Every row, in the order of revisions.
fn read(connection: &Connection, mut each: impl FnMut(u64, Vec<Read>)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT revision, changes FROM journal ORDER BY revision")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let changes = packed::unpack(row.get_ref(1)?.as_blob()?).ok_or_else(damaged)?;
        each(row.get(0).map(unsigned)?, changes);
    }
    Ok(())
}

/// The error for a journal that does not read back as it was written.
pub fn damaged() -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some("a row of its journal cannot be read".into()))
}

/// Writes what a group changed, into the open transaction.
pub fn append(connection: &Connection, entries: &[Change<'_>], revision: u64) -> rusqlite::Result<()> {
    let room = entries
        .iter()
        .map(|(key, found)| CHANGE_BYTES + key.len() + found.map_or(0, |entry| entry.value.len()))
        .sum();
    let changes: Vec<Written<'_>> = entries
        .iter()
        .map(|(key, found)| {
            let held = found.map(|entry| (Bytes::new(&entry.value), entry.version, entry.expires));
            (*key, held)
        })
        .collect();
    connection
        .prepare_cached("INSERT INTO journal (revision, changes) VALUES (?1, ?2)")?
        .execute(params![integer(revision), packed::pack(&changes, room)])?;
    Ok(())
}

/// Writes the next slice of a flush, into the open transaction; with the last, its rows of the journal go.
pub fn flush(
    connection: &Connection,
    memtable: &Memtable,
    most: usize,
    now: u64,
) -> rusqlite::Result<Option<Flushed>> {
    let flushed = memtable.flush(most, now, put(connection)?)?;
    if let Some(revision) = flushed.as_ref().and_then(|flushed| flushed.revision) {
        connection
            .prepare_cached("DELETE FROM journal WHERE revision <= ?1")?
            .execute([integer(revision)])?;
    }
    Ok(flushed)
}

/// Writes all of the memtable, into the open transaction. The journal is emptied first: in a file that may not grow, its
/// pages are what the entries need.
pub fn flush_all(connection: &Connection, memtable: &Memtable, now: u64) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM journal", [])?;
    memtable.flush_all(now, put(connection)?)
}

/// Writes one key into its table.
fn put<'c>(
    connection: &'c Connection,
) -> rusqlite::Result<impl FnMut(&str, Option<&Entry>) -> rusqlite::Result<()> + 'c> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO entries (key, value, version, expires) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET value = ?2, version = ?3, expires = ?4",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM entries WHERE key = ?1")?;
    let mut remember = connection.prepare_cached(
        "INSERT INTO idempotence (id, fingerprint, answer, expires) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET fingerprint = ?2, answer = ?3, expires = ?4",
    )?;
    let mut forget = connection.prepare_cached("DELETE FROM idempotence WHERE id = ?1")?;
    Ok(move |key: &str, entry: Option<&Entry>| {
        match (records::id(key), entry) {
            (
                None,
                Some(Entry {
                    value,
                    version,
                    expires,
                }),
            ) => upsert.execute(params![key, value, integer(*version), expires.map(integer)])?,
            (None, None) => delete.execute([key])?,
            (Some(id), Some(entry)) => {
                let Record {
                    fingerprint,
                    answer,
                    expires,
                    ..
                } = records::record(id, entry).ok_or_else(damaged)?;
                remember.execute(params![id, fingerprint, answer, integer(expires)])?
            }
            (Some(id), None) => forget.execute([id])?,
        };
        Ok(())
    })
}
