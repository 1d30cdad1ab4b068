//! SQS's calls, against a store in memory.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::testing::{ADMIN, Gateway, SECOND, body, text};
use tollgate_api::calls::Scope;
use tollgate_api::http::Response;

const QUEUE: &str = "http://localhost:3000/sqs/jobs/workers";
const GROUP: &str = "/api/topics/jobs/groups/workers";

impl Gateway {
    fn with_queue(settings: Value) -> Self {
        let gateway = Self::new();
        let made = gateway.admin("PUT", GROUP, &settings);
        assert_eq!(made.status, 201, "{}", text(&made));
        gateway
    }

    /// The answer to a call of SQS's, by this key.
    fn asked(&self, key: &str, action: &str, document: &Value) -> Response {
        let (bearer, target) = (format!("Bearer {key}"), format!("AmazonSQS.{action}"));
        let headers = [("authorization", bearer.as_str()), ("x-amz-target", &target)];
        self.call("POST", "/sqs/", &headers, document)
    }

    #[track_caller]
    fn sqs(&self, action: &str, mut document: Value) -> Value {
        document["QueueUrl"] = QUEUE.into();
        let answer = self.asked(ADMIN, action, &document);
        assert_eq!(answer.status, 200, "{action} {document}: {}", text(&answer));
        assert_eq!(answer.header("content-type"), Some(super::MEDIA));
        body(&answer)
    }

    /// The code by which clients tell a refusal from others.
    #[track_caller]
    fn fault(&self, action: &str, mut document: Value) -> String {
        if document.get("QueueUrl").is_none() {
            document["QueueUrl"] = QUEUE.into();
        }
        let answer = self.asked(ADMIN, action, &document);
        code(&answer, 400)
    }

    #[track_caller]
    fn sent(&self, document: Value) -> Value {
        self.sqs("SendMessage", document)
    }

    /// Body and receipt handle of what is received.
    #[track_caller]
    fn received(&self, most: u64, seconds: u64) -> Vec<(String, String)> {
        let answer = self.sqs(
            "ReceiveMessage",
            json!({ "MaxNumberOfMessages": most, "VisibilityTimeout": seconds }),
        );
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
        let pair = |message| (text(message, "Body"), text(message, "ReceiptHandle"));
        messages.iter().map(pair).collect()
    }

    fn wait_seconds(&self, seconds: u64) {
        self.store.set_now(self.store.now() + seconds * SECOND);
    }
}

#[track_caller]
fn code(answer: &Response, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", text(answer));
    assert_eq!(answer.header("content-type"), Some(super::MEDIA));
    let document = body(answer);
    assert!(
        document["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{document}"
    );
    assert!(
        document["__type"]
            .as_str()
            .is_some_and(|text| text.starts_with("com.ama")),
        "{document}"
    );
    let code = answer.header("x-amzn-query-error").unwrap();
    code.strip_suffix(";Sender").unwrap().to_owned()
}

#[test]
fn a_message_is_sent_received_and_deleted() {
    let gateway = Gateway::with_queue(json!({}));
    let sent = gateway.sent(json!({ "MessageBody": "hello", "MessageGroupId": "ann" }));
    // By md5sum.
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(sent["SequenceNumber"], "1");
    let received = gateway.sqs(
        "ReceiveMessage",
        json!({ "AttributeNames": ["All"], "Unknown": 1 }),
    );
    let message = &received["Messages"][0];
    assert_eq!(message["MD5OfBody"], sent["MD5OfMessageBody"]);
    assert_eq!(
        (&message["Body"], &message["MessageId"]),
        (&json!("hello"), &sent["MessageId"])
    );
    let at = gateway.store.now().to_string();
    let expected = json!({
        "ApproximateReceiveCount": "1", "ApproximateFirstReceiveTimestamp": at, "SentTimestamp": at,
        "SequenceNumber": "1", "MessageGroupId": "ann",
    });
    assert_eq!(message["Attributes"], expected);
    assert!(message.get("MessageAttributes").is_none(), "{message}");
    assert_eq!(gateway.sqs("ReceiveMessage", json!({})), json!({}));
    let handle = json!({ "ReceiptHandle": message["ReceiptHandle"] });
    for _ in 0..2 {
        // Also the second time: the answer to the first may have been lost.
        assert_eq!(gateway.sqs("DeleteMessage", handle.clone()), json!({}));
    }
    gateway.wait_seconds(60);
    assert_eq!(gateway.received(10, 30), []);
}

#[test]
fn a_message_comes_back_after_its_time_and_a_late_receipt_is_told() {
    let gateway = Gateway::with_queue(json!({}));
    gateway.sent(json!({ "MessageBody": "a" }));
    let (_, first) = gateway.received(1, 30).remove(0);
    gateway.wait_seconds(30);
    let late = json!({ "ReceiptHandle": first, "VisibilityTimeout": 9 });
    let not_in_flight = "AWS.SimpleQueueService.MessageNotInflight";
    assert_eq!(
        gateway.fault("DeleteMessage", late.clone()),
        "InvalidParameterValue"
    );
    assert_eq!(
        gateway.fault("ChangeMessageVisibility", late.clone()),
        not_in_flight
    );
    let received = gateway.sqs("ReceiveMessage", json!({ "MessageSystemAttributeNames": ["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"] }));
    let message = &received["Messages"][0];
    let began = (gateway.store.now() - 30 * SECOND).to_string();
    assert_eq!(
        message["Attributes"],
        json!({ "ApproximateReceiveCount": "2", "ApproximateFirstReceiveTimestamp": began })
    );
    assert_eq!(
        gateway.fault("DeleteMessage", late.clone()),
        "InvalidParameterValue"
    );
    let held = json!({ "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 90 });
    gateway.sqs("ChangeMessageVisibility", held.clone());
    gateway.wait_seconds(89);
    assert_eq!(gateway.received(1, 30), []);
    let mut back = held.clone();
    back["VisibilityTimeout"] = json!(0);
    gateway.sqs("ChangeMessageVisibility", back);
    let third = gateway.received(1, 0).remove(0).1;
    // With no time at all it is anybody's at once.
    assert_eq!(
        gateway.fault("DeleteMessage", json!({ "ReceiptHandle": third })),
        "InvalidParameterValue"
    );
    let fourth = gateway.received(1, 30).remove(0).1;
    gateway.sqs("DeleteMessage", json!({ "ReceiptHandle": fourth }));
    assert_eq!(
        gateway.fault("ChangeMessageVisibility", held),
        "InvalidParameterValue"
    );
    for none in ["x", "", "1-zz", "99-0000000000000001", "0-0000000000000001"] {
        let none = json!({ "ReceiptHandle": none, "VisibilityTimeout": 9 });
        for action in ["DeleteMessage", "ChangeMessageVisibility"] {
            assert_eq!(
                gateway.fault(action, none.clone()),
                "ReceiptHandleIsInvalid",
                "{none}"
            );
        }
    }
}

#[test]
fn a_group_keeps_its_order_and_what_is_received_too_often_is_a_dead_letter() {
    let gateway = Gateway::with_queue(json!({ "maxAttempts": 2 }));
    for (text, group) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        gateway.sent(json!({ "MessageBody": text, "MessageGroupId": group }));
    }
    let bodies =
        |received: &[(String, String)]| received.iter().map(|(body, _)| body.clone()).collect::<Vec<_>>();
    let first = gateway.received(10, 30);
    assert_eq!(bodies(&first), ["a1", "b1"]);
    let done = json!({ "ReceiptHandle": first[1].1 });
    gateway.sqs("DeleteMessage", done);
    assert_eq!(gateway.received(10, 30), []);
    gateway.wait_seconds(30);
    assert_eq!(bodies(&gateway.received(10, 30)), ["a1"]);
    gateway.wait_seconds(30);
    // It was received twice.
    assert_eq!(bodies(&gateway.received(10, 30)), ["a2"]);
    let dead = body(&gateway.admin("GET", &format!("{GROUP}/dead-letters"), &Value::Null));
    assert_eq!(dead["deadLetters"][0]["message"]["data"], "a1", "{dead}");
    gateway.admin(
        "POST",
        &format!("{GROUP}/dead-letters/redrive"),
        &json!({ "all": true }),
    );
    let wanted = json!({ "AttributeNames": ["ApproximateNumberOfMessages"] });
    let visible = gateway.sqs("GetQueueAttributes", wanted);
    assert_eq!(visible["Attributes"]["ApproximateNumberOfMessages"], "1");
}

#[test]
fn batches_tell_what_became_of_each_entry() {
    let gateway = Gateway::with_queue(json!({}));
    let entries = json!({ "Entries": [
        { "Id": "one", "MessageBody": "1" },
        { "Id": "none", "MessageBody": "" },
        { "Id": "two", "MessageBody": "2", "MessageAttributes": { "a": { "DataType": "String", "StringValue": "x" } } },
        { "Id": "later", "MessageBody": "3", "DelaySeconds": 60 },
        { "Id": "too-late", "MessageBody": "3", "DelaySeconds": 901 },
    ]});
    let answer = gateway.sqs("SendMessageBatch", entries);
    let ids = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|one| one["Id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&answer["Successful"]), ["one", "two", "later"]);
    assert_eq!(ids(&answer["Failed"]), ["none", "too-late"]);
    assert_eq!(answer["Failed"][0]["Code"], "InvalidParameterValue");
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    assert!(
        answer["Successful"][2].get("SequenceNumber").is_none(),
        "{answer}"
    );
    let messages = gateway.received(10, 30);
    let bodies: BTreeSet<_> = messages.iter().map(|(body, _)| body.as_str()).collect();
    assert_eq!(bodies, BTreeSet::from(["1", "2"]));
    let change = json!({ "Entries": [
        { "Id": "a", "ReceiptHandle": messages[0].1, "VisibilityTimeout": 0 },
        { "Id": "b", "ReceiptHandle": messages[1].1, "VisibilityTimeout": 600 },
        { "Id": "c", "ReceiptHandle": "no", "VisibilityTimeout": 600 },
    ]});
    let changed = gateway.sqs("ChangeMessageVisibilityBatch", change);
    assert_eq!(ids(&changed["Successful"]), ["a", "b"]);
    assert_eq!(changed["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    gateway.wait_seconds(59);
    let again = gateway.received(10, 30);
    assert_eq!(again.len(), 1);
    let delete = json!({ "Entries": [
        { "Id": "a", "ReceiptHandle": again[0].1 },
        { "Id": "same", "ReceiptHandle": again[0].1 },
        { "Id": "b", "ReceiptHandle": messages[1].1 },
        { "Id": "late", "ReceiptHandle": messages[0].1 },
    ]});
    let deleted = gateway.sqs("DeleteMessageBatch", delete);
    // The last one is an earlier receipt of a message that is done.
    assert_eq!(ids(&deleted["Successful"]), ["a", "same", "b", "late"]);
    for (entries, code) in [
        (json!([]), "EmptyBatchRequest"),
        (json!([{ "Id": "a b" }]), "InvalidBatchEntryId"),
        (json!([{ "Id": "a" }, { "Id": "a" }]), "BatchEntryIdsNotDistinct"),
        (
            json!(
                (0..11)
                    .map(|n| json!({ "Id": n.to_string() }))
                    .collect::<Vec<_>>()
            ),
            "TooManyEntriesInBatchRequest",
        ),
    ] {
        for action in [
            "SendMessageBatch",
            "DeleteMessageBatch",
            "ChangeMessageVisibilityBatch",
        ] {
            let found = gateway.fault(action, json!({ "Entries": entries }));
            assert_eq!(found, format!("AWS.SimpleQueueService.{code}"), "{action}");
        }
    }
}

#[test]
fn attributes_go_with_a_message_and_others_are_told_its_type() {
    let gateway = Gateway::with_queue(json!({}));
    let attributes = json!({
        "trace": { "DataType": "String", "StringValue": "ü" }, "raw": { "DataType": "Binary", "BinaryValue": "AAEC" },
    });
    let sent = gateway.sent(json!({ "MessageBody": "a", "MessageAttributes": attributes }));
    let all = json!({ "MessageAttributeNames": ["All"], "VisibilityTimeout": 0 });
    let message = gateway.sqs("ReceiveMessage", all.clone())["Messages"][0].clone();
    assert_eq!(message["MessageAttributes"], attributes);
    assert_eq!(message["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    for (names, found) in [
        (json!(["tr.*"]), json!({ "trace": attributes["trace"] })),
        (json!(["raw", "none"]), json!({ "raw": attributes["raw"] })),
        (json!([]), Value::Null),
    ] {
        let asked = json!({ "MessageAttributeNames": names, "VisibilityTimeout": 0 });
        let message = gateway.sqs("ReceiveMessage", asked)["Messages"][0].clone();
        assert_eq!(message["MessageAttributes"], found, "{names}");
    }
    let handle = gateway.received(1, 30).remove(0).1;
    gateway.sqs("DeleteMessage", json!({ "ReceiptHandle": handle }));
    // Posted as it is, and no text.
    let headers = [
        ("authorization", &*format!("Bearer {ADMIN}")),
        ("content-type", "image/png"),
    ];
    let posted = gateway.call("POST", "/api/topics/jobs/messages", &headers, b"\xff\x00");
    assert_eq!(posted.status, 202);
    let message = gateway.sqs("ReceiveMessage", all)["Messages"][0].clone();
    assert_eq!(message["Body"], "/wA=");
    let told = |text: &str| json!({ "DataType": "String", "StringValue": text });
    let expected = json!({
        "tollgate.type": told("http.request"), "tollgate.contentType": told("image/png"), "tollgate.encoding": told("base64"),
    });
    assert_eq!(message["MessageAttributes"], expected);
}

#[test]
fn a_message_that_is_sent_twice_within_five_minutes_is_there_once() {
    let gateway = Gateway::with_queue(json!({}));
    let once = json!({ "MessageBody": "a", "MessageDeduplicationId": "order/7" });
    let first = gateway.sent(once.clone());
    assert_eq!(gateway.sent(once.clone())["MessageId"], first["MessageId"]);
    let other = json!({ "MessageBody": "b", "MessageDeduplicationId": "order/7" });
    assert_eq!(gateway.fault("SendMessage", other), "InvalidParameterValue");
    gateway.wait_seconds(300);
    assert_eq!(gateway.sent(once)["SequenceNumber"], "2");
}

#[test]
fn queues_are_found_listed_and_described() {
    let gateway = Gateway::with_queue(json!({ "maxAttempts": 3 }));
    for group in ["audit.fifo", "zeta"] {
        gateway.admin("PUT", &format!("/api/topics/jobs/groups/{group}"), &json!({}));
    }
    gateway.admin("PUT", "/api/topics/other/groups/workers", &json!({}));
    let found = gateway.sqs("GetQueueUrl", json!({ "QueueName": "jobs/workers" }));
    assert_eq!(found, json!({ "QueueUrl": QUEUE }));
    let no_queue = "AWS.SimpleQueueService.NonExistentQueue";
    for name in ["jobs/none", "jobs", "jobs/Workers", QUEUE] {
        assert_eq!(
            gateway.fault("GetQueueUrl", json!({ "QueueName": name })),
            no_queue,
            "{name}"
        );
    }
    let names = |answer: &Value| -> Vec<String> {
        let urls = answer["QueueUrls"].as_array().unwrap().iter();
        urls.map(|url| url.as_str().unwrap().rsplit_once("/sqs/").unwrap().1.to_owned())
            .collect()
    };
    let all = gateway.sqs("ListQueues", json!({}));
    assert_eq!(
        names(&all),
        ["jobs/audit.fifo", "jobs/workers", "jobs/zeta", "other/workers"]
    );
    assert!(all.get("NextToken").is_none());
    let first = gateway.sqs(
        "ListQueues",
        json!({ "QueueNamePrefix": "jobs/", "MaxResults": 2 }),
    );
    assert_eq!(names(&first), ["jobs/audit.fifo", "jobs/workers"]);
    let next = json!({ "QueueNamePrefix": "jobs/", "MaxResults": 2, "NextToken": first["NextToken"] });
    let next = gateway.sqs("ListQueues", next);
    assert_eq!(
        (names(&next), next.get("NextToken")),
        (vec!["jobs/zeta".to_owned()], None)
    );
    for text in ["a", "b", "c", "d"] {
        gateway.sent(json!({ "MessageBody": text }));
    }
    let taken = gateway.received(2, 30);
    gateway.admin(
        "POST",
        &format!("{GROUP}/nack"),
        &json!({ "leaseIds": [taken[0].1], "delaySeconds": 60 }),
    );
    let shown = gateway.sqs("GetQueueAttributes", json!({ "AttributeNames": ["All"] }));
    let attributes = &shown["Attributes"];
    for (name, value) in [
        ("ApproximateNumberOfMessages", "2"),
        ("ApproximateNumberOfMessagesNotVisible", "1"),
        ("ApproximateNumberOfMessagesDelayed", "1"),
        ("VisibilityTimeout", "30"),
        ("MessageRetentionPeriod", "604800"),
        ("QueueArn", "arn:aws:sqs:tollgate:000000000000:jobs/workers"),
    ] {
        assert_eq!(attributes[name], value, "{name}: {attributes}");
    }
    assert!(
        attributes["RedrivePolicy"]
            .as_str()
            .unwrap()
            .contains("\"maxReceiveCount\":3"),
        "{attributes}"
    );
    assert!(attributes.get("FifoQueue").is_none());
    let one = json!({ "AttributeNames": ["ApproximateNumberOfMessages", "Policy"] });
    let one = gateway.sqs("GetQueueAttributes", one);
    assert_eq!(
        one,
        json!({ "Attributes": { "ApproximateNumberOfMessages": "2" } })
    );
    assert_eq!(gateway.sqs("GetQueueAttributes", json!({})), json!({}));
    let unknown = json!({ "AttributeNames": ["Size"] });
    assert_eq!(
        gateway.fault("GetQueueAttributes", unknown),
        "InvalidAttributeName"
    );
    let fifo = json!({ "QueueUrl": "jobs/audit.fifo", "AttributeNames": ["FifoQueue"] });
    let fifo = gateway.asked(ADMIN, "GetQueueAttributes", &fifo);
    assert_eq!(body(&fifo), json!({ "Attributes": { "FifoQueue": "true" } }));
}

#[test]
fn what_makes_no_sense_is_refused_as_there() {
    let gateway = Gateway::with_queue(json!({}));
    let (invalid, missing) = ("InvalidParameterValue", "MissingParameter");
    for (action, document, expected) in [
        ("ReceiveMessage", json!({ "MaxNumberOfMessages": 0 }), invalid),
        ("ReceiveMessage", json!({ "MaxNumberOfMessages": 11 }), invalid),
        ("ReceiveMessage", json!({ "MaxNumberOfMessages": "1" }), invalid),
        ("ReceiveMessage", json!({ "VisibilityTimeout": 43_201 }), invalid),
        ("ReceiveMessage", json!({ "VisibilityTimeout": -1 }), invalid),
        ("ReceiveMessage", json!({ "WaitTimeSeconds": 21 }), invalid),
        ("ReceiveMessage", json!({ "QueueUrl": null }), missing),
        ("SendMessage", json!({}), missing),
        ("SendMessage", json!({ "MessageBody": "" }), invalid),
        (
            "SendMessage",
            json!({ "MessageBody": "x".repeat(64 << 10) + "x" }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "DelaySeconds": 901 }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "MessageGroupId": "a b" }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "MessageGroupId": "a".repeat(129) }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "MessageDeduplicationId": "" }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "MessageAttributes": { "a": {} } }),
            invalid,
        ),
        (
            "SendMessage",
            json!({ "MessageBody": "x", "MessageAttributes": { "a": { "DataType": "String", "StringValue": "x".repeat(9_000) } } }),
            invalid,
        ),
        ("DeleteMessage", json!({}), missing),
        (
            "ChangeMessageVisibility",
            json!({ "ReceiptHandle": "x" }),
            missing,
        ),
        (
            "ChangeMessageVisibility",
            json!({ "ReceiptHandle": "x", "VisibilityTimeout": 43_201 }),
            invalid,
        ),
        ("SendMessageBatch", json!({}), missing),
        (
            "SendMessageBatch",
            json!({ "Entries": [{ "MessageBody": "x" }] }),
            missing,
        ),
        ("ListQueues", json!({ "MaxResults": 0 }), invalid),
        ("ListQueues", json!({ "NextToken": "x".repeat(200) }), invalid),
        ("GetQueueUrl", json!({}), missing),
        (
            "CreateQueue",
            json!({ "QueueName": "a" }),
            "AWS.SimpleQueueService.UnsupportedOperation",
        ),
        ("Surprise", json!({}), "InvalidAction"),
        ("", json!({}), "InvalidAction"),
    ] {
        assert_eq!(
            gateway.fault(action, document.clone()),
            expected,
            "{action} {document:.100}"
        );
    }
    for action in [
        "ReceiveMessage",
        "SendMessage",
        "DeleteMessage",
        "GetQueueAttributes",
    ] {
        let elsewhere = json!({ "QueueUrl": "http://h/sqs/jobs/none", "MessageBody": "x", "ReceiptHandle": "1-0000000000000001" });
        let found = gateway.fault(action, elsewhere);
        assert_eq!(found, "AWS.SimpleQueueService.NonExistentQueue", "{action}");
    }
    let bearer = format!("Bearer {ADMIN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-amz-target", "AmazonSQS.ReceiveMessage"),
    ];
    for broken in [
        "",
        "{",
        "[]",
        "\"x\"",
        "{}{}",
        "{\"QueueUrl\":\"a\",\"QueueUrl\":\"b\"}",
    ] {
        let code = code(&gateway.call("POST", "/sqs", &headers, broken), 400);
        assert!(
            ["MalformedInput", "InvalidParameterValue"].contains(&&*code),
            "{broken}: {code}"
        );
    }
    let asked = gateway.call("POST", "/sqs?Action=ReceiveMessage", &headers, "{}");
    assert_eq!(code(&asked, 400), "InvalidParameterValue");
}

#[test]
fn only_who_may_use_topics_is_answered() {
    let gateway = Gateway::with_queue(json!({}));
    let minted = |scope| {
        let (text, commit) = crate::keys::mint("k", &[scope], None, gateway.store.now(), &|| gateway.fresh());
        gateway.store.commit_now(commit).unwrap();
        text
    };
    let (links, topics) = (minted(Scope::Links), minted(Scope::Topics));
    let document = json!({ "QueueUrl": QUEUE });
    assert_eq!(gateway.asked(&topics, "ReceiveMessage", &document).status, 200);
    assert_eq!(
        code(&gateway.asked(&links, "ReceiveMessage", &document), 403),
        "AccessDenied"
    );
    let unknown = gateway.asked("a-key-that-nobody-has", "ReceiveMessage", &document);
    assert_eq!(code(&unknown, 401), "InvalidClientTokenId");
    // Signed, but without the key, or with another's id, or not by it.
    let id = topics.split('_').nth(1).unwrap();
    let signed = |id: &str, token: Option<&str>| {
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential={id}/20270115/us-east-1/sqs/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target, Signature={}",
            "0".repeat(64)
        );
        let mut headers = vec![
            ("authorization", signature.as_str()),
            ("host", "localhost"),
            ("x-amz-date", "20270115T080000Z"),
            ("x-amz-target", "AmazonSQS.ReceiveMessage"),
        ];
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        let answer = gateway.call("POST", "/sqs", &headers, &document);
        code(&answer, 401)
    };
    assert_eq!(signed(id, None), "InvalidClientTokenId");
    assert_eq!(signed("another", Some(&topics)), "InvalidClientTokenId");
    assert_eq!(signed(id, Some("a-key-that-nobody-has")), "InvalidClientTokenId");
    assert_eq!(signed(id, Some(&topics)), "SignatureDoesNotMatch");
    // Elsewhere such a header is nothing.
    let elsewhere = [
        ("authorization", "AWS4-HMAC-SHA256 x"),
        ("x-amz-security-token", &*topics),
    ];
    assert_eq!(
        gateway
            .call("GET", "/api/topics", &elsewhere, &Value::Null)
            .status,
        401
    );
}
