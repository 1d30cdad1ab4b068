//! Spans on their way to the collector: OpenTelemetry's exporter, over the HTTP client of deliveries.

use anyhow::Result;
use opentelemetry_http::{Bytes, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tollgate_delivery::driver::OperatorClient;
use tollgate_rules::config::TraceSettings;

/// How long one request to the collector may take, with its attempts.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What became of spans. Relaxed: nothing is ordered by it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Those that wait, or are under way.
    waiting: AtomicUsize,
    sent: AtomicU64,
    without_room: AtomicU64,
    not_taken: AtomicU64,
}

impl Counts {
    /// A span wants to wait; whether it may.
    pub fn enter(&self, most: usize) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < most {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.without_room.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn left(&self, count: usize, taken: bool) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let of = if taken { &self.sent } else { &self.not_taken };
        of.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn read(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.sent), read(&self.without_room), read(&self.not_taken))
    }
}

/// OpenTelemetry's exporter, counted.
#[derive(Debug)]
pub struct Exporter {
    otlp: SpanExporter,
    counts: Arc<Counts>,
    /// Whether the last batch was not taken, so that this is told once.
    fails: AtomicBool,
}

impl Exporter {
    pub fn new(endpoint: &str, settings: &TraceSettings, counts: Arc<Counts>) -> Result<Self> {
        let headers = settings.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let otlp = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new())
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            // One batch that fails is lost: meanwhile others wait, up to their bound.
            .with_retry_policy(RetryPolicy::disabled())
            .with_headers(headers.collect())
            .build()?;
        Ok(Self {
            otlp,
            counts,
            fails: AtomicBool::new(false),
        })
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let done = self.otlp.export(batch).await;
        self.counts.left(count, done.is_ok());
        let failed_before = self.fails.swap(done.is_err(), Ordering::Relaxed);
        match &done {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "the collector does not take spans; they are dropped until it does");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.otlp.set_resource(resource);
    }
}

/// The exporter's thread has no runtime: requests run on ours.
#[derive(Debug)]
struct Client {
    http: Arc<OperatorClient>,
    runtime: Handle,
}

impl Client {
    fn new() -> Self {
        Self {
            http: Arc::new(OperatorClient::new()),
            runtime: Handle::current(),
        }
    }
}

#[async_trait::async_trait]
impl opentelemetry_http::HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = Arc::clone(&self.http);
        let sending = self
            .runtime
            .spawn(async move { http.send(request, TIMEOUT).await });
        Ok(sending.await??)
    }
}
