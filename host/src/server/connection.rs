//! One connection: HTTP/1.1 with keep-alive, or HTTP/2, with bounds on heads, streams and silence.

use super::service::Gateway;
use futures::FutureExt as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// How long the head of a request may take to arrive, and a connection may idle. A new connection must make its first
/// request within it, whatever version of HTTP it turns out to speak.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
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

/// Serves a connection until it closes, or until `stopped`, when it finishes its requests and closes.
pub async fn serve(gateway: Rc<Gateway>, accepted: Accepted, mut stopped: watch::Receiver<bool>) {
    let Accepted { stream, peer, permit } = accepted;
    let _permit = permit;
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
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
    let begun = Rc::new(Cell::new(false));
    let first = Rc::clone(&begun);
    let service = hyper::service::service_fn(move |request| {
        first.set(true);
        gateway.answer(request, &peer).map(Ok::<_, Infallible>)
    });
    // hyper does not limit how long a peer may keep silent before it shows its version of HTTP.
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if begun.get() {
            std::future::pending::<()>().await;
        }
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // First what has arrived: a connection that is told to shut down drops what it has not read.
        biased;
        ended = connection.as_mut() => ended,
        () = silent => return,
        _ = stopped.wait_for(|stopped| *stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
