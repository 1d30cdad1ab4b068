//! Reads the keys of the database into the [`Filter`]. The first keys are read while the store opens, which may be
//! all. A thread of its own reads the others beside the work, and only once enough keys were looked for in vain.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rusqlite::{Connection, params};

use super::filter::Filter;
use super::options::{OpenError, Options};
use super::{Shared, records, schema};

/// The keys of one read, of entries and of records each: while the store is opened, and by the thread
/// afterwards.
const KEYS_AT_ONCE: u32 = 4_096;
/// After each read the thread rests for this many times the duration of the read.
const REST: u32 = 4;

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
        let last = keys(connection, IDS, id, KEYS_AT_ONCE, take)?;
        if let Some(id) = last {
            return Ok(Some(records::key(&id)));
        }
        after = "";
    }
    keys(connection, ENTRIES, after, KEYS_AT_ONCE, |key| {
        filter.insert(key);
    })
}

/// [`keys`] of `entries`.
const ENTRIES: &str = "SELECT key FROM entries WHERE key > ?1 ORDER BY key LIMIT ?2";
/// [`keys`] of `idempotence`.
const IDS: &str = "SELECT id FROM idempotence WHERE id > ?1 ORDER BY id LIMIT ?2";

/// Gives the keys of a table after that one to `each`, in their order, at most so many; answers the last if there may be
/// more. `sql`: [`ENTRIES`] or [`IDS`].
fn keys(
    connection: &Connection,
    sql: &str,
    after: &str,
    most: u32,
    mut each: impl FnMut(&str),
) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, most])?;
    let (mut last, mut count) = (None, 0);
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_str()?;
        each(key);
        count += 1;
        if count == most {
            last = Some(key.to_owned());
        }
    }
    Ok(last)
}
