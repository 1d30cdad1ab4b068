//! Envoy's rate limit service, `envoy.service.ratelimit.v3`, over gRPC (HTTP/2 without TLS), at a listener of its own; `grpc.health.v1`, and
//! `/json` for people. Its proxies alone are answered: whoever asks charges the buckets that he names.
//!
//! A thread of its own serves it. What a caller sends is bounded: connections, streams, heads, messages, and the time of each.

mod json;
mod message;

use crate::local::Local;
use crate::metrics::count::Rules;
use crate::server::Shared;
use crate::wasm::ports::count_refused;
use crate::wasm::rules::Group;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prost::Message;
use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tollgate_engines::Engine as _;
use tollgate_rules::limiter::described::{self, Failure};
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

/// The most bytes of a message: of a few headers that are as long as Envoy takes them, 60 KiB. A message that is refused may be a request that
/// Envoy lets through.
const MAX_MESSAGE: usize = 1 << 20;
/// The most connections. Envoy opens one for each of its threads.
const MAX_CONNECTIONS: usize = 256;
/// The most connections of others than its proxies, who may ask for its health alone, and how long one lasts.
const MAX_STRANGERS: usize = 16;
/// See [`MAX_STRANGERS`].
const STRANGERS_TIME: Duration = Duration::from_secs(10);
/// The most requests under way on one.
const MAX_STREAMS: u32 = 512;
/// The most bytes of a head.
const MAX_HEAD: u32 = 16 << 10;
/// Streams that a peer may reset before we answered them (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 64;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often decisions are handed on to metrics and the log.
const REPORT: Duration = Duration::from_secs(1);
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

const ASK: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const JSON: &str = "/json";
/// The services that a health check may name; empty for all.
const SERVICES: [&str; 2] = ["", "envoy.service.ratelimit.v3.RateLimitService"];

/// Codes of gRPC.
mod status {
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const DEADLINE_EXCEEDED: u32 = 4;
    pub const NOT_FOUND: u32 = 5;
    pub const PERMISSION_DENIED: u32 = 7;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const UNAVAILABLE: u32 = 14;
}

type Answer = hyper::Response<BoxBody<Bytes, Infallible>>;

/// Why a call has no answer: a code of gRPC, and words.
type Refusal = (u32, &'static str);

/// The thread that serves.
pub struct Service {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Service {
    /// Serves on a socket that listens.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(socket: TcpListener, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("rls".into()).spawn(move || {
            let local = LocalSet::new();
            let serving = local.run_until(serve(socket, shared));
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it. Blocks for a moment.
    pub fn stop(self) {
        let Self { stop, thread } = self;
        drop(stop);
        let _ = thread.join();
    }
}

/// What a request is answered with.
struct Context {
    shared: Arc<Shared>,
    counters: Arc<Rules>,
}

/// The buckets of this process; who lacks its cost is counted.
impl Buckets for Context {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let taken = self.shared.engines.buckets.take_exact(&buckets).await;
        count_refused(&self.counters.refused, &buckets, &taken);
        taken
    }
}

async fn serve(socket: TcpListener, shared: Arc<Shared>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the rate limit service cannot listen"),
    };
    let counters = shared.engines.counted.rules(Group::Rest);
    let context = Rc::new(Context { shared, counters });
    tokio::task::spawn_local(report(Rc::clone(&context)));
    let [ours, strangers] = [MAX_CONNECTIONS, MAX_STRANGERS].map(|most| Arc::new(Semaphore::new(most)));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!(%error, "the rate limit service cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let is_trusted = context.shared.current.get().settings.proxies.trust(peer);
        let places = if is_trusted { &ours } else { &strangers };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            continue;
        };
        let context = Rc::clone(&context);
        tokio::task::spawn_local(async move {
            let serving = connection(stream, peer, &context);
            match is_trusted {
                true => serving.await,
                false => _ = tokio::time::timeout(STRANGERS_TIME, serving).await,
            }
            drop(place);
        });
    }
}

/// Hands on what was decided, for as long as it is polled.
async fn report(context: Rc<Context>) {
    let Context { shared, counters } = &*context;
    loop {
        tokio::time::sleep(REPORT).await;
        let generation = shared.current.get();
        let policies = &generation.settings.policies;
        counters.limit_by(&generation.settings.config);
        counters.decided(&policies.decisions());
        if let Some(line) = policies.shadow_report(crate::clock::now(), u64::MAX) {
            tracing::warn!("{line}");
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, peer: IpAddr, context: &Rc<Context>) {
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVAL)
        .max_buf_size(MAX_HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEAD)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let service = hyper::service::service_fn(|request| {
        let context = Rc::clone(context);
        async move { Ok::<_, Infallible>(answer(request, peer, &context).await) }
    });
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the rate limit service ended early");
    }
}

async fn answer(request: hyper::Request<Incoming>, peer: IpAddr, context: &Context) -> Answer {
    let shared = &*context.shared;
    let path = request.uri().path().to_owned();
    let is_trusted = shared.current.get().settings.proxies.trust(peer);
    if path == JSON {
        return json::answer(request, is_trusted, context).await;
    }
    let message = match path.as_str() {
        // Whether it serves may be asked by anybody who reaches it: it says nothing of anybody.
        HEALTH => message_of(request)
            .await
            .and_then(|message| health(&message, shared)),
        ASK if !is_trusted => Err((
            status::PERMISSION_DENIED,
            "only the proxies of server.trusted_proxies may ask about requests of others",
        )),
        ASK => match message_of(request).await {
            Ok(message) => ask(&message, context).await,
            Err(refusal) => Err(refusal),
        },
        _ => Err((status::UNIMPLEMENTED, "no such method")),
    };
    match message {
        Ok(message) => framed(&message),
        Err(refusal) => refused(refusal),
    }
}

fn health(message: &[u8], shared: &Shared) -> Result<Vec<u8>, Refusal> {
    let asked = message::HealthRequest::decode(message);
    let asked = asked.map_err(|_| (status::INVALID_ARGUMENT, "not a HealthCheckRequest"))?;
    if !SERVICES.contains(&asked.service.as_str()) {
        return Err((status::NOT_FOUND, "no such service"));
    }
    let is_well =
        shared.engines.store.health().is_ok() && !shared.draining.load(std::sync::atomic::Ordering::Relaxed);
    let status = if is_well { 1 } else { 2 };
    Ok(message::HealthResponse { status }.encode_to_vec())
}

async fn ask(message: &[u8], context: &Context) -> Result<Vec<u8>, Refusal> {
    let request = message::Request::decode(message);
    let request = request.map_err(|_| (status::INVALID_ARGUMENT, "not a RateLimitRequest"))?;
    let told = decide(request, context).await.map_err(|failure| match failure {
        Failure::Invalid(what) => (status::INVALID_ARGUMENT, what),
        Failure::Unavailable => (status::UNAVAILABLE, "the rate limiter cannot be reached"),
    })?;
    Ok(message::response(&told).encode_to_vec())
}

async fn decide(request: message::Request, context: &Context) -> Result<described::Told, Failure> {
    let generation = context.shared.current.get();
    let (domain, hits) = (request.domain.clone(), request.hits_addend);
    let descriptors = message::descriptors(request);
    described::ask(&generation.settings, context, &domain, &descriptors, hits).await
}

/// A body within its bounds, in time.
async fn body_of(request: hyper::Request<Incoming>) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), MAX_MESSAGE + PREFIX).collect();
    match tokio::time::timeout(ARRIVAL, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((status::RESOURCE_EXHAUSTED, "a message may have 1 MiB"))
        }
        Ok(Err(_)) => Err((status::INVALID_ARGUMENT, "the message did not arrive whole")),
        Err(_) => Err((status::DEADLINE_EXCEEDED, "the message did not arrive in time")),
    }
}

/// The one message of a unary call.
async fn message_of(request: hyper::Request<Incoming>) -> Result<Bytes, Refusal> {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if request.method() != http::Method::POST || !kind.starts_with("application/grpc") {
        return Err((
            status::INVALID_ARGUMENT,
            "a call of gRPC is a POST of application/grpc",
        ));
    }
    let body = body_of(request).await?;
    unframed(&body)
}

fn unframed(body: &Bytes) -> Result<Bytes, Refusal> {
    let invalid = Err((
        status::INVALID_ARGUMENT,
        "not one message, with its length before it",
    ));
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<PREFIX>() else {
        return invalid;
    };
    if compressed != 0 {
        return Err((status::UNIMPLEMENTED, "compressed messages are not taken"));
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    match message.len() == length {
        true => Ok(body.slice(PREFIX..)),
        false => invalid,
    }
}

/// A message, and that all is well.
fn framed(message: &[u8]) -> Answer {
    let mut data = BytesMut::with_capacity(PREFIX + message.len());
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    data.put_slice(message);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(data.freeze()), Frame::trailers(trailers)];
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok)));
    grpc(BodyExt::boxed(body))
}

/// Trailers alone, which are the head then.
fn refused((code, words): Refusal) -> Answer {
    let mut answer = grpc(BodyExt::boxed(Full::default()));
    let headers = answer.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code));
    headers.insert("grpc-message", HeaderValue::from_static(words));
    answer
}

fn grpc(body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = hyper::Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    answer
        .headers_mut()
        .insert(HeaderName::from_static("content-type"), kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_message_of_its_length() {
        let of = |bytes: &[u8]| unframed(&Bytes::copy_from_slice(bytes)).map_err(|(code, _)| code);
        assert_eq!(of(&[0, 0, 0, 0, 2, 7, 8]), Ok(Bytes::from_static(&[7, 8])));
        assert_eq!(of(&[0, 0, 0, 0, 0]), Ok(Bytes::new()));
        for bad in [
            &[][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 3, 7, 8],
            &[0, 0, 0, 0, 1, 7, 8],
            &[0, 255, 255, 255, 255, 1],
        ] {
            assert_eq!(of(bad), Err(status::INVALID_ARGUMENT), "{bad:?}");
        }
        assert_eq!(of(&[1, 0, 0, 0, 0]), Err(status::UNIMPLEMENTED));
    }

    #[test]
    fn messages_are_as_the_published_definitions_have_them() {
        // domain "d"; one descriptor with the entry a=b and hits_addend 5; hits_addend 2; and a field that nobody here knows.
        let bytes = [
            0x0a, 1, b'd', 0x12, 12, 0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x1a, 2, 0x08, 5, 0x18, 2, 0x78,
            1,
        ];
        let request = message::Request::decode(&bytes[..]).unwrap();
        assert_eq!((request.domain.as_str(), request.hits_addend), ("d", 2));
        let descriptors = message::descriptors(request);
        assert_eq!(descriptors[0].entries, [("a".to_owned(), "b".to_owned())]);
        // A value that is no UTF-8 is one all the same.
        let odd = [0x0a, 1, b'd', 0x12, 8, 0x0a, 6, 0x0a, 1, b'a', 0x12, 1, 0xff];
        let odd = message::descriptors(message::Request::decode(&odd[..]).unwrap());
        assert_eq!(odd[0].entries, [("a".to_owned(), "\u{fffd}".to_owned())]);
        assert_eq!(descriptors[0].hits, Some(5));
        let told = described::Told {
            is_over: true,
            statuses: vec![described::Status {
                is_over: true,
                limit: Some(described::Counting {
                    name: "n".into(),
                    refill: 3,
                    interval: Some(60),
                    capacity: 9,
                    remaining: 0,
                    reset: 7,
                }),
            }],
            headers: vec![tollgate_api::http::Header::new("x", "y")],
        };
        let expected = [
            0x08, 2, 0x12, 15, 0x08, 2, 0x12, 7, 0x08, 3, 0x10, 2, 0x1a, 1, b'n', 0x22, 2, 0x08, 7, 0x1a, 6,
            0x0a, 1, b'x', 0x12, 1, b'y',
        ];
        assert_eq!(message::response(&told).encode_to_vec(), expected);
    }
}
