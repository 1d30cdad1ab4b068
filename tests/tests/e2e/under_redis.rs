//! Spin's application with its state in a Redis: what is Redis' own. (What any store that several share must do: `under_postgres`.)

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tollgate_contract::redis::{Redis, SYNCED};

use crate::harness::{Gateway, Host, crowd, eventually, free_port, unique};

const VISITS: usize = 500;

async fn server() -> Arc<Redis> {
    let started = tokio::task::spawn_blocking(|| Redis::start_on(free_port(), SYNCED)).await;
    Arc::new(started.unwrap().expect("cases for it run only where it is"))
}

/// A Redis that is killed and started again; connections that were kept are dead then, and Redis knows no script any more.
pub async fn requests_go_on_when_redis_is_back(host: Host) {
    let redis = server().await;
    let gateway = Gateway::start_at(host, &redis.url(0), "").await;
    let campaign = gateway.campaign(100, json!({})).await;
    let claim = async |user: &str| {
        let call = gateway.post(&format!("/api/campaigns/{campaign}/claims"));
        call.user(user).send().await
    };
    let mut admitted = BTreeSet::new();
    for n in 0..20 {
        let user = format!("before-{n}");
        claim(&user).await.expect(201);
        admitted.insert(user);
    }
    redis.order("stop");
    let refused = eventually("it is away", async || {
        let answer = claim(&unique("meanwhile")).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    // A problem document as any other: no word of Spin's, no address.
    let text = refused.text();
    for word in ["backtrace", "127.0.0.1", "redis://", "os error", "broken pipe"] {
        assert!(!text.contains(word), "{text}");
    }
    eventually("the log says why", async || {
        let said = gateway.stderr();
        assert!(!said.contains("redis://"), "{said}");
        said.contains("the store fails: ").then_some(())
    })
    .await;
    redis.order("start");
    eventually("it is back", async || {
        let answer = claim("after").await;
        (answer.status == 201 || answer.status == 409).then_some(())
    })
    .await;
    admitted.insert("after".to_owned());
    let messages = gateway.messages("coupon").await;
    let users = messages
        .iter()
        .filter_map(|message| message["data"]["user"].as_str());
    let users: BTreeSet<String> = users.map(str::to_owned).collect();
    assert!(users.is_superset(&admitted), "{users:?}");
}

/// Clicks are written after the response: without anything else that comes in.
pub async fn clicks_are_counted_without_a_further_request(host: Host) {
    let redis = server().await;
    let gateway = Gateway::start_at(host, &redis.url(0), "").await;
    let key = gateway.key(&["links"]).await;
    let body = json!({ "url": "https://example.com/", "code": "counted" });
    gateway
        .post("/api/links")
        .key(&key)
        .json(&body)
        .send()
        .await
        .expect(201);
    for answer in crowd(32, 0..VISITS, |_| gateway.get("/counted").send()).await {
        answer.expect(302);
    }
    let count = "local n = 0
        for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], '[visits/', '(visits0')) do
          n = n + tonumber(string.match(redis.call('HGET', KEYS[2], key), '(%d+)$'))
        end
        return n";
    let asked = ["EVAL", count, "2", "{tollgate}:keys", "{tollgate}:entries"];
    eventually("all are counted", async || {
        let redis = Arc::clone(&redis);
        let counted = tokio::task::spawn_blocking(move || redis.ask(0, &asked)).await;
        (counted.unwrap() == VISITS.to_string()).then_some(())
    })
    .await;
}

/// A Redis without an append-only file, or one that is synced once a second only, is complained of, in the component's log.
pub async fn a_redis_that_may_forget_is_complained_of(host: Host) {
    let started = tokio::task::spawn_blocking(|| Redis::start_on(free_port(), "")).await;
    let redis = started.unwrap().expect("cases for it run only where it is");
    let gateway = Gateway::start_at(host, &redis.url(0), "").await;
    gateway.get("/health/ready").send().await.expect(200);
    gateway.says("appendonly is not yes").await;
}

pub async fn a_wrong_password_is_told_and_shown_nowhere(host: Host) {
    let port = free_port();
    let started = move || Redis::start_on(port, "--requirepass the-right-one");
    let started = tokio::task::spawn_blocking(started).await;
    let _redis = started.unwrap().expect("cases for it run only where it is");
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{port}/0");
    let gateway = Gateway::start_at(host, &url("the-wrong-one"), "").await;
    let refused = gateway.get("/health/ready").send().await;
    assert_eq!(refused.status, 503);
    eventually("the log says why", async || {
        let said = gateway.stderr();
        assert!(!said.contains("the-wrong-one"), "{said}");
        said.contains("Redis refuses the user or the password")
            .then_some(())
    })
    .await;
    let gateway = Gateway::start_at(host, &url("the-right-one"), "").await;
    gateway.get("/health/ready").send().await.expect(200);
}
