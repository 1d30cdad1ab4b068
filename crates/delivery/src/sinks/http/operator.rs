//! Requests to whom the operator names, such as a collector of traces: any address may be one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;

use super::connector::{Connector, OwnAddress, connector};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);

/// Sends requests over HTTP and HTTPS, and keeps connections.
#[derive(Debug)]
pub struct OperatorClient(Client<Connector, Full<Bytes>>);

impl OperatorClient {
    /// A client without connections.
    #[allow(clippy::new_without_default, reason = "reads the system's certificates")]
    pub fn new() -> Self {
        Self::with(None)
    }

    /// The same for servers whose certificates must be signed with one of these.
    pub fn trusting(roots: RootCertStore) -> Self {
        Self::with(Some(roots))
    }

    fn with(roots: Option<RootCertStore>) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Self(builder.build(connector(true, Arc::new(OwnAddress::new("")), roots)))
    }

    /// The whole answer, of at most 64 KiB, within this time.
    ///
    /// # Errors
    /// In words: there is none, or it is too long or too late.
    pub async fn send(&self, request: Request<Bytes>, timeout: Duration) -> Result<Response<Bytes>, String> {
        let answer = async {
            let sent = self.0.request(request.map(Full::new)).await;
            let (head, body) = sent.map_err(|error| super::describe(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let late = |_| "no answer in time".to_owned();
        tokio::time::timeout(timeout, answer).await.map_err(late)?
    }
}
