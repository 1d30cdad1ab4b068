//! Messages pushed to a real origin: every one, in order per key, whatever the origin and the gateway go through.

mod attempts;
mod dead_letters;
mod overflow;
mod sinks;
mod subscriptions;
mod under_spin;
mod values;

pub use attempts::*;
pub use dead_letters::*;
pub use overflow::*;
pub use sinks::*;
pub use subscriptions::*;
pub use under_spin::*;
pub use values::*;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Delivery, Gateway, Host, Origin, Reply, SECRET, crowd, eventually, node};

const SIGN_UPS: usize = 200;
/// Messages of one key are in order; there are so many keys.
const KEYS: usize = 10;
/// How long a client waits before it posts again, when nobody answered.
const PAUSE: Duration = Duration::from_millis(20);

/// A subscription of the topic `signup` that tries again soon; `more` is TOML that is added.
fn subscribed(origin: &Origin, more: &str) -> String {
    format!(
        "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\nrate_per_second = 2000\n{more}\n",
        origin.url("/signups")
    )
}

/// Retries fast enough for a test, and often enough for a bad origin.
const PATIENT: &str = "retry = { initial = \"50ms\", factor = 1.5, cap = \"500ms\", max_attempts = 100 }";

/// Signs up `count` people, in order per key: each key's next sign-up begins when the one before is accepted. Asks
/// again, under the same idempotency key, while nobody answers. Gives ids by sequence.
async fn sign_up(gateway: &Arc<Gateway>, count: usize) -> BTreeMap<u64, String> {
    let accepted = crowd(KEYS, 0..KEYS, |key| {
        let gateway = Arc::clone(gateway);
        async move {
            let mut accepted = Vec::new();
            for n in (key..count).step_by(KEYS) {
                accepted.push(one(&gateway, key, n).await);
            }
            accepted
        }
    })
    .await;
    accepted.into_iter().flatten().collect()
}

/// What a gateway is asked for is told to the origin whole.
pub async fn a_request_reaches_the_origin_with_its_query_coding_and_headers(host: Host) {
    let origin = Origin::start().await;
    let route = "[[forward]]\npath = \"/hooks/...\"\nmethods = [\"*\"]\ntopic = \"signup\"\nheaders = [\"x-github-*\"]\n";
    let gateway = Gateway::start(host, &format!("{route}{}", subscribed(&origin, ""))).await;
    gateway.build_route("/hooks/...").await;
    let zipped: &[u8] = b"\x1f\x8b\x08 not really";
    let call = gateway
        .put("/hooks/push?a=1&b=%20")
        .header("content-encoding", "gzip")
        .header("content-type", "application/json")
        .header("x-github-event", "push")
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        )
        .header("x-other", "no");
    call.body(zipped).send().await.expect(202);
    let taken = eventually("it is delivered", async || origin.taken().into_iter().next()).await;
    assert_eq!(taken.body, zipped);
    for (name, value) in [
        ("ce-method", "PUT"),
        ("ce-path", "/hooks/push"),
        ("ce-query", "a=1&b=%2520"),
        ("content-encoding", "gzip"),
        ("x-github-event", "push"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ),
    ] {
        assert_eq!(taken.header(name), value, "{name}");
    }
    let read = gateway.messages("signup").await.remove(0);
    assert_eq!(read["request"]["query"], "a=1&b=%20");
    assert_eq!(read["request"]["headers"]["x-github-event"], "push");
    assert!(read["key"].is_null());
}

/// Stripe's scheme: `t=…,v1=…`, HMAC-SHA-256 of `<t>.<body>` by the text of the secret.
fn stripe_signature(secret: &str, at: u64, body: &[u8]) -> String {
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={at},v1={hex}")
}

const STRIPE_SECRET: &str = "whsec_of_the_stripe_account";

fn of_stripe() -> String {
    format!(
        "[[forward]]\npath = \"/hooks/stripe\"\ntopic = \"signup\"\ntype = \"stripe.event\"\nverify = \"stripe\"\n\
         secret = \"{STRIPE_SECRET}\"\nheaders = [\"stripe-signature\"]\n"
    )
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_secs()
}

/// What is signed is taken; what is not, or was too long ago, is 401 and no message.
pub async fn a_signed_webhook_is_taken_and_a_false_one_is_401(host: Host) {
    let gateway = Gateway::start(host, &of_stripe()).await;
    gateway.build_route("/hooks/stripe").await;
    let (now, body) = (unix_seconds(), br#"{"id":"evt_1"}"#);
    let send = async |signature: &str| {
        let call = gateway
            .post("/hooks/stripe")
            .header("stripe-signature", signature);
        call.body(&body[..]).send().await
    };
    send(&stripe_signature(STRIPE_SECRET, now, body))
        .await
        .expect(202);
    for signature in [
        stripe_signature("whsec_of_somebody_else", now, body),
        stripe_signature(STRIPE_SECRET, now - 400, body),
        stripe_signature(STRIPE_SECRET, now, b"{}"),
        "t=0".to_owned(),
    ] {
        send(&signature).await.problem(401, "invalid-signature");
    }
    let unsigned = gateway.post("/hooks/stripe").body(&body[..]);
    unsigned.send().await.problem(401, "invalid-signature");
    let read = gateway.messages("signup").await;
    assert_eq!((read.len(), &read[0]["type"]), (1, &json!("stripe.event")));
}

/// The secret of before and that of today are both good while there are two; once the file names one alone, it alone is.
pub async fn a_signed_route_takes_two_secrets_while_one_is_changed(host: Host) {
    let changing = of_stripe().replacen(
        "verify",
        "previous_secret = \"whsec_of_the_account_before\"\nverify",
        1,
    );
    // The signature is read whether or not the message keeps its header.
    let changing = changing.replace("headers = [\"stripe-signature\"]\n", "");
    let gateway = Gateway::start(host, &changing).await;
    gateway.build_route("/hooks/stripe").await;
    let body = b"{\"id\":\"evt_1\"}";
    let send = async |secret: &str| {
        let signature = stripe_signature(secret, unix_seconds(), body);
        let call = gateway
            .post("/hooks/stripe")
            .header("stripe-signature", &signature);
        call.body(&body[..]).send().await
    };
    send(STRIPE_SECRET).await.expect(202);
    send("whsec_of_the_account_before").await.expect(202);
    send("whsec_of_somebody_else_yet")
        .await
        .problem(401, "invalid-signature");
    assert_eq!(gateway.messages("signup").await.len(), 2);
}

/// The origin verifies what it is sent as if it came from the sender itself.
pub async fn a_webhook_of_stripe_verifies_at_the_origin_too(host: Host) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(host, &format!("{}{}", of_stripe(), subscribed(&origin, ""))).await;
    gateway.build_route("/hooks/stripe").await;
    // White space and escapes as they are: a byte that changes breaks the signature.
    let body = b"{ \"id\": \"evt_1\",\r\n \"name\": \"\\u00e9\", \"amount\": 1.0 }\n";
    let signature = stripe_signature(STRIPE_SECRET, unix_seconds(), body);
    let call = gateway
        .post("/hooks/stripe")
        .header("stripe-signature", &signature);
    let call = call.header("content-type", "application/json; charset=utf-8");
    call.body(&body[..]).send().await.expect(202);
    let taken = eventually("it is delivered", async || origin.taken().into_iter().next()).await;
    assert_eq!(
        (&taken.body[..], taken.header("content-type")),
        (&body[..], "application/json; charset=utf-8")
    );
    let sent = taken.header("stripe-signature");
    let at: u64 = sent
        .trim_start_matches("t=")
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(stripe_signature(STRIPE_SECRET, at, &taken.body), sent);
    assert_eq!(
        (taken.header("ce-type"), taken.is_signed()),
        ("stripe.event", true)
    );
}

/// Stripe's own library signs, and verifies at the origin.
pub async fn stripes_own_library_verifies_at_the_origin(host: Host) {
    let gateway = Gateway::start(host, &of_stripe()).await;
    gateway.build_route("/hooks/stripe").await;
    node::session(&gateway, "stripe", "stripe", "TOLLGATE_STRIPE").await;
}

async fn one(gateway: &Gateway, key: usize, n: usize) -> (u64, String) {
    loop {
        let call = gateway
            .post("/signup")
            .client("shop")
            .header("idempotency-key", &format!("\"n-{n}\""));
        let call = call
            .header("x-partition-key", &format!("key-{key}"))
            .json(&json!({ "n": n, "key": key }));
        match call.attempt().await {
            Ok(answer) if answer.status != 503 => {
                let body = answer.expect(202).json();
                let id = body["id"].as_str().expect("a message has an id").to_owned();
                return (body["sequence"].as_u64().expect("a message has a sequence"), id);
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Waits until the origin has taken every one of these, and checks what it took. There are no other ids,
/// signatures are valid, bodies are as they were sent, and each key is in order.
async fn all_delivered(origin: &Origin, accepted: &BTreeMap<u64, String>) {
    let ids: BTreeSet<&str> = accepted.values().map(String::as_str).collect();
    assert_eq!(ids.len(), accepted.len(), "every message has an id of its own");
    let taken = eventually("the origin takes every message", async || {
        let taken = origin.taken();
        let distinct: BTreeSet<&str> = taken.iter().map(Delivery::id).collect();
        ids.is_subset(&distinct).then_some(taken)
    })
    .await;
    let sequences: BTreeMap<&str, u64> = accepted
        .iter()
        .map(|(sequence, id)| (id.as_str(), *sequence))
        .collect();
    let mut first_seen = BTreeSet::new();
    let mut last_of_key = BTreeMap::<u64, (u64, u64)>::new();
    for delivery in &taken {
        let sequence = *sequences
            .get(delivery.id())
            .unwrap_or_else(|| panic!("nobody sent {delivery:?}"));
        assert!(delivery.is_signed(), "{delivery:?}");
        assert_eq!(
            (delivery.header("ce-id"), delivery.header("ce-specversion")),
            (delivery.id(), "1.0")
        );
        let body: Value = serde_json::from_slice(&delivery.body).expect("the body as it was sent");
        let (key, n) = (
            body["key"].as_u64().expect("a key"),
            body["n"].as_u64().expect("a number"),
        );
        if first_seen.insert(sequence)
            && let Some((before, n_before)) = last_of_key.insert(key, (sequence, n))
        {
            assert!(
                sequence > before && n > n_before,
                "key {key}: {n} after {n_before}"
            );
        }
    }
}

pub async fn every_sign_up_reaches_an_origin_that_refuses_a_third(host: Host) {
    let origin = Origin::start().await;
    origin.refuse(30);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, PATIENT)).await);
    let accepted = sign_up(&gateway, SIGN_UPS).await;
    assert_eq!(accepted.len(), SIGN_UPS);
    all_delivered(&origin, &accepted).await;
    assert!(
        origin.deliveries().len() > SIGN_UPS,
        "some were refused, and sent again"
    );
    // What became of each is on record.
    for id in accepted.values() {
        eventually("the record says delivered", async || {
            let record = gateway
                .get(&format!("/api/messages/{id}"))
                .client("shop")
                .send()
                .await
                .expect(200)
                .json();
            let delivery = &record["deliveries"][0];
            assert_eq!(delivery["subscription"], "origin", "{record}");
            (delivery["state"] == "delivered").then_some(())
        })
        .await;
    }
}

pub async fn slow_origin_gets_everything_and_no_more_at_once_than_it_takes(host: Host) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let origin = Origin::start().await;
    origin.behave(|_| Reply {
        delay: Duration::from_millis(100),
        ..Reply::status(204)
    });
    let more = format!("concurrency = 5\n{PATIENT}");
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, &more)).await);
    let accepted = sign_up(&gateway, 60).await;
    let most = AtomicUsize::new(0);
    let watch = async {
        loop {
            most.fetch_max(origin.under_way(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = all_delivered(&origin, &accepted) => {}
        () = watch => {}
    }
    assert!(
        (2..=5).contains(&most.into_inner()),
        "at most five at once, and not one by one"
    );
    assert_eq!(
        origin.deliveries().len(),
        60,
        "slow is not failed: nothing is sent twice"
    );
}

pub async fn origin_that_goes_down_gets_the_rest_when_it_is_back(host: Host) {
    let origin = Origin::start().await;
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, PATIENT)).await);
    let mut accepted = sign_up(&gateway, 20).await;
    all_delivered(&origin, &accepted).await;
    origin.down().await;
    let while_down = sign_up_after(&gateway, 20, 120).await;
    accepted.extend(while_down);
    let lag = |view: Value| view["subscriptions"][0]["lag"].as_u64();
    let view = gateway
        .get("/api/topics/signup")
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert!(lag(view.clone()).is_some_and(|lag| lag > 0), "{view}");
    origin.up();
    all_delivered(&origin, &accepted).await;
    eventually("nothing is left to do", async || {
        let view = gateway
            .get("/api/topics/signup")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json();
        (lag(view) == Some(0)).then_some(())
    })
    .await;
}

/// Sign-ups `from..to`, one after the other.
async fn sign_up_after(gateway: &Gateway, from: usize, to: usize) -> BTreeMap<u64, String> {
    let mut accepted = BTreeMap::new();
    for n in from..to {
        let (sequence, id) = one(gateway, n % KEYS, n).await;
        accepted.insert(sequence, id);
    }
    accepted
}

pub async fn deliveries_go_on_after_an_orderly_restart(host: Host) {
    deliveries_go_on(host, async |gateway| assert!(gateway.stop().await.success())).await;
}

pub async fn deliveries_go_on_after_kill_nine(host: Host) {
    deliveries_go_on(host, async |gateway| gateway.kill()).await;
}

/// The gateway ends three times, in the middle of posts and deliveries; the ids stay the same.
async fn deliveries_go_on(host: Host, end: impl AsyncFn(&Gateway)) {
    let origin = Origin::start().await;
    origin.refuse(30);
    let gateway = Arc::new(Gateway::start(host, &subscribed(&origin, PATIENT)).await);
    let restarts = async {
        for threshold in [20, 80, 140] {
            eventually("deliveries are under way", async || {
                (origin.taken().len() >= threshold).then_some(())
            })
            .await;
            end(&gateway).await;
            gateway.restart().await;
            // As whatever starts it does: under Spin, where all are signed up by now, nothing else wakes deliveries.
            gateway.get("/health/ready").attempt().await.ok();
        }
    };
    let ((), accepted) = tokio::join!(restarts, sign_up(&gateway, SIGN_UPS));
    assert_eq!(accepted.len(), SIGN_UPS);
    all_delivered(&origin, &accepted).await;
    let read: BTreeMap<u64, String> = gateway
        .messages("signup")
        .await
        .iter()
        .map(|m| {
            (
                m["sequence"].as_u64().unwrap(),
                m["id"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(
        read, accepted,
        "the topic holds what was acknowledged, and nothing twice"
    );
}
