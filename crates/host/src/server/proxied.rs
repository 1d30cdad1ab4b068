//! A request that an origin answers: sent on once it was charged and admitted, tried again where it may be, and answered piece by
//! piece.

mod cached;

use super::answer::AnswerBody;
use super::body;
use super::generation::Generation;
use super::service::{Answer, BUSY_RETRY_SECONDS, Caller};
use crate::proxy::cache::Cache;
use crate::proxy::counts::Outcome;
use crate::proxy::download::{Download, Held};
use crate::proxy::fields::{self, Client};
use crate::proxy::origin::{Attempt, Origin, Refused};
use crate::proxy::pool::{Failed, MAX_HEAD, Pools, Sent};
use crate::proxy::upload::{Fault, Outgoing, Progress, Upload};
use crate::proxy::{target, tunnel};
use crate::traces::{AttemptTrace, UpstreamTrace};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tollgate_api::problem::{Kind, Problem};
use tollgate_delivery::breaker::CallResult;
use tollgate_delivery::retry::retry_after_ms;
use tollgate_rules::config::ProxySettings;

/// The only protocol that a connection may go on with: any other could carry requests past the limiter (`h2c`).
const WEBSOCKET: &str = "websocket";

/// A request that is for an origin.
pub struct Asked<'a> {
    /// The settings, and the origins.
    pub generation: &'a Arc<Generation>,
    /// The connections of this worker.
    pub pools: &'a Rc<Pools>,
    /// Its head.
    pub head: &'a mut http::request::Parts,
    /// Its body, if it has one that was not read.
    pub upload: Option<body::Upload>,
    /// Who asks.
    pub caller: &'a Caller,
    /// Its id.
    pub request_id: &'a HeaderValue,
    /// Its trace, if it is traced.
    pub trace: Option<UpstreamTrace>,
}

/// A request on its way, as often as it is tried.
struct Exchange<'a> {
    origin: &'a Arc<Origin>,
    route: &'a ProxySettings,
    head: &'a http::request::Parts,
    pools: &'a Rc<Pools>,
    target: PathAndQuery,
    client: Client<'a>,
    upgrade: Option<&'static str>,
    progress: Rc<Progress>,
    trace: Option<Traced>,
}

/// Its trace, and the attempts so far.
struct Traced(UpstreamTrace, Cell<u32>);

impl Traced {
    fn attempt(&self, attempt: &Attempt) -> AttemptTrace {
        self.1.set(self.1.get() + 1);
        let url = attempt.address().map_or("", |address| &address.url);
        self.0
            .attempt(&attempt.origin().settings().name, url, self.1.get())
    }
}

/// An attempt that has an answer.
struct Answered {
    sent: Sent,
    attempt: Attempt,
}

/// Why an attempt has none.
enum Lost {
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

/// Counts what became of a request, however it ends.
struct Tally<'a>(&'a Origin, Outcome);

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.counts.ended(self.1);
    }
}

/// The origin's answer to a request that was charged and admitted: to one of the `[[proxy]]`, by its place.
///
/// # Errors
/// The problem that it is answered with where the origin does not.
pub async fn answer(asked: Asked<'_>, index: usize) -> Result<Answer, Problem> {
    let Asked {
        generation,
        pools,
        head,
        upload,
        caller,
        request_id,
        trace,
    } = asked;
    let origins = generation.origins.as_ref().ok_or_else(Problem::not_found)?;
    let (origin, route) = origins
        .route(&generation.settings, index)
        .ok_or_else(Problem::not_found)?;
    let target = target::stripped(&head.uri, &route.strip_prefix)
        .ok_or_else(|| Problem::new(Kind::InvalidRequest, "The target must be a path."))?;
    let (upgrade, on_upgrade) = match upload {
        None => upgrade(head).unzip(),
        Some(_) => (None, None),
    };
    let host = host(head);
    let head = &*head;
    let cache = origin.cache.as_ref();
    if let Some(cache) = cache.filter(|_| upload.is_none() && upgrade.is_none() && cached::is_for(head)) {
        let wanted = cached::Wanted {
            generation: Arc::clone(generation),
            index,
            origin: Arc::clone(origin),
            pools: Rc::clone(pools),
            head: head.clone(),
            target,
            host,
            client: (
                caller.address,
                generation.settings.proxies.trust(caller.address),
                caller.is_tls,
            ),
            request_id: request_id.clone(),
            trace,
        };
        return cached::answer(wanted, Arc::clone(cache), caller).await;
    }
    let mut tally = Tally(origin, Outcome::Gone);
    let progress = Progress::new(upload.is_none());
    let body = outgoing(upload, route, &progress)?;
    let exchange = Exchange {
        origin,
        route,
        head,
        pools,
        target,
        client: Client {
            address: caller.address,
            is_trusted: generation.settings.proxies.trust(caller.address),
            is_tls: caller.is_tls,
            host: host.as_ref(),
            request_id,
        },
        upgrade,
        progress,
        trace: trace.map(|trace| Traced(trace, Cell::new(0))),
    };
    let answered = async {
        let place = origin.enter().await.map_err(blocked)?;
        let answered = exchange.run(body).await?;
        Ok((answered, place))
    };
    let (answered, place) = match answered.await {
        Ok(answered) => answered,
        Err((outcome, problem)) => {
            tally.1 = outcome;
            return Err(problem);
        }
    };
    tally.1 = match answered.sent.response.status().is_server_error() {
        true => Outcome::Failed,
        false => Outcome::Answered,
    };
    if let Some(cache) = cache {
        invalidate(cache, &exchange, answered.sent.response.status());
    }
    match (answered.sent.response.status(), on_upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => Ok(switched(answered, client, caller, place)),
        _ => Ok(exchange.streamed(answered, caller, place)),
    }
}

/// A request that changes something, and has, makes what was kept of its target out of date (RFC 9111, section 4.4).
fn invalidate(cache: &Cache, exchange: &Exchange<'_>, status: StatusCode) {
    if !exchange.head.method.is_safe() && (status.is_success() || status.is_redirection()) {
        cache.forget(&cached::key(
            &exchange.target,
            &exchange.client,
            &exchange.head.headers,
        ));
    }
}

fn blocked(refused: Refused) -> (Outcome, Problem) {
    let (detail, seconds) = match refused {
        Refused::Busy => ("The origin has as many requests as it may.", BUSY_RETRY_SECONDS),
        Refused::Open(seconds) => ("The origin fails, and is left alone for a while.", seconds),
    };
    let problem = Problem::new(Kind::Unavailable, detail).with_retry_after(seconds);
    (Outcome::Refused, problem)
}

/// The host that the client asked for.
fn host(head: &http::request::Parts) -> Option<HeaderValue> {
    match head.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => head.headers.get(header::HOST).cloned(),
    }
}

/// The protocol that the client would go on with, and what waits for its connection.
fn upgrade(head: &mut http::request::Parts) -> Option<(&'static str, OnUpgrade)> {
    let named = |name, word: &str| {
        let lines = head.headers.get_all(name).iter();
        let mut words = lines
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(','));
        words.any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    let wants = head.version == Version::HTTP_11
        && head.method == Method::GET
        && head.headers.contains_key(header::UPGRADE)
        && named(header::UPGRADE, WEBSOCKET)
        && named(header::CONNECTION, "upgrade");
    let on_upgrade = head.extensions.remove::<OnUpgrade>().filter(|_| wants)?;
    Some((WEBSOCKET, on_upgrade))
}

fn outgoing(
    upload: Option<body::Upload>,
    route: &ProxySettings,
    progress: &Rc<Progress>,
) -> Result<Outgoing, Problem> {
    let Some(upload) = upload else {
        return Ok(Outgoing::Empty);
    };
    let (incoming, traffic) = upload.into_parts();
    let max = route.max_body.0;
    if incoming.size_hint().lower() > max {
        return Err(too_large(max));
    }
    let upload = Upload::new(incoming, traffic, max, Rc::clone(progress));
    Ok(Outgoing::Upload(Box::new(upload)))
}

fn too_large(max: u64) -> Problem {
    body::too_large(usize::try_from(max).unwrap_or(usize::MAX))
}

impl Exchange<'_> {
    /// The answer, after as many attempts as may be.
    async fn run(&self, body: Outgoing) -> Result<Answered, (Outcome, Problem)> {
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

    /// The answer as the client gets it.
    fn streamed(&self, answered: Answered, caller: &Caller, place: OwnedSemaphorePermit) -> Answer {
        let Answered { sent, attempt } = answered;
        let (mut parts, incoming) = sent.response.into_parts();
        fields::response(&mut parts.headers, parts.version);
        let has_length_of_another =
            self.head.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
        if !has_length_of_another {
            // Said anew by whoever sends the body, which knows.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let held = Held {
            attempt,
            place,
            sender: sent.sender,
            pools: Rc::clone(self.pools),
        };
        let silence = self.origin.settings().idle_timeout.into();
        let (upload, traffic) = (Rc::clone(&self.progress), Rc::clone(&caller.traffic));
        let mut answer = http::Response::new(AnswerBody::Proxied(Box::new(Download::new(
            incoming, upload, silence, traffic, held,
        ))));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = parts.headers;
        answer
    }
}

/// Whether a request with this method most often has a body.
fn has_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn broken(detail: &str) -> Problem {
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

/// The connection goes on as a tunnel once this answer is sent.
fn switched(answered: Answered, client: OnUpgrade, caller: &Caller, place: OwnedSemaphorePermit) -> Answer {
    let Answered { sent, attempt } = answered;
    let mut response = sent.response;
    let server = hyper::upgrade::on(&mut response);
    let silence = Duration::from(attempt.origin().settings().idle_timeout);
    let under_way = caller.traffic.under_way();
    let tunnel = async move {
        let counts = &attempt.origin().counts;
        if let Ok((client, server)) = futures::future::try_join(client, server).await {
            counts.tunnels.fetch_add(1, Ordering::Relaxed);
            tunnel::run(TokioIo::new(client), TokioIo::new(server), silence).await;
            counts.tunnels.fetch_sub(1, Ordering::Relaxed);
        }
        drop((place, under_way, sent.sender));
    };
    caller.traffic.go_on_with(Box::pin(tunnel));
    let (mut parts, _) = response.into_parts();
    fields::remove_hop_by_hop(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts
        .headers
        .insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    let mut answer = http::Response::new(AnswerBody::from(Vec::new()));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
}
