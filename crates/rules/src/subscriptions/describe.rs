//! What the OpenAPI document says of push subscriptions.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::{Page, View, body, replay, trial};
use crate::{dead_letters, topics};

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    topics::describe::name(operation);
    if call.path().contains(":name") {
        let form = pattern("^[a-z0-9][a-z0-9._-]{0,63}$");
        operation.path("name", form, "The subscription's name.");
        if call != Call::PutSubscription {
            operation.refuses(&[Kind::NotFound]);
        }
    }
    match call {
        Call::ListSubscriptions => {
            operation.about("All of a topic, by name: those of tollgate.toml, and those made here.");
            let example = json!({ "subscriptions": [subscription()] });
            operation.gives::<Page>(200, "The subscriptions.", example);
        }
        Call::ReadSubscription => {
            operation.about("With its circuit breaker, and how far behind it is.");
            operation.gives::<View>(200, "The subscription.", subscription());
        }
        Call::PutSubscription => {
            operation.about(
                "Every message of the topic is one HTTP POST to `url`, signed by Standard Webhooks and typed by CloudEvents headers; or, by \
                 its `type`, a mail, a record of Kafka, a message of NATS JetStream, a statement of Postgres, an entry of a Redis stream or an object of S3. Under Spin there are `http` and `key-value`, a value of a key-value store. What the body leaves out takes its default, except for secrets and headers, which stay. Those of tollgate.toml are changed there (409).",
            );
            operation.takes::<body::Body>(json!({
                "url": "https://shop.example.com/hooks/tollgate", "headers": { "authorization": "Bearer 7f2c" },
                "filter": { "types": ["coupon.*"] }, "startFrom": "newest", "ratePerSecond": 50, "concurrency": 4, "timeout": 10, "ordered": true,
                "retry": { "initialSeconds": 1, "factor": 2, "capSeconds": 3600, "maxAttempts": 12, "final": [400, 422] },
            }));
            let mut made = subscription();
            made["secret"] = json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
            operation.gives::<View>(
                201,
                "The new subscription; its secret is shown here once, if it was made up.",
                made,
            );
            operation.gives::<View>(200, "The changed subscription.", subscription());
            operation.refuses(&[Kind::Conflict]);
        }
        Call::DeleteSubscription => {
            operation.about("What was not delivered is not delivered any more; its dead letters go with it.");
            operation.gives_nothing(204, "It is gone.");
            operation.refuses(&[Kind::Conflict]);
        }
        Call::PauseSubscription => {
            operation.about(
                "After the answer no delivery begins. Also for one of tollgate.toml; may be repeated.",
            );
            operation.gives::<View>(200, "The subscription.", subscription());
        }
        Call::ResumeSubscription => {
            operation.about("Goes on where it stopped, with a closed circuit breaker. May be repeated.");
            operation.gives::<View>(200, "The subscription.", subscription());
        }
        Call::ResetBreaker => {
            operation.about("Closes the circuit breaker: deliveries go on within a second. May be repeated.");
            operation.gives::<View>(200, "The subscription.", subscription());
        }
        Call::TestSubscription => {
            operation.about(
                "One sample of the type `tollgate.test`, signed like every delivery, is sent once and at once, also while the subscription is \
                 paused or its circuit breaker is open; neither they nor its progress change. `tollgate` sends eight samples at a time. \
                 Spin waits for no body: there `answer` is empty.",
            );
            let example = json!({
                "id": "test-3f6hK2pXw9QvB4nTzLrM", "delivered": false, "status": 422, "milliseconds": 38,
                "answer": "{\"error\":\"unknown type\"}", "error": "the origin answered 422",
            });
            operation.gives::<trial::Outcome<'_>>(200, "How it was taken.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        Call::RetryNow => {
            operation.about(
                "What waits for another attempt is tried within a second, by a closed circuit breaker. May be repeated.",
            );
            operation.gives::<View>(200, "The subscription.", subscription());
        }
        Call::Replay => {
            operation.about(
                "Every message that is kept, from there to the newest, is delivered again with fresh attempts. A call makes 5,000 of them ready; \
                 `nextSequence` leads on.",
            );
            operation.takes::<replay::Body>(json!({ "fromTime": "2027-01-15T08:00:00Z" }));
            let example = json!({ "replayed": 120, "nextSequence": null });
            operation.gives::<replay::Replayed>(200, "How many.", example);
        }
        _ => dead_letters::describe::describe(call, operation),
    }
}

fn subscription() -> Value {
    json!({
        "topic": "coupon", "name": "shop", "type": "http", "url": "https://shop.example.com/hooks/tollgate", "secret": "whsec_********",
        "previousSecret": null, "previousSecretUntil": null, "headers": { "authorization": "********" }, "startFrom": "oldest",
        "filter": { "types": ["coupon.*"] }, "payload": "full",
        "ratePerSecond": 50, "concurrency": 4, "batch": null, "batchInterval": null, "timeout": 10, "pauseAfter": 432000, "ordered": true, "allowPrivateAddresses": false,
        "retry": { "initialSeconds": 1, "factor": 2.0, "capSeconds": 3600, "maxAttempts": 12, "final": [400, 422] },
        "source": "api", "paused": false, "pauseReason": null, "pausedAt": null,
        "breaker": { "state": "closed", "until": null, "why": null }, "watermark": 38, "lag": 3,
        "oldestWaiting": "2027-01-15T09:29:00Z", "lastError": null,
        "attemptsLastHour": 42, "failuresLastHour": 1, "lastDeliveredAt": "2027-01-15T09:28:59Z", "failingSince": null,
        "createdAt": "2027-01-15T08:00:00Z", "updatedAt": "2027-01-15T08:00:00Z",
    })
}
