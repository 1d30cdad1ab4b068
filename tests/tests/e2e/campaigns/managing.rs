//! Campaigns as their operators see them: lists, exports, live numbers; changes, and removal.

use std::time::Duration;

use serde_json::{Value, json};

use super::{claim, claims, state};
use crate::harness::{ADMIN_KEY, EventStream, Gateway, Host, unique};

pub async fn claims_are_listed_and_exported_page_by_page(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({ "holdSeconds": 600 })).await;
    let key = gateway.key(&["campaigns"]).await;
    for user in ["ann", "=bob", "c,leo"] {
        claim(&gateway, &campaign, user).await.expect(201);
    }
    let path = claims(&campaign);
    gateway
        .get(&path)
        .user("ann")
        .send()
        .await
        .problem(401, "unauthorized");
    let mut users = Vec::new();
    let mut query = "?limit=2&status=held".to_owned();
    for _ in 0..3 {
        let page = gateway
            .get(&format!("{path}{query}"))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json();
        let found = page["claims"].as_array().expect("a list");
        users.extend(
            found
                .iter()
                .map(|claim| claim["user"].as_str().expect("a user").to_owned()),
        );
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&status=held&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(users, ["=bob", "ann", "c,leo"]);
    let export = |media: &'static str| gateway.get(&path).key(&key).header("accept", media).send();
    let table = export("text/csv").await.expect(200);
    assert!(
        table.header("content-type").starts_with("text/csv"),
        "{}",
        table.shown()
    );
    let table = table.text();
    assert!(
        table.contains(",'=bob,") && table.contains(",\"c,leo\","),
        "{table}"
    );
    let lines = export("application/x-ndjson").await.expect(200).text();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    assert_eq!(lines.filter(|claim| claim["status"] == "held").count(), 3);
}

pub async fn dry_run_says_what_a_claim_is_answered(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(1, json!({})).await;
    let path = format!("{}/eligibility", claims(&campaign));
    let check = async |user: &str| gateway.get(&path).user(user).send().await.expect(200).json();
    assert_eq!(check("ann").await["eligible"], true);
    assert_eq!(state(&gateway, &campaign).await["admitted"], 0);
    claim(&gateway, &campaign, "ann").await.expect(201);
    for (user, slug) in [("ann", "already-claimed"), ("bob", "sold-out")] {
        let told = check(user).await;
        let answer = claim(&gateway, &campaign, user).await;
        assert_eq!(
            told["problem"],
            answer.problem(told["problem"]["status"].as_u64().expect("a status") as u16, slug)
        );
    }
    gateway.get(&path).send().await.problem(401, "user-required");
}

pub async fn campaign_is_opened_again_and_removed(host: Host) {
    let gateway = Gateway::shared(host).await;
    let topic = unique("sale");
    let body = json!({ "topic": topic, "title": "Spring sale" });
    let campaign = gateway.campaign(2, body).await;
    let path = format!("/api/campaigns/{campaign}");
    let patch = async |body: Value| gateway.patch(&path).key(ADMIN_KEY).json(&body).send().await;
    let delete = async || gateway.delete(&path).key(ADMIN_KEY).send().await;
    patch(json!({ "state": "closed" })).await.expect(200);
    claim(&gateway, &campaign, "ann").await.problem(403, "ended");
    let opened = patch(json!({ "state": "open" })).await.expect(200).json();
    assert_eq!(
        (&opened["state"], &opened["title"]),
        (&json!("open"), &json!("Spring sale"))
    );
    let untitled = patch(json!({ "title": null })).await.expect(200).json();
    assert_eq!(untitled["title"], Value::Null);
    patch(json!({ "startsAt": "2999-01-01T00:00:00Z" }))
        .await
        .expect(200);
    claim(&gateway, &campaign, "ann")
        .await
        .problem(403, "not-started");
    patch(json!({ "startsAt": null })).await.expect(200);
    claim(&gateway, &campaign, "ann").await.expect(201);
    delete().await.problem(409, "conflict");
    patch(json!({ "state": "closed" })).await.expect(200);
    // Its topic still tells of the claim.
    delete().await.problem(409, "conflict");
    let unused = gateway.campaign(2, json!({})).await;
    let unused = format!("/api/campaigns/{unused}");
    gateway.delete(&unused).send().await.problem(401, "unauthorized");
    gateway.delete(&unused).key(ADMIN_KEY).send().await.expect(204);
    gateway.get(&unused).send().await.problem(404, "not-found");
    gateway
        .delete(&unused)
        .key(ADMIN_KEY)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn numbers_of_a_campaign_are_sent_as_they_change(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(2, json!({})).await;
    let path = format!("/api/campaigns/{campaign}");
    let patience = Duration::from_secs(10);
    let mut stream = EventStream::open(&gateway, &path, "accept: text/event-stream\r\n", patience).await;
    stream
        .until("the numbers at once", |text| {
            text.contains("event: campaign") && text.contains("\"remaining\":2")
        })
        .await;
    claim(&gateway, &campaign, "ann").await.expect(201);
    stream
        .until("the claim", |text| text.contains("\"remaining\":1"))
        .await;
    claim(&gateway, &campaign, "bob").await.expect(201);
    stream
        .until("the end", |text| text.contains("\"state\":\"soldOut\""))
        .await;
    let none = gateway
        .get("/api/campaigns/none-of-this-name")
        .header("accept", "text/event-stream");
    none.send().await.problem(404, "not-found");
}

pub async fn only_listed_users_may_claim(host: Host) {
    let gateway = Gateway::shared(host).await;
    let campaign = gateway.campaign(5, json!({})).await;
    let path = format!("/api/campaigns/{campaign}/eligible");
    let key = gateway.key(&["campaigns"]).await;
    let put = async |change: Value| gateway.put(&path).key(&key).json(&change).send().await;
    // More than a usual body may hold.
    let many: Vec<_> = (0..8_000).map(|n| format!("user-number-{n}")).collect();
    let many = if host.is_spin() { &many[..500] } else { &many[..] };
    let changed = put(json!({ "replace": many })).await.expect(200).json();
    assert_eq!(
        (&changed["restricted"], &changed["added"]),
        (&json!(true), &json!(many.len()))
    );
    claim(&gateway, &campaign, "ann")
        .await
        .problem(403, "not-eligible");
    claim(&gateway, &campaign, "user-number-499").await.expect(201);
    put(json!({ "add": ["ann"], "remove": ["user-number-7"] }))
        .await
        .expect(200);
    claim(&gateway, &campaign, "ann").await.expect(201);
    claim(&gateway, &campaign, "user-number-7")
        .await
        .problem(403, "not-eligible");
    put(json!({ "add": ["two words"] })).await.names("#/add/0");
    gateway
        .put(&path)
        .json(&json!({ "add": ["ann"] }))
        .send()
        .await
        .problem(401, "unauthorized");
    put(json!({ "replace": null })).await.expect(200);
    claim(&gateway, &campaign, "zoe").await.expect(201);
}
