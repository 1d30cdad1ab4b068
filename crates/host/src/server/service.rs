//! One request: read it within bounds, start the rules, let them go on here or on the threads of the rest, and answer.

mod answers;
mod gateways;
mod held;
mod marks;
mod measured;
mod native;
mod seen;
mod unfinished;

pub use answers::from_core;
pub use gateways::Gateways;

use self::answers::for_caller;
use self::held::Reserved;
use self::marks::Marks;
use self::measured::{Measured, told};
use self::native::Native;
use self::seen::identify;
use self::unfinished::{Next, Unfinished};
use super::Shared;
use super::answer::AnswerBody;
use super::body::{self, Upload};
use super::generation::Generation;
use super::head;
use super::listen::Listener;
use super::rest::Rest;
use super::rules::Rules;
use super::runner::{self, CallError, Progress, Runner};
use super::traffic::Traffic;
use crate::access_log::Entry;
use crate::access_log::entry::Unparsed;
use crate::clock::{millis, since};
use crate::metrics::asked::Asked;
use crate::metrics::count::Requests;
use crate::proxy::pool::Pools;
use crate::proxy::target;
use crate::traces::RequestTrace;
use crate::wasm::handler::Handler;
use futures::future::{Either, ready};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tollgate_api::calls::Call;
use tollgate_api::components::Component;
use tollgate_api::http::{Response, SEEN_HEADERS};
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::concurrency;
use tollgate_rules::config::Ordering as OrderedBy;
use tollgate_rules::jwt::Jwt;
use tollgate_rules::links::shlink;
use tollgate_rules::machine::Stage;
use tollgate_rules::rooms::Patience;

/// Seconds after which a client may try again when the gateway is full.
pub const BUSY_RETRY_SECONDS: u64 = 1;

/// The threads that a rule runs on, as traces tell them.
const CROWD: &str = "crowd";
const REST: &str = "rest";

/// An answer on its way to hyper.
pub type Answer = hyper::Response<AnswerBody>;

/// The client at the other end of a connection, and the connection's requests.
pub struct Caller {
    /// Canonical.
    pub address: IpAddr,
    /// The same as text.
    pub name: String,
    /// The port of its end of the connection.
    pub port: u16,
    /// Whether its place is one that is kept for questions after the gateway's health.
    pub is_spare: bool,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// Where it came in.
    pub listener: Listener,
    /// The connection's requests.
    pub traffic: Rc<Traffic>,
}

/// How far a request has come at once.
enum Started {
    Answered(Answer),
    GoesOn(Box<Unfinished>),
}

/// How far the crowd's rules have brought a request at once.
enum Begun {
    Answered(Answer),
    GoesOn(Next),
}

/// The parts with which a worker answers requests, under one generation of the settings.
pub struct Gateway {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    crowd: Rc<Runner<Rules>>,
    rest: Arc<Rest>,
    seen: Vec<HeaderName>,
    /// Names and patterns of those that are kept with a forwarded request.
    kept: Vec<String>,
    max_body: usize,
    counters: Arc<Requests>,
    /// Its connections to the `[[origins]]`.
    pools: Rc<Pools>,
    /// Whether nothing that is configured answers the root.
    root_is_free: bool,
    /// Whether operators have a listener of their own.
    operators_apart: bool,
    hsts: Option<HeaderValue>,
    /// What checks users' tokens, where its keys are fetched.
    fetched: Option<Jwt>,
}

impl Gateway {
    fn new(
        shared: Arc<Shared>,
        generation: Arc<Generation>,
        crowd: Rc<Runner<Rules>>,
        rest: Arc<Rest>,
        counters: Arc<Requests>,
        pools: Rc<Pools>,
    ) -> Self {
        let settings = &generation.settings;
        let config = &settings.config;
        let configured = [config.clients.header.as_str(), config.users.header.as_str()];
        let routes = &config.forward;
        let ordering = routes.iter().filter_map(|route| match &route.ordering {
            OrderedBy::Header(name) => Some(name.as_str()),
            _ => None,
        });
        let country = config.clients.country_header.as_deref();
        let names = SEEN_HEADERS
            .iter()
            .copied()
            .chain(configured)
            .chain(ordering)
            .chain(country)
            .chain(settings.further_headers());
        let kept = routes.iter().flat_map(|route| route.headers.clone()).collect();
        let seen = names.filter_map(|name| HeaderName::try_from(name).ok()).collect();
        let max_body = usize::try_from(config.server.max_body.0).unwrap_or(usize::MAX);
        let is_taken = settings.hosted("/").is_some() || settings.is_proxied("/");
        let root_is_free = !is_taken && settings.component("/") == Component::Admin;
        let server = &config.server;
        let hsts = server.tls.as_ref().and_then(|tls| tls.hsts);
        let hsts = hsts.map(|age| format!("max-age={}", Duration::from(age).as_secs()));
        Self {
            fetched: settings.jwt.as_ref().filter(|jwt| jwt.is_fetched()).cloned(),
            root_is_free,
            operators_apart: server.admin_listen.is_some(),
            hsts: hsts.and_then(|value| HeaderValue::try_from(value).ok()),
            counters,
            pools,
            shared,
            generation,
            crowd,
            rest,
            seen,
            kept,
            max_body,
        }
    }

    /// Answers one request. Never fails: what goes wrong becomes a problem document. A request that need not
    /// wait, as most of a crowd's, is answered before this returns. It does not take the room that a waiting
    /// request takes.
    pub fn answer(
        self: &Rc<Self>,
        mut request: hyper::Request<Incoming>,
        caller: &Rc<Caller>,
    ) -> impl Future<Output = Answer> + use<> {
        // HTTP/2 has a frame for that, which the connection sends.
        let http1 = request.version() < http::Version::HTTP_2;
        let cors = self.generation.settings.cors_of(request.uri().path());
        let marks = Marks {
            request_id: head::request_id(&request),
            last: http1 && (caller.is_spare || self.shared.draining.load(Ordering::Relaxed)),
            last_if_unread: http1 && body::ends_if_unread(&request),
            hsts: match caller.is_tls {
                true => self.hsts.clone(),
                false => None,
            },
            cors: match cors.is_on() {
                true => cors.fields(header_of(&request, "origin")),
                false => Vec::new(),
            },
        };
        let asked = Asked::of(
            &self.generation.settings,
            request.method().as_str(),
            request.uri().path(),
        );
        let began = SystemTime::now();
        let mut entry = match &self.generation.access_log {
            None => None,
            Some(_) => {
                let of = (&self.shared, &self.generation);
                Entry::begin(of, &request, caller, &marks.request_id, began)
            }
        };
        let trace = match &self.shared.traces {
            None => None,
            Some(traces) => {
                let is_trusted = self.generation.settings.proxies.trust(caller.address);
                let request_id = &marks.request_id;
                RequestTrace::begin(
                    traces,
                    &mut request,
                    caller,
                    is_trusted,
                    request_id,
                    began,
                    asked.route(),
                )
            }
        };
        if let (Some(entry), Some(trace)) = (&mut entry, &trace) {
            entry.traced(trace.trace_id());
        }
        let answer = match self.start(request, caller, began, &mut entry, trace.as_deref()) {
            Ok(Started::Answered(answer)) => answer,
            Err(problem) => from_core(self.refusal(problem)),
            Ok(Started::GoesOn(mut request)) => {
                self.counters.waiting.add(1);
                let measured = Measured {
                    counters: Arc::clone(&self.counters),
                    asked,
                    began,
                    is_answered: false,
                    entry,
                    trace,
                };
                let (gateway, caller) = (Rc::clone(self), Rc::clone(caller));
                return Either::Right(Box::pin(async move {
                    let trace = measured.trace.as_deref();
                    let answer = gateway
                        .go_on(&mut request, asked, &caller, &marks.request_id, trace)
                        .await;
                    let mut answer = answer.unwrap_or_else(|problem| from_core(gateway.refusal(problem)));
                    if gateway.generation.settings.counts_outcomes() {
                        let reserved = request.reserved.take();
                        Box::pin(Reserved::end(&gateway.shared, reserved, &mut answer)).await;
                    }
                    let mut answer = measured.answered(answer);
                    // A WebSocket begins where its answer ends.
                    if let Some(held) = request.held.take().and_then(|held| caller.traffic.keep(held)) {
                        answer = answer.map(|body| body.holding(held));
                    }
                    // Before it is decided how the connection ends.
                    drop(request);
                    marks.put_on(answer, &caller)
                }));
            }
        };
        self.counters
            .answered(asked, answer.status().as_u16(), since(began));
        Either::Left(ready(marks.put_on(told(entry, trace, answer), caller)))
    }

    fn start(
        &self,
        request: hyper::Request<Incoming>,
        caller: &Caller,
        began: SystemTime,
        entry: &mut Option<Box<Entry>>,
        trace: Option<&RequestTrace>,
    ) -> Result<Started, Problem> {
        head::within_bounds(&request)?;
        head::one_host(&request)?;
        head::known_coding(&request)?;
        if caller.listener == Listener::Redirect {
            return Ok(Started::Answered(self.to_https(&request)));
        }
        let cors = self.generation.settings.cors_of(request.uri().path());
        let method = request.method().as_str();
        if let Some(answer) = cors.preflight(method, |name| header_of(&request, name)) {
            return Ok(Started::Answered(from_core(answer)));
        }
        let is_apart = self.operators_apart && caller.listener == Listener::Public;
        let native = match is_apart {
            true => self.native_of_public(&request)?,
            false => self.native(&request)?,
        };
        if let Some(Native::Answered(answer)) = native {
            return Ok(Started::Answered(answer));
        }
        let settings = &self.generation.settings;
        let wants_places = concurrency::is_wanted(settings, method, request.uri().path());
        let (mut head, body) = request.into_parts();
        head::one_cookie(&mut head);
        let body = Upload::new(body, &caller.traffic);
        identify(&mut head);
        if let Some(Native::GoesOn(call)) = native {
            if !is_apart && matches!(call, Call::WatchEvents | Call::TestSubscription) {
                self.shared.dashboard.authorize(&mut head);
            }
            let at = millis(began);
            return Ok(Started::GoesOn(Unfinished::native(
                head,
                body,
                call,
                at,
                wants_places,
            )));
        }
        if !is_apart && head.uri.path().starts_with("/api/") && self.handler(head.uri.path()).is_none() {
            self.shared.dashboard.authorize(&mut head);
            if let Some(entry) = entry {
                entry.identify(&head.headers);
            }
        }
        if caller.is_spare && !is_operator(&head, caller) {
            return Err(full());
        }
        if self.generation.origins.is_some() && self.generation.settings.is_proxied(path(&head)) {
            target::check(path(&head))?;
        }
        if let Some(patience) = Patience::of(head.method.as_str(), path(&head), head.uri.query()) {
            let next = Next::Turn(patience);
            return Ok(Started::GoesOn(Unfinished::new(head, body, next, wants_places)));
        }
        if let Some(jwt) = &self.fetched {
            let sent = head.headers.get(http::header::AUTHORIZATION);
            if sent.is_some_and(|sent| sent.to_str().is_ok_and(|sent| jwt.misses_a_key(sent))) {
                self.shared.keys_wanted.store(true, Ordering::Relaxed);
            }
        }
        if wants_places {
            let next = Next::Begin(millis(began));
            return Ok(Started::GoesOn(Unfinished::new(head, body, next, true)));
        }
        match self.begin(&head, body.is_some(), caller, millis(began), trace)? {
            Begun::Answered(answer) => Ok(Started::Answered(answer)),
            Begun::GoesOn(next) => Ok(Started::GoesOn(Unfinished::new(head, body, next, false))),
        }
    }

    /// The answer that tells a problem, which is counted.
    fn refusal(&self, problem: Problem) -> Response {
        self.counters.problem(problem.kind);
        problem.into_response()
    }

    /// Hands a request to the crowd's rules. `now`: Unix milliseconds.
    fn begin(
        &self,
        head: &http::request::Parts,
        has_body: bool,
        caller: &Caller,
        now: u64,
        trace: Option<&RequestTrace>,
    ) -> Result<Begun, Problem> {
        let packed = self.packed(head, head.uri.query(), &caller.name);
        let rule = trace.map(|trace| trace.rule(CROWD));
        Ok(match self.crowd.start(&packed, now, has_body, Stage::Arrived)? {
            Progress::Ended(runner::Answer::Done(response)) => {
                self.counters.told(response.status, &response.body);
                Begun::Answered(for_caller(head, response))
            }
            Progress::Ended(runner::Answer::Admitted(added)) => Begun::GoesOn(Next::Rest(added)),
            Progress::Waits(mut waiting) => {
                if self.is_visit(path(head)) {
                    waiting.mark_as_visit();
                }
                if let Some(rule) = rule {
                    waiting.trace(rule);
                }
                Begun::GoesOn(Next::Rule(waiting))
            }
        })
    }

    /// Counts what the parser refuses of whoever is at this address, and tells the access log, if there is one.
    pub fn unparsed(&self, address: IpAddr) -> Unparsed {
        Unparsed::new(&self.generation, &self.counters, address)
    }

    /// The component of the operator's own that answers this path, if one does.
    fn handler(&self, path: &str) -> Option<&Handler> {
        let handlers = self.shared.handlers.as_ref()?;
        handlers.get(self.generation.settings.hosted(path)?)
    }

    /// Whether it may be a redirect.
    fn is_visit(&self, path: &str) -> bool {
        !path.starts_with("/api/")
            && !path.starts_with(shlink::PREFIX)
            && self.generation.settings.component(path) == Component::Shortener
    }
}

/// The first field of this name.
fn header_of<'a>(request: &'a hyper::Request<Incoming>, name: &'static str) -> Option<&'a [u8]> {
    request.headers().get(name).map(HeaderValue::as_bytes)
}

/// Whether the client in a spare place is on this machine and sends a credential. Where all places are taken,
/// an operator must be able to look into it.
fn is_operator(head: &http::request::Parts, caller: &Caller) -> bool {
    caller.address.is_loopback() && head.headers.contains_key(http::header::AUTHORIZATION)
}

fn full() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "The gateway has as many connections as it can hold, or as one address may have.",
    )
    .with_retry_after(BUSY_RETRY_SECONDS)
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Busy => Problem::new(
                Kind::Unavailable,
                "The gateway has as many requests as it can hold.",
            )
            .with_retry_after(BUSY_RETRY_SECONDS),
            CallError::Ended => Problem::new(
                Kind::Unavailable,
                "The request could not be finished; what it changed, if anything, is whole.",
            )
            .with_retry_after(BUSY_RETRY_SECONDS),
            CallError::TimedOut => {
                Problem::new(Kind::Timeout, "The request took longer than the gateway allows.")
            }
        }
    }
}

/// The path of a request; never empty.
pub fn path(head: &http::request::Parts) -> &str {
    match head.uri.path() {
        "" => "/",
        path => path,
    }
}
