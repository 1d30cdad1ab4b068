//! Maintenance: sweeps and checkpoints. An instance does not live long under Spin, and there are many. So
//! whose turn it is follows from the number of the commit, or from chance, never from what an instance has
//! counted. A failure is left to the next turn.

use crate::database::{Database, Purpose, Value, run};
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
        for sql in [sql::SWEEP_ENTRIES, sql::SWEEP_IDS] {
            let _ = run(
                database,
                Purpose::Relaxed,
                sql,
                vec![SWEEP_ROWS.into()],
                &mut |_| Ok(true),
            )
            .await;
        }
    }
    if version.is_multiple_of(CHECKPOINT_EVERY) {
        checkpoint(database).await;
    }
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
