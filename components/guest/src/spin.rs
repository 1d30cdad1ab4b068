//! The adapter of Spin: `wasi:http/handler` through spin-sdk. Turns a Spin request into a `Request` value and
//! a `Response` back. The limiter judges here, before the body is read. As a component of its own in front of
//! this one (Spin's middleware) it would cost more than the whole request. Its place would not be freed when
//! a client ends an upload.

mod admin_key;
mod body;
pub(crate) mod notice;

use crate::port::Port;
use crate::settings::{self, InForce};
use crate::{relay, run_time};
use admin_key::AdminKey;
pub(crate) use body::within;
use bytes::Bytes;
use spin_sdk::http::{BoxBody, EmptyBody, FullBody, HeaderMap, HeaderName, HeaderValue, box_body};
use tollgate_api::calls::{self, StaleRoutes};
use tollgate_api::components::Component;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::limiter::{self, Verdict};
use tollgate_rules::links::shlink;
use tollgate_rules::quotas;
use tollgate_rules::world::World;

/// Spin appends the peer's address and port under this name; earlier values came from the client.
const SPIN_CLIENT_ADDR: &str = "spin-client-addr";

/// A component's answer to Spin.
pub type SpinResponse = spin_sdk::http::Response<BoxBody>;

/// Answers a Spin request. What the limiter admits is answered by the component's rule. Every response leaves
/// with an `x-request-id`.
pub async fn answer(
    component: Component,
    request: spin_sdk::http::Request,
    rule: impl AsyncFnOnce(&World<'_, Port>, &Request) -> Response,
) -> SpinResponse {
    let (parts, body) = request.into_parts();
    let mut seen = head(&parts.method, &parts.uri, &parts.headers);
    shlink::authorize(&mut seen);
    let origin = parts
        .headers
        .get("origin")
        .map(|origin| origin.as_bytes().to_vec());
    let request_id = tollgate_rules::identity::request_id(&seen, &crate::fresh);
    let mut held = None;
    let answered = async {
        known_hosts(&parts.headers, &parts.uri)?;
        let InForce { settings, stale } = configured().await?;
        if let Some(answer) = settings.cors_of(&seen.path).preflight_of(&seen) {
            return Ok(answer);
        }
        let settings = run_time::settings(settings, crate::now()).await;
        let world = crate::world(&settings);
        let key = usable_key(&world).await?;
        known_route(stale, component, &world, &seen).await?;
        let added = match crate::judge(&world, &seen).await {
            Verdict::Answer(response) => return Ok(response),
            Verdict::Admit(added) => added,
        };
        let (reserved, added): (Vec<Header>, Vec<Header>) =
            added.into_iter().partition(|header| header.name == quotas::HELD);
        held = reserved.into_iter().next();
        if calls::is_bulk(&seen.path) {
            match component {
                Component::Coupon => tollgate_rules::campaigns::may_send_many(&world, &seen).await?,
                _ => tollgate_rules::links::may_send_many(&world, &seen).await?,
            }
        }
        let most = calls::max_body(&seen.path, settings.config.server.max_body.0);
        let is_link = component == Component::Shortener && calls::one_segment(&seen.path).is_some();
        let content_type = parts.headers.get("content-type").map(HeaderValue::as_bytes);
        if !(is_link && tollgate_rules::links::needs_no_body(&seen.method, content_type)) {
            seen.body = body::read(&parts.headers, body, most).await?;
        }
        let mut response = rule(&world, &seen).await;
        if key == Some(AdminKey::Missing) && Kind::Unauthorized.is_of(&response) {
            response = admin_key::missing(&world).await.into_response();
        }
        response.headers.extend(added);
        relay::after(&seen, &response, world.now);
        Ok(response)
    };
    let response = answered.await.unwrap_or_else(Problem::into_response);
    if let Some(key) = held
        .as_ref()
        .and_then(|held| std::str::from_utf8(&held.value).ok())
    {
        // What cannot be ended now ends by itself.
        let _ = quotas::settle(&Port, key, Some(response.status)).await;
    }
    let response = for_caller(&parts.headers, response);
    let mut response = into_spin(response);
    set(response.headers_mut(), "x-request-id", request_id.as_bytes());
    if let Ok(InForce { settings, .. }) = settings::load() {
        for (name, value) in settings.cors_of(&seen.path).fields(origin.as_deref()) {
            let header = Header {
                name: name.into(),
                value,
            };
            append(response.headers_mut(), &header);
        }
    }
    response
}

/// The settings in force. Without valid settings no request is answered, and only the log says what is wrong
/// with them.
async fn configured() -> Result<&'static InForce, Problem> {
    match settings::load() {
        Ok(in_force) => Ok(in_force),
        Err(why) => Err(invalid_configuration(why).await),
    }
}

/// The answer to every call while a setting is not valid.
async fn invalid_configuration(why: &str) -> Problem {
    notice::tell(&format!(
        "the configuration is not valid, so no request is answered: {why}"
    ))
    .await;
    Problem::new(
        Kind::Internal,
        "The gateway's configuration is not valid; its log says why.",
    )
}

/// The state of the admin key, or `None` if the variable or the store could not be read. An invalid key ends
/// the request, as our own host would not start with it.
async fn usable_key(world: &World<'_, Port>) -> Result<Option<AdminKey>, Problem> {
    match admin_key::check(world).await {
        Some(AdminKey::Invalid(why)) => Err(invalid_configuration(why).await),
        known => Ok(known),
    }
}

/// Spin's routes are those of the last build. A `[[forward]]` that came or went since then must not look like a short link
/// that does not exist, and readiness tells of it.
async fn known_route(
    stale: &StaleRoutes,
    component: Component,
    world: &World<'_, Port>,
    request: &Request,
) -> Result<(), Problem> {
    if stale.is_empty() || component == Component::Admin && request.path == "/health/live" {
        return Ok(());
    }
    let line = format!(
        "spin.toml lacks the changes of [[forward]] in tollgate.toml ({stale}): run `spin build`, and start again"
    );
    notice::tell_at(world.now, &line).await;
    let ready = component == Component::Admin && request.path == "/health/ready";
    match ready || stale.concerns(&request.path) {
        true => Err(Problem::new(
            Kind::Unavailable,
            "The gateway's routes are older than its configuration: `spin build` brings them up to date.",
        )
        .with_retry_after(notice::OPERATOR_SECONDS)),
        false => Ok(()),
    }
}

/// Whether every `Host` is valid, and the authority of the target too.
fn known_hosts(headers: &HeaderMap, target: &spin_sdk::http::Uri) -> Result<(), Problem> {
    let hosts = headers.get_all("host").iter().map(HeaderValue::as_bytes);
    let target = target.authority().map(|target| target.as_str().as_bytes());
    tollgate_api::headers::check_hosts(hosts.chain(target))
}

/// The head of a Spin request, without its body.
fn head(method: &spin_sdk::http::Method, uri: &spin_sdk::http::Uri, headers: &HeaderMap) -> Request {
    let peer = headers
        .get_all(SPIN_CLIENT_ADDR)
        .iter()
        .next_back()
        .and_then(|v| v.to_str().ok());
    let peer = peer.map(|value| match value.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => value.to_owned(),
    });
    let kept = headers.iter().filter(|(name, _)| *name != SPIN_CLIENT_ADDR);
    // The host may stand in the target alone.
    let target = uri.authority().filter(|_| !headers.contains_key("host"));
    let target = target.map(|authority| Header::new("host", authority.as_str()));
    Request {
        method: tollgate_api::http::method(method.as_str()),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        headers: kept
            .map(|(name, value)| Header {
                name: tollgate_api::http::seen_header(name.as_str()),
                value: value.as_bytes().to_vec(),
            })
            .chain(target)
            .collect(),
        body: Vec::new(),
        peer: peer.unwrap_or_default(),
    }
}

/// The limiter's refusal as a page for a browser; anything else as it is.
fn for_caller(headers: &HeaderMap, mut response: Response) -> Response {
    if response.status != Kind::QuotaExceeded.status() {
        return response;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (accept, language) = (text("accept"), text("accept-language"));
    let page = limiter::for_browser(&response.body, response.header("retry-after"), accept, language);
    if let Some(page) = page {
        let is_replaced =
            |header: &Header| limiter::PAGE_HEADERS.iter().any(|(name, _)| header.name == *name);
        response.headers.retain(|header| !is_replaced(header));
        let added = limiter::PAGE_HEADERS.map(|(name, value)| Header::new(name, value));
        response.headers.extend(added);
        response.body = page;
    }
    response
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

fn append(headers: &mut HeaderMap, header: &Header) {
    if let (Ok(name), Ok(value)) = (
        HeaderName::try_from(&*header.name),
        HeaderValue::from_bytes(&header.value),
    ) {
        headers.append(name, value);
    }
}

fn into_spin(response: Response) -> SpinResponse {
    // With its length known the body goes out in one write. Chunked, its end is a packet of its own, which Nagle's
    // algorithm holds back until the client's delayed acknowledgement: 40 ms.
    let length = match response.status {
        304 => None,
        300..400 => Some(response.body.len()),
        _ => Some(response.body.len()).filter(|length| *length > 0),
    };
    let body = match response.body.is_empty() {
        true => box_body(EmptyBody::new()),
        false => box_body(FullBody::new(Bytes::from(response.body))),
    };
    let mut spin = SpinResponse::new(body);
    *spin.status_mut() = spin_sdk::http::StatusCode::from_u16(response.status).unwrap_or_default();
    for header in &response.headers {
        append(spin.headers_mut(), header);
    }
    if let Some(length) = length {
        spin.headers_mut().insert(
            HeaderName::from_static("content-length"),
            HeaderValue::from(length),
        );
    }
    spin
}
