//! The HTTP client of the commands: connections that are kept, over TLS for `https`, to the one gateway that `--url` names.

use super::exit::{Failure, Refusal};
use super::output::tell;
use super::own;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring::default_provider;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tollgate_api::percent;
use tollgate_delivery::driver::describe;

/// Where a gateway listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:3000";
/// Where the key may be. Not an argument's: a flag for a file of it comes before it, and help must not show it.
const KEY: &str = "TOLLGATE_KEY";
/// The largest answer that is read: a page of messages, 100 of 64 KiB in base64, and some.
const MAX_ANSWER: usize = 16 << 20;
/// How long one answer may take; a long poll waits 30 s.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections are given up before the gateway closes them.
const IDLE: Duration = Duration::from_secs(5);
/// How often one call is tried again where the gateway says when (429, 503), and how long each wait may be.
const TRIES: u32 = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long who follows something waits for a gateway that went away.
const AWAY: Duration = Duration::from_secs(2);

/// Which gateway, and who asks.
#[derive(Args, Debug)]
pub struct Target {
    /// The gateway [default: http://127.0.0.1:3000].
    #[arg(long, env = "TOLLGATE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// A file with the API key; it comes before TOLLGATE_KEY.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The API key itself. Others on this machine can see it: prefer --key-file or TOLLGATE_KEY.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// A client of one gateway. Cheap to clone; its connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Seconds to wait before it is tried again, if the gateway says so.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The failure that an answer other than a success is.
    pub fn refusal(&self, method: &Method, path: &str) -> Failure {
        let path = path.split('?').next().unwrap_or_default();
        Failure::Refused(Box::new(Refusal {
            call: format!("{method} {path}"),
            status: self.status,
            problem: self.json(),
        }))
    }
}

impl Client {
    /// A client of the gateway that flags and environment name.
    ///
    /// # Errors
    /// The URL is none; the key's file cannot be read, or the key cannot be sent.
    pub fn new(target: &Target) -> Result<Self, Failure> {
        let url = target.url.as_deref().filter(|url| !url.is_empty());
        let client = Self::at(url.unwrap_or(DEFAULT_URL))?;
        Ok(Self {
            authorization: key(target)?.map(|key| bearer(&key)).transpose()?,
            ..client
        })
    }

    /// A client without a key.
    ///
    /// # Errors
    /// The URL is none, or has a query.
    pub fn at(url: &str) -> Result<Self, Failure> {
        Self::over(url, connector)
    }

    /// The same of a gateway on this machine, which is known by its address: any certificate will do.
    ///
    /// # Errors
    /// The URL is none, or has a query.
    pub fn here(url: &str) -> Result<Self, Failure> {
        Self::over(url, |_| {
            let config = own::config().map_err(anyhow::Error::from)?;
            let builder = HttpsConnectorBuilder::new().with_tls_config(config);
            Ok(builder.https_or_http().enable_http1().wrap_connector(http()))
        })
    }

    /// `connector`: makes what connects, given whether it is to TLS.
    fn over(
        url: &str,
        connector: impl FnOnce(bool) -> Result<HttpsConnector<HttpConnector>, Failure>,
    ) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("--url: {url} {why}"));
        let base = url.trim_end_matches('/');
        let parsed: http::Uri = base.parse().map_err(|_| wrong("is no URL"))?;
        let secure = match parsed.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("should begin with http:// or https://")),
        };
        let authority = parsed.authority().map_or("", |authority| authority.as_str());
        if authority.is_empty() || authority.contains('@') || parsed.query().is_some() {
            return Err(wrong("should be a host, with a port and a path at most"));
        }
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector(secure)?);
        Ok(Self {
            http,
            base: base.to_owned(),
            authorization: None,
        })
    }

    /// One request and its answer, whatever its status.
    ///
    /// # Errors
    /// [`Failure::Unreachable`]: no connection, or no whole answer in time.
    pub async fn send(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        let answer = tokio::time::timeout(ANSWER, self.exchange(method, path, body)).await;
        answer.unwrap_or_else(|_| Err(self.unreachable(&format!("no answer within {} s", ANSWER.as_secs()))))
    }

    /// The answer to a call, once it is a success. Where the gateway says when to come again (429, 503), that is done.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], or [`Failure::Refused`] with the gateway's problem.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        for tries in 1.. {
            let answer = self.send(&method, path, body.clone()).await?;
            if answer.is_success() {
                return self.told(&answer);
            }
            let wait = answer.retry_after.map(Duration::from_secs);
            let wait = wait.filter(|wait| *wait <= LONGEST_WAIT && tries < TRIES);
            match wait {
                Some(wait) if matches!(answer.status, 429 | 503) => {
                    tell(&format!("the gateway asks to wait {} s", wait.as_secs()));
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(answer.refusal(&method, path)),
            }
        }
        Err(Failure::failed("the gateway asks to wait again and again"))
    }

    /// What a success says. Null where it says nothing.
    fn told(&self, answer: &Answer) -> Result<Value, Failure> {
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        // Somebody else's page, perhaps of a log-in: no answer of a gateway, and no empty list.
        serde_json::from_slice(&answer.body).map_err(|_| self.unreachable("what answers there is none"))
    }

    /// The answer to a `GET`, for who follows something: once there was one (`again`), a gateway that went away is waited for.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub async fn follow(&self, path: &str, again: bool) -> Result<Value, Failure> {
        loop {
            match self.call(Method::GET, path, None).await {
                Err(Failure::Unreachable(why)) if again => {
                    tell(&format!("{why}; trying again"));
                    tokio::time::sleep(AWAY).await;
                }
                answered => return answered,
            }
        }
    }

    /// Gives the pages of a list to `each`, one after the other. `path`: with the `limit` in its query; `list`: the name of
    /// the list in the answers.
    ///
    /// # Errors
    /// See [`Client::call`]; and those of `each`.
    pub async fn pages(
        &self,
        path: &str,
        list: &str,
        mut each: impl FnMut(Vec<Value>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut at = path.to_owned();
        loop {
            let mut page = self.call(Method::GET, &at, None).await?;
            let elements = page[list].as_array_mut().map(std::mem::take);
            each(elements.ok_or_else(|| self.unreachable("what answers there is none"))?)?;
            match page["nextCursor"].as_str() {
                Some(next) => at = format!("{path}&cursor={}", segment(next)),
                None => return Ok(()),
            }
        }
    }

    async fn exchange(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
        let answered = self.http.request(request).await;
        let response = answered.map_err(|error| self.unreachable(&describe(&error)))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(Answer {
            status,
            retry_after,
            body: body.to_bytes(),
        })
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("no gateway answers at {}: {why}", self.base))
    }
}

/// Runs a command's calls on this thread.
///
/// # Errors
/// The command's; or the system gives no runtime.
pub fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(command)
}

/// A path segment, encoded.
pub fn segment(text: &str) -> String {
    match text {
        // A segment of dots would be taken for a way up.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => percent::encode(text).to_string(),
    }
}

/// Over TLS where that is asked for: certificates are checked against those of the system (`SSL_CERT_FILE` names others), or,
/// where it has none, against Mozilla's.
pub(crate) fn connector(secure: bool) -> Result<HttpsConnector<HttpConnector>, Failure> {
    // The system's certificates take some 50 ms to read: only where they are needed.
    let native =
        secure.then(|| HttpsConnectorBuilder::new().with_provider_and_native_roots(default_provider()));
    let builder = match native {
        Some(Ok(builder)) => builder,
        _ => HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(default_provider())
            .map_err(anyhow::Error::from)?,
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(http()))
}

/// What connects, below TLS.
fn http() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    http
}

/// The key that was given: by flag, by the file that a flag names, or by the environment.
fn key(target: &Target) -> Result<Option<String>, Failure> {
    let text = match (&target.key, &target.key_file) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(file)) => {
            let text = fs::read_to_string(file);
            Some(text.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?)
        }
        (None, None) => std::env::var_os(KEY)
            .map(|text| text.into_string())
            .transpose()
            .map_err(|_| Failure::Usage(format!("{KEY} is not UTF-8")))?,
    };
    Ok(text
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty()))
}

fn bearer(key: &str) -> Result<HeaderValue, Failure> {
    // The error must not show it.
    let value = HeaderValue::try_from(format!("Bearer {key}"));
    let mut value = value.map_err(|_| Failure::Usage("the key has characters that no key has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_at_most_a_path() {
        for good in ["http://a", "https://a:1/", "http://[::1]:3000/edge"] {
            assert!(Client::at(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a:3000",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?x=1",
        ] {
            assert!(matches!(Client::at(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_segment_is_one_segment() {
        assert_eq!(segment("a.b-c"), "a.b-c");
        assert_eq!(segment("../ü?#"), "..%2F%C3%BC%3F%23");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn a_key_is_shown_nowhere() {
        let client = Client {
            authorization: bearer("secret-key").ok(),
            ..Client::at("http://a").unwrap()
        };
        assert!(!format!("{client:?}").contains("secret-key"));
        let Err(Failure::Usage(told)) = bearer("secret\nkey") else {
            panic!("it cannot be sent");
        };
        assert!(!told.contains("secret"));
    }
}
