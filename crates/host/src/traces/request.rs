//! The spans of a request: its own, that of the rule that answered it, and what that waited for.

use super::{Span, Traces, UpstreamTrace, new_span_id, new_trace_id};
use crate::server::service::Caller;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use std::sync::Arc;
use std::time::SystemTime;
use tollgate_api::traceparent::{self, Traceparent};
use tollgate_rules::machine::Call;

const TRACEPARENT: HeaderName = HeaderName::from_static(traceparent::HEADER);
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The most bytes of a path, or of `User-Agent`, in a span.
const MAX_TEXT: usize = 256;
/// Methods that have names of their own in spans; any other is `HTTP` (semantic conventions of HTTP).
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A request that is traced, until it is answered.
pub struct RequestTrace {
    traces: Arc<Traces>,
    trace_id: u128,
    id: u64,
    parent: Option<u64>,
    link: Option<Traceparent>,
    came: SystemTime,
    method: &'static str,
    /// What it asks for, of a bounded number of texts.
    route: &'static str,
    attributes: Vec<KeyValue>,
}

impl RequestTrace {
    /// Begins the trace of a request, if it is one to be traced. Its header `traceparent` then names its span, for whoever
    /// looks at it from here on.
    ///
    /// A trusted proxy has decided whether its traces are recorded, and they go on here. A stranger's `traceparent` is linked
    /// to: neither its decision nor its id is taken over, so that nobody fills the collector, or joins another's trace.
    pub fn begin<B>(
        traces: &Arc<Traces>,
        request: &mut hyper::Request<B>,
        caller: &Caller,
        is_trusted: bool,
        request_id: &HeaderValue,
        came: SystemTime,
        route: &'static str,
    ) -> Option<Box<Self>> {
        let sent = request.headers().get_all(&TRACEPARENT).iter();
        let sent = Traceparent::sent(sent.map(HeaderValue::as_bytes));
        let parent = sent.filter(|_| is_trusted);
        if !parent.map_or_else(|| traces.draw(), Traceparent::is_sampled) {
            unsampled(request.headers_mut(), sent, parent);
            return None;
        }
        let (trace_id, id) = (
            parent.map_or_else(new_trace_id, |place| place.trace_id),
            new_span_id(),
        );
        let method = METHODS.iter().find(|name| **name == request.method().as_str());
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned();
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.copied().unwrap_or("_OTHER")),
            KeyValue::new("url.path", text(request.uri().path().as_bytes())),
            KeyValue::new("http.route", route),
            KeyValue::new(
                "tollgate.request_id",
                request_id.to_str().unwrap_or_default().to_owned(),
            ),
            KeyValue::new("network.peer.address", caller.name.clone()),
        ];
        if let Some(agent) = request.headers().get(USER_AGENT) {
            attributes.push(KeyValue::new("user_agent.original", text(agent.as_bytes())));
        }
        place(request.headers_mut(), Traceparent::new(trace_id, id, true));
        if parent.is_none() {
            // It is of a trace that does not go on here (W3C Trace Context, section 4.3: cleaned up where a trace is begun anew).
            request.headers_mut().remove(&TRACESTATE);
        }
        Some(Box::new(Self {
            traces: Arc::clone(traces),
            trace_id,
            id,
            parent: parent.map(|place| place.parent_id),
            link: sent.filter(|_| !is_trusted),
            came,
            method: method.copied().unwrap_or("HTTP"),
            route,
            attributes,
        }))
    }

    /// The trace's id, as the access log tells it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Origins are asked for it.
    pub fn upstream(&self) -> UpstreamTrace {
        UpstreamTrace::new(&self.traces, self.trace_id, self.id)
    }

    /// A rule begins now.
    pub fn rule(&self, threads: &'static str) -> Box<RuleTrace> {
        Box::new(RuleTrace {
            traces: Arc::clone(&self.traces),
            trace_id: self.trace_id,
            parent: self.id,
            id: new_span_id(),
            threads,
            began: SystemTime::now(),
            wait: None,
        })
    }

    /// Ends the span of a request that was answered so, or (499) whose caller had gone before.
    pub fn answered(mut self, status: u16) {
        self.attributes
            .push(KeyValue::new("http.response.status_code", i64::from(status)));
        self.traces.end(Span {
            trace_id: self.trace_id,
            id: self.id,
            parent: self.parent.unwrap_or(0),
            parent_is_remote: self.parent.is_some(),
            kind: SpanKind::Server,
            name: format!("{} {}", self.method, self.route).into(),
            began: self.came,
            attributes: self.attributes,
            link: self.link,
            status: match status {
                500.. => Status::error(""),
                _ => Status::Unset,
            },
        });
    }
}

/// Of a request that is not traced: a stranger's place goes on as one that is not recorded, in a span of its own, as the
/// specification wants it where a flag is changed (section 4.3). Deliveries are recorded by that flag.
fn unsampled(headers: &mut HeaderMap, sent: Option<Traceparent>, trusted: Option<Traceparent>) {
    if let Some(sent) = sent.filter(|sent| trusted.is_none() && sent.is_sampled()) {
        place(headers, Traceparent::new(sent.trace_id, new_span_id(), false));
    }
}

fn place(headers: &mut HeaderMap, place: Option<Traceparent>) {
    if let Some(place) = place
        && let Ok(value) = HeaderValue::try_from(place.to_string())
    {
        headers.insert(TRACEPARENT, value);
    }
}

/// A rule that is traced; its span ends when this is dropped.
pub struct RuleTrace {
    traces: Arc<Traces>,
    trace_id: u128,
    parent: u64,
    id: u64,
    threads: &'static str,
    began: SystemTime,
    /// What it waits for, and since when.
    wait: Option<(&'static str, SystemTime)>,
}

impl RuleTrace {
    /// The rule waits for this from now on.
    pub fn waits_for(&mut self, call: &Call) {
        let name = match call {
            Call::Commit(_) | Call::Packed(_) | Call::Commits(_) | Call::PackedEach(_) => "commit",
            Call::Get(_) => "get",
            Call::Scan { .. } => "scan",
            Call::Read { .. } => "read",
            Call::Topics { .. } => "topics",
            Call::Settle => "settle",
            Call::Take(_) => "take",
            Call::Post { .. } => "post",
            Call::Body(_) => "body",
        };
        self.wait = Some((name, SystemTime::now()));
    }

    /// It goes on.
    pub fn goes_on(&mut self) {
        self.end_wait(Status::Unset);
    }

    fn end_wait(&mut self, status: Status) {
        if let Some((name, began)) = self.wait.take() {
            let span = self.span(new_span_id(), self.id, name, began, status);
            self.traces.end(span);
        }
    }

    fn span(&self, id: u64, parent: u64, name: &'static str, began: SystemTime, status: Status) -> Span {
        Span {
            trace_id: self.trace_id,
            id,
            parent,
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name: name.into(),
            began,
            attributes: vec![KeyValue::new("tollgate.threads", self.threads)],
            link: None,
            status,
        }
    }
}

impl Drop for RuleTrace {
    fn drop(&mut self) {
        // What it still waits for did not come in time.
        self.end_wait(Status::error("given up"));
        let span = self.span(self.id, self.parent, "rule", self.began, Status::Unset);
        self.traces.end(span);
    }
}
