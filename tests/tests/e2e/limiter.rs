//! Rate limits, on addresses that the shared settings bound (`/api/bounded/…`; nothing is there, so an
//! admitted request gets a 404).

mod clients;
mod concurrency;

pub use clients::*;
pub use concurrency::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Host, crowd, unique};

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Let through by the limiter.
fn admitted(answer: &Answer) -> bool {
    match answer.status {
        404 => true,
        429 => false,
        _ => panic!("neither let through nor refused: {}", answer.shown()),
    }
}

/// A complete refusal under exactly these policies; gives the wait in seconds.
#[track_caller]
fn refused(answer: &Answer, policies: &[&str]) -> u64 {
    let problem = answer.problem(429, QUOTA_EXCEEDED);
    assert_eq!(
        problem["violated-policies"],
        json!(policies),
        "{}",
        answer.shown()
    );
    let wait = answer.header("retry-after").parse().expect("whole seconds");
    assert!(wait >= 1, "{}", answer.shown());
    for policy in policies {
        assert!(
            answer
                .header("ratelimit-policy")
                .contains(&format!("\"{policy}\";q=")),
            "{}",
            answer.shown()
        );
        assert!(
            answer.header("ratelimit").contains(&format!("\"{policy}\";r=")),
            "{}",
            answer.shown()
        );
    }
    wait
}

pub async fn client_over_its_limit_is_told_and_others_are_untouched(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (greedy, other) = (unique("greedy"), unique("other"));
    let ask = |client: &str| gateway.get("/api/bounded/burst/x").client(client).send();
    for left in (0..5).rev() {
        let answer = ask(&greedy).await;
        assert!(admitted(&answer), "{}", answer.shown());
        assert!(
            answer.header("ratelimit-policy").contains("\"burst\";q=5;w=300"),
            "{}",
            answer.shown()
        );
        assert!(
            answer
                .header("ratelimit")
                .contains(&format!("\"burst\";r={left};t=")),
            "{}",
            answer.shown()
        );
    }
    for _ in 0..3 {
        let wait = refused(&ask(&greedy).await, &["burst"]);
        assert!(wait <= 60, "one token comes every minute: {wait}");
    }
    let answer = ask(&other).await;
    assert!(
        admitted(&answer) && answer.header("ratelimit").contains("\"burst\";r=4;"),
        "{}",
        answer.shown()
    );
    // The greedy one is only limited there.
    gateway
        .get("/api/elsewhere")
        .client(&greedy)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn admissions_stay_within_capacity_and_refill(host: Host) {
    // The policy "steady".
    const CAPACITY: u64 = 20;
    const REFILL_PER_SECOND: f64 = 100.0;
    let gateway = Gateway::shared(host).await;
    let client = unique("hammer");
    let granted = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let until = began + Duration::from_secs(3);
    let gateway = Arc::new(gateway);
    crowd(8, 0..8, |_| {
        let (gateway, client, granted) = (Arc::clone(&gateway), client.clone(), Arc::clone(&granted));
        async move {
            while Instant::now() < until {
                let answer = gateway.get("/api/bounded/steady/x").client(&client).send().await;
                if admitted(&answer) {
                    granted.fetch_add(1, Ordering::Relaxed);
                } else {
                    refused(&answer, &["steady"]);
                }
            }
        }
    })
    .await;
    // From before the first request to after the last answer: no shorter than what the gateway saw.
    let seconds = began.elapsed().as_secs_f64();
    let (granted, most) = (
        granted.load(Ordering::Relaxed),
        CAPACITY as f64 + REFILL_PER_SECOND * seconds,
    );
    assert!(granted as f64 <= most, "{granted} in {seconds} s, at most {most}");
    assert!(granted > CAPACITY, "tokens come back: {granted}");
}

pub async fn parallel_burst_admits_exactly_the_capacity(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("burst");
    let began = Instant::now();
    let answers = crowd(64, 0..64, |_| {
        gateway.get("/api/bounded/burst/y").client(&client).send()
    })
    .await;
    let granted = answers.iter().filter(|answer| admitted(answer)).count() as u64;
    let refilled = began.elapsed().as_secs() / 60 + u64::from(began.elapsed() > Duration::from_secs(50));
    assert!((5..=5 + refilled).contains(&granted), "{granted}");
}

pub async fn head_counts_where_get_does(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("head");
    let ask = |method: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        gateway.call(method, "/api/bounded/get/x").client(&client).send()
    };
    for method in ["HEAD", "GET", "HEAD"] {
        assert!(admitted(&ask(method).await));
    }
    assert_eq!(ask("HEAD").await.status, 429);
    refused(&ask("GET").await, &["get-only"]);
}

pub async fn shadow_policy_never_refuses(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("shadow");
    for _ in 0..10 {
        let answer = gateway.get("/api/bounded/shadow/x").client(&client).send().await;
        assert!(admitted(&answer), "{}", answer.shown());
        assert!(
            !answer.header("ratelimit").contains("observed"),
            "{}",
            answer.shown()
        );
    }
}

pub async fn what_a_shadow_policy_would_have_refused_is_in_the_log_now_and_then(host: Host) {
    let limits = "[[limits]]\nname = \"watched\"\nshadow = true\ncapacity = 1\nrefill = 1\ninterval = \"1h\"";
    let gateway = Gateway::start(
        host,
        &format!("{limits}\n[server]\npublic_url = \"http://short.test\"\nworkers = 1"),
    )
    .await;
    let began = Instant::now();
    for _ in 0..300 {
        assert!(admitted(&gateway.get("/api/nothing").client("c").send().await));
    }
    gateway
        .says("limits in shadow would have refused requests: ")
        .await;
    let lines = gateway.stderr().matches("limits in shadow").count() as u64;
    assert!(
        lines <= 1 + began.elapsed().as_secs() / 10,
        "{lines}\n{}",
        gateway.stderr()
    );
}

pub async fn two_policies_are_charged_together_or_not_at_all(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = unique("both");
    let ask = |path: &str| {
        gateway
            .get(&format!("/api/bounded/both/{path}"))
            .client(&client)
            .send()
    };
    for _ in 0..2 {
        assert!(admitted(&ask("narrow/x").await));
    }
    // Refused by "narrow" alone; "wide" has lost nothing by it.
    for _ in 0..10 {
        refused(&ask("narrow/x").await, &["narrow"]);
    }
    for left in (0..3).rev() {
        let answer = ask("other").await;
        assert!(admitted(&answer), "{}", answer.shown());
        assert!(
            answer
                .header("ratelimit")
                .contains(&format!("\"wide\";r={left};")),
            "{}",
            answer.shown()
        );
    }
    refused(&ask("other").await, &["wide"]);
    refused(&ask("narrow/x").await, &["wide", "narrow"]);
}

pub async fn forwarded_addresses_are_not_believed_from_strangers(host: Host) {
    let gateway = Gateway::shared(host).await;
    let path = format!("/api/bounded/address/{}", unique("case"));
    let ask = |n: usize| {
        let call = gateway
            .get(&path)
            .client(&unique("any"))
            .header("x-forwarded-for", &format!("203.0.113.{n}"));
        call.header("forwarded", &format!("for=198.51.100.{n}")).send()
    };
    for n in 0..3 {
        assert!(admitted(&ask(n).await));
    }
    refused(&ask(4).await, &["by-address"]);
}

pub async fn trusted_proxy_is_believed_and_ipv6_counts_by_its_64(host: Host) {
    let limits = "[[limits]]\nname = \"net\"\npath = \"/api/net\"\nper = [\"ip\"]\ncapacity = 2\nrefill = 1\n\
                  interval = \"1h\"";
    let gateway = Gateway::start_trusting(host, "127.0.0.0/8", limits).await;
    let ask = |forwarded: &str| {
        gateway
            .get("/api/net")
            .header("x-forwarded-for", forwarded)
            .send()
    };
    // One /64, two addresses: one bucket. What a client puts before the proxy's own entry is not believed.
    assert!(admitted(&ask("2001:db8:0:1::1").await));
    assert!(admitted(&ask("9.9.9.9, 2001:db8:0:1:ffff::2").await));
    refused(&ask("8.8.8.8, 2001:db8:0:1::3").await, &["net"]);
    assert!(admitted(&ask("2001:db8:0:2::1").await));
    for _ in 0..2 {
        assert!(admitted(&ask("203.0.113.7").await));
    }
    refused(&ask("203.0.113.7").await, &["net"]);
}

pub async fn kinds_of_identity_have_buckets_of_their_own(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({ "name": "limited", "scopes": ["links"] });
    let made = gateway
        .post("/api/keys")
        .key(crate::harness::ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json();
    let text = |member: &str| made[member].as_str().expect("a key has it").to_owned();
    let (id, key) = (text("id"), text("key"));
    let path = "/api/bounded/burst/identity";
    for n in 0..5 {
        // A key is the same client whatever the header says.
        let answer = gateway
            .get(path)
            .key(&key)
            .client(&format!("{id}-{n}"))
            .send()
            .await;
        assert!(admitted(&answer), "{}", answer.shown());
    }
    refused(&gateway.get(path).key(&key).send().await, &["burst"]);
    // A header cannot name itself into a key's bucket, nor into an address's.
    for name in [id.clone(), format!("key:{id}"), "ip:127.0.0.1".to_owned()] {
        let answer = gateway.get(path).client(&name).send().await;
        assert!(
            admitted(&answer) && answer.header("ratelimit").contains("\"burst\";r=4;"),
            "{}",
            answer.shown()
        );
    }
    // An unknown key is nobody: its caller counts by header.
    let answer = gateway
        .get(path)
        .key("tg_unknown_0000000000000000")
        .client(&unique("fresh"))
        .send()
        .await;
    assert!(
        admitted(&answer) && answer.header("ratelimit").contains("\"burst\";r=4;"),
        "{}",
        answer.shown()
    );
}

pub async fn policies_in_force_are_shown_to_admins(host: Host) {
    let gateway = Gateway::shared(host).await;
    let shown = gateway
        .get("/api/limits")
        .key(crate::harness::ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    let limits = shown["limits"].as_array().expect("a list of limits");
    let burst: &Value = limits
        .iter()
        .find(|limit| limit["name"] == "burst")
        .expect("the policy burst");
    assert_eq!(
        (&burst["capacity"], &burst["refill"], &burst["interval"]),
        (&json!(5), &json!(1), &json!(60))
    );
    gateway
        .get("/api/limits")
        .send()
        .await
        .problem(401, "unauthorized");
}

pub async fn what_is_one_callers_is_kept_by_no_cache(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = crate::harness::ADMIN_KEY;
    let campaign = gateway.campaign(5, json!({})).await;
    let claims = format!("/api/campaigns/{campaign}/claims");
    let posted = gateway
        .post("/signup")
        .client("c")
        .json(&json!({}))
        .send()
        .await
        .expect(202);
    let message = format!("/api/messages/{}", posted.json()["id"].as_str().expect("an id"));
    let claim = || gateway.post(&claims).user("u").json(&json!({})).send();
    for answer in [
        posted,
        claim().await.expect(201),
        claim().await.expect(409),
        gateway
            .get(&format!("{claims}/u"))
            .user("u")
            .send()
            .await
            .expect(200),
        gateway
            .get(&format!("{claims}/u"))
            .user("v")
            .send()
            .await
            .expect(403),
        gateway.get("/api/campaigns").key(key).send().await.expect(200),
        gateway.get("/api/campaigns").send().await.expect(401),
        gateway.get(&message).client("c").send().await.expect(200),
        gateway.get(&message).client("d").send().await.expect(403),
        gateway.get("/api/topics").key(key).send().await.expect(200),
        gateway
            .get("/api/topics/signup/messages")
            .key(key)
            .send()
            .await
            .expect(200),
        gateway
            .get("/api/topics/signup/subscriptions")
            .key(key)
            .send()
            .await
            .expect(200),
        gateway.get("/api/keys").key(key).send().await.expect(200),
        gateway.get("/api/keys").send().await.expect(401),
        gateway.get("/api/limits").key(key).send().await.expect(200),
        gateway.get("/api/links").key(key).send().await.expect(200),
        gateway
            .get("/api/links/nothing-here")
            .key(key)
            .send()
            .await
            .expect(404),
    ] {
        let kept = answer.header("cache-control");
        assert!(
            kept.split(", ").any(|directive| directive == "no-store"),
            "{}",
            answer.shown()
        );
    }
}
