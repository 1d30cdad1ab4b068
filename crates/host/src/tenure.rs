//! Work that one gateway at a time does, where several share a store: by a lease like a relay's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tollgate_delivery::lease::{self, Held, LOOK_MS, Terms, Trust};
use tollgate_delivery::relay::record::Keys;
use tollgate_engines::AnyEngine;
use tollgate_store::commit::{Commit, Outcome};

/// How long the store may take to renew a lease.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the lease's time.
const STEP: Duration = Duration::from_millis(500);
/// How long a lease may take to be given back.
const RELEASE: Duration = Duration::from_secs(1);

/// A gateway's part in some work.
pub struct Tenure {
    pub store: AnyEngine,
    pub keys: Keys,
    /// This gateway's name for it.
    pub owner: String,
    terms: Terms,
    began: Instant,
    held: Mutex<Option<(Held, Trust)>>,
}

impl Tenure {
    /// Of the work whose keys begin with this. `attempt`: how long its longest step may take.
    pub fn new(store: AnyEngine, key: &str, attempt: Duration) -> Self {
        Self {
            store,
            keys: Keys::of_work(key),
            owner: format!("{:016x}", fastrand::u64(..)),
            terms: Terms {
                attempt_ms: u64::try_from(attempt.as_millis()).unwrap_or(u64::MAX),
            },
            began: Instant::now(),
            held: Mutex::default(),
        }
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What it does with the lease it has; short, and no code in it panics.
    fn with<T>(&self, what: impl FnOnce(&mut Option<(Held, Trust)>) -> T) -> T {
        what(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it is ours. `meanwhile` is done before each wait.
    pub async fn begin(&self, mut meanwhile: impl AsyncFnMut()) {
        while !self.took().await {
            meanwhile().await;
            let jitter = 0.5 + fastrand::f64() / 2.0;
            tokio::time::sleep(Duration::from_millis(LOOK_MS).mul_f64(jitter)).await;
        }
    }

    async fn took(&self) -> bool {
        let asked_at = self.clock();
        let Ok(found) = lease::look(&self.store, &self.keys).await else {
            return false;
        };
        let taken = lease::take(&self.store, &self.keys, &self.owner, self.terms, &found).await;
        let Ok(Some(taken)) = taken else { return false };
        self.with(|held| *held = Some((taken, Trust::new(self.terms, asked_at))));
        true
    }

    /// Keeps it; returns when somebody else has it, or may have. While `holds_on`, its end by time alone is not heeded.
    pub async fn keep(&self, holds_on: impl Fn() -> bool) {
        let mut renewed = Instant::now();
        let renewal = Duration::from_millis(self.terms.renewal_ms());
        loop {
            tokio::time::sleep(STEP).await;
            let held = self.with(|held| held.clone());
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
                    self.with(|held| {
                        if let Some((_, trust)) = held {
                            trust.renewed(asked_at);
                        }
                    });
                }
                Ok(Ok(false)) => return,
                _ => {}
            }
        }
    }

    /// Makes a commit one that only the holder can make; `false`: this gateway is not it.
    pub fn fence(&self, commit: &mut Commit) -> bool {
        self.with(|held| {
            if let Some((held, _)) = held {
                held.fence(&self.keys, commit);
            }
            held.is_some()
        })
    }

    /// What became of such a commit: whoever was overtaken does not go on.
    pub fn heard(&self, outcome: &Outcome) {
        if Held::is_lost_by(outcome) {
            self.with(Option::take);
        }
    }

    /// Gives it back: others need not wait for its end.
    pub async fn end(&self) {
        let held = self.with(Option::take);
        if let Some((held, _)) = held {
            let _ = tokio::time::timeout(RELEASE, held.release(&self.store, &self.keys)).await;
        }
    }
}
