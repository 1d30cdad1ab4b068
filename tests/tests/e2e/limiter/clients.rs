//! What a client has left, what it is granted at run time, and the page that a refused browser gets.

use serde_json::{Value, json};

use super::{admitted, refused};
use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, unique};

const GRANTED: &str = "[[limits]]\nname = \"calls\"\npath = \"/api/calls\"\ncapacity = 3\nrefill = 1\ninterval = \"1h\"\n\n\
    [[limits]]\nname = \"users\"\npath = \"/api/persons\"\nper = [\"user\"]\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n\n\
    [[limits]]\nname = \"devices\"\npath = \"/api/devices\"\nper = [\"header:x-device\"]\ncapacity = 2\nrefill = 1\ninterval = \"1h\"";

fn grant(capacity: u64) -> Value {
    json!({ "policy": "calls", "capacity": capacity, "refill": 1, "interval": 3600 })
}

async fn put(gateway: &Gateway, client: &str, body: &Value) {
    let path = format!("/api/limits/clients/id:{client}");
    gateway
        .put(&path)
        .key(ADMIN_KEY)
        .json(body)
        .send()
        .await
        .expect(200);
    if gateway.host == Host::Spin {
        // The first of all is in force within a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    }
}

/// How many of so many requests at once are let through; connections are spread over all threads.
async fn let_through(gateway: &Gateway, client: &str, count: usize) -> usize {
    let ask = |_| gateway.get("/api/calls").client(client).send();
    let answers = crowd(16, 0..count, ask).await;
    answers.iter().filter(|answer| admitted(answer)).count()
}

pub async fn an_override_is_in_force_at_once_and_after_a_restart(host: Host) {
    let gateway = Gateway::start(host, GRANTED).await;
    put(&gateway, "favourite", &grant(40)).await;
    // On every thread, from the answer on.
    assert_eq!(let_through(&gateway, "favourite", 64).await, 40);
    assert_eq!(let_through(&gateway, "another", 16).await, 3);
    let last = gateway.get("/api/calls").client("favourite").send().await;
    refused(&last, &["calls"]);
    assert!(
        last.header("ratelimit-policy")
            .contains("\"calls\";q=40;w=144000"),
        "{}",
        last.shown()
    );
    gateway.stop().await;
    gateway.restart().await;
    let shown = gateway
        .get("/api/limits/overrides")
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(shown["overrides"][0]["client"], "id:favourite", "{shown}");
    let answer = gateway.get("/api/calls").client("favourite").send().await;
    assert!(
        answer.header("ratelimit-policy").contains("\"calls\";q=40;"),
        "{}",
        answer.shown()
    );
}

pub async fn levels_are_read_and_buckets_are_filled(host: Host) {
    let gateway = Gateway::start(host, GRANTED).await;
    let client = unique("level");
    assert_eq!(let_through(&gateway, &client, 8).await, 3);
    let path = format!("/api/limits/clients/id:{client}");
    let level = async || {
        let answer = gateway.get(&path).key(ADMIN_KEY).send().await.expect(200).json();
        let limits = answer["limits"].as_array().expect("a list").clone();
        let calls = limits.into_iter().find(|one| one["policy"] == "calls");
        calls.expect("the limit")["remaining"].as_u64()
    };
    for _ in 0..3 {
        assert_eq!(level().await, Some(0));
    }
    put(&gateway, &client, &grant(5)).await;
    assert_eq!(
        let_through(&gateway, &client, 8).await,
        0,
        "an override fills nothing"
    );
    gateway.delete(&path).key(ADMIN_KEY).send().await.expect(204);
    assert_eq!(level().await, Some(3));
    assert_eq!(let_through(&gateway, &client, 8).await, 3);
    gateway.get(&path).send().await.problem(401, "unauthorized");
}

pub async fn a_quota_is_exact_across_a_crash(host: Host) {
    let settings = "[[quotas]]\nname = \"accounts\"\npath = \"/api/calls\"\nlimit = 40\nwindow = \"month\"\ntimezone = \"Asia/Seoul\"";
    let gateway = Gateway::start(host, settings).await;
    assert_eq!(let_through(&gateway, "one", 24).await, 24);
    gateway.kill();
    gateway.restart().await;
    assert_eq!(let_through(&gateway, "one", 32).await, 16, "24 before the crash");
    let last = gateway.get("/api/calls").client("one").send().await;
    let wait = refused(&last, &["accounts"]);
    assert!(wait <= 31 * 86_400, "{wait}");
    assert_eq!(let_through(&gateway, "another", 2).await, 2);
    let path = "/api/limits/clients/id:one";
    let told = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&told["quotas"][0]["used"], &told["quotas"][0]["limit"]),
        (&json!(40), &json!(40))
    );
    gateway.delete(path).key(ADMIN_KEY).send().await.expect(204);
    assert_eq!(let_through(&gateway, "one", 2).await, 2);
}

pub async fn what_a_quota_refuses_has_its_tokens_still(host: Host) {
    let settings = "[[limits]]\nname = \"calls\"\npath = \"/api/calls\"\ncapacity = 20\nrefill = 1\ninterval = \"1h\"\n\n\
        [[quotas]]\nname = \"accounts\"\npath = \"/api/calls\"\nlimit = 5\nwindow = \"month\"";
    let gateway = Gateway::start(host, settings).await;
    assert_eq!(let_through(&gateway, "one", 32).await, 5);
    let path = "/api/limits/clients/id:one";
    let told = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
    let of_calls = told["limits"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["policy"] == "calls"));
    let left = (of_calls.map(|one| &one["remaining"]), &told["quotas"][0]["used"]);
    assert_eq!(left, (Some(&json!(15)), &json!(5)), "{told}");
}

pub async fn only_what_succeeds_counts_under_a_quota_by_outcome(host: Host) {
    let settings = "[[quotas]]\nname = \"links\"\npath = \"/api/links\"\nmethods = [\"POST\"]\nlimit = 4\nwindow = \"month\"\ncount = \"status:2xx\"";
    let gateway = Gateway::start(host, settings).await;
    let create = |body: Value| gateway.post("/api/links").client("one").json(&body).send();
    for _ in 0..6 {
        create(json!({ "url": "nonsense" })).await.names("#/url");
    }
    let good = || json!({ "url": format!("https://example.com/{}", unique("outcome")) });
    let answers = crowd(8, 0..12, |_| create(good())).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((made, refused), (4, 8));
    assert!(
        answers
            .iter()
            .all(|answer| answer.maybe_header("x-tollgate-held").is_none())
    );
    gateway.kill();
    gateway.restart().await;
    super::refused(&create(good()).await, &["links"]);
    let path = "/api/limits/clients/id:one";
    let told = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(told["quotas"][0]["used"], 4, "{told}");
}

pub async fn calls_that_only_the_host_answers_are_judged_too(host: Host) {
    let settings = "[[limits]]\nname = \"once\"\npath = \"/api/...\"\nper = [\"client\", \"path\"]\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\n\
        [[access]]\nname = \"bad\"\naction = \"deny\"\nclients = [\"id:harvester\"]";
    let gateway = Gateway::start(host, settings).await;
    for path in [
        "/api/events",
        "/api/limits/refusals",
        "/api/links/top",
        "/api/topics/t/subscriptions/s/test",
    ] {
        let ask = |client: &str| match path.ends_with("/test") {
            true => gateway.post(path).client(client).send(),
            false => gateway.get(path).client(client).send(),
        };
        ask("harvester").await.problem(403, "forbidden");
        let first = ask("one").await;
        first.problem(401, "unauthorized");
        assert!(first.maybe_header("ratelimit").is_some(), "{path}");
        super::refused(&ask("one").await, &["once"]);
    }
}

pub async fn an_upload_that_is_refused_is_given_back_at_once(host: Host) {
    let settings = "[[quotas]]\nname = \"sign-ups\"\npath = \"/signup\"\nmethods = [\"POST\"]\nlimit = 1\nwindow = \"month\"\ncount = \"status:2xx\"";
    let gateway = Gateway::start(host, settings).await;
    let send = |bytes: usize| {
        let body = "x".repeat(bytes);
        gateway.post("/signup").client("one").body(body).send()
    };
    for _ in 0..3 {
        send(70_000).await.problem(413, "content-too-large");
    }
    send(1).await.expect(202);
    super::refused(&send(1).await, &["sign-ups"]);
}

pub async fn a_refill_among_requests_fills_to_the_brim(host: Host) {
    let settings = "[[limits]]\nname = \"calls\"\npath = \"/api/calls\"\ncapacity = 1000000\nrefill = 1\ninterval = \"1h\"";
    let gateway = Gateway::start(host, settings).await;
    let granted = json!({ "policy": "calls", "capacity": 1, "refill": 1, "interval": 86_400 });
    let path = "/api/limits/clients/id:busy";
    for _ in 0..4 {
        put(&gateway, "busy", &granted).await;
        let crowd = let_through(&gateway, "busy", 4_000);
        let refill = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            gateway.delete(path).key(ADMIN_KEY).send().await.expect(204);
        };
        // Until it is answered others are charged by the override, whose bucket holds one.
        tokio::join!(crowd, refill);
        let told = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
        let calls = told["limits"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["policy"] == "calls"));
        let left = calls.and_then(|one| one["remaining"].as_u64());
        assert!(left.is_some_and(|left| left > 990_000), "{told}");
    }
}

pub async fn users_and_headers_have_buckets_of_their_own(host: Host) {
    let gateway = Gateway::start(host, GRANTED).await;
    for name in ["x-user-id", "x-device"] {
        let path = if name == "x-device" {
            "/api/devices"
        } else {
            "/api/persons"
        };
        let ask = |value: &str| {
            gateway
                .get(path)
                .client(&unique("any"))
                .header(name, value)
                .send()
        };
        for value in ["one", "two"] {
            assert!(admitted(&ask(value).await) && admitted(&ask(value).await));
            assert!(!admitted(&ask(value).await), "{name} {value}");
        }
        let twice = gateway
            .get(path)
            .header(name, "three")
            .header(name, "four")
            .send()
            .await;
        let problem = twice.problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], format!("header:{name}"));
    }
}

pub async fn a_refused_browser_gets_a_page(host: Host) {
    let gateway = Gateway::start(host, GRANTED).await;
    let client = unique("browser");
    let_through(&gateway, &client, 4).await;
    let ask = |accept: &str, language: &str| {
        let call = gateway.get("/api/calls").client(&client);
        call.header("accept", accept)
            .header("accept-language", language)
            .send()
    };
    let page = ask("text/html,application/xhtml+xml,*/*;q=0.8", "ko-KR,en;q=0.5").await;
    assert_eq!(page.status, 429);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    assert!(
        page.header("retry-after")
            .parse::<u64>()
            .is_ok_and(|wait| wait >= 1)
    );
    assert!(page.text().contains("<html lang=\"ko\">"), "{}", page.shown());
    refused(&ask("*/*", "ko").await, &["calls"]);
}
