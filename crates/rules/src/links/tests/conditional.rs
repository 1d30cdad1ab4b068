//! Changes that are tied to what the caller has seen, and creations that may be repeated.

use super::*;

fn tagged(gateway: &Gateway, method: &str, path: &str, tag: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {ADMIN}");
    gateway.call(
        method,
        path,
        &[("authorization", &bearer), ("if-match", tag)],
        body,
    )
}

fn tag(response: &Response) -> String {
    response.header("etag").unwrap().to_owned()
}

#[test]
fn a_change_of_what_was_changed_since_is_refused() {
    let gateway = Gateway::new();
    let body = json!({"url": "https://example.com/", "code": "abc", "expiresAt": at(60 * SECOND)});
    let made = gateway.admin("POST", "/api/links", &body);
    let first = tag(&made);
    let read = |path: &str| tag(&gateway.admin("GET", path, &Value::Null));
    assert_eq!(
        read("/api/links/abc"),
        first,
        "what was answered is what is there"
    );
    gateway.visit("/abc");
    assert_eq!(read("/api/links/abc"), first, "a visit changes no setting");
    let title = |title: &str| json!({"title": title});
    let changed = tagged(&gateway, "PATCH", "/api/links/abc", &first, &title("a"));
    assert_eq!(changed.status, 200);
    let second = tag(&changed);
    assert!(second != first && read("/api/links/abc") == second);
    for (method, path, body) in [
        ("PATCH", "/api/links/abc", title("b")),
        ("POST", "/api/links/abc/extend", json!({"seconds": 5})),
        ("DELETE", "/api/links/abc", Value::Null),
    ] {
        for old in [&*first, "\"x\"", "x"] {
            let refused = tagged(&gateway, method, path, old, &body);
            assert_eq!(
                (refused.status, kind(&refused).as_str()),
                (412, "precondition-failed"),
                "{method}"
            );
        }
    }
    assert_eq!(
        (gateway.read("abc")["title"].as_str(), read("/api/links/abc")),
        (Some("a"), second.clone())
    );
    let unchanged = tagged(&gateway, "PATCH", "/api/links/abc", &second, &title("a"));
    assert_eq!((unchanged.status, tag(&unchanged)), (200, second.clone()));
    let extended = tagged(
        &gateway,
        "POST",
        "/api/links/abc/extend",
        &second,
        &json!({"seconds": 5}),
    );
    let bounded = tagged(
        &gateway,
        "PATCH",
        "/api/links/abc",
        &tag(&extended),
        &json!({"maxVisits": 5}),
    );
    assert_eq!(bounded.status, 200, "also where it takes two steps");
    assert_eq!(
        tagged(&gateway, "DELETE", "/api/links/abc", &tag(&bounded), &Value::Null).status,
        204
    );
    // Another link with the code has another tag.
    gateway.link("abc", json!({}));
    assert_eq!(
        tagged(&gateway, "DELETE", "/api/links/abc", &tag(&bounded), &Value::Null).status,
        412
    );
    assert_eq!(
        tagged(&gateway, "DELETE", "/api/links/abc", "*", &Value::Null).status,
        204
    );
}

/// A creation with an `Idempotency-Key`, by a caller of these headers.
fn post(gateway: &Gateway, caller: (&str, &str), key: &str, body: &Value) -> Response {
    gateway.call("POST", "/api/links", &[caller, ("idempotency-key", key)], body)
}

fn count(gateway: &Gateway) -> usize {
    ready(gateway.store.scan("link/", None, 500)).unwrap().len()
}

#[test]
fn a_creation_that_is_repeated_makes_one_link() {
    let gateway = Gateway::new();
    let (member, other) = (gateway.member(Scope::Links), gateway.member(Scope::Links));
    let (member, other) = (format!("Bearer {member}"), format!("Bearer {other}"));
    let caller = ("authorization", &*member);
    for body in [
        json!({"url": "https://example.com/a"}),
        json!({"url": "https://example.com/b", "code": "mine"}),
    ] {
        let (key, before) = (body["url"].as_str().unwrap(), count(&gateway));
        let first = post(&gateway, caller, key, &body);
        assert_eq!(
            (first.status, first.header("idempotency-replayed")),
            (201, None),
            "{}",
            text(&first)
        );
        gateway.pass(SECOND);
        let again = post(&gateway, caller, key, &body);
        assert_eq!(
            (again.status, again.header("idempotency-replayed")),
            (201, Some("true"))
        );
        assert_eq!(text(&again), text(&first));
        assert_eq!(again.header("location"), first.header("location"));
        let changed = json!({"url": "https://example.com/else"});
        let refused = post(&gateway, caller, key, &changed);
        assert_eq!(
            (refused.status, kind(&refused).as_str()),
            (422, "idempotency-key-reused")
        );
        assert_eq!(count(&gateway), before + 1);
    }
    let listed = json_of(&gateway.call("GET", "/api/links", &[caller], &Value::Null));
    assert_eq!(
        listed["links"].as_array().unwrap().len(),
        2,
        "no entry is left over"
    );
    // What is repeated, or refused, changes nothing.
    let entries = |gateway: &Gateway| ready(gateway.store.scan("", None, 500)).unwrap();
    let before = entries(&gateway);
    for (key, body, status) in [
        (
            "https://example.com/b",
            json!({"url": "https://example.com/b", "code": "mine"}),
            201,
        ),
        (
            "https://example.com/b",
            json!({"url": "https://example.com/b"}),
            422,
        ),
        (
            "new",
            json!({"url": "https://example.com/b", "code": "mine"}),
            409,
        ),
    ] {
        assert_eq!(post(&gateway, caller, key, &body).status, status);
    }
    assert_eq!(entries(&gateway), before);
    // Somebody else's key is another one.
    let theirs = post(
        &gateway,
        ("authorization", &other),
        "https://example.com/a",
        &json!({"url": "https://example.com/a"}),
    );
    assert_eq!(
        (theirs.status, theirs.header("idempotency-replayed")),
        (201, None)
    );
    // What was refused is not remembered.
    let taken = json!({"url": "https://example.com/c", "code": "mine"});
    assert_eq!(post(&gateway, caller, "c", &taken).status, 409);
    gateway.admin("DELETE", "/api/links/mine", &Value::Null);
    assert_eq!(post(&gateway, caller, "c", &taken).status, 201);
}

#[test]
fn a_stranger_that_repeats_itself_gets_the_same_token_and_pays_once() {
    let gateway = Gateway::new();
    let body = json!({"url": "https://example.com/", "title": "\"manageToken\":\"x\"}"});
    let first = post(&gateway, ("x-client-id", "me"), "k", &body);
    assert_eq!(first.status, 201, "{}", text(&first));
    let again = post(&gateway, ("x-client-id", "me"), "k", &body);
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, Some("true"))
    );
    assert_eq!(text(&again), text(&first));
    let made = json_of(&first);
    let (code, token) = (
        made["code"].as_str().unwrap(),
        made["manageToken"].as_str().unwrap(),
    );
    assert_eq!(
        gateway
            .with(token, "GET", &format!("/api/links/{code}"), &Value::Null)
            .status,
        200
    );
    let stored = format!("{:?}", gateway.store);
    let is_stored = |text: &str| {
        let bytes = format!("{:?}", text.as_bytes());
        stored.contains(bytes.trim_matches(['[', ']']))
    };
    assert!(is_stored("manageToken"), "the answer is stored");
    assert!(!is_stored(token), "the token is not");
    let found = ready(
        gateway
            .store
            .get("links/anonymous", &["links/anonymous".to_owned()]),
    )
    .unwrap();
    assert_eq!(found[0].clone().unwrap().value, b"1");
    assert_eq!(
        ready(gateway.store.scan("links/token/", None, 9)).unwrap().len(),
        1
    );
    let other = post(&gateway, ("x-client-id", "you"), "k", &body);
    assert_ne!(json_of(&other)["manageToken"], made["manageToken"]);
}
