//! What the OpenAPI document says of SQS's calls: that they are there, and what they are for. Their bodies are described by AWS.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};

use super::MEDIA;

/// What is refused in SQS's form.
const REFUSALS: [u16; 5] = [400, 401, 403, 500, 503];
const ABOUT: &str = "As [SQS's JSON protocol](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/) has it. `X-Amz-Target` is \
                     `AmazonSQS.` and one of `ReceiveMessage`, `DeleteMessage`, `DeleteMessageBatch`, `ChangeMessageVisibility`, \
                     `ChangeMessageVisibilityBatch`, `SendMessage`, `SendMessageBatch`, `GetQueueUrl`, `GetQueueAttributes`, `ListQueues`. \
                     A queue is a consumer group, `topic/group`. Signed requests (SigV4) carry the API key as secret and as session \
                     token; `Authorization: Bearer` does too.";

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    operation.about(ABOUT);
    if call == Call::AskSqsQueue {
        let name = || pattern("^[a-z0-9][a-z0-9._-]{0,63}$");
        operation.path(
            "topic",
            name(),
            "Of the queue's address. The body says which queue is meant.",
        );
        operation.path("group", name(), "The same.");
    }
    operation.takes_json(
        json!({ "type": "object" }),
        json!({ "QueueUrl": "http://localhost:3000/sqs/coupon/shop", "WaitTimeSeconds": 20 }),
    );
    operation.gives_document(200, "As SQS answers.", MEDIA);
    operation.shows(
        200,
        MEDIA,
        json!({ "QueueUrl": "http://localhost:3000/sqs/coupon/shop" }),
    );
    operation.refuses_otherwise(&REFUSALS, Some(MEDIA));
    for status in REFUSALS {
        operation.answers_with(status, "X-Amzn-Query-Error", false);
    }
}
