//! Deliveries where nothing runs between requests: after a response, and by ticks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PATIENT, SIGN_UPS, all_delivered, one, sign_up, subscribed};
use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, eventually};

/// Attempts are short, so that a lease is over soon after a kill.
pub(super) const SHORT: &str =
    "timeout = \"1s\"\nretry = { initial = \"50ms\", factor = 1.5, cap = \"500ms\", max_attempts = 100 }";
/// How long an origin refuses after the last request came in.
const REFUSES: Duration = Duration::from_secs(3);

/// No request comes in any more, and the origin refuses for a while.
pub async fn deliveries_go_on_after_the_response_until_the_queue_is_empty(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, PATIENT)).await);
    let accepted = sign_up(&gateway, SIGN_UPS).await;
    tokio::time::sleep(REFUSES).await;
    assert_eq!(origin.taken().len(), 0);
    assert!(!origin.deliveries().is_empty(), "it was asked");
    origin.answer(204);
    all_delivered(&origin, &accepted).await;
    // One drain at a time: as little is sent twice as by our own host.
    assert_eq!(origin.taken().len(), SIGN_UPS);
}

async fn tick(gateway: &Gateway, budget: u64) -> Value {
    let call = gateway.post(&format!("/api/relay/tick?budget={budget}"));
    call.key(ADMIN_KEY).send().await.expect(200).json()
}

/// Spin is killed in the middle, and nobody comes again but the scheduler.
pub async fn ticks_alone_deliver_what_a_killed_gateway_left(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, SHORT)).await);
    let accepted = sign_up(&gateway, SIGN_UPS).await;
    gateway.kill();
    gateway.restart().await;
    let refused = origin.deliveries().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        origin.deliveries().len(),
        refused,
        "nothing runs before a request"
    );
    // The lease of the dead ends first.
    let ticked = eventually("a tick has the lease", async || {
        let ticked = tick(&gateway, 1).await;
        (ticked["elsewhere"] == 0).then_some(ticked)
    })
    .await;
    assert_eq!(ticked["delivered"], 0, "{ticked}");
    assert!(
        ticked["failed"].as_u64() > Some(0) && ticked["nextDueIn"].is_u64(),
        "{ticked}"
    );
    origin.refuse(30);
    let (mut delivered, began) = (0, Instant::now());
    while delivered < SIGN_UPS as u64 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{delivered} after a minute"
        );
        let ticked = tick(&gateway, 2).await;
        delivered += ticked["delivered"].as_u64().expect("a number");
    }
    all_delivered(&origin, &accepted).await;
    let idle = tick(&gateway, 20).await;
    assert_eq!(
        idle,
        serde_json::json!({ "delivered": 0, "failed": 0, "nextDueIn": null, "elsewhere": 0 })
    );
}

/// What a killed gateway left is delivered once somebody looks whether the next one is well.
pub async fn a_health_probe_starts_deliveries_again(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, SHORT)).await);
    let mut accepted = std::collections::BTreeMap::new();
    for n in 0..20 {
        let (sequence, id) = one(&gateway, n % 4, n).await;
        accepted.insert(sequence, id);
    }
    gateway.kill();
    origin.answer(204);
    gateway.restart().await;
    eventually("all is delivered", async || {
        gateway.get("/health/ready").send().await.expect(200);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (origin.taken().len() >= 20).then_some(())
    })
    .await;
    all_delivered(&origin, &accepted).await;
}

/// Who may ask for a tick, and how.
pub async fn a_tick_is_asked_for_with_a_key(host: Host) {
    let gateway = Gateway::shared(host).await;
    let path = "/api/relay/tick";
    let ticked = gateway.post(path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(ticked["delivered"], 0, "{ticked}");
    let topics = gateway.key(&["topics"]).await;
    gateway
        .get(&format!("{path}?budget=1"))
        .key(&topics)
        .send()
        .await
        .expect(200);
    gateway.post(path).send().await.problem(401, "unauthorized");
    gateway
        .get(&format!("{path}?secret=not-the-secret-of-anybody"))
        .send()
        .await
        .problem(401, "unauthorized");
    let links = gateway.key(&["links"]).await;
    gateway
        .post(path)
        .key(&links)
        .send()
        .await
        .problem(403, "forbidden");
    for query in [
        "budget=0",
        "budget=26",
        "budget=x",
        "budget=",
        "budget=1&budget=2",
        "other=1",
    ] {
        let call = gateway.post(&format!("{path}?{query}")).key(&topics);
        call.send().await.problem(400, "invalid-request");
    }
}

/// With the secret of a scheduler that sends nothing but a URL.
pub async fn a_secret_opens_the_tick_to_a_bare_get(host: Host) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(host, &subscribed(&origin, "")).await;
    let path = format!("/api/relay/tick?budget=1&secret={}", crate::harness::TICK_SECRET);
    let ticked = gateway.get(&path).send().await.expect(200).json();
    assert_eq!(ticked["elsewhere"], 0);
    gateway
        .get(&format!("{path}x"))
        .send()
        .await
        .problem(401, "unauthorized");
    // A credential that is sent is never ignored.
    let call = gateway.get(&path).key("a-key-that-nobody-has-ever-seen");
    call.send().await.problem(401, "unauthorized");
}

/// Spin connects to no host that its manifest does not name, and the failure says what to do.
pub async fn a_host_that_spin_does_not_allow_is_told(host: Host) {
    let settings = "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"https://not-allowed.example/x\"\n\
                    retry = { schedule = [] }\n";
    let gateway = Gateway::start(host, settings).await;
    one(&gateway, 1, 1).await;
    eventually("it is a dead letter", async || {
        let path = "/api/topics/signup/subscriptions/origin/dead-letters";
        let page = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
        let error = page["deadLetters"][0]["lastError"].as_str()?.to_owned();
        assert!(error.contains("tollgate_origin"), "{error}");
        Some(())
    })
    .await;
}
