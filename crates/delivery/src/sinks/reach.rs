//! Connections of sinks that are not of HTTP, under the rules of those that are: only to addresses that the subscription may target,
//! judged after the name was resolved and used as they were judged, and never to the gateway itself.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http::{OwnAddress, own, refused};
use crate::relay::address::is_public;
use crate::subscription::{Place, Security};

/// How long one connection may take, its handshake of TLS besides.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes that a server may say to what it was told last. The libraries that read them keep all of an answer.
const MAX_SAID: usize = 16 << 20;

/// Bytes both ways.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Wire for T {}

/// A connection whose other end says so much and no more.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    stream: S,
    left: usize,
}

impl<S> Bounded<S> {
    /// With nothing said so far.
    pub fn new(stream: S) -> Self {
        let left = MAX_SAID;
        Self { stream, left }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let said = io::Error::new(io::ErrorKind::InvalidData, "the server says more than it may");
            return Poll::Ready(Err(said));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.left = MAX_SAID;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Reach {
    own: Arc<OwnAddress>,
    /// Read when they are needed, which takes a start longer than all else of it.
    roots: OnceLock<Arc<RootCertStore>>,
}

impl Reach {
    pub fn new(own: Arc<OwnAddress>) -> Self {
        let roots = OnceLock::new();
        Self { own, roots }
    }

    /// The addresses of a place that may be connected to; there is at least one.
    ///
    /// # Errors
    /// None may be, or the name has none.
    pub async fn addresses(&self, place: &Place, allow_private: bool) -> io::Result<Vec<SocketAddr>> {
        if self.own.is_at(&place.host, place.port) {
            return Err(own());
        }
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await?;
        let found: Vec<_> = found.filter(|one| allow_private || is_public(one.ip())).collect();
        if found.is_empty() {
            return Err(refused());
        }
        // Whatever name led here.
        if found.iter().any(|one| self.own.is(*one)) {
            return Err(own());
        }
        Ok(found)
    }

    /// A connection, over TLS where the place says so.
    pub async fn connect(&self, place: &Place, allow_private: bool) -> io::Result<Box<dyn Wire>> {
        let stream = self.stream(place, allow_private).await?;
        match place.security {
            Security::Plain => Ok(Box::new(Bounded::new(stream))),
            Security::Tls => self.secure(stream, &place.host).await,
        }
    }

    /// A connection as it begins, whatever the place says.
    pub async fn stream(&self, place: &Place, allow_private: bool) -> io::Result<TcpStream> {
        let mut failed = None;
        for address in self.addresses(place, allow_private).await? {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
            match connecting.await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
            }
        }
        Err(failed.unwrap_or_else(refused))
    }

    /// TLS over a connection to this host.
    pub async fn secure(&self, stream: impl Wire + 'static, host: &str) -> io::Result<Box<dyn Wire>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider knows the default versions of TLS")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        Ok(Box::new(Bounded::new(connecting.await?)))
    }

    /// Certificates are checked against those of the system (or of `SSL_CERT_FILE`), or, where it has none, against Mozilla's.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let read = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                tracing::warn!("the system has no certificates; using those that are built in");
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(roots)
        };
        Arc::clone(self.roots.get_or_init(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_server_says_so_much_to_what_it_is_told_and_no_more() {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let mut ours = Bounded::new(ours);
        let server = tokio::spawn(async move {
            let piece = vec![b'a'; 64 << 10];
            while theirs.write_all(&piece).await.is_ok() {}
        });
        let mut answer = vec![0; MAX_SAID];
        for _ in 0..2 {
            ours.write_all(b"a").await.unwrap();
            ours.read_exact(&mut answer).await.unwrap();
        }
        let more = ours.read(&mut answer).await.unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::InvalidData);
        drop(ours);
        server.await.unwrap();
    }
}
