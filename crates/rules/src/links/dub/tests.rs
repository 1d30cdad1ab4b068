//! Dub's calls against the store in memory.

use serde_json::{Value, json};

use crate::testing::{ADMIN, Gateway, SECOND, body, ready, text};
use tollgate_api::http::Response;
use tollgate_store::ports::Store as _;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const PHONE: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36";

impl Gateway {
    fn dub(&self, method: &str, path: &str, sent: Value) -> Response {
        let path = format!("/api/dub/links{path}");
        let key = format!("Bearer {ADMIN}");
        self.call(method, &path, &[("authorization", &*key)], &sent)
    }

    #[track_caller]
    fn dub_ok(&self, method: &str, path: &str, sent: Value) -> Value {
        let answer = self.dub(method, path, sent);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        body(&answer)
    }

    fn led_to(&self, path: &str, agent: &str) -> String {
        let answer = self.call("GET", path, &[("user-agent", agent)], &Value::Null);
        answer.header("location").unwrap_or_default().to_owned()
    }
}

/// The status and the code of a refusal, and whether its message begins so.
#[track_caller]
fn refused(answer: &Response, status: u16, code: &str, begins: &str) {
    let error = &body(answer)["error"];
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with(begins) && error["doc_url"].is_string(),
        "{error}"
    );
}

fn keys(listed: &Value) -> Vec<&str> {
    let links = listed.as_array().unwrap().iter();
    links.map(|link| link["key"].as_str().unwrap()).collect()
}

#[test]
fn a_link_is_made_shown_changed_and_removed() {
    let gateway = Gateway::new();
    let sent = json!({
        "url": "https://example.com/a?utm_source=page&b", "key": "spring", "externalId": "mine", "tagNames": ["t1", "t2"], "title": "Spring",
        "expiresAt": "2030-01-01T00:00:00+01:00", "expiredUrl": "https://example.com/over", "utm_source": "mail", "utm_term": null,
        "ios": "https://example.com/ios", "android": "", "geo": { "KR": "https://example.com/kr" }, "password": null, "comments": "none",
        "trackConversion": true, "nobodyKnows": 1, "domain": "localhost:3000",
    });
    let made = gateway.dub_ok("POST", "", sent);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("link_"), "{id}");
    for (member, value) in [
        ("shortLink", json!("http://localhost:3000/spring")),
        ("url", json!("https://example.com/a?utm_source=page&b")),
        ("expiresAt", json!("2029-12-31T23:00:00Z")),
        ("expiredUrl", json!("https://example.com/over")),
        ("ios", json!("https://example.com/ios")),
        ("android", Value::Null),
        ("geo", json!({ "KR": "https://example.com/kr" })),
        ("utm_source", json!("mail")),
        ("utm_term", Value::Null),
        (
            "tags",
            json!([{ "id": "t1", "name": "t1", "color": "gray" }, { "id": "t2", "name": "t2", "color": "gray" }]),
        ),
        ("clicks", json!(0)),
        ("archived", json!(false)),
    ] {
        assert_eq!(made[member], value, "{member}");
    }
    assert_eq!(
        gateway.led_to("/spring", FIREFOX),
        "https://example.com/a?b&utm_source=mail"
    );
    for query in [
        "?linkId=",
        "?externalId=ext_mine&x=",
        "?externalId=mine&x=",
        "?domain=localhost:3000&key=spring&x=",
    ] {
        let shown = gateway.dub_ok("GET", &format!("/info{query}{id}"), Value::Null);
        assert_eq!(shown["id"], made["id"], "{query}");
    }
    // One of its ways is changed, and the others stay.
    let patch = json!({ "android": "https://example.com/android", "title": null, "utm_medium": "email", "key": "summer", "archived": null });
    let changed = gateway.dub_ok("PATCH", &format!("/{id}"), patch);
    for (member, value) in [
        ("id", json!(id)),
        ("key", json!("summer")),
        ("title", Value::Null),
        ("ios", json!("https://example.com/ios")),
        ("android", json!("https://example.com/android")),
        ("geo", json!({ "KR": "https://example.com/kr" })),
        ("utm_source", json!("mail")),
        ("utm_medium", json!("email")),
        ("clicks", json!(1)),
    ] {
        assert_eq!(changed[member], value, "{member}");
    }
    assert_eq!(
        gateway.led_to("/summer", PHONE),
        "https://example.com/android?utm_source=mail&utm_medium=email"
    );
    let cleared = json!({ "ios": null, "android": null, "geo": null, "utm_source": null, "utm_medium": "", "tagNames": [] });
    let cleared = gateway.dub_ok("PATCH", "/ext_mine", cleared);
    assert_eq!(
        (&cleared["geo"], &cleared["utm_source"], &cleared["tags"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    assert_eq!(
        gateway.led_to("/summer", PHONE),
        "https://example.com/a?utm_source=page&b"
    );
    let bare = id.trim_start_matches("link_");
    assert_eq!(
        gateway.dub_ok("DELETE", &format!("/{bare}"), Value::Null),
        json!({ "id": id })
    );
    refused(
        &gateway.dub("DELETE", &format!("/{id}"), Value::Null),
        404,
        "not_found",
        "There is no such link.",
    );
    refused(
        &gateway.dub("PATCH", "/ext_mine", json!({})),
        404,
        "not_found",
        "",
    );
}

#[test]
fn rules_of_our_own_stay_before_those_of_dub() {
    let gateway = Gateway::new();
    let own = json!({ "when": { "os": "ios", "language": "ko" }, "url": "https://example.com/ko" });
    let link = json!({ "url": "https://example.com/", "code": "ways", "rules": [
        { "when": { "country": "DE" }, "url": "https://example.com/de" }, own,
    ]});
    gateway.admin("POST", "/api/links", &link);
    let id = gateway.dub_ok("GET", "/info?key=ways", Value::Null)["id"].clone();
    gateway.dub_ok(
        "PATCH",
        &format!("/{}", id.as_str().unwrap()),
        json!({ "ios": "https://example.com/ios" }),
    );
    let rules = body(&gateway.admin("GET", "/api/links/ways", &Value::Null))["rules"].clone();
    let when: Vec<_> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["when"].clone())
        .collect();
    assert_eq!(
        when,
        [
            own["when"].clone(),
            json!({ "os": "ios" }),
            json!({ "country": "DE" })
        ]
    );
}

#[test]
fn a_test_leads_by_its_shares() {
    let gateway = Gateway::new();
    let variants = json!([
        { "url": "https://example.com/a", "percentage": 33.33 }, { "url": "https://example.com/b", "percentage": 66.67 },
    ]);
    let sent = json!({ "url": "https://example.com/", "key": "split", "testVariants": variants });
    assert_eq!(gateway.dub_ok("POST", "", sent)["testVariants"], variants);
    let targets = body(&gateway.admin("GET", "/api/links/split", &Value::Null))["targets"].clone();
    assert_eq!(
        (&targets[0]["weight"], &targets[1]["weight"]),
        (&json!(3333), &json!(6667))
    );
    for bad in [
        json!(1),
        json!([{ "url": "https://example.com/a" }]),
        json!([{ "url": "https://example.com/a", "percentage": 0 }]),
    ] {
        let sent = json!({ "url": "https://example.com/", "testVariants": bad });
        refused(
            &gateway.dub("POST", "", sent),
            422,
            "unprocessable_entity",
            "testVariants: ",
        );
    }
}

#[test]
fn upsert_changes_the_link_to_a_url_or_makes_it() {
    let gateway = Gateway::new();
    let url = "https://example.com/landing";
    let made = gateway.dub_ok(
        "PUT",
        "/upsert",
        json!({ "url": url, "key": "one", "tagNames": "a, b" }),
    );
    gateway.store.set_now(gateway.store.now() + SECOND);
    let again = gateway.dub_ok("PUT", "/upsert", json!({ "url": url, "key": "one" }));
    assert_eq!(again, made, "nothing is changed");
    let changed = gateway.dub_ok(
        "PUT",
        "/upsert",
        json!({ "url": url, "key": "two", "title": "T", "archived": true }),
    );
    assert_eq!(
        (&changed["id"], &changed["key"], &changed["title"]),
        (&made["id"], &json!("two"), &json!("T"))
    );
    assert_eq!(
        (&changed["tags"], &changed["archived"]),
        (&made["tags"], &json!(true))
    );
    let other = gateway.dub_ok(
        "PUT",
        "/upsert",
        json!({ "url": "https://example.com/other", "archived": true }),
    );
    assert!(other["id"] != made["id"] && other["archived"] == json!(true));
    let taken = gateway.dub(
        "PUT",
        "/upsert",
        json!({ "url": "https://example.com/other", "key": "two" }),
    );
    refused(&taken, 409, "conflict", "");
    assert_eq!(
        gateway.dub_ok("GET", "/count?showArchived=true", Value::Null),
        json!(2)
    );
    assert_eq!(gateway.dub_ok("GET", "/count", Value::Null), json!(0));
}

#[test]
fn lists_are_filtered_ordered_and_cut_into_pages() {
    let gateway = Gateway::new();
    for n in 0..5 {
        let tags = if n % 2 == 0 { json!(["Even"]) } else { json!([]) };
        let sent =
            json!({ "url": format!("https://example.com/{n}"), "key": format!("key{n}"), "tagNames": tags });
        gateway.dub_ok("POST", "", sent);
        gateway.store.set_now(gateway.store.now() + SECOND);
    }
    gateway.led_to("/key3", FIREFOX);
    let list = |query: &str| gateway.dub_ok("GET", query, Value::Null);
    assert_eq!(keys(&list("")), ["key4", "key3", "key2", "key1", "key0"]);
    assert_eq!(keys(&list("?pageSize=2&page=2")), ["key2", "key1"]);
    assert_eq!(keys(&list("?pageSize=2&page=9")), [""; 0]);
    assert_eq!(keys(&list("?sortBy=clicks&pageSize=1")), ["key3"]);
    assert_eq!(keys(&list("?sortOrder=asc&pageSize=1")), ["key0"]);
    assert_eq!(keys(&list("?tagNames=even&tagNames=x")), ["key4", "key2", "key0"]);
    assert_eq!(keys(&list("?withTags=true&search=KEY2")), ["key2"]);
    assert_eq!(keys(&list("?domain=elsewhere.example")), [""; 0]);
    assert_eq!(keys(&list("?tenantId=t")), [""; 0]);
    let all = list("");
    let id = all[2]["id"].as_str().unwrap();
    assert_eq!(keys(&list(&format!("?startingAfter={id}&pageSize=1"))), ["key1"]);
    assert_eq!(keys(&list(&format!("?endingBefore={id}&pageSize=1"))), ["key3"]);
    for (query, field) in [
        ("?pageSize=101", "pageSize"),
        ("?pageSize=0", "pageSize"),
        ("?page=101", "page"),
        ("?page=x", "page"),
        ("?sortBy=luck", "sortBy"),
        ("?sortOrder=up", "sortOrder"),
        ("?startingAfter=link_none", "startingAfter"),
        (&format!("?startingAfter={id}&endingBefore={id}"), "endingBefore"),
        ("/count?groupBy=domain", "groupBy"),
    ] {
        let answer = gateway.dub("GET", query, Value::Null);
        refused(&answer, 422, "unprocessable_entity", &format!("{field}: "));
    }
}

#[test]
fn what_breaks_a_rule_is_told_by_dubs_names_and_changes_nothing() {
    let gateway = Gateway::new();
    for (sent, field) in [
        (json!({}), "url"),
        (json!({ "url": "no address" }), "url"),
        (json!({ "url": "https://example.com/", "key": "api" }), "key"),
        (json!({ "url": "https://example.com/", "key": 5 }), "key"),
        (
            json!({ "url": "https://example.com/", "keyLength": 2 }),
            "keyLength",
        ),
        (
            json!({ "url": "https://example.com/", "prefix": "/c/" }),
            "prefix",
        ),
        (
            json!({ "url": "https://example.com/", "domain": "dub.sh" }),
            "domain",
        ),
        (
            json!({ "url": "https://example.com/", "tagNames": 5 }),
            "tagNames",
        ),
        (
            json!({ "url": "https://example.com/", "expiresAt": "tomorrow" }),
            "expiresAt",
        ),
        (
            json!({ "url": "https://example.com/", "expiredUrl": "javascript:1" }),
            "expiredUrl",
        ),
        (json!({ "url": "https://example.com/", "geo": ["KR"] }), "geo"),
        (
            json!({ "url": "https://example.com/", "geo": { "Korea": "https://example.com/" } }),
            "ios, android, geo",
        ),
        (
            json!({ "url": "https://example.com/", "ios": "http://localhost:3000/x" }),
            "ios, android, geo",
        ),
        (
            json!({ "url": "https://example.com/", "utm_source": 5 }),
            "utm_source",
        ),
        (
            json!({ "url": "https://example.com/", "utm_content": "x".repeat(191) }),
            "utm_content",
        ),
    ] {
        for (method, path) in [("POST", ""), ("PUT", "/upsert")] {
            let answer = gateway.dub(method, path, sent.clone());
            refused(&answer, 422, "unprocessable_entity", &format!("{field}: "));
        }
    }
    let broken = gateway.call(
        "POST",
        "/api/dub/links",
        &[("authorization", &*format!("Bearer {ADMIN}"))],
        "{",
    );
    refused(&broken, 400, "bad_request", "");
    let nobody = gateway.call("GET", "/api/dub/links/info?key=x", &[], &Value::Null);
    refused(&nobody, 401, "unauthorized", "");
    assert!(nobody.header("www-authenticate").is_some());
    refused(
        &gateway.dub("GET", "/info", Value::Null),
        400,
        "bad_request",
        "Say which link",
    );
    refused(
        &gateway.dub("GET", "/info?domain=dub.sh&key=x", Value::Null),
        404,
        "not_found",
        "",
    );
    assert_eq!(gateway.dub("GET", "/upsert", Value::Null).status, 405);
    assert_eq!(
        gateway.dub_ok("GET", "/count?showArchived=true", Value::Null),
        json!(0)
    );
}

#[test]
fn a_member_sees_and_changes_its_own_links_alone() {
    let gateway = Gateway::new();
    let made = gateway.admin("POST", "/api/keys", &json!({ "name": "m", "scopes": ["links"] }));
    let key = format!("Bearer {}", body(&made)["key"].as_str().unwrap());
    let as_member = |method: &str, path: &str, sent: Value| {
        gateway.call(
            method,
            &format!("/api/dub/links{path}"),
            &[("authorization", &*key)],
            &sent,
        )
    };
    let own = body(&as_member(
        "POST",
        "",
        json!({ "url": "https://example.com/own", "externalId": "x" }),
    ));
    let other = gateway.dub_ok(
        "POST",
        "",
        json!({ "url": "https://example.com/own", "key": "admins", "externalId": "y" }),
    );
    let id = other["id"].as_str().unwrap();
    refused(
        &as_member("PATCH", &format!("/{id}"), json!({ "title": "mine" })),
        404,
        "not_found",
        "",
    );
    refused(&as_member("DELETE", "/ext_y", Value::Null), 404, "not_found", "");
    refused(
        &as_member("GET", "/info?key=admins", Value::Null),
        403,
        "forbidden",
        "",
    );
    assert_eq!(body(&as_member("GET", "", Value::Null)), json!([own]));
    let upsert = body(&as_member(
        "PUT",
        "/upsert",
        json!({ "url": "https://example.com/own", "title": "T" }),
    ));
    assert_eq!((&upsert["id"], &upsert["title"]), (&own["id"], &json!("T")));
    // An admin's links are everybody's.
    let all = gateway.dub_ok("GET", "", Value::Null);
    assert_eq!(all.as_array().unwrap().len(), 2);
    let path = format!("/{}", own["id"].as_str().unwrap());
    assert_eq!(
        gateway.dub_ok("PATCH", &path, json!({ "title": "A" }))["title"],
        json!("A")
    );
}

#[test]
fn a_link_is_found_by_its_external_id_as_long_as_it_has_it() {
    let gateway = Gateway::new();
    let made = gateway.dub_ok(
        "POST",
        "",
        json!({ "url": "https://example.com/a", "key": "spring", "externalId": "one" }),
    );
    let path = format!("/{}", made["id"].as_str().unwrap());
    let entries = || {
        let all = ready(gateway.store.scan("owner/", None, 100)).unwrap();
        all.into_iter().filter(|item| item.key.contains("/x/")).count()
    };
    let found = |id: &str| {
        gateway
            .dub("GET", &format!("/info?externalId={id}"), Value::Null)
            .status
    };
    assert_eq!((entries(), found("one"), found("two")), (1, 200, 404));
    gateway.dub_ok("PATCH", &path, json!({ "externalId": "two", "key": "summer" }));
    assert_eq!((entries(), found("one"), found("two")), (1, 404, 200));
    gateway.dub_ok("PATCH", &path, json!({ "externalId": "three" }));
    assert_eq!((entries(), found("two"), found("three")), (1, 404, 200));
    let by = gateway.dub_ok("PATCH", "/ext_three", json!({ "title": "T" }));
    assert_eq!((&by["id"], &by["key"]), (&made["id"], &json!("summer")));
    gateway.dub_ok("PATCH", &path, json!({ "externalId": null }));
    assert_eq!((entries(), found("three")), (0, 404));
    gateway.dub_ok("PATCH", &path, json!({ "externalId": "four" }));
    gateway.dub_ok("DELETE", &path, Value::Null);
    assert_eq!((entries(), found("four")), (0, 404));
}

#[test]
fn the_case_of_a_host_makes_no_other_link() {
    let gateway = Gateway::new();
    let upsert = |url: &str| gateway.dub_ok("PUT", "/upsert", json!({ "url": url }))["id"].clone();
    let first = upsert("https://EXAMPLE.com/Path");
    assert_eq!(upsert("https://example.com/Path"), first);
    assert_eq!(upsert("HTTPS://Example.Com/Path"), first);
    assert_ne!(upsert("https://example.com/path"), first);
}

#[test]
fn many_links_are_made_changed_and_removed_each_on_its_own() {
    let gateway = Gateway::new();
    let sent = json!([
        { "url": "https://example.com/1", "key": "one", "externalId": "e1" },
        { "url": "ftp://example.com/", "key": "two" },
        { "url": "https://example.com/3", "key": "one" },
        { "url": "https://example.com/4", "archived": true },
    ]);
    let made = gateway.dub_ok("POST", "/bulk", sent.clone());
    assert_eq!(
        (&made[0]["key"], &made[3]["archived"]),
        (&json!("one"), &json!(true))
    );
    assert_eq!(
        (&made[1]["code"], &made[1]["link"]),
        (&json!("unprocessable_entity"), &sent[1])
    );
    assert!(
        made[1]["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("url: ")),
        "{made}"
    );
    assert_eq!(made[2]["code"], "conflict");
    assert_eq!(gateway.dub_ok("GET", "/count?showArchived=true", Value::Null), 2);

    let changes = json!({ "linkIds": [made[3]["id"], "link_nobody"], "externalIds": ["e1"], "data": { "tagNames": ["t"], "archived": false } });
    let changed = gateway.dub_ok("PATCH", "/bulk", changes);
    assert_eq!(
        (&changed[0]["tags"][0]["name"], &changed[0]["archived"]),
        (&json!("t"), &json!(false))
    );
    assert_eq!(
        (&changed[1]["code"], &changed[1]["link"]["id"]),
        (&json!("not_found"), &json!("link_nobody"))
    );
    assert_eq!(
        (&changed[2]["id"], &changed[2]["tagId"]),
        (&made[0]["id"], &json!("t"))
    );

    let ids = format!(
        "/bulk?linkIds={},{}&linkIds=link_nobody",
        made[0]["id"].as_str().unwrap(),
        made[3]["id"].as_str().unwrap()
    );
    assert_eq!(
        gateway.dub_ok("DELETE", &ids, Value::Null),
        json!({ "deletedCount": 2 })
    );
    assert_eq!(
        gateway.dub_ok("DELETE", &ids, Value::Null),
        json!({ "deletedCount": 0 })
    );
    assert_eq!(gateway.dub_ok("GET", "/count?showArchived=true", Value::Null), 0);
}

#[test]
fn calls_about_many_links_have_bounds() {
    let gateway = Gateway::new();
    let link = json!({ "url": "https://example.com/" });
    let with_password = json!({ "url": "https://example.com/", "password": "p" });
    for (method, path, sent) in [
        ("POST", "/bulk", json!([])),
        ("POST", "/bulk", Value::Array(vec![link.clone(); 101])),
        ("POST", "/bulk", Value::Array(vec![with_password; 17])),
        ("PATCH", "/bulk", json!({ "linkIds": [], "data": {} })),
        ("PATCH", "/bulk", json!({ "linkIds": vec!["x"; 101], "data": {} })),
        (
            "PATCH",
            "/bulk",
            json!({ "linkIds": ["x"], "data": { "key": "abc" } }),
        ),
        (
            "PATCH",
            "/bulk",
            json!({ "linkIds": ["x"], "data": { "domain": "a.example" } }),
        ),
        (
            "PATCH",
            "/bulk",
            json!({ "linkIds": vec!["x"; 17], "data": { "password": "p" } }),
        ),
        ("PATCH", "/bulk", json!({ "linkIds": ["x"] })),
        ("DELETE", "/bulk", Value::Null),
    ] {
        let refused = gateway.dub(method, path, sent);
        assert_eq!(refused.status, 422, "{method}: {}", text(&refused));
    }
    assert!(matches!(gateway.dub("POST", "/bulk", link).status, 400 | 422));
    assert_eq!(gateway.dub_ok("GET", "/count", Value::Null), 0);
}
