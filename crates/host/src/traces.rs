//! Traces, if `[traces]` names a collector: OpenTelemetry's spans, sent as OTLP over HTTP. This folder is the only place that
//! knows OpenTelemetry.
//!
//! Spans are made when they end, from times that were noted: a request that is not traced pays for one look at a dice, and
//! without `[traces]` for one branch. They go to a bounded queue, which the SDK's thread empties ([`export`]): a collector
//! that is dead holds nothing up.

mod delivery;
mod export;
pub mod request;
mod upstream;

use anyhow::{Context as _, Result};
use export::{Counts, Exporter};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tollgate_api::traceparent::Traceparent;
use tollgate_rules::config::TraceSettings;

pub use delivery::Deliveries;
pub use request::{RequestTrace, RuleTrace};
pub use upstream::{AttemptTrace, UpstreamTrace};

/// The most spans that wait to be sent, or are being sent.
const MAX_WAITING: usize = 2_048;
/// The most spans of one request to the collector.
const MAX_BATCH: usize = 512;
/// How long spans wait at most to be sent together.
const DELAY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last spans to be sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the collector.
#[derive(Debug)]
pub struct Traces {
    sample: f64,
    scope: InstrumentationScope,
    processor: BatchSpanProcessor,
    counts: Arc<Counts>,
}

/// A span that has ended.
struct Span {
    trace_id: u128,
    id: u64,
    /// 0 for none.
    parent: u64,
    parent_is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    link: Option<Traceparent>,
    status: Status,
}

impl Traces {
    /// Starts the thread that sends. To be called in a runtime, on which the requests to the collector run. `None`: there are
    /// no traces.
    ///
    /// # Errors
    /// The settings are not ones that the library takes; no secret is quoted.
    pub fn start(settings: &TraceSettings) -> Result<Option<Arc<Self>>> {
        let Some(endpoint) = &settings.endpoint else {
            return Ok(None);
        };
        let counts = Arc::<Counts>::default();
        let exporter = Exporter::new(endpoint, settings, Arc::clone(&counts)).context("traces")?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", settings.service_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        processor.set_resource(&resource.build());
        Ok(Some(Arc::new(Self {
            sample: settings.sample,
            scope: InstrumentationScope::builder("tollgate")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            processor,
            counts,
        })))
    }

    /// Whether a request is traced, where nobody who is trusted has decided. Not by its trace id, which a stranger chooses.
    fn draw(&self) -> bool {
        fastrand::f64() < self.sample
    }

    /// Sends a span that ends now, if there is room for it.
    fn end(&self, span: Span) {
        if !self.counts.enter(MAX_WAITING) {
            return;
        }
        let mut links = SpanLinks::default();
        links
            .links
            .extend(span.link.map(|place| Link::with_context(context(place))));
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from(span.trace_id),
                SpanId::from(span.id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from(span.parent),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.began,
            end_time: SystemTime::now(),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Spans that were sent, that found no room, and that the collector did not take.
    pub fn counts(&self) -> (u64, u64, u64) {
        self.counts.read()
    }

    /// Sends what is left, and waits a bounded time for that.
    pub fn finish(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(PATIENCE) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn context(place: Traceparent) -> SpanContext {
    let flags = match place.is_sampled() {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::NOT_SAMPLED,
    };
    let (trace, span) = (TraceId::from(place.trace_id), SpanId::from(place.parent_id));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

/// An id, which is not zero.
fn new_span_id() -> u64 {
    fastrand::u64(1..)
}

fn new_trace_id() -> u128 {
    fastrand::u128(1..)
}
