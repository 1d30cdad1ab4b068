//! One origin, as all workers share it: its places, and of each of its addresses the breaker, the health, and what is under way.

use super::cache::Cache;
use super::counts::Counts;
use crate::clock::now;
use http::HeaderValue;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tollgate_delivery::breaker::{Breaker, CallResult, Change, Permit, Thresholds};
use tollgate_rules::config::{BreakerSettings, CacheMode, OriginSettings};
use url::Url;

/// How long a request waits for a place at most.
const QUEUE_TIME: Duration = Duration::from_secs(1);
/// What a retry costs of the budget, and what a request adds to it: so at most a fifth of the requests is sent again.
const RETRY_COST: i64 = 5;
/// The most that the budget holds: so many retries at once after a quiet time.
const MAX_BUDGET: i64 = 20 * RETRY_COST;

/// One of the `[[origins]]`.
#[derive(Debug)]
pub struct Origin {
    number: u64,
    settings: OriginSettings,
    addresses: Vec<Address>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    budget: AtomicI64,
    /// The answers that are kept, if any are.
    pub cache: Option<Arc<Cache>>,
    /// What is counted of it.
    pub counts: Counts,
}

/// Where an origin is reached.
#[derive(Debug)]
pub struct Address {
    /// As the settings have it.
    pub url: String,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port, as `Host` has them.
    pub authority: HeaderValue,
    breaker: Mutex<Breaker>,
    under_way: AtomicUsize,
    is_well: AtomicBool,
    /// Results of checks in a row that contradict `is_well`.
    contradictions: AtomicU32,
}

/// Why nothing is sent to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many requests are under way, and wait, as may.
    Busy,
    /// Each address is left alone for so many seconds more.
    Open(u64),
}

/// A request to one of the addresses, until this is dropped.
#[derive(Debug)]
pub struct Attempt {
    origin: Arc<Origin>,
    index: usize,
    permit: Option<Permit>,
}

impl Address {
    fn new(text: &str, breaker: &BreakerSettings) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let host = url.host_str()?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Some(Self {
            url: text.to_owned(),
            is_tls: url.scheme() == "https",
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default()?,
            authority: HeaderValue::try_from(authority).ok()?,
            breaker: Mutex::new(Breaker::new(Thresholds {
                consecutive_failures: breaker.failures,
                window_ms: breaker.window.as_millis(),
                min_results: breaker.results,
                failure_percent: breaker.percent,
                open_initial_ms: breaker.open.as_millis(),
                open_cap_ms: breaker.open_cap.as_millis(),
                ..Thresholds::default()
            })),
            under_way: AtomicUsize::new(0),
            is_well: AtomicBool::new(true),
            contradictions: AtomicU32::new(0),
        })
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Whether its health checks pass; true where there are none.
    pub fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// `closed`, `half-open` or `open`.
    pub fn breaker(&self) -> &'static str {
        self.breaker.lock().name()
    }

    /// A health check has passed or failed. Returns the health if it has changed: after `fall` failures, or `rise` successes, in a
    /// row.
    pub fn checked(&self, passed: bool, fall: u32, rise: u32) -> Option<bool> {
        let is_well = self.is_well();
        if passed == is_well {
            self.contradictions.store(0, Ordering::Relaxed);
            return None;
        }
        let needed = if is_well { fall } else { rise };
        if self.contradictions.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return None;
        }
        self.contradictions.store(0, Ordering::Relaxed);
        self.is_well.store(passed, Ordering::Relaxed);
        Some(passed)
    }
}

impl Origin {
    /// With nothing under way.
    pub fn new(number: u64, settings: OriginSettings) -> Self {
        let addresses = settings.urls.iter();
        let addresses = addresses.filter_map(|url| Address::new(url, &settings.breaker));
        Self {
            number,
            addresses: addresses.collect(),
            places: Arc::new(Semaphore::new(settings.max_concurrent as usize)),
            waiting: AtomicUsize::new(0),
            budget: AtomicI64::new(MAX_BUDGET),
            cache: cache(&settings),
            counts: Counts::default(),
            settings,
        }
    }

    /// Tells it from all others of this process, also from those that had its name before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// `[[origins]]`
    pub fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    /// Where it is reached.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Requests that have a place.
    pub fn under_way(&self) -> usize {
        let places = self.settings.max_concurrent as usize;
        places.saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for one.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place among the requests under way; waits for it for [`QUEUE_TIME`] at most.
    ///
    /// # Errors
    /// As many wait as may, or none became free.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, Refused> {
        self.earn();
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let _waits = self.wait()?;
        let place = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(QUEUE_TIME, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Refused::Busy),
        }
    }

    fn wait(&self) -> Result<Waits<'_>, Refused> {
        let waits = Waits(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        match before < self.settings.max_queue as usize {
            true => Ok(waits),
            false => Err(Refused::Busy),
        }
    }

    fn earn(&self) {
        if self.budget.load(Ordering::Relaxed) < MAX_BUDGET {
            self.budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether one more request may be sent again; it is counted.
    pub fn may_retry(&self) -> bool {
        let spend = |left: i64| (left >= RETRY_COST).then_some(left - RETRY_COST);
        let spent = self
            .budget
            .try_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok();
        if spent {
            self.counts.retries.fetch_add(1, Ordering::Relaxed);
        }
        spent
    }

    /// The address with the fewest requests under way, of those that are well and whose breaker lets one through, and that were not
    /// `tried`; else, one that was. Where none is well, health counts for nothing: it may be the check that fails.
    ///
    /// # Errors
    /// Each is left alone, for some seconds more.
    pub fn attempt(self: &Arc<Self>, tried: &[usize]) -> Result<Attempt, Refused> {
        let now = now();
        if self.addresses.len() == 1 {
            return self.begin(0, now).ok_or_else(|| self.open(now));
        }
        let any_well = self.addresses.iter().any(Address::is_well);
        let count = self.addresses.len();
        let first = fastrand::usize(..count.max(1));
        // Beginning anywhere, so that equals take turns.
        let mut order: Vec<usize> = (0..count).map(|index| (first + index) % count).collect();
        order.sort_by_key(|index| {
            let address = self.addresses.get(*index);
            let sick = any_well && address.is_some_and(|address| !address.is_well());
            (sick, tried.contains(index), address.map(Address::under_way))
        });
        let sick = |index: &usize| {
            any_well
                && self
                    .addresses
                    .get(*index)
                    .is_some_and(|address| !address.is_well())
        };
        let mut usable = order.iter().filter(|index| !sick(index));
        usable
            .find_map(|index| self.begin(*index, now))
            .ok_or_else(|| self.open(now))
    }

    fn begin(self: &Arc<Self>, index: usize, now: u64) -> Option<Attempt> {
        let address = self.addresses.get(index)?;
        let permit = address.breaker.lock().begin(now)?;
        address.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Attempt {
            origin: Arc::clone(self),
            index,
            permit: Some(permit),
        })
    }

    fn open(&self, now: u64) -> Refused {
        let until = self.addresses.iter().map(|address| {
            let until = address.breaker.lock().open_until();
            // Half-open: a probe is under way.
            until.unwrap_or(now).saturating_sub(now)
        });
        Refused::Open(until.min().unwrap_or_default().div_ceil(1_000).max(1))
    }
}

fn cache(settings: &OriginSettings) -> Option<Arc<Cache>> {
    let by_headers = settings.cache == CacheMode::ByResponseHeaders;
    let stale_if_error = settings.stale_if_error.map(Duration::from).unwrap_or_default();
    let is_on = by_headers || !stale_if_error.is_zero();
    let object = usize::try_from(settings.cache_object.0).unwrap_or(usize::MAX);
    is_on.then(|| {
        Arc::new(Cache::new(
            settings.cache_memory.0,
            object,
            by_headers,
            stale_if_error,
        ))
    })
}

struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attempt {
    /// Where it goes.
    pub fn address(&self) -> Option<&Address> {
        self.origin.addresses.get(self.index)
    }

    /// Its place among the addresses.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whose address it is.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// It showed whether the address works.
    pub fn ended(&mut self, result: CallResult) {
        let Some(address) = self.origin.addresses.get(self.index) else {
            return;
        };
        let Some(permit) = self.permit.take() else { return };
        let change = address
            .breaker
            .lock()
            .record(permit, result, now(), fastrand::u64(..));
        let (origin, url) = (&self.origin.settings.name, &address.url);
        match change {
            Some(Change::Opened { .. }) => {
                tracing::warn!(origin, url, "an origin fails: nothing is sent to it for a while");
            }
            Some(Change::Closed) => tracing::info!(origin, url, "an origin works again"),
            None => {}
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.ended(CallResult::Neither);
        if let Some(address) = self.address() {
            address.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
