//! The spans of deliveries: one for each attempt, in the trace of the request that became the message.

use super::{Span, Traces, new_span_id};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use std::sync::Arc;
use tollgate_api::traceparent::Traceparent;
use tollgate_delivery::driver::{Attempt, Observer};
use tollgate_delivery::relay::Delivered;

/// Records deliveries.
#[derive(Debug)]
pub struct Deliveries(pub Arc<Traces>);

impl Observer for Deliveries {
    fn place(&self, of_message: Traceparent) -> Option<Traceparent> {
        match of_message.is_sampled() {
            true => Traceparent::new(of_message.trace_id, new_span_id(), true),
            false => None,
        }
    }

    fn ended(&self, attempt: &Attempt<'_>) {
        let (status, why) = match attempt.delivered {
            Delivered::Accepted => ("accepted", None),
            Delivered::Refused { why, .. } => ("refused", Some(why.clone())),
            Delivered::Unwanted => ("unwanted", Some("the receiver wants no more".to_owned())),
        };
        self.0.end(Span {
            trace_id: attempt.place.trace_id,
            id: attempt.place.parent_id,
            parent: attempt.of_message.parent_id,
            // It may have been made by another process, long ago.
            parent_is_remote: true,
            kind: SpanKind::Client,
            name: format!("deliver {}", attempt.message.topic).into(),
            began: attempt.began,
            attributes: vec![
                KeyValue::new("messaging.system", "tollgate"),
                KeyValue::new("messaging.operation.name", "deliver"),
                KeyValue::new("messaging.destination.name", attempt.message.topic.clone()),
                KeyValue::new(
                    "messaging.destination.subscription.name",
                    attempt.subscription.to_owned(),
                ),
                KeyValue::new("messaging.message.id", attempt.message.id.clone()),
                KeyValue::new("tollgate.sequence", attempt.message.sequence as i64),
                KeyValue::new("tollgate.attempt", i64::from(attempt.number)),
                KeyValue::new("tollgate.outcome", status),
            ],
            link: None,
            status: why.map_or(Status::Unset, Status::error),
        });
    }
}
