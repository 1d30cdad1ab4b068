//! Many links by one call.

use super::*;

fn results(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 207, "{}", text(answer));
    json_of(answer)["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect()
}

fn bulk(gateway: &Gateway, key: &str, method: &str, body: &Value) -> Vec<Value> {
    results(&gateway.with(key, method, "/api/links/bulk", body))
}

fn listed(gateway: &Gateway, key: &str) -> usize {
    let mut count = 0;
    let mut path = "/api/links?limit=500".to_owned();
    loop {
        let page = json_of(&gateway.with(key, "GET", &path, &Value::Null));
        count += page["links"].as_array().unwrap().len();
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/api/links?limit=500&cursor={cursor}"),
            None => return count,
        }
    }
}

#[test]
fn each_link_is_made_or_refused_on_its_own() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    gateway.link("taken", json!({}));
    let url = "https://example.com/x";
    let made = bulk(
        &gateway,
        &member,
        "POST",
        &json!({"links": [
            {"url": url, "code": "first", "title": "T"},
            {"url": "ftp://x/"},
            {"url": url, "code": "taken"},
            {"url": url, "code": "first"},
            {"url": url, "surprise": 1},
            5,
            {"url": url, "tags": ["a", ""]},
            ["https://example.com/"],
            {"url": url},
        ]}),
    );
    assert_eq!(statuses(&made), [201, 400, 409, 409, 400, 400, 400, 400, 201]);
    let pointer = |at: usize| {
        made[at]["problem"]["errors"][0]["pointer"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (at, expected) in [
        (1, "#/links/1/url"),
        (2, "#/links/2/code"),
        (3, "#/links/3/code"),
        (4, "#/links/4/surprise"),
        (5, "#/links/5"),
        (6, "#/links/6/tags/1"),
        (7, "#/links/7"),
    ] {
        assert_eq!(pointer(at), expected);
    }
    assert_eq!(made[0]["link"]["title"], "T");
    assert_eq!(listed(&gateway, &member), 2);
    assert_eq!(gateway.visit("/first").header("location"), Some(url));
}

#[test]
fn items_that_ask_for_the_same_link_get_one() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let link = json!({"url": "https://example.com/same", "ifExists": "return"});
    let made = bulk(&gateway, &member, "POST", &json!({"links": [link, link, link]}));
    let mut found = statuses(&made);
    found.sort_unstable();
    assert_eq!(found, [200, 200, 201]);
    assert!(
        made.iter()
            .all(|result| result["link"]["code"] == made[0]["link"]["code"])
    );
    assert_eq!(listed(&gateway, &member), 1);
    assert_eq!(
        statuses(&bulk(&gateway, &member, "POST", &json!({"links": [link]}))),
        [200]
    );
}

#[test]
fn a_thousand_links_are_made_changed_and_removed() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let links: Vec<Value> = (0..1_000)
        .map(|n| json!({"url": format!("https://example.com/{n}"), "code": format!("many{n}")}))
        .collect();
    let made = bulk(&gateway, &member, "POST", &json!({ "links": links }));
    assert_eq!(made.len(), 1_000);
    for (n, result) in made.iter().enumerate() {
        assert_eq!(
            (&result["status"], &result["link"]["code"]),
            (&json!(201), &json!(format!("many{n}")))
        );
    }
    assert_eq!(listed(&gateway, &member), 1_000);
    let codes: Vec<String> = (0..1_000).map(|n| format!("many{n}")).collect();
    let patch = json!({ "codes": codes, "maxVisits": 1, "url": "https://example.com/all" });
    let changed = bulk(&gateway, &member, "PATCH", &patch);
    assert!(
        changed
            .iter()
            .all(|result| result["status"] == 200 && result["link"]["maxVisits"] == 1)
    );
    assert_eq!(
        gateway.visit("/many7").header("location"),
        Some("https://example.com/all")
    );
    assert_eq!(gateway.visit("/many7").status, 410);
    let gone = bulk(&gateway, &member, "DELETE", &json!({ "codes": codes }));
    assert!(
        gone.iter()
            .enumerate()
            .all(|(n, result)| *result == json!({"status": 204, "code": format!("many{n}")}))
    );
    assert_eq!(listed(&gateway, &member), 0);
}

#[test]
fn somebody_elses_links_are_not_touched() {
    let gateway = Gateway::new();
    let (member, other) = (gateway.member(Scope::Links), gateway.member(Scope::Links));
    bulk(
        &gateway,
        &other,
        "POST",
        &json!({"links": [{"url": "https://example.com/", "code": "theirs"}]}),
    );
    bulk(
        &gateway,
        &member,
        "POST",
        &json!({"links": [{"url": "https://example.com/", "code": "mine"}]}),
    );
    let codes = json!(["theirs", "mine", "nothing", "mine", "../x"]);
    let patch = json!({"codes": codes, "archived": true});
    assert_eq!(
        statuses(&bulk(&gateway, &member, "PATCH", &patch)),
        [403, 200, 404, 200, 404]
    );
    assert_eq!(gateway.visit("/theirs").status, 302);
    let gone = bulk(&gateway, &member, "DELETE", &json!({ "codes": codes }));
    assert_eq!(statuses(&gone), [403, 204, 404, 404, 404]);
    assert_eq!(gateway.visit("/theirs").status, 302);
    assert_eq!(
        statuses(&bulk(&gateway, ADMIN, "DELETE", &json!({"codes": ["theirs"]}))),
        [204]
    );
}

#[test]
fn a_body_that_breaks_a_rule_changes_nothing() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    bulk(
        &gateway,
        &member,
        "POST",
        &json!({"links": [{"url": "https://example.com/", "code": "mine"}]}),
    );
    let refused = |method: &str, body: &str, at: &str| {
        let answer = gateway.with(&member, method, "/api/links/bulk", body);
        assert_eq!(
            (answer.status, pointer(&answer).as_str()),
            (400, at),
            "{method} {body}"
        );
    };
    let many = |of: &str| format!("[{}]", vec![of; 1_001].join(","));
    refused("POST", "{}", "#/links");
    refused("POST", r#"{"links":[]}"#, "#/links");
    refused("POST", r#"{"links":{}}"#, "#/links");
    refused("POST", "[]", "#");
    refused("POST", r#"{"links":[],"links":[]}"#, "#");
    refused("POST", r#"{"links":[]"#, "#");
    refused("POST", r#"{"links":[1],"x":1}"#, "#/x");
    refused("POST", &format!(r#"{{"links":{}}}"#, many("{}")), "#/links");
    refused("PATCH", r#"{"title":"x"}"#, "#/codes");
    refused("PATCH", r#"{"codes":[],"title":"x"}"#, "#/codes");
    refused("PATCH", r#"{"codes":["mine"],"codes":["mine"],"title":"x"}"#, "#");
    refused("PATCH", r#"{"codes":["mine"],"title":"x","title":"y"}"#, "#");
    refused("PATCH", r#"{"codes":["mine"],"surprise":1}"#, "#/surprise");
    refused("PATCH", r#"{"codes":["mine"],"tags":[5]}"#, "#/tags/0");
    refused("PATCH", r#"{"codes":[5]}"#, "#/codes/0");
    refused("PATCH", "[]", "#");
    refused("DELETE", r#"{"codes":["mine"],"x":1}"#, "#/x");
    refused(
        "DELETE",
        &format!(r#"{{"codes":{}}}"#, many("\"mine\"")),
        "#/codes",
    );
    refused("DELETE", "", "#");
    let deep = format!(
        r#"{{"links":[{{"url":{}{}}}]}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let answer = gateway.with(&member, "POST", "/api/links/bulk", &*deep);
    assert!(answer.status == 400 || results(&answer)[0]["status"] == 400);
    let link = gateway.read("mine");
    assert_eq!(
        (&link["title"], &link["updatedAt"]),
        (&Value::Null, &link["createdAt"])
    );
}

#[test]
fn what_only_one_link_of_many_can_break_is_refused_for_it_alone() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let links = json!({"links": [
        {"url": "https://example.com/", "code": "one", "expiresAt": at(10 * SECOND)},
        {"url": "https://example.com/", "code": "two", "expiresAt": at(100 * SECOND)},
    ]});
    bulk(&gateway, &member, "POST", &links);
    let patch = json!({"codes": ["one", "two"], "validFrom": at(50 * SECOND)});
    let changed = bulk(&gateway, &member, "PATCH", &patch);
    assert_eq!(statuses(&changed), [400, 200]);
    assert_eq!(changed[0]["problem"]["errors"][0]["pointer"], "#/validFrom");
}
