//! The door to Spin: `wasi:http/handler` through spin-sdk. Turns a Spin request into a `Request` value and a
//! `Response` back, and bounds what is read.

use crate::port::Port;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use spin_sdk::http::{BoxBody, EmptyBody, FullBody, HeaderMap, HeaderName, HeaderValue, box_body};
use tollgate_core::http::{Header, Request, Response};
use tollgate_core::limiter::Verdict;
use tollgate_core::ports::World;
use tollgate_core::problem::{Kind, Problem};

/// Spin appends the peer's address and port under this name; earlier values came from the client.
const SPIN_CLIENT_ADDR: &str = "spin-client-addr";

/// Headers that belong to one hop (RFC 9110 §7.6.1); `wasi:http` refuses to pass them on.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a component answers Spin with.
pub type SpinResponse = spin_sdk::http::Response<BoxBody>;

/// Answers a Spin request with a gate's rule.
pub async fn gate(
    request: spin_sdk::http::Request,
    rule: impl AsyncFnOnce(&World<'static, Port>, &Request) -> Response,
) -> SpinResponse {
    let world = crate::world();
    let (parts, body) = request.into_parts();
    let limit = usize::try_from(world.config.server.max_body.0).unwrap_or(usize::MAX);
    let mut request = head(&parts.method, &parts.uri, &parts.headers);
    match Limited::new(body, limit).collect().await {
        Ok(body) => request.body = body.to_bytes().to_vec(),
        Err(_) => {
            let detail = format!("A request body may have at most {limit} bytes.");
            return into_spin(Problem::new(Kind::TooLarge, detail).into_response());
        }
    }
    into_spin(rule(&world, &request).await)
}

/// Lets a Spin request through to the next component of the chain, or answers it. Every response leaves with an
/// `x-request-id`, and the component behind sees the same one.
pub async fn filter(
    request: spin_sdk::http::Request,
    check: impl AsyncFnOnce(&World<'static, Port>, &Request) -> Verdict,
) -> Result<SpinResponse, spin_sdk::http::Error> {
    let world = crate::world();
    let (mut parts, body) = request.into_parts();
    let seen = head(&parts.method, &parts.uri, &parts.headers);
    let request_id = tollgate_core::identity::request_id(&seen, world.fresh);
    let hosts = parts.headers.get_all("host").iter().map(HeaderValue::as_bytes);
    let target = parts.uri.authority().map(|target| target.as_str().as_bytes());
    let verdict = match tollgate_core::http::check_hosts(hosts.chain(target)) {
        Ok(()) => check(&world, &seen).await,
        Err(problem) => Verdict::Answer(problem.into_response()),
    };
    let mut response = match verdict {
        Verdict::Answer(response) => into_spin(response),
        Verdict::Admit(added) => {
            for name in HOP_BY_HOP {
                parts.headers.remove(*name);
            }
            set(&mut parts.headers, "x-request-id", request_id.as_bytes());
            let next = spin_sdk::http::next(spin_sdk::http::Request::from_parts(parts, body)).await?;
            let mut response = next.map(box_body);
            for header in added {
                append(response.headers_mut(), &header);
            }
            response
        }
    };
    set(response.headers_mut(), "x-request-id", request_id.as_bytes());
    Ok(response)
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
    Request {
        method: tollgate_core::http::method(method.as_str()),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        headers: headers
            .iter()
            .filter(|(name, _)| *name != SPIN_CLIENT_ADDR)
            .map(|(name, value)| Header {
                name: tollgate_core::http::seen_header(name.as_str()),
                value: value.as_bytes().to_vec(),
            })
            .collect(),
        body: Vec::new(),
        peer: peer.unwrap_or_default(),
    }
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
