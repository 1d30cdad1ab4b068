//! What the OpenAPI document says of requests that become messages.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::{post, record};
use crate::topics;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::PostMessage => {
            topics::describe::name(operation);
            operation.about(
                "The request, whole, becomes a durable record and a message, in one step. Anyone who says who they are may post to a topic \
                 that the configuration names; a key with the scope `topics` may begin a new one. With `x-deliver-at` or `x-delay` the message comes \
                 later: its `sequence` is null until then, and it takes its place in the order of its key when it comes.",
            );
            operation.takes_anything();
            operation.header("DeliverAt");
            operation.header("Delay");
            operation.accepts::<post::Accepted<'_>>();
            operation.refuses(&[Kind::NotFound, Kind::IdempotencyMismatch, Kind::BacklogFull]);
        }
        Call::ReadMessage => {
            operation.path("id", pattern("^[0-9a-f]{2}[0-9A-Za-z]{20}$"), "The message's id.");
            operation.about("The record of a request that became a message, and where its delivery to each subscription stands.");
            let example = json!({
                "id": "3f6hK2pXw9QvB4nTzLrM8c", "topic": "signup", "sequence": 7, "deliverAt": null, "key": null,
                "contentType": "application/json", "method": "POST", "path": "/signup", "time": "2027-01-15T08:00:00Z",
                "client": "id:ann",
                "request": { "method": "POST", "path": "/signup", "query": null, "headers": {} },
                "deliveries": [{
                    "subscription": "crm", "state": "delivering", "attempts": 2, "nextAttemptAt": "2027-01-15T08:00:09Z",
                    "lastError": "the origin answered 500", "deliveredAt": null,
                    "attemptLog": [{
                        "number": 2, "time": "2027-01-15T08:00:01Z", "milliseconds": 12, "status": 500, "answer": "no database",
                        "error": "the origin answered 500",
                    }],
                }],
            });
            operation.gives::<record::View<'_>>(200, "The record.", example);
            operation.refuses(&[Kind::NotFound]);
        }
        _ => {}
    }
}
