//! An origin that answers as its script says, over HTTP on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 0 closes the connection without an answer.
    status: u16,
    delay: Duration,
    headers: usize,
}

/// Takes a message.
pub const OK: Reply = Reply::status(200);
/// Takes the request, says nothing and closes the connection.
pub const HANG_UP: Reply = Reply::status(0);

impl Reply {
    pub const fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::from_millis(1),
            headers: 0,
        }
    }

    /// As late as this.
    pub const fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// With so many headers.
    pub const fn with_headers(self, headers: usize) -> Self {
        Self { headers, ..self }
    }
}

/// A script that refuses about so many of 100.
pub fn refusing(percent: u64) -> impl Fn(&Delivery) -> Reply {
    move |delivery| {
        let draw = delivery.nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Reply::status(if draw % 100 < percent { 500 } else { 200 })
    }
}

/// A script that refuses the message with this id.
pub fn refusing_id(id: &'static str) -> impl Fn(&Delivery) -> Reply {
    move |delivery| {
        Reply::status(if delivery.header("webhook-id") == id {
            500
        } else {
            200
        })
    }
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub method: String,
    pub uri: String,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
    /// Counted from 1, over all connections.
    pub nth: u64,
    /// Counted from 1 on its connection.
    pub nth_of_connection: u64,
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

    /// The number in an id like `m7`.
    pub fn number(&self) -> u64 {
        let id = self.header("webhook-id");
        id.trim_start_matches('m').parse().unwrap_or(0)
    }
}

struct State {
    script: Box<dyn Fn(&Delivery) -> Reply + Send>,
    /// After which a connection that was answered on is closed.
    idle: Duration,
    received: Vec<Delivery>,
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
            script: Box::new(|_| OK),
            idle: Duration::MAX,
            received: Vec::new(),
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

    /// From now on requests are answered so.
    pub fn answers(&self, script: impl Fn(&Delivery) -> Reply + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// Connections that were answered on are closed when nothing has come over them for so long.
    pub fn closes_after(&self, idle: Duration) {
        self.state().idle = idle;
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
        locked(&self.state)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no test panics while it holds it")
}

async fn serve(listener: TcpListener, state: Shared) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, state: Shared) {
    /// How often it is looked whether it is idle.
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    // How many requests came, and since when none has.
    let seen = Mutex::new((0, None::<Instant>));
    let seen = || seen.lock().expect("no test panics while it holds it");
    let service = service_fn(async |request| {
        let nth = {
            let mut seen = seen();
            *seen = (seen.0 + 1, None);
            seen.0
        };
        let answered = answer(request, nth, &state).await;
        seen().1 = Some(Instant::now());
        answered
    });
    let idle = async {
        while seen().1.is_none_or(|since| since.elapsed() < locked(&state).idle) {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
        () = idle => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    nth_of_connection: u64,
    state: &Mutex<State>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await;
    let mut delivery = Delivery {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        headers: head.headers,
        body: body.map(|body| body.to_bytes().to_vec()).unwrap_or_default(),
        nth: 0,
        nth_of_connection,
        status: 0,
    };
    let reply = {
        let mut state = locked(state);
        delivery.nth = state.received.len() as u64 + 1;
        let reply = (state.script)(&delivery);
        delivery.status = reply.status;
        state.received.push(delivery);
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        reply
    };
    sleep(reply.delay).await;
    locked(state).at_once -= 1;
    if reply.status == 0 {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let mut response = Response::builder().status(reply.status);
    if reply.status == 302 {
        response = response.header("location", "/elsewhere");
    }
    let response = (0..reply.headers).fold(response, |response, n| response.header(format!("x-{n}"), "y"));
    Ok(response
        .body(Full::new(Bytes::from_static(b"thanks")))
        .expect("valid"))
}
