//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): what every stream of ours shares.

use super::answer::{AnswerBody, Events};
use super::service::{Answer, Caller};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tollgate_api::problem::{Kind, Problem};

/// Seconds after which who found no place may try again.
const RETRY_SECONDS: u64 = 10;
/// How often a stream looks whether it is over.
pub const BEAT: Duration = Duration::from_secs(1);
/// How often it asks whether its key is still good.
pub const ASK_AGAIN: Duration = Duration::from_secs(10);
/// When something is sent at the latest, so that nobody in between takes the connection for dead.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long who listens may take to take what was sent.
const TAKING: Duration = Duration::from_secs(30);
/// What is sent where there is nothing to tell.
pub const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The 503 of who found no place.
pub fn full(why: &str) -> Problem {
    Problem::new(Kind::Unavailable, why).with_retry_after(RETRY_SECONDS)
}

/// Answers with a stream that `run` sends. `place` is given back when that is over.
pub fn open<F: Future<Output = ()> + 'static>(
    place: impl Sized + 'static,
    caller: &Caller,
    run: impl FnOnce(mpsc::Sender<Bytes>) -> F,
) -> Answer {
    let (sender, sent) = mpsc::channel(1);
    let running = run(sender);
    tokio::task::spawn_local(async move {
        running.await;
        drop(place);
    });
    answer(sent, caller)
}

/// The answer that goes on for as long as somebody sends.
fn answer(events: mpsc::Receiver<Bytes>, caller: &Caller) -> Answer {
    let body = AnswerBody::Events(Events::new(events, caller.traffic.under_way()));
    let mut answer = hyper::Response::new(body);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // nginx would keep events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Sends, if it is taken in time.
pub async fn send(to: &mpsc::Sender<Bytes>, events: Bytes) -> bool {
    matches!(timeout(TAKING, to.send(events)).await, Ok(Ok(())))
}
