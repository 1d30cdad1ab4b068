//! What comes before HTTP on a connection: the header of the PROXY protocol, and the handshake of TLS. Both are bounded in time
//! and bytes. A client that is about them holds its place like any other, and gives way like any other.

use super::head;
use super::listen::Listener;
use super::places::{Place, Places};
use super::proxy_protocol;
use super::stream::{Bounded, Stream};
use super::watch::Watched;
use crate::tls::{ACME_TLS, Handshake, Tls};
use rustls::{HandshakeKind, server::Acceptor};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::LazyConfigAcceptor;
use tollgate_api::problem::{Kind, Problem};

/// How long a trusted proxy may take to say whose connection it is.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a handshake may still go on once the worker stops.
const STOPPING: Duration = Duration::from_secs(1);
/// The most bytes that a client may send before its handshake is done. Of today's, a `ClientHello` has up to 2 KiB, and a chain
/// of certificates for mTLS some more.
const MAX_HANDSHAKE: usize = 32 << 10;
/// The type of the record that every handshake begins with (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What is read and dropped of plain HTTP, so that the refusal arrives; for as long as a handshake may take.
const MAX_DROPPED: u64 = 64 << 10;

/// What a worker needs for this.
#[derive(Debug)]
pub struct Handshakes {
    /// Of each listener that has it.
    pub public: Option<Arc<Tls>>,
    /// See `public`.
    pub admin: Option<Arc<Tls>>,
    /// To count connections by the client that a proxy names; `None` without the PROXY protocol.
    pub proxied: Option<Arc<Places>>,
    /// Signing takes a core up to a millisecond. One client at a time has that, and then everything else that can go on goes on:
    /// so a crowd that shakes hands delays a redirect by one signature, whatever its number.
    turn: Rc<Semaphore>,
}

/// Why a connection is not ready for HTTP.
enum Cut {
    /// It took too long.
    TimedOut,
    /// It gave way to newcomers, or the worker stops.
    Over,
}

impl Handshakes {
    /// Of one worker.
    pub fn new(public: Option<Arc<Tls>>, admin: Option<Arc<Tls>>, proxied: Option<Arc<Places>>) -> Self {
        Self {
            public,
            admin,
            proxied,
            turn: Rc::new(Semaphore::new(1)),
        }
    }

    /// The TLS of a listener, if it has any.
    pub fn tls(&self, listener: Listener) -> Option<&Arc<Tls>> {
        match listener {
            Listener::Public => self.public.as_ref(),
            Listener::Admin => self.admin.as_ref(),
            Listener::Redirect => None,
        }
    }

    /// Reads the header by which a trusted proxy says whose connection this is. `None`: the connection is over.
    pub async fn client(
        &self,
        socket: &mut TcpStream,
        (listener, peer, place): (Listener, &mut SocketAddr, &mut Place),
        watched: &Watched,
    ) -> Option<()> {
        let Some(places) = &self.proxied else {
            return Some(());
        };
        // Others are who they are. Their header, if they send one, is no request and no handshake, and is refused as such.
        if listener == Listener::Admin || !places.trust(peer.ip()) {
            return Some(());
        }
        let read = within(watched, PROXY_HEADER_TIMEOUT, proxy_protocol::read(socket)).await;
        match read {
            Ok(Ok(Some(client))) => {
                *peer = client;
                places.count(place, client.ip()).then_some(())
            }
            Ok(Ok(None)) => Some(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, proxy = %peer, "a trusted proxy sent no header of the PROXY protocol: closed");
                None
            }
            Err(_) => None,
        }
    }

    /// Shakes hands where the listener speaks TLS. `None`: the connection is over.
    pub async fn stream(&self, mut socket: TcpStream, tls: &Arc<Tls>, watched: &Watched) -> Option<Stream> {
        let outcome = within(watched, tls.handshake_timeout(), async {
            let mut first = [0];
            let count = socket.peek(&mut first).await?;
            if count == 1 && first != [HANDSHAKE_RECORD] {
                // A letter: a method, most likely, or the preface of HTTP/2.
                if first[0].is_ascii_uppercase() {
                    tls.count(Handshake::PlainHttp);
                    refuse_plain_http(&mut socket).await?;
                    return Ok(None);
                }
            }
            self.shake_hands(socket, tls).await
        });
        let outcome: Result<io::Result<Option<Stream>>, Cut> = outcome.await;
        match outcome {
            Ok(Ok(Some(stream))) => {
                if let Stream::Right(stream) = &stream {
                    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                    tls.count(if resumed {
                        Handshake::Resumed
                    } else {
                        Handshake::Full
                    });
                }
                // A first request has as long as anybody's.
                watched.heads().moved();
                return Some(stream);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tls.count(Handshake::Failed);
                tracing::debug!(%error, "a handshake failed");
            }
            Err(Cut::TimedOut) => tls.count(Handshake::TimedOut),
            Err(Cut::Over) => tls.count(Handshake::Failed),
        }
        None
    }

    /// `None`: it was an ACME authority, which wanted to see the handshake alone.
    async fn shake_hands(&self, socket: TcpStream, tls: &Tls) -> io::Result<Option<Stream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), Bounded::new(socket, MAX_HANDSHAKE)).await?;
        let turn = self.turn.acquire().await.map_err(io::Error::other)?;
        // Keys are exchanged and signed in this very call.
        let config = tls.config_for(&hello.client_hello());
        let accepting = hello.into_stream(config);
        tokio::task::yield_now().await;
        drop(turn);
        let mut stream = accepting.await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            tls.count(Handshake::Full);
            stream.shutdown().await?;
            return Ok(None);
        }
        stream.get_mut().0.unbound();
        Ok(Some(Stream::Right(Box::new(stream))))
    }
}

/// Tells a client that speaks HTTP to a port of TLS what is wrong, in words that it understands.
async fn refuse_plain_http(socket: &mut TcpStream) -> io::Result<()> {
    let problem = Problem::new(
        Kind::InvalidRequest,
        "This port speaks TLS, and the request came without: use https://.",
    );
    socket
        .write_all(&head::refusal("HTTP/1.1 400 Bad Request", problem))
        .await?;
    socket.shutdown().await?;
    // Were it not read, the kernel would answer it with a reset, and the client would not see the answer.
    let mut rest = socket.take(MAX_DROPPED);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

/// Polls `work` until it is ready, its time is up, or the connection gives way.
async fn within<T>(watched: &Watched, timeout: Duration, work: impl Future<Output = T>) -> Result<T, Cut> {
    let mut work = pin!(work);
    let mut expiry = pin!(sleep_until(Instant::now() + timeout));
    let mut is_hurried = false;
    poll_fn(|context| {
        watched.wakes(context);
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        if watched.is_stopping() && !std::mem::replace(&mut is_hurried, true) {
            let soon = Instant::now() + STOPPING;
            if soon < expiry.deadline() {
                expiry.as_mut().reset(soon);
            }
        }
        match expiry.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Cut::TimedOut)),
            Poll::Pending if watched.is_over() || watched.is_late() => Poll::Ready(Err(Cut::Over)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
