//! Delivery by HTTP: a POST, and what became of it.

mod connector;
mod operator;
mod stream;

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::relay::Delivered;
use crate::relay::attempt::{Answered, MAX_EXCERPT_BYTES};
use crate::retry::retry_after_ms;
use crate::subscription::{Payload as PayloadKind, Subscription};
use crate::webhook::{Signing, batch, delivery_headers, judge, reference};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client as HyperClient, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tollgate_api::traceparent::{self, Traceparent};
use tollgate_store::commit::Message;

use super::{Report, Sink};
use crate::clock::wall_ms;
use connector::{Connector, connector};
use stream::{answered as mark_answered, was_reused};

pub(crate) use connector::OwnAddress;
#[cfg(feature = "sockets")]
pub(crate) use connector::{own, refused};
pub use operator::OperatorClient;

/// The most bytes of an answer's body that are read and dropped, so that its connection can be used again.
const MAX_DRAINED: usize = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the beginning of an answer's body is waited for: so much later a delivery counts at the most.
const EXCERPT_TIMEOUT: Duration = Duration::from_millis(100);
/// The most header lines of an answer; nothing but `Retry-After` is looked at.
const MAX_HEADERS: usize = 1_024;
const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

type Client = HyperClient<Connector, Full<Bytes>>;

/// The connections of all subscriptions; those that may reach private addresses have a pool of their own. Made when the first of
/// them is opened: reading the system's certificates takes a start longer than all else of it.
pub(crate) struct HttpClients {
    idle: Duration,
    own: Arc<OwnAddress>,
    public: OnceLock<Pools>,
    any: OnceLock<Pools>,
}

/// The connections that are used again, and those that never are.
#[derive(Clone)]
pub(crate) struct Pools {
    kept: Client,
    fresh: Client,
}

impl Pools {
    /// One request. A second one follows, on a new connection, if the first was sent on a connection that the
    /// origin had closed while it was idle (RFC 9112, section 9.3.1). Every delivery may be repeated.
    pub async fn request(
        &self,
        request: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        match self.kept.request(request()).await {
            Err(error) if is_stale(&error) => self.fresh.request(request()).await,
            done => done,
        }
    }

    /// One request, over a new connection.
    #[cfg(feature = "sink-s3")]
    pub async fn request_anew(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.fresh.request(request).await
    }
}

impl HttpClients {
    /// See [`Sinks::new`](super::Sinks::new).
    pub fn new(idle: Duration, own: Arc<OwnAddress>) -> Self {
        Self {
            idle,
            own,
            public: OnceLock::new(),
            any: OnceLock::new(),
        }
    }

    /// Those that may reach any address, or public ones only.
    pub fn pools(&self, allow_private: bool) -> &Pools {
        let pools = match allow_private {
            true => &self.any,
            false => &self.public,
        };
        pools.get_or_init(|| {
            let connector = connector(allow_private, Arc::clone(&self.own), None);
            let mut builder = HyperClient::builder(TokioExecutor::new());
            builder
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(self.idle)
                .http1_max_headers(MAX_HEADERS);
            let kept = builder.build(connector.clone());
            let fresh = builder.pool_max_idle_per_host(0).build(connector);
            Pools { kept, fresh }
        })
    }
}

/// The origin of one subscription.
pub(crate) struct HttpSink {
    pools: Pools,
    uri: Uri,
    signing: Signing,
    /// Fixed ones of every delivery.
    headers: HeaderMap,
    payload: PayloadKind,
    timeout: Duration,
    /// Statuses that make a dead letter at once.
    finals: Vec<u16>,
    source: String,
}

impl Sink for HttpSink {
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report {
        let message = match self.payload {
            PayloadKind::Full => message,
            PayloadKind::Reference => Arc::new(reference(&message, &self.source)),
        };
        self.send(message, place, None).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let messages: Vec<&Message> = messages.iter().map(|(message, _)| &**message).collect();
        let batch = match self.payload {
            PayloadKind::Full => batch::of(&messages),
            PayloadKind::Reference => batch::of_references(&messages, &self.source),
        };
        let ids = HeaderValue::try_from(batch.ids).ok();
        self.send(Arc::new(batch.message), None, ids).await
    }
}

impl HttpSink {
    async fn send(
        &self,
        message: Arc<Message>,
        place: Option<Traceparent>,
        ids: Option<HeaderValue>,
    ) -> Report {
        let began = Instant::now();
        let ended = tokio::time::timeout(self.timeout, self.attempt(message, place, ids)).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let delivered = match ended {
            Err(_) => judge::timed_out(),
            Ok(Err(error)) => lost(&error),
            Ok(Ok(response)) => {
                mark_answered(response.extensions());
                let asked = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok());
                let asked = asked.and_then(|value| retry_after_ms(value, wall_ms()));
                let status = response.status().as_u16();
                answered.status = Some(status);
                let mut body = response.into_body();
                answered.text = excerpt(&mut body).await;
                // Apart, so that a slow body holds up no acknowledgement.
                tokio::task::spawn_local(drain(body));
                judge::status(status, &self.finals, asked)
            }
        };
        Report { delivered, answered }
    }

    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(clients: &HttpClients, settings: &Subscription, source: String) -> Result<Self, String> {
        // The URL as a browser would read it: odd spellings of addresses become plain ones, which are judged.
        let url = url::Url::parse(&settings.url).map_err(|error| format!("url: {error}"))?;
        let uri = url.as_str().parse().map_err(|error| format!("url: {error}"))?;
        let mut headers = HeaderMap::with_capacity(settings.headers.len());
        for (name, value) in &settings.headers {
            let header = HeaderName::try_from(name).ok();
            let Some((header, mut value)) = header.zip(HeaderValue::try_from(value.expose()).ok()) else {
                return Err(format!("headers: {name} is no header"));
            };
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(Self {
            pools: clients.pools(settings.allow_private_addresses).clone(),
            uri,
            signing: Signing::of(settings)?,
            headers,
            payload: settings.payload,
            timeout: settings.timeout.into(),
            finals: settings.retry.finals.clone(),
            source,
        })
    }

    async fn attempt(
        &self,
        message: Arc<Message>,
        place: Option<Traceparent>,
        ids: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, Error> {
        let request = || {
            let mut request = self.request(Arc::clone(&message), place);
            if let Some(ids) = &ids {
                request.headers_mut().insert(batch::IDS, ids.clone());
            }
            request
        };
        self.pools.request(request).await
    }

    fn request(&self, message: Arc<Message>, place: Option<Traceparent>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers(&message, place, wall_ms());
        *request.body_mut() = Full::new(Bytes::from_owner(Payload(message)));
        request
    }

    fn headers(&self, message: &Message, place: Option<Traceparent>, now: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for header in delivery_headers(message, &self.source, &self.signing.secrets(now), now) {
            let name = HeaderName::try_from(&*header.name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(header.value)) {
                headers.insert(name, value);
            }
        }
        // In the place of the message's own.
        if let Some(Ok(value)) = place.map(|place| HeaderValue::try_from(place.to_string())) {
            headers.insert(HeaderName::from_static(traceparent::HEADER), value);
        }
        // None of them is a name that deliveries need: see the rules of the setting.
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        headers
    }
}

/// The payload without a copy.
struct Payload(Arc<Message>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0.payload
    }
}

/// How the body begins, as far as it is there soon.
pub(crate) async fn excerpt(body: &mut Incoming) -> String {
    let mut begin = Vec::new();
    let read = async {
        while begin.len() < MAX_EXCERPT_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            let data = frame.data_ref().map_or(&[][..], |data| data);
            let most = data.len().min(MAX_EXCERPT_BYTES - begin.len());
            begin.extend_from_slice(data.get(..most).unwrap_or_default());
        }
    };
    // What is there by then is what is shown.
    let _ = tokio::time::timeout(EXCERPT_TIMEOUT, read).await;
    shown(&begin)
}

/// Bytes as text, without half a character at their end.
fn shown(bytes: &[u8]) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default());
    let mut end = text.len().min(MAX_EXCERPT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Reads what is left, within bounds, so that the connection can be used again.
pub(crate) async fn drain(mut body: Incoming) {
    let whole = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MAX_DRAINED {
                return;
            }
        }
    };
    // What is left is cut off with its connection.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, whole).await;
}

/// A connection that was used before ended before any answer: the origin closed it while it was idle.
fn is_stale(error: &Error) -> bool {
    let ended = error.source().is_some_and(|source| {
        if let Some(error) = source.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message()
                || error.is_closed()
                || error.is_canceled()
                || error
                    .source()
                    .and_then(|source| source.downcast_ref())
                    .is_some_and(is_closed);
        }
        source.downcast_ref().is_some_and(is_closed)
    });
    ended && !error.is_connect() && error.connect_info().is_some_and(was_reused)
}

fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let kinds = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        NotConnected,
        UnexpectedEof,
    ];
    kinds.contains(&error.kind())
}

/// There was no connection, or it broke.
pub(crate) fn lost(error: &Error) -> Delivered {
    match error.is_connect() {
        true => judge::unreachable(describe(error)),
        false => judge::disconnected(describe(error)),
    }
}

/// The innermost cause, which says most: "Connection refused", not "client error".
pub fn describe(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_origin_says_is_shown_within_bounds_whatever_it_is() {
        assert_eq!(shown(b""), "");
        assert_eq!(shown("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(shown(&"\u{fc}".as_bytes()[..1]), "", "half a character");
        assert_eq!(shown(b"a\xffb"), "a\u{fffd}b");
        let garbage = shown(&[0xff; MAX_EXCERPT_BYTES]);
        assert!(garbage.len() <= MAX_EXCERPT_BYTES && !garbage.is_empty());
    }
}
