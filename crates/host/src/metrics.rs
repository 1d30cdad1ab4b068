//! Metrics: what is counted ([`table`]), by whom ([`count`]), and how a scrape gathers it ([`gather`]) and is answered.
//!
//! A scrape costs the requests of others nothing: it runs beside the worker's thread, a few at a time, and what must be read
//! from the store or the disk is kept for some seconds ([`slow`]), however often somebody scrapes.

pub mod asked;
mod claims;
pub mod count;
mod gather;
mod process;
pub mod refused;
mod sheet;
mod slow;
mod table;

pub use table::{Metric, Row, Type};

use crate::server::Shared;
use crate::server::generation::Generation;
use sheet::{Format, Sheet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use tokio::sync::Semaphore;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_delivery::driver::Statuses;
use tollgate_rules::config::MetricsAccess;
use tollgate_rules::keys;

/// Scrapes at once; more are told to come again.
const MAX_SCRAPES: usize = 8;
/// Seconds after which they may.
const RETRY_SECONDS: u64 = 1;
/// Headers by which a proxy says that somebody else asks.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
];

/// What metrics are gathered from, besides what [`Shared`] has.
pub struct Metrics {
    scrapes: Semaphore,
    slow: slow::Slow,
    relay: OnceLock<Statuses>,
    began: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            scrapes: Semaphore::new(MAX_SCRAPES),
            slow: slow::Slow::default(),
            relay: OnceLock::new(),
            began: SystemTime::now(),
        }
    }
}

impl Metrics {
    /// The relay runs from now on.
    pub fn watch(&self, relay: Statuses) {
        // There is one.
        let _ = self.relay.set(relay);
    }
}

/// The answer to `GET /metrics`.
///
/// # Errors
/// 401 or 403 for who may not read them; 503 if many do already.
pub async fn answer(
    shared: &Arc<Shared>,
    generation: &Generation,
    head: &http::request::Parts,
    peer: IpAddr,
    now: u64,
) -> Result<Response, Problem> {
    let access = generation.settings.config.metrics.access;
    admit(shared, access, head, peer, now).await?;
    let metrics = &shared.metrics;
    let busy = || {
        Problem::new(Kind::Unavailable, "The metrics are being read by many.").with_retry_after(RETRY_SECONDS)
    };
    let _scrape = metrics.scrapes.try_acquire().map_err(|_| busy())?;
    let accept = head.headers.get_all(http::header::ACCEPT).iter();
    let format = Format::accepted(accept.filter_map(|value| value.to_str().ok()));
    let slow = metrics.slow.read(shared, now).await;
    let gathering = Arc::clone(shared);
    // Beside this thread, which has redirects to answer.
    let text = tokio::task::spawn_blocking(move || {
        let mut sheet = Sheet::default();
        gather::report(&gathering, &mut sheet);
        sheet.append(&slow);
        sheet.written(format)
    });
    let text = text
        .await
        .map_err(|_| Problem::new(Kind::Internal, "The metrics cannot be written."))?;
    let mut response = Response::empty(200)
        .with("content-type", format.content_type())
        .with("cache-control", "no-store")
        .with("vary", "accept");
    response.body = text.into_bytes();
    Ok(response)
}

/// Whether they may be read by whoever asks.
async fn admit(
    shared: &Shared,
    access: MetricsAccess,
    head: &http::request::Parts,
    peer: IpAddr,
    now: u64,
) -> Result<(), Problem> {
    let is_forwarded = FORWARDED.iter().any(|name| head.headers.contains_key(*name));
    match access {
        MetricsAccess::Anyone => return Ok(()),
        MetricsAccess::Loopback if peer.is_loopback() && !is_forwarded => return Ok(()),
        MetricsAccess::Loopback | MetricsAccess::Key => {}
    }
    let credentials = head.headers.get_all(http::header::AUTHORIZATION).iter();
    let request = Request {
        method: "GET".into(),
        path: head.uri.path().to_owned(),
        query: None,
        headers: credentials
            .map(|value| Header {
                name: keys::HEADER.into(),
                value: value.as_bytes().to_vec(),
            })
            .collect(),
        body: Vec::new(),
        peer: peer.to_string(),
    };
    keys::require(&shared.engines.store, &request, now, Scope::Metrics)
        .await
        .map(drop)
}
