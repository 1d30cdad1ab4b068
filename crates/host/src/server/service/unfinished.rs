//! A request that was not answered at once: on with its rule, with another one, or to whatever else answers it.

use super::answers::{for_caller, from_core, from_packed, with_added};
use super::held::Reserved;
use super::{Answer, Begun, Caller, Gateway, REST, path};
use crate::clock::now;
use crate::metrics;
use crate::metrics::asked::Asked;
use crate::server::body::Upload;
use crate::server::dashboard::{self, Dashboard};
use crate::server::events;
use crate::server::hosted;
use crate::server::leases::{self, Alike};
use crate::server::long_poll;
use crate::server::proxied;
use crate::server::refusals;
use crate::server::rules::Rules;
use crate::server::runner::{self, CallError};
use crate::server::sse;
use crate::server::tailing;
use crate::server::top;
use crate::server::trial;
use crate::server::turn;
use crate::server::under_way::Held;
use crate::server::watched;
use crate::traces::{RequestTrace, RuleTrace};
use hyper::header::HeaderValue;
use std::sync::Arc;
use tollgate_api::calls::{self, Call};
use tollgate_api::problem::Problem;
use tollgate_rules::concurrency;
use tollgate_rules::groups::{LeaseWish, sqs};
use tollgate_rules::heads;
use tollgate_rules::links;
use tollgate_rules::rooms::Patience;
use tollgate_rules::world::World;

/// The remainder of a request that was not answered at once.
pub(super) struct Unfinished {
    head: http::request::Parts,
    /// If it has one that was not read.
    body: Option<Upload>,
    next: Next,
    /// The call that only the host can answer, once the limiter has judged it.
    native: Option<Call>,
    /// Whether it may need places of concurrency limits first.
    wants_places: bool,
    /// Those that it has.
    pub(super) held: Option<Held>,
    /// What quotas have counted it for until its answer is known.
    pub(super) reserved: Option<Reserved>,
}

impl Unfinished {
    pub(super) fn new(
        head: http::request::Parts,
        body: Option<Upload>,
        next: Next,
        wants_places: bool,
    ) -> Box<Self> {
        Box::new(Self {
            head,
            body,
            next,
            native: None,
            wants_places,
            held: None,
            reserved: None,
        })
    }

    /// Of a call that only the host can answer: those of operators' own paths at once, those of the API once the limiter has judged
    /// them, as every other one. `at`: when it came, Unix milliseconds.
    pub(super) fn native(
        head: http::request::Parts,
        body: Option<Upload>,
        call: Call,
        at: u64,
        wants_places: bool,
    ) -> Box<Self> {
        let is_judged = path(&head).starts_with("/api/");
        let next = if is_judged {
            Next::Begin(at)
        } else {
            Next::Native(call)
        };
        let mut unfinished = Self::new(head, body, next, wants_places);
        unfinished.native = is_judged.then_some(call);
        unfinished
    }
}

/// Where a request goes next.
pub(super) enum Next {
    /// To its rule, which has not begun: the request came at this time, Unix milliseconds.
    Begin(u64),
    /// On with its rule.
    Rule(runner::Waiting<Rules>),
    /// To what answers a call that only the host can, and takes a while.
    Native(Call),
    /// Until a turn of a waiting room comes.
    Turn(Patience),
    /// To the threads of the rest; these headers ([`heads::pairs`]) are added to the response.
    Rest(Vec<u8>),
}

impl Gateway {
    /// The places of concurrency limits that a request needs, before anything is charged.
    async fn places(&self, head: &http::request::Parts, caller: &Caller) -> Result<Held, Problem> {
        let request = self.request(head, caller);
        let world = World {
            store: &self.shared.engines.store,
            settings: &self.generation.settings,
            now: now(),
            fresh: &|| fastrand::u128(..).to_le_bytes(),
        };
        let places = concurrency::places(&world, &request);
        let places = tokio::time::timeout(self.generation.request_timeout(), places).await;
        let places = places.map_err(|_| Problem::from(CallError::TimedOut))??;
        self.shared.under_way.take(&places)
    }

    /// Rare futures are boxed to keep the common one small: that of a rule which waits for its commit.
    pub(super) async fn go_on(
        &self,
        request: &mut Unfinished,
        asked: Asked,
        caller: &Caller,
        request_id: &HeaderValue,
        trace: Option<&RequestTrace>,
    ) -> Result<Answer, Problem> {
        let Unfinished {
            head,
            body,
            next,
            native,
            wants_places,
            held,
            reserved,
        } = request;
        if *wants_places {
            match Box::pin(self.places(head, caller)).await {
                Ok(places) => *held = Some(places),
                // As the limiter's refusal: a browser gets a page.
                Err(problem) => return Ok(for_caller(head, self.refusal(problem).into())),
            }
        }
        if let Next::Begin(at) = next {
            match self.begin(head, body.is_some(), caller, *at, trace)? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::GoesOn(then) => *next = then,
            }
        }
        let added = match next {
            Next::Begin(_) => Vec::new(),
            Next::Native(call) => return self.natively(*call, head, caller).await,
            Next::Turn(patience) => {
                let packed = self.packed(head, None, &caller.name);
                let answer = turn::answer(&self.shared, &self.crowd, &packed, patience);
                return Box::pin(answer).await.map(|response| for_caller(head, response));
            }
            Next::Rest(added) => std::mem::take(added),
            Next::Rule(waiting) => {
                let answer = waiting
                    .finish(async |held| {
                        *reserved = held.map(|key| Reserved::new(&self.shared, key));
                        self.body(body, self.max_body).await
                    })
                    .await;
                waiting.end_trace();
                match answer? {
                    runner::Answer::Done(response) => {
                        self.counters.told(response.status, &response.body);
                        if asked == Asked::call(Call::Claim) {
                            self.counters.claims.answered(path(head), &response);
                        }
                        return Ok(for_caller(head, response));
                    }
                    runner::Answer::Admitted(added) => added,
                }
            }
        };
        if self.generation.settings.counts_outcomes() {
            *reserved = Reserved::among(&self.shared, &added);
        }
        if let Some(call) = *native {
            let answer = self.natively(call, head, caller).await;
            let answer = answer.unwrap_or_else(|problem| from_core(self.refusal(problem)));
            return Ok(with_added(answer, added));
        }
        if self.generation.origins.is_some()
            && let Some(route) = self.generation.settings.proxied(head.method.as_str(), path(head))
        {
            let proxied = proxied::Asked {
                generation: &self.generation,
                pools: &self.pools,
                head,
                upload: body.take(),
                caller,
                request_id,
                trace: trace.map(RequestTrace::upstream),
            };
            let answer = Box::pin(proxied::answer(proxied, route?)).await;
            let answer = answer.unwrap_or_else(|problem| from_core(self.refusal(problem)));
            return Ok(with_added(answer, added));
        }
        if let Some(handler) = self.handler(path(head)) {
            let answer = hosted::answer(handler, head, body.take(), caller, request_id, self.max_body);
            let answer = Box::pin(answer).await;
            let answer = answer.unwrap_or_else(|problem| from_core(self.refusal(problem)));
            return Ok(with_added(answer, added));
        }
        if asked == Asked::call(Call::ReadCampaign)
            && head.method == http::Method::GET
            && sse::is_wanted(head)
        {
            let answer = Box::pin(watched::open(
                &self.shared,
                &self.generation,
                self.request(head, caller),
                caller,
            ))
            .await?;
            return Ok(with_added(answer, added));
        }
        if asked == Asked::call(Call::ReadMessages)
            && head.method == http::Method::GET
            && sse::is_wanted(head)
        {
            let request = self.request(head, caller);
            let answer = Box::pin(tailing::open(&self.shared, head, request, caller)).await?;
            return Ok(with_added(answer, added));
        }
        let place = match calls::is_bulk(path(head)) {
            true => Some(self.rest.bulk_place()?),
            false => None,
        };
        let max = usize::try_from(calls::max_body(path(head), self.max_body as u64)).unwrap_or(usize::MAX);
        let content_type = head.headers.get(http::header::CONTENT_TYPE);
        let is_passed_on = self.is_visit(path(head))
            && links::needs_no_body(head.method.as_str(), content_type.map(HeaderValue::as_bytes));
        let body = match is_passed_on {
            true => Vec::new(),
            false => match Box::pin(self.body(body, max)).await {
                Ok(body) => body,
                Err(problem) => return Ok(with_added(from_core(self.refusal(problem)), added)),
            },
        };
        let mut answer = Box::pin(self.rest(asked, head, body, &caller.name, trace)).await?;
        self.shared.events.answered(asked.known(), path(head), &answer);
        if answer.status < 300 && asked.known().is_some_and(Call::is_in_force_when_answered) {
            Box::pin(self.shared.run_time.in_force()).await;
            if asked == Asked::call(Call::RefillClient) {
                // Until now others were charged by the terms that have ended, and what was filled may have shrunk to their capacity.
                answer = Box::pin(self.rest(asked, head, Vec::new(), &caller.name, None)).await?;
            }
        }
        drop(place);
        self.counters.told(answer.status, &answer.body);
        Ok(with_added(from_packed(answer), added))
    }

    /// The answer to a call that only the host can answer.
    async fn natively(
        &self,
        call: Call,
        head: &http::request::Parts,
        caller: &Caller,
    ) -> Result<Answer, Problem> {
        match call {
            Call::Metrics => {
                let answer = metrics::answer(&self.shared, &self.generation, head, caller.address, now());
                Box::pin(answer).await.map(from_core)
            }
            Call::WatchEvents => {
                let request = self.request(head, caller);
                Box::pin(events::open(&self.shared, head, request, caller)).await
            }
            Call::TestSubscription => {
                let request = self.request(head, caller);
                Box::pin(trial::answer(&self.shared, &self.generation, request)).await
            }
            Call::ListRefusals => {
                let request = self.request(head, caller);
                Box::pin(refusals::answer(&self.shared, request)).await
            }
            Call::ListTopLinks => {
                let request = self.request(head, caller);
                let answer = top::answer(&self.shared, &self.generation, head, request, caller);
                Box::pin(answer).await
            }
            call => {
                let asked = dashboard::Asked {
                    call,
                    request: self.request(head, caller),
                    head,
                    caller,
                };
                let answer = Dashboard::answer(&self.shared, &self.generation, &self.rest, asked);
                Box::pin(answer).await
            }
        }
    }

    /// The answer of the threads of the rest.
    async fn rest(
        &self,
        asked: Asked,
        head: &http::request::Parts,
        body: Vec<u8>,
        peer: &str,
        trace: Option<&RequestTrace>,
    ) -> Result<heads::Response, Problem> {
        let rule = || trace.map(|trace| trace.rule(REST));
        let target = || head.headers.get(sqs::TARGET.0).map(HeaderValue::as_bytes);
        let polls = match calls::is_sqs(path(head)) && !sqs::asks_for_messages(target()) {
            true => None,
            false => long_poll::Waiting::of(
                &self.shared,
                head.method.as_str(),
                path(head),
                head.uri.query(),
                &body,
            )?,
        };
        match polls {
            None => {
                let packed = self.packed_for_rest(head, head.uri.query(), peer);
                Ok(self.rest_once(asked, head, packed, body, rule()).await?)
            }
            Some(polls) => {
                let packed = self.packed_for_rest(head, polls.query(), peer);
                let body = polls.body().map_or(body, <[u8]>::to_vec);
                let ask = async || {
                    let answer = self.rest_once(asked, head, packed.clone(), body.clone(), rule());
                    Ok(answer.await?)
                };
                polls.answer(ask).await
            }
        }
    }

    /// The answer to a call that does not wait for messages.
    async fn rest_once(
        &self,
        asked: Asked,
        head: &http::request::Parts,
        packed: Vec<u8>,
        body: Vec<u8>,
        trace: Option<Box<RuleTrace>>,
    ) -> Result<heads::Response, CallError> {
        let is_lease = asked == Asked::call(Call::LeaseMessages) && head.uri.query().is_none();
        if let (true, Some(wish)) = (is_lease, LeaseWish::of(&body)) {
            let alike = Alike {
                path: path(head).to_owned(),
                authorization: head.headers.get(http::header::AUTHORIZATION).cloned(),
                seconds: wish.seconds,
            };
            let lease = leases::Asked {
                generation: Arc::clone(&self.generation),
                head: packed,
                trace,
            };
            let leases = &self.shared.leases;
            return leases.answer(&self.rest, alike, wish.limit, lease).await;
        }
        let is_visit = self.is_visit(path(head));
        self.rest
            .answer(&self.generation, packed, body, trace, is_visit)
            .await
    }

    /// Reads the body of a request, if it has one.
    async fn body(&self, body: &mut Option<Upload>, max: usize) -> Result<Vec<u8>, Problem> {
        match body.take() {
            Some(body) => body.read(max).await,
            None => Ok(Vec::new()),
        }
    }
}
