//! A real HTTP origin, which does as a case tells it and remembers what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use super::spin::free_port;

/// What deliveries are signed with.
pub const SECRET: &str = "whsec_dGhlIG9yaWdpbidzIHNlY3JldCBvZiAzMiBieXRlcyE=";
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// One request that the origin was sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    /// What it was answered with.
    pub status: u16,
}

/// How the origin answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub delay: Duration,
    /// Else it says its status.
    pub body: Option<String>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
            delay: Duration::ZERO,
            body: None,
        }
    }

    /// 200, with a document.
    pub fn json(document: &serde_json::Value) -> Self {
        Self {
            body: Some(document.to_string()),
            ..Self::status(200)
        }
    }
}

type Behaviour = Arc<dyn Fn(&Delivery) -> Reply + Send + Sync>;

struct State {
    behaviour: Behaviour,
    deliveries: Vec<Delivery>,
    under_way: usize,
}

/// An origin on a port of its own.
pub struct Origin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// The message's id, which stays the same however often it is delivered.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether the origin took it.
    pub fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Standard Webhooks: `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`, among others.
    pub fn is_signed(&self) -> bool {
        let key = STANDARD
            .decode(SECRET.trim_start_matches("whsec_"))
            .expect("the secret is base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
        mac.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature")
            .split(' ')
            .any(|signature| signature == expected)
    }
}

impl Origin {
    /// An origin that takes everything.
    pub async fn start() -> Self {
        let origin = Self {
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            state: Arc::new(Mutex::new(State {
                behaviour: Arc::new(|_| Reply::status(204)),
                deliveries: Vec::new(),
                under_way: 0,
            })),
            listener: Mutex::new(None),
        };
        origin.up();
        origin
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers so.
    pub fn behave(&self, behaviour: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) {
        self.state.lock().unwrap().behaviour = Arc::new(behaviour);
    }

    /// From now on it answers everything with this status.
    pub fn answer(&self, status: u16) {
        self.behave(move |_| Reply::status(status));
    }

    /// From now on it refuses so many of a hundred with 503, in an order without a pattern.
    pub fn refuse(&self, percent: u64) {
        let count = AtomicU64::new(0);
        self.behave(move |_| {
            let refused = scattered(count.fetch_add(1, Ordering::Relaxed)) % 100 < percent;
            Reply::status(if refused { 503 } else { 204 })
        });
    }

    /// Closes its listener and all its connections.
    pub async fn down(&self) {
        let listener = self.listener.lock().unwrap().take();
        if let Some(listener) = listener {
            listener.abort();
            let _ = listener.await;
        }
    }

    /// Listens again, where it did before.
    pub fn up(&self) {
        let socket = TcpSocket::new_v4().expect("the system gives sockets");
        socket.set_reuseaddr(true).expect("a new socket takes options");
        socket.bind(self.address).expect("the port is ours");
        let listener = socket.listen(BACKLOG).expect("the port is ours");
        let serving = tokio::spawn(serve(listener, Arc::clone(&self.state)));
        *self.listener.lock().unwrap() = Some(serving);
    }

    /// Everything it was sent, in the order of its answers.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().deliveries.clone()
    }

    /// Requests that it has read and not answered.
    pub fn under_way(&self) -> usize {
        self.state.lock().unwrap().under_way
    }

    /// What it took, in order.
    pub fn taken(&self) -> Vec<Delivery> {
        let mut deliveries = self.deliveries();
        deliveries.retain(Delivery::is_taken);
        deliveries
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.lock().unwrap().take() {
            listener.abort();
        }
    }
}

/// Dropping this future closes every connection, since they are its own.
async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let state = Arc::clone(&state);
        let service = hyper::service::service_fn(move |request| answer(Arc::clone(&state), request));
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            let _ = connection.await;
        });
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(Full::default())); // nobody is there to read it
    };
    let mut delivery = Delivery {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        at: Instant::now(),
        status: 0,
    };
    let behaviour = Arc::clone(&state.lock().unwrap().behaviour);
    let reply = behaviour(&delivery);
    delivery.status = reply.status;
    state.lock().unwrap().under_way += 1;
    tokio::time::sleep(reply.delay).await;
    {
        let mut state = state.lock().unwrap();
        state.under_way -= 1;
        state.deliveries.push(delivery);
    }
    let body = match (reply.body, reply.status) {
        (Some(body), _) => body,
        (None, 204) => String::new(),
        (None, status) => format!("origin says {status}"),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).expect("cases know the codes");
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    Ok(response)
}

/// The finalizer of SplitMix64: neighbours land far apart.
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
