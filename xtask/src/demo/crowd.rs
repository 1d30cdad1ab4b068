//! The people of a sale, and the scripts among them, as HTTP requests; and what they were answered.

use super::{CAMPAIGN, LINK};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep_until, timeout};

/// People whose requests are under way at once; others wait.
const AT_ONCE: usize = 256;
/// Scripts, and how often each asks.
const SCRIPTS: usize = 3;
const HAMMERS_EVERY: Duration = Duration::from_millis(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// One of so many people presses the button twice.
const TWICE: u32 = 5;

/// What was answered.
#[derive(Default)]
pub struct Figures {
    asked: AtomicU64,
    admitted: AtomicU64,
    again: AtomicU64,
    sold_out: AtomicU64,
    redirected: AtomicU64,
    limited: AtomicU64,
    unexpected: AtomicU64,
    /// The first of those.
    strangest: Mutex<Option<String>>,
    /// How long each verdict took, in microseconds.
    verdicts: Mutex<Vec<u64>>,
}

impl Figures {
    /// People who have their verdict.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
    /// Claims that were admitted.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }
    /// People who came too late.
    pub fn sold_out(&self) -> u64 {
        self.sold_out.load(Ordering::Relaxed)
    }
    /// Requests that the limiter refused.
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }
    /// Answers that do not belong to a sale.
    pub fn unexpected(&self) -> u64 {
        self.unexpected.load(Ordering::Relaxed)
    }
    /// The first of them.
    pub fn strangest(&self) -> String {
        let first = self.strangest.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().unwrap_or_default()
    }

    fn strange(&self, what: String) {
        self.unexpected.fetch_add(1, Ordering::Relaxed);
        let mut first = self.strangest.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(what);
    }

    /// The sale in words.
    pub fn summary(&self, took: Duration, sequences: &BTreeSet<u64>, refused: u64) -> String {
        let mut verdicts = self
            .verdicts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        verdicts.sort_unstable();
        let rank = |percent: usize| verdicts.get(verdicts.len() * percent / 100).copied().unwrap_or(0);
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (first, last) = (sequences.first().unwrap_or(&0), sequences.last().unwrap_or(&0));
        format!(
            "  In {seconds:.0} s {asked} people asked.\n  \
             admitted    {admitted}\n  \
             sold out    {sold_out}; {again} pressed the button twice, and nobody got two\n  \
             verdicts    after {median:.1} ms (median), {slow:.1} ms (99 of 100); an admission is on disk before it is told\n  \
             redirects   {redirected} by the short link; {limited} requests of {SCRIPTS} scripts refused with 429\n  \
             origin      {delivered} orders delivered, numbered {first} to {last}; it refused {refused}, which were sent again",
            seconds = took.as_secs_f64(),
            asked = self.asked(),
            admitted = self.admitted(),
            sold_out = self.sold_out(),
            again = count(&self.again),
            median = ms(rank(50)),
            slow = ms(rank(99)),
            redirected = count(&self.redirected),
            limited = self.limited(),
            delivered = sequences.len(),
        )
    }
}

type Connections = Client<HttpConnector, Full<Bytes>>;

/// Who asks.
pub struct Crowd {
    client: Connections,
    base: String,
    key: String,
    figures: Arc<Figures>,
}

impl Crowd {
    pub fn new(base: &str, key: &str, figures: Arc<Figures>) -> Arc<Self> {
        Arc::new(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: base.to_owned(),
            key: key.to_owned(),
            figures,
        })
    }

    /// Makes the campaign and the short link.
    pub async fn prepare(&self, units: u32, starts: jiff::Timestamp) -> Result<()> {
        let campaign = json!({ "id": CAMPAIGN, "quantity": units, "startsAt": starts.to_string() });
        self.operator(Method::POST, "/api/campaigns", Some(&campaign), 201)
            .await?;
        let link = json!({ "url": "https://shop.example/spring", "code": LINK });
        self.operator(Method::POST, "/api/links", Some(&link), 201)
            .await?;
        Ok(())
    }

    /// The campaign as it stands.
    pub async fn campaign(&self) -> Result<Value> {
        self.operator(Method::GET, &format!("/api/campaigns/{CAMPAIGN}"), None, 200)
            .await
    }

    async fn operator(&self, method: Method, path: &str, body: Option<&Value>, wanted: u16) -> Result<Value> {
        let request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, body) = self.answer(request.body(body.into())?).await?;
        if status != wanted {
            bail!(
                "{method} {path} was answered {status}: {}",
                String::from_utf8_lossy(&body)
            );
        }
        Ok(serde_json::from_slice(&body)?)
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok((status, body.to_bytes()))
        };
        timeout(ANSWER, exchange).await.context("no answer in time")?
    }

    /// Everybody comes within `time`: a few early, ever more towards the end. Ends when all have their verdict.
    pub async fn come(self: &Arc<Self>, people: u32, time: Duration) {
        let scripts = (0..SCRIPTS).map(|number| {
            let crowd = Arc::clone(self);
            tokio::spawn(async move { crowd.hammer(number).await })
        });
        let scripts: Vec<_> = scripts.collect();
        let began = Instant::now();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut coming = tokio::task::JoinSet::new();
        for number in 0..people {
            // So many have come after t: people · (t/time)².
            let at = time.mul_f64((f64::from(number) / f64::from(people)).sqrt());
            sleep_until((began + at).into()).await;
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                break;
            };
            let crowd = Arc::clone(self);
            coming.spawn(async move {
                crowd.person(number).await;
                drop(place);
            });
            while coming.try_join_next().is_some() {}
        }
        while coming.join_next().await.is_some() {}
        scripts.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// Follows the short link, and claims a unit; some twice.
    async fn person(&self, number: u32) {
        let name = format!("person-{number}");
        self.follow(&name).await;
        self.claim(&name, false).await;
        if number.is_multiple_of(TWICE) {
            self.claim(&name, true).await;
        }
        self.figures.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Follows the short link again and again.
    async fn hammer(&self, number: usize) {
        let mut beat = interval(HAMMERS_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.follow(&format!("script-{number}")).await;
        }
    }

    async fn follow(&self, name: &str) {
        let path = format!("/{LINK}");
        let counter = match self.ask(Method::GET, &path, name).await {
            Ok((302, _)) => &self.figures.redirected,
            Ok((429, _)) => &self.figures.limited,
            other => return self.figures.strange(format!("GET {path}: {other:?}")),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    async fn claim(&self, name: &str, is_second: bool) {
        let path = format!("/api/campaigns/{CAMPAIGN}/claims");
        let began = Instant::now();
        let counter = match self.ask(Method::POST, &path, name).await {
            Ok((201, _)) => &self.figures.admitted,
            Ok((409 | 410, _)) if is_second => &self.figures.again,
            Ok((410, _)) => &self.figures.sold_out,
            other => return self.figures.strange(format!("POST {path}: {other:?}")),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut verdicts = self
            .figures
            .verdicts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        verdicts.push(micros);
    }

    async fn ask(&self, method: Method, path: &str, name: &str) -> Result<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("x-client-id", name)
            .header("x-user-id", name);
        self.answer(request.body(Full::default())?).await
    }
}
