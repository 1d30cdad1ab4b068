//! Exact limits: what waits at this gateway is decided by one statement, each bucket on its own. See
//! [`tollgate_store::bucket::exact`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Statement};
use tollgate_store::bucket::exact::{Granted, Want};

use super::Shared;
use super::connect::{Session, told};
use crate::buckets::exact::{Failure, Ledger};

/// Grants of each bucket ($1) what is there, up to $5 tokens in multiples of $6, after $7 tokens were given back that were granted at
/// $8, less what the bucket has gained since. Parameters and levels are units ($2 to $4), times microseconds of the database. Units
/// are counted as numeric on the way, since they are exact. A row that is new has its place in the lists in `charge`, below zero; one
/// that was there finds its place by it, and has the units that were granted in it.
const TAKE: &str = "
    WITH w AS (
      SELECT *, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at,
        least(wanted, whole / token / greatest(step, 1) * step) * token AS granted
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
        WITH ORDINALITY AS w(key, token, rate, whole, wanted, step, n))
    INSERT INTO tollgate_buckets AS b (key, level, at, token, rate, whole, charge)
    SELECT key, whole - granted, at, token, rate, whole, -n FROM w ORDER BY key
    ON CONFLICT (key) DO UPDATE SET (level, at, token, rate, whole, charge) = (
      SELECT there - granted, at, token, rate, whole, granted
      FROM (SELECT *, token * least(
          ($5::bigint[])[n],
          greatest(there, 0) / (token * greatest(($6::bigint[])[n], 1)) * ($6::bigint[])[n]) AS granted
        FROM (SELECT n, at, token, rate, whole, greatest(least(
            floor(b.level::numeric * token / b.token) + rate::numeric * 1000 * greatest(at - b.at, 0)
              + CASE WHEN at < ($8::bigint[])[n] THEN 0 ELSE
                  greatest(($7::bigint[])[n]::numeric * token - rate::numeric * 1000 * (at - ($8::bigint[])[n]), 0) END,
            whole), -4611686018427387904)::bigint AS there
          FROM (SELECT -excluded.charge AS n, greatest(b.at, excluded.at) AS at, excluded.token AS token,
            excluded.rate AS rate, excluded.whole AS whole) AS asked) AS found) AS decided)
    RETURNING key, level, CASE WHEN charge < 0 THEN whole - level ELSE charge END / token, at";

/// Waits for nobody's disk: a level that is lost is a full bucket. Rows that others hold for long are told to be busy.
const SETTINGS: &str =
    "SET synchronous_commit = off; SET lock_timeout = '200ms'; SET statement_timeout = '5s'";

/// The database, as it decides exact limits.
pub struct Takes {
    shared: Arc<Shared>,
    open: Option<(Session, Statement)>,
}

impl Takes {
    /// Not connected yet.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Connected to the database of a store, on the runtime that this is called on. For tests.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn connect(store: &super::PostgresStore) -> Result<Self, String> {
        let mut takes = Self::new(Arc::clone(&store.shared));
        takes.open().await?;
        Ok(takes)
    }

    /// Decides each want on its own, as [`Want::apply`] does.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn take(
        &mut self,
        wants: &BTreeMap<String, Want>,
    ) -> Result<HashMap<String, Granted>, Failure> {
        self.decide(wants).await
    }
}

impl Ledger for Takes {
    fn is_open(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|(session, _)| !session.client.is_closed())
    }

    async fn open(&mut self) -> Result<(), String> {
        let said = |error: Error| told(&error);
        let session = Session::open(&self.shared.address).await.map_err(said)?;
        session.client.batch_execute(SETTINGS).await.map_err(said)?;
        let statement = session.client.prepare(TAKE).await.map_err(said)?;
        self.open = Some((session, statement));
        Ok(())
    }

    async fn decide(&mut self, wants: &BTreeMap<String, Want>) -> Result<HashMap<String, Granted>, Failure> {
        let Some((session, statement)) = &self.open else {
            return Err(Failure::Unavailable("it is not connected".into()));
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let column = |of: fn(&Want) -> u64| -> Vec<i64> { wants.values().map(of).map(signed).collect() };
        let keys: Vec<&str> = wants.keys().map(String::as_str).collect();
        let (tokens, rates) = (column(|want| want.scale.token), column(|want| want.scale.rate));
        let (wholes, wanted) = (column(|want| want.scale.full), column(|want| want.tokens));
        let (steps, backs) = (column(|want| want.step), column(|want| want.back));
        let since = column(|want| want.back_at);
        let rows = session
            .client
            .query(
                statement,
                &[&keys, &tokens, &rates, &wholes, &wanted, &steps, &backs, &since],
            )
            .await
            .map_err(|error| failure(&error))?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let granted = rows.iter().map(|row| {
            let granted = Granted {
                level: row.get(1),
                tokens: unsigned(row.get(2)),
                at: unsigned(row.get(3)),
            };
            (row.get(0), granted)
        });
        Ok(granted.collect())
    }

    fn close(&mut self) {
        self.open = None;
    }
}

fn failure(error: &Error) -> Failure {
    let is_held = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    match error.code() {
        Some(code) if is_held.contains(code) => Failure::Busy(told(error)),
        _ => Failure::Unavailable(told(error)),
    }
}
