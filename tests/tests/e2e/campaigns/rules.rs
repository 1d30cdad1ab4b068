//! Which claims are admitted and when, and the refusals of the others.

use std::collections::BTreeSet;

use serde_json::json;

use super::{announced, claim, claims, state};
use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, in_seconds, unique};

pub async fn repeated_idempotency_key_replays_the_first_answer(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({})).await;
    let send = |key: &str| {
        let call = gateway
            .post(&claims(&campaign))
            .user("u")
            .header("idempotency-key", key);
        call.json(&json!({})).send()
    };
    let first = send("\"a-key\"").await.expect(201);
    assert_eq!(first.maybe_header("idempotency-replayed"), None);
    for _ in 0..3 {
        let replay = send("\"a-key\"").await.expect(201);
        assert_eq!(replay.body, first.body);
        assert_eq!(replay.header("idempotency-replayed"), "true");
    }
    let call = gateway
        .post(&claims(&campaign))
        .user("u")
        .header("idempotency-key", "\"a-key\"");
    call.send().await.problem(422, "idempotency-key-reused");
    send("\"another-key\"").await.problem(409, "already-claimed");
    send("not quoted").await.names("header:idempotency-key");
    // Keys are each user's own.
    let other = gateway
        .post(&claims(&campaign))
        .user("v")
        .header("idempotency-key", "\"a-key\"");
    let other = other.json(&json!({})).send().await.expect(201);
    assert_ne!(other.json()["claim"]["id"], first.json()["claim"]["id"]);
    assert_eq!(state(&gateway, &campaign).await["admitted"], 2);
}

pub async fn parallel_repetitions_of_one_request_are_one_claim(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({ "perUser": 5 })).await;
    let path = claims(&campaign);
    let answers = crowd(20, 0..20, |_| {
        let call = gateway
            .post(&path)
            .user("u")
            .header("idempotency-key", "\"once\"");
        call.json(&json!({})).send()
    })
    .await;
    let bodies: BTreeSet<_> = answers
        .into_iter()
        .map(|answer| answer.expect(201).body)
        .collect();
    assert_eq!(bodies.len(), 1);
    assert_eq!(state(&gateway, &campaign).await["admitted"], 1);
}

pub async fn claim_before_the_start_is_told_when_to_come_back(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway
        .campaign(5, json!({ "startsAt": in_seconds(3_600) }))
        .await;
    let early = claim(&gateway, &campaign, "u").await;
    early.problem(403, "not-started");
    let wait: u64 = early.header("retry-after").parse().expect("seconds");
    assert!((1..=3_600).contains(&wait), "{}", early.shown());
    let state = state(&gateway, &campaign).await;
    assert_eq!(
        (&state["state"], &state["admitted"]),
        (&json!("scheduled"), &json!(0))
    );
}

pub async fn campaign_starts_by_itself(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({ "startsAt": in_seconds(2) })).await;
    let admitted = crate::harness::eventually("the campaign starts", async || {
        let answer = claim(&gateway, &campaign, "u").await;
        if answer.status == 403 {
            answer.problem(403, "not-started");
            return None;
        }
        Some(answer)
    });
    admitted.await.expect(201);
}

pub async fn ended_and_closed_campaigns_admit_nobody(host: Host) {
    let gateway = Gateway::shared(host).await;
    let over = json!({ "startsAt": in_seconds(-7_200), "endsAt": in_seconds(-3_600) });
    let ended = gateway.campaign(5, over).await;
    claim(&gateway, &ended, "u").await.problem(403, "ended");
    assert_eq!(state(&gateway, &ended).await["state"], "ended");

    let closed = gateway.campaign(5, json!({})).await;
    let first = claim(&gateway, &closed, "early").await.expect(201).json();
    let path = format!("/api/campaigns/{closed}");
    let close = json!({ "state": "closed" });
    let view = gateway
        .patch(&path)
        .key(ADMIN_KEY)
        .json(&close)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!((&view["state"], &view["admitted"]), (&json!("closed"), &json!(1)));
    claim(&gateway, &closed, "late").await.problem(403, "ended");
    let again = claim(&gateway, &closed, "early")
        .await
        .problem(409, "already-claimed");
    assert_eq!(again["claim"]["id"], first["claim"]["id"]);
    assert_eq!(announced(&gateway, "coupon", &closed).await.len(), 1);
}

pub async fn quantity_goes_up_and_never_below_what_is_admitted(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(2, json!({})).await;
    let path = format!("/api/campaigns/{campaign}");
    let set = |quantity: u64| {
        gateway
            .patch(&path)
            .key(ADMIN_KEY)
            .json(&json!({ "quantity": quantity }))
            .send()
    };
    claim(&gateway, &campaign, "a").await.expect(201);
    claim(&gateway, &campaign, "b").await.expect(201);
    claim(&gateway, &campaign, "c").await.problem(410, "sold-out");
    let raised = set(4).await.expect(200).json();
    assert_eq!(
        (&raised["remaining"], &raised["state"]),
        (&json!(2), &json!("open"))
    );
    let third = claim(&gateway, &campaign, "c").await.expect(201).json();
    assert_eq!(third["claim"]["sequence"], 3);
    let refused = set(2).await;
    refused.problem(409, "conflict");
    refused.points_at("#/quantity");
    let lowered = set(3).await.expect(200).json();
    assert_eq!(
        (&lowered["remaining"], &lowered["state"]),
        (&json!(0), &json!("soldOut"))
    );
    claim(&gateway, &campaign, "d").await.problem(410, "sold-out");
    assert_eq!(state(&gateway, &campaign).await["admitted"], 3);
}

pub async fn per_user_allows_that_many_claims(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(10, json!({ "perUser": 3 })).await;
    let path = claims(&campaign);
    let answers = crowd(20, 0..20, |_| {
        gateway.post(&path).user("u").json(&json!({})).send()
    })
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 3);
    for answer in lost {
        answer.problem(409, "already-claimed");
    }
    let ids: BTreeSet<String> = won
        .iter()
        .map(|answer| answer.json()["claim"]["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 3);
    claim(&gateway, &campaign, "v").await.expect(201);
    let own = gateway
        .get(&format!("{path}/u"))
        .user("u")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(own["claims"].as_array().map(Vec::len), Some(3));
}

pub async fn claims_are_for_their_user_and_for_the_scope(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({})).await;
    gateway
        .post(&claims(&campaign))
        .json(&json!({}))
        .send()
        .await
        .problem(401, "user-required");
    let mine = claim(&gateway, &campaign, "mine").await.expect(201).json();
    let path = format!("{}/mine", claims(&campaign));
    let own = gateway.get(&path).user("mine").send().await.expect(200).json();
    assert_eq!(own["claims"][0]["id"], mine["claim"]["id"]);
    gateway
        .get(&path)
        .user("other")
        .send()
        .await
        .problem(403, "forbidden");
    gateway.get(&path).send().await.problem(401, "unauthorized");
    let key = gateway.key(&["campaigns"]).await;
    gateway.get(&path).key(&key).send().await.expect(200);
    let links = gateway.key(&["links"]).await;
    gateway
        .get(&path)
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
}

pub async fn generated_codes_differ(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(10, json!({ "codes": "generate" })).await;
    let mut codes = BTreeSet::new();
    for n in 0..10 {
        let body = claim(&gateway, &campaign, &format!("u{n}"))
            .await
            .expect(201)
            .json();
        codes.insert(body["claim"]["code"].as_str().expect("a code").to_owned());
    }
    assert_eq!(codes.len(), 10);
    let told = announced(&gateway, "coupon", &campaign).await;
    let told: BTreeSet<_> = told
        .iter()
        .filter_map(|m| m["data"]["code"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(told, codes);
}

pub async fn campaigns_are_listed_and_their_ids_are_taken_once(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["campaigns"]).await;
    let id = gateway.campaign(7, json!({})).await;
    let again = json!({ "id": id, "quantity": 1 });
    let taken = gateway.post("/api/campaigns").key(&key).json(&again).send().await;
    taken.problem(409, "conflict");
    taken.points_at("#/id");
    assert_eq!(state(&gateway, &id).await["quantity"], 7);
    let (mut found, mut cursor) = (0, String::new());
    loop {
        let page = gateway
            .get(&format!("/api/campaigns?limit=2{cursor}"))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json();
        let listed = page["campaigns"].as_array().expect("a page has campaigns");
        found += listed.iter().filter(|one| one["id"] == id.as_str()).count();
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, 1);
    claim(&gateway, &unique("nothing"), "u")
        .await
        .problem(404, "not-found");
}
