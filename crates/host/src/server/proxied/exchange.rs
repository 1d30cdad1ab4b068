//! One request to an origin: tried as often as it may be, in time, and its answer judged.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};
use tollgate_api::problem::{Kind, Problem};
use tollgate_delivery::breaker::CallResult;
use tollgate_delivery::retry::retry_after_ms;
use tollgate_rules::config::ProxySettings;

use super::WEBSOCKET;
use crate::proxy::counts::Outcome;
use crate::proxy::fields::{self, Client};
use crate::proxy::origin::{Attempt, Origin, Refused};
use crate::proxy::pool::{Failed, MAX_HEAD, Pools, Sent};
use crate::proxy::upload::{Fault, Outgoing, Progress};
use crate::server::body;
use crate::server::service::BUSY_RETRY_SECONDS;
use crate::traces::{AttemptTrace, UpstreamTrace};

/// A request on its way, as often as it is tried.
pub(super) struct Exchange<'a> {
    pub(super) origin: &'a Arc<Origin>,
    pub(super) route: &'a ProxySettings,
    pub(super) head: &'a http::request::Parts,
    pub(super) pools: &'a Rc<Pools>,
    pub(super) target: PathAndQuery,
    pub(super) client: Client<'a>,
    pub(super) upgrade: Option<&'static str>,
    pub(super) progress: Rc<Progress>,
    pub(super) trace: Option<Traced>,
}

/// Its trace, and the attempts so far.
pub(super) struct Traced(UpstreamTrace, Cell<u32>);

impl Traced {
    pub(super) fn new(trace: UpstreamTrace) -> Self {
        Self(trace, Cell::new(0))
    }

    fn attempt(&self, attempt: &Attempt) -> AttemptTrace {
        self.1.set(self.1.get() + 1);
        let url = attempt.address().map_or("", |address| &address.url);
        self.0
            .attempt(&attempt.origin().settings().name, url, self.1.get())
    }
}

/// An attempt that has an answer.
pub(super) struct Answered {
    pub(super) sent: Sent,
    pub(super) attempt: Attempt,
}

/// Why an attempt has none.
pub(super) enum Lost {
    TimedOut,
    Failed(Failed),
}

impl Lost {
    /// In a word, for its span.
    fn why(&self) -> &'static str {
        match self {
            Self::TimedOut => "timed out",
            Self::Failed(Failed::Unreachable(_)) => "unreachable",
            Self::Failed(Failed::Stale(_)) => "the origin closed an idle connection",
            Self::Failed(Failed::Broken(_)) => "broken",
        }
    }
}

impl Exchange<'_> {
    /// The answer, after as many attempts as may be.
    pub(super) async fn run(&self, body: Outgoing) -> Result<Answered, (Outcome, Problem)> {
        let settings = self.origin.settings();
        let mut body = Some(body);
        let (mut tried, mut left, mut fresh) = (Vec::new(), settings.retries, false);
        loop {
            let attempt = self.origin.attempt(&tried);
            let mut attempt = attempt.map_err(blocked)?;
            let mut again = |body: &Option<Outgoing>, may: bool| {
                let again = body.is_some() && may && left > 0 && self.origin.may_retry();
                left = left.saturating_sub(1);
                again
            };
            let (outcome, problem) = match self.once(&attempt, &mut body, fresh).await {
                Ok(sent) => {
                    let asked = asked_to_wait(sent.response.headers());
                    attempt.ended(result(sent.response.status(), asked));
                    let is_lost = matches!(sent.response.status().as_u16(), 502..=504) && asked.is_none();
                    self.restore(&mut body);
                    if is_lost && again(&body, self.is_repeatable()) {
                        tried.push(attempt.index());
                        continue;
                    }
                    return Ok(Answered { sent, attempt });
                }
                Err(Lost::Failed(Failed::Stale(request))) if !fresh => {
                    // Once more, on a new connection: nothing is known of the origin yet.
                    fresh = true;
                    match request {
                        Some(request) => body = Some(request.into_body()),
                        None => self.restore(&mut body),
                    }
                    if body.is_some() {
                        continue;
                    }
                    (Outcome::Broken, broken("The origin closed the connection."))
                }
                Err(Lost::Failed(failed)) => {
                    if let Some(problem) = self.fault() {
                        return Err((Outcome::Gone, problem));
                    }
                    let (outcome, problem) = self.lost(failed);
                    let may = outcome == Outcome::Unreachable || self.is_repeatable();
                    self.restore(&mut body);
                    attempt.ended(CallResult::Failure { retry_after_ms: None });
                    if again(&body, may) {
                        tried.push(attempt.index());
                        continue;
                    }
                    (outcome, problem)
                }
                Err(Lost::TimedOut) => {
                    let detail = "The origin took longer than it may.";
                    (Outcome::TimedOut, Problem::new(Kind::Timeout, detail))
                }
            };
            attempt.ended(CallResult::Failure { retry_after_ms: None });
            return Err((outcome, problem));
        }
    }

    fn lost(&self, failed: Failed) -> (Outcome, Problem) {
        let origin = &self.origin.settings().name;
        match failed {
            Failed::Unreachable(why) => {
                tracing::debug!(origin, why, "an origin cannot be reached");
                let problem = Problem::new(Kind::Unavailable, "The origin cannot be reached.");
                (Outcome::Unreachable, problem.with_retry_after(BUSY_RETRY_SECONDS))
            }
            Failed::Stale(_) => (Outcome::Broken, broken("The origin closed the connection.")),
            Failed::Broken(why) => {
                tracing::debug!(origin, why, "an origin broke off");
                (
                    Outcome::Broken,
                    broken("The origin broke off, or answered with what is no answer."),
                )
            }
        }
    }

    /// What is wrong with the client's own body, if that is why there is no answer.
    fn fault(&self) -> Option<Problem> {
        Some(match self.progress.fault()? {
            Fault::TooLarge => too_large(self.route.max_body.0),
            Fault::TooSlow => body::too_slow(),
            Fault::NotWhole => body::not_whole(),
        })
    }

    /// Whether it does no harm twice (RFC 9110, section 9.2.2), and has nothing that was sent already.
    fn is_repeatable(&self) -> bool {
        self.head.method.is_idempotent() && self.upgrade.is_none()
    }

    /// A request without a body has it at every attempt.
    fn restore(&self, body: &mut Option<Outgoing>) {
        if body.is_none() && self.progress.is_empty() && self.is_repeatable() {
            *body = Some(Outgoing::Empty);
        }
    }

    /// One attempt, in time: from when it begins, or from when a piece of its body was sent last.
    async fn once(&self, attempt: &Attempt, body: &mut Option<Outgoing>, fresh: bool) -> Result<Sent, Lost> {
        let time = Duration::from(self.origin.settings().timeout);
        let mut until = Instant::now() + time;
        let span = self.trace.as_ref().map(|trace| trace.attempt(attempt));
        let sent = {
            let mut sending = pin!(self.send(attempt, body, fresh, span.as_ref()));
            loop {
                tokio::select! {
                    biased;
                    sent = &mut sending => break sent.map_err(Lost::Failed),
                    () = sleep_until(until) => {
                        until = self.progress.moved() + time;
                        if until <= Instant::now() {
                            break Err(Lost::TimedOut);
                        }
                    }
                }
            }
        };
        if let Some(span) = span {
            match &sent {
                Ok(sent) => span.answered(sent.response.status().as_u16()),
                Err(lost) => span.failed(lost.why()),
            }
        }
        sent
    }

    async fn send(
        &self,
        attempt: &Attempt,
        body: &mut Option<Outgoing>,
        fresh: bool,
        span: Option<&AttemptTrace>,
    ) -> Result<Sent, Failed> {
        let how = (self.upgrade.is_some(), fresh);
        let (sender, reused) = self.pools.take(self.origin, attempt.index(), how).await?;
        let request = self.request(attempt, sender.is_two(), body.take().unwrap_or(Outgoing::Empty));
        let mut request = request.map_err(|error| Failed::Broken(error.to_string()))?;
        if let Some(span) = span {
            span.tell(request.headers_mut());
        }
        let sent = sender.send(request, reused).await?;
        match fault_of(&sent.response, self.upgrade) {
            Some(why) => Err(Failed::Broken(why.to_owned())),
            None => Ok(sent),
        }
    }

    fn request(&self, attempt: &Attempt, is_two: bool, body: Outgoing) -> http::Result<Request<Outgoing>> {
        let mut fields = fields::request(self.head, &self.client, self.route, self.upgrade);
        let address = attempt.address();
        let own = address.map_or(HeaderValue::from_static("localhost"), |address| {
            address.authority.clone()
        });
        let host = match self.client.host {
            Some(host) if self.route.preserve_host => host.clone(),
            _ => own,
        };
        let uri = match is_two {
            true => Uri::builder()
                .scheme(match address.is_some_and(|address| address.is_tls) {
                    true => Scheme::HTTPS,
                    false => Scheme::HTTP,
                })
                .authority(host.as_bytes())
                .path_and_query(self.target.clone())
                .build()?,
            false => {
                // Some servers refuse such a request without a length (RFC 9110, section 8.6).
                if matches!(body, Outgoing::Empty) && has_content(&self.head.method) {
                    fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                fields.insert(header::HOST, host);
                Uri::from(self.target.clone())
            }
        };
        let mut request = Request::new(body);
        *request.uri_mut() = uri;
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = if is_two { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.headers_mut() = fields;
        Ok(request)
    }
}

pub(super) fn blocked(refused: Refused) -> (Outcome, Problem) {
    let (detail, seconds) = match refused {
        Refused::Busy => ("The origin has as many requests as it may.", BUSY_RETRY_SECONDS),
        Refused::Open(seconds) => ("The origin fails, and is left alone for a while.", seconds),
    };
    let problem = Problem::new(Kind::Unavailable, detail).with_retry_after(seconds);
    (Outcome::Refused, problem)
}

pub(super) fn too_large(max: u64) -> Problem {
    body::too_large(usize::try_from(max).unwrap_or(usize::MAX))
}

/// Whether a request with this method most often has a body.
fn has_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

pub(super) fn broken(detail: &str) -> Problem {
    Problem::new(Kind::OriginFailed, detail)
}

/// What an answer says of its origin.
fn result(status: StatusCode, retry_after_ms: Option<u64>) -> CallResult {
    match status.as_u16() {
        500 | 502 | 504 => CallResult::Failure { retry_after_ms: None },
        503 => CallResult::Failure { retry_after_ms },
        _ => CallResult::Success,
    }
}

/// The milliseconds that an answer asks to wait.
fn asked_to_wait(fields: &HeaderMap) -> Option<u64> {
    let value = fields.get(header::RETRY_AFTER)?.to_str().ok()?;
    retry_after_ms(value, crate::clock::now())
}

/// Why a head is none that may be passed on, if it is none. Where a body ends must be beyond doubt (RFC 9112, section 6.3).
fn fault_of(response: &http::Response<Incoming>, upgrade: Option<&str>) -> Option<&'static str> {
    let fields = response.headers();
    // The parser's own bound is one on what it reads at a time.
    let size =
        |(name, value): (&header::HeaderName, &header::HeaderValue)| name.as_str().len() + value.len() + 4;
    if fields.iter().map(size).sum::<usize>() > MAX_HEAD {
        return Some("its head is larger than 64 KiB");
    }
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if fields.contains_key(header::CONTENT_LENGTH) {
            return Some("it has both a length and a transfer coding");
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Some("it has a transfer coding other than chunked");
        }
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let named = fields.get(header::UPGRADE).and_then(|value| value.to_str().ok());
        if upgrade.is_none() || !named.is_some_and(|name| name.eq_ignore_ascii_case(WEBSOCKET)) {
            return Some("it switches to a protocol that nobody asked for");
        }
    }
    None
}
