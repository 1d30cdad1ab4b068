//! Connections to origins, and only to those that a subscription may target. The address is judged when it is connected
//! to, after the name was resolved: a name that is pointed elsewhere later, or by a second answer, gains nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::crypto::ring::default_provider;
use tollgate_core::relay::address::is_public;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// How long one connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Over TLS for `https`, plain for `http`.
pub(crate) type Connector = HttpsConnector<Guard>;

/// A connector; `allow_private` lets it reach any address. Certificates are checked against those of the system, or,
/// where it has none, against Mozilla's.
pub(crate) fn connector(allow_private: bool) -> Connector {
    let mut http = HttpConnector::new_with_resolver(Resolver { allow_private });
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_nodelay(true);
    let guard = Guard { http, allow_private };
    let builder = HttpsConnectorBuilder::new();
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

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the origin's address is not a public one",
    )
}

/// Judges addresses that stand in the URL itself, which no resolver sees.
#[derive(Clone)]
pub(crate) struct Guard {
    http: HttpConnector<Resolver>,
    allow_private: bool,
}

impl Service<Uri> for Guard {
    type Response = <HttpConnector<Resolver> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or("");
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if !self.allow_private && literal.is_some_and(|address| !is_public(address)) {
            return Box::pin(std::future::ready(Err(refused().into())));
        }
        let connecting = self.http.call(uri);
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}

/// Resolves names, and leaves out what may not be targeted.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
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
