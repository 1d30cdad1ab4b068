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
