//! Messages that the origin does not take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENT, all_delivered, sign_up_after, subscribed};
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, Reply, eventually};

const SUBSCRIPTION: &str = "/api/topics/signup/subscriptions/origin";

async fn dead_letters(gateway: &Gateway) -> Vec<Value> {
    let path = format!("{SUBSCRIPTION}/dead-letters");
    let page = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    page["deadLetters"]
        .as_array()
        .expect("a page has dead letters")
        .clone()
}

async fn redrive(gateway: &Gateway, body: Value) -> Value {
    let path = format!("{SUBSCRIPTION}/dead-letters/redrive");
    gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(200)
        .json()
}

pub async fn refused_messages_become_dead_letters_and_are_redriven(host: Host) {
    let origin = Origin::start().await;
    origin.answer(400);
    let retry = "retry = { initial = \"50ms\", factor = 1.0, cap = \"50ms\", max_attempts = 2 }";
    let gateway = Gateway::start(host, &subscribed(&origin, retry)).await;
    let accepted = sign_up_after(&gateway, 0, 5).await;
    let dead = eventually("all five are given up", async || {
        Some(dead_letters(&gateway).await).filter(|dead| dead.len() == 5)
    })
    .await;
    assert_eq!(origin.deliveries().len(), 10, "two attempts each");
    for (letter, (sequence, id)) in dead.iter().zip(&accepted) {
        assert_eq!(
            (&letter["id"], &letter["sequence"]),
            (&json!(id), &json!(sequence)),
            "{letter}"
        );
        assert_eq!(
            (&letter["attempts"], &letter["message"]["id"]),
            (&json!(2), &json!(id)),
            "{letter}"
        );
        assert!(
            letter["lastError"]
                .as_str()
                .is_some_and(|error| error.contains("400")),
            "{letter}"
        );
        let record = gateway
            .get(&format!("/api/messages/{id}"))
            .client("shop")
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(record["deliveries"][0]["state"], "dead", "{record}");
    }
    // Repaired: first one by its id, then all that are left.
    origin.answer(204);
    let first = accepted.values().next().expect("five were accepted");
    assert_eq!(redrive(&gateway, json!({ "ids": [first] })).await["redriven"], 1);
    eventually("the one is delivered", async || {
        (origin.taken().len() == 1).then_some(())
    })
    .await;
    assert_eq!(origin.taken()[0].id(), first);
    assert_eq!(redrive(&gateway, json!({ "all": true })).await["redriven"], 4);
    all_delivered(&origin, &accepted).await;
    assert!(dead_letters(&gateway).await.is_empty());
    eventually("the record says delivered", async || {
        let record = gateway
            .get(&format!("/api/messages/{first}"))
            .client("shop")
            .send()
            .await
            .expect(200)
            .json();
        (record["deliveries"][0]["state"] == "delivered").then_some(())
    })
    .await;
}

/// A message that waits for an hour is tried at once, and what was delivered is delivered again.
pub async fn what_waits_is_tried_at_once_and_the_past_is_replayed(host: Host) {
    let origin = Origin::start().await;
    origin.answer(500);
    let retry = "retry = { initial = \"1h\", factor = 1.0, cap = \"1h\", max_attempts = 9 }";
    let gateway = Gateway::start(host, &subscribed(&origin, retry)).await;
    let accepted = sign_up_after(&gateway, 0, 3).await;
    let view = async || {
        gateway
            .get(SUBSCRIPTION)
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json()
    };
    eventually("all three wait", async || {
        (origin.deliveries().len() == 3).then_some(())
    })
    .await;
    eventually("the view says why", async || {
        let view = view().await;
        let told = view["lastError"]
            .as_str()
            .is_some_and(|error| error.contains("500"));
        (told && view["oldestWaiting"].is_string()).then_some(())
    })
    .await;
    origin.answer(204);
    let path = format!("{SUBSCRIPTION}/retry-now");
    gateway.post(&path).key(ADMIN_KEY).send().await.expect(200);
    all_delivered(&origin, &accepted).await;
    eventually("nothing waits", async || {
        let view = view().await;
        (view["lag"] == 0 && view["lastError"].is_null() && view["oldestWaiting"].is_null()).then_some(())
    })
    .await;
    let from = accepted.keys().nth(1).expect("three were accepted");
    let path = format!("{SUBSCRIPTION}/replay");
    let replayed = gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&json!({ "fromSequence": from }))
        .send()
        .await;
    assert_eq!(
        replayed.expect(200).json(),
        json!({ "replayed": 2, "nextSequence": null })
    );
    eventually("two are delivered again", async || {
        (origin.taken().len() == 5).then_some(())
    })
    .await;
}

pub async fn failing_origin_ends_in_dead_letters_too(host: Host) {
    let origin = Origin::start().await;
    origin.answer(500);
    let retry = "retry = { schedule = [\"50ms\"] }";
    let gateway = Gateway::start(host, &subscribed(&origin, retry)).await;
    let accepted = sign_up_after(&gateway, 0, 2).await;
    eventually("both are given up", async || {
        (dead_letters(&gateway).await.len() == 2).then_some(())
    })
    .await;
    gateway.kill();
    gateway.restart().await;
    assert_eq!(dead_letters(&gateway).await.len(), 2, "dead letters are durable");
    origin.answer(204);
    redrive(&gateway, json!({ "all": true })).await;
    all_delivered(&origin, &accepted).await;
}

pub async fn gone_pauses_the_subscription_until_it_is_resumed(host: Host) {
    let origin = Origin::start().await;
    origin.answer(410);
    let gateway = Gateway::start(host, &subscribed(&origin, PATIENT)).await;
    let mut accepted = sign_up_after(&gateway, 0, 1).await;
    eventually("the subscription pauses", async || {
        let view = gateway
            .get(SUBSCRIPTION)
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json();
        (view["paused"] == true).then_some(())
    })
    .await;
    origin.answer(204);
    accepted.extend(sign_up_after(&gateway, 1, 10).await);
    // The pause outlives the process.
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    let view = gateway
        .get(SUBSCRIPTION)
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!((&view["paused"], &view["lag"]), (&json!(true), &json!(10)));
    assert!(origin.taken().is_empty(), "nothing is sent while it is paused");
    gateway
        .post(&format!("{SUBSCRIPTION}/resume"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200);
    all_delivered(&origin, &accepted).await;
    assert!(dead_letters(&gateway).await.is_empty(), "410 costs no attempt");
}

pub async fn pause_over_http_holds_messages_back(host: Host) {
    let origin = Origin::start().await;
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, PATIENT)).await);
    let paused = gateway
        .post(&format!("{SUBSCRIPTION}/pause"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(paused["paused"], true);
    // A restart reads it for certain; the running relay follows within a second.
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    let accepted = sign_up_after(&gateway, 0, 10).await;
    assert!(origin.deliveries().is_empty());
    gateway
        .post(&format!("{SUBSCRIPTION}/resume"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200);
    all_delivered(&origin, &accepted).await;
}

pub async fn retry_after_is_heeded(host: Host) {
    const WAIT: u64 = 2;
    let origin = Origin::start().await;
    let asked = AtomicBool::new(false);
    origin.behave(move |_| match asked.swap(true, Ordering::Relaxed) {
        false => Reply {
            retry_after: Some(WAIT),
            ..Reply::status(429)
        },
        true => Reply::status(204),
    });
    let gateway = Gateway::start(host, &subscribed(&origin, PATIENT)).await;
    let accepted = sign_up_after(&gateway, 0, 1).await;
    all_delivered(&origin, &accepted).await;
    let times: Vec<Instant> = origin.deliveries().iter().map(|delivery| delivery.at).collect();
    assert_eq!(times.len(), 2);
    // The gateway counts from when it read the answer, so the wait here cannot be shorter; clocks may differ a little.
    let waited = times[1] - times[0];
    assert!(
        waited >= Duration::from_secs(WAIT) - Duration::from_millis(50),
        "{waited:?}"
    );
}

pub async fn a_final_status_is_a_dead_letter_at_once(host: Host) {
    let origin = Origin::start().await;
    origin.answer(422);
    let retry =
        "retry = { initial = \"50ms\", factor = 1.0, cap = \"50ms\", max_attempts = 100, final = [422] }";
    let gateway = Gateway::start(host, &subscribed(&origin, retry)).await;
    let accepted = sign_up_after(&gateway, 0, 3).await;
    let dead = eventually("all three are given up", async || {
        Some(dead_letters(&gateway).await).filter(|dead| dead.len() == 3)
    })
    .await;
    assert!(dead.iter().all(|letter| letter["attempts"] == 1), "{dead:?}");
    assert_eq!(origin.deliveries().len(), 3);
    origin.answer(204);
    redrive(&gateway, json!({ "all": true })).await;
    all_delivered(&origin, &accepted).await;
}

pub async fn an_open_breaker_is_shown_and_reset_over_http(host: Host) {
    let origin = Origin::start().await;
    origin.behave(|_| Reply {
        retry_after: Some(3_600),
        ..Reply::status(503)
    });
    let gateway = Gateway::start(host, &subscribed(&origin, PATIENT)).await;
    // Without a key: none waits behind another.
    let mut accepted = Vec::new();
    for n in 0..20 {
        let taken = gateway
            .post("/signup")
            .json(&json!({ "n": n }))
            .send()
            .await
            .expect(202)
            .json();
        accepted.push(taken["id"].as_str().expect("a message has an id").to_owned());
    }
    let view = eventually("the breaker opens", async || {
        let view = gateway.get(SUBSCRIPTION).key(ADMIN_KEY).send().await;
        Some(view.expect(200).json()["breaker"].clone()).filter(|breaker| breaker["state"] == "open")
    })
    .await;
    assert!(
        view["until"].is_string() && view["why"].as_str().is_some_and(|why| why.contains("503")),
        "{view}"
    );
    let reset = format!("{SUBSCRIPTION}/reset-breaker");
    gateway.post(&reset).send().await.problem(401, "unauthorized");
    let links = gateway.key(&["links"]).await;
    gateway
        .post(&reset)
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .get(&reset)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(405, "method-not-allowed");
    let other = "/api/topics/signup/subscriptions/other/reset-breaker";
    gateway
        .post(other)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    let refused: BTreeSet<_> = origin
        .deliveries()
        .iter()
        .map(|delivery| delivery.id().to_owned())
        .collect();
    assert!(refused.len() < accepted.len());
    origin.answer(204);
    let shown = gateway
        .post(&reset)
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(shown["breaker"]["state"], "closed");
    // Those that were refused wait for as long as the origin asked; the others go out.
    eventually("the others are delivered", async || {
        let taken: BTreeSet<_> = origin
            .taken()
            .iter()
            .map(|delivery| delivery.id().to_owned())
            .collect();
        accepted
            .iter()
            .all(|id| taken.contains(id) || refused.contains(id))
            .then_some(())
    })
    .await;
}
