//! The links that are visited most.

use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

use super::{code, link, managed, short};
use crate::harness::{ADMIN_KEY, EventStream, Gateway, Host, eventually, in_seconds};

const TOP: &str = "/api/links/top?window=1h";

/// Codes and visits.
async fn top(gateway: &Gateway, key: &str, query: &str) -> Vec<(String, u64)> {
    let answer = gateway
        .get(&format!("/api/links/top{query}"))
        .key(key)
        .send()
        .await;
    let answer = answer.expect(200).json();
    let links = answer["links"].as_array().expect("a list").iter();
    let one = |ranked: &Value| {
        (
            code(&ranked["link"]).to_owned(),
            ranked["visits"].as_u64().unwrap(),
        )
    };
    links.map(one).collect()
}

async fn visit(gateway: &Gateway, link: &Value, times: usize) {
    let path = short(link);
    for _ in 0..times.div_ceil(50) {
        join_all((0..50.min(times)).map(|_| gateway.get(&path).send())).await;
    }
}

pub async fn the_most_visited_links_are_ranked_live_and_by_owner(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let (mine, theirs) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let url = "https://example.com/";
    let few = link(&gateway, &mine, url, json!({})).await;
    let many = link(&gateway, &mine, url, json!({ "maxVisits": 1_000 })).await;
    let most = link(&gateway, &theirs, url, json!({})).await;
    let named = |of: &[(&Value, u64)]| -> Vec<(String, u64)> {
        of.iter()
            .map(|(link, visits)| (code(link).to_owned(), *visits))
            .collect()
    };
    assert_eq!(top(&gateway, ADMIN_KEY, "").await, []);
    visit(&gateway, &few, 50).await;
    visit(&gateway, &many, 100).await;
    let expected = named(&[(&many, 100), (&few, 50)]);
    eventually("the ranking tells of them", async || {
        (top(&gateway, &mine, "?window=1h").await == expected).then_some(())
    })
    .await;
    // It moves: 10,000 visits to a link of somebody else.
    visit(&gateway, &most, 10_000).await;
    let all = named(&[(&most, 10_000), (&many, 100), (&few, 50)]);
    eventually("the ranking has moved", async || {
        (top(&gateway, ADMIN_KEY, "?window=24h").await == all).then_some(())
    })
    .await;
    for window in ["1h", "24h", "7d"] {
        assert_eq!(top(&gateway, &mine, &format!("?window={window}")).await, expected);
        assert_eq!(
            top(&gateway, ADMIN_KEY, &format!("?window={window}&limit=1")).await,
            all[..1]
        );
    }
    // They are ranked before the store has them.
    eventually("as many are counted", async || {
        let shown = gateway.get(&managed(&most)).key(&theirs).send().await;
        (shown.expect(200).json()["visits"] == 10_000).then_some(())
    })
    .await;
    // A restart goes on.
    assert!(gateway.stop().await.success());
    gateway.restart().await;
    assert_eq!(top(&gateway, ADMIN_KEY, "").await, all);
    let refused = async |path: &str, at: &str| gateway.get(path).key(&mine).send().await.names(at);
    refused("/api/links/top?window=2h", "query:window").await;
    refused("/api/links/top?limit=101", "query:limit").await;
    refused("/api/links/top?since=1", "query:since").await;
    gateway.get(TOP).send().await.problem(401, "unauthorized");
    let other = gateway.key(&["campaigns"]).await;
    gateway
        .get(TOP)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .post(TOP)
        .key(&mine)
        .send()
        .await
        .problem(405, "method-not-allowed");
}

pub async fn links_that_lead_nowhere_are_not_ranked(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let made = async |more: Value| link(&gateway, ADMIN_KEY, "https://example.com/", more).await;
    let deleted = made(json!({ "code": "deleted" })).await;
    let archived = made(json!({ "code": "archived" })).await;
    let expired = made(json!({ "code": "expired" })).await;
    let _used_up = made(json!({ "code": "used-up", "maxVisits": 3 })).await;
    let _live = made(json!({ "code": "live" })).await;
    for (code, times) in [
        ("deleted", 6),
        ("archived", 5),
        ("expired", 4),
        ("used-up", 3),
        ("live", 2),
    ] {
        for _ in 0..times {
            gateway.get(&format!("/{code}")).send().await.expect(302);
        }
    }
    let codes = async || -> Vec<String> {
        let top = top(&gateway, ADMIN_KEY, "").await;
        top.into_iter().map(|(code, _)| code).collect()
    };
    eventually("all that redirect are ranked", async || {
        (codes().await == ["deleted", "archived", "expired", "live"]).then_some(())
    })
    .await;
    gateway
        .delete(&managed(&deleted))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(204);
    let edit = async |link: &Value, change: Value| {
        let edited = gateway.patch(&managed(link)).key(ADMIN_KEY).json(&change);
        edited.send().await.expect(200);
    };
    edit(&archived, json!({ "archived": true })).await;
    edit(&expired, json!({ "expiresAt": in_seconds(1) })).await;
    eventually("those that lead nowhere are gone", async || {
        (codes().await == ["live"]).then_some(())
    })
    .await;
    // The code again is another link, with no visits yet; the archived one comes back.
    made(json!({ "code": "deleted" })).await;
    edit(&archived, json!({ "archived": false })).await;
    assert_eq!(codes().await, ["archived", "live"]);
}

pub async fn the_ranking_is_told_as_it_moves(host: Host) {
    const SOON: Duration = Duration::from_secs(20);
    let gateway = Gateway::start(host, "").await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    let head = format!("authorization: Bearer {key}\r\naccept: text/event-stream\r\n");
    let mut stream = EventStream::open(&gateway, TOP, &head, SOON).await;
    let empty = |text: &str| {
        text.contains("event: ranking\ndata: {\"window\":\"1h\"") && text.contains("\"links\":[]}")
    };
    stream.until("it is told at once", empty).await;
    visit(&gateway, &link, 50).await;
    let moved = |text: &str| text.contains("{\"visits\":50,\"link\":{\"id\":");
    stream.until("visits are told", moved).await;
    // As many as may be, and no more; a place that is left can be taken.
    let mut others = Vec::new();
    for _ in 1..16 {
        let mut other = EventStream::open(&gateway, TOP, &head, SOON).await;
        other.until("it is told at once", moved).await;
        others.push(other);
    }
    let ask = || gateway.get(TOP).key(&key).header("accept", "text/event-stream");
    ask().send().await.problem(503, "unavailable");
    let unknown = gateway.get(TOP).key("tg_nobody_nobodynobodynobody");
    let unknown = unknown.header("accept", "text/event-stream");
    unknown.send().await.problem(401, "unauthorized");
    drop(others);
    eventually("a place is free", async || {
        let mut again = EventStream::open(&gateway, TOP, &head, SOON).await;
        again.until("an answer", |text| text.contains("\r\n\r\n")).await;
        again.text.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}
