//! The spans of requests to origins: one for each attempt, below the request that it is made for. The origin gets the attempt's
//! place as `traceparent`, and goes on from there.

use super::{Span, Traces, new_span_id};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use std::sync::Arc;
use std::time::SystemTime;
use tollgate_api::traceparent::{self, Traceparent};

const TRACEPARENT: HeaderName = HeaderName::from_static(traceparent::HEADER);

/// A request that is traced, for which origins are asked.
#[derive(Clone, Debug)]
pub struct UpstreamTrace {
    traces: Arc<Traces>,
    trace_id: u128,
    parent: u64,
}

/// An attempt that is traced; its span ends when this is dropped.
#[derive(Debug)]
pub struct AttemptTrace {
    of: UpstreamTrace,
    id: u64,
    name: String,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl UpstreamTrace {
    pub(super) fn new(traces: &Arc<Traces>, trace_id: u128, parent: u64) -> Self {
        Self {
            traces: Arc::clone(traces),
            trace_id,
            parent,
        }
    }

    /// An attempt begins now, at one address of an origin. `number`: from 1.
    pub fn attempt(&self, origin: &str, url: &str, number: u32) -> AttemptTrace {
        AttemptTrace {
            of: self.clone(),
            id: new_span_id(),
            name: format!("proxy {origin}"),
            began: SystemTime::now(),
            attributes: vec![
                KeyValue::new("tollgate.origin", origin.to_owned()),
                KeyValue::new("tollgate.origin.url", url.to_owned()),
                KeyValue::new("tollgate.attempt", i64::from(number)),
            ],
            // What is dropped before it has ended was not waited for.
            status: Status::error("given up"),
        }
    }
}

impl AttemptTrace {
    /// Says to the origin which span its own are below.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let place = Traceparent::new(self.of.trace_id, self.id, true);
        if let Some(place) = place
            && let Ok(value) = HeaderValue::try_from(place.to_string())
        {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// The head of an answer has come.
    pub fn answered(mut self, status: u16) {
        self.attributes
            .push(KeyValue::new("http.response.status_code", i64::from(status)));
        self.status = match status {
            500.. => Status::error(""),
            _ => Status::Unset,
        };
    }

    /// No answer has come, and why: one of a few texts.
    pub fn failed(mut self, why: &'static str) {
        self.status = Status::error(why);
    }
}

impl Drop for AttemptTrace {
    fn drop(&mut self) {
        self.of.traces.end(Span {
            trace_id: self.of.trace_id,
            id: self.id,
            parent: self.of.parent,
            parent_is_remote: false,
            kind: SpanKind::Client,
            name: std::mem::take(&mut self.name).into(),
            began: self.began,
            attributes: std::mem::take(&mut self.attributes),
            link: None,
            status: std::mem::replace(&mut self.status, Status::Unset),
        });
    }
}
