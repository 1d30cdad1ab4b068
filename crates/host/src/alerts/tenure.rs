//! One gateway at a time looks after an alert, where several share a store: by a lease like a relay's. The others tell it what only
//! they know, their answers and breakers, by entries that expire.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tollgate_delivery::lease::{self, Held, LOOK_MS, Terms, Trust};
use tollgate_delivery::relay::record::Keys;
use tollgate_engines::AnyEngine;
use tollgate_rules::alerts::Readings;
use tollgate_store::commit::{Commit, Mutation, Outcome, literal};
use tollgate_store::ports::Store as _;

use super::STORE_TIMEOUT;
use crate::clock::now;

/// Gateways whose entries are read.
const MAX_GATEWAYS: u32 = 256;
/// How much longer than two looks an entry lasts, milliseconds.
const SEEN_MS: u64 = 10_000;
/// Between two looks at the lease's time.
const STEP: Duration = Duration::from_millis(500);
/// How long a lease may take to be given back.
const RELEASE: Duration = Duration::from_secs(1);

/// What a gateway tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Seen {
    server_errors: u64,
    open_breakers: Vec<String>,
}

/// A gateway's part in an alert.
pub struct Tenure {
    store: AnyEngine,
    keys: Keys,
    owner: String,
    terms: Terms,
    began: Instant,
    held: RefCell<Option<(Held, Trust)>>,
    /// The last count of each other gateway, and the sum of what came since.
    others: RefCell<(HashMap<String, u64>, u64)>,
}

impl Tenure {
    /// Of the alert whose record has this key. `attempt`: how long a message may take.
    pub fn new(store: AnyEngine, key: &str, attempt: Duration) -> Self {
        Self {
            store,
            keys: Keys::of_work(key),
            owner: format!("{:016x}", fastrand::u64(..)),
            terms: Terms {
                attempt_ms: u64::try_from(attempt.as_millis()).unwrap_or(u64::MAX),
            },
            began: Instant::now(),
            held: RefCell::default(),
            others: RefCell::default(),
        }
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until it is ours. `tells`: what this gateway knows, told to whoever has it, every so often.
    pub async fn begin<F: Future<Output = Readings>>(&self, every: Duration, tells: impl Fn() -> Option<F>) {
        let mut told: Option<Instant> = None;
        while !self.took().await {
            let is_due = told.is_none_or(|told| told.elapsed() >= every);
            if is_due && let Some(readings) = tells() {
                self.tell(readings.await, every).await;
                told = Some(Instant::now());
            }
            let jitter = 0.5 + fastrand::f64() / 2.0;
            tokio::time::sleep(Duration::from_millis(LOOK_MS).mul_f64(jitter)).await;
        }
        *self.others.borrow_mut() = Default::default();
    }

    async fn took(&self) -> bool {
        let asked_at = self.clock();
        let Ok(found) = lease::look(&self.store, &self.keys).await else {
            return false;
        };
        let taken = lease::take(&self.store, &self.keys, &self.owner, self.terms, &found).await;
        let Ok(Some(held)) = taken else { return false };
        *self.held.borrow_mut() = Some((held, Trust::new(self.terms, asked_at)));
        true
    }

    /// Keeps it; returns when somebody else has it, or may have. While `holds_on`, its end by time alone is not heeded.
    pub async fn keep(&self, holds_on: impl Fn() -> bool) {
        let mut renewed = Instant::now();
        let renewal = Duration::from_millis(self.terms.renewal_ms());
        loop {
            tokio::time::sleep(STEP).await;
            let held = self.held.borrow().clone();
            let Some((held, trust)) = held else { return };
            if trust.is_over(self.clock()) && !holds_on() {
                return;
            }
            if renewed.elapsed() < renewal {
                continue;
            }
            let asked_at = self.clock();
            let renewing = held.renew(&self.store, &self.keys, &self.owner, self.terms);
            match tokio::time::timeout(STORE_TIMEOUT, renewing).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    if let Some((_, trust)) = &mut *self.held.borrow_mut() {
                        trust.renewed(asked_at);
                    }
                }
                Ok(Ok(false)) => return,
                _ => {}
            }
        }
    }

    /// Makes a commit of the alert's record one that only the holder can make; `false`: this gateway is not it.
    pub fn fence(&self, commit: &mut Commit) -> bool {
        let held = self.held.borrow();
        if let Some((held, _)) = &*held {
            held.fence(&self.keys, commit);
        }
        held.is_some()
    }

    /// What became of such a commit: whoever was overtaken does not go on.
    pub fn heard(&self, outcome: &Outcome) {
        if Held::is_lost_by(outcome) {
            self.held.borrow_mut().take();
        }
    }

    /// Gives it back: others need not wait for its end.
    pub async fn end(&self) {
        let held = self.held.borrow_mut().take();
        if let Some((held, _)) = held {
            let _ = tokio::time::timeout(RELEASE, held.release(&self.store, &self.keys)).await;
        }
    }

    fn seen_prefix(&self) -> String {
        [&self.keys.prefix(), "seen/"].concat()
    }

    async fn tell(&self, readings: Readings, every: Duration) {
        let seen = Seen {
            server_errors: readings.server_errors,
            open_breakers: readings.open_breakers,
        };
        let lasts = u64::try_from(every.as_millis())
            .unwrap_or(u64::MAX / 4)
            .saturating_mul(2);
        let commit = Commit {
            partition: self.keys.partition().to_owned(),
            mutations: vec![Mutation::Set {
                key: [&self.seen_prefix(), self.owner.as_str()].concat(),
                value: literal(serde_json::to_vec(&seen).unwrap_or_default()),
                expires: Some(now().saturating_add(lasts).saturating_add(SEEN_MS)),
            }],
            ..Commit::default()
        };
        // What is lost is told with the next look.
        let _ = tokio::time::timeout(STORE_TIMEOUT, self.store.commit(commit)).await;
    }

    /// Adds what the other gateways have told.
    pub async fn join(&self, readings: &mut Readings) {
        let prefix = self.seen_prefix();
        let found = self.store.scan(&prefix, None, MAX_GATEWAYS);
        let found = tokio::time::timeout(STORE_TIMEOUT, found).await;
        let Ok(Ok(found)) = found else { return };
        let (last, sum) = &mut *self.others.borrow_mut();
        for item in found {
            let owner = item.key.get(prefix.len()..).unwrap_or_default();
            let Ok(seen) = serde_json::from_slice::<Seen>(&item.entry.value) else {
                continue;
            };
            if owner == self.owner {
                continue;
            }
            let before = last.insert(owner.to_owned(), seen.server_errors);
            // Of one that is new nothing is known of before.
            *sum += seen
                .server_errors
                .saturating_sub(before.unwrap_or(seen.server_errors));
            readings.open_breakers.extend(seen.open_breakers);
        }
        readings.server_errors = readings.server_errors.saturating_add(*sum);
        readings.open_breakers.sort_unstable();
        readings.open_breakers.dedup();
    }
}
