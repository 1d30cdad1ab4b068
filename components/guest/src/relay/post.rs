//! Delivery by HTTP through Spin: a POST, and what became of it. Spin connects only to `allowed_outbound_hosts`; which addresses a name
//! leads to is judged by its `block_networks`, since no component sees them.

use std::time::Duration;

use bytes::Bytes;
use spin_sdk::http::{FullBody, HeaderName, HeaderValue, Method};
use spin_sdk::wasip3::http::types::ErrorCode;
use tollgate_delivery::relay::Delivered;
use tollgate_delivery::relay::address::is_plainly_private;
use tollgate_delivery::relay::attempt::Answered;
use tollgate_delivery::retry::retry_after_ms;
use tollgate_delivery::subscription::Payload;
use tollgate_delivery::subscriptions::Defined;
use tollgate_delivery::webhook::{Signing, batch, delivery_headers, judge, reference};
use tollgate_store::commit::Message;
use url::Url;

use crate::spin::within;

const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

type Post = http::Request<FullBody<Bytes>>;

/// Delivers one message.
pub(super) async fn one(public_url: &str, to: &Defined, message: &Message) -> (Delivered, Answered) {
    let source = source(public_url, to);
    match to.settings.payload {
        Payload::Full => send(public_url, &source, to, message, None).await,
        Payload::Reference => {
            let told = reference(message, &source);
            send(public_url, &source, to, &told, None).await
        }
    }
}

/// Delivers several, as one request.
pub(super) async fn together(public_url: &str, to: &Defined, messages: &[&Message]) -> (Delivered, Answered) {
    let source = source(public_url, to);
    let batch = match to.settings.payload {
        Payload::Full => batch::of(messages),
        Payload::Reference => batch::of_references(messages, &source),
    };
    send(public_url, &source, to, &batch.message, Some(&batch.ids)).await
}

pub(super) fn source(public_url: &str, to: &Defined) -> String {
    format!("{public_url}/api/topics/{}", to.topic)
}

async fn send(
    public_url: &str,
    source: &str,
    to: &Defined,
    message: &Message,
    ids: Option<&str>,
) -> (Delivered, Answered) {
    let request = match request(public_url, source, to, message, ids) {
        Ok(request) => request,
        Err(why) => return (judge::disconnected(why), Answered::default()),
    };
    let timeout = Duration::from_millis(to.settings.timeout.as_millis());
    let (began, mut answered) = (super::uptime_ms(), Answered::default());
    let delivered = match within(timeout, spin_sdk::http::send(request)).await {
        None => judge::timed_out(),
        Some(Err(error)) if is_unreachable(&error) => judge::unreachable(describe(&error)),
        Some(Err(error)) => judge::disconnected(describe(&error)),
        Some(Ok(response)) => {
            let asked = response.headers().get("retry-after");
            let asked = asked.and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|value| retry_after_ms(value, crate::now()));
            // Its body is not waited for: an instance has other things to do.
            let status = response.status().as_u16();
            answered.status = Some(status);
            judge::status(status, &to.settings.retry.finals, asked)
        }
    };
    answered.ms = super::uptime_ms().saturating_sub(began);
    (delivered, answered)
}

/// The request, or why there can be none.
fn request(
    public_url: &str,
    source: &str,
    to: &Defined,
    message: &Message,
    ids: Option<&str>,
) -> Result<Post, String> {
    let settings = &to.settings;
    // As a browser would read it: odd spellings of addresses become plain ones, which are judged.
    let url = Url::parse(&settings.url).map_err(|error| format!("url: {error}"))?;
    if !settings.allow_private_addresses && is_plainly_private(url.as_str()) {
        return Err("the origin's address is not a public one".to_owned());
    }
    if place(&url).is_some() && place(&url) == Url::parse(public_url).ok().as_ref().and_then(place) {
        return Err("the target is the gateway itself".to_owned());
    }
    let mut post = Post::new(FullBody::new(Bytes::from(message.payload.clone())));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = url
        .as_str()
        .parse::<http::Uri>()
        .map_err(|error| format!("url: {error}"))?;
    let headers = post.headers_mut();
    headers.insert("user-agent", HeaderValue::from_static(AGENT));
    headers.insert("content-length", HeaderValue::from(message.payload.len()));
    let (now, signing) = (crate::now(), Signing::of(settings)?);
    for header in delivery_headers(message, source, &signing.secrets(now), now) {
        let name = HeaderName::try_from(&*header.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(header.value)) {
            headers.insert(name, value);
        }
    }
    if let Some(Ok(ids)) = ids.map(HeaderValue::try_from) {
        headers.insert(batch::IDS, ids);
    }
    // None of them is a name that deliveries need: see the rules of the setting.
    for (name, value) in &settings.headers {
        let header = HeaderName::try_from(name).ok();
        let Some((name, value)) = header.zip(HeaderValue::try_from(value.expose()).ok()) else {
            return Err(format!("headers: {name} is no header"));
        };
        headers.insert(name, value);
    }
    Ok(post)
}

/// The host, without a trailing dot, and the port.
fn place(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?.trim_end_matches('.').to_owned();
    Some((host, url.port_or_known_default()?))
}

/// Whether there was no connection.
fn is_unreachable(error: &ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTimeout
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationNotFound
            | ErrorCode::DnsTimeout
            | ErrorCode::DnsError(_)
    )
}

/// What a person can do about it, where it is Spin that refuses.
fn describe(error: &ErrorCode) -> String {
    match error {
        ErrorCode::HttpRequestDenied => {
            "Spin does not allow this host: see the variable tollgate_origin in spin.toml".to_owned()
        }
        ErrorCode::DestinationIpProhibited => "Spin's block_networks forbids the origin's address".to_owned(),
        error => error.to_string(),
    }
}
