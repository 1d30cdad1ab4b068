//! The keys of users' tokens, where `[users.jwt] jwks` is a URL: fetched again and again, and put in force on every thread. While they
//! cannot be had, those of before serve.

use crate::cli::connector;
use crate::server::Switch;
use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::Uri;
use http::header::{ACCEPT, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tollgate_delivery::driver::describe;
use tollgate_rules::jwt::MAX_KEY_SET;

/// How often the keys are fetched.
const EVERY: Duration = Duration::from_secs(300);
/// The least time between two fetches that tokens with unknown keys have caused: anybody can send those.
const WANTED: Duration = Duration::from_secs(60);
/// How soon it is tried again while there were none yet.
const WITHOUT: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_millis(500);

/// Never returns; may be given up at any moment. `wanted` is set where a token names a key that is not known.
pub async fn run(switch: Switch, wanted: Arc<AtomicBool>) {
    let mut last: Option<(String, Instant)> = None;
    let mut told = None;
    loop {
        let current = switch.current();
        let jwt = current.settings.config.users.jwt.as_ref();
        let url = jwt.and_then(|jwt| Some((jwt.url()?.to_owned(), jwt.keys.is_some())));
        drop(current);
        if let Some((url, has_some)) = url
            && is_due(last.as_ref(), &url, has_some, &wanted)
        {
            wanted.store(false, Ordering::Relaxed);
            last = Some((url.clone(), Instant::now()));
            let error = renew(&switch, &url).await.err();
            let error = error.map(|error| format!("{error:#}"));
            match &error {
                // Once, however often it is tried.
                Some(error) if told.as_ref() != Some(error) => {
                    tracing::warn!(error, "the keys of users' tokens stay as they were");
                }
                None if told.is_some() => tracing::info!("the keys of users' tokens can be fetched again"),
                _ => {}
            }
            told = error;
        }
        sleep(LOOK).await;
    }
}

fn is_due(last: Option<&(String, Instant)>, url: &str, has_some: bool, wanted: &AtomicBool) -> bool {
    let Some((_, at)) = last.filter(|(before, _)| before == url) else {
        return true;
    };
    let pause = match (has_some, wanted.load(Ordering::Relaxed)) {
        (false, _) => WITHOUT,
        (true, true) => WANTED,
        (true, false) => EVERY,
    };
    at.elapsed() >= pause
}

async fn renew(switch: &Switch, url: &str) -> Result<()> {
    let fetched = timeout(PATIENCE, fetch(url)).await;
    let text = fetched.with_context(|| format!("{url}: no answer within {} s", PATIENCE.as_secs()))??;
    let changed = switch.change(|current| match current.with_key_set(url, &text) {
        Ok(Some(next)) => Ok(next),
        // They are as they were, or another configuration came in between.
        Ok(None) => Err(None),
        Err(why) => Err(Some(why)),
    });
    match changed.await {
        Ok(()) => tracing::info!(url, "the keys of users' tokens were changed"),
        Err(None) => {}
        Err(Some(why)) => bail!(why),
    }
    Ok(())
}

/// The text of the key set. Redirects are not followed: the URL is whom the operator trusts.
async fn fetch(url: &str) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let secure = uri.scheme_str() == Some("https");
    let connector = connector(secure).map_err(|error| anyhow!("{error:?}"))?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request = http::Request::get(uri)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| anyhow!("{url}: {}", describe(&error)))?;
    if !answer.status().is_success() {
        bail!("{url}: the answer was {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), MAX_KEY_SET).collect().await;
    let body = body.map_err(|error| anyhow!("{url}: {error}"))?;
    String::from_utf8(body.to_bytes().into()).with_context(|| format!("{url}: the answer is not text"))
}
