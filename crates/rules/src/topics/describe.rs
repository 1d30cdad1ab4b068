//! What the OpenAPI document says of topics and their messages.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, number, pattern};
use tollgate_api::problem::Kind;

use super::{DEFAULT_MESSAGES, DEFAULT_TOPICS, MAX_TOPICS, MessagePage, TopicPage, View};
use tollgate_store::commit::{MAX_PAGE, MAX_WAIT_MS};

/// The parameter `topic`.
pub(crate) fn name(operation: &mut Operation<'_>) {
    operation.path(
        "topic",
        pattern("^[a-z0-9][a-z0-9._-]{0,63}$"),
        "The topic's name.",
    );
}

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::ListTopics => {
            operation.about("By name: those that had a message and were not deleted since, and those of the configuration.");
            operation.pages(MAX_TOPICS, DEFAULT_TOPICS);
            let example = json!({ "topics": [topic()], "nextCursor": null });
            operation.gives::<TopicPage>(200, "A page of topics.", example);
        }
        Call::ReadTopic => {
            name(operation);
            operation
                .about("How far it reaches, and how far behind each of its subscriptions and groups is.");
            operation.gives::<View>(200, "The topic.", topic());
            operation.refuses(&[Kind::NotFound]);
        }
        Call::DeleteTopic => {
            name(operation);
            operation.about(
                "Its messages go, and with `force=true` its subscriptions and groups, with their dead letters. The name can be \
                 used again at once: sequences go on, and nothing of before is seen. Messages that were to come later do not come. A \
                 topic of the configuration is there afterwards, and empty; a subscription of `tollgate.toml` must be taken out there first.",
            );
            let force = json!({ "type": "boolean", "default": false });
            operation.query("force", force, "Whether subscriptions and groups go with it.");
            operation.gives_nothing(204, "It is gone.");
            operation.refuses(&[Kind::NotFound, Kind::Conflict]);
        }
        Call::ReadMessages => {
            name(operation);
            operation.about(
                "Messages with a sequence greater than `after`, in order: read, or read again. A topic without messages is empty, not \
                 unknown. `after` may lie before the oldest message that is kept. With `Accept: text/event-stream` they come one after the other as they \
                 are appended, with their sequence as `id`, by `tollgate` only; 256 streams at a time (503).",
            );
            let mut after = number(0, i64::MAX as u64);
            after["default"] = json!(0);
            operation.query(
                "after",
                after,
                "The sequence of the last message seen: `nextAfter` of the page before.",
            );
            let mut limit = number(1, MAX_PAGE.into());
            limit["default"] = json!(DEFAULT_MESSAGES);
            operation.query("limit", limit, "How many at most.");
            let mut wait = number(0, (MAX_WAIT_MS / 1_000).into());
            wait["default"] = json!(0);
            operation.query(
                "wait",
                wait,
                "Seconds to wait for the first message, if there is none.",
            );
            let example = json!({ "messages": [message()], "nextAfter": 41 });
            operation.gives::<MessagePage<'_>>(200, "Messages.", example);
            operation.gives_text(200, "Messages, one after the other.", "text/event-stream");
            operation.header("LastEventId");
        }
        _ => {}
    }
}

fn topic() -> Value {
    json!({
        "name": "coupon", "first": 1, "last": 41, "depth": 41, "bytes": 15990, "oldestTime": "2027-01-15T08:00:00Z",
        "newestTime": "2027-01-15T09:30:00.5Z", "subscriptions": [{ "name": "shop", "lag": 3, "paused": false }],
        "groups": [{ "name": "billing", "lag": 12 }],
    })
}

/// A message, as an example.
pub(crate) fn message() -> Value {
    json!({
        "id": "8Jq3vTzLrM4nBw9QpX2K", "sequence": 41, "topic": "coupon", "key": "ann", "type": "coupon.claimed",
        "time": "2027-01-15T09:30:00.5Z", "contentType": "application/json",
        "data": {
            "campaign": "spring", "user": "ann", "claim": "8Jq3vTzLrM4nBw9QpX2K", "sequence": 41, "units": 1, "code": null,
            "status": "confirmed",
        },
    })
}
