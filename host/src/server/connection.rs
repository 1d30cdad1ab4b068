//! One connection: HTTP/1.1 with keep-alive, or HTTP/2, with bounds on heads, streams and silence.

use super::service::Gateway;
use super::watch::{HEAD_TIMEOUT, Watched};
use futures::FutureExt as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The most bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
/// The most header fields of a request.
const MAX_HEADERS: usize = 100;
/// The most requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams that a peer may reset before we answered them; beyond it the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 64;
/// The most bytes that wait to be sent on one HTTP/2 stream.
const MAX_SEND_BUFFER: usize = 256 << 10;
/// How often an HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// A connection on its way to a worker.
pub struct Accepted {
    /// Non-blocking.
    pub stream: std::net::TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// Its place among the open connections.
    pub permit: OwnedSemaphorePermit,
}

/// Runs spawned HTTP/2 tasks on this worker.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// Serves a connection until it closes, or until the worker stops, when it finishes its requests and closes.
pub async fn serve(gateway: Rc<Gateway>, accepted: Accepted, watched: Watched) {
    let Accepted { stream, peer, permit } = accepted;
    let _permit = permit;
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(watched.heads())
        .header_read_timeout(HEAD_TIMEOUT)
        // Answers are small: copied behind their heads, they go out with a plain `write`, which costs less.
        .writev(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let peer: Rc<str> = peer.ip().to_canonical().to_string().into();
    let heads = watched.heads();
    let service = hyper::service::service_fn(move |request| {
        heads.came();
        gateway.answer(request, &peer).map(Ok::<_, Infallible>)
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut told = false;
    let ended = poll_fn(|context| {
        watched.wakes(context);
        // First what has arrived: a connection that is told to shut down drops what it has not read.
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        // hyper does not limit how long a peer may keep silent before it shows its version of HTTP.
        if watched.is_late() {
            return Poll::Ready(Ok(()));
        }
        if watched.is_stopping() && !std::mem::replace(&mut told, true) {
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
