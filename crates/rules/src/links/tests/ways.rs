//! Links that lead to more than one place, tell of their visits, or have another code.

use super::*;
use crate::settings::Settings;
use tollgate_store::commit::Message;

const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

fn telling() -> Gateway {
    Gateway::with_settings(Settings::parse("[events]\ntopic = \"tollgate\"\n", "t").unwrap())
}

fn messages(gateway: &Gateway, kind: &str) -> Vec<Message> {
    let all = ready(gateway.store.read("tollgate", 0, 1_000, 0)).unwrap();
    all.into_iter().filter(|message| message.kind == kind).collect()
}

#[track_caller]
fn leads(response: &Response) -> &str {
    assert_eq!(response.status, 302, "{}", text(response));
    response.header("location").unwrap()
}

#[test]
fn the_first_rule_that_holds_leads_and_else_the_link_itself() {
    let gateway = Gateway::new();
    gateway.link(
        "ways",
        json!({ "redirect": 301, "rules": [
            { "when": { "device": "mobile", "language": "ko" }, "url": "https://example.com/ko-phone" },
            { "when": { "os": "ios" }, "url": "https://example.com/ios" },
            { "when": { "language": "ko-KR" }, "url": "https://example.com/ko" },
            { "when": { "after": at(5 * SECOND), "before": at(9 * SECOND) }, "url": "https://example.com/then" },
        ]}),
    );
    let to = |agent: &str, language: &str| {
        let headers = [("user-agent", agent), ("accept-language", language)];
        let response = gateway.call("GET", "/ways", &headers, &Value::Null);
        assert_eq!(response.header("cache-control"), Some("private, no-store"));
        response.header("location").unwrap().to_owned()
    };
    assert_eq!(to(PHONE, "ko-KR,ko;q=0.9"), "https://example.com/ko-phone");
    assert_eq!(to(PHONE, "en"), "https://example.com/ios");
    assert_eq!(to(BROWSER, "ko-kr"), "https://example.com/ko");
    assert_eq!(to(BROWSER, "ko"), "https://example.com/landing");
    gateway.pass(5 * SECOND);
    assert_eq!(to(BROWSER, ""), "https://example.com/then");
    gateway.pass(4 * SECOND);
    assert_eq!(to(BROWSER, ""), "https://example.com/landing");
    assert_eq!(gateway.visits("ways"), 6);
    let shown = gateway.read("ways");
    assert_eq!(
        shown["rules"][0],
        json!({ "when": { "device": "mobile", "language": "ko" }, "url": "https://example.com/ko-phone" })
    );
    assert_eq!(
        (&shown["targets"], &shown["hasPassword"]),
        (&json!([]), &json!(false))
    );
}

#[test]
fn utm_parameters_go_with_the_visitor_wherever_the_link_leads() {
    let gateway = Gateway::new();
    let utm = json!({ "source": "mail", "content": "{code}" });
    gateway.link(
        "tagged",
        json!({ "redirect": 301, "utm": utm, "fallbackUrl": "https://example.com/over",
            "rules": [{ "when": { "os": "ios" }, "url": "https://example.com/ios?utm_source=app#top" }] }),
    );
    let to = |path: &str, agent: &str| {
        let response = gateway.call("GET", path, &[("user-agent", agent)], &Value::Null);
        response.header("location").unwrap().to_owned()
    };
    let own = "https://example.com/landing?utm_source=mail&utm_content=tagged";
    assert_eq!(to("/tagged", BROWSER), own);
    assert_eq!(
        to("/tagged", PHONE),
        "https://example.com/ios?utm_source=app&utm_content=tagged#top"
    );
    let shown = gateway.read("tagged");
    assert_eq!(
        (&shown["utm"], &shown["url"]),
        (&utm, &json!("https://example.com/landing"))
    );
    let page = text(&gateway.call("GET", "/tagged+", &[], &Value::Null));
    assert!(page.contains("utm_source=mail&amp;utm_content=tagged"), "{page}");
    // The visitor's own come first, unless the link replaces them.
    let patch = |fields: Value| {
        let response = gateway.admin("PATCH", "/api/links/tagged", &fields);
        assert_eq!(response.status, 200, "{}", text(&response));
        json_of(&response)["utm"].clone()
    };
    patch(json!({ "forwardQuery": true }));
    let forwarded = "https://example.com/landing?utm_source=bus&x=1&utm_content=tagged";
    assert_eq!(to("/tagged?utm_source=bus&x=1", BROWSER), forwarded);
    patch(json!({ "utm": { "replace": true } }));
    let replaced = "https://example.com/landing?x=1&utm_source=mail&utm_content=tagged";
    assert_eq!(to("/tagged?utm_source=bus&x=1", BROWSER), replaced);
    // A patch changes what it names, also under another code.
    let left = patch(json!({ "code": "other", "utm": { "source": null, "replace": null } }));
    assert_eq!(left, json!({ "content": "{code}" }));
    assert_eq!(
        to("/other", BROWSER),
        "https://example.com/landing?utm_content=other"
    );
    let cleared = gateway.admin(
        "PATCH",
        "/api/links/other",
        &json!({ "utm": null, "archived": true }),
    );
    assert_eq!(json_of(&cleared)["utm"], Value::Null);
    assert_eq!(to("/other", BROWSER), "https://example.com/over", "as it is");
}

#[test]
fn put_takes_utm_parameters_whole_and_return_looks_at_them() {
    let gateway = Gateway::new();
    let put = |utm: Value| {
        let body = json!({ "url": "https://example.com/landing", "utm": utm });
        gateway.admin("PUT", "/api/links/put-utm", &body)
    };
    assert_eq!(
        put(json!({ "source": "a", "medium": "b", "replace": true })).status,
        201
    );
    assert_eq!(
        json_of(&put(json!({ "term": "c" })))["utm"],
        json!({ "term": "c" })
    );
    assert_eq!(pointer(&put(json!({}))), "#/utm");
    assert_eq!(pointer(&put(json!({ "medium": null }))), "#/utm");
    let mut body =
        json!({ "url": "https://example.com/landing", "ifExists": "return", "utm": { "term": "c" } });
    let found = gateway.admin("POST", "/api/links", &body);
    assert_eq!((found.status, &json_of(&found)["code"]), (200, &json!("put-utm")));
    body["utm"] = json!({ "term": "d" });
    assert_eq!(gateway.admin("POST", "/api/links", &body).status, 201);
}

#[test]
fn a_client_is_led_to_the_same_target_and_many_to_all_of_them() {
    let gateway = Gateway::new();
    gateway.link(
        "split",
        json!({ "forwardQuery": true, "targets": [
            { "url": "https://example.com/a", "weight": 1 },
            { "url": "https://example.com/b", "weight": 1 },
        ]}),
    );
    let to = |client: u32| {
        let client = client.to_string();
        let headers = [("user-agent", BROWSER), ("x-client-id", &*client)];
        let response = gateway.call("GET", "/split?x=1", &headers, &Value::Null);
        leads(&response).to_owned()
    };
    let mut to_a = 0;
    for client in 0..200 {
        let first = to(client);
        assert_eq!(to(client), first);
        to_a += u32::from(first == "https://example.com/a?x=1");
    }
    assert!((60..140).contains(&to_a), "{to_a}");
    // A rule comes first; without targets it is the link's own URL again.
    let patch = json!({ "rules": [{ "when": { "os": "linux" }, "url": "https://example.com/rule" }] });
    assert_eq!(gateway.admin("PATCH", "/api/links/split", &patch).status, 200);
    assert_eq!(to(1), "https://example.com/rule?x=1");
    let patch = json!({ "rules": null, "targets": [] });
    assert_eq!(gateway.admin("PATCH", "/api/links/split", &patch).status, 200);
    assert_eq!(to(1), "https://example.com/landing?x=1");
}

#[test]
fn every_place_is_checked_as_the_links_own() {
    let gateway = Gateway::new();
    let own = gateway.settings.public_url.clone();
    for (fields, fault) in [
        (
            json!({ "rules": [{ "when": { "os": "ios" }, "url": own }] }),
            "#/rules/0/url",
        ),
        (
            json!({ "rules": [{ "when": {}, "url": "https://example.com/" }] }),
            "#/rules/0/when",
        ),
        (
            json!({ "rules": [{ "when": { "os": "amiga" }, "url": "https://example.com/" }] }),
            "#/rules/0/when/os",
        ),
        (
            json!({ "rules": [{ "when": { "country": "kr" }, "url": "https://example.com/" }] }),
            "#/rules/0/when/country",
        ),
        (
            json!({ "rules": [{ "when": { "language": "german!" }, "url": "https://example.com/" }] }),
            "#/rules/0/when/language",
        ),
        (
            json!({ "rules": [{ "when": { "after": at(5), "before": at(5) }, "url": "https://example.com/" }] }),
            "#/rules/0/when/before",
        ),
        (
            json!({ "rules": vec![json!({ "when": { "os": "ios" }, "url": "https://example.com/" }); 11] }),
            "#/rules",
        ),
        (
            json!({ "targets": [{ "url": "javascript:alert(1)", "weight": 1 }] }),
            "#/targets/0/url",
        ),
        (
            json!({ "targets": [{ "url": "https://example.com/", "weight": 0 }] }),
            "#/targets/0/weight",
        ),
        (
            json!({ "targets": vec![json!({ "url": "https://example.com/", "weight": 1 }); 11] }),
            "#/targets",
        ),
        (json!({ "password": "" }), "#/password"),
        (json!({ "password": "x".repeat(129) }), "#/password"),
        (json!({ "notifyBefore": 0 }), "#/notifyBefore"),
        (json!({ "notifyBefore": 60 }), "#/notifyBefore"),
        (json!({ "events": true }), "#/events"),
    ] {
        let mut body = json!({ "url": "https://example.com/", "code": "checked" });
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        assert_eq!(
            pointer(&gateway.admin("POST", "/api/links", &body)),
            fault,
            "{fields}"
        );
    }
    gateway.link("checked", json!({}));
    let patch = json!({ "targets": [{ "url": own, "weight": 1 }] });
    assert_eq!(
        pointer(&gateway.admin("PATCH", "/api/links/checked", &patch)),
        "#/targets/0/url"
    );
    assert_eq!(gateway.read("checked")["targets"], json!([]));
}

#[test]
fn each_visit_is_told_and_its_end_once() {
    let gateway = telling();
    let fields = json!({ "events": true, "notifyBefore": 60, "expiresAt": at(300 * SECOND),
        "rules": [{ "when": { "os": "ios" }, "url": "https://example.com/ios" }] });
    gateway.link("told", fields);
    for agent in [BROWSER, PHONE, "Slackbot 1.0"] {
        let headers = [("user-agent", agent)];
        gateway.call("GET", "/told", &headers, &Value::Null);
        gateway.call("HEAD", "/told", &headers, &Value::Null);
    }
    let visits = messages(&gateway, "link.visited");
    let targets: Vec<Value> = visits
        .iter()
        .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap()["target"].clone())
        .collect();
    assert_eq!(
        targets,
        ["https://example.com/landing", "https://example.com/ios"]
    );
    assert!(visits.iter().all(|message| message.key == "link/told"));
    assert_eq!(gateway.visits("told"), 2);

    let sweep = || {
        gateway.maintain_links();
        messages(&gateway, "link.expiring")
    };
    gateway.pass(239 * SECOND);
    assert!(sweep().is_empty());
    gateway.pass(SECOND);
    assert_eq!(sweep().len(), 1);
    assert_eq!(sweep().len(), 1, "once");
    let data: Value = serde_json::from_slice(&sweep()[0].payload).unwrap();
    assert_eq!(
        (&data["code"], &data["endsAt"]),
        (&json!("told"), &json!(at(300 * SECOND)))
    );
    // Another end is told too.
    let later = json!({ "seconds": 600 });
    assert_eq!(
        gateway.admin("POST", "/api/links/told/extend", &later).status,
        200
    );
    assert_eq!(sweep().len(), 1);
    gateway.pass(600 * SECOND);
    assert_eq!(sweep().len(), 2);
    assert_eq!(gateway.visit("/told").status, 302);
    gateway.pass(60 * SECOND);
    assert_eq!(gateway.visit("/told").status, 410);
    assert_eq!(sweep().len(), 2);
}

#[test]
fn strangers_have_no_links_that_tell() {
    let gateway = telling();
    for (fields, fault) in [
        (json!({ "events": true }), "#/events"),
        (json!({ "notifyBefore": 9 }), "#/notifyBefore"),
    ] {
        let mut body = json!({ "url": "https://example.com/" });
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let made = gateway.call("POST", "/api/links", &[("x-client-id", "eve")], &body);
        assert_eq!(pointer(&made), fault);
    }
    let made = gateway.call(
        "POST",
        "/api/links",
        &[("x-client-id", "eve")],
        &json!({ "url": "https://example.com/" }),
    );
    let made = json_of(&made);
    let (code, token) = (
        made["code"].as_str().unwrap(),
        made["manageToken"].as_str().unwrap(),
    );
    let path = format!("/api/links/{code}");
    assert_eq!(
        pointer(&gateway.with(token, "PATCH", &path, &json!({ "events": true }))),
        "#/events"
    );
}

#[test]
fn a_renamed_link_leaves_its_code_and_takes_its_visits_along() {
    let gateway = Gateway::new();
    gateway.link("before", json!({ "maxVisits": 3, "expiresAt": at(900 * SECOND) }));
    gateway.link("there", json!({}));
    leads(&gateway.visit("/before"));
    let rename = |from: &str, to: &str| {
        gateway.admin(
            "PATCH",
            &format!("/api/links/{from}"),
            &json!({ "code": to, "title": "T" }),
        )
    };
    let taken = rename("before", "there");
    assert_eq!((taken.status, kind(&taken)), (409, "conflict".into()));
    assert_eq!(json_of(&taken)["errors"][0]["pointer"], "#/code");
    assert_eq!(pointer(&rename("before", "a b")), "#/code");
    assert_eq!(pointer(&rename("before", "api")), "#/code");
    let cleared = gateway.admin("PATCH", "/api/links/before", &json!({ "code": null }));
    assert_eq!(pointer(&cleared), "#/code");
    let id = gateway.read("before")["id"].clone();
    let renamed = rename("before", "after");
    assert_eq!(renamed.status, 200, "{}", text(&renamed));
    let shown = json_of(&renamed);
    assert_eq!(
        (&shown["code"], &shown["id"], &shown["visits"]),
        (&json!("after"), &id, &json!(1))
    );
    assert_eq!(
        renamed.header("etag"),
        gateway.admin("GET", "/api/links/after", "").header("etag")
    );
    assert_eq!(gateway.visit("/before").status, 404);
    assert_eq!(gateway.admin("GET", "/api/links/before", "").status, 404);
    leads(&gateway.visit("/after"));
    // The old code is free, and its next link begins at nothing.
    gateway.link("before", json!({}));
    leads(&gateway.visit("/before"));
    assert_eq!((gateway.visits("before"), gateway.visits("after")), (1, 2));
    // Once more, and back: still the same counters, and the bound holds.
    assert_eq!(rename("after", "again").status, 200);
    leads(&gateway.visit("/again"));
    assert_eq!(gateway.visit("/again").status, 410);
    assert_eq!((gateway.visits("before"), gateway.visits("again")), (1, 3));
    let listed = json_of(&gateway.admin("GET", "/api/links", ""));
    let codes: Vec<&str> = listed["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["again", "before", "there"]);
}

#[test]
fn a_renamed_link_is_found_swept_and_deleted_by_its_new_code() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let body = json!({ "url": "https://example.com/", "code": "one", "expiresAt": at(100 * SECOND), "ifExists": "return" });
    assert_eq!(gateway.with(&member, "POST", "/api/links", &body).status, 201);
    let patch = json!({ "code": "two", "url": "https://example.com/b" });
    assert_eq!(
        gateway.with(&member, "PATCH", "/api/links/one", &patch).status,
        200
    );
    let list = || {
        let list = json_of(&gateway.with(&member, "GET", "/api/links", ""));
        list["links"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["code"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(), ["two"]);
    let again = json!({ "url": "https://example.com/b", "ifExists": "return" });
    let found = gateway.with(&member, "POST", "/api/links", &again);
    assert_eq!(
        (found.status, json_of(&found)["code"].clone()),
        (200, json!("two"))
    );
    // The one before is not found by its old URL.
    let old = json!({ "url": "https://example.com/", "ifExists": "return", "code": "three" });
    assert_eq!(gateway.with(&member, "POST", "/api/links", &old).status, 201);
    assert_eq!(
        gateway.with(&member, "DELETE", "/api/links/three", "").status,
        204
    );
    gateway.pass(40 * 86_400 * SECOND);
    for _ in 0..3 {
        gateway.maintain_links();
        gateway.pass(2 * 3_600 * SECOND);
    }
    assert_eq!(list(), Vec::<Value>::new());
    let left = ready(gateway.store.scan("", None, 1_000)).unwrap();
    let left: Vec<&str> = left
        .iter()
        .map(|item| &*item.key)
        .filter(|key| key.contains("two") || key.contains("one"))
        .collect();
    assert_eq!(left, Vec::<&str>::new());
}

#[test]
fn a_strangers_link_that_is_renamed_is_still_managed_and_claimed_by_its_token() {
    let gateway = Gateway::new();
    let made = gateway.call(
        "POST",
        "/api/links",
        &[("x-client-id", "eve")],
        &json!({ "url": "https://example.com/", "code": "mine" }),
    );
    let token = json_of(&made)["manageToken"].as_str().unwrap().to_owned();
    leads(&gateway.visit("/mine"));
    assert_eq!(
        gateway
            .with(&token, "PATCH", "/api/links/mine", &json!({ "code": "ours" }))
            .status,
        200
    );
    let member = gateway.member(Scope::Links);
    let claimed = gateway.with(&member, "POST", "/api/links/claim", &json!({ "tokens": [token] }));
    assert_eq!(
        json_of(&claimed)["results"][0]["link"]["code"],
        "ours",
        "{}",
        text(&claimed)
    );
    // What its former owner left behind is cleared after it was renamed again: its visits stay.
    assert_eq!(
        gateway
            .with(&member, "PATCH", "/api/links/ours", &json!({ "code": "theirs" }))
            .status,
        200
    );
    gateway.pass(2 * 3_600 * SECOND);
    gateway.maintain_links();
    assert_eq!(
        json_of(&gateway.with(&member, "GET", "/api/links/theirs", ""))["visits"],
        1
    );
}

#[test]
fn of_renames_to_one_code_at_once_one_wins() {
    let gateway = Gateway::new();
    for code in ["one", "two"] {
        gateway.link(code, json!({}));
    }
    let patch = json!({ "code": "goal" });
    assert_eq!(gateway.admin("PATCH", "/api/links/one", &patch).status, 200);
    assert_eq!(gateway.admin("PATCH", "/api/links/two", &patch).status, 409);
    assert_eq!(gateway.visit("/two").status, 302);
    let many = gateway.admin(
        "PATCH",
        "/api/links/bulk",
        &json!({ "codes": ["two"], "code": "else" }),
    );
    assert_eq!(pointer(&many), "#/code");
}
