//! Shlink's calls against the store in memory.

use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway, SECOND, body, text};
use tollgate_api::http::Response;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

impl Gateway {
    fn shlink(&self, method: &str, path: &str, sent: Value) -> Response {
        let path = format!("/rest/v3{path}");
        self.call(method, &path, &[("x-api-key", ADMIN)], &sent)
    }

    /// The answer's document, where it is as expected.
    #[track_caller]
    fn shlink_ok(&self, method: &str, path: &str, sent: Value) -> Value {
        let answer = self.shlink(method, path, sent);
        assert!(matches!(answer.status, 200 | 204), "{path}: {}", text(&answer));
        match answer.status {
            204 => Value::Null,
            _ => body(&answer),
        }
    }

    fn comes_to(&self, path: &str, agent: &str) {
        self.call("GET", path, &[("user-agent", agent)], &Value::Null);
    }
}

/// The problem's type and status.
#[track_caller]
fn fault(answer: &Response) -> (String, u16, Value) {
    let document = body(answer);
    let kind = document["type"].as_str().unwrap();
    let kind = kind.strip_prefix("https://shlink.io/api/error/").unwrap_or(kind);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(document["status"], json!(answer.status));
    for member in ["title", "detail"] {
        assert!(document[member].is_string(), "{document}");
    }
    (kind.to_owned(), answer.status, document)
}

fn codes(listed: &Value) -> Vec<&str> {
    let data = listed["shortUrls"]["data"].as_array().unwrap();
    data.iter()
        .map(|link| link["shortCode"].as_str().unwrap())
        .collect()
}

#[test]
fn a_short_url_is_made_shown_changed_and_removed() {
    let gateway = Gateway::new();
    let sent = json!({
        "longUrl": "https://example.com/a?b", "customSlug": "spring", "tags": ["t1", "t2"], "maxVisits": 7, "title": "Spring",
        "validUntil": "2030-01-01T00:00:00+01:00", "crawlable": true, "domain": "", "nobodyKnows": 1,
    });
    let made = gateway.shlink_ok("POST", "/short-urls", sent);
    let created = made["dateCreated"].clone();
    assert!(created.is_string());
    let expected = json!({
        "shortCode": "spring", "shortUrl": "http://localhost:3000/spring", "longUrl": "https://example.com/a?b", "dateCreated": created,
        "visitsSummary": { "total": 0, "nonBots": 0, "bots": 0 }, "tags": ["t1", "t2"],
        "meta": { "validSince": null, "validUntil": "2029-12-31T23:00:00Z", "maxVisits": 7 }, "domain": null, "title": "Spring",
        "crawlable": false, "forwardQuery": true, "hasRedirectRules": false,
    });
    assert_eq!(made, expected);
    assert_eq!(
        gateway.shlink_ok("GET", "/short-urls/spring?domain=DEFAULT", Value::Null),
        expected
    );
    let patch = json!({ "maxVisits": null, "validUntil": null, "title": null, "tags": [], "longUrl": "https://example.com/b" });
    let changed = gateway.shlink_ok("PATCH", "/short-urls/spring", patch);
    assert_eq!(
        changed["meta"],
        json!({ "validSince": null, "validUntil": null, "maxVisits": null })
    );
    assert_eq!((&changed["title"], &changed["tags"]), (&Value::Null, &json!([])));
    let again = json!({ "longUrl": "https://example.com/b", "findIfExists": true });
    assert_eq!(
        gateway.shlink_ok("POST", "/short-urls", again)["shortCode"],
        "spring"
    );
    assert_eq!(
        gateway.shlink_ok("DELETE", "/short-urls/spring", Value::Null),
        Value::Null
    );
    let gone = gateway.shlink("GET", "/short-urls/spring", Value::Null);
    let (kind, status, document) = fault(&gone);
    assert_eq!(
        (&*kind, status, &document["shortCode"]),
        ("short-url-not-found", 404, &json!("spring"))
    );
}

#[test]
fn what_breaks_a_rule_is_named_as_the_clients_name_it() {
    let gateway = Gateway::new();
    for (sent, names) in [
        (json!({}), json!(["longUrl"])),
        (json!({ "longUrl": "ftp://example.com" }), json!(["longUrl"])),
        (
            json!({ "longUrl": "https://example.com", "customSlug": "a b" }),
            json!(["customSlug"]),
        ),
        (
            json!({ "longUrl": "https://example.com", "customSlug": "rest" }),
            json!(["customSlug"]),
        ),
        (
            json!({ "longUrl": "https://example.com", "shortCodeLength": 3 }),
            json!(["shortCodeLength"]),
        ),
        (
            json!({ "longUrl": "https://example.com", "validUntil": "soon" }),
            json!(["validUntil"]),
        ),
        (
            json!({ "longUrl": "https://example.com", "domain": "other.example" }),
            json!(["domain"]),
        ),
    ] {
        let answer = gateway.shlink("POST", "/short-urls", sent.clone());
        let (kind, status, document) = fault(&answer);
        assert_eq!((&*kind, status), ("invalid-data", 400), "{sent}");
        assert_eq!(document["invalidElements"], names, "{sent}: {document}");
    }
    let taken = json!({ "longUrl": "https://example.com", "customSlug": "taken" });
    gateway.shlink_ok("POST", "/short-urls", taken.clone());
    let (kind, status, document) = fault(&gateway.shlink("POST", "/short-urls", taken));
    assert_eq!(
        (&*kind, status, &document["customSlug"]),
        ("non-unique-slug", 400, &json!("taken"))
    );
    for query in [
        "page=2&itemsPerPage=5001",
        "itemsPerPage=10001",
        "itemsPerPage=x",
        "orderBy=owner-ASC",
        "orderBy=title-UP",
        "startDate=yesterday",
    ] {
        let (kind, ..) = fault(&gateway.shlink("GET", &format!("/short-urls?{query}"), Value::Null));
        assert_eq!(kind, "invalid-data", "{query}");
    }
}

#[test]
fn a_key_is_asked_for_and_links_of_others_are_not_shown() {
    let gateway = Gateway::new();
    gateway.shlink_ok(
        "POST",
        "/short-urls",
        json!({ "longUrl": "https://example.com", "customSlug": "mine" }),
    );
    let without = gateway.call("GET", "/rest/v3/short-urls", &[], &Value::Null);
    assert_eq!(fault(&without).0, "missing-authentication");
    let unknown = gateway.call("GET", "/rest/v3/tags", &[("x-api-key", "nobody")], &Value::Null);
    assert_eq!(fault(&unknown).0, "invalid-api-key");
    // Only here: elsewhere such a header is nothing.
    let elsewhere = gateway.call("GET", "/api/links", &[("x-api-key", ADMIN)], &Value::Null);
    assert_eq!(elsewhere.status, 401);
    let key = body(&gateway.admin(
        "POST",
        "/api/keys",
        &json!({ "name": "other", "scopes": ["links"] }),
    ));
    let other = [("x-api-key", key["key"].as_str().unwrap())];
    let get = |path: &str| gateway.call("GET", &format!("/rest/v3{path}"), &other, &Value::Null);
    assert_eq!(codes(&body(&get("/short-urls"))), Vec::<&str>::new());
    assert_eq!(get("/short-urls/mine").status, 403);
    assert_eq!(get("/short-urls/mine/visits").status, 403);
    assert_eq!(get("/visits/orphan").status, 403);
    assert_eq!(get("/visits").status, 200);
}

#[test]
fn lists_have_numbered_pages_filters_and_orders() {
    let gateway = Gateway::new();
    for n in 0..25 {
        let tag = ["odd", "even"][usize::from(n % 2 == 0)];
        let sent = json!({
            "longUrl": format!("https://example.com/{n}"), "customSlug": format!("code{n:02}"), "tags": [tag, "all"],
        });
        gateway.shlink_ok("POST", "/short-urls", sent);
        gateway.store.set_now(gateway.store.now() + SECOND);
    }
    let list = |query: &str| gateway.shlink_ok("GET", &format!("/short-urls?{query}"), Value::Null);
    let first = list("");
    assert_eq!(codes(&first)[..2], ["code24", "code23"]);
    let pagination = json!({ "currentPage": 1, "pagesCount": 3, "itemsPerPage": 10, "itemsInCurrentPage": 10, "totalItems": 25 });
    assert_eq!(first["shortUrls"]["pagination"], pagination);
    assert_eq!(codes(&list("page=3")).len(), 5);
    assert_eq!(codes(&list("page=4")).len(), 0);
    assert_eq!(codes(&list("itemsPerPage=-1")).len(), 25);
    assert_eq!(
        codes(&list("itemsPerPage=3&orderBy=shortCode-ASC")),
        ["code00", "code01", "code02"]
    );
    assert_eq!(codes(&list("itemsPerPage=50&tags[]=odd")).len(), 12);
    assert_eq!(codes(&list("itemsPerPage=50&tags[]=odd&tags[]=even")).len(), 25);
    assert_eq!(
        codes(&list("itemsPerPage=50&tags[]=odd&tags[]=even&tagsMode=all")).len(),
        0
    );
    assert_eq!(codes(&list("itemsPerPage=50&excludeTags[]=odd")).len(), 13);
    assert_eq!(codes(&list("searchTerm=EXAMPLE.com/7")), ["code07"]);
    assert_eq!(codes(&list("domain=other.example")).len(), 0);
    let since = tollgate_api::time::format(gateway.store.now() - 3 * SECOND).replace(':', "%3A");
    assert_eq!(codes(&list(&format!("startDate={since}"))).len(), 3);
    assert_eq!(
        codes(&list(&format!("itemsPerPage=50&endDate={since}"))).len(),
        23
    );
}

#[test]
fn visits_are_listed_and_counted_apart_from_machines() {
    let gateway = Gateway::new();
    for code in ["abc", "xyz"] {
        let sent = json!({ "longUrl": "https://example.com", "customSlug": code, "tags": ["t", code] });
        gateway.shlink_ok("POST", "/short-urls", sent);
    }
    for (path, agent) in [
        ("/abc", FIREFOX),
        ("/xyz", FIREFOX),
        ("/abc", BOT),
        ("/abc", FIREFOX),
        ("/lost", FIREFOX),
    ] {
        gateway.comes_to(path, agent);
        gateway.store.set_now(gateway.store.now() + SECOND);
    }
    let visits = |path: &str| {
        let found = gateway.shlink_ok("GET", path, Value::Null);
        found["visits"]["data"].as_array().unwrap().clone()
    };
    let of_abc = visits("/short-urls/abc/visits");
    let bots: Vec<_> = of_abc
        .iter()
        .map(|visit| visit["potentialBot"].as_bool().unwrap())
        .collect();
    assert_eq!(bots, [false, true, false]);
    let expected = json!({
        "referer": "", "date": of_abc[0]["date"], "userAgent": FIREFOX, "visitLocation": null, "potentialBot": false,
        "visitedUrl": "http://localhost:3000/abc", "redirectUrl": "https://example.com",
    });
    assert_eq!(of_abc[0], expected);
    assert_eq!(
        visits("/short-urls/abc/visits?excludeBots=true&itemsPerPage=5000").len(),
        2
    );
    assert_eq!(visits("/short-urls/abc/visits?page=2&itemsPerPage=2").len(), 1);
    assert_eq!(visits("/tags/t/visits").len(), 4);
    assert_eq!(visits("/tags/xyz/visits").len(), 1);
    assert_eq!(visits("/domains/DEFAULT/visits").len(), 4);
    assert_eq!(visits("/visits/non-orphan").len(), 4);
    let lost = visits("/visits/orphan");
    assert_eq!(
        (lost.len(), &lost[0]["visitedUrl"]),
        (1, &json!("http://localhost:3000/lost"))
    );
    assert_eq!(lost[0]["type"], "invalid_short_url");
    let overview = gateway.shlink_ok("GET", "/visits", Value::Null);
    let sums = json!({
        "nonOrphanVisits": { "total": 4, "nonBots": 3, "bots": 1 }, "orphanVisits": { "total": 1, "nonBots": 1, "bots": 0 },
    });
    assert_eq!(overview["visits"], sums);
    let link = gateway.shlink_ok("GET", "/short-urls/abc", Value::Null);
    assert_eq!(
        link["visitsSummary"],
        json!({ "total": 3, "nonBots": 2, "bots": 1 })
    );
    let (kind, status, _) = fault(&gateway.shlink("GET", "/tags/none/visits", Value::Null));
    assert_eq!((&*kind, status), ("tag-not-found", 404));
    let deleted = gateway.shlink_ok("DELETE", "/short-urls/abc/visits", Value::Null);
    assert_eq!(deleted, json!({ "deletedVisits": 3 }));
    assert_eq!(visits("/short-urls/abc/visits").len(), 0);
    let deleted = gateway.shlink_ok("DELETE", "/visits/orphan", Value::Null);
    assert_eq!(deleted, json!({ "deletedVisits": 1 }));
}

#[test]
fn tags_are_listed_renamed_and_removed() {
    let gateway = Gateway::new();
    for (code, tags) in [
        ("one", json!(["a", "b"])),
        ("two", json!(["b"])),
        ("three", json!(["c"])),
    ] {
        let sent = json!({ "longUrl": "https://example.com", "customSlug": code, "tags": tags });
        gateway.shlink_ok("POST", "/short-urls", sent);
    }
    let tags = || gateway.shlink_ok("GET", "/tags", Value::Null)["tags"]["data"].clone();
    assert_eq!(tags(), json!(["a", "b", "c"]));
    let stats = gateway.shlink_ok("GET", "/tags/stats", Value::Null);
    assert_eq!(
        (
            &stats["tags"]["data"][1]["tag"],
            &stats["tags"]["data"][1]["shortUrlsCount"]
        ),
        (&json!("b"), &json!(2))
    );
    let conflict = gateway.shlink("PUT", "/tags", json!({ "oldName": "a", "newName": "c" }));
    assert_eq!(
        (fault(&conflict).0.as_str(), conflict.status),
        ("tag-conflict", 409)
    );
    let unknown = gateway.shlink("PUT", "/tags", json!({ "oldName": "x", "newName": "y" }));
    assert_eq!(fault(&unknown).0, "tag-not-found");
    gateway.shlink_ok("PUT", "/tags", json!({ "oldName": "b", "newName": "d" }));
    assert_eq!(tags(), json!(["a", "c", "d"]));
    gateway.shlink_ok("DELETE", "/tags?tags[]=d&tags[]=nothing", Value::Null);
    assert_eq!(tags(), json!(["a", "c"]));
    assert_eq!(
        gateway.shlink_ok("GET", "/short-urls/two", Value::Null)["tags"],
        json!([])
    );
}

#[test]
fn rules_are_set_and_shown_as_theirs() {
    let gateway = Gateway::new();
    gateway.shlink_ok(
        "POST",
        "/short-urls",
        json!({ "longUrl": "https://example.com", "customSlug": "abc" }),
    );
    let path = "/short-urls/abc/redirect-rules";
    let none = gateway.shlink_ok("GET", path, Value::Null);
    assert_eq!(
        none,
        json!({ "defaultLongUrl": "https://example.com", "redirectRules": [] })
    );
    let condition = |kind: &str, value: &str| json!({ "type": kind, "matchKey": null, "matchValue": value });
    let rules = json!({ "redirectRules": [
        { "longUrl": "https://example.com/de", "priority": 2, "conditions": [condition("language", "de")] },
        { "longUrl": "https://example.com/ios", "priority": 1, "conditions": [condition("device", "ios")] },
    ] });
    let set = gateway.shlink_ok("POST", path, rules);
    assert_eq!(set["redirectRules"][0]["longUrl"], "https://example.com/ios");
    assert_eq!(
        set["redirectRules"][0]["conditions"],
        json!([condition("device", "ios")])
    );
    assert_eq!(set["redirectRules"][1]["priority"], 2);
    let iphone = [(
        "user-agent",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    )];
    let led = gateway.call("GET", "/abc", &iphone, &Value::Null);
    assert_eq!(led.header("location"), Some("https://example.com/ios"));
    assert_eq!(
        gateway.shlink_ok("GET", "/short-urls/abc", Value::Null)["hasRedirectRules"],
        true
    );
    let unknown = json!({ "redirectRules": [{ "longUrl": "https://example.com", "conditions": [condition("ip-address", "1.2.3.4")] }] });
    for sent in [
        unknown,
        json!({}),
        json!({ "redirectRules": [{ "conditions": [condition("language", "de")] }] }),
    ] {
        let (kind, status, document) = fault(&gateway.shlink("POST", path, sent));
        assert_eq!((&*kind, status), ("invalid-data", 400), "{document}");
    }
    assert_eq!(gateway.shlink_ok("GET", path, Value::Null), set);
}

#[test]
fn the_rest_is_answered_so_that_clients_go_on() {
    let settings = "[links]\nroot_url = \"https://example.com/home\"\n";
    let gateway = Gateway::with_settings(Settings::parse(settings, "t").unwrap());
    for path in ["/rest/health", "/rest/v3/health"] {
        let health = gateway.call("GET", path, &[], &Value::Null);
        assert_eq!(
            (health.status, health.header("content-type")),
            (200, Some("application/health+json"))
        );
        assert_eq!(body(&health)["status"], "pass");
    }
    let (kind, status, _) = fault(&gateway.shlink("GET", "/mercure-info", Value::Null));
    assert_eq!((&*kind, status), ("mercure-not-configured", 501));
    let domains = gateway.shlink_ok("GET", "/domains", Value::Null);
    let only = &domains["domains"]["data"][0];
    assert_eq!(
        (&only["domain"], &only["isDefault"]),
        (&json!("localhost:3000"), &json!(true))
    );
    assert_eq!(only["redirects"]["baseUrlRedirect"], "https://example.com/home");
    let redirects = gateway.shlink(
        "PATCH",
        "/domains/redirects",
        json!({ "domain": "localhost:3000" }),
    );
    assert_eq!(fault(&redirects).0, "invalid-data");
    assert_eq!(gateway.shlink("GET", "/nothing", Value::Null).status, 404);
    assert_eq!(gateway.shlink("POST", "/tags", Value::Null).status, 405);
}
