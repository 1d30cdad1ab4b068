//! Topics that are deleted, and what has their name next.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{page, post};
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, SECRET, crowd, eventually, unique};

fn path(topic: &str) -> String {
    format!("/api/topics/{topic}")
}

async fn delete(gateway: &Gateway, topic: &str) {
    let call = gateway.delete(&format!("{}?force=true", path(topic)));
    call.key(ADMIN_KEY).send().await.expect(204);
}

fn sequences(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("messages").iter();
    messages
        .map(|one| one["sequence"].as_u64().expect("a sequence"))
        .collect()
}

pub async fn a_deleted_topic_is_gone_and_its_name_starts_clean(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let topic = unique("gone").to_lowercase();
    let path = path(&topic);
    let accepted = post(&gateway, &topic, "a", json!(1)).await;
    post(&gateway, &topic, "b", json!(2)).await;
    let later = gateway
        .post(&format!("{path}/messages"))
        .key(ADMIN_KEY)
        .header("x-delay", "1");
    later.json(&json!("later")).send().await.expect(202);
    let group = format!("{path}/groups/workers");
    gateway.put(&group).key(ADMIN_KEY).send().await.expect(201);
    let lease = gateway.post(&format!("{group}/lease")).key(ADMIN_KEY);
    let leased = lease.json(&json!({ "limit": 1 })).send().await.expect(200).json();

    let links = gateway.key(&["links"]).await;
    gateway.delete(&path).send().await.problem(401, "unauthorized");
    gateway
        .delete(&path)
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
    let refused = gateway.delete(&path).key(ADMIN_KEY).send().await;
    let refused = refused.problem(409, "conflict");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("force=true")),
        "{refused}"
    );
    assert_eq!(sequences(&page(&gateway, &topic, "").await), [1, 2]);

    delete(&gateway, &topic).await;
    let record = format!("/api/messages/{}", accepted["id"].as_str().expect("an id"));
    for gone in [&path, &group, &record] {
        gateway
            .get(gone)
            .key(ADMIN_KEY)
            .send()
            .await
            .problem(404, "not-found");
    }
    // What was to come is kept until it would have come, and does not.
    delete_if_there(&gateway, &topic).await;
    assert_eq!(page(&gateway, &topic, "").await["messages"], json!([]));

    // Whatever happens to the process.
    gateway.kill();
    gateway.restart().await;
    gateway
        .get(&path)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    let next = post(&gateway, &topic, "a", json!(3)).await["sequence"].clone();
    assert!(next.as_u64() > Some(2), "sequences go on: {next}");
    gateway.put(&group).key(ADMIN_KEY).send().await.expect(201);
    let late = json!({ "leaseIds": [leased["leases"][0]["leaseId"]] });
    let ack = gateway.post(&format!("{group}/ack")).key(ADMIN_KEY).json(&late);
    ack.send().await.expect(200);
    let shown = gateway.get(&group).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&shown["lag"], &shown["leased"]),
        (&json!(1), &json!(0)),
        "{shown}"
    );
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    let lease = gateway.post(&format!("{group}/lease")).key(ADMIN_KEY);
    let leased = lease
        .json(&json!({ "limit": 10 }))
        .send()
        .await
        .expect(200)
        .json();
    let leased = leased["leases"].as_array().expect("leases").clone();
    assert_eq!(leased.len(), 1, "what was to come does not come: {leased:?}");
    assert_eq!(leased[0]["message"]["data"], 3);
    let topic = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&topic["first"], &topic["last"], &topic["depth"]),
        (&next, &next, &json!(1))
    );
}

pub async fn nothing_of_a_deleted_topic_is_delivered_to_who_has_its_name_next(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let gateway = Gateway::start(host, "").await;
    let topic = unique("pushed").to_lowercase();
    let subscription = format!("{}/subscriptions/origin", path(&topic));
    let body = json!({
        "url": origin.url("/hook"), "secret": SECRET, "allowPrivateAddresses": true,
        "retry": { "scheduleSeconds": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1] },
    });
    let subscribe = async || {
        gateway
            .put(&subscription)
            .key(ADMIN_KEY)
            .json(&body)
            .send()
            .await
            .expect(201)
    };
    subscribe().await;
    for number in 0..20 {
        post(&gateway, &topic, &format!("k{number}"), json!({ "old": number })).await;
    }
    eventually("deliveries are under way", async || {
        (origin.deliveries().len() > 3).then_some(())
    })
    .await;
    delete(&gateway, &topic).await;
    gateway
        .get(&subscription)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
    subscribe().await;
    let accepted = post(&gateway, &topic, "k1", json!({ "new": true })).await;
    // What was on its way when the topic was deleted has come to its end.
    eventually("nothing is under way", async || {
        (origin.under_way() == 0).then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let before = origin.deliveries().len();
    origin.answer(200);
    eventually("the new one is delivered", async || {
        let taken = origin.taken();
        taken.iter().any(|one| accepted["id"] == one.id()).then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let deliveries = origin.deliveries();
    let late: Vec<_> = deliveries[before..]
        .iter()
        .filter(|one| accepted["id"] != one.id())
        .collect();
    assert!(late.is_empty(), "{} of the deleted topic", late.len());
    let shown = gateway
        .get(&subscription)
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(shown["lag"], 0, "{shown}");
    let letters = gateway
        .get(&format!("{subscription}/dead-letters"))
        .key(ADMIN_KEY);
    assert_eq!(letters.send().await.expect(200).json()["deadLetters"], json!([]));
}

pub async fn posts_beside_deletions_are_kept_or_gone_and_never_come_back(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let topic = unique("beside").to_lowercase();
    post(&gateway, &topic, "a", json!("first")).await;
    let steps = crowd(8, 0..120_usize, |number| {
        let (gateway, topic) = (Arc::clone(&gateway), topic.clone());
        async move {
            if number % 12 == 11 {
                let call = gateway.delete(&path(&topic)).key(ADMIN_KEY);
                let answer = call.send().await;
                assert!(matches!(answer.status, 204 | 404), "{}", answer.shown());
                return None;
            }
            post(&gateway, &topic, "a", json!(number)).await["sequence"].as_u64()
        }
    })
    .await;
    let mut accepted: Vec<u64> = steps.into_iter().flatten().collect();
    accepted.sort_unstable();
    let is_single = accepted.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(
        is_single && accepted.len() == 110,
        "a sequence is given twice: {accepted:?}"
    );
    let newest = accepted.last().copied().unwrap_or(0);
    let left = sequences(&page(&gateway, &topic, "limit=1000").await);
    let from = left.first().copied().unwrap_or(u64::MAX);
    accepted.retain(|sequence| *sequence >= from);
    assert_eq!(
        left, accepted,
        "all that came after the last deletion, and nothing else"
    );
    delete_if_there(&gateway, &topic).await;
    let next = post(&gateway, &topic, "a", json!("last")).await["sequence"].as_u64();
    assert!(next > Some(newest), "{next:?} after {newest}");
    assert_eq!(sequences(&page(&gateway, &topic, "").await), next.as_slice());
}

async fn delete_if_there(gateway: &Gateway, topic: &str) {
    let answer = gateway.delete(&path(topic)).key(ADMIN_KEY).send().await;
    assert!(matches!(answer.status, 204 | 404), "{}", answer.shown());
}
