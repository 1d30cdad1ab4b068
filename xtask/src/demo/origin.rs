//! An origin that is slow: it takes a few requests at once, each for some time, and refuses now and then.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::{Args, value_parser};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The largest delivery that is read, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// How an origin answers.
#[derive(Clone, Copy)]
pub struct Manner {
    /// For how long it works on each request.
    pub delay: Duration,
    /// On how many at once; others wait.
    pub at_once: usize,
    /// It refuses one of so many with 503; 0: none.
    pub refuses_each: u64,
    /// Whether each delivery is told on stdout.
    pub tells: bool,
}

impl Manner {
    /// Some 26 orders a second.
    pub const DEMO: Self = Self {
        delay: Duration::from_millis(150),
        at_once: 4,
        refuses_each: 23,
        tells: false,
    };
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at_once, delay) = (self.at_once, self.delay.as_millis());
        write!(f, "{at_once} orders at once, {delay} ms each")
    }
}

/// The command line of `cargo xtask origin`.
#[derive(Args)]
pub struct Options {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Milliseconds that it works on each request.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(0..=60_000))]
    delay: u64,
    /// How many it works on at once.
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..=256))]
    at_once: u16,
    /// Refuse one of so many with 503; 0: none.
    #[arg(long, default_value_t = 0)]
    refuse_each: u64,
}

/// An origin by itself, until Ctrl-C or SIGTERM: it tells each delivery that it takes.
pub fn run(options: &Options) -> Result<()> {
    let manner = Manner {
        delay: Duration::from_millis(options.delay),
        at_once: options.at_once.into(),
        refuses_each: options.refuse_each,
        tells: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let origin = Origin::start(options.listen, manner).await?;
        tell(&format!("listening on http://{}", origin.address()));
        tokio::signal::ctrl_c().await.context("Ctrl-C cannot be heard")
    })
}

/// A line on stdout; a reader that has seen enough is no fault.
fn tell(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

struct State {
    manner: Manner,
    places: Semaphore,
    requests: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    /// Of the claims in what it took.
    sequences: Mutex<BTreeSet<u64>>,
}

/// A listening origin; it ends with the runtime that it was started on.
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

impl Origin {
    /// Listens.
    pub async fn start(at: SocketAddr, manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind(at)
            .await
            .with_context(|| format!("the origin cannot listen on {at}"))?;
        let origin = Self {
            address: listener.local_addr()?,
            state: Arc::new(State {
                manner,
                places: Semaphore::new(manner.at_once),
                requests: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                sequences: Mutex::default(),
            }),
        };
        tokio::spawn(accept(listener, Arc::clone(&origin.state)));
        Ok(origin)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it answers.
    pub fn manner(&self) -> Manner {
        self.state.manner
    }

    /// Deliveries that it took, repeated ones too.
    pub fn taken(&self) -> u64 {
        self.state.taken.load(Ordering::Relaxed)
    }

    /// Deliveries that it refused.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// The sequences of the claims that it took.
    pub fn sequences(&self) -> BTreeSet<u64> {
        let sequences = self.state.sequences.lock();
        sequences.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long its pace makes so many orders take.
    pub fn takes_for(&self, orders: u64) -> Duration {
        let Manner { delay, at_once, .. } = self.state.manner;
        let rounds = orders / u64::try_from(at_once.max(1)).unwrap_or(1) + 1;
        delay.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            serve(stream, state).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&state), request));
    // A connection that breaks is the gateway's to notice.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(status(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let body = body.to_bytes();
    let working = state.places.acquire().await;
    tokio::time::sleep(state.manner.delay).await;
    drop(working);
    let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let refuses = state.manner.refuses_each;
    if refuses != 0 && number.is_multiple_of(refuses) {
        state.refused.fetch_add(1, Ordering::Relaxed);
        return Ok(status(StatusCode::SERVICE_UNAVAILABLE));
    }
    state.taken.fetch_add(1, Ordering::Relaxed);
    let message = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    if let Some(sequence) = message["sequence"].as_u64() {
        let mut sequences = state.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        sequences.insert(sequence);
    }
    if state.manner.tells {
        tell(&format!("{} {} {message}", head.method, head.uri.path()));
    }
    Ok(status(StatusCode::NO_CONTENT))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
