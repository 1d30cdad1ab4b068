//! Links that ask for a password.

use super::*;

const RIGHT: &str = "password=open+sesame%21";
const WRONG: &str = "password=nothing";

fn gateway() -> Gateway {
    let gateway = Gateway::new();
    gateway.link("vault", json!({ "password": "open sesame!", "title": "T" }));
    gateway
}

fn post(gateway: &Gateway, path: &str, body: &str) -> Response {
    post_from(gateway, path, body, "192.0.2.1")
}

fn post_from(gateway: &Gateway, path: &str, body: &str, peer: &str) -> Response {
    let headers = [
        ("user-agent", BROWSER),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let mut request = request("POST", path, &headers, body);
    request.peer = peer.into();
    gateway.send(&request)
}

fn cookie(response: &Response) -> String {
    assert_eq!(response.status, 303, "{}", text(response));
    let set = response.header("set-cookie").unwrap();
    set.split(';').next().unwrap().to_owned()
}

fn with_cookie(gateway: &Gateway, path: &str, cookie: &str) -> Response {
    gateway.call(
        "GET",
        path,
        &[("user-agent", BROWSER), ("cookie", cookie)],
        &Value::Null,
    )
}

/// The form, and nothing of where it would lead.
#[track_caller]
fn is_form(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", text(response));
    let page = text(response);
    assert!(
        page.contains("type=\"password\"") && page.contains("<form method=\"post\">"),
        "{page}"
    );
    let all = format!("{page}{:?}", response.headers);
    assert!(!all.contains("landing") && !all.contains("<script"), "{all}");
    assert_eq!(response.header("location"), None);
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
}

#[test]
fn it_asks_before_it_leads_anywhere() {
    let gateway = gateway();
    is_form(&gateway.visit("/vault"), 200);
    is_form(&post(&gateway, "/vault", WRONG), 403);
    is_form(&post(&gateway, "/vault", "password="), 403);
    assert_eq!(gateway.visit("/vault+").status, 404, "it is not previewed");
    assert_eq!(gateway.visits("vault"), 0);
    let opened = post(&gateway, "/vault", RIGHT);
    assert_eq!(opened.header("location"), Some("https://example.com/landing"));
    let set = opened.header("set-cookie").unwrap();
    for part in ["; Path=/vault;", "; HttpOnly", "; SameSite=Lax"] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = cookie(&opened);
    for _ in 0..2 {
        assert_eq!(
            with_cookie(&gateway, "/vault", &format!("a=b; {cookie}")).status,
            302
        );
    }
    assert_eq!(gateway.visits("vault"), 3);
    gateway.pass(3_601 * SECOND);
    is_form(&with_cookie(&gateway, "/vault", &cookie), 200);
}

#[test]
fn a_cookie_is_for_one_link_and_one_password() {
    let gateway = gateway();
    gateway.link("other", json!({ "password": "open sesame!" }));
    let cookie = cookie(&post(&gateway, "/vault", RIGHT));
    is_form(&with_cookie(&gateway, "/other", &cookie), 200);
    let (name, value) = cookie.split_once('=').unwrap();
    let (until, mac) = value.split_once('.').unwrap();
    let later = until.parse::<u64>().unwrap() + 1;
    for forged in [
        format!("{name}={later}.{mac}"),
        format!("{name}={until}."),
        format!("{name}={until}"),
        format!("{name}=.{mac}"),
        format!("{name}={}.{mac}", u64::MAX),
        format!("{name}={until}.{mac}x"),
    ] {
        is_form(&with_cookie(&gateway, "/vault", &forged), 200);
    }
    assert_eq!(with_cookie(&gateway, "/vault", &cookie).status, 302);
    let change =
        |password: Value| gateway.admin("PATCH", "/api/links/vault", &json!({ "password": password }));
    assert_eq!(change(json!("open sesame!")).status, 200);
    is_form(&with_cookie(&gateway, "/vault", &cookie), 200);
    let plain = change(Value::Null);
    assert_eq!(json_of(&plain)["hasPassword"], false);
    assert_eq!(gateway.visit("/vault").status, 302);
}

#[test]
fn wrong_passwords_are_limited_by_address_and_then_by_link() {
    let gateway = gateway();
    for _ in 0..5 {
        is_form(&post(&gateway, "/vault", WRONG), 403);
    }
    let refused = post(&gateway, "/vault", RIGHT);
    is_form(&refused, 429);
    assert_eq!(refused.header("retry-after"), Some("600"));
    // Another name at the same address is the same client; another address is another one.
    let headers = [("x-client-id", "somebody-else")];
    is_form(&gateway.call("POST", "/vault", &headers, RIGHT), 429);
    assert_eq!(post_from(&gateway, "/vault", RIGHT, "192.0.2.2").status, 303);
    // Other links are not concerned.
    gateway.link("other", json!({ "password": "open sesame!" }));
    assert_eq!(post(&gateway, "/other", RIGHT).status, 303);
    // Nor by another code of the same link.
    assert_eq!(
        gateway
            .admin("PATCH", "/api/links/vault", &json!({ "code": "vault2" }))
            .status,
        200
    );
    is_form(&post(&gateway, "/vault2", RIGHT), 429);
    gateway.pass(600 * SECOND);
    assert_eq!(post(&gateway, "/vault2", RIGHT).status, 303);
}

#[test]
fn who_knows_the_password_is_not_counted() {
    let gateway = gateway();
    for _ in 0..8 {
        is_form(&post(&gateway, "/vault", WRONG), 403);
        assert_eq!(post(&gateway, "/vault", RIGHT).status, 303);
    }
}

#[test]
fn only_a_hash_is_stored() {
    let gateway = gateway();
    let key = [
        ("authorization", "Bearer an-admin-key-for-tests"),
        ("idempotency-key", "k1"),
    ];
    let body = json!({ "url": "https://example.com/", "password": "very secret words" });
    let made = gateway.call("POST", "/api/links", &key, &body);
    let again = gateway.call("POST", "/api/links", &key, &body);
    assert_eq!((made.status, made.body), (201, again.body));
    let another = json!({ "url": "https://example.com/", "password": "other words" });
    assert_eq!(gateway.call("POST", "/api/links", &key, &another).status, 422);
    let everything = ready(gateway.store.scan("", None, 1_000)).unwrap();
    for item in everything {
        let value = String::from_utf8_lossy(&item.entry.value);
        assert!(
            !value.contains("sesame") && !value.contains("secret words"),
            "{}: {value}",
            item.key
        );
    }
    let shown = gateway.read("vault");
    assert_eq!(shown["hasPassword"], true);
    assert!(shown.get("password").is_none());
}

#[test]
fn a_numbered_link_counts_who_comes_in_alone() {
    let gateway = gateway();
    let patch = json!({ "maxVisits": 1 });
    assert_eq!(gateway.admin("PATCH", "/api/links/vault", &patch).status, 200);
    is_form(&gateway.visit("/vault"), 200);
    is_form(&post(&gateway, "/vault", WRONG), 403);
    assert_eq!(post(&gateway, "/vault", RIGHT).status, 303);
    assert_eq!(post(&gateway, "/vault", RIGHT).status, 410);
}

#[test]
fn rules_hold_for_who_knew_the_password() {
    let gateway = gateway();
    let rules = json!({ "rules": [{ "when": { "os": "linux" }, "url": "https://example.com/linux" }] });
    assert_eq!(gateway.admin("PATCH", "/api/links/vault", &rules).status, 200);
    let opened = post(&gateway, "/vault", RIGHT);
    assert_eq!(opened.header("location"), Some("https://example.com/linux"));
    let again = with_cookie(&gateway, "/vault", &cookie(&opened));
    assert_eq!(again.header("location"), Some("https://example.com/linux"));
}

#[test]
fn the_form_is_in_the_language_that_is_asked_for() {
    let gateway = gateway();
    for (language, word) in [
        ("ko-KR,ko;q=0.9", "비밀번호"),
        ("de", "Passwort"),
        ("fr", "Password"),
    ] {
        let headers = [("user-agent", BROWSER), ("accept-language", language)];
        let page = text(&gateway.call("GET", "/vault", &headers, &Value::Null));
        assert!(page.contains(word), "{page}");
    }
}

#[test]
fn many_passwords_are_not_hashed_by_one_call() {
    let gateway = Gateway::new();
    let link =
        |n: u32| json!({ "url": "https://example.com/", "code": format!("link-{n}"), "password": "p" });
    let links: Vec<Value> = (0..17).map(link).collect();
    let refused = gateway.admin("POST", "/api/links/bulk", &json!({ "links": links }));
    assert_eq!(pointer(&refused), "#/links/16/password");
    let escaped = json!({ "links": links })
        .to_string()
        .replace("password", "pass\\u0077ord");
    let refused = gateway.admin("POST", "/api/links/bulk", escaped.as_bytes());
    assert_eq!(pointer(&refused), "#/links/16/password");
    // None of these has one.
    let link = json!({ "url": "https://example.com/", "password": null, "tags": ["password"] });
    let made = gateway.admin("POST", "/api/links/bulk", &json!({ "links": vec![link; 17] }));
    assert_eq!(made.status, 207, "{}", text(&made));
    for result in json_of(&made)["results"].as_array().unwrap() {
        assert_eq!(result["status"], 201);
    }
}
