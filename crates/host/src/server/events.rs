//! `GET /api/events`: the gateway's own events as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), on the thread of the connection. From the topic where they
//! are kept, so that `Last-Event-ID` goes on where a listener has stopped; else live.

use super::Shared;
use super::patience::in_time;
use super::service::{Answer, Caller};
use super::sse::{self, ASK_AGAIN, BEAT, SILENCE};
use crate::clock::now;
use crate::events::{frame, missed};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::interval;
use tollgate_api::calls::Scope;
use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_engines::{Engine as _, Tail};
use tollgate_rules::events::Told;
use tollgate_rules::keys;
use tollgate_store::ports::Store as _;

/// Messages that are read at once.
const PAGE: u32 = 100;
const LAST_EVENT_ID: &str = "last-event-id";

/// Opens a stream. `request`: its credential.
///
/// # Errors
/// 401 or 403 without a key of the scope `admin`; 400 for a `Last-Event-ID` that is none; 503 where there are as many streams as
/// there may be, or the store does not answer.
pub async fn open(
    shared: &Arc<Shared>,
    head: &http::request::Parts,
    request: Request,
    caller: &Caller,
) -> Result<Answer, Problem> {
    admit(shared, &request).await?;
    let after = last_event_id(head)?;
    let events = &shared.events;
    let place = events.place();
    let place = place.ok_or_else(|| sse::full("As many listen to the gateway's events as may."))?;
    let source = match events.topic() {
        None => Source::Live(events.listen()),
        Some(topic) => Source::Kept(Kept::open(shared, topic, after).await?),
    };
    Ok(sse::open(place, caller, |to| {
        let stream = Stream {
            shared: Arc::clone(shared),
            request,
            source,
            to,
        };
        stream.run()
    }))
}

/// Whether its credential is a key of the scope `admin`, by now.
async fn admit(shared: &Shared, request: &Request) -> Result<(), Problem> {
    let key = keys::require(&shared.engines.store, request, now(), Scope::Admin);
    in_time(key).await.map(drop)
}

/// The sequence after which a listener goes on.
pub fn last_event_id(head: &http::request::Parts) -> Result<Option<u64>, Problem> {
    let mut given = head.headers.get_all(LAST_EVENT_ID).iter();
    let (first, another) = (given.next(), given.next());
    let Some(first) = first else { return Ok(None) };
    let sequence = first.to_str().ok().and_then(|text| text.parse().ok());
    match sequence.filter(|sequence| another.is_none() && *sequence <= i64::MAX as u64) {
        Some(sequence) => Ok(Some(sequence)),
        None => Err(Problem::field(
            "header:last-event-id",
            "must be the id of an event of this stream: a whole number",
        )),
    }
}

/// Where the events come from.
enum Source {
    Live(broadcast::Receiver<Bytes>),
    Kept(Kept),
}

/// A topic, read from a place on.
struct Kept {
    topic: String,
    tail: Tail,
    after: u64,
    /// Whether it has moved since it was read to its end.
    may_have_more: bool,
}

impl Kept {
    async fn open(shared: &Shared, topic: &str, after: Option<u64>) -> Result<Self, Problem> {
        let store = &shared.engines.store;
        // First this, then what there is: so no message falls between the two.
        let tail = store.subscribe(topic);
        let extent = in_time(tollgate_store::extent::extent(store, topic));
        let last = extent.await?.map_or(0, |topic| topic.last);
        Ok(Self {
            topic: topic.to_owned(),
            tail,
            // One that is ahead of the topic comes from another store: from now on.
            after: after.filter(|after| *after <= last).unwrap_or(last),
            may_have_more: true,
        })
    }

    /// What was appended since; empty for nothing.
    async fn read(&mut self, shared: &Shared) -> Result<Vec<Bytes>, Problem> {
        let found = in_time(shared.engines.store.read(&self.topic, self.after, PAGE, 0)).await?;
        let mut frames = Vec::with_capacity(found.len());
        for message in &found {
            let gone = message.sequence.saturating_sub(self.after + 1);
            if gone > 0 {
                frames.push(missed(gone));
            }
            frames.push(frame(Some(message.sequence), &message.kind, &Told::kept(message)));
            self.after = message.sequence;
        }
        Ok(frames)
    }
}

impl Source {
    /// The next events; safe to be given up while it waits.
    async fn next(&mut self, shared: &Shared) -> Option<Vec<Bytes>> {
        match self {
            Self::Live(feed) => match feed.recv().await {
                Ok(event) => Some(vec![event]),
                Err(RecvError::Lagged(count)) => Some(vec![missed(count)]),
                Err(RecvError::Closed) => None,
            },
            Self::Kept(kept) => loop {
                if kept.may_have_more {
                    match kept.read(shared).await {
                        Ok(frames) if frames.is_empty() => kept.may_have_more = false,
                        Ok(frames) => return Some(frames),
                        // It is tried again; a listener that waits sees a comment now and then.
                        Err(_) => tokio::time::sleep(BEAT).await,
                    }
                    continue;
                }
                if !kept.tail.moved().await {
                    return None;
                }
                kept.may_have_more = true;
            },
        }
    }
}

/// One listener's stream.
struct Stream {
    shared: Arc<Shared>,
    request: Request,
    source: Source,
    to: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Sends until the listener has gone or takes nothing, its key opens this no more, or the gateway drains.
    async fn run(mut self) {
        let mut beat = interval(BEAT);
        let mut asked = Instant::now();
        let mut last = asked;
        // So that a listener knows at once that it listens.
        if !sse::send(&self.to, sse::COMMENT).await {
            return;
        }
        loop {
            let frames = tokio::select! {
                () = self.to.closed() => return,
                frames = self.source.next(&self.shared) => match frames {
                    Some(frames) => frames,
                    None => return,
                },
                _ = beat.tick() => Vec::new(),
            };
            let now = Instant::now();
            if self.shared.draining.load(Ordering::Relaxed) {
                return;
            }
            if now - asked >= ASK_AGAIN {
                asked = now;
                // Where the store does not answer, nothing is known of the key.
                let refused = admit(&self.shared, &self.request).await.err();
                if refused.is_some_and(|problem| problem.kind.status() < 500) {
                    return;
                }
            }
            let frames = match frames.is_empty() {
                true if now - last < SILENCE => continue,
                true => vec![sse::COMMENT],
                false => frames,
            };
            last = now;
            for frame in frames {
                if !sse::send(&self.to, frame).await {
                    return;
                }
            }
        }
    }
}
