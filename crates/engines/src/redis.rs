//! Limits that gateways share over a Redis or a Valkey: one script for each batch, by the server's clock. See `docs/fleet.md`.
//!
//! One thread of its own asks it, for the takes of exact limits and for reports of debts alike.

mod coarse;
mod ledger;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_store::bucket::debt::Sharing;
use tollgate_store::bucket::exact::{Granted, Want};
use tollgate_store::settings::{LimitsStore, RedisAddress, StoreSettings};

use crate::buckets::exact::{Failure, Ledger as _};
use crate::buckets::{SharedLimits, exact, telling};
use ledger::Asked;

/// A Redis, as it decides batches. For tests.
pub struct Decider(Asked);

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decider").finish_non_exhaustive()
    }
}

impl Decider {
    /// Connected, on the runtime that this is called on.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn connect(options: &RedisOptions) -> Result<Self, String> {
        let mut asked = Asked::new(options, "x");
        asked.open().await?;
        Ok(Self(asked))
    }

    /// Decides each want on its own, as [`Want::apply`] does.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn take(
        &mut self,
        wants: &BTreeMap<String, Want>,
    ) -> Result<HashMap<String, Granted>, Failure> {
        self.0.decide(wants).await
    }
}

/// How a Redis is reached, and what gateways share over it.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Where it is.
    pub address: RedisAddress,
    /// What every key begins with.
    pub prefix: String,
    /// How limits are shared.
    pub sharing: Sharing,
    /// How long a take of an exact limit may wait for its flight, and a flight for its answer.
    pub patience: Duration,
}

impl RedisOptions {
    /// Of the settings; `None` where these name no Redis.
    ///
    /// # Errors
    /// What is wrong with its URL.
    pub fn of(limits: &LimitsStore, store: &StoreSettings) -> Result<Option<Self>, String> {
        let Some(url) = &limits.url else { return Ok(None) };
        let (gateways, debt_percent) = match store {
            StoreSettings::Postgres(settings) => (settings.gateways, settings.debt_percent),
            StoreSettings::Sqlite { .. } | StoreSettings::Memory { .. } => (4, 10),
        };
        Ok(Some(Self {
            address: RedisAddress::parse(url.expose())?,
            prefix: limits.prefix.clone(),
            sharing: Sharing {
                gateways: limits.gateways.unwrap_or(gateways),
                debt_percent: limits.debt_percent.unwrap_or(debt_percent),
            },
            patience: limits.timeout.into(),
        }))
    }
}

/// Limits over a Redis. Asked until the gateway ends; whether it can be reached shows when it is asked.
#[derive(Debug)]
pub struct RedisLimits;

impl RedisLimits {
    /// Starts the thread that asks, which ends when what is shared over it has gone.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(options: RedisOptions) -> std::io::Result<SharedLimits> {
        let (end, ends) = watch::channel(false);
        let limits = SharedLimits::new(options.sharing, options.patience).with_end(end);
        let (debts, exact) = (Arc::clone(&limits.debts), Arc::clone(&limits.exact));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("limits-redis".into());
        thread.spawn(move || {
            runtime.block_on(async {
                let telling = telling::run(debts, Asked::new(&options, "d"), ends.clone());
                let taking = exact::run(exact, Asked::new(&options, "x"), ends);
                tokio::join!(telling, taking);
            });
        })?;
        Ok(limits)
    }
}
