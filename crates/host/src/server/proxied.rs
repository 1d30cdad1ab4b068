//! A request that an origin answers: sent on once it was charged and admitted, tried again where it may be, and answered piece by
//! piece.

mod cached;
mod exchange;

use super::answer::AnswerBody;
use super::body;
use super::generation::Generation;
use super::service::{Answer, Caller};
use crate::proxy::cache::Cache;
use crate::proxy::counts::Outcome;
use crate::proxy::download::{Download, Held};
use crate::proxy::fields::{self, Client};
use crate::proxy::origin::Origin;
use crate::proxy::pool::Pools;
use crate::proxy::upload::{Outgoing, Progress, Upload};
use crate::proxy::{target, tunnel};
use crate::traces::UpstreamTrace;
use exchange::{Answered, Exchange, Traced, blocked, too_large};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tollgate_api::problem::{Kind, Problem};
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
        trace: trace.map(Traced::new),
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
        _ => Ok(streamed(&exchange, answered, caller, place)),
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

/// The answer as the client gets it.
fn streamed(
    exchange: &Exchange<'_>,
    answered: Answered,
    caller: &Caller,
    place: OwnedSemaphorePermit,
) -> Answer {
    let Answered { sent, attempt } = answered;
    let (mut parts, incoming) = sent.response.into_parts();
    fields::response(&mut parts.headers, parts.version);
    let has_length_of_another =
        exchange.head.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
    if !has_length_of_another {
        // Said anew by whoever sends the body, which knows.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let held = Held {
        attempt,
        place,
        sender: sent.sender,
        pools: Rc::clone(exchange.pools),
    };
    let silence = exchange.origin.settings().idle_timeout.into();
    let (upload, traffic) = (Rc::clone(&exchange.progress), Rc::clone(&caller.traffic));
    let mut answer = http::Response::new(AnswerBody::Proxied(Box::new(Download::new(
        incoming, upload, silence, traffic, held,
    ))));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
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
