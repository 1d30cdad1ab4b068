//! Forms that rules post to whom the settings name: the provider of a challenge.

use crate::cli::connector;
use bytes::Bytes;
use http::Uri;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use tollgate_delivery::driver::describe;
use tollgate_rules::challenges;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, bytes.
const MAX_ANSWER: usize = 64 << 10;
/// The most forms under way at once: each is a connection, and strangers make them.
const MAX_UNDER_WAY: usize = 256;
/// How long a connection is kept for the next form: less than servers commonly keep theirs.
const IDLE: Duration = Duration::from_secs(4);

type Posts = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Who posts; shared by all threads that run rules.
#[derive(Debug)]
pub struct Outbound {
    /// Made when the first is posted: the system's certificates take some 50 ms to read.
    client: OnceCell<Posts>,
    places: Semaphore,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            client: OnceCell::new(),
            places: Semaphore::new(MAX_UNDER_WAY),
        }
    }
}

impl Outbound {
    /// See [`tollgate_store::ports::Outbound::post`]. What the operator has to mend goes to the log.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err("as many are asked as may be".to_owned());
        };
        let answer = match timeout(PATIENCE, self.ask(url, form)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let fault = match &answer {
            Ok(answer) => challenges::fault(answer),
            Err(why) => Some(why.clone()),
        };
        if let Some(why) = fault {
            tracing::warn!(url, why, "tokens of challenges cannot be checked");
        }
        answer
    }

    async fn ask(&self, url: &str, form: String) -> Result<Vec<u8>, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let request = http::Request::post(uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(form))
            .map_err(|error| error.to_string())?;
        let client = self.client.get_or_try_init(client).await?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| describe(&error))?;
        if answer.status().is_server_error() {
            return Err(format!("the answer was {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer did not arrive whole: {error}"))?;
        Ok(body.to_bytes().into())
    }
}

async fn client() -> Result<Posts, String> {
    let connector = tokio::task::spawn_blocking(|| connector(true)).await;
    let connector = connector.map_err(|error| error.to_string())?;
    let connector = connector.map_err(|error| format!("{error:?}"))?;
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector))
}
