//! Bodies, ids and queries of the origin queue that make no sense: consumer groups, dead letters, replays.

use serde_json::{Value, json};

use super::everything;
use crate::harness::{ADMIN_KEY, Gateway, Host, SECRET, unique};

pub async fn bad_groups_and_replays_are_refused_by_field(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("refused").to_lowercase();
    let base = format!("/api/topics/{topic}");
    let posted = gateway.post(&format!("{base}/messages")).key(ADMIN_KEY);
    posted.json(&json!({})).send().await.expect(202);
    let (group, push) = (
        format!("{base}/groups/shop"),
        format!("{base}/subscriptions/origin"),
    );
    let made = gateway.put(&group).key(ADMIN_KEY);
    made.send().await.expect(201);
    let hook = json!({ "url": "https://origin.example/hook" });
    let made = gateway.put(&push).key(ADMIN_KEY).json(&hook);
    made.send().await.expect(201);
    let pause = gateway.post(&format!("{push}/pause")).key(ADMIN_KEY);
    pause.send().await.expect(200);
    let seen = async || {
        let [one, other] = [&group, &push].map(|path| gateway.get(path).key(ADMIN_KEY));
        (
            one.send().await.expect(200).json(),
            other.send().await.expect(200).json(),
        )
    };
    let before = seen().await;
    for bad in ["force=1", "force=TRUE", "force=", "force=true&force=true"] {
        let call = gateway.delete(&format!("{base}?{bad}")).key(ADMIN_KEY);
        call.outside_contract().send().await.names("query:force");
    }
    let call = gateway.delete(&format!("{base}?all=true")).key(ADMIN_KEY);
    call.outside_contract().send().await.names("query:all");
    let call = gateway.delete("/api/topics/No.Such?force=true").key(ADMIN_KEY);
    call.outside_contract().send().await.names("path:topic");
    let ids = |count: usize| json!({ "leaseIds": vec!["1-0123456789abcdef"; count] });
    for (method, path, body, pointer) in [
        (
            "PUT",
            group.as_str(),
            json!({ "maxAttempts": 0 }),
            "#/maxAttempts",
        ),
        ("PUT", &group, json!({ "maxAttempts": 1e300 }), "#/maxAttempts"),
        ("PUT", &group, json!({ "ordered": "yes" }), "#/ordered"),
        ("PUT", &group, json!({ "startFrom": "middle" }), "#/startFrom"),
        ("PUT", &group, json!({ "startFrom": -1 }), "#/startFrom"),
        ("PUT", &group, json!({ "startFrom": {} }), "#/startFrom"),
        ("PUT", &group, json!([]), "#"),
        ("PUT", &group, json!({ "extra": 1 }), "#/extra"),
        (
            "PUT",
            &push,
            json!({ "type": "amqp", "url": "https://x.example/" }),
            "#/type",
        ),
        (
            "PUT",
            &push,
            json!({ "type": 7, "url": "https://x.example/" }),
            "#/type",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "redis", "url": "https://x.example/" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "redis", "url": "redis://u:p@x.example/" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "redis", "url": "redis://x.example/", "maxLength": 0 }),
            "#/maxLength",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "nats", "url": "nats://x.example/", "subject": "a.*" }),
            "#/subject",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "nats", "url": "nats://x.example/", "secret": SECRET }),
            "#/secret",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "postgres", "url": "postgres://x.example/db" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "postgres", "url": "postgres://u@x.example/db?sslmode=prefer" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "postgres", "url": "postgres://u@x.example/db", "parameters": ["id"] }),
            "#/statement",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "postgres", "url": "postgres://u@x.example/db", "statement": "INSERT", "parameters": ["id.x"] }),
            "#/parameters/0",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "kafka", "url": "kafka://x.example/a/b" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "kafka", "url": "kafka://x.example/a", "mechanism": "PLAIN" }),
            "#/mechanism",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "key-value", "url": "key-value://a/b" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "key-value", "url": "key-value://default", "key": "{key}" }),
            "#/key",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "s3", "url": "https://AKIA@x.example/" }),
            "#/url",
        ),
        (
            "PUT",
            &push,
            json!({ "type": "s3", "url": "https://AKIA@x.example/bucket", "region": "EU" }),
            "#/region",
        ),
        (
            "PUT",
            &push,
            json!({ "url": "https://x.example/", "password": "p" }),
            "#/password",
        ),
        (
            "PUT",
            &push,
            json!({ "url": "https://x.example/", "stream": "s" }),
            "#/stream",
        ),
        ("POST", "lease", json!({ "limit": 0 }), "#/limit"),
        ("POST", "lease", json!({ "limit": 1_001 }), "#/limit"),
        ("POST", "lease", json!({ "leaseSeconds": 0 }), "#/leaseSeconds"),
        (
            "POST",
            "lease",
            json!({ "leaseSeconds": 43_201 }),
            "#/leaseSeconds",
        ),
        ("POST", "lease", json!({ "leaseSeconds": 0.5 }), "#/leaseSeconds"),
        ("POST", "lease", json!({ "wait": 31 }), "#/wait"),
        ("POST", "lease", json!({ "wait": -1 }), "#/wait"),
        ("POST", "ack", json!({}), "#/leaseIds"),
        ("POST", "ack", ids(0), "#/leaseIds"),
        ("POST", "ack", ids(1_001), "#/leaseIds"),
        ("POST", "ack", json!({ "leaseIds": [7] }), "#/leaseIds/0"),
        ("POST", "ack", json!({ "leaseIds": "all" }), "#/leaseIds"),
        (
            "POST",
            "nack",
            json!({ "leaseIds": ["1-0123456789abcdef"], "delaySeconds": -1 }),
            "#/delaySeconds",
        ),
        (
            "POST",
            "nack",
            json!({ "leaseIds": ["1-0123456789abcdef"], "delaySeconds": 43_201 }),
            "#/delaySeconds",
        ),
        (
            "POST",
            "extend",
            json!({ "leaseIds": ["1-0123456789abcdef"], "leaseSeconds": 0 }),
            "#/leaseSeconds",
        ),
        ("POST", "extend", ids(1), "#/leaseSeconds"),
        ("POST", "dead-letters/redrive", json!({}), "#/ids"),
        (
            "POST",
            "dead-letters/redrive",
            json!({ "ids": [], "all": false }),
            "#/all",
        ),
        ("DELETE", "dead-letters", json!({ "all": "yes" }), "#/all"),
        (
            "DELETE",
            "dead-letters",
            json!({ "olderThan": "soon" }),
            "#/olderThan",
        ),
        (
            "DELETE",
            "dead-letters",
            json!({ "olderThan": -5 }),
            "#/olderThan",
        ),
        ("POST", "replay", json!({}), "#/fromSequence"),
        ("POST", "replay", json!({ "fromSequence": 0 }), "#/fromSequence"),
        ("POST", "replay", json!({ "fromSequence": -1 }), "#/fromSequence"),
        ("POST", "replay", json!({ "fromTime": "yesterday" }), "#/fromTime"),
        (
            "POST",
            "replay",
            json!({ "fromSequence": 1, "fromTime": "2030-01-15T08:00:00Z" }),
            "#/fromTime",
        ),
    ] {
        let path = match path {
            "replay" => format!("{push}/replay"),
            whole if whole.starts_with('/') => whole.to_owned(),
            part => format!("{group}/{part}"),
        };
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = gateway
            .call(method, &path)
            .key(ADMIN_KEY)
            .json(&body)
            .send()
            .await;
        assert!(answer.status == 400, "{path} {body}: {}", answer.shown());
        answer.names(pointer);
    }
    // An id that nobody was given holds nothing, and is told.
    for id in [
        "",
        "1",
        "-",
        "0-0",
        "1-0123456789abcdef",
        "99999999999999999999-x",
        "1-\u{0}",
    ] {
        let body = json!({ "leaseIds": [id] });
        let answer = gateway.post(&format!("{group}/ack")).key(ADMIN_KEY).json(&body);
        let answer = answer.send().await.expect(200).json();
        assert_eq!(answer, json!({ "acked": 0, "expired": [id] }));
    }
    for path in [
        format!("{base}/groups/UPPER"),
        format!("{base}/groups/{}", "x".repeat(65)),
    ] {
        let answer = gateway.put(&path).key(ADMIN_KEY).send().await;
        answer.names("path:group");
    }
    for (path, pointer) in [
        (format!("{group}/dead-letters?limit=0"), "query:limit"),
        (format!("{group}/dead-letters?cursor=x"), "query:cursor"),
        (format!("{group}/dead-letters?page=2"), "query:page"),
    ] {
        gateway.get(&path).key(ADMIN_KEY).send().await.names(pointer);
    }
    assert_eq!(seen().await, before);
}

pub async fn bad_input_of_sqs_is_refused_in_its_form(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, topic) = (gateway.key(&["links"]).await, unique("sqs"));
    let group = gateway.put(&format!("/api/topics/{topic}/groups/workers"));
    group.key(ADMIN_KEY).json(&json!({})).send().await.expect(201);
    let queue = format!("{topic}/workers");
    let before = everything(&gateway, &key, &topic).await;
    let invalid = "InvalidParameterValue";
    let late = json!({ "QueueUrl": queue, "ReceiptHandle": "1-0000000000000001", "VisibilityTimeout": 5 });
    let with = |member: &str, value: Value| {
        let mut document = json!({ "QueueUrl": queue, "MessageBody": "x" });
        document[member] = value;
        document
    };
    for (action, document, code) in [
        ("SendMessage", with("MessageBody", json!(7)), invalid),
        ("SendMessage", with("MessageBody", json!("")), invalid),
        (
            "SendMessage",
            with("MessageBody", Value::Null),
            "MissingParameter",
        ),
        ("SendMessage", with("DelaySeconds", json!(901)), invalid),
        ("SendMessage", with("DelaySeconds", json!(-1)), invalid),
        ("SendMessage", with("MessageGroupId", json!("a\nb")), invalid),
        ("SendMessage", with("MessageDeduplicationId", json!("é")), invalid),
        ("SendMessage", with("MessageAttributes", json!([])), invalid),
        (
            "SendMessage",
            with(
                "MessageAttributes",
                json!({ "a\r\nb": { "DataType": "String", "StringValue": "x" } }),
            ),
            invalid,
        ),
        (
            "SendMessage",
            with(
                "MessageAttributes",
                json!({ "a": { "DataType": "String", "StringValue": "x".repeat(9_000) } }),
            ),
            invalid,
        ),
        (
            "SendMessage",
            with("QueueUrl", json!("http://elsewhere/queue")),
            "AWS.SimpleQueueService.NonExistentQueue",
        ),
        (
            "SendMessageBatch",
            with("Entries", json!([])),
            "AWS.SimpleQueueService.EmptyBatchRequest",
        ),
        ("SendMessageBatch", with("Entries", json!({})), invalid),
        ("ReceiveMessage", with("MaxNumberOfMessages", json!(11)), invalid),
        ("ReceiveMessage", with("WaitTimeSeconds", json!(21)), invalid),
        (
            "ReceiveMessage",
            with("VisibilityTimeout", json!(43_201)),
            invalid,
        ),
        ("DeleteMessage", late.clone(), "ReceiptHandleIsInvalid"),
        ("ChangeMessageVisibility", late, "ReceiptHandleIsInvalid"),
        (
            "DeleteMessage",
            with("ReceiptHandle", json!("\u{0}")),
            "ReceiptHandleIsInvalid",
        ),
        (
            "GetQueueAttributes",
            with("AttributeNames", json!(["Size"])),
            "InvalidAttributeName",
        ),
        ("ListQueues", with("MaxResults", json!(0)), invalid),
        (
            "PurgeQueue",
            with("MessageBody", json!("x")),
            "AWS.SimpleQueueService.UnsupportedOperation",
        ),
        ("Surprise", json!({}), "InvalidAction"),
        ("SendMessage", json!([]), "MalformedInput"),
    ] {
        let call = gateway.post("/sqs").key(ADMIN_KEY);
        let call = call.header("x-amz-target", &format!("AmazonSQS.{action}"));
        let answer = call.json(&document).send().await;
        assert!(
            answer.status == 400,
            "{action} {document:.200}\n{}",
            answer.shown()
        );
        assert_eq!(
            answer.header("x-amzn-query-error"),
            format!("{code};Sender"),
            "{action} {document:.200}"
        );
    }
    // Without a key nothing is looked at.
    let stranger = gateway.post("/sqs").json(&json!({})).send().await;
    assert_eq!(
        stranger.expect(401).header("x-amzn-query-error"),
        "InvalidClientTokenId;Sender"
    );
    assert_eq!(everything(&gateway, &key, &topic).await, before);
}
