//! The buckets: `ports::Buckets` in one statement per take.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::json;
use tollgate_store::bucket::{Bucket, Level, MAX_BUCKETS, MAX_UNITS, Scale, TakeError};
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
        let parameters = vec![asked.distinct().into(), Value::from(now)];
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
        let reads = asked.plans.iter().all(|plan| plan.scale.cost == 0);
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

/// The request to one bucket.
struct Plan {
    key: String,
    scale: Scale,
    /// The costs of its key up to and with this one, in units.
    needed: u64,
}

/// A take within its bounds. A key that occurs more than once is one bucket, charged with the sum.
struct Asked {
    plans: Vec<Plan>,
}

impl Asked {
    fn check(buckets: &[Bucket]) -> Result<Self, TakeError> {
        if buckets.len() > MAX_BUCKETS {
            return Err(TakeError::Invalid(format!(
                "a take has at most {MAX_BUCKETS} buckets"
            )));
        }
        let mut plans: Vec<Plan> = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let scale = bucket.check()?;
            let mut needed = scale.cost;
            if let Some(before) = plans.iter().rev().find(|plan| plan.key == bucket.key) {
                let same = Scale {
                    cost: scale.cost,
                    ..before.scale
                } == scale;
                needed = before.needed.saturating_add(scale.cost);
                if !same || needed > scale.full {
                    let why =
                        "a key that occurs twice needs the same parameters, and costs within the capacity";
                    return Err(TakeError::Invalid(why.to_owned()));
                }
            }
            plans.push(Plan {
                key: bucket.key.clone(),
                scale,
                needed,
            });
        }
        Ok(Self { plans })
    }

    /// Each key once, with the sum of its costs: `?1` of the statements.
    fn distinct(&self) -> String {
        let last = |(index, plan): &(usize, &Plan)| {
            !self
                .plans
                .iter()
                .skip(index + 1)
                .any(|later| later.key == plan.key)
        };
        let row = |(_, plan): (usize, &Plan)| {
            let Scale {
                token, rate, full, ..
            } = plan.scale;
            json!([plan.key, token, rate, full, plan.needed])
        };
        self.plans
            .iter()
            .enumerate()
            .filter(last)
            .map(row)
            .collect::<serde_json::Value>()
            .to_string()
    }

    /// The first bucket that lacks its cost.
    fn lacking(&self, held: &HashMap<String, u64>) -> Option<u32> {
        let lacks = |plan: &Plan| held.get(&plan.key).is_some_and(|units| *units < plan.needed);
        self.plans
            .iter()
            .position(lacks)
            .and_then(|index| u32::try_from(index).ok())
    }

    /// The levels of the buckets. If `refused`, waiting times are those until all costs of the key so far are
    /// there, else until the bucket's own cost is.
    fn levels(&self, held: &HashMap<String, u64>, refused: bool) -> Vec<Level> {
        let level = |plan: &Plan| {
            let scale = &plan.scale;
            let units = held.get(&plan.key).copied().unwrap_or(scale.full).min(scale.full);
            let wanted = if refused { plan.needed } else { scale.cost };
            Level {
                remaining: units / scale.token,
                next_ns: wanted.saturating_sub(units).div_ceil(scale.rate),
                full_ns: (scale.full - units).div_ceil(scale.rate),
            }
        };
        self.plans.iter().map(level).collect()
    }
}
