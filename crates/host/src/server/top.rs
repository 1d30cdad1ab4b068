//! `GET /api/links/top`, on the thread of the connection, a few links at a time: once, or as server-sent events.

use super::Shared;
use super::generation::Generation;
use super::patience::in_time;
use super::service::{Answer, Caller, from_core};
use super::sse::{self, ASK_AGAIN, BEAT, SILENCE};
use crate::clock::now;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_rules::links::top::{Asked, Found};

/// The links that are looked at before others of the thread have their turn.
const AT_ONCE: usize = 32;

/// The answer to a caller with this credential: a document, or a stream of them where `Accept` asks for one.
///
/// # Errors
/// Those of [`Asked`]; 503 where as many listen as may, or the store does not answer in time.
pub async fn answer(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    head: &http::request::Parts,
    request: Request,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let asked = ask(shared, &request).await?;
    if !sse::is_wanted(head) {
        return Ok(from_core(look(shared, generation, &asked).await?));
    }
    let place = shared.engines.ranking.stream();
    let place = place.ok_or_else(|| sse::full("As many listen to the ranking as may."))?;
    Ok(sse::open(place, caller, |to| {
        let stream = Stream {
            shared: Arc::clone(shared),
            generation: Arc::clone(generation),
            request,
            asked,
            to,
        };
        stream.run()
    }))
}

/// What the caller asks for, by what its key may do now.
async fn ask(shared: &Shared, request: &Request) -> Result<Asked, Problem> {
    in_time(Asked::of(&shared.engines.store, request, now())).await
}

/// The ranking as it is now.
async fn look(shared: &Shared, generation: &Generation, asked: &Asked) -> Result<Response, Problem> {
    let (store, ranking) = (&shared.engines.store, &shared.engines.ranking);
    let work = async {
        let _place = ranking.place().await;
        let now = now();
        let (ranked, since) = ranking.ranked(asked.window, now).await;
        let mut found = Found::default();
        for some in ranked.chunks(AT_ONCE) {
            if asked.look(store, some, now, &mut found).await? {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok::<_, Problem>(asked.answer(&generation.settings, &found, since))
    };
    in_time(work).await
}

/// One listener's stream.
struct Stream {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    request: Request,
    asked: Asked,
    to: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Sends the ranking at once and whenever it has changed, until the listener has gone or takes nothing, its key opens this no
    /// more, or the gateway drains.
    async fn run(mut self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut checked, mut last) = (Instant::now(), Instant::now());
        let mut told = Vec::new();
        loop {
            tokio::select! {
                () = self.to.closed() => return,
                _ = beat.tick() => {}
            }
            if self.shared.draining.load(Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            if now - checked >= ASK_AGAIN {
                checked = now;
                match ask(&self.shared, &self.request).await {
                    Ok(asked) => self.asked = asked,
                    Err(problem) if problem.kind.status() < 500 => return,
                    // Where the store does not answer, nothing is known of the key.
                    Err(_) => {}
                }
            }
            // What cannot be looked at now is looked at with the next beat.
            let found = look(&self.shared, &self.generation, &self.asked).await.ok();
            let frame = match found.filter(|found| found.body != told) {
                Some(found) => {
                    let frame = [b"event: ranking\ndata: ", &*found.body, b"\n\n"].concat();
                    told = found.body;
                    frame.into()
                }
                None if now - last >= SILENCE => sse::COMMENT,
                None => continue,
            };
            last = now;
            if !sse::send(&self.to, frame).await {
                return;
            }
        }
    }
}
