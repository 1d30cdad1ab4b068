//! What is removed though nobody asks: on our own host by itself, under Spin by ticks and after responses.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, eventually, in_seconds, unique};

const SIGN_UPS: usize = 20;
/// Longer than the messages and links of these cases live.
const LIFE: Duration = Duration::from_millis(2_500);
/// A topic that keeps nothing for long, and links that are gone as soon as they end.
const SHORT: &str = "[topics.signup]\nretention = \"2s\"\n[links]\nkeep_expired = \"0s\"\n";

/// Signs up; gives the paths of the messages' records and who may read them.
async fn signed_up(gateway: &Gateway) -> Vec<(String, String)> {
    let mut records = Vec::new();
    for n in 0..SIGN_UPS {
        let client = unique("client");
        let call = gateway.post("/signup").client(&client).json(&json!({ "n": n }));
        let accepted = call.send().await.expect(202);
        records.push((accepted.header("location").to_owned(), client));
    }
    records
}

async fn topic(gateway: &Gateway) -> Value {
    let call = gateway.get("/api/topics/signup").key(ADMIN_KEY);
    call.send().await.expect(200).json()
}

async fn is_empty(gateway: &Gateway) -> bool {
    let topic = topic(gateway).await;
    topic["depth"] == 0 && topic["bytes"] == 0
}

/// Nothing of the messages is left, and the topic goes on where it was.
async fn all_gone(gateway: &Gateway, records: &[(String, String)]) {
    for (path, client) in records {
        let call = gateway.get(path).client(client);
        call.send().await.problem(404, "not-found");
    }
    let next = gateway.post("/signup").client(&unique("client")).json(&json!({}));
    assert_eq!(next.send().await.expect(202).json()["sequence"], SIGN_UPS + 1);
}

/// Only requests come in, as to any gateway; on Spin what is old goes after their response.
pub async fn a_topic_shrinks_to_its_retention_with_its_records(host: Host) {
    let gateway = Gateway::start(host, SHORT).await;
    let records = signed_up(&gateway).await;
    let (path, client) = &records[0];
    gateway.get(path).client(client).send().await.expect(200);
    assert_eq!(topic(&gateway).await["depth"], SIGN_UPS);
    eventually("the topic is empty", async || {
        is_empty(&gateway).await.then_some(())
    })
    .await;
    all_gone(&gateway, &records).await;
}

/// Under Spin one tick is enough. Our own host needs none, but some seconds.
pub async fn a_tick_removes_what_has_ended(host: Host) {
    let gateway = Gateway::start(host, SHORT).await;
    let key = gateway.key(&["links"]).await;
    let code = unique("ends");
    let create = |expires: Option<String>| {
        let body = json!({ "url": "https://example.com/", "code": code, "expiresAt": expires });
        gateway.post("/api/links").key(&key).json(&body)
    };
    create(Some(in_seconds(2))).send().await.expect(201);
    let records = signed_up(&gateway).await;
    tokio::time::sleep(LIFE).await;
    let tick = async || {
        let call = gateway.post("/api/relay/tick?budget=1").key(ADMIN_KEY);
        call.send().await.expect(200);
    };
    tick().await;
    if host.is_spin() {
        assert!(is_empty(&gateway).await, "{}", topic(&gateway).await);
        create(None).send().await.expect(201);
    } else {
        eventually("the topic is empty", async || {
            is_empty(&gateway).await.then_some(())
        })
        .await;
        eventually("the code is free", async || {
            let answer = create(None).send().await;
            (answer.status == 201).then_some(())
        })
        .await;
    }
    all_gone(&gateway, &records).await;
}

/// What a subscription has not had stays, however old it is.
pub async fn a_message_that_is_waited_for_outlives_its_retention(host: Host) {
    let waits = "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"https://not-allowed.example/\"\n\
                 retry = { initial = \"1h\", cap = \"1h\", max_attempts = 9 }\n";
    let gateway = Gateway::start(host, &[SHORT, waits].concat()).await;
    let records = signed_up(&gateway).await;
    tokio::time::sleep(LIFE).await;
    for _ in 0..2 {
        let call = gateway.post("/api/relay/tick?budget=1").key(ADMIN_KEY);
        call.send().await.expect(200);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    assert_eq!(topic(&gateway).await["depth"], SIGN_UPS);
    let (path, client) = &records[0];
    gateway.get(path).client(client).send().await.expect(200);
}
