//! An origin whose mood can be set.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

#[derive(Clone, Debug)]
pub enum Mood {
    Well,
    /// 500 for about so many of 100.
    Refusing {
        percent: u64,
    },
    RefusingId(String),
    /// 422 for messages with a lower number.
    RefusingBelow(u64),
    /// An answer with so many headers.
    Talkative(usize),
    Slow(Duration),
    Redirecting,
    Gone,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub method: String,
    pub uri: String,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
    pub status: u16,
}

impl Delivery {
    pub fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_owned()
    }
}

struct State {
    mood: Mood,
    received: Vec<Delivery>,
    counter: u64,
    at_once: usize,
    most_at_once: usize,
}

type Shared = Arc<Mutex<State>>;

pub struct Origin {
    pub address: SocketAddr,
    state: Shared,
    server: JoinHandle<()>,
    /// Bound and never listening: nobody else gets the port while the origin is down.
    _place: TcpSocket,
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// A socket on a port that may be bound again.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a new socket takes options");
    socket.set_reuseport(true).expect("a new socket takes options");
    socket.bind(address).expect("the port is free, or ours");
    socket
}

impl Origin {
    pub async fn start() -> Self {
        let state = State {
            mood: Mood::Well,
            received: Vec::new(),
            counter: 0,
            at_once: 0,
            most_at_once: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let place = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = place.local_addr().expect("bound");
        let listener = bound(address).listen(BACKLOG).expect("the port is ours");
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            server,
            _place: place,
        }
    }

    pub fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// What has arrived, in order; the status is what it was, or will be, answered with.
    pub fn received(&self) -> Vec<Delivery> {
        self.state().received.clone()
    }

    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    /// Closes the port and every connection.
    pub async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// Listens on the same port again.
    pub fn restart(&mut self) {
        let listener = bound(self.address).listen(BACKLOG).expect("the port is ours");
        self.server = tokio::spawn(serve(listener, Arc::clone(&self.state)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds it")
    }
}

async fn serve(listener: TcpListener, state: Shared) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|b| b.to_bytes().to_vec())
        .unwrap_or_default();
    let (status, delay, headers) = {
        let mut state = state.lock().expect("no test panics while it holds it");
        state.counter += 1;
        let draw = state.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let id = head.headers.get("webhook-id").cloned();
        let (status, delay) = match &state.mood {
            Mood::Well => (200, Duration::from_millis(1)),
            Mood::Refusing { percent } if draw % 100 < *percent => (500, Duration::from_millis(1)),
            Mood::RefusingId(refused) if id.as_ref().is_some_and(|id| id == refused.as_str()) => {
                (500, Duration::ZERO)
            }
            Mood::RefusingBelow(least) if number(id.as_ref()) < *least => (422, Duration::ZERO),
            Mood::Talkative(_) | Mood::RefusingBelow(_) => (200, Duration::ZERO),
            Mood::Refusing { .. } | Mood::RefusingId(_) => (200, Duration::from_millis(1)),
            Mood::Slow(delay) => (200, *delay),
            Mood::Redirecting => (302, Duration::ZERO),
            Mood::Gone => (410, Duration::ZERO),
        };
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        state.received.push(Delivery {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: head.headers,
            body,
            status,
        });
        let headers = match state.mood {
            Mood::Talkative(headers) => headers,
            _ => 0,
        };
        (status, delay, headers)
    };
    tokio::time::sleep(delay).await;
    state.lock().expect("no test panics while it holds it").at_once -= 1;
    let response = Response::builder().status(StatusCode::from_u16(status).expect("valid"));
    let response = if status == 302 {
        response.header("location", "/elsewhere")
    } else {
        response
    };
    let response = (0..headers).fold(response, |response, n| response.header(format!("x-{n}"), "y"));
    Ok(response
        .body(Full::new(Bytes::from_static(b"thanks")))
        .expect("valid"))
}

/// The number in an id like `m7`.
fn number(id: Option<&http::HeaderValue>) -> u64 {
    let text = id.and_then(|id| id.to_str().ok()).unwrap_or("");
    text.trim_start_matches('m').parse().unwrap_or(0)
}

/// When an origin closes a connection that it has answered on.
#[derive(Clone, Copy, Debug)]
pub enum Closing {
    WhenIdle(Duration),
    /// It takes the request and says nothing.
    OnTheSecondRequest,
}

/// An origin on plain TCP, for as long as the process runs; how many requests it has answered.
pub fn closing(closing: Closing) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, taken) = (listener.local_addr().expect("bound"), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&taken);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || serve_and_close(stream, closing, &counter));
        }
    });
    (address, taken)
}

fn serve_and_close(mut stream: std::net::TcpStream, closing: Closing, taken: &AtomicU64) {
    let mut buffer = vec![0; 16 << 10];
    for request in 0.. {
        let idle = match closing {
            Closing::WhenIdle(idle) if request > 0 => Some(idle),
            _ => None,
        };
        stream.set_read_timeout(idle).expect("not zero");
        // One read is one request: they are small.
        let Ok(1..) = stream.read(&mut buffer) else { return };
        if request > 0 && matches!(closing, Closing::OnTheSecondRequest) {
            return;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}
