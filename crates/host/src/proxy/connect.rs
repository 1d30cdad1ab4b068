//! Connections to an origin: its name is resolved, a socket opened, and hands are shaken where it speaks TLS.

use super::origin::Address;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tollgate_rules::config::Http2;

/// A connection as hyper takes it.
pub type Io = TokioIo<Socket>;

/// A socket, or TLS on one; the latter in a box: most of it is the state of the session.
pub type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

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
    let socket = TcpStream::connect((&*address.host, address.port)).await?;
    socket.set_nodelay(true)?;
    if !address.is_tls {
        return Ok((TokioIo::new(Either::Left(socket)), http2 == Http2::Always));
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
    Ok((TokioIo::new(Either::Right(Box::new(stream))), is_two))
}
