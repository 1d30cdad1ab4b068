//! `GET /api/topics/{topic}/messages?wait=…`, and a lease with a `wait`, wait here, not in the rules. The rules have few places, and
//! less time for a call than a caller may wait. They answer at once; if they found nothing, they are asked
//! again when the topic has grown.

use super::Shared;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tollgate_api::problem::{Kind, Problem};
use tollgate_engines::Engine as _;
use tollgate_rules::heads;
use tollgate_rules::topics::LongPoll;

/// Calls that may wait at once, on all workers together; beyond it they are refused.
pub const MAX_LONG_POLLS: usize = 1_024;
/// Seconds after which a refused caller may try again.
const RETRY_SECONDS: u64 = 5;
/// How soon a wait ends when the gateway drains, at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How soon a lease is asked for again although the topic has not grown: another one may have ended.
const LEASE_EVERY: Duration = Duration::from_secs(1);

/// A call that waits, and its place among [`MAX_LONG_POLLS`].
pub struct Waiting<'a> {
    shared: &'a Shared,
    poll: LongPoll,
    _place: SemaphorePermit<'a>,
}

/// A place for a call that waits.
///
/// # Errors
/// 503: as many calls wait as may.
pub fn place(shared: &Shared) -> Result<SemaphorePermit<'_>, Problem> {
    shared.long_polls.try_acquire().map_err(|_| {
        let detail = "As many calls wait as may.";
        Problem::new(Kind::Unavailable, detail).with_retry_after(RETRY_SECONDS)
    })
}

impl<'a> Waiting<'a> {
    /// Takes a place for a request that asks to wait.
    ///
    /// # Errors
    /// 503: as many calls wait as may.
    pub fn of(
        shared: &'a Shared,
        method: &str,
        path: &str,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Self>, Problem> {
        let Some(poll) = LongPoll::of(method, path, query, body) else {
            return Ok(None);
        };
        Ok(Some(Self {
            shared,
            poll,
            _place: place(shared)?,
        }))
    }

    /// The query of the same call without a wait.
    pub fn query(&self) -> Option<&str> {
        self.poll.immediate.as_deref()
    }

    /// The body of the same call without a wait, where that is where the wait is.
    pub fn body(&self) -> Option<&[u8]> {
        self.poll.lease.as_deref()
    }

    /// Asks again and again, until an answer has messages, or is an error, or the time is over.
    pub async fn answer(
        &self,
        ask: impl AsyncFn() -> Result<heads::Response, Problem>,
    ) -> Result<heads::Response, Problem> {
        // First this, then the question: so no message falls between the two.
        let mut tail = self.shared.engines.store.subscribe(&self.poll.topic);
        let until = Instant::now() + self.poll.wait;
        loop {
            let answer = ask().await?;
            let is_over = || Instant::now() >= until || self.shared.draining.load(Ordering::Relaxed);
            if answer.status != 200 || !self.poll.is_empty(&answer.body) || is_over() {
                return Ok(answer);
            }
            let grown = async {
                // Looked at now and then: the gateway may drain.
                loop {
                    match timeout(LOOK_EVERY, tail.moved()).await {
                        Ok(there) => return there,
                        Err(_) if self.shared.draining.load(Ordering::Relaxed) => return false,
                        Err(_) => {}
                    }
                }
            };
            let look_at = match self.poll.lease {
                Some(_) => until.min(Instant::now() + LEASE_EVERY),
                None => until,
            };
            match timeout_at(look_at, grown).await {
                Ok(true) => {}
                Err(_) if look_at < until => {}
                // Nothing has come.
                Ok(false) | Err(_) => return Ok(answer),
            }
        }
    }
}
