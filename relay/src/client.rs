//! One delivery: a POST, and what became of it.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tollgate_core::commit::Message;
use tollgate_core::config::Subscription;
use tollgate_core::relay::Answer;
use tollgate_core::retry::retry_after_ms;
use tollgate_core::webhook::{Secret, delivery_headers};

use crate::clock::wall_ms;
use crate::connector::{Connector, connector};

/// What is read of an answer's body, so that its connection can be used again; nothing looks at it.
const MAX_DRAINED: usize = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an idle connection is kept. Shorter than what common servers keep, so that few are closed under a request.
const IDLE: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

type Http = HyperClient<Connector, Full<Bytes>>;

/// The connections of all subscriptions; those that may reach private addresses have a pool of their own.
#[derive(Clone)]
pub(crate) struct Clients {
    public: Http,
    any: Http,
}

impl Clients {
    pub fn new() -> Self {
        let client = |allow_private| {
            HyperClient::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .build(connector(allow_private))
        };
        Self {
            public: client(false),
            any: client(true),
        }
    }

    /// For one subscription. The error says which setting is at fault, and quotes no secret.
    pub fn target(&self, topic: &str, settings: &Subscription, public_url: &str) -> Result<Target, String> {
        // The URL as a browser would read it: odd spellings of addresses become plain ones, which are judged.
        let url = url::Url::parse(&settings.url).map_err(|error| format!("url: {error}"))?;
        let uri = url.as_str().parse().map_err(|error| format!("url: {error}"))?;
        let secret = settings
            .secret
            .as_ref()
            .map(|text| Secret::parse(text.expose()))
            .transpose();
        Ok(Target {
            http: if settings.allow_private_addresses {
                self.any.clone()
            } else {
                self.public.clone()
            },
            uri,
            secret: secret.map_err(|error| format!("secret: {error}"))?,
            timeout: settings.timeout.into(),
            source: format!("{public_url}/api/topics/{topic}"),
        })
    }
}

/// Where one subscription's messages go.
#[derive(Clone)]
pub(crate) struct Target {
    http: Http,
    uri: Uri,
    secret: Option<Secret>,
    timeout: Duration,
    source: String,
}

impl Target {
    /// Delivers once. Redirects are not followed: they are an answer like any other that is not 2xx.
    pub async fn deliver(&self, message: Arc<Message>) -> Answer {
        let now = wall_ms();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers(&message, now);
        *request.body_mut() = Full::new(Bytes::from_owner(Payload(message)));
        match tokio::time::timeout(self.timeout, self.http.request(request)).await {
            Err(_) => Answer::Timeout,
            Ok(Err(error)) => Answer::Connect(describe(&error)),
            Ok(Ok(response)) => {
                let asked = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok());
                let retry_after_ms = asked.and_then(|value| retry_after_ms(value, wall_ms()));
                let status = response.status().as_u16();
                // Apart, so that a slow body holds up no acknowledgement.
                tokio::task::spawn_local(drain(response.into_body()));
                Answer::Status {
                    status,
                    retry_after_ms,
                }
            }
        }
    }

    fn headers(&self, message: &Message, now: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for header in delivery_headers(message, &self.source, self.secret.as_ref(), now) {
            let name = HeaderName::try_from(&*header.name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(header.value)) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// The payload without a copy.
struct Payload(Arc<Message>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0.payload
    }
}

async fn drain(mut body: Incoming) {
    let whole = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MAX_DRAINED {
                return;
            }
        }
    };
    // What is left is cut off with its connection.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, whole).await;
}

/// The innermost cause, which says most: "Connection refused", not "client error".
fn describe(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => error.to_string(),
    }
}
