//! What is kept of attempts, samples that are sent at once, and the pause after long failure.

use serde_json::{Value, json};
use std::time::Duration;

use super::subscribed;
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, Reply, eventually};

const ORIGIN: &str = "/api/topics/signup/subscriptions/origin";

async fn posted(gateway: &Gateway) -> String {
    let call = gateway.post("/api/topics/signup/messages").key(ADMIN_KEY);
    let answer = call.json(&json!({ "n": 1 })).send().await.expect(202).json();
    format!("/api/messages/{}", answer["id"].as_str().unwrap())
}

/// The delivery of a message, once it is so.
async fn delivery(gateway: &Gateway, path: &str, state: &str) -> Value {
    eventually("the delivery is so", async || {
        let record = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
        let delivery = record["deliveries"][0].clone();
        (delivery["state"] == state).then_some(delivery)
    })
    .await
}

pub async fn every_attempt_is_shown_with_its_answer_also_after_kill_nine(host: Host) {
    let origin = Origin::start().await;
    let seen = std::sync::atomic::AtomicU32::new(0);
    origin.behave(move |_| {
        let before = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::status(if before < 2 { 500 } else { 202 })
    });
    let retry = "retry = { initial = \"50ms\", factor = 1.0, cap = \"50ms\", max_attempts = 9 }";
    let gateway = Gateway::start(host, &subscribed(&origin, retry)).await;
    let path = posted(&gateway).await;
    let told = delivery(&gateway, &path, "delivered").await;
    let log = told["attemptLog"].as_array().unwrap();
    let of = |name: &str| log.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("number"), [1, 2, 3].map(Value::from), "{told:#}");
    assert_eq!(of("status"), [500, 500, 202].map(Value::from));
    assert_eq!(
        of("error"),
        [
            json!("the origin answered 500"),
            json!("the origin answered 500"),
            Value::Null
        ]
    );
    assert!(told["deliveredAt"].is_string(), "{told:#}");
    assert_eq!(log[0]["answer"], "origin says 500");
    gateway.kill();
    gateway.restart().await;
    assert_eq!(delivery(&gateway, &path, "delivered").await, told);
    let view = gateway.get(ORIGIN).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (
            &view["attemptsLastHour"],
            &view["failuresLastHour"],
            &view["failingSince"]
        ),
        (&json!(3), &json!(2), &Value::Null)
    );
    assert!(view["lastDeliveredAt"].is_string());
}

pub async fn a_sample_is_sent_at_once_and_changes_nothing(host: Host) {
    let origin = Origin::start().await;
    origin.answer(422);
    let gateway = Gateway::start(host, &subscribed(&origin, "")).await;
    let test = format!("{ORIGIN}/test");
    gateway
        .post(&format!("{ORIGIN}/pause"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200);
    let before = gateway.get(ORIGIN).key(ADMIN_KEY).send().await.expect(200).json();
    for _ in 0..7 {
        let told = gateway.post(&test).key(ADMIN_KEY).send().await.expect(200).json();
        assert_eq!(
            (&told["status"], &told["delivered"]),
            (&json!(422), &json!(false)),
            "{told}"
        );
        assert_eq!(told["error"], "the origin answered 422");
        let sent = origin.deliveries().pop().unwrap();
        assert_eq!(sent.id(), told["id"].as_str().unwrap());
        assert!(sent.is_signed());
        assert_eq!(sent.header("ce-type"), "tollgate.test");
    }
    origin.answer(204);
    let told = gateway.post(&test).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&told["status"], &told["delivered"]),
        (&json!(204), &json!(true)),
        "{told}"
    );
    origin.down().await;
    let told = gateway.post(&test).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&told["status"], &told["delivered"]),
        (&Value::Null, &json!(false)),
        "{told}"
    );
    // Neither progress nor breaker heard of it.
    let after = gateway.get(ORIGIN).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(after, before);
    assert!(gateway.messages("signup").await.is_empty());

    gateway.post(&test).send().await.problem(401, "unauthorized");
    let links = gateway.key(&["links"]).await;
    gateway
        .post(&test)
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
    let none = "/api/topics/signup/subscriptions/none/test";
    gateway
        .post(none)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    let bad = "/api/topics/Sign%20up/subscriptions/origin/test";
    gateway.post(bad).key(ADMIN_KEY).send().await.names("path:topic");
}

pub async fn nothing_but_failure_for_long_pauses_the_subscription(host: Host) {
    let origin = Origin::start().await;
    origin.answer(400);
    let more = "pause_after = \"1s\"\nretry = { initial = \"100ms\", factor = 1.0, cap = \"100ms\", max_attempts = 100 }";
    let gateway = Gateway::start(host, &subscribed(&origin, more)).await;
    let path = posted(&gateway).await;
    let paused = eventually("it is paused", async || {
        let view = gateway.get(ORIGIN).key(ADMIN_KEY).send().await.expect(200).json();
        (view["paused"] == true).then_some(view)
    })
    .await;
    assert_eq!(paused["pauseReason"], "failing");
    assert!(paused["failingSince"].is_string());
    let sent = origin.deliveries().len();
    assert!(sent >= 10, "{sent}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(origin.deliveries().len(), sent);
    origin.answer(200);
    let resume = gateway.post(&format!("{ORIGIN}/resume")).key(ADMIN_KEY);
    let resumed = resume.send().await.expect(200).json();
    assert_eq!(
        (&resumed["paused"], &resumed["pausedAt"]),
        (&json!(false), &Value::Null)
    );
    delivery(&gateway, &path, "delivered").await;
}
