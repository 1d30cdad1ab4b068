//! One connection: HTTP/1.1 with keep-alive, or HTTP/2, with bounds on heads, streams and silence.

use super::listen::Listener;
use super::places::Place;
use super::service::{Caller, Gateways};
use super::stream::Stream;
use super::watch::{HEAD_TIMEOUT, Watched};
use super::wire::{Here, Wire};
use crate::local::Local;
use crate::proxy::tunnel::Tunnel;
use futures::FutureExt as _;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The most bytes of a request's head.
pub const MAX_HEAD: usize = 32 << 10;
/// The most header fields of a request.
pub const MAX_HEADERS: usize = 100;
/// The most requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams that a peer may reset before we answered them; beyond it the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 64;
/// The most bytes that wait to be sent on one HTTP/2 stream.
const MAX_SEND_BUFFER: usize = 256 << 10;
/// How often an HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// How long a connection in a spare place lasts.
const SPARE_TIME: Duration = Duration::from_secs(5);
/// How long a tunnel goes on after the signal to stop: nobody can tell its two ends to finish.
const TUNNEL_TIME: Duration = Duration::from_secs(5);
/// The most requests of one connection that hyper may refuse by ending its current work; see `ended` in
/// [`serve`].
const MAX_GIVEN_UP: u32 = 1_000;

/// A connection on its way to a worker.
pub struct Accepted {
    /// Non-blocking.
    pub stream: std::net::TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// Where it came in.
    pub listener: Listener,
    /// Its place among the open connections.
    pub place: Place,
}

/// Serves a connection until it closes, or until the worker stops, when it finishes its requests and closes.
pub async fn serve(gateways: Rc<Gateways>, accepted: Accepted, watched: Watched) {
    let Accepted {
        stream,
        mut peer,
        listener,
        mut place,
    } = accepted;
    let _ = stream.set_nodelay(true);
    let Ok(mut socket) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    let handshakes = gateways.handshakes();
    if handshakes.proxied.is_some() {
        let client = handshakes.client(&mut socket, (listener, &mut peer, &mut place), &watched);
        if Box::pin(client).await.is_none() {
            return;
        }
    }
    let tls = handshakes.tls(listener);
    let stream = match tls {
        None => Stream::Left(socket),
        Some(tls) => match Box::pin(handshakes.stream(socket, tls, &watched)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let address = peer.ip().to_canonical();
    let wire = Wire::new(stream, &watched, gateways.now().unparsed(address));
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
        // What h2 refuses by itself gets no document: the bound is kept by `super::service`, which gives one.
        .max_header_list_size(2 * MAX_HEAD as u32)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let caller = Rc::new(Caller {
        address,
        name: address.to_string(),
        port: peer.port(),
        is_spare: place.is_spare(),
        is_tls: tls.is_some(),
        listener,
        traffic: Rc::clone(watched.traffic()),
    });
    let (heads, traffic) = (watched.heads(), watched.traffic());
    let service = hyper::service::service_fn(move |request| {
        heads.came();
        let under_way = caller.traffic.begin(&request);
        gateways.now().answer(request, &caller).map(move |answer| {
            drop(under_way);
            Ok::<_, Infallible>(answer)
        })
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(Here::new(wire), service));
    let mut expiry = place.is_spare().then(|| Box::pin(tokio::time::sleep(SPARE_TIME)));
    let (mut told, mut given_up) = (false, 0);
    let ended = poll_fn(|context| {
        watched.wakes(context);
        // First what has arrived: a connection that is told to shut down drops what it has not read.
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            // hyper gives a connection up, without closing it, for one `CONNECT` of HTTP/2 that has a body. Polled again, it
            // goes on with the other streams. A test holds it to that.
            if ended.is_err() || traffic.is_over() || traffic.is_tunnel() || given_up == MAX_GIVEN_UP {
                return Poll::Ready(ended);
            }
            given_up += 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let expired = expiry
            .as_mut()
            .is_some_and(|expiry| expiry.as_mut().poll(context).is_ready());
        // A peer that has shown that it speaks HTTP/2 is told first, so that a request on its way is not
        // lost.
        if expired || watched.is_over() || (watched.is_late() && !traffic.is_http2()) {
            return Poll::Ready(Ok(()));
        }
        if (watched.is_late() || watched.is_stopping()) && !std::mem::replace(&mut told, true) {
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await;
    // Taken in any case: it holds what holds it.
    let tunnel = traffic.tunnel();
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    } else if let Some(tunnel) = tunnel {
        go_on(tunnel, &watched).await;
    }
}

/// What follows HTTP on a connection: to its end, or soon after the worker was told to stop.
async fn go_on(mut tunnel: Tunnel, watched: &Watched) {
    let mut last = None;
    poll_fn(|context| {
        watched.wakes(context);
        if tunnel.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !watched.is_stopping() {
            return Poll::Pending;
        }
        let last = last.get_or_insert_with(|| Box::pin(tokio::time::sleep(TUNNEL_TIME)));
        last.as_mut().poll(context)
    })
    .await;
}
