//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): what every stream of ours shares.

use super::answer::{AnswerBody, Events};
use super::service::{Answer, Caller};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tollgate_api::problem::{Kind, Problem};

const EVENT_STREAM: &str = "text/event-stream";
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

/// Whether `Accept` names server-sent events, and does not refuse them (RFC 9110, 12.5.1).
pub fn is_wanted(head: &http::request::Parts) -> bool {
    let accept = head.headers.get_all(http::header::ACCEPT).iter();
    let mut ranges = accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(EVENT_STREAM));
        is_it && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

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
        (header::CONTENT_TYPE, EVENT_STREAM),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_for_who_asks_for_them() {
        let wants = |accept: &[&str]| {
            let mut request = http::Request::new(());
            for value in accept {
                let value = http::HeaderValue::from_str(value).unwrap();
                request.headers_mut().append(http::header::ACCEPT, value);
            }
            is_wanted(&request.into_parts().0)
        };
        assert!(wants(&["text/event-stream"]));
        assert!(wants(&["application/json", "Text/Event-Stream; q=0.5"]));
        assert!(wants(&["text/html, text/event-stream"]));
        for others in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["text/event-stream;q=0"],
            &["text/event-streams"],
        ] {
            assert!(!wants(others), "{others:?}");
        }
    }
}
