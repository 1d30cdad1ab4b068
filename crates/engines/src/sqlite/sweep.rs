//! The sweep: removes expired entries and ids, and messages past their retention, with the entries that go
//! with them. The writer does it in bounded batches, when nothing else waits.

use std::time::Instant;

use rusqlite::{Connection, params};
use tollgate_store::retention::{Cut, Keeping, Retention};
use tollgate_store::{commit, deleted, schema};

use super::memtable::Memtable;
use super::query::{Entries, integer, unsigned};
use super::walk::Walk;

/// The fewest rows of one kind (per topic, for messages) at which a batch ends.
pub const BATCH: u32 = 512;
/// The most.
pub const MAX_BATCH: u32 = 8_192;
/// The result of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
    /// The keys of the entries that go with messages which were removed: the writer removes them, in the same transaction.
    pub records: Vec<String>,
}

impl Swept {
    fn count(&mut self, rows: usize, batch: u32) {
        self.rows += rows as u64;
        self.more |= rows >= batch as usize;
    }
}

/// Removes one batch of so many rows of each kind, in the open transaction. Readers need not be told of what has expired:
/// it is absent wherever it is still seen.
pub fn sweep(
    connection: &Connection,
    memtable: &Memtable,
    keeping: &Keeping,
    now: u64,
    batch: u32,
    walk: &mut Walk,
) -> rusqlite::Result<Swept> {
    let mut swept = Swept::default();
    for sql in [
        "DELETE FROM entries WHERE key IN
           (SELECT key FROM entries WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        "DELETE FROM idempotence WHERE id IN
           (SELECT id FROM idempotence WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
    ] {
        let rows = connection
            .prepare_cached(sql)?
            .execute(params![integer(now), batch])?;
        swept.count(rows, batch);
    }
    if keeping.default.is_none() {
        return Ok(swept);
    }
    let topics = walk.next(connection, Instant::now())?;
    let mut entries = Entries::prepare(connection)?;
    for (topic, bytes) in &topics {
        let Some((retention, low_water)) = keeping.of(topic) else {
            continue;
        };
        let key = deleted::key(topic);
        let gone = match memtable.get(&key) {
            Some(found) => deleted::through(found.as_deref()),
            None => deleted::through(entries.get(&key)?.as_ref()),
        };
        let kept = Kept {
            topic,
            bytes: *bytes,
            retention,
            low_water,
            gone,
        };
        let rows = kept.sweep(connection, now, batch, &mut swept.records)?;
        swept.rows += rows as u64;
        if rows >= batch as usize {
            walk.touch(topic);
        }
    }
    swept.more |= walk.has_more();
    // Most messages have no entry that goes with them.
    let mut there = Vec::with_capacity(swept.records.len());
    for key in swept.records.drain(..) {
        let is_there = match memtable.get(&key) {
            Some(found) => found.is_some(),
            None => entries.get(&key)?.is_some(),
        };
        if is_there {
            there.push(key);
        }
    }
    there.sort_unstable();
    swept.records = there;
    Ok(swept)
}

/// A topic, and its retention.
struct Kept<'a> {
    topic: &'a str,
    bytes: i64,
    retention: Retention,
    low_water: u64,
    /// Its messages up to this one went with it when it was deleted.
    gone: u64,
}

impl Kept<'_> {
    /// Removes its oldest messages; adds the keys that may go with them.
    fn sweep(
        &self,
        connection: &Connection,
        now: u64,
        batch: u32,
        records: &mut Vec<String>,
    ) -> rusqlite::Result<usize> {
        let mut cut = Cut::new(self.retention, self.low_water, unsigned(self.bytes), now).after(self.gone);
        let mut oldest = connection.prepare_cached(&format!(
            "SELECT m.sequence, m.time, m.id, {} FROM messages AS m WHERE m.topic = ?1 AND m.sequence < ?2
             ORDER BY m.sequence LIMIT ?3",
            schema::WEIGHT
        ))?;
        let before = self
            .retention
            .end(self.low_water)
            .max(self.gone.saturating_add(1));
        let mut rows = oldest.query(params![self.topic, integer(before), batch])?;
        let mut end: Option<i64> = None;
        while let Some(row) = rows.next()? {
            let (sequence, time): (i64, i64) = (row.get(0)?, row.get(1)?);
            if !cut.takes(unsigned(sequence), unsigned(time), unsigned(row.get(3)?)) {
                break;
            }
            records.push(commit::record_key(row.get_ref(2)?.as_str()?));
            end = Some(sequence);
        }
        drop(rows);
        let Some(end) = end else { return Ok(0) };
        let removed = connection
            .prepare_cached("DELETE FROM messages WHERE topic = ?1 AND sequence <= ?2")?
            .execute(params![self.topic, end])?;
        connection
            .prepare_cached("UPDATE topics SET bytes = ?2 WHERE name = ?1")?
            .execute(params![self.topic, integer(cut.bytes())])?;
        Ok(removed)
    }
}
