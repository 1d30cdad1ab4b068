//! Connections to origins, and only to those that a subscription may target. The address is judged when it is connected
//! to, after the name was resolved: a name that is pointed elsewhere later, or by a second answer, gains nothing. The
//! gateway itself is no target either: a message that led back to it would make messages without end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::relay::address::is_public;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use super::stream::Stream;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// How long one connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Over TLS for `https`, plain for `http`.
pub(super) type Connector = HttpsConnector<Guard>;

/// A connector; `allow_private` lets it reach any address. Certificates are checked against `roots`, else against those of the
/// system, or, where it has none, against Mozilla's.
pub(super) fn connector(
    allow_private: bool,
    own: Arc<OwnAddress>,
    roots: Option<RootCertStore>,
) -> Connector {
    let mut http = HttpConnector::new_with_resolver(Resolver { allow_private });
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_nodelay(true);
    let guard = Guard {
        http,
        allow_private,
        own,
    };
    let builder = HttpsConnectorBuilder::new();
    if let Some(roots) = roots {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider knows the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = builder.with_tls_config(config);
        return builder.https_or_http().enable_http1().wrap_connector(guard);
    }
    let builder = match builder.with_provider_and_native_roots(default_provider()) {
        Ok(builder) => builder,
        Err(error) => {
            tracing::warn!(%error, "the system has no certificates; using those that are built in");
            HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(default_provider())
                .expect("the ring provider knows the default versions of TLS")
        }
    };
    builder.https_or_http().enable_http1().wrap_connector(guard)
}

/// Where the gateway itself is reached.
#[derive(Debug)]
pub(crate) struct OwnAddress {
    public: Mutex<Option<(String, u16)>>,
    listening: Mutex<Option<SocketAddr>>,
}

impl OwnAddress {
    pub fn new(public_url: &str) -> Self {
        let own = Self {
            public: Mutex::default(),
            listening: Mutex::default(),
        };
        own.set_public(public_url);
        own
    }

    /// Our public URL is this from now on.
    pub fn set_public(&self, public_url: &str) {
        let place = public_url.parse().ok().as_ref().and_then(place);
        *self.public.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    pub fn set(&self, address: SocketAddr) {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The host and port of our own public URL.
    fn is_named(&self, uri: &Uri) -> bool {
        let public = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        public.is_some() && place(uri) == *public
    }

    /// Whether our public URL has this host and port.
    #[cfg(feature = "sockets")]
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        let public = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        public.as_ref().is_some_and(|own| *own == (host, port))
    }

    /// Whether a connection to `peer` is one to ourselves.
    pub fn is(&self, peer: SocketAddr) -> bool {
        let listening = *self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = listening.filter(|own| own.port() == peer.port()) else {
            return false;
        };
        let (own, peer) = (own.ip().to_canonical(), peer.ip().to_canonical());
        // An address of this machine is one that a socket can be bound to.
        own == peer
            || peer.is_unspecified()
            || own.is_unspecified() && (peer.is_loopback() || UdpSocket::bind((peer, 0)).is_ok())
    }
}

/// The host, without a trailing dot and in lower case, and the port.
fn place(uri: &Uri) -> Option<(String, u16)> {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    Some((host, uri.port_u16().unwrap_or(default)))
}

pub(crate) fn own() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the target is the gateway itself",
    )
}

pub(crate) fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the origin's address is not a public one",
    )
}

/// Judges addresses that stand in the URL itself, which no resolver sees.
#[derive(Clone)]
pub(super) struct Guard {
    http: HttpConnector<Resolver>,
    allow_private: bool,
    own: Arc<OwnAddress>,
}

impl Service<Uri> for Guard {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or("");
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if !self.allow_private && literal.is_some_and(|address| !is_public(address)) {
            return Box::pin(std::future::ready(Err(refused().into())));
        }
        if self.own.is_named(&uri) {
            return Box::pin(std::future::ready(Err(own().into())));
        }
        let (connecting, own_address) = (self.http.call(uri), Arc::clone(&self.own));
        Box::pin(async move {
            let stream = connecting.await?;
            // Whatever name led here. Nothing has been sent yet.
            if own_address.is(stream.inner().peer_addr()?) {
                return Err(own().into());
            }
            Ok(Stream::new(stream))
        })
    }
}

/// Resolves names, and leaves out what may not be targeted.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found
                .iter()
                .copied()
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(refused());
            }
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_known_by_every_address_that_leads_to_it() {
        let own = OwnAddress::new("https://go.example");
        let is = |peer: &str| own.is(peer.parse().unwrap());
        assert!(!is("127.0.0.1:3000"), "not before it listens");
        own.set("127.0.0.1:3000".parse().unwrap());
        assert!(is("127.0.0.1:3000") && is("[::ffff:127.0.0.1]:3000") && is("0.0.0.0:3000"));
        assert!(!is("127.0.0.1:3001") && !is("192.0.2.1:3000"));
        for wildcard in ["0.0.0.0:3000", "[::]:3000"] {
            own.set(wildcard.parse().unwrap());
            assert!(is("127.0.0.1:3000") && is("127.8.8.8:3000") && is("[::1]:3000") && is("[::]:3000"));
            assert!(!is("192.0.2.1:3000") && !is("127.0.0.1:80"));
        }
        let named = |uri: &str| own.is_named(&uri.parse().unwrap());
        assert!(named("https://go.example/x") && named("https://GO.example.:443/"));
        assert!(!named("http://go.example/x") && !named("https://other.example/"));
        own.set_public("https://other.example");
        assert!(named("https://other.example/") && !named("https://go.example/x"));
    }
}
