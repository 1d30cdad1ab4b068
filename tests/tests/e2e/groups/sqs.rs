//! SQS's protocol: a session of AWS' own client, and what it sends, by hand.

use std::env;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, unique};

/// The interpreter that has boto3; without it the case is left out.
const BOTO3: &str = "TOLLGATE_BOTO3";

pub async fn boto3_has_a_session(host: Host) {
    let Some(python) = env::var_os(BOTO3) else {
        eprintln!(
            "{BOTO3} names no interpreter: skipped (python3 -m venv build/boto3 && build/boto3/bin/pip install -r tests/sqs/requirements.txt)"
        );
        return;
    };
    let gateway = Gateway::start(host, "").await;
    let mut command = Command::new(python);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("sqs/session.py"))
        .env("BASE", format!("http://{}", gateway.address()))
        .env("KEY", ADMIN_KEY)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = command.output().await.expect("python starts");
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "{}", said.concat());
    assert!(said[0].contains("the session is over"), "{}", said.concat());
}

async fn ask(gateway: &Gateway, path: &str, action: &str, document: &Value) -> Answer {
    let call = gateway.post(path).key(ADMIN_KEY);
    let call = call.header("x-amz-target", &format!("AmazonSQS.{action}"));
    call.json(document).send().await
}

pub async fn sqs_calls_send_lease_and_delete(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("sqs");
    let group = gateway.put(&format!("/api/topics/{topic}/groups/workers"));
    group.key(ADMIN_KEY).json(&json!({})).send().await.expect(201);
    let queue = format!("http://localhost:3000/sqs/{topic}/workers");
    let own = format!("/sqs/{topic}/workers");
    let sent = json!({ "QueueUrl": queue, "MessageBody": "hello" });
    // At the address of the endpoint, with and without a slash, and of the queue.
    for path in ["/sqs", "/sqs/", &own] {
        let sent = ask(&gateway, path, "SendMessage", &sent).await.expect(200).json();
        assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    }
    let asked = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20 });
    let received = ask(&gateway, &own, "ReceiveMessage", &asked)
        .await
        .expect(200)
        .json();
    let messages = received["Messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 3, "{received}");
    for message in messages {
        let done = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
        let deleted = ask(&gateway, "/sqs", "DeleteMessage", &done).await.expect(200);
        assert_eq!(
            (deleted.json(), deleted.header("cache-control")),
            (json!({}), "no-store")
        );
    }
    let none = json!({ "QueueUrl": queue, "ReceiptHandle": "none" });
    let refused = ask(&gateway, "/sqs", "DeleteMessage", &none).await.expect(400);
    assert_eq!(refused.header("content-type"), "application/x-amz-json-1.0");
    assert_eq!(
        refused.header("x-amzn-query-error"),
        "ReceiptHandleIsInvalid;Sender"
    );
    assert_eq!(
        refused.json()["__type"],
        "com.amazonaws.sqs#ReceiptHandleIsInvalid"
    );
    let wrong = gateway.get("/sqs").key(ADMIN_KEY).outside_contract().send().await;
    wrong.problem(405, "method-not-allowed");
    // The first segment is reserved.
    let code = json!({ "url": "https://example.com/", "code": "sqs" });
    let made = gateway.post("/api/links").key(ADMIN_KEY).json(&code).send().await;
    assert!((400..500).contains(&made.status), "{}", made.shown());
}
