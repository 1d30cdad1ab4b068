//! `GET /api/topics/{topic}/messages` as server-sent events, on the thread of the connection: what is kept after `after`, then what
//! comes. `Last-Event-ID` goes on where a listener has stopped.

use super::Shared;
use super::events::last_event_id;
use super::patience::in_time;
use super::service::{Answer, Caller};
use super::sse::{self, ASK_AGAIN, BEAT, SILENCE};
use crate::clock::now;
use crate::events::{frame, missed};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_engines::{Engine as _, Tail};
use tollgate_rules::messages::MessageView;
use tollgate_rules::topics;
use tollgate_store::ports::Store as _;

/// Streams at once.
pub const MAX_STREAMS: usize = 256;
/// Messages that are read at once.
const PAGE: u32 = 100;

/// Opens a stream.
///
/// # Errors
/// 401 or 403 without a key of the scope `topics`; 400 for a name, a query or a `Last-Event-ID` that is none; 503 where there are as
/// many streams as there may be, or the store does not answer.
pub async fn open(
    shared: &Arc<Shared>,
    head: &http::request::Parts,
    request: Request,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let (topic, after) = admit(shared, &request).await?;
    let after = last_event_id(head)?.unwrap_or(after);
    let place = Arc::clone(&shared.tails).try_acquire_owned();
    let place = place.map_err(|_| sse::full("As many listen to topics as may."))?;
    // First this, then what there is: so no message falls between the two.
    let tail = shared.engines.store.subscribe(&topic);
    let shared = Arc::clone(shared);
    Ok(sse::open(place, caller, |to| {
        let stream = Stream {
            shared,
            request,
            topic,
            tail,
            after,
            to,
        };
        stream.run()
    }))
}

/// The topic, and after which sequence, if its credential is a key of the scope `topics`, by now.
async fn admit(shared: &Shared, request: &Request) -> Result<(String, u64), Problem> {
    in_time(topics::tail(&shared.engines.store, request, now())).await
}

/// One listener's stream.
struct Stream {
    shared: Arc<Shared>,
    request: Request,
    topic: String,
    tail: Tail,
    after: u64,
    to: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Sends until the listener has gone or takes nothing, its key opens this no more, or the gateway drains.
    async fn run(mut self) {
        let (mut asked, mut last) = (Instant::now(), Instant::now());
        // So that a listener knows at once that it listens.
        let mut frames = vec![sse::COMMENT];
        loop {
            for frame in frames.drain(..) {
                last = Instant::now();
                if !sse::send(&self.to, frame).await {
                    return;
                }
            }
            if self.shared.draining.load(Ordering::Relaxed) || !self.may_go_on(&mut asked).await {
                return;
            }
            match in_time(self.shared.engines.store.read(&self.topic, self.after, PAGE, 0)).await {
                Ok(found) => frames = self.frames(&found),
                Err(_) => tokio::time::sleep(BEAT).await,
            }
            if !frames.is_empty() {
                continue;
            }
            // Looked at now and then: the gateway may drain, and a message may come meanwhile whose notice was missed.
            tokio::select! {
                () = self.to.closed() => return,
                moved = timeout(BEAT, self.tail.moved()) => if moved == Ok(false) { return },
            }
            if last.elapsed() >= SILENCE {
                frames.push(sse::COMMENT);
            }
        }
    }

    fn frames(&mut self, found: &[tollgate_store::commit::Message]) -> Vec<Bytes> {
        let mut frames = Vec::with_capacity(found.len());
        for message in found {
            let gone = message.sequence.saturating_sub(self.after + 1);
            if gone > 0 {
                frames.push(missed(gone));
            }
            frames.push(frame(Some(message.sequence), "", &MessageView::new(message)));
            self.after = message.sequence;
        }
        frames
    }

    /// Whether its key still opens this. Where the store does not answer, nothing is known of the key.
    async fn may_go_on(&self, asked: &mut Instant) -> bool {
        if asked.elapsed() < ASK_AGAIN {
            return true;
        }
        *asked = Instant::now();
        let refused = admit(&self.shared, &self.request).await.err();
        refused.is_none_or(|problem| problem.kind.status() >= 500)
    }
}
