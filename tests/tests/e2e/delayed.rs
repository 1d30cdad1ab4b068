//! Messages that are posted to come later.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, SECRET, eventually, unique};

async fn post(gateway: &Gateway, topic: &str, header: (&str, &str), body: &Value) -> Value {
    let call = gateway
        .post(&format!("/api/topics/{topic}/messages"))
        .key(ADMIN_KEY);
    let call = call.header(header.0, header.1).json(body);
    call.send().await.expect(202).json()
}

pub async fn a_message_comes_when_it_is_due_for_readers_and_consumers(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("later").to_lowercase();
    let group = format!("/api/topics/{topic}/groups/workers");
    gateway.put(&group).key(ADMIN_KEY).send().await.expect(201);
    let began = Instant::now();
    let later = post(&gateway, &topic, ("x-delay", "3"), &json!("later")).await;
    assert_eq!(later["sequence"], Value::Null);
    post(&gateway, &topic, ("x-delay", "0"), &json!("now")).await;
    let first = gateway.messages(&topic).await;
    assert_eq!((first.len(), &first[0]["data"]), (1, &json!("now")));
    let path = format!("/api/messages/{}", later["id"].as_str().unwrap());
    let record = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&record["sequence"], &record["deliverAt"]),
        (&Value::Null, &later["deliverAt"])
    );
    let both = eventually("it comes", async || {
        let both = gateway.messages(&topic).await;
        (both.len() == 2).then_some(both)
    })
    .await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2_900), "early: {took:?}");
    assert!(took <= Duration::from_millis(4_500), "late: {took:?}");
    assert_eq!(both[1]["data"], "later");
    let lease = gateway.post(&format!("{group}/lease")).key(ADMIN_KEY);
    let leases = lease.send().await.expect(200).json();
    assert_eq!(leases["leases"].as_array().unwrap().len(), 2);
    let record = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(record["sequence"], 2);
}

pub async fn bad_times_name_their_header(host: Host) {
    let gateway = Gateway::shared(host).await;
    let path = format!("/api/topics/{}/messages", unique("never").to_lowercase());
    for (name, value) in [
        ("x-delay", "-1"),
        ("x-delay", "2592001"),
        ("x-delay", "1e9"),
        ("x-deliver-at", "tomorrow"),
        ("x-deliver-at", "2999-01-01T00:00:00Z"),
    ] {
        let call = gateway
            .post(&path)
            .key(ADMIN_KEY)
            .header(name, value)
            .json(&json!(1));
        call.outside_contract()
            .send()
            .await
            .names(&format!("header:{name}"));
    }
}

pub async fn later_messages_reach_the_origin_on_time_across_kill_nine(host: Host) {
    const MESSAGES: usize = 40;
    let origin = Origin::start().await;
    let settings = format!(
        "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\n",
        origin.url("/signups")
    );
    let gateway = Gateway::start(host, &settings).await;
    let began = Instant::now();
    for number in 0..MESSAGES {
        let delay = if number.is_multiple_of(2) { "4" } else { "6" };
        post(
            &gateway,
            "signup",
            ("x-delay", delay),
            &json!({ "number": number, "delay": delay }),
        )
        .await;
    }
    let posted = began.elapsed();
    gateway.kill();
    gateway.restart().await;
    tokio::time::sleep(Duration::from_millis(4_200).saturating_sub(began.elapsed())).await;
    // In the middle of it.
    gateway.kill();
    gateway.restart().await;
    let all = eventually("all come", async || {
        let taken = origin.taken();
        let ids: std::collections::BTreeSet<&str> = taken.iter().map(|one| one.id()).collect();
        (ids.len() == MESSAGES).then(|| taken.clone())
    })
    .await;
    for delivery in &all {
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        let due = Duration::from_secs(body["delay"].as_str().unwrap().parse().unwrap());
        let at = delivery.at - began;
        assert!(at + Duration::from_millis(50) >= due, "{body} came after {at:?}");
        // The second start took its time.
        let most = due + posted + Duration::from_secs(if due.as_secs() == 4 { 4 } else { 1 });
        assert!(at <= most, "{body} came after {at:?}");
    }
    assert_eq!(gateway.messages("signup").await.len(), MESSAGES, "each once");
}
