//! The buckets: `ports::Buckets` in one statement per take.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use tollgate_store::bucket::{Asked, Bucket, Level, MAX_UNITS, TakeError};
use tollgate_store::ports::Buckets;

use crate::database::{Database, Failure, Purpose, Row, Value, once, run};
use crate::{maintain, sql};

/// For this long after a refusal, nanoseconds, an instance looks before it takes: a request that is refused
/// again then waits for no writer.
const LOOK_NS: u64 = 1_000_000_000;

/// How often a statement is tried that finds the database busy.
#[derive(Clone, Copy)]
enum Attempts {
    One,
    All,
}

/// Token buckets in the database: the port `Buckets` in SQL.
pub struct SqliteBuckets<D> {
    database: Rc<D>,
    refused_at: Cell<Option<u64>>,
}

impl<D: Database> SqliteBuckets<D> {
    /// Buckets in the database.
    pub fn new(database: Rc<D>) -> Self {
        Self {
            database,
            refused_at: Cell::new(None),
        }
    }

    /// Whether it is this take's turn to [`SqliteBuckets::maintain`].
    pub fn is_due(&self) -> bool {
        maintain::is_due_after_take(&*self.database)
    }

    /// Removes buckets that are full, and those beyond the bound.
    pub async fn maintain(&self) {
        maintain::after_take(&*self.database).await;
    }

    async fn query(
        &self,
        attempts: Attempts,
        sql: &str,
        asked: &Asked,
        now: u64,
        mut each: impl FnMut(Row) -> Result<bool, Failure>,
    ) -> Result<(), TakeError> {
        let parameters = vec![asked.as_json().into(), Value::from(now)];
        let done = match attempts {
            Attempts::One => once(&*self.database, Purpose::Relaxed, sql, parameters, &mut each).await,
            Attempts::All => run(&*self.database, Purpose::Relaxed, sql, parameters, &mut each).await,
        };
        done.map_err(|failure| match failure {
            Failure::Busy(message) => TakeError::Busy(message),
            other => TakeError::Unavailable(other.into_message()),
        })
    }

    /// Tries to take: the levels of the buckets, and whether all was granted.
    async fn try_take(
        &self,
        attempts: Attempts,
        asked: &Asked,
        now: u64,
    ) -> Result<(HashMap<String, u64>, bool), TakeError> {
        let (mut held, mut granted) = (HashMap::new(), true);
        self.query(attempts, sql::TAKE, asked, now, |mut row| {
            held.insert(row.text(0)?, row.number(1)?);
            granted &= row.number(2)? == 1;
            Ok(true)
        })
        .await?;
        Ok((held, granted))
    }

    async fn look(&self, asked: &Asked, now: u64) -> Result<Result<Vec<Level>, TakeError>, TakeError> {
        let mut held = HashMap::new();
        self.query(Attempts::All, sql::LOOK, asked, now, |mut row| {
            held.insert(row.text(0)?, row.number(1)?);
            Ok(true)
        })
        .await?;
        Ok(asked.lacking(&held).map_or_else(
            || Ok(asked.levels(&held, false)),
            |index| {
                Err(TakeError::Refused {
                    index,
                    levels: asked.levels(&held, true),
                })
            },
        ))
    }
}

impl<D: Database> Buckets for SqliteBuckets<D> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let asked = Asked::check(&buckets)?;
        // The sum with a time to full, at most as long, stays within 64 bits.
        let now = self.database.now_ns().min(MAX_UNITS - 1);
        let recently = self
            .refused_at
            .get()
            .is_some_and(|at| now.saturating_sub(at) < LOOK_NS);
        let reads = asked.only_reads();
        if recently || reads {
            let seen = self.look(&asked, now).await?;
            if reads || seen.is_err() {
                return seen;
            }
        }
        let mut taken = self.try_take(Attempts::One, &asked, now).await;
        if matches!(taken, Err(TakeError::Busy(_))) {
            // Looking waits for no writer: a request that lacks the cost is refused at once, and only the
            // others wait.
            if let Ok(Err(refused)) = self.look(&asked, now).await {
                self.refused_at.set(Some(now));
                return Err(refused);
            }
            taken = self.try_take(Attempts::All, &asked, now).await;
        }
        let (held, granted) = taken?;
        if granted {
            return Ok(asked.levels(&held, false));
        }
        self.refused_at.set(Some(now));
        let index = asked.lacking(&held).unwrap_or(0);
        Err(TakeError::Refused {
            index,
            levels: asked.levels(&held, true),
        })
    }
}
