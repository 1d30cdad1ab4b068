//! The dashboard: its page, who is logged in, and the numbers that it shows. All of it is in the memory of this process, and
//! answered before the limiter; what the page does else are ordinary calls of the API, which a session's cookie authorises.

mod cookies;
mod files;
mod numbers;
mod origin;
mod origins;
mod sessions;
mod stream;

use super::answer::AnswerBody;
use super::generation::Generation;
use super::patience::{busy, in_time};
use super::rest::Rest;
use super::service::{Answer, Caller};
use super::{Shared, service};
use crate::clock::now;
use cookies::Cookies;
use http::header::{self, HeaderMap, HeaderValue};
use numbers::Numbers;
use serde_json::json;
use sessions::{Session, Sessions};
use std::sync::Arc;
use std::time::Instant;
use tollgate_api::calls::{Call, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_engines::MemoryBuckets;
use tollgate_rules::keys::{self, ApiKey};
use tollgate_store::bucket::{Bucket, TakeError};

/// Log-ins that an address (IPv6: a /64) may try at once, and in a minute.
const ATTEMPTS: u64 = 20;
/// Addresses whose attempts are remembered.
const MAX_ADDRESSES: usize = 16_384;
/// What refusals call the limit of log-ins.
const LOG_INS: &str = "log-ins";
const MINUTE_NS: u64 = 60_000_000_000;
/// What the page sends with every call, so that no other site's page can make one without being asked first.
const OWN_HEADER: &str = "x-tollgate-csrf";

/// What the dashboard keeps.
pub struct Dashboard {
    began: Instant,
    sessions: Sessions,
    attempts: MemoryBuckets,
    numbers: Numbers,
    /// Where the numbers are gathered, beside the threads that serve.
    runtime: tokio::runtime::Handle,
}

/// A request to one of the dashboard's calls, as far as they look at it.
pub struct Asked<'a> {
    /// Which call.
    pub call: Call,
    /// Its head.
    pub head: &'a http::request::Parts,
    /// What the rules see of it.
    pub request: Request,
    /// Who asks.
    pub caller: &'a Caller,
}

impl Dashboard {
    /// Nobody is logged in. To be called within the runtime that gathers the numbers.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            sessions: Sessions::default(),
            attempts: MemoryBuckets::new(MAX_ADDRESSES),
            numbers: Numbers::default(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// The page for a browser at the root; `None` for whoever is none.
    pub fn welcome(headers: &HeaderMap) -> Option<Answer> {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        let is_browser = accepted.any(|value| value.contains("text/html"));
        is_browser
            .then(|| files::answer("welcome.html", headers))
            .flatten()
    }

    /// A file of the page, or the page itself.
    ///
    /// # Errors
    /// 404 for one that is none.
    pub fn file(name: &str, headers: &HeaderMap) -> Result<Answer, Problem> {
        files::answer(name, headers).ok_or_else(Problem::not_found)
    }

    /// Puts a session's API key into a request of its page that brings none. Nothing happens to any other request: whoever
    /// sends a credential means that one, and what another site's page sends stays without.
    pub fn authorize(&self, head: &mut http::request::Parts) {
        if self.sessions.is_empty() || head.headers.contains_key(header::AUTHORIZATION) {
            return;
        }
        let is_ours = head.headers.contains_key(OWN_HEADER) && origin::is_own_page(head);
        if let Some(session) = is_ours.then(|| self.session(head)).flatten() {
            head.headers.insert(header::AUTHORIZATION, session.credential());
        }
    }

    /// Who is logged in, if the cookie says so.
    fn session(&self, head: &http::request::Parts) -> Option<Arc<Session>> {
        let cookies = Cookies::of(head);
        let mut tokens = cookies.tokens(&head.headers);
        tokens.find_map(|(token, secure)| self.sessions.find(token, secure))
    }

    /// Answers one of the dashboard's calls that are about sessions.
    ///
    /// # Errors
    /// 401 without a session, 403 for another site's page or a scope that is missing, 429 for too many attempts, 503 where a bound is reached.
    pub async fn answer(
        shared: &Arc<Shared>,
        generation: &Generation,
        rest: &Arc<Rest>,
        asked: Asked<'_>,
    ) -> Result<Answer, Problem> {
        let this = &shared.dashboard;
        if !origin::is_own_page(asked.head) {
            let detail = "The dashboard's calls are for its own page; this one comes from another site's.";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        if asked.call == Call::LogIn {
            return this.log_in(shared, generation, &asked).await;
        }
        let session = this.session(asked.head).ok_or_else(logged_out)?;
        if asked.call == Call::LogOut {
            if !asked.head.headers.contains_key(OWN_HEADER) {
                let detail = format!("{OWN_HEADER}: must be sent, so that no other site's page can do this");
                return Err(Problem::new(Kind::Forbidden, detail));
            }
            this.sessions.end(&session);
            let over =
                Response::empty(204).with("set-cookie", Cookies::of(asked.head).over(session.is_secure()));
            return Ok(private(over));
        }
        let key = verify(shared, session.key_text()).await?;
        let Some(key) = key else {
            this.sessions.end(&session);
            return Err(logged_out());
        };
        match asked.call {
            Call::ReadSession => Ok(private(Response::json(200, &told(&key)))),
            Call::WatchNumbers => stream::open(shared, rest, session, key, asked.caller),
            Call::ReadConfiguration if !key.allows(Scope::Admin) => Err(Problem::new(
                Kind::Forbidden,
                "This call needs an API key with the scope admin.",
            )),
            Call::ReadConfiguration => {
                let mut answer = Response::empty(200).with("content-type", "text/plain; charset=utf-8");
                answer.body = generation.settings.in_force().to_toml().into_bytes();
                Ok(private(answer))
            }
            _ => Err(Problem::not_found()),
        }
    }

    async fn log_in(
        &self,
        shared: &Shared,
        generation: &Generation,
        asked: &Asked<'_>,
    ) -> Result<Answer, Problem> {
        // Before the key is looked at: who guesses is not told sooner.
        self.attempt(generation, &asked.request)?;
        let shown = keys::shown(&shared.engines.store, &generation.settings, &asked.request, now());
        let shown = in_time(shown).await?;
        let text = keys::bearer(&asked.request).unwrap_or_default();
        let key =
            shown.ok_or_else(|| Problem::unauthorized("Send an API key: Authorization: Bearer tg_…"))?;
        let secure = asked.caller.is_tls || origin::is_https(asked.head);
        let token = self.sessions.begin(text, &key.id, secure)?;
        let answer =
            Response::json(201, &told(&key)).with("set-cookie", Cookies::of(asked.head).set(&token, secure));
        tracing::info!(key = key.id, "logged in at the dashboard");
        Ok(private(answer))
    }

    /// Counts an attempt to log in.
    fn attempt(&self, generation: &Generation, request: &Request) -> Result<(), Problem> {
        let bucket = Bucket {
            key: generation.settings.proxies.client_ip(request).into_owned(),
            capacity: ATTEMPTS,
            refill: ATTEMPTS,
            interval_ns: MINUTE_NS,
            cost: 1,
        };
        match self.attempts.take_one_now(&bucket) {
            Ok(_) => Ok(()),
            Err(TakeError::Refused { levels, .. }) => {
                let wait = levels.iter().map(|level| level.next_ns).max().unwrap_or(0);
                let detail = "Too many attempts to log in from this address; wait a moment.";
                let seconds = wait.div_ceil(1_000_000_000).max(1);
                let problem =
                    Problem::new(Kind::QuotaExceeded, detail).with_member("violated-policies", vec![LOG_INS]);
                Err(problem.with_retry_after(seconds))
            }
            Err(_) => Err(busy()),
        }
    }
}

/// Whose key this is, by now; `None` for nobody's any more.
async fn verify(shared: &Shared, key: &str) -> Result<Option<ApiKey>, Problem> {
    let request = Request {
        method: "GET".into(),
        path: "/".into(),
        query: None,
        headers: vec![tollgate_api::http::Header::new(
            keys::HEADER,
            format!("Bearer {key}"),
        )],
        body: Vec::new(),
        peer: String::new(),
    };
    let key = keys::authenticate(&shared.engines.store, &request, now());
    in_time(key).await
}

fn logged_out() -> Problem {
    Problem::unauthorized("Nobody is logged in here, or the session has ended.")
}

/// What the page is told of who is logged in.
fn told(key: &ApiKey) -> serde_json::Value {
    json!({ "key": { "id": key.id, "scopes": key.scopes } })
}

/// An answer for its caller alone.
fn private(response: Response) -> Answer {
    let mut answer = service::from_core(response);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// An answer of these bytes.
fn plain(status: http::StatusCode, body: bytes::Bytes) -> Answer {
    let mut answer = hyper::Response::new(AnswerBody::Whole(http_body_util::Full::new(body)));
    *answer.status_mut() = status;
    answer
}
