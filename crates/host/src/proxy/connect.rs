//! Connections to an origin: its name is resolved, a socket opened, and hands are shaken where it speaks TLS.

use super::origin::Address;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_rules::config::Http2;

/// A connection as hyper takes it.
pub type Io = TokioIo<Socket>;

/// A socket, or TLS on one.
#[derive(Debug)]
pub enum Socket {
    /// As it comes.
    Plain(TcpStream),
    /// In a box: most of it is the state of the session.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Made when the first origin with TLS is connected to: reading the system's certificates takes a while.
static CONFIG: LazyLock<ClientConfig> = LazyLock::new(|| {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider knows the default versions of TLS")
    };
    let with_roots = builder().with_native_roots().unwrap_or_else(|error| {
        tracing::warn!(%error, "the system has no certificates; using those that are built in");
        builder().with_webpki_roots()
    });
    with_roots.with_no_client_auth()
});

/// By the versions of HTTP that are offered.
static CONFIGS: LazyLock<[Arc<ClientConfig>; 3]> = LazyLock::new(|| {
    let with = |offered: &[&[u8]]| {
        let mut config = CONFIG.clone();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    [with(&[b"h2", b"http/1.1"]), with(&[b"h2"]), with(&[b"http/1.1"])]
});

/// Opens a connection; whether it is one of HTTP/2.
///
/// # Errors
/// The name cannot be resolved, none of its addresses takes a connection, or the certificate is not valid for it.
pub async fn connect(address: &Address, http2: Http2) -> io::Result<(Io, bool)> {
    let found: Vec<_> = tokio::net::lookup_host((&*address.host, address.port))
        .await?
        .collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut opened = None;
    for at in found {
        match TcpStream::connect(at).await {
            Ok(socket) => {
                opened = Some(socket);
                break;
            }
            Err(error) => failed = error,
        }
    }
    let socket = opened.ok_or(failed)?;
    socket.set_nodelay(true)?;
    if !address.is_tls {
        return Ok((TokioIo::new(Socket::Plain(socket)), http2 == Http2::Always));
    }
    let [either, two, one] = &*CONFIGS;
    let config = match http2 {
        Http2::Auto => either,
        Http2::Always => two,
        Http2::Never => one,
    };
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, socket)
        .await?;
    let is_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((TokioIo::new(Socket::Tls(Box::new(stream))), is_two))
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, pieces),
        }
    }
}
