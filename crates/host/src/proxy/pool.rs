//! The connections of one worker to the origins. They stay on the thread of the connections that they serve, so that a request
//! crosses no thread on its way.

use super::connect::{Io, connect};
use super::origin::{Address, Origin};
use super::upload::Outgoing;
use crate::local::Local;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tollgate_rules::config::Http2;

/// The most bytes of an answer's head, and of what is read at a time.
pub const MAX_HEAD: usize = 64 << 10;
/// The most header fields of an answer.
const MAX_HEADERS: usize = 200;
/// How long a connection is kept for the next request.
const KEPT: Duration = Duration::from_secs(55);
/// How often those that were kept longer are closed.
const SWEEP: Duration = Duration::from_secs(10);
/// How often a connection of HTTP/2 is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// The most bytes that wait to be sent on one stream of HTTP/2.
const MAX_SEND_BUFFER: usize = 256 << 10;
/// The bytes of an answer that an origin may send ahead on one stream of HTTP/2, and on all of a connection.
const WINDOW: (u32, u32) = (256 << 10, 1 << 20);

/// The way into a connection.
#[derive(Debug)]
pub enum Sender {
    /// For one request at a time.
    One(http1::SendRequest<Outgoing>),
    /// For many.
    Two(http2::SendRequest<Outgoing>),
}

/// Why a request has no answer.
pub enum Failed {
    /// No connection could be made; the request was not sent.
    Unreachable(String),
    /// The connection was one that the origin had closed while it idled, or was about to; no byte of an answer has come. With the
    /// request itself where nothing of it was sent.
    Stale(Option<Box<Request<Outgoing>>>),
    /// It ended before a whole head of an answer had come, or what came was none.
    Broken(String),
}

/// An answer, and the connection that it comes from.
pub struct Sent {
    /// The head, and a body that is still to come.
    pub response: Response<Incoming>,
    /// To be given back when the body has ended; `None` with HTTP/2, whose connections are shared.
    pub sender: Option<http1::SendRequest<Outgoing>>,
}

struct Idle {
    sender: http1::SendRequest<Outgoing>,
    since: Instant,
}

/// The connections to one address.
#[derive(Default)]
struct Kept {
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Option<http2::SendRequest<Outgoing>>>,
    /// Its last connection spoke HTTP/2, so that the next requests wait for one instead of opening one each.
    opening: Rc<tokio::sync::Mutex<()>>,
    is_two: Cell<bool>,
}

/// The connections of one worker.
#[derive(Default)]
pub struct Pools(RefCell<HashMap<(u64, usize), Rc<Kept>>>);

impl Pools {
    /// Closes connections that have idled for too long, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            for kept in self.0.borrow().values() {
                let lives = |idle: &Idle| !idle.sender.is_closed() && now - idle.since < KEPT;
                kept.idle.borrow_mut().retain(lives);
            }
        }
    }

    /// Closes the connections to others than these origins.
    pub fn keep(&self, origins: &[std::sync::Arc<Origin>]) {
        let known = |number| origins.iter().any(|origin| origin.number() == number);
        self.0.borrow_mut().retain(|(number, _), _| known(*number));
    }

    fn of(&self, origin: &Origin, index: usize) -> Rc<Kept> {
        let mut pools = self.0.borrow_mut();
        Rc::clone(pools.entry((origin.number(), index)).or_default())
    }

    /// A connection with room for a request, and whether it has had one before. `alone`: one of HTTP/1.1, which may become something
    /// else; `fresh`: none that idled.
    ///
    /// # Errors
    /// None can be opened, in words.
    pub async fn take(
        &self,
        origin: &Origin,
        index: usize,
        (alone, fresh): (bool, bool),
    ) -> Result<(Sender, bool), Failed> {
        let Some(address) = origin.addresses().get(index) else {
            return Err(Failed::Unreachable("it has no address".to_owned()));
        };
        let kept = self.of(origin, index);
        let http2 = match (alone, origin.settings().http2) {
            (true, _) => Http2::Never,
            (false, http2) => http2,
        };
        if !alone && let Some(sender) = kept.shared(fresh) {
            return Ok((Sender::Two(sender), true));
        }
        if !fresh && let Some(sender) = kept.idle().await {
            return Ok((Sender::One(sender), true));
        }
        if !alone && kept.is_two.get() {
            // One for all that come meanwhile.
            let _turn = kept.opening.lock().await;
            if let Some(sender) = kept.shared(false) {
                return Ok((Sender::Two(sender), true));
            }
            return Ok((open(&kept, origin, address, http2).await?, false));
        }
        Ok((open(&kept, origin, address, http2).await?, false))
    }

    /// Gives a connection of HTTP/1.1 back, whose request and answer have ended.
    pub fn give_back(&self, origin: &Origin, index: usize, sender: http1::SendRequest<Outgoing>) {
        let most = origin.settings().max_idle as usize;
        if sender.is_closed() || most == 0 {
            return;
        }
        let kept = self.of(origin, index);
        let mut idle = kept.idle.borrow_mut();
        if idle.len() >= most {
            // The one that has idled for longest.
            idle.remove(0);
        }
        idle.push(Idle {
            sender,
            since: Instant::now(),
        });
    }
}

impl Kept {
    fn shared(&self, fresh: bool) -> Option<http2::SendRequest<Outgoing>> {
        let mut shared = self.shared.borrow_mut();
        if fresh || shared.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *shared = None;
        }
        shared.clone()
    }

    /// The connection that has idled for the shortest time: it is the least likely to be closed.
    async fn idle(&self) -> Option<http1::SendRequest<Outgoing>> {
        loop {
            let Idle { mut sender, since } = self.idle.borrow_mut().pop()?;
            if sender.is_closed() || since.elapsed() >= KEPT {
                continue;
            }
            // At once, unless its last answer has only just ended.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }
}

async fn open(kept: &Kept, origin: &Origin, address: &Address, http2: Http2) -> Result<Sender, Failed> {
    let unreachable = |error: &dyn std::fmt::Display| Failed::Unreachable(error.to_string());
    let time = Duration::from(origin.settings().connect_timeout);
    let opened = match timeout(time, connect(address, http2)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let (io, is_two) = opened.map_err(|error| unreachable(&error))?;
    origin.counts.connections.fetch_add(1, Ordering::Relaxed);
    kept.is_two.set(is_two);
    if is_two {
        let sender = two(io).await.map_err(|error| unreachable(&error))?;
        *kept.shared.borrow_mut() = Some(sender.clone());
        return Ok(Sender::Two(sender));
    }
    let sender = one(io).await.map_err(|error| unreachable(&error))?;
    Ok(Sender::One(sender))
}

async fn one(io: Io) -> hyper::Result<http1::SendRequest<Outgoing>> {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .writev(false);
    let (sender, connection) = builder.handshake(io).await?;
    tokio::task::spawn_local(async move {
        // Who waits for an answer learns of its failures.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn two(io: Io) -> hyper::Result<http2::SendRequest<Outgoing>> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let (sender, connection) = builder.handshake(io).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

impl Sender {
    /// Whether it speaks HTTP/2.
    pub fn is_two(&self) -> bool {
        matches!(self, Self::Two(_))
    }

    /// The head of the answer. `reused`: as [`Pools::take`] said.
    ///
    /// # Errors
    /// There is none.
    pub async fn send(self, request: Request<Outgoing>, reused: bool) -> Result<Sent, Failed> {
        let sent = match self {
            Self::One(mut sender) => {
                let sent = sender.try_send_request(request).await;
                sent.map(|response| (response, Some(sender)))
            }
            Self::Two(mut sender) => {
                let sent = sender.try_send_request(request).await;
                sent.map(|response| (response, None))
            }
        };
        match sent {
            Ok((response, sender)) => Ok(Sent { response, sender }),
            Err(mut error) => {
                let request = error.take_message().map(Box::new);
                let error = error.into_error();
                let closed = error.is_canceled()
                    || error.is_closed()
                    || error.is_incomplete_message()
                    || is_closed(&error);
                match request.is_some() || (reused && closed) {
                    true => Err(Failed::Stale(request)),
                    false => Err(Failed::Broken(innermost(&error))),
                }
            }
        }
    }
}

/// The innermost cause, which says most.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_closed(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    let kinds = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        NotConnected,
        UnexpectedEof,
    ];
    source.is_some_and(|error| kinds.contains(&error.kind()))
}
