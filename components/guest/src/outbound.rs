//! Forms that rules post to whom the settings name: the provider of a challenge. Spin connects only to `allowed_outbound_hosts`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use spin_sdk::http::{FullBody, HeaderValue, Method};
use spin_sdk::wasip3::http::types::ErrorCode;
use tollgate_rules::challenges;

use crate::spin::{notice, within};

/// How long an answer may take. The same as in our own host, as is the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, bytes.
const MAX_ANSWER: usize = 64 << 10;

type Post = http::Request<FullBody<Bytes>>;

/// See [`tollgate_store::ports::Outbound::post`]. What the operator has to mend goes to the log, once a minute.
pub async fn post(url: &str, form: String) -> Result<Vec<u8>, String> {
    let answer = match within(PATIENCE, ask(url, form)).await {
        Some(answer) => answer,
        None => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let fault = match &answer {
        Ok(answer) => challenges::fault(answer),
        Err(why) => Some(why.clone()),
    };
    if let Some(why) = fault {
        notice::tell(&format!("{url} checks no tokens of challenges: {why}")).await;
    }
    answer
}

async fn ask(url: &str, form: String) -> Result<Vec<u8>, String> {
    let length = form.len();
    let mut post = Post::new(FullBody::new(Bytes::from(form)));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let headers = post.headers_mut();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert("content-type", form);
    headers.insert("content-length", HeaderValue::from(length));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    headers.insert("user-agent", HeaderValue::from_static(agent));
    let answer = spin_sdk::http::send(post).await.map_err(|error| match error {
        ErrorCode::HttpRequestDenied => {
            "Spin does not allow this host: see `allowed_outbound_hosts` in spin.toml".to_owned()
        }
        error => error.to_string(),
    })?;
    if answer.status().is_server_error() {
        return Err(format!("the answer was {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| format!("the answer did not arrive whole: {error}"))?;
    Ok(body.to_bytes().into())
}
