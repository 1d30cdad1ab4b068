//! Shared limits: what this gateway has admitted is charged in batches, and the levels are answered. Nothing here is durable, nor
//! need it be: a bucket that is forgotten in a crash is full.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error};

use super::Shared;
use super::connect::{Session, told};
use crate::buckets::debts::Report;
use crate::buckets::telling::Teller;

/// How long a report may take before its connection counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at buckets that may be forgotten in the database.
const SWEEP: Duration = Duration::from_secs(30);

/// Charges what each gateway has told and answers the levels. A report that was charged before ($6, $7) is not again. Times are
/// microseconds of the database; units are exact, so they are counted as numeric on the way.
const CHARGE: &str = "
    WITH known AS (
      INSERT INTO tollgate_reports AS r (gateway, number, seen)
      VALUES ($6, $7, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
      ON CONFLICT (gateway) DO UPDATE SET number = excluded.number, seen = excluded.seen WHERE r.number < excluded.number RETURNING 1),
    told AS (
      SELECT key, token, rate, whole, CASE WHEN EXISTS (SELECT 1 FROM known) THEN charge ELSE 0 END AS charge,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS w(key, token, rate, whole, charge))
    INSERT INTO tollgate_buckets AS b (key, level, at, token, rate, whole, charge)
    SELECT key, whole - charge, at, token, rate, whole, charge FROM told ORDER BY key
    ON CONFLICT (key) DO UPDATE SET
      level = greatest(
        least(
          floor(b.level::numeric * excluded.token / b.token)
            + excluded.rate::numeric * 1000 * greatest(excluded.at - b.at, 0),
          excluded.whole) - excluded.charge,
        -4611686018427387904)::bigint,
      at = greatest(b.at, excluded.at), token = excluded.token, rate = excluded.rate, whole = excluded.whole,
      charge = excluded.charge
    RETURNING key, level";

/// Buckets that are full are as if they had never been seen.
const FORGET: &str = "DELETE FROM tollgate_buckets WHERE key IN (
    SELECT key FROM tollgate_buckets WHERE level + rate::numeric * 1000
      * greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint - at, 0) >= whole
    LIMIT 5000 FOR UPDATE SKIP LOCKED)";
/// Gateways that told nothing for a day have ended.
const FORGET_REPORTS: &str = "DELETE FROM tollgate_reports WHERE seen < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 86400000";

/// The database, as it charges reports.
pub struct Told {
    shared: Arc<Shared>,
    session: Option<Session>,
    /// This gateway's row among the reports.
    gateway: String,
    swept: Instant,
}

impl Told {
    /// Not connected yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            session: None,
            gateway: String::new(),
            swept: Instant::now(),
        }
    }
}

impl Teller for Told {
    async fn tell(&mut self, report: &Report, number: i64) -> Result<HashMap<String, i64>, String> {
        let late = |_| "the database does not answer".to_owned();
        if self.session.as_ref().is_none_or(|open| open.client.is_closed()) {
            let opened = tokio::time::timeout(PATIENCE * 3, Session::open(&self.shared.address)).await;
            let opened = opened.map_err(late)?.map_err(|error| told(&error))?;
            // A level that is lost is a full bucket; nobody waits for a disk.
            let settings = "SET synchronous_commit = off; SET statement_timeout = '5s'";
            let set = opened.client.batch_execute(settings).await;
            set.map_err(|error| told(&error))?;
            if self.gateway.is_empty() {
                let row = opened
                    .client
                    .query_one("SELECT gen_random_uuid()::text", &[])
                    .await;
                self.gateway = row.map_err(|error| told(&error))?.get(0);
            }
            self.session = Some(opened);
        }
        let Some(open) = &self.session else {
            return Err("it is not connected".to_owned());
        };
        let charged = charge(&open.client, report, &self.gateway, number);
        let levels = tokio::time::timeout(PATIENCE, charged).await;
        levels.map_err(late)?.map_err(|error| told(&error))
    }

    fn close(&mut self) {
        self.session = None;
    }

    async fn sweep(&mut self) {
        if self.swept.elapsed() >= SWEEP
            && let Some(open) = &self.session
        {
            self.swept = Instant::now();
            for sql in [FORGET, FORGET_REPORTS] {
                let forgotten = tokio::time::timeout(PATIENCE * 5, open.client.execute(sql, &[])).await;
                if !matches!(forgotten, Ok(Ok(_))) {
                    tracing::debug!("full buckets are forgotten later");
                }
            }
        }
    }
}

async fn charge(
    client: &Client,
    report: &Report,
    gateway: &str,
    number: i64,
) -> Result<HashMap<String, i64>, Error> {
    let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
    let column = |of: fn(&tollgate_store::bucket::debt::Charge) -> u64| -> Vec<i64> {
        report
            .charges
            .iter()
            .map(|(_, charge)| signed(of(charge)))
            .collect()
    };
    let keys: Vec<&str> = report.charges.iter().map(|(key, _)| key.as_str()).collect();
    let (tokens, rates) = (column(|charge| charge.token), column(|charge| charge.rate));
    let (wholes, units) = (column(|charge| charge.full), column(|charge| charge.units));
    let rows = client
        .query(
            CHARGE,
            &[&keys, &tokens, &rates, &wholes, &units, &gateway, &number],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
