//! The line of a campaign that is sold out: what comes back goes to the next in it, once, and to nobody else.

use std::time::Duration;

use serde_json::{Value, json};

use super::holds::{held, settle};
use super::{announced, claim, claims, state};
use crate::harness::{Answer, Gateway, Host, crowd, eventually};

async fn line(gateway: &Gateway, campaign: &str, user: &str, method: &str) -> Answer {
    let path = format!("/api/campaigns/{campaign}/waitlist");
    let call = match method {
        "POST" => gateway.post(&path),
        "DELETE" => gateway.delete(&path),
        _ => gateway.get(&path),
    };
    call.user(user).send().await
}

/// The user's claims: their ids and what has become of each.
async fn of(gateway: &Gateway, campaign: &str, user: &str) -> Vec<(String, String)> {
    let path = format!("{}/{user}", claims(campaign));
    let answer = gateway.get(&path).user(user).send().await;
    if answer.status == 404 {
        return Vec::new();
    }
    let answer = answer.expect(200).json();
    let text = |claim: &Value, name: &str| claim[name].as_str().expect("a text").to_owned();
    let all = answer["claims"].as_array().expect("a list").iter();
    all.map(|claim| (text(claim, "id"), text(claim, "status")))
        .collect()
}

fn position(answer: &Answer) -> Value {
    answer.json()["position"].clone()
}

pub async fn what_comes_back_goes_to_the_next_in_line(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway
        .campaign(2, json!({ "holdSeconds": 600, "waitlist": true }))
        .await;
    let early = line(&gateway, &campaign, "bob", "POST").await;
    assert_eq!(early.problem(409, "conflict")["remaining"], 2);
    let (ann, amy) = (
        held(&gateway, &campaign, "ann").await,
        held(&gateway, &campaign, "amy").await,
    );
    for (user, place) in [("bob", 1), ("cleo", 2), ("dan", 3)] {
        let joined = line(&gateway, &campaign, user, "POST").await.expect(201);
        assert_eq!(position(&joined), place, "{user}");
        let again = line(&gateway, &campaign, user, "POST").await.expect(200);
        assert_eq!(position(&again), place, "{user}");
    }
    line(&gateway, &campaign, "ann", "POST")
        .await
        .problem(409, "already-claimed");
    line(&gateway, &campaign, "cleo", "DELETE").await.expect(204);
    line(&gateway, &campaign, "cleo", "DELETE").await.expect(204);
    assert_eq!(
        position(&line(&gateway, &campaign, "cleo", "GET").await),
        Value::Null
    );
    assert_eq!(position(&line(&gateway, &campaign, "dan", "GET").await), 2);
    // Who asks for a claim overtakes nobody.
    let refused = claim(&gateway, &campaign, "eve").await;
    refused.problem(410, "sold-out");
    settle(&gateway, &campaign, "ann", &ann, "release")
        .await
        .expect(200);
    let bob = of(&gateway, &campaign, "bob").await;
    assert_eq!(bob.len(), 1, "{bob:?}");
    assert_eq!(bob[0].1, "held");
    assert_eq!(position(&line(&gateway, &campaign, "dan", "GET").await), 1);
    claim(&gateway, &campaign, "eve").await.problem(410, "sold-out");
    settle(&gateway, &campaign, "bob", &bob[0].0, "confirm")
        .await
        .expect(200);
    settle(&gateway, &campaign, "amy", &amy, "release")
        .await
        .expect(200);
    assert_eq!(of(&gateway, &campaign, "dan").await.len(), 1);
    assert_eq!(line(&gateway, &campaign, "dan", "GET").await.json()["waiting"], 0);
    let told = announced(&gateway, "coupon", &campaign).await;
    let claimed = told.iter().filter(|message| message["type"] == "coupon.claimed");
    let users: Vec<&str> = claimed
        .map(|message| message["data"]["user"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(users, ["ann", "amy", "bob", "dan"]);
    let without = gateway.campaign(1, json!({ "holdSeconds": 600 })).await;
    line(&gateway, &without, "bob", "POST")
        .await
        .problem(409, "conflict");
    line(&gateway, "nowhere", "bob", "POST")
        .await
        .problem(404, "not-found");
}

/// Many give back at once, the gateway dies in between, and each unit is offered once.
pub async fn a_line_outlives_a_kill_and_each_unit_is_offered_once(host: Host) {
    const UNITS: usize = 6;
    let gateway = Gateway::start(host, "").await;
    let campaign = gateway
        .campaign(
            UNITS as u64,
            json!({ "holdSeconds": 600, "waitlist": true, "perUser": 1 }),
        )
        .await;
    let mut holders = Vec::new();
    for number in 0..UNITS {
        let user = format!("holder-{number}");
        holders.push((user.clone(), held(&gateway, &campaign, &user).await));
    }
    let waiters: Vec<String> = (0..10).map(|number| format!("waiter-{number:02}")).collect();
    let path = format!("/api/campaigns/{campaign}/waitlist");
    let join = |user: String| gateway.post(&path).user(&user).send();
    let joined = crowd(10, waiters.clone(), join).await;
    assert!(joined.iter().all(|answer| answer.status == 201));
    let (first, rest) = holders.split_at(UNITS / 2);
    let release = |(user, id): (String, String)| {
        let path = format!("{}/{id}/release", claims(&campaign));
        gateway.post(&path).user(&user).send()
    };
    let released = crowd(4, first.to_vec(), release).await;
    assert!(released.iter().all(|answer| answer.status == 200));
    gateway.kill();
    gateway.restart().await;
    let told = line(&gateway, &campaign, &waiters[0], "GET")
        .await
        .expect(200)
        .json();
    assert_eq!(told["waiting"], 10 - UNITS as u64 / 2, "{told}");
    let released = crowd(4, rest.to_vec(), release).await;
    assert!(released.iter().all(|answer| answer.status == 200));
    eventually("every unit is offered", async || {
        let now = state(&gateway, &campaign).await;
        (now["held"] == UNITS as u64 && now["remaining"] == 0).then_some(())
    })
    .await;
    let mut offered = 0;
    for user in &waiters {
        let claims = of(&gateway, &campaign, user).await;
        assert!(claims.len() <= 1, "{user}: {claims:?}");
        offered += claims.len();
    }
    assert_eq!(offered, UNITS);
    let told = announced(&gateway, "coupon", &campaign).await;
    let claimed = told.iter().filter(|message| message["type"] == "coupon.claimed");
    assert_eq!(claimed.count(), 2 * UNITS);
    // A moment later nothing more has come of it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(&gateway, &campaign).await["held"], UNITS as u64);
}
