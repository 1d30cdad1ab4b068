//! Spin's application with its state in a Postgres: several of it, beside gateways of a fleet.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_contract::postgres::Postgres;

use crate::harness::{
    ADMIN_KEY, Answer, Call, Gateway, Host, Origin, SECRET, crowd, eventually, free_port, unique,
};

const USERS: usize = 3_000;
const QUANTITY: u64 = 100;
const CONNECTIONS: usize = 64;

/// Lets a crowd claim at two places; each user asks both. Who did not get an answer asks again.
async fn rush(campaign: &str, bases: [String; 2]) -> Vec<Value> {
    let client = reqwest::Client::new();
    let path = format!("/api/campaigns/{campaign}/claims");
    let answers = crowd(CONNECTIONS, 0..2 * USERS, |number| {
        let url = format!("{}{path}", bases[number % 2]);
        let (client, path) = (client.clone(), format!("POST {path}"));
        async move {
            loop {
                let call = Call::new(client.request(Method::POST, &url), path.clone());
                let answer = call.user(&format!("user-{}", number / 2)).send().await;
                if answer.status != 503 {
                    return answer;
                }
            }
        }
    })
    .await;
    let admitted = answers.iter().filter(|answer| answer.status == 201);
    admitted.map(Answer::json).collect()
}

/// As many as there are, each once, numbered without a gap, and each with its message.
async fn check(gateway: &Gateway, campaign: &str, admitted: &[Value]) {
    let sequences: BTreeSet<u64> = admitted
        .iter()
        .filter_map(|claim| claim["claim"]["sequence"].as_u64())
        .collect();
    assert_eq!(admitted.len() as u64, QUANTITY);
    assert_eq!(sequences, (1..=QUANTITY).collect());
    let call = gateway.get(&format!("/api/campaigns/{campaign}")).key(ADMIN_KEY);
    let state = call.send().await.expect(200).json();
    assert_eq!(
        (&state["admitted"], &state["remaining"]),
        (&json!(QUANTITY), &json!(0))
    );
    let messages = gateway.messages("coupon").await;
    let of_it = messages
        .iter()
        .filter(|message| message["data"]["campaign"] == campaign);
    assert_eq!(of_it.count() as u64, QUANTITY);
}

pub async fn two_gateways_sell_exactly_what_there_is(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let campaign = gateway.campaign(QUANTITY, json!({})).await;
    let (mut second, base) = gateway.twin().await;
    let bases = [format!("http://{}", gateway.address()), base];
    let admitted = rush(&campaign, bases).await;
    second.kill();
    check(&gateway, &campaign, &admitted).await;
}

async fn server() -> Arc<Postgres> {
    let started = tokio::task::spawn_blocking(|| Postgres::start_on(free_port())).await;
    Arc::new(started.unwrap().expect("cases for it run only where it is"))
}

/// What one writes the other reads, and both sell from one stock.
pub async fn a_gateway_and_spin_share_one_truth(host: Host) {
    let database = server().await;
    let url = database.fresh_tcp();
    let gateway = Gateway::start_on(&url, "").await;
    let spin = Gateway::start_at(host, &url, "").await;
    let key = gateway.key(&["links"]).await;
    let body = json!({ "url": "https://example.com/of-the-gateway" });
    let made = gateway.post("/api/links").key(&key).json(&body).send().await;
    let made = made.expect(201).json();
    let path = format!("/{}", made["code"].as_str().expect("a code"));
    let led = spin.get(&path).send().await.expect(302);
    assert_eq!(led.header("location"), "https://example.com/of-the-gateway");
    let campaign = spin.campaign(QUANTITY, json!({})).await;
    eventually("the gateway knows the campaign", async || {
        let call = gateway.get(&format!("/api/campaigns/{campaign}")).key(ADMIN_KEY);
        (call.send().await.status == 200).then_some(())
    })
    .await;
    let bases = [&gateway, &spin].map(|one| format!("http://{}", one.address()));
    let admitted = rush(&campaign, bases).await;
    check(&gateway, &campaign, &admitted).await;
    check(&spin, &campaign, &admitted).await;
}

/// A database that is killed and started again; connections that were kept are dead then.
pub async fn requests_go_on_when_the_database_is_back(host: Host) {
    let database = server().await;
    let gateway = Gateway::start_at(host, &database.fresh_tcp(), "").await;
    let campaign = gateway.campaign(QUANTITY, json!({})).await;
    let claim = async |user: &str| {
        let call = gateway.post(&format!("/api/campaigns/{campaign}/claims"));
        call.user(user).send().await
    };
    claim("before").await.expect(201);
    database.order("stop");
    let refused = eventually("it is away", async || {
        let answer = claim(&unique("meanwhile")).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    // A problem document as any other: no word of Spin's, no address.
    let text = refused.text();
    for word in ["backtrace", "127.0.0.1", "postgres://", "Error {"] {
        assert!(!text.contains(word), "{text}");
    }
    database.order("start");
    eventually("it is back", async || {
        let answer = claim("after").await;
        (answer.status == 201 || answer.status == 409).then_some(())
    })
    .await;
    let messages = gateway.messages("coupon").await;
    let users: Vec<&Value> = messages.iter().map(|message| &message["data"]["user"]).collect();
    assert!(
        users.contains(&&json!("before")) && users.contains(&&json!("after")),
        "{users:?}"
    );
}

pub async fn sign_ups_are_delivered_from_a_shared_store(host: Host) {
    let origin = Origin::start().await;
    let settings = format!(
        "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\n",
        origin.url("/signups")
    );
    let gateway = Gateway::start(host, &settings).await;
    let mut accepted = BTreeSet::new();
    for n in 0..50 {
        let call = gateway
            .post("/signup")
            .client(&unique("client"))
            .json(&json!({ "n": n }));
        let answer = call.send().await.expect(202).json();
        accepted.insert(answer["id"].as_str().expect("an id").to_owned());
    }
    eventually("all are delivered", async || {
        let taken = origin.taken();
        let ids: BTreeSet<String> = taken.iter().map(|delivery| delivery.id().to_owned()).collect();
        (ids == accepted).then_some(())
    })
    .await;
}
