//! Pages of other origins: what answers tell browsers, and what browsers make of it.

use serde_json::json;

use crate::dashboard::{WALKS, browser};
use crate::harness::{ADMIN_KEY, Answer, Call, Gateway, Host, unique};

const APP: &str = "https://app.example";
const SETTINGS: &str = "[server]\npublic_url = \"http://short.test\"\ncors_origins = [\"https://app.example\", \"https://*.preview.example\"]\n";
const ANYBODY: &str = "[server]\npublic_url = \"http://short.test\"\ncors_origins = [\"*\"]\n";
/// What scripts read of answers.
const EXPOSED: [&str; 6] = [
    "etag",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-request-id",
];

fn allowed(answer: &Answer) -> Option<&str> {
    answer.maybe_header("access-control-allow-origin")
}

fn varies(answer: &Answer) -> bool {
    let mut vary = answer.headers.get_all("vary").iter();
    vary.any(|value| value.as_bytes().eq_ignore_ascii_case(b"origin"))
}

/// Nothing is ever said of credentials.
#[track_caller]
fn open_to(answer: &Answer, origin: &str) {
    assert_eq!(allowed(answer), Some(origin), "{}", answer.shown());
    assert!(varies(answer), "{}", answer.shown());
    let exposed = answer.header("access-control-expose-headers");
    let exposed: Vec<&str> = exposed.split(", ").collect();
    for name in EXPOSED {
        assert!(exposed.contains(&name), "{name}: {}", answer.shown());
    }
    assert_eq!(answer.maybe_header("access-control-allow-credentials"), None);
}

#[track_caller]
fn closed(answer: &Answer) {
    let told = answer
        .headers
        .keys()
        .find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(told, None, "{}", answer.shown());
}

fn preflight(gateway: &Gateway, path: &str, origin: &str) -> Call {
    gateway
        .call(reqwest::Method::OPTIONS, path)
        .outside_contract()
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-client-id",
        )
}

pub async fn every_answer_tells_listed_origins_that_they_may_read_it(host: Host) {
    let gateway = Gateway::start(host, SETTINGS).await;
    let code = unique("cors");
    let body = json!({ "url": "https://example.com/", "code": code });
    let made = gateway.post("/api/links").key(ADMIN_KEY).json(&body);
    open_to(&made.header("origin", APP).send().await.expect(201), APP);
    let path = format!("/{code}");
    let asks = || {
        [
            (302, gateway.get(&path)),
            (302, gateway.head(&path)),
            (404, gateway.get("/no-such-code")),
            (401, gateway.get("/api/links")),
            (400, gateway.post("/api/links").key(ADMIN_KEY).json(&json!({}))),
            (405, gateway.put("/api/links")),
            (200, gateway.get("/health/live")),
            (200, gateway.get("/openapi.json")),
            (200, gateway.get("/api/links").key(ADMIN_KEY)),
        ]
    };
    for origin in [APP, "https://a.preview.example"] {
        for (status, ask) in asks() {
            open_to(&ask.header("origin", origin).send().await.expect(status), origin);
        }
    }
    for origin in [
        "https://evil.example",
        "null",
        "https://preview.example",
        "http://app.example",
    ] {
        for (status, ask) in asks() {
            let answer = ask.header("origin", origin).send().await.expect(status);
            closed(&answer);
            assert!(varies(&answer), "{}", answer.shown());
        }
    }
    let large = gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .body("x".repeat(100_000));
    open_to(&large.header("origin", APP).send().await.expect(413), APP);
    for (status, ask) in asks() {
        let answer = ask.send().await.expect(status);
        closed(&answer);
        assert!(varies(&answer), "a cache must know: {}", answer.shown());
    }
}

pub async fn a_refusal_by_a_limit_can_be_read_and_preflights_are_not_charged(host: Host) {
    let gateway = Gateway::start(host, SETTINGS).await;
    let path = "/api/bounded/burst/x";
    for _ in 0..20 {
        let answer = preflight(&gateway, path, APP)
            .header("x-client-id", "page")
            .send()
            .await
            .expect(204);
        open_to(&answer, APP);
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "authorization,content-type,x-client-id"
        );
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let methods = answer.header("access-control-allow-methods");
            assert!(methods.split(", ").any(|one| one == method), "{}", answer.shown());
        }
        assert_eq!(answer.header("access-control-max-age"), "7200");
        assert!(answer.maybe_header("ratelimit").is_none() && answer.body.is_empty());
        closed(
            &preflight(&gateway, path, "https://evil.example")
                .send()
                .await
                .expect(204),
        );
    }
    let ask = || gateway.get(path).client("page").header("origin", APP).send();
    for _ in 0..5 {
        open_to(&ask().await.expect(404), APP);
    }
    let refused = ask().await.expect(429);
    open_to(&refused, APP);
    refused.header("retry-after");
    // A page need not hear of the limit to be told what it may ask.
    preflight(&gateway, path, APP)
        .header("x-client-id", "page")
        .send()
        .await
        .expect(204);
    // What is no preflight is charged and answered as ever.
    let options = gateway
        .call(reqwest::Method::OPTIONS, path)
        .outside_contract()
        .client("page");
    open_to(&options.header("origin", APP).send().await.expect(429), APP);
}

pub async fn without_the_setting_answers_say_nothing_of_origins(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = unique("closed");
    gateway.link(&code).await;
    for ask in [
        gateway.get(&format!("/{code}")),
        gateway.get("/api/links"),
        gateway.get("/no-such-code"),
    ] {
        let answer = ask.header("origin", APP).send().await;
        closed(&answer);
        assert!(!varies(&answer), "{}", answer.shown());
    }
    let answer = preflight(&gateway, "/api/links", APP).send().await.expect(405);
    closed(&answer);
}

pub async fn with_a_star_any_page_may_call_and_none_with_credentials(host: Host) {
    let gateway = Gateway::start(host, ANYBODY).await;
    for origin in ["https://any.example", "null"] {
        for ask in [
            gateway.get("/no-such-code").header("origin", origin),
            preflight(&gateway, "/api/links", origin),
        ] {
            let answer = ask.send().await;
            assert_eq!(allowed(&answer), Some("*"), "{}", answer.shown());
            assert!(!varies(&answer), "{}", answer.shown());
            assert_eq!(answer.maybe_header("access-control-allow-credentials"), None);
        }
    }
}

pub async fn the_parsers_refusals_can_be_read_by_pages(host: Host) {
    let open = Gateway::start(host, SETTINGS).await;
    let shut = Gateway::shared(host).await;
    let large = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\norigin: {APP}\r\n\r\n",
        "y".repeat(100_000)
    );
    for (request, status) in [("GET /a b c HTTP/1.1\r\n\r\n", 400), (&*large, 431)] {
        let answer = open.raw(request).await.expect(status);
        assert_eq!(allowed(&answer), Some("*"), "{}", answer.shown());
        assert!(
            answer
                .header("access-control-expose-headers")
                .contains("x-request-id")
        );
        closed(&shut.raw(request).await.expect(status));
    }
    // One that hyper reads, and we refuse.
    let answer = open.raw(format!(
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\norigin: {APP}\r\n\r\n"
    ));
    open_to(&answer.await.expect(400), APP);
}

/// Chromium, driven by `tests/dashboard/cors.mjs`.
pub async fn pages_of_listed_origins_alone_call_in_a_browser(host: Host) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = port.expect("a port is free").port();
    let settings = format!(
        "[server]\npublic_url = \"http://short.test\"\ncors_origins = [\"http://127.0.0.1:{port}\"]\n"
    );
    let gateway = Gateway::start(host, &settings).await;
    let campaign = gateway.campaign(5, json!({})).await;
    let port = port.to_string();
    browser(&gateway, WALKS[1], &[("PORT", &port), ("CAMPAIGN", &campaign)]).await;
}
