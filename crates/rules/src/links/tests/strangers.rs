//! Bounds on the links of callers without a key.

use super::*;
use crate::links::maintain;
use tollgate_store::commit::StoreError;

const DAY: u64 = 86_400 * SECOND;

fn bounded(per_day: u64, most: u64) -> Gateway {
    let mut gateway = Gateway::new();
    gateway.settings.config.links.anonymous_per_day = per_day;
    gateway.settings.config.links.anonymous_max = most;
    gateway
}

impl Gateway {
    /// Creates an anonymous link from an address, under a new client id.
    fn stranger(&self, peer: &str, body: &Value) -> Response {
        let client = format!("c{}", self.count.get());
        let mut request = request("POST", "/api/links", &[("x-client-id", &client)], body);
        request.peer = peer.into();
        ready(self.answer(&self.store, &request))
    }
}

#[test]
fn an_address_creates_so_many_links_a_day_whatever_it_calls_itself() {
    let gateway = bounded(3, 100);
    let url = json!({"url": "https://example.com/a"});
    for _ in 0..3 {
        assert_eq!(gateway.stranger("192.0.2.1", &url).status, 201);
    }
    let refused = gateway.stranger("192.0.2.1", &url);
    assert_eq!(refused.status, 429, "{}", text(&refused));
    let until_midnight = (DAY - gateway.store.now() % DAY) / SECOND;
    assert_eq!(refused.header("retry-after"), Some(&*until_midnight.to_string()));
    assert_eq!(json_of(&refused)["violated-policies"], json!(["anonymous-links"]));
    assert_eq!(gateway.stranger("192.0.2.2", &url).status, 201);
    for last in ["1", "2", "3"] {
        assert_eq!(gateway.stranger(&format!("2001:db8::{last}"), &url).status, 201);
    }
    assert_eq!(gateway.stranger("2001:db8::ffff", &url).status, 429, "one /64");
    assert_eq!(gateway.stranger("2001:db8:0:1::1", &url).status, 201);
    gateway.create(&url);
    gateway.pass(until_midnight * SECOND);
    assert_eq!(gateway.stranger("192.0.2.1", &url).status, 201);
    gateway.pass(3 * DAY);
    assert_eq!(ready(gateway.store.scan("links/day/", None, 10)).unwrap(), []);
}

#[test]
fn all_strangers_together_hold_so_many_links_and_get_places_back() {
    let gateway = bounded(100, 2);
    let url = json!({"url": "https://example.com/a"});
    let first = json_of(&gateway.stranger("192.0.2.1", &url));
    assert_eq!(gateway.stranger("192.0.2.2", &url).status, 201);
    let refused = gateway.stranger("192.0.2.3", &url);
    assert_eq!((refused.status, kind(&refused).as_str()), (503, "unavailable"));
    assert!(text(&refused).contains("2 links without an API key"));
    gateway.create(&url);
    let path = format!("/api/links/{}", first["code"].as_str().unwrap());
    let token = first["manageToken"].as_str().unwrap();
    assert_eq!(gateway.with(token, "DELETE", &path, &Value::Null).status, 204);
    gateway.pass(3_600 * SECOND);
    let step = || {
        ready(maintain(
            &gateway.store,
            &gateway.settings.config,
            gateway.store.now(),
        ))
    };
    while step().unwrap() {}
    assert_eq!(gateway.stranger("192.0.2.3", &url).status, 201);
    assert_eq!(gateway.stranger("192.0.2.3", &url).status, 503);
    // Those that nobody uses go by themselves.
    gateway.pass(60 * DAY);
    while step().unwrap() {}
    gateway.pass(3_600 * SECOND);
    while step().unwrap() {}
    assert_eq!(gateway.stranger("192.0.2.3", &url).status, 201);
    assert_eq!(gateway.stranger("192.0.2.4", &url).status, 201);
    assert_eq!(gateway.stranger("192.0.2.5", &url).status, 503);
}

#[test]
fn what_was_not_created_is_not_counted() {
    let gateway = bounded(2, 2);
    gateway.link("abc", json!({}));
    let taken = json!({"url": "https://example.com/a", "code": "abc"});
    let same = json!({"url": "https://example.com/b", "ifExists": "return"});
    for _ in 0..4 {
        assert_eq!(gateway.stranger("192.0.2.1", &taken).status, 409);
        assert_eq!(gateway.stranger("192.0.2.1", &json!({"url": "x"})).status, 400);
        let response = gateway.call("POST", "/api/links", &[("x-client-id", "me")], &same);
        assert!(matches!(response.status, 200 | 201));
    }
    assert_eq!(
        gateway
            .stranger("192.0.2.1", &json!({"url": "https://example.com/c"}))
            .status,
        201
    );
    // A link may be there whose answer was lost: it stays counted.
    let gateway = bounded(2, 2);
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    let url = json!({"url": "https://example.com/c"});
    assert_eq!(gateway.stranger("192.0.2.1", &url).status, 503);
    assert_eq!(gateway.stranger("192.0.2.1", &url).status, 201);
}

#[test]
fn a_strangers_link_ends_when_nobody_uses_it() {
    let gateway = Gateway::new();
    let url = "https://example.com/a";
    let created = json_of(&gateway.stranger("192.0.2.1", &json!({"url": url})));
    assert_eq!(created["expireAfterIdle"], 30 * 86_400);
    let code = created["code"].as_str().unwrap();
    let token = created["manageToken"].as_str().unwrap();
    let (path, visit) = (format!("/api/links/{code}"), || {
        gateway.visit(&format!("/{code}")).status
    });
    gateway.pass(29 * DAY);
    assert_eq!(visit(), 302);
    gateway.pass(29 * DAY);
    let patch = |body: &Value| gateway.with(token, "PATCH", &path, body);
    let longer = patch(&json!({"expireAfterIdle": 30 * 86_400 + 1}));
    assert_eq!(pointer(&longer), "#/expireAfterIdle");
    let never = patch(&json!({"expireAfterIdle": null, "title": "t"}));
    assert_eq!(json_of(&never)["expireAfterIdle"], 30 * 86_400);
    assert_eq!(visit(), 302);
    gateway.pass(30 * DAY);
    assert_eq!(visit(), 410);
    let asked = gateway.stranger("192.0.2.1", &json!({"url": url, "expireAfterIdle": 31 * 86_400}));
    assert_eq!(pointer(&asked), "#/expireAfterIdle");
    let shorter = gateway.stranger("192.0.2.1", &json!({"url": url, "expireAfterIdle": 60}));
    assert_eq!(json_of(&shorter)["expireAfterIdle"], 60);
}
