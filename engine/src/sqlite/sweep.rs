//! What time removes: expired entries and ids, and messages past their retention. In bounded batches, by the writer,
//! when nothing else waits.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};

use super::query::integer;

/// The most rows of one kind (per topic, for messages) that one batch removes.
const BATCH: u32 = 512;

/// How long and how much of a topic is kept. Messages that a subscription still needs are kept in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds; for ever if missing.
    pub age_ms: Option<u64>,
    /// Bytes of payloads; any number if missing.
    pub max_bytes: Option<u64>,
}

/// What decides about messages.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// Per topic. Topics without one keep everything.
    pub retention: BTreeMap<String, Retention>,
    /// Per topic, the oldest sequence that a subscription still needs.
    pub low_water: HashMap<String, u64>,
}

/// What a batch removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

impl Swept {
    fn count(&mut self, rows: usize) {
        self.rows += rows as u64;
        self.more |= rows >= BATCH as usize;
    }
}

/// Removes one batch, in the open transaction. Readers need not be told: an expired entry is absent wherever it is
/// still seen.
pub fn sweep(connection: &Connection, keeping: &Keeping, now: u64) -> rusqlite::Result<Swept> {
    let mut swept = Swept::default();
    for sql in [
        "DELETE FROM entries WHERE key IN
           (SELECT key FROM entries WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        "DELETE FROM idempotence WHERE id IN
           (SELECT id FROM idempotence WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
    ] {
        swept.count(
            connection
                .prepare_cached(sql)?
                .execute(params![integer(now), BATCH])?,
        );
    }
    for (topic, retention) in &keeping.retention {
        let low_water = keeping.low_water.get(topic).copied().unwrap_or(u64::MAX);
        swept.count(sweep_topic(connection, topic, *retention, low_water, now)?);
    }
    Ok(swept)
}

fn sweep_topic(
    connection: &Connection,
    topic: &str,
    retention: Retention,
    low_water: u64,
    now: u64,
) -> rusqlite::Result<usize> {
    let bytes = "SELECT coalesce(max(bytes), 0) FROM topics WHERE name = ?1";
    let mut kept_bytes: i64 = connection
        .prepare_cached(bytes)?
        .query_row([topic], |row| row.get(0))?;
    let mut oldest = connection.prepare_cached(
        "SELECT sequence, time, length(payload) FROM messages WHERE topic = ?1 AND sequence < ?2
         ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = oldest.query(params![topic, integer(low_water), BATCH])?;
    let too_old = retention.age_ms.map(|age| integer(now.saturating_sub(age)));
    let max_bytes = retention.max_bytes.map(integer);
    let mut end: Option<i64> = None;
    let mut freed = 0;
    while let Some(row) = rows.next()? {
        let (sequence, time, length): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let old = too_old.is_some_and(|limit| time <= limit);
        if !old && max_bytes.is_none_or(|max| kept_bytes <= max) {
            break;
        }
        kept_bytes -= length;
        freed += length;
        end = Some(sequence);
    }
    drop(rows);
    let Some(end) = end else { return Ok(0) };
    let removed = connection
        .prepare_cached("DELETE FROM messages WHERE topic = ?1 AND sequence <= ?2")?
        .execute(params![topic, end])?;
    connection
        .prepare_cached("UPDATE topics SET bytes = max(bytes - ?2, 0) WHERE name = ?1")?
        .execute(params![topic, freed])?;
    Ok(removed)
}
