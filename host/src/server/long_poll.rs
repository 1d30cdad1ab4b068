//! `GET /api/topics/{topic}/messages?wait=…` waits here, not in a component: an instance has few places, and a call of it
//! less time than a caller may wait. The component answers at once; if it found nothing, it is asked again when the topic
//! has grown.

use super::Shared;
use crate::wasm::bindings::types;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tollgate_core::problem::{Kind, Problem};
use tollgate_core::topics::{self, LongPoll};

/// Calls that may wait at once, on all workers together; beyond it they are refused.
pub const MAX_LONG_POLLS: usize = 1_024;
/// Seconds after which who was refused may try again.
const RETRY_SECONDS: u64 = 5;
/// How soon a wait ends when the gateway drains, at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A call that waits, and its place among [`MAX_LONG_POLLS`].
pub struct Waiting<'a> {
    shared: &'a Shared,
    poll: LongPoll,
    _place: SemaphorePermit<'a>,
}

impl<'a> Waiting<'a> {
    /// Of a request that asks to wait; without that wait from now on.
    ///
    /// # Errors
    /// 503: as many calls wait as may.
    pub fn of(shared: &'a Shared, request: &mut types::Request) -> Result<Option<Self>, Problem> {
        let Some(poll) = LongPoll::of(&request.method, &request.path, request.query.as_deref()) else {
            return Ok(None);
        };
        let Ok(place) = shared.long_polls.try_acquire() else {
            let detail = "As many calls wait for messages as may.";
            return Err(Problem::new(Kind::Unavailable, detail).with_retry_after(RETRY_SECONDS));
        };
        request.query = Some(poll.at_once.clone());
        Ok(Some(Self {
            shared,
            poll,
            _place: place,
        }))
    }

    /// Asks again and again, until an answer has messages, or is an error, or the time is over.
    pub async fn answer(
        &self,
        request: &types::Request,
        ask: impl AsyncFn(types::Request) -> Result<types::Response, Problem>,
    ) -> Result<types::Response, Problem> {
        // First this, then the question: so no message falls between the two.
        let mut tail = self.shared.engines.store.subscribe(&self.poll.topic);
        let until = Instant::now() + self.poll.wait;
        loop {
            let answer = ask(request.clone()).await?;
            let is_over = || Instant::now() >= until || self.shared.draining.load(Ordering::Relaxed);
            if answer.status != 200 || !topics::is_empty_page(&answer.body) || is_over() {
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
            // Otherwise nothing has come.
            if !matches!(timeout_at(until, grown).await, Ok(true)) {
                return Ok(answer);
            }
        }
    }
}
