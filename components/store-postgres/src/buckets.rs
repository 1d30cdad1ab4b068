//! The buckets: `ports::Buckets` in one statement per take.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use tollgate_store::bucket::{Asked, Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

use crate::database::{Again, Database, Failure, Value, run};
use crate::sql;

/// For so many takes after a refusal an instance looks before it takes: who is refused again then locks nothing.
const LOOKS: u32 = 32;
/// One take in this many removes buckets.
const SWEEP_EVERY: u64 = 512;
/// Buckets that are kept. Beyond it those go that are full soonest: their loss lets the least through.
const MAX_KEPT: u32 = 100_000;
/// The most buckets that one sweep removes: more than [`SWEEP_EVERY`] takes can add.
const SWEEP_ROWS: u32 = 16_384;

/// Token buckets in the database.
pub struct PostgresBuckets<D> {
    database: Rc<D>,
    looks: Cell<u32>,
}

impl<D: Database> PostgresBuckets<D> {
    /// Buckets in the database.
    pub fn new(database: Rc<D>) -> Self {
        Self {
            database,
            looks: Cell::new(0),
        }
    }

    /// Whether it is this take's turn to [`PostgresBuckets::maintain`].
    pub fn is_due(&self) -> bool {
        self.database.random().is_multiple_of(SWEEP_EVERY)
    }

    /// Removes buckets that are full, and those beyond the bound. A failure is left to the next turn.
    pub async fn maintain(&self) {
        let parameters = vec![SWEEP_ROWS.into(), self.clock(), MAX_KEPT.into()];
        let _ = run(&*self.database, Again::Harmless, sql::SWEEP_BUCKETS, parameters).await;
    }

    fn clock(&self) -> Value {
        self.database.bucket_clock().map_or(Value::Null, Value::from)
    }

    /// The levels of the buckets, and whether all was granted.
    async fn ask(&self, asked: &Asked, looks: bool) -> Result<(HashMap<String, u64>, bool), TakeError> {
        let parameters = vec![
            Value::Text(asked.as_json()),
            self.clock(),
            u32::from(looks).into(),
        ];
        // Taken twice it lets less through, never more: so a lost connection does no harm.
        let rows = run(&*self.database, Again::Harmless, sql::TAKE, parameters).await;
        let rows = rows.map_err(|failure| match failure.is_busy() {
            true => TakeError::Busy(failure.into_message()),
            false => unavailable(failure),
        })?;
        let (mut held, mut granted) = (HashMap::new(), true);
        for mut row in rows {
            let key = row.text(0).map_err(unavailable)?;
            held.insert(key, row.number(1).map_err(unavailable)?);
            granted &= row.number(2).map_err(unavailable)? == 1;
        }
        Ok((held, granted))
    }
}

fn unavailable(failure: Failure) -> TakeError {
    TakeError::Unavailable(failure.into_message())
}

impl<D: Database> Buckets for PostgresBuckets<D> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let asked = Asked::check(&buckets)?;
        if asked.only_reads() {
            let (held, _) = self.ask(&asked, true).await?;
            return Ok(asked.levels(&held, false));
        }
        let refused = |held: &HashMap<String, u64>| {
            self.looks.set(LOOKS);
            let index = asked.lacking(held).unwrap_or(0);
            let levels = asked.levels(held, true);
            Err(TakeError::Refused { index, levels })
        };
        if let Some(left) = self.looks.get().checked_sub(1) {
            self.looks.set(left);
            let (held, enough) = self.ask(&asked, true).await?;
            if !enough {
                return refused(&held);
            }
        }
        let (held, granted) = self.ask(&asked, false).await?;
        match granted {
            true => Ok(asked.levels(&held, false)),
            false => refused(&held),
        }
    }
}
