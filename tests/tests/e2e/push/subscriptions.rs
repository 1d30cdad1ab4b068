//! Subscriptions made over HTTP.

use std::sync::Arc;

use serde_json::json;

use super::{all_delivered, sign_up, sign_up_after, subscribed};
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, SECRET, eventually};

const MADE: &str = "/api/topics/signup/subscriptions/made";

pub async fn subscription_made_over_http_is_served_like_one_of_the_file(host: Host) {
    let origin = Origin::start().await;
    origin.refuse(30);
    let gateway = Arc::new(Gateway::start(host, "").await);
    let mut accepted = sign_up_after(&gateway, 0, 10).await;
    let body = json!({
        "url": origin.url("/signups"), "secret": SECRET, "allowPrivateAddresses": true, "ratePerSecond": 2_000,
        "retry": { "initialSeconds": 1, "factor": 1.0, "capSeconds": 1, "maxAttempts": 50 },
    });
    let made = gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!((&made["name"], &made["source"]), (&json!("made"), &json!("api")));
    let topics = gateway.key(&["topics"]).await;
    let read = gateway.get(MADE).key(&topics).send().await.expect(200);
    assert!(
        !read.text().contains(SECRET),
        "a secret is in no answer: {}",
        read.shown()
    );
    accepted.extend(sign_up_after(&gateway, 10, 40).await);
    all_delivered(&origin, &accepted).await;

    // It survives a restart, with its secret.
    gateway.kill();
    gateway.restart().await;
    accepted.extend(sign_up_after(&gateway, 40, 60).await);
    all_delivered(&origin, &accepted).await;

    // Removed, it gets nothing more.
    gateway.delete(MADE).key(&topics).send().await.expect(204);
    gateway
        .get(MADE)
        .key(&topics)
        .send()
        .await
        .problem(404, "not-found");
    gateway.kill();
    gateway.restart().await;
    let late = sign_up_after(&gateway, 60, 61).await;
    let other = Origin::start().await;
    let body = json!({ "url": other.url("/signups"), "secret": SECRET, "allowPrivateAddresses": true });
    gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    eventually("its successor gets what came after it", async || {
        let (taken, id) = (other.taken(), late.values().next());
        taken
            .iter()
            .any(|delivery| Some(delivery.id()) == id.map(String::as_str))
            .then_some(())
    })
    .await;
    let id = late.values().next().expect("one was sent");
    assert!(origin.deliveries().iter().all(|delivery| delivery.id() != id));
}

pub async fn two_subscriptions_each_get_everything(host: Host) {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&one, super::PATIENT)).await);
    let body = json!({ "url": two.url("/signups"), "secret": SECRET, "allowPrivateAddresses": true });
    gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    one.down().await;
    let accepted = sign_up(&gateway, 50).await;
    all_delivered(&two, &accepted).await;
    one.up();
    all_delivered(&one, &accepted).await;
}

pub async fn subscriptions_to_private_addresses_take_an_admin(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topics = gateway.key(&["topics"]).await;
    let put = |key: &str, body: serde_json::Value| gateway.put(MADE).key(key).json(&body).send();
    for private in [
        "http://127.0.0.1:9/x",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://169.254.169.254/",
        "http://localhost/",
    ] {
        put(&topics, json!({ "url": private })).await.names("#/url");
        let allowing = json!({ "url": private, "allowPrivateAddresses": true });
        put(&topics, allowing).await.problem(403, "forbidden");
    }
    put(&topics, json!({ "url": "ftp://example.com/" }))
        .await
        .names("#/url");
    put(
        &topics,
        json!({ "url": "http://example.com/", "ratePerSecond": 0 }),
    )
    .await
    .names("#/ratePerSecond");
    put(
        &topics,
        json!({ "url": "http://example.com/", "secret": "short" }),
    )
    .await
    .names("#/secret");
    gateway
        .get(MADE)
        .key(&topics)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn an_old_name_made_anew_gets_its_own_messages(host: Host) {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::start(host, "").await;
    let put = async |origin: &Origin| {
        let body = json!({
            "url": origin.url("/signups"), "secret": SECRET, "allowPrivateAddresses": true, "ratePerSecond": 2_000,
        });
        gateway
            .put(MADE)
            .key(ADMIN_KEY)
            .json(&body)
            .send()
            .await
            .expect(201);
    };
    put(&one).await;
    let first = sign_up_after(&gateway, 0, 3).await;
    all_delivered(&one, &first).await;
    gateway.delete(MADE).key(ADMIN_KEY).send().await.expect(204);
    let between = sign_up_after(&gateway, 3, 4).await;
    put(&two).await;
    let then = sign_up_after(&gateway, 4, 7).await;
    eventually("the new one gets what came after it", async || {
        let taken = two.taken();
        let has = |id: &String| taken.iter().any(|delivery| delivery.id() == id);
        then.values().all(has).then_some(())
    })
    .await;
    let stray = |id: &String| one.deliveries().iter().any(|delivery| delivery.id() == id);
    assert!(
        !between.values().chain(then.values()).any(stray),
        "nothing starts after the 204"
    );
}

/// What a subscription says of its deliveries reaches the origin, and nothing else does.
pub async fn deliveries_are_what_the_subscription_says(host: Host) {
    let origin = Origin::start().await;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let before = sign_up_after(&gateway, 0, 3).await;
    let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let put = async |name: &str, more: serde_json::Value| {
        let mut body =
            json!({ "url": origin.url(&format!("/{name}")), "secret": old, "allowPrivateAddresses": true });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let path = format!("/api/topics/signup/subscriptions/{name}");
        gateway
            .put(&path)
            .key(ADMIN_KEY)
            .json(&body)
            .send()
            .await
            .expect(201);
    };
    let rotation = json!({ "secret": SECRET, "previousSecret": old, "previousSecretUntil": "2099-01-01T00:00:00Z",
        "headers": { "authorization": "Bearer of-the-origin" }, "startFrom": "newest" });
    put("rotates", rotation).await;
    put("refers", json!({ "payload": "reference", "startFrom": 2 })).await;
    put("filters", json!({ "filter": { "types": ["coupon.*"] } })).await;
    put("slow", json!({ "ratePerSecond": 0.01 })).await;
    let after = sign_up_after(&gateway, 3, 4).await;
    let id = after.values().next().expect("one was sent");
    let at = |path: &str| {
        let all = origin.taken().into_iter();
        all.filter(|delivery| delivery.path == path).collect::<Vec<_>>()
    };
    eventually("all that are to come", async || {
        (at("/rotates").len() == 1 && at("/refers").len() == 3 && at("/slow").len() == 1).then_some(())
    })
    .await;
    let rotated = &at("/rotates")[0];
    assert_eq!(
        (rotated.id(), rotated.header("authorization")),
        (id.as_str(), "Bearer of-the-origin")
    );
    assert!(rotated.is_signed());
    assert_eq!(rotated.header("webhook-signature").split(' ').count(), 2);
    let refers = at("/refers");
    assert_eq!(refers.len(), 3);
    // They are not ordered: several are under way at once.
    let told = refers
        .iter()
        .map(|delivery| serde_json::from_slice::<serde_json::Value>(&delivery.body).expect("it is JSON"))
        .find(|told| told["id"] == json!(id))
        .expect("it is told of the last");
    assert_eq!(told["sequence"], json!(4));
    assert_eq!(
        (refers[2].header("ce-path"), refers[2].header("ce-partitionkey")),
        ("", "")
    );
    let path = told["url"]
        .as_str()
        .and_then(|url| url.split_once("/api/"))
        .expect("a URL")
        .1
        .to_owned();
    let fetched = gateway
        .get(&format!("/api/{path}"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (
            &fetched["messages"][0]["id"],
            fetched["messages"].as_array().unwrap().len()
        ),
        (&json!(id), 1)
    );
    let filtered = gateway
        .get("/api/topics/signup/subscriptions/filters")
        .key(ADMIN_KEY);
    assert_eq!(
        filtered.send().await.expect(200).json()["lag"],
        0,
        "what is not wanted is finished"
    );
    let record = gateway
        .get(&format!("/api/messages/{id}"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert!(
        record["deliveries"].as_array().unwrap().contains(
            &json!({ "subscription": "filters", "state": "filtered", "attempts": null,
        "nextAttemptAt": null, "lastError": null, "attemptLog": [], "deliveredAt": null })
        ),
        "{record}"
    );
    // What was there is not sent to one that began later, also after a restart.
    gateway.kill();
    gateway.restart().await;
    let last = sign_up_after(&gateway, 4, 5).await;
    eventually("the next one", async || (at("/rotates").len() >= 2).then_some(())).await;
    let ids: Vec<String> = at("/rotates").iter().map(|one| one.id().to_owned()).collect();
    assert!(ids.contains(last.values().next().unwrap()) && !before.values().any(|id| ids.contains(id)));
    assert!(at("/filters").is_empty());
}

/// One request for several messages, in order per key, also where one of them is refused.
pub async fn messages_come_in_batches_and_a_bad_one_spoils_no_other(host: Host) {
    let origin = Origin::start().await;
    let array = |body: &[u8]| serde_json::from_slice::<Vec<serde_json::Value>>(body).expect("an array");
    origin.behave(move |delivery| {
        let bad = array(&delivery.body).iter().any(|one| one["data"]["n"] == 7);
        crate::harness::Reply::status(if bad { 422 } else { 204 })
    });
    let gateway = Arc::new(Gateway::start(host, "").await);
    let accepted = sign_up_after(&gateway, 0, 30).await;
    let body = json!({ "url": origin.url("/batches"), "secret": SECRET, "allowPrivateAddresses": true, "batch": 10, "batchInterval": 0.1,
        "retry": { "final": [422] } });
    let made = gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!(
        (&made["batch"], &made["batchInterval"]),
        (&json!(10), &json!(0.1))
    );
    let letters = eventually("all but one are taken, and that is a dead letter", async || {
        let taken: usize = origin.taken().iter().map(|one| array(&one.body).len()).sum();
        let letters = gateway
            .get(&format!("{MADE}/dead-letters"))
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json();
        (taken >= 29
            && letters["deadLetters"]
                .as_array()
                .is_some_and(|all| all.len() == 1))
        .then_some(letters)
    })
    .await;
    assert_eq!(letters["deadLetters"][0]["attempts"], 1);
    let mut seen = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for delivery in origin.taken() {
        assert!(
            delivery.is_signed() && delivery.header("ce-type") == "tollgate.batch",
            "{delivery:?}"
        );
        let messages = array(&delivery.body);
        assert!(messages.len() <= 10);
        let ids: Vec<&str> = messages.iter().filter_map(|one| one["id"].as_str()).collect();
        assert_eq!(delivery.header("tollgate-message-ids"), ids.join(","));
        for one in &messages {
            let sequence = one["sequence"].as_u64().expect("a number");
            assert_eq!(accepted[&sequence], one["id"].as_str().expect("a text"));
            seen.entry(one["key"].to_string()).or_default().push(sequence);
        }
    }
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 29);
    assert!(seen.values().all(|of_key| of_key.is_sorted()), "{seen:?}");
    assert!(origin.taken().len() < 29, "they come together");
}
