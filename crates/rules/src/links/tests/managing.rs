use super::*;
use tollgate_store::commit::StoreError;

/// A link of a member, the member's key, and another member's.
fn owned(gateway: &Gateway) -> (String, String) {
    let (member, other) = (gateway.member(Scope::Links), gateway.member(Scope::Links));
    let body = json!({"url": "https://example.com/a", "code": "abc", "title": "T", "tags": ["x"]});
    assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 201);
    (member, other)
}

#[test]
fn a_link_is_its_owners_its_token_holders_and_the_admins() {
    let gateway = Gateway::new();
    let (member, other) = owned(&gateway);
    let anonymous = |client: &str| {
        let body = json!({"url": "https://example.com/b"});
        json_of(&gateway.call("POST", "/api/links", &[("x-client-id", client)], &body))
    };
    let (theirs, foreign) = (anonymous("me"), anonymous("you"));
    let token = theirs["manageToken"].as_str().unwrap();
    let foreign_token = foreign["manageToken"].as_str().unwrap();
    let campaigns = gateway.member(Scope::Campaigns);
    for (method, path, body) in [
        ("GET", "/api/links/abc", Value::Null),
        ("PATCH", "/api/links/abc", json!({"title": "U"})),
        ("POST", "/api/links/abc/extend", json!({"expiresAt": at(SECOND)})),
        ("DELETE", "/api/links/abc", Value::Null),
    ] {
        assert_eq!(
            gateway.call(method, path, &[("x-client-id", "me")], &body).status,
            401,
            "{method}"
        );
        assert_eq!(
            gateway.with("tg_x_y", method, path, &body).status,
            401,
            "{method}"
        );
        for credential in [&*other, token, &*campaigns] {
            assert_eq!(
                gateway.with(credential, method, path, &body).status,
                403,
                "{method} {credential}"
            );
        }
    }
    let path = format!("/api/links/{}", theirs["code"].as_str().unwrap());
    assert_eq!(
        gateway.with(foreign_token, "GET", &path, &Value::Null).status,
        403
    );
    for (credential, path) in [
        (&*member, "/api/links/abc"),
        (token, &*path),
        (ADMIN, "/api/links/abc"),
        (ADMIN, &path),
    ] {
        assert_eq!(
            gateway
                .with(credential, "PATCH", path, &json!({"title": credential}))
                .status,
            200
        );
        assert_eq!(
            json_of(&gateway.with(credential, "GET", path, &Value::Null))["title"],
            credential
        );
    }
    assert_eq!(gateway.with(token, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(gateway.with(token, "GET", &path, &Value::Null).status, 404);
}

#[test]
fn a_patch_changes_what_it_holds_and_null_clears() {
    let gateway = Gateway::new();
    gateway.link(
        "abc",
        json!({"title": "T", "tags": ["x"], "maxVisits": 3, "redirect": 301, "externalId": "e"}),
    );
    let created = gateway.read("abc");
    gateway.pass(SECOND);
    let patch = json!({"url": "https://example.com/new", "title": null, "maxVisits": null, "redirect": null,
        "expiresAt": at(60 * SECOND), "forwardQuery": true});
    let response = gateway.admin("PATCH", "/api/links/abc", &patch);
    assert_eq!(response.status, 200);
    let mut expected = created;
    for (name, value) in [
        ("url", json!("https://example.com/new")),
        ("title", Value::Null),
        ("maxVisits", Value::Null),
        ("redirect", json!(302)),
        ("expiresAt", json!(at(60 * SECOND))),
        ("forwardQuery", json!(true)),
        ("updatedAt", json!(at(SECOND))),
    ] {
        expected[name] = value;
    }
    assert_eq!(json_of(&response), expected);
    assert_eq!(gateway.read("abc"), expected);
    assert_eq!(
        gateway.visit("/abc").header("location"),
        Some("https://example.com/new")
    );
    let cleared = gateway.admin(
        "PATCH",
        "/api/links/abc",
        &json!({"tags": null, "forwardQuery": null, "expiresAt": null}),
    );
    assert_eq!(json_of(&cleared)["tags"], json!([]));
    assert_eq!(json_of(&cleared)["expiresAt"], Value::Null);
}

#[test]
fn an_empty_patch_changes_nothing() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let created = gateway.read("abc");
    gateway.pass(SECOND);
    assert_eq!(
        json_of(&gateway.admin("PATCH", "/api/links/abc", &json!({}))),
        created
    );
}

#[test]
fn a_patch_that_breaks_a_rule_names_the_field_and_changes_nothing() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"validFrom": at(60 * SECOND)}));
    let created = gateway.read("abc");
    for (name, body) in [
        ("url", json!({"title": "new", "url": null})),
        ("url", json!({"url": "ftp://x/"})),
        ("fallbackUrl", json!({"fallbackUrl": "x"})),
        ("redirect", json!({"redirect": 200})),
        ("expiresAt", json!({"expiresAt": at(0)})),
        ("expiresAt", json!({"expiresAt": at(60 * SECOND)})),
        ("expiresAt", json!({"expiresAt": 5})),
        ("maxVisits", json!({"maxVisits": 0})),
        ("tags/0", json!({"tags": [""]})),
        ("code", json!({"code": "no code"})),
        ("owner", json!({"owner": "key:me"})),
        ("createdAt", json!({"createdAt": at(0)})),
        ("visits", json!({"visits": 0})),
    ] {
        assert_eq!(
            pointer(&gateway.admin("PATCH", "/api/links/abc", &body)),
            format!("#/{name}"),
            "{body}"
        );
    }
    assert_eq!(gateway.read("abc"), created);
}

#[test]
fn an_edit_keeps_the_visits() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"maxVisits": 2}));
    gateway.visit("/abc");
    let patched = json_of(&gateway.admin("PATCH", "/api/links/abc", &json!({"title": "x"})));
    assert_eq!(patched["visits"], 1);
    gateway.visit("/abc");
    assert_eq!(gateway.visit("/abc").status, 410);
    gateway.admin("PATCH", "/api/links/abc", &json!({"maxVisits": 3}));
    assert_eq!(gateway.visit("/abc").status, 302);
    assert_eq!(gateway.visit("/abc").status, 410);
}

#[test]
fn an_extension_moves_the_end_from_where_it_is_or_from_now() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"expiresAt": at(10 * SECOND)}));
    let extend = |body: &Value| gateway.admin("POST", "/api/links/abc/extend", body);
    assert_eq!(
        json_of(&extend(&json!({"seconds": 5})))["expiresAt"],
        at(15 * SECOND)
    );
    gateway.pass(20 * SECOND);
    assert_eq!(gateway.visit("/abc").status, 410);
    assert_eq!(
        json_of(&extend(&json!({"seconds": 5})))["expiresAt"],
        at(25 * SECOND)
    );
    assert_eq!(gateway.visit("/abc").status, 302);
    let response = extend(&json!({"expiresAt": at(90 * SECOND)}));
    assert_eq!(
        (response.status, json_of(&response)["expiresAt"].clone()),
        (200, json!(at(90 * SECOND)))
    );
    for (name, body) in [
        ("#", json!({})),
        ("#", json!({"seconds": 1, "expiresAt": at(99 * SECOND)})),
        ("#/seconds", json!({"seconds": 0})),
        ("#/seconds", json!({"seconds": u64::MAX})),
        ("#/seconds", json!({"seconds": "5"})),
        ("#/expiresAt", json!({"expiresAt": at(89 * SECOND)})),
        ("#/minutes", json!({"minutes": 5})),
    ] {
        assert_eq!(pointer(&extend(&body)), name, "{body}");
    }
    gateway.link("endless", json!({}));
    let response = gateway.admin("POST", "/api/links/endless/extend", &json!({"seconds": 5}));
    assert_eq!(pointer(&response), "#/seconds");
}

#[test]
fn a_deleted_link_leaves_nothing_behind() {
    let gateway = Gateway::new();
    let before = ready(gateway.store.scan("", None, 1_000)).unwrap();
    gateway.link("abc", json!({"expireAfterIdle": 60}));
    gateway.visit("/abc");
    let response = gateway.admin("DELETE", "/api/links/abc", &Value::Null);
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(gateway.visit("/abc").status, 404);
    assert_eq!(
        gateway.admin("DELETE", "/api/links/abc", &Value::Null).status,
        404
    );
    // A click on it may still be under way, for an hour at most.
    gateway.pass(3_600 * SECOND);
    gateway.maintain_links();
    let mut after = ready(gateway.store.scan("", None, 1_000)).unwrap();
    // That somebody came for what is not there any more is noted.
    after.retain(|item| !item.key.starts_with("links/repair/") && !item.key.contains("/lost/"));
    assert_eq!(after, before);
}

#[test]
fn methods_and_addresses_are_told_apart() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    for (method, path, allow) in [
        ("PUT", "/api/links", "GET, HEAD, POST"),
        ("POST", "/api/links/abc", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", "/api/links/abc/extend", "POST"),
        ("GET", "/api/links/bulk", "POST, PATCH, DELETE"),
        ("DELETE", "/api/links/claim", "POST"),
    ] {
        let response = gateway.admin(method, path, &Value::Null);
        assert_eq!(
            (response.status, response.header("allow")),
            (405, Some(allow)),
            "{path}"
        );
    }
    for path in [
        "/api/links/top",
        "/api/links/abc/stat",
        "/api/links/",
        "/api/links/a.b",
        "/api/x",
    ] {
        assert_eq!(gateway.admin("GET", path, &Value::Null).status, 404, "{path}");
    }
    let response = gateway.call(
        "PATCH",
        "/api/links/abc",
        &[
            ("authorization", &format!("Bearer {ADMIN}")),
            ("content-type", "text/plain"),
        ],
        &json!({}),
    );
    assert_eq!(response.status, 415);
}

#[test]
fn a_store_that_fails_changes_nothing_and_says_so() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    assert_eq!(
        gateway
            .admin("PATCH", "/api/links/abc", &json!({"title": "x"}))
            .status,
        503
    );
    assert_eq!(gateway.read("abc")["title"], Value::Null);
}
