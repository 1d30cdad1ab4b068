//! What the OpenAPI document says of dead letters, of a subscription or of a group.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::Operation;

use super::{Body, PAGE, Page, Redriven, Removal, Removed};
use crate::topics;

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::ListDeadLetters | Call::ListGroupDeadLetters => {
            operation
                .about("By sequence, each with its message and its last error. Nothing is dropped silently.");
            let (most, default) = PAGE;
            operation.pages(most, default);
            let mut message = topics::describe::message();
            message["key"] = Value::Null;
            let example = json!({
                "deadLetters": [{
                    "id": "8Jq3vTzLrM4nBw9QpX2K", "sequence": 41, "attempts": 12, "lastError": "the origin answered 500",
                    "firstAttemptAt": "2027-01-15T09:30:01Z", "lastAttemptAt": "2027-01-15T21:30:01Z", "message": message,
                }],
                "nextCursor": null,
            });
            operation.gives::<Page<'_>>(200, "A page of dead letters.", example);
        }
        Call::Redrive | Call::RedriveGroup => {
            operation.about(
                "They are delivered again, with fresh attempts: `ids`, or `all`. What was redriven is no dead letter any more; ids without \
                 one are passed over.",
            );
            operation.takes::<Body>(json!({ "all": true }));
            operation.gives::<Redriven>(200, "How many.", json!({ "redriven": 12, "more": false }));
        }
        Call::DeleteDeadLetters | Call::DeleteGroupDeadLetters => {
            operation.about(
                "They are gone for good: `ids`, or `all`, or those whose last attempt is longer ago than `olderThan`. Ids without one are \
                 passed over.",
            );
            operation.takes::<Removal>(json!({ "olderThan": 604_800 }));
            operation.gives::<Removed>(200, "How many.", json!({ "removed": 12, "more": false }));
        }
        _ => {}
    }
}
