//! Campaigns: N units, one claim per user, each announced.

mod codes;
mod holds;
mod managing;
mod receipts;
mod rules;
mod waitlist;

pub use codes::*;
pub use holds::*;
pub use managing::*;
pub use receipts::*;
pub use rules::*;
pub use waitlist::*;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Host, Origin, SECRET, crowd, eventually};

fn claims(campaign: &str) -> String {
    format!("/api/campaigns/{campaign}/claims")
}

async fn claim(gateway: &Gateway, campaign: &str, user: &str) -> Answer {
    gateway
        .post(&claims(campaign))
        .user(user)
        .json(&json!({}))
        .send()
        .await
}

async fn state(gateway: &Gateway, campaign: &str) -> Value {
    gateway
        .get(&format!("/api/campaigns/{campaign}"))
        .send()
        .await
        .expect(200)
        .json()
}

/// The messages that announce a campaign's claims, in order.
async fn announced(gateway: &Gateway, topic: &str, campaign: &str) -> Vec<Value> {
    let mut messages = gateway.messages(topic).await;
    messages.retain(|message| message["data"]["campaign"] == campaign);
    messages
}

/// Every user of a crowd claims once. Gives the admitted claims by user; whoever is not admitted must be told that
/// all is sold out.
async fn rush(
    gateway: &Gateway,
    campaign: &str,
    users: usize,
    connections: usize,
) -> BTreeMap<String, Value> {
    let path = claims(campaign);
    let answers = crowd(connections, 0..users, |n| {
        gateway
            .post(&path)
            .user(&format!("user-{n}"))
            .json(&json!({}))
            .send()
    })
    .await;
    let mut admitted = BTreeMap::new();
    for (n, answer) in answers.into_iter().enumerate() {
        if answer.status == 201 {
            let body = answer.json();
            assert_eq!(body["outcome"], "admitted", "{}", answer.shown());
            assert_eq!(body["claim"]["user"], format!("user-{n}"), "{}", answer.shown());
            assert_eq!(body["claim"]["campaign"], campaign, "{}", answer.shown());
            admitted.insert(format!("user-{n}"), body["claim"].clone());
        } else {
            answer.problem(410, "sold-out");
        }
    }
    admitted
}

/// Sequences 1..=quantity without a gap, in claims or in announcements.
#[track_caller]
fn assert_dense<'a>(sequences: impl Iterator<Item = &'a Value>, quantity: u64) {
    let sequences: Vec<u64> = sequences
        .map(|s| s.as_u64().expect("a sequence is a number"))
        .collect();
    assert_eq!(sequences.len() as u64, quantity, "{sequences:?}");
    let distinct: BTreeSet<u64> = sequences.into_iter().collect();
    assert_eq!(
        distinct,
        (1..=quantity).collect(),
        "sequences have gaps or repetitions"
    );
}

/// State and queue agree: the messages tell exactly the admitted claims, in order of admission.
#[track_caller]
fn assert_announced(messages: &[Value], admitted: &BTreeMap<String, Value>) {
    assert_eq!(messages.len(), admitted.len());
    let mut last = 0;
    for message in messages {
        let data = &message["data"];
        let user = data["user"].as_str().expect("a claim has a user");
        let claim = admitted
            .get(user)
            .unwrap_or_else(|| panic!("nobody was admitted as {user}: {message}"));
        assert_eq!(message["type"], "coupon.claimed");
        assert_eq!(message["key"], user);
        assert_eq!(data["claim"], claim["id"]);
        assert_eq!(data["sequence"], claim["sequence"]);
        let sequence = data["sequence"].as_u64().expect("a sequence is a number");
        assert!(sequence > last, "announced out of order: {sequence} after {last}");
        last = sequence;
    }
}

pub async fn exactly_n_of_a_crowd_are_admitted(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (users, quantity, connections) = match host {
        Host::Native | Host::Memory => (2_000, 50, 64),
        Host::Spin | Host::SpinPostgres | Host::SpinRedis | Host::Components => (300, 20, 32),
    };
    let campaign = gateway.campaign(quantity, json!({})).await;
    let admitted = rush(&gateway, &campaign, users, connections).await;
    assert_eq!(admitted.len() as u64, quantity);
    assert_dense(admitted.values().map(|claim| &claim["sequence"]), quantity);
    assert_announced(&announced(&gateway, "coupon", &campaign).await, &admitted);
    let state = state(&gateway, &campaign).await;
    assert_eq!(
        (&state["admitted"], &state["remaining"]),
        (&json!(quantity), &json!(0))
    );
    assert_eq!(state["state"], "soldOut");
}

pub async fn ten_thousand_users_get_a_hundred_units_and_the_origin_hears_of_each(host: Host) {
    const USERS: usize = 10_000;
    const QUANTITY: u64 = 100;
    const CONNECTIONS: usize = 256;
    let origin = Origin::start().await;
    let settings = format!(
        "[[topics.coupon.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\n",
        origin.url("/coupons")
    );
    let gateway = Gateway::start(host, &settings).await;
    let campaign = gateway.campaign(QUANTITY, json!({})).await;
    let admitted = rush(&gateway, &campaign, USERS, CONNECTIONS).await;
    assert_eq!(admitted.len() as u64, QUANTITY);
    assert_dense(admitted.values().map(|claim| &claim["sequence"]), QUANTITY);
    assert_announced(&announced(&gateway, "coupon", &campaign).await, &admitted);
    let delivered = eventually("a hundred messages reach the origin", async || {
        let bodies = origin
            .taken()
            .into_iter()
            .map(|delivery| (delivery.id().to_owned(), delivery));
        let distinct: BTreeMap<_, _> = bodies.collect();
        (distinct.len() as u64 >= QUANTITY).then_some(distinct)
    })
    .await;
    assert_eq!(delivered.len() as u64, QUANTITY);
    for delivery in delivered.values() {
        assert!(delivery.is_signed(), "{delivery:?}");
        assert_eq!(
            (delivery.path.as_str(), delivery.header("ce-type")),
            ("/coupons", "coupon.claimed")
        );
        let data: Value = serde_json::from_slice(&delivery.body).expect("a claim is announced in JSON");
        let user = data["user"].as_str().expect("a claim has a user");
        assert_eq!(admitted[user]["id"], data["claim"]);
    }
}

pub async fn one_user_is_admitted_once_however_often_it_asks(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(10, json!({})).await;
    let path = claims(&campaign);
    let answers = crowd(50, 0..50, |_| {
        gateway.post(&path).user("the-same").json(&json!({})).send()
    })
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 1);
    let claim = won[0].json()["claim"].clone();
    for answer in lost {
        let problem = answer.problem(409, "already-claimed");
        assert_eq!(problem["claim"]["id"], claim["id"], "{}", answer.shown());
        assert_eq!(
            problem["claim"]["sequence"],
            claim["sequence"],
            "{}",
            answer.shown()
        );
    }
    assert_eq!(state(&gateway, &campaign).await["admitted"], 1);
    assert_eq!(announced(&gateway, "coupon", &campaign).await.len(), 1);
}
