//! `PUT /api/links/{code}`.

use serde_json::{Value, json};

use crate::testing::{Gateway, body, pointer, text};

fn put(gateway: &Gateway, code: &str, sent: &Value) -> (u16, Value) {
    let answer = gateway.admin("PUT", &format!("/api/links/{code}"), sent);
    (answer.status, body(&answer))
}

#[test]
fn a_link_is_as_it_was_put_whether_it_was_there_or_not() {
    let gateway = Gateway::new();
    let full = json!({
        "url": "https://example.com/a", "title": "A", "tags": ["t"], "maxVisits": 5, "redirect": 301, "password": "secret",
        "expiresAt": "2030-01-01T00:00:00Z", "forwardQuery": true, "externalId": "x1",
        "rules": [{ "when": { "os": "ios" }, "url": "https://example.com/ios" }],
    });
    let (status, made) = put(&gateway, "spring", &full);
    assert_eq!(
        (status, &made["code"], &made["hasPassword"]),
        (201, &json!("spring"), &json!(true)),
        "{made}"
    );
    let (status, same) = put(&gateway, "spring", &full);
    assert_eq!(
        (status, &same["id"], &same["title"]),
        (200, &made["id"], &json!("A"))
    );
    let (status, plain) = put(&gateway, "spring", &json!({ "url": "https://example.com/b" }));
    assert_eq!(
        (status, &plain["id"], &plain["url"]),
        (200, &made["id"], &json!("https://example.com/b"))
    );
    let cleared = ["title", "maxVisits", "expiresAt", "externalId"].map(|name| plain[name].clone());
    assert_eq!(cleared, [Value::Null, Value::Null, Value::Null, Value::Null]);
    assert_eq!((&plain["tags"], &plain["rules"]), (&json!([]), &json!([])));
    assert_eq!(
        (&plain["redirect"], &plain["hasPassword"]),
        (&json!(302), &json!(false))
    );
    let led = gateway.call("GET", "/spring", &[("user-agent", "Firefox")], &Value::Null);
    assert_eq!(
        (led.status, led.header("location")),
        (302, Some("https://example.com/b"))
    );
    let (_, again) = put(&gateway, "spring", &json!({ "url": "https://example.com/c" }));
    assert_eq!(again["visits"], 1, "its counters stay");
}

#[test]
fn what_cannot_be_put_is_named_and_nothing_is_made() {
    let gateway = Gateway::new();
    for (sent, field) in [
        (json!({}), "#/url"),
        (json!({ "url": null }), "#/url"),
        (json!({ "url": "https://example.com", "code": "other" }), "#/code"),
        (
            json!({ "url": "https://example.com", "codeLength": 9 }),
            "#/codeLength",
        ),
        (
            json!({ "url": "https://example.com", "ifExists": "return" }),
            "#/ifExists",
        ),
        (
            json!({ "url": "https://example.com", "maxVisits": 0 }),
            "#/maxVisits",
        ),
        (json!({ "url": "https://example.com", "colour": 1 }), "#/colour"),
    ] {
        for _ in 0..2 {
            let answer = gateway.admin("PUT", "/api/links/abc", &sent);
            assert_eq!(pointer(&answer), field, "{}", text(&answer));
        }
        assert_eq!(gateway.admin("GET", "/api/links/abc", &Value::Null).status, 404);
    }
    let reserved = gateway.admin("PUT", "/api/links/docs", &json!({ "url": "https://example.com" }));
    assert_eq!(pointer(&reserved), "#/code");
}

#[test]
fn a_link_of_somebody_else_is_not_replaced() {
    let gateway = Gateway::new();
    put(&gateway, "abc", &json!({ "url": "https://example.com/mine" }));
    let key = body(&gateway.admin(
        "POST",
        "/api/keys",
        &json!({ "name": "other", "scopes": ["links"] }),
    ));
    let other = key["key"].as_str().unwrap();
    let sent = json!({ "url": "https://example.com/theirs" });
    assert_eq!(gateway.with(other, "PUT", "/api/links/abc", &sent).status, 403);
    assert_eq!(gateway.with(other, "PUT", "/api/links/xyz", &sent).status, 201);
    let client = [("x-client-id", "somebody")];
    assert_eq!(gateway.call("PUT", "/api/links/new", &client, &sent).status, 401);
    let tied = |etag: &str, code: &str| {
        let headers = [
            ("authorization", format!("Bearer {other}")),
            ("if-match", etag.to_owned()),
        ];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        gateway
            .call("PUT", &format!("/api/links/{code}"), &headers, &sent)
            .status
    };
    assert_eq!(tied("\"stale\"", "xyz"), 412);
    assert_eq!(tied("*", "not-there"), 412);
    assert_eq!(tied("*", "xyz"), 200);
}
