//! One gateway at a time looks after an alert, where several share a store. The others tell it what only they know, their answers and
//! breakers, by entries that expire.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tollgate_engines::AnyEngine;
use tollgate_rules::alerts::Readings;
use tollgate_store::commit::{Commit, Mutation, literal};
use tollgate_store::ports::Store as _;

use super::STORE_TIMEOUT;
use crate::clock::now;
use crate::tenure::Tenure;

/// Gateways whose entries are read.
const MAX_GATEWAYS: u32 = 256;
/// How much longer than two looks an entry lasts, milliseconds.
const SEEN_MS: u64 = 10_000;
/// What a gateway tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Seen {
    server_errors: u64,
    open_breakers: Vec<String>,
    down_origins: Vec<String>,
}

/// A gateway's part in an alert.
pub struct Peers {
    pub tenure: Tenure,
    /// The last count of each other gateway, and the sum of what came since.
    others: RefCell<(HashMap<String, u64>, u64)>,
}

impl Peers {
    /// Of the alert whose record has this key. `attempt`: how long a message may take.
    pub fn new(store: AnyEngine, key: &str, attempt: Duration) -> Self {
        Self {
            tenure: Tenure::new(store, key, attempt),
            others: RefCell::default(),
        }
    }

    /// Waits until it is ours. `tells`: what this gateway knows, told to whoever has it, every so often.
    pub async fn begin<F: Future<Output = Readings>>(&self, every: Duration, tells: impl Fn() -> Option<F>) {
        let mut told: Option<Instant> = None;
        let meanwhile = async || {
            let is_due = told.is_none_or(|told| told.elapsed() >= every);
            if is_due && let Some(readings) = tells() {
                self.tell(readings.await, every).await;
                told = Some(Instant::now());
            }
        };
        self.tenure.begin(meanwhile).await;
        *self.others.borrow_mut() = Default::default();
    }

    fn seen_prefix(&self) -> String {
        [&self.tenure.keys.prefix(), "seen/"].concat()
    }

    async fn tell(&self, readings: Readings, every: Duration) {
        let seen = Seen {
            server_errors: readings.server_errors,
            open_breakers: readings.open_breakers,
            down_origins: readings.down_origins,
        };
        let lasts = u64::try_from(every.as_millis())
            .unwrap_or(u64::MAX / 4)
            .saturating_mul(2);
        let commit = Commit {
            partition: self.tenure.keys.partition().to_owned(),
            mutations: vec![Mutation::Set {
                key: [&self.seen_prefix(), self.tenure.owner.as_str()].concat(),
                value: literal(serde_json::to_vec(&seen).unwrap_or_default()),
                expires: Some(now().saturating_add(lasts).saturating_add(SEEN_MS)),
            }],
            ..Commit::default()
        };
        // What is lost is told with the next look.
        let _ = tokio::time::timeout(STORE_TIMEOUT, self.tenure.store.commit(commit)).await;
    }

    /// Adds what the other gateways have told.
    pub async fn join(&self, readings: &mut Readings) {
        let prefix = self.seen_prefix();
        let found = self.tenure.store.scan(&prefix, None, MAX_GATEWAYS);
        let found = tokio::time::timeout(STORE_TIMEOUT, found).await;
        let Ok(Ok(found)) = found else { return };
        let (last, sum) = &mut *self.others.borrow_mut();
        for item in found {
            let owner = item.key.get(prefix.len()..).unwrap_or_default();
            let Ok(seen) = serde_json::from_slice::<Seen>(&item.entry.value) else {
                continue;
            };
            if owner == self.tenure.owner {
                continue;
            }
            let before = last.insert(owner.to_owned(), seen.server_errors);
            // Of one that is new nothing is known of before.
            *sum += seen
                .server_errors
                .saturating_sub(before.unwrap_or(seen.server_errors));
            readings.open_breakers.extend(seen.open_breakers);
            readings.down_origins.extend(seen.down_origins);
        }
        readings.server_errors = readings.server_errors.saturating_add(*sum);
        for names in [&mut readings.open_breakers, &mut readings.down_origins] {
            names.sort_unstable();
            names.dedup();
        }
    }
}
