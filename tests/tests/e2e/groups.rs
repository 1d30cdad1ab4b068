//! Consumer groups: messages that consumers lease and acknowledge.

mod sqs;

pub use sqs::*;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, eventually, unique};

/// Posts messages, each without an ordering key or with that one.
async fn post(gateway: &Gateway, topic: &str, keys: &[Option<&str>]) {
    for (number, key) in keys.iter().enumerate() {
        let path = format!("/api/topics/{topic}/messages");
        let mut call = gateway.post(&path).key(ADMIN_KEY);
        if let Some(key) = key {
            call = call.header("x-partition-key", key);
        }
        call.json(&json!({ "number": number })).send().await.expect(202);
    }
}

/// A topic with messages and a group.
async fn group(gateway: &Gateway, keys: &[Option<&str>], settings: Value) -> String {
    let topic = unique("jobs");
    post(gateway, &topic, keys).await;
    let path = format!("/api/topics/{topic}/groups/workers");
    gateway
        .put(&path)
        .key(ADMIN_KEY)
        .json(&settings)
        .send()
        .await
        .expect(201);
    topic
}

async fn call(gateway: &Gateway, topic: &str, call: &str, body: Value) -> Value {
    let path = format!("/api/topics/{topic}/groups/workers/{call}");
    gateway
        .post(&path)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(200)
        .json()
}

/// Sequences and lease ids.
async fn lease(gateway: &Gateway, topic: &str, body: Value) -> BTreeMap<u64, String> {
    let answer = call(gateway, topic, "lease", body).await;
    let leases = answer["leases"].as_array().expect("leases").iter();
    leases
        .map(|lease| {
            let id = lease["leaseId"].as_str().expect("an id");
            (
                lease["message"]["sequence"].as_u64().expect("a sequence"),
                id.to_owned(),
            )
        })
        .collect()
}

fn sequences(leases: &BTreeMap<u64, String>) -> Vec<u64> {
    leases.keys().copied().collect()
}

pub async fn consumers_share_a_topic_and_a_late_ack_is_told(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = group(&gateway, &[None; 5], json!({})).await;
    let first = lease(&gateway, &topic, json!({ "limit": 2, "leaseSeconds": 1 })).await;
    let second = lease(&gateway, &topic, json!({ "limit": 10, "leaseSeconds": 60 })).await;
    assert_eq!(
        (sequences(&first), sequences(&second)),
        (vec![1, 2], vec![3, 4, 5])
    );
    let acked = call(
        &gateway,
        &topic,
        "ack",
        json!({ "leaseIds": [first[&1], second[&3], second[&5]] }),
    )
    .await;
    assert_eq!(acked, json!({ "acked": 3, "expired": [] }));
    // Long enough for the lease to run out while somebody waits.
    let again = lease(&gateway, &topic, json!({ "limit": 10, "wait": 10 })).await;
    assert_eq!(sequences(&again), [2]);
    let late = call(&gateway, &topic, "ack", json!({ "leaseIds": [first[&2]] })).await;
    assert_eq!(late, json!({ "acked": 0, "expired": [first[&2]] }));
    let held = call(
        &gateway,
        &topic,
        "extend",
        json!({ "leaseIds": [again[&2]], "leaseSeconds": 90 }),
    )
    .await;
    assert_eq!(held["extended"], 1);
    call(
        &gateway,
        &topic,
        "ack",
        json!({ "leaseIds": [again[&2], second[&4]] }),
    )
    .await;
    let path = format!("/api/topics/{topic}/groups/workers");
    let view = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&view["lag"], &view["leased"], &view["next"]),
        (&json!(0), &json!(0), &json!(6)),
        "{view}"
    );
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    gateway
        .get(&path)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn a_key_has_one_message_out_and_refused_ones_become_dead_letters(host: Host) {
    let gateway = Gateway::shared(host).await;
    let keys = [Some("a"), Some("a"), Some("b"), None];
    let topic = group(&gateway, &keys, json!({ "maxAttempts": 1 })).await;
    let first = lease(&gateway, &topic, json!({ "limit": 10 })).await;
    assert_eq!(sequences(&first), [1, 3, 4]);
    call(
        &gateway,
        &topic,
        "ack",
        json!({ "leaseIds": [first[&3], first[&4]] }),
    )
    .await;
    assert!(lease(&gateway, &topic, json!({})).await.is_empty());
    call(
        &gateway,
        &topic,
        "nack",
        json!({ "leaseIds": [first[&1]], "delaySeconds": 600 }),
    )
    .await;
    let path = format!("/api/topics/{topic}/groups/workers/dead-letters");
    let dead = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(dead["deadLetters"][0]["sequence"], 1, "{dead}");
    assert_eq!(dead["deadLetters"][0]["message"]["data"], json!({ "number": 0 }));
    assert_eq!(sequences(&lease(&gateway, &topic, json!({})).await), [2]);
    let redriven = call(&gateway, &topic, "dead-letters/redrive", json!({ "all": true })).await;
    assert_eq!(redriven["redriven"], 1);
    let again = lease(&gateway, &topic, json!({ "leaseSeconds": 1 })).await;
    assert_eq!(sequences(&again), [1]);
    call(&gateway, &topic, "nack", json!({ "leaseIds": [again[&1]] })).await;
    let removed = gateway
        .delete(&path)
        .key(ADMIN_KEY)
        .json(&json!({ "all": true }))
        .send()
        .await;
    assert_eq!(removed.expect(200).json(), json!({ "removed": 1, "more": false }));
}

pub async fn a_consumer_that_waits_gets_the_message_when_it_arrives(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let topic = group(&gateway, &[], json!({})).await;
    let began = Instant::now();
    let waits = lease(&gateway, &topic, json!({ "wait": 20 }));
    let posts = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        post(&gateway, &topic, &[None]).await;
    };
    let (leases, ()) = tokio::join!(waits, posts);
    assert_eq!(sequences(&leases), [1]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let began = Instant::now();
    assert!(lease(&gateway, &topic, json!({ "wait": 1 })).await.is_empty());
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

pub async fn many_consumers_at_once_get_every_message_once(host: Host) {
    const MESSAGES: usize = 200;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let topic = group(&gateway, &[None; MESSAGES], json!({})).await;
    let consumers = crowd(6, 0..6, |_| {
        let (gateway, topic) = (Arc::clone(&gateway), topic.clone());
        async move {
            let mut seen = Vec::new();
            loop {
                let leases = lease(&gateway, &topic, json!({ "limit": 7, "leaseSeconds": 600 })).await;
                if leases.is_empty() {
                    return seen;
                }
                let ids: Vec<_> = leases.values().collect();
                let acked = call(&gateway, &topic, "ack", json!({ "leaseIds": ids })).await;
                assert_eq!(acked["acked"], ids.len(), "{acked}");
                seen.extend(sequences(&leases));
            }
        }
    });
    let mut seen: Vec<u64> = consumers.await.into_iter().flatten().collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=MESSAGES as u64).collect::<Vec<_>>());
}

/// What was acknowledged before the process was killed is not leased again; what was not, is, and nothing is lost.
pub async fn leases_and_acknowledgements_survive_kill_nine(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let topic = group(&gateway, &[None; 30], json!({ "maxAttempts": 100 })).await;
    let mut acked = BTreeSet::new();
    for _ in 0..5 {
        let leases = lease(&gateway, &topic, json!({ "limit": 10, "leaseSeconds": 1 })).await;
        let some: Vec<_> = leases.iter().take(4).collect();
        let ids: Vec<_> = some.iter().map(|(_, id)| id).collect();
        if !ids.is_empty() {
            let answer = call(&gateway, &topic, "ack", json!({ "leaseIds": ids })).await;
            let late = answer["expired"].as_array().expect("a list");
            let done = some.iter().filter(|(_, id)| !late.contains(&json!(id)));
            for (sequence, _) in done {
                assert!(acked.insert(**sequence), "{sequence} was acknowledged twice");
            }
        }
        gateway.kill();
        gateway.restart().await;
    }
    eventually("everything is leased until it is acknowledged", async || {
        let leases = lease(&gateway, &topic, json!({ "limit": 50, "leaseSeconds": 600 })).await;
        let ids: Vec<_> = leases.values().collect();
        if !ids.is_empty() {
            let answer = call(&gateway, &topic, "ack", json!({ "leaseIds": ids })).await;
            assert_eq!(answer["acked"], ids.len());
        }
        for sequence in leases.keys() {
            assert!(acked.insert(*sequence), "{sequence} was acknowledged twice");
        }
        (acked.len() == 30).then_some(())
    })
    .await;
}
