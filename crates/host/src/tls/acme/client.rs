//! Requests to the directory, over the HTTP client that the gateway has for its operator's servers: each bounded in time and bytes.

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tollgate_delivery::driver::OperatorClient;

/// How long the directory may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Client(Arc<OperatorClient>);

impl Client {
    /// `ca`: a file of certificates that the directory's must be signed with; without it, those of the system.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(ca: Option<&Path>) -> Result<Self> {
        let client = match ca {
            Some(file) => OperatorClient::trusting(super::super::files::roots(&file.to_string_lossy())?),
            None => OperatorClient::new(),
        };
        Ok(Self(Arc::new(client)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            // Its answers name the URLs of what comes next.
            if head.uri.scheme_str() != Some("https") {
                return Err(Error::Other("the directory leads to a URL without https".into()));
            }
            let host = head.uri.host().unwrap_or_default().to_owned();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(head, body.to_bytes());
            let answer = client.send(request, TIMEOUT).await;
            let answer = answer.map_err(|error| Error::Other(format!("{host}: {error}").into()))?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}
