use super::*;
use crate::codes;
use tollgate_store::commit::StoreError;

const URL: &str = "https://example.com/a";

fn anonymous(gateway: &Gateway, client: &str, body: &Value) -> Response {
    gateway.call("POST", "/api/links", &[("x-client-id", client)], body)
}

#[test]
fn a_created_link_is_shown_whole_with_absent_values_as_null() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let response = gateway.with(&member, "POST", "/api/links", &json!({"url": URL}));
    assert_eq!(response.status, 201);
    let link = json_of(&response);
    let code = link["code"].as_str().unwrap();
    assert_eq!(
        response.header("location"),
        Some(format!("/api/links/{code}").as_str())
    );
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    assert_eq!(code.len(), 7);
    let owner = format!("key:{}", member.split('_').nth(1).unwrap());
    let expected = json!({
        "id": link["id"], "code": code, "domain": null, "shortUrl": format!("http://localhost:3000/{code}"), "url": URL,
        "redirect": 302, "createdAt": at(0), "updatedAt": at(0), "validFrom": null, "expiresAt": null,
        "expireAfterIdle": null, "lastVisitedAt": null, "visits": 0, "uniqueVisitors": 0, "bots": 0, "maxVisits": null, "fallbackUrl": null,
        "forwardQuery": false, "tags": [], "title": null, "externalId": null, "owner": owner, "archived": false,
        "hasPassword": false, "rules": [], "targets": [], "utm": null, "notifyBefore": null, "events": false
    });
    assert_eq!(link, expected);
    assert_eq!(gateway.read(code), expected);
    assert_eq!(gateway.visit(&format!("/{code}")).header("location"), Some(URL));
}

#[test]
fn every_field_is_kept() {
    let gateway = Gateway::new();
    let body = json!({
        "url": URL, "code": "My_Code-1", "redirect": 307, "expiresAt": at(9 * SECOND), "validFrom": at(SECOND),
        "expireAfterIdle": 60, "maxVisits": 5, "fallbackUrl": "https://example.org/", "forwardQuery": true,
        "tags": ["a", "b"], "title": "Tïtle", "externalId": "ext-1",
        "rules": [{ "when": { "device": "tablet", "before": at(SECOND) }, "url": "https://example.com/r" }],
        "targets": [{ "url": "https://example.com/t", "weight": 7 }]
    });
    let link = gateway.create(&body);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&link[name], value, "{name}");
    }
    assert_eq!(gateway.read("My_Code-1"), link);
}

#[test]
fn an_anonymous_creator_gets_a_manage_token_once() {
    let gateway = Gateway::new();
    let response = anonymous(&gateway, "visitor/7", &json!({"url": URL}));
    assert_eq!(response.status, 201);
    let link = json_of(&response);
    assert_eq!(link["owner"], "client:visitor/7");
    let (code, token) = (
        link["code"].as_str().unwrap(),
        link["manageToken"].as_str().unwrap(),
    );
    let path = format!("/api/links/{code}");
    let read = gateway.with(token, "GET", &path, &Value::Null);
    assert_eq!((read.status, json_of(&read).get("manageToken")), (200, None));
    let stored = ready(gateway.store.scan("", None, 100)).unwrap();
    let secret = token.strip_prefix("lm_").unwrap();
    assert!(
        !stored
            .iter()
            .any(|item| String::from_utf8_lossy(&item.entry.value).contains(secret))
    );
}

#[test]
fn creators_must_be_somebody() {
    let mut gateway = Gateway::new();
    let body = json!({"url": URL});
    let nobody = gateway.call("POST", "/api/links", &[], &body);
    assert_eq!(
        (nobody.status, kind(&nobody).as_str()),
        (400, "client-id-required")
    );
    // A credential that is not good is not ignored in favour of the client id.
    let headers = [("authorization", "Bearer tg_wrong"), ("x-client-id", "me")];
    assert_eq!(gateway.call("POST", "/api/links", &headers, &body).status, 401);
    let other = gateway.member(Scope::Campaigns);
    assert_eq!(gateway.with(&other, "POST", "/api/links", &body).status, 403);
    assert_eq!(pointer(&anonymous(&gateway, "a b", &body)), "header:x-client-id");
    gateway.settings.config.links.anonymous = false;
    let response = anonymous(&gateway, "me", &body);
    assert_eq!(
        (response.status, response.header("www-authenticate")),
        (401, Some("Bearer"))
    );
}

#[test]
fn every_field_that_breaks_a_rule_is_named_and_nothing_is_stored() {
    let gateway = Gateway::new();
    let before = ready(gateway.store.scan("", None, 1_000)).unwrap();
    let long = "x".repeat(201);
    for (name, fields) in [
        ("url", json!({"url": "nonsense"})),
        ("url", json!({"url": "http://localhost:9/x"})),
        ("url", json!({"url": null})),
        ("url", json!({"url": 5})),
        ("code", json!({"code": "ab"})),
        ("code", json!({"code": "a/b"})),
        ("code", json!({"code": "API"})),
        ("code", json!({"code": "signup"})),
        ("code", json!({"code": "bulk"})),
        ("codeLength", json!({"codeLength": 3})),
        ("codeLength", json!({"codeLength": 33})),
        ("codeLength", json!({"codeLength": 7.5})),
        ("redirect", json!({"redirect": 303})),
        ("redirect", json!({"redirect": "302"})),
        ("expiresAt", json!({"expiresAt": at(0)})),
        ("expiresAt", json!({"expiresAt": "tomorrow"})),
        ("expiresAt", json!({"expiresAt": 1_900_000_000})),
        (
            "validFrom",
            json!({"validFrom": at(9_000), "expiresAt": at(9_000)}),
        ),
        ("expireAfterIdle", json!({"expireAfterIdle": 0})),
        ("expireAfterIdle", json!({"expireAfterIdle": -1})),
        ("maxVisits", json!({"maxVisits": 0})),
        ("maxVisits", json!({"maxVisits": 9_007_199_254_740_993_u64})),
        ("fallbackUrl", json!({"fallbackUrl": "javascript:x"})),
        ("fallbackUrl", json!({"fallbackUrl": "http://localhost:3000/abc"})),
        ("forwardQuery", json!({"forwardQuery": "yes"})),
        (
            "tags",
            json!({"tags": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]}),
        ),
        ("tags/1", json!({"tags": ["a", ""]})),
        ("title", json!({"title": long})),
        ("externalId", json!({"externalId": ""})),
        ("ifExists", json!({"ifExists": "replace"})),
        ("owner", json!({"owner": "key:other"})),
        ("nope", json!({"nope": 1})),
    ] {
        let mut body = json!({"url": URL});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let response = gateway.admin("POST", "/api/links", &body);
        assert_eq!(pointer(&response), format!("#/{name}"), "{fields}");
    }
    assert_eq!(pointer(&gateway.admin("POST", "/api/links", &json!({}))), "#/url");
    assert_eq!(pointer(&gateway.admin("POST", "/api/links", &json!([]))), "#");
    assert_eq!(ready(gateway.store.scan("", None, 1_000)).unwrap(), before);
}

#[test]
fn a_code_that_is_taken_is_never_taken_over() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let response = anonymous(&gateway, "me", &json!({"url": URL, "code": "abc"}));
    assert_eq!((response.status, kind(&response).as_str()), (409, "conflict"));
    assert_eq!(json_of(&response)["errors"][0]["pointer"], "#/code");
    assert_eq!(gateway.read("abc")["url"], "https://example.com/landing");
    // Codes differ by case.
    gateway.link("ABC", json!({}));
}

#[test]
fn a_generated_code_that_is_taken_is_tried_again() {
    let gateway = Gateway::new();
    gateway.create(&json!({"url": URL, "codeLength": 12}));
    // The next fresh values are: the link's id, its code, and, once it is there, the chance of a sweep.
    let next = (gateway.count.get() + 2).to_be_bytes();
    let taken = codes::generate(next, 12, &gateway.settings.config);
    gateway.count.set(gateway.count.get() + 100);
    gateway.link(&taken, json!({}));
    gateway.count.set(u128::from_be_bytes(next) - 2);
    let link = gateway.create(&json!({"url": URL, "codeLength": 12}));
    assert_ne!(link["code"], taken);
    assert_eq!(
        gateway.visit(&format!("/{taken}")).header("location"),
        Some("https://example.com/landing")
    );
    assert_eq!(
        gateway.count.get(),
        u128::from_be_bytes(next) + 3,
        "the collision was met: another id and code, and the note of the visit"
    );
}

#[test]
fn an_existing_link_is_returned_to_its_owner_only() {
    let gateway = Gateway::new();
    let (member, other) = (gateway.member(Scope::Links), gateway.member(Scope::Links));
    let body = json!({"url": URL, "ifExists": "return"});
    let post = |key: &str, body: &Value| gateway.with(key, "POST", "/api/links", body);
    let first = post(&member, &body);
    assert_eq!(first.status, 201);
    let again = post(&member, &body);
    assert_eq!(again.status, 200);
    assert_eq!(json_of(&again), json_of(&first));
    assert_eq!(post(&other, &body).status, 201);
    assert_eq!(
        post(
            &member,
            &json!({"url": "https://example.com/b", "ifExists": "return"})
        )
        .status,
        201
    );
    assert_eq!(post(&member, &json!({"url": URL})).status, 201, "new is new");
    assert_eq!(post(&member, &body).status, 200);
}

#[test]
fn a_link_that_is_of_no_use_is_not_returned() {
    let gateway = Gateway::new();
    let body = json!({"url": URL, "ifExists": "return"});
    let post = || gateway.admin("POST", "/api/links", &body);
    let code = |response: &Response| json_of(response)["code"].as_str().unwrap().to_owned();
    let first = code(&post());
    gateway.admin(
        "PATCH",
        &format!("/api/links/{first}"),
        &json!({"archived": true}),
    );
    let second = post();
    assert_eq!(second.status, 201);
    let second = code(&second);
    // Its URL changed: it is no link to the old one, but to the new one.
    gateway.admin(
        "PATCH",
        &format!("/api/links/{second}"),
        &json!({"url": "https://example.com/moved"}),
    );
    let third = post();
    assert_eq!(third.status, 201);
    let moved = gateway.admin(
        "POST",
        "/api/links",
        &json!({"url": "https://example.com/moved", "ifExists": "return"}),
    );
    assert_eq!((moved.status, code(&moved)), (200, second));
    gateway.admin("DELETE", &format!("/api/links/{}", code(&third)), &Value::Null);
    let fourth = post();
    assert_eq!(fourth.status, 201);
    assert_ne!(
        code(&fourth),
        code(&third),
        "a deleted link's code does not come back"
    );
}

#[test]
fn a_code_that_is_taken_is_refused_with_return_too() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let response = gateway.admin(
        "POST",
        "/api/links",
        &json!({"url": URL, "code": "abc", "ifExists": "return"}),
    );
    assert_eq!(response.status, 409);
    let response = gateway.admin(
        "POST",
        "/api/links",
        &json!({"url": URL, "code": "xyz", "ifExists": "return"}),
    );
    assert_eq!(
        (response.status, json_of(&response)["code"].as_str()),
        (201, Some("xyz"))
    );
}

#[test]
fn a_store_that_fails_creates_nothing() {
    let gateway = Gateway::new();
    for error in [
        StoreError::Unavailable("down".into()),
        StoreError::Unknown("lost".into()),
    ] {
        gateway.store.fail_next(error);
        let response = anonymous(&gateway, "me", &json!({"url": URL}));
        assert_eq!(response.status, 503);
    }
    assert_eq!(ready(gateway.store.scan("link/", None, 10)).unwrap(), []);
}

#[test]
fn a_visit_that_outlives_its_link_does_not_count_for_the_next_one_of_that_code() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    gateway.admin("DELETE", "/api/links/abc", &Value::Null);
    let late = tollgate_store::commit::Mutation::Add {
        key: "visits/abc".into(),
        delta: 1,
        min: None,
        max: None,
    };
    gateway.store.defer(tollgate_store::commit::Commit {
        mutations: vec![late],
        ..Default::default()
    });
    gateway.link("abc", json!({}));
    assert_eq!(gateway.visits("abc"), 0);
}

#[test]
fn the_newest_live_link_that_fits_is_returned_also_after_a_newer_one_is_gone() {
    let gateway = Gateway::new();
    let post = |body: &Value| gateway.admin("POST", "/api/links", body);
    let older = json_of(&post(&json!({"url": URL, "code": "older"})));
    gateway.pass(SECOND);
    post(&json!({"url": URL, "code": "newer"}));
    let asked = json!({"url": URL, "ifExists": "return"});
    assert_eq!(json_of(&post(&asked))["code"], "newer");
    gateway.admin("DELETE", "/api/links/newer", &Value::Null);
    let found = post(&asked);
    assert_eq!((found.status, json_of(&found)), (200, older));
    gateway.pass(SECOND);
    post(&json!({"url": URL, "code": "archive"}));
    gateway.admin("PATCH", "/api/links/archive", &json!({"archived": true}));
    assert_eq!(json_of(&post(&asked))["code"], "older");
}

#[test]
fn a_link_is_returned_only_where_every_field_that_was_sent_fits_it() {
    let gateway = Gateway::new();
    let post = |body: &Value| gateway.admin("POST", "/api/links", body);
    let end = at(1_000 * SECOND);
    post(&json!({"url": URL, "code": "plain"}));
    for (n, wish) in [
        json!({"code": "mine"}),
        json!({"maxVisits": 3}),
        json!({"expiresAt": end}),
        json!({"expireAfterIdle": 60}),
        json!({"redirect": 308}),
        json!({"fallbackUrl": "https://example.com/fallback"}),
        json!({"forwardQuery": true}),
        json!({"tags": ["a", "b"]}),
        json!({"title": "A title"}),
        json!({"externalId": "7"}),
        json!({"codeLength": 9}),
        json!({"validFrom": at(SECOND)}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"url": format!("{URL}?{n}"), "ifExists": "return"});
        gateway.create(&json!({"url": body["url"], "code": format!("plain-{n}")}));
        let wished = wish.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(wished);
        let (made, found) = (post(&body), post(&body));
        assert_eq!((made.status, found.status), (201, 200), "{wish}");
        assert_eq!(json_of(&made), json_of(&found), "{wish}");
        // A caller that does not say is content with either.
        let any = json!({"url": body["url"], "ifExists": "return"});
        assert_eq!(post(&any).status, 200);
    }
    let reordered = json!({"url": format!("{URL}?7"), "tags": ["b", "a"], "ifExists": "return"});
    assert_eq!(post(&reordered).status, 200);
}
