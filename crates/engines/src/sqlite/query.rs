//! Reads, in SQL. Each runs on any connection; a statement sees one state of the database.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use tollgate_store::commit::{Entry, Item, Message, Topic};
use tollgate_store::plan::page::{self, Page};
use tollgate_store::plan::{self, Extent, Record};

use super::memtable::{Memtable, Range, Segment};

/// How many more of the memtable's entries a page looks at than it may hold, at least and at most: some are absent.
const SPARE_ENTRIES: (usize, usize) = (8, 64);

/// The greatest integer of SQL, for bounds beyond it.
pub fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Our integers are never negative.
pub fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The value of a row of `meta`.
pub fn meta(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0).map(unsigned))
}

/// The revision of the last commit; asked with every group.
pub fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'revision'")?
        .query_row([], |row| row.get(0).map(unsigned))
}

/// The question for entries, prepared once for many keys.
pub struct Entries<'c>(CachedStatement<'c>);

impl<'c> Entries<'c> {
    /// Of a connection.
    pub fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT value, version, expires FROM entries WHERE key = ?1";
        connection.prepare_cached(sql).map(Self)
    }

    /// An entry, expired or not.
    pub fn get(&mut self, key: &str) -> rusqlite::Result<Option<Entry>> {
        self.0.query_row([key], |row| read_entry(row, 0)).optional()
    }
}

fn read_entry(row: &Row<'_>, from: usize) -> rusqlite::Result<Entry> {
    Ok(Entry {
        value: row.get(from)?,
        version: row.get(from + 1).map(unsigned)?,
        expires: row.get::<_, Option<i64>>(from + 2)?.map(unsigned),
    })
}

/// The record of an idempotence id, expired or not.
pub fn record(connection: &Connection, id: &str) -> rusqlite::Result<Option<Record>> {
    let sql = "SELECT fingerprint, answer, expires FROM idempotence WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Record {
            id: id.to_owned(),
            fingerprint: row.get(0)?,
            answer: row.get(1)?,
            expires: row.get(2).map(unsigned)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}

/// How far a topic goes.
pub fn extent(connection: &Connection, topic: &str) -> rusqlite::Result<Extent> {
    let sql = "SELECT last, bytes FROM topics WHERE name = ?1";
    let read = |row: &Row<'_>| {
        Ok(Extent {
            last: row.get(0).map(unsigned)?,
            bytes: row.get(1).map(unsigned)?,
        })
    };
    let found = connection.prepare_cached(sql)?.query_row([topic], read);
    Ok(found.optional()?.unwrap_or_default())
}

/// A page of live entries; see `scan` in the WIT. What the memtable says comes before what the database does. They are
/// seen in one state, unless so many of the memtable's are absent that the page takes more than one look.
pub fn scan(
    connection: &Connection,
    memtable: &Memtable,
    from: Range<'_>,
    limit: u32,
    now: u64,
) -> rusqlite::Result<Vec<Item>> {
    let mut page = Page::new(limit);
    let (least, most) = SPARE_ENTRIES;
    let limit = page::limit(limit) as usize;
    let most = limit + limit.clamp(least, most);
    let mut after = from.after.map(str::to_owned);
    loop {
        let from = Range {
            prefix: from.prefix,
            after: after.as_deref(),
        };
        match scan_segment(connection, memtable, from, most, now, &mut page)? {
            Some(last) => after = Some(last),
            None => return Ok(page.into_items()),
        }
    }
}

/// Adds to the page; answers the key after which more is to be looked for.
fn scan_segment(
    connection: &Connection,
    memtable: &Memtable,
    from: Range<'_>,
    most: usize,
    now: u64,
    page: &mut Page<Item>,
) -> rusqlite::Result<Option<String>> {
    // One bound per statement, so that SQLite starts at the right key; the end is seen here.
    let (sql, start) = match from.start() {
        Bound::Excluded(after) => (
            "SELECT key, value, version, expires FROM entries WHERE key > ?1 ORDER BY key",
            after,
        ),
        _ => (
            "SELECT key, value, version, expires FROM entries WHERE key >= ?1 ORDER BY key",
            from.prefix,
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([start])?;
    let (Segment { entries, end }, unchanged) = memtable.segment(from, most);
    let mut newer = entries.into_iter().peekable();
    // The first row fixes the state of the database that the statement sees.
    let mut row = rows.next()?;
    drop(unchanged);
    loop {
        let stored = match row {
            Some(row) => Some(row.get_ref(0)?.as_str()?).filter(|key| key.starts_with(from.prefix)),
            None => None,
        };
        let stored = stored.filter(|key| end.as_deref().is_none_or(|end| *key <= end));
        let order = match (newer.peek(), stored) {
            (None, None) => return Ok(end.map(String::from)),
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some((key, _)), Some(stored)) => (**key).cmp(stored),
        };
        let item = match order {
            Ordering::Greater => match row {
                Some(row) => Some(Item {
                    key: row.get(0)?,
                    entry: read_entry(row, 1)?,
                }),
                None => None,
            },
            Ordering::Less | Ordering::Equal => newer.next().and_then(|(key, found)| {
                Some(Item {
                    key: key.into(),
                    entry: Arc::unwrap_or_clone(found?),
                })
            }),
        };
        if order.is_ge() {
            row = rows.next()?;
        }
        if let Some(item) = item {
            let bytes = page::item_bytes(&item);
            if plan::is_live(&item.entry, now) && !page.push(item, bytes) {
                return Ok(None);
            }
        }
    }
}

/// A page of messages; see `read` in the WIT.
pub fn read(connection: &Connection, topic: &str, after: u64, limit: u32) -> rusqlite::Result<Vec<Message>> {
    let sql = "SELECT sequence, id, key, type, content_type, time, attributes, payload FROM messages
               WHERE topic = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![topic, integer(after), page::limit(limit)])?;
    let mut page = Page::new(limit);
    while let Some(row) = rows.next()? {
        let message = Message {
            topic: topic.to_owned(),
            sequence: row.get(0).map(unsigned)?,
            id: row.get(1)?,
            key: row.get(2)?,
            kind: row.get(3)?,
            content_type: row.get(4)?,
            time: row.get(5).map(unsigned)?,
            attributes: row.get(6)?,
            payload: row.get(7)?,
        };
        let bytes = page::message_bytes(&message);
        if !page.push(message, bytes) {
            break;
        }
    }
    Ok(page.into_items())
}

/// A page of topics; see `topics` in the WIT.
pub fn topics(connection: &Connection, after: Option<&str>, limit: u32) -> rusqlite::Result<Vec<Topic>> {
    let sql = "SELECT name, last,
                 (SELECT sequence FROM messages WHERE topic = name ORDER BY sequence LIMIT 1),
                 (SELECT time FROM messages WHERE topic = name ORDER BY sequence LIMIT 1),
                 (SELECT time FROM messages WHERE topic = name ORDER BY sequence DESC LIMIT 1), bytes
               FROM topics WHERE name > ?1 ORDER BY name LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    // A topic's name is never empty: all come after the empty text.
    let rows = statement.query_map(params![after.unwrap_or(""), page::limit(limit)], |row| {
        let last = row.get(1).map(unsigned)?;
        let optional = |column| row.get::<_, Option<i64>>(column).map(|n| n.map(unsigned));
        Ok(Topic {
            name: row.get(0)?,
            first: optional(2)?.unwrap_or(last + 1),
            last,
            first_time: optional(3)?,
            last_time: optional(4)?,
            bytes: row.get(5).map(unsigned)?,
        })
    })?;
    rows.collect()
}
