//! Maintenance: sweeps and checkpoints. An instance does not live long under Spin, and there are many. So
//! whose turn it is follows from the number of the commit, or from chance, never from what an instance has
//! counted. A failure is left to the next turn.

use tollgate_store::retention::{Cut, Retention};

use crate::database::{Database, Failure, Purpose, Row, Value, run};
use crate::sql;

/// One commit in this many copies the log into the database.
const CHECKPOINT_EVERY: u64 = 128;
/// One commit in this many removes what has expired.
const SWEEP_EVERY: u64 = 32;
/// The most rows of a kind that one sweep removes: more than [`SWEEP_EVERY`] commits are likely to leave
/// behind.
const SWEEP_ROWS: u32 = 512;
/// One take in this many removes buckets, and one in this many copies the log.
const BUCKETS_EVERY: u64 = 512;
/// Buckets that are kept. Beyond it those go that are full soonest: their loss lets the least through.
pub const MAX_BUCKETS: u32 = 100_000;
/// The most buckets that one sweep removes: more than [`BUCKETS_EVERY`] takes can add.
const SWEEP_BUCKETS: u32 = 16_384;

/// Whether anything is to be done after the commit that was given this version.
pub fn is_due(version: u64) -> bool {
    version.is_multiple_of(SWEEP_EVERY) || version.is_multiple_of(CHECKPOINT_EVERY)
}

/// Does the work that is due after this commit.
pub async fn after_commit<D: Database>(database: &D, version: u64) {
    if version.is_multiple_of(SWEEP_EVERY) {
        let _ = expire(database).await;
    }
    if version.is_multiple_of(CHECKPOINT_EVERY) {
        checkpoint(database).await;
    }
}

/// Removes what has expired, up to a bound; whether there may be more.
pub async fn expire<D: Database>(database: &D) -> Result<bool, Failure> {
    let mut more = false;
    for sql in [sql::SWEEP_ENTRIES, sql::SWEEP_IDS] {
        let mut rows = 0;
        let mut count = |_| {
            rows += 1;
            Ok(true)
        };
        run(
            database,
            Purpose::Relaxed,
            sql,
            vec![SWEEP_ROWS.into()],
            &mut count,
        )
        .await?;
        more |= rows >= SWEEP_ROWS;
    }
    Ok(more)
}

/// Removes messages of a topic that was deleted, up to a bound; whether there may be more.
pub async fn forget<D: Database>(database: &D) -> Result<bool, Failure> {
    let mut more = false;
    let mut seen = |_| {
        more = true;
        Ok(true)
    };
    let rows = vec![SWEEP_ROWS.into()];
    run(database, Purpose::Relaxed, sql::FORGET, rows, &mut seen).await?;
    Ok(more)
}

/// Removes the topic's oldest messages, as far as they may go, up to a bound; whether there may be more. What goes is chosen before
/// it is removed: others may have removed it meanwhile, and nobody makes it need to stay.
pub async fn trim<D: Database>(
    database: &D,
    topic: &str,
    retention: Retention,
    needed: u64,
) -> Result<bool, Failure> {
    let (mut cut, mut end, mut rows) = (None, None, 0);
    let mut choose = |row: Row| {
        let (bytes, now) = (row.number(0)?, row.number(1)?);
        let cut = cut.get_or_insert_with(|| Cut::new(retention, needed, bytes, now));
        let sequence = row.number(2)?;
        let goes = cut.takes(sequence, row.number(3)?, row.number(4)?);
        if goes {
            end = Some(sequence);
            rows += 1;
        }
        Ok(goes)
    };
    let parameters = vec![topic.into(), SWEEP_ROWS.into()];
    run(
        database,
        Purpose::Relaxed,
        &sql::oldest(),
        parameters,
        &mut choose,
    )
    .await?;
    let Some(end) = end else { return Ok(false) };
    let parameters = vec![topic.into(), end.into()];
    run(database, Purpose::Relaxed, sql::TRIM, parameters, &mut |_| {
        Ok(true)
    })
    .await?;
    Ok(rows >= SWEEP_ROWS)
}

/// Whether it is this take's turn to remove buckets.
pub fn is_due_after_take<D: Database>(database: &D) -> bool {
    database.random().is_multiple_of(BUCKETS_EVERY)
}

/// Removes buckets.
pub async fn after_take<D: Database>(database: &D) {
    let parameters: Vec<Value> = vec![SWEEP_BUCKETS.into(), database.now_ns().into(), MAX_BUCKETS.into()];
    let _ = run(
        database,
        Purpose::Relaxed,
        sql::SWEEP_BUCKETS,
        parameters,
        &mut |_| Ok(true),
    )
    .await;
    checkpoint(database).await;
}

async fn checkpoint<D: Database>(database: &D) {
    let _ = run(
        database,
        Purpose::Relaxed,
        sql::CHECKPOINT,
        Vec::new(),
        &mut |_| Ok(true),
    )
    .await;
}
