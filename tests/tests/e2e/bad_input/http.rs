//! Bad requests, whatever is in them: sizes, paths, methods, and bytes that are no HTTP.

use serde_json::json;

use super::everything;
use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, unique};

pub async fn huge_bodies_are_refused(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, topic) = (gateway.key(&["links"]).await, unique("untouched"));
    let before = everything(&gateway, &key, &topic).await;
    for (path, size) in [
        ("/api/links", 10 << 20),
        ("/api/links/bulk", (1 << 20) + 1),
        ("/signup", 10 << 20),
        ("/signup", (64 << 10) + 1),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {size}\r\n\r\n"
        );
        let mut request = head.into_bytes();
        request.resize(request.len() + size, b' ');
        gateway.raw(&request).await.problem(413, "content-too-large");
        // The same without saying how long it is.
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n"
        );
        let mut request = chunked.into_bytes();
        request.resize(request.len() + size, b' ');
        request.extend_from_slice(b"\r\n0\r\n\r\n");
        gateway.raw(&request).await.problem(413, "content-too-large");
    }
    // Who has no key may not even send more than others.
    let large = json!({ "links": [{ "url": "https://example.com/", "title": "x".repeat(100 << 10) }] });
    let stranger = gateway
        .post("/api/links/bulk")
        .client("c")
        .json(&large)
        .send()
        .await;
    stranger.problem(401, "unauthorized");
    let member = gateway
        .post("/api/links/bulk")
        .key(&key)
        .json(&large)
        .send()
        .await;
    assert_eq!(member.expect(207).json()["results"][0]["status"], 400);
    let just_fits = gateway
        .post("/signup")
        .client("c")
        .body(vec![b' '; 64 << 10])
        .send()
        .await;
    just_fits.expect(202);
    assert_eq!(everything(&gateway, &key, &topic).await, before);
}

pub async fn heads_that_are_too_large_are_refused(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let mut many = "GET /health/live HTTP/1.1\r\nhost: short.test\r\n".to_owned();
    for n in 0..1_000 {
        many.push_str(&format!("x-header-{n}: {n}\r\n"));
    }
    let many = gateway.raw(format!("{many}\r\n")).await;
    many.problem(431, "header-fields-too-large");
    let long = format!(
        "GET /health/live HTTP/1.1\r\nhost: short.test\r\nx-long: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let long = gateway.raw(long).await;
    long.problem(431, "header-fields-too-large");
    // The parser takes twice as much in one piece. The line of the request and its end are not in the bound.
    for (size, status) in [(60_000, 431), ((32 << 10) - 10, 431), ((32 << 10) - 200, 200)] {
        let head = format!(
            "GET /health/live HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\nx-long: {}\r\n\r\n",
            "x".repeat(size)
        );
        let answer = gateway.raw(head).await;
        match status {
            200 => _ = answer.expect(200),
            status => _ = answer.problem(status, "header-fields-too-large"),
        }
    }
    gateway.get("/health/live").send().await.expect(200);
}

pub async fn bytes_that_are_no_request_are_refused(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let host_line = "host: short.test\r\nconnection: close\r\n\r\n";
    for request in [
        "nonsense\r\n\r\n".to_owned(),
        format!("GET /\u{0} HTTP/1.1\r\n{host_line}"),
        format!("GET / HTTP/9.9\r\n{host_line}"),
        "GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(),
        format!("POST /api/links HTTP/1.1\r\ncontent-length: -5\r\n{host_line}"),
        format!("POST /api/links HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n{host_line}"),
    ] {
        gateway.raw(&request).await.problem(400, "invalid-request");
    }
    gateway.get("/health/live").send().await.expect(200);
}

pub async fn odd_paths_are_found_nowhere(host: Host) {
    let gateway = Gateway::shared(host).await;
    for path in [
        "/%00",
        "/%",
        "/%zz",
        "/%ff%fe",
        "/..%2f..%2fetc%2fpasswd",
        "/a/../b",
        "//",
        "/api//links",
        "/api/links/%00",
        "/api/links/%zz",
        "/api/nothing",
        "/api",
        "/",
        "/a/b/c",
        "/api/campaigns/%00",
        "/api/messages/%2e%2e",
        "/api/links/x/unknown",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n"
        );
        gateway.raw(request).await.problem(404, "not-found");
    }
    let long = format!("/{}", "x".repeat(4_000));
    gateway.get(&long).send().await.problem(404, "not-found");
}

pub async fn wrong_methods_are_told_the_right_ones(host: Host) {
    let gateway = Gateway::shared(host).await;
    let allow = |answer: &Answer| -> Vec<String> {
        answer.problem(405, "method-not-allowed");
        answer.header("allow").split(", ").map(str::to_owned).collect()
    };
    for (method, path, expected) in [
        ("PUT", "/api/links", vec!["GET", "POST"]),
        ("POST", "/api/links/abc", vec!["GET", "PATCH", "DELETE"]),
        ("GET", "/api/links/abc/extend", vec!["POST"]),
        ("OPTIONS", "/abcdefg", vec!["GET", "HEAD"]),
        ("DELETE", "/api/campaigns", vec!["GET", "POST"]),
        ("PUT", "/api/campaigns/c/claims", vec!["GET", "POST"]),
        ("PUT", "/api/draws/d", vec!["GET"]),
        ("GET", "/api/draws/d/draw", vec!["POST"]),
        ("PATCH", "/api/keys", vec!["GET", "POST"]),
        ("GET", "/api/keys/abc", vec!["DELETE"]),
        ("POST", "/api/topics", vec!["GET"]),
        ("DELETE", "/api/topics/signup/messages", vec!["GET", "POST"]),
        ("GET", "/signup", vec!["POST"]),
        ("POST", "/health/live", vec!["GET", "HEAD"]),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = gateway.call(method, path).key(ADMIN_KEY).send().await;
        let allowed = allow(&answer);
        for one in expected {
            assert!(
                allowed.iter().any(|allowed| allowed == one),
                "{one}\n{}",
                answer.shown()
            );
        }
    }
}
