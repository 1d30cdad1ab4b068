//! Links of strangers that become a member's.

use super::*;

/// The code and the manage token of a link that a stranger makes.
fn anonymous(gateway: &Gateway, fields: Value) -> (String, String) {
    let mut body = json!({"url": "https://example.com/s"});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let made = gateway.call("POST", "/api/links", &[("x-client-id", "me")], &body);
    assert_eq!(made.status, 201, "{}", text(&made));
    let made = json_of(&made);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("code"), text("manageToken"))
}

fn claim(gateway: &Gateway, key: &str, tokens: &[&str]) -> Vec<Value> {
    let answer = gateway.with(key, "POST", "/api/links/claim", &json!({ "tokens": tokens }));
    assert_eq!(answer.status, 207, "{}", text(&answer));
    json_of(&answer)["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect()
}

fn codes(gateway: &Gateway, key: &str) -> Vec<String> {
    let listed = json_of(&gateway.with(key, "GET", "/api/links", &Value::Null));
    let links = listed["links"].as_array().unwrap();
    links
        .iter()
        .map(|link| link["code"].as_str().unwrap().to_owned())
        .collect()
}

/// How many entries begin so.
fn entries(gateway: &Gateway, prefix: &str) -> usize {
    ready(gateway.store.scan(prefix, None, 500)).unwrap().len()
}

/// Runs the sweep until nothing is due, some days later.
fn sweep(gateway: &Gateway) {
    gateway.pass(3_600 * SECOND);
    gateway.maintain_links();
}

#[test]
fn a_claimed_link_is_its_new_owners_and_its_token_opens_nothing() {
    let gateway = Gateway::new();
    let (member, other) = (gateway.member(Scope::Links), gateway.member(Scope::Links));
    let (code, token) = anonymous(&gateway, json!({"title": "T"}));
    gateway.visit(&format!("/{code}"));
    let results = claim(&gateway, &member, &[&token]);
    assert_eq!(statuses(&results), [200]);
    let link = &results[0]["link"];
    assert_eq!(
        (&link["code"], &link["title"], &link["visits"]),
        (&json!(code), &json!("T"), &json!(1))
    );
    assert!(link["owner"].as_str().unwrap().starts_with("key:"));
    assert_eq!(link["expireAfterIdle"], Value::Null, "nobody chose that it ends");
    let path = format!("/api/links/{code}");
    assert_eq!(gateway.with(&token, "GET", &path, &Value::Null).status, 403);
    assert_eq!(gateway.with(&other, "GET", &path, &Value::Null).status, 403);
    assert_eq!(gateway.with(&member, "GET", &path, &Value::Null).status, 200);
    assert_eq!(codes(&gateway, &member), std::slice::from_ref(&code));
    assert_eq!(gateway.visit(&format!("/{code}")).status, 302);
    for key in [&member, &other] {
        let again = claim(&gateway, key, &[&token]);
        assert_eq!(again[0]["status"], 404);
        assert_eq!(again[0]["problem"]["type"], "urn:tollgate:problem:not-found");
    }
    assert_eq!(codes(&gateway, &member), [code]);
    assert_eq!(codes(&gateway, &other), Vec::<String>::new());
}

#[test]
fn each_token_has_a_result_of_its_own_in_order() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let made: Vec<(String, String)> = (0..3).map(|_| anonymous(&gateway, json!({}))).collect();
    let unknown = format!("lm_{}", "a".repeat(32));
    let tokens = [
        &*made[2].1,
        "lm_short",
        &*made[0].1,
        &*unknown,
        &*made[2].1,
        ADMIN,
    ];
    let results = claim(&gateway, &member, &tokens);
    assert_eq!(statuses(&results), [200, 400, 200, 404, 404, 400]);
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "#/tokens/1");
    let mut claimed = codes(&gateway, &member);
    claimed.sort();
    let mut expected = [made[0].0.clone(), made[2].0.clone()];
    expected.sort();
    assert_eq!(
        claimed, expected,
        "a token that was sent twice takes nothing back"
    );
}

#[test]
fn what_its_maker_chose_stays() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let (_, chosen) = anonymous(&gateway, json!({"expireAfterIdle": 60, "maxVisits": 2}));
    let results = claim(&gateway, &member, &[&chosen]);
    assert_eq!(results[0]["link"]["expireAfterIdle"], 60);
    assert_eq!(results[0]["link"]["maxVisits"], 2);
    // Cleared, it is the strangers' bound again; then nobody has chosen it.
    let (code, token) = anonymous(&gateway, json!({"expireAfterIdle": 60}));
    let cleared = json!({"expireAfterIdle": null});
    assert_eq!(
        gateway
            .with(&token, "PATCH", &format!("/api/links/{code}"), &cleared)
            .status,
        200
    );
    assert_eq!(
        claim(&gateway, &member, &[&token])[0]["link"]["expireAfterIdle"],
        Value::Null
    );
}

#[test]
fn a_claim_gives_the_strangers_place_back_and_leaves_nothing_behind() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let (code, token) = anonymous(&gateway, json!({}));
    gateway.visit(&format!("/{code}"));
    let count = |gateway: &Gateway| {
        let found = ready(
            gateway
                .store
                .get("links/anonymous", &["links/anonymous".to_owned()]),
        )
        .unwrap();
        String::from_utf8(found[0].clone().unwrap().value).unwrap()
    };
    assert_eq!(
        (count(&gateway), entries(&gateway, "links/token/")),
        ("1".to_owned(), 1)
    );
    assert_eq!(entries(&gateway, "owner/client:me/"), 3);
    claim(&gateway, &member, &[&token]);
    sweep(&gateway);
    assert_eq!(
        (count(&gateway), entries(&gateway, "links/token/")),
        ("0".to_owned(), 0)
    );
    assert_eq!(entries(&gateway, "owner/client:me/"), 0);
    assert_eq!(entries(&gateway, "due/"), 0);
    let there = json_of(&gateway.with(&member, "GET", &format!("/api/links/{code}"), &Value::Null));
    assert_eq!(there["visits"], 1, "its counters go on with it");
    assert_eq!(codes(&gateway, &member), [code]);
    // Nor does one that is removed right after it was claimed.
    let (code, token) = anonymous(&gateway, json!({}));
    gateway.visit(&format!("/{code}"));
    claim(&gateway, &member, &[&token]);
    gateway.pass(SECOND);
    assert_eq!(
        gateway
            .with(&member, "DELETE", &format!("/api/links/{code}"), &Value::Null)
            .status,
        204
    );
    sweep(&gateway);
    for prefix in [
        &format!("visits/{code}"),
        &format!("visited/{code}"),
        "due/",
        "owner/client:me/",
    ] {
        assert_eq!(entries(&gateway, prefix), 0, "{prefix}");
    }
}

#[test]
fn a_link_of_an_earlier_version_is_claimed_once_it_was_repaired() {
    let gateway = Gateway::new();
    let member = gateway.member(Scope::Links);
    let (code, token) = anonymous(&gateway, json!({}));
    let named = ready(gateway.store.scan("links/token/", None, 1))
        .unwrap()
        .remove(0)
        .key;
    ready(gateway.store.commit(tollgate_store::commit::Commit {
        partition: "links/anonymous".into(),
        mutations: vec![tollgate_store::commit::Mutation::Delete { key: named }],
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(statuses(&claim(&gateway, &member, &[&token])), [404]);
    gateway.maintain_links();
    assert_eq!(statuses(&claim(&gateway, &member, &[&token])), [200]);
    assert_eq!(codes(&gateway, &member), [code]);
}

#[test]
fn who_may_not_claims_nothing() {
    let gateway = Gateway::new();
    let (_, token) = anonymous(&gateway, json!({}));
    let body = json!({ "tokens": [token] });
    let post = |key: &str, body: &Value| gateway.with(key, "POST", "/api/links/claim", body);
    assert_eq!(post(&token, &body).status, 401);
    assert_eq!(post(&gateway.member(Scope::Campaigns), &body).status, 403);
    assert_eq!(
        gateway
            .call("POST", "/api/links/claim", &[("x-client-id", "me")], &body)
            .status,
        401
    );
    let member = gateway.member(Scope::Links);
    for (body, at) in [
        (json!({}), "#/tokens"),
        (json!({"tokens": []}), "#/tokens"),
        (json!({"tokens": vec![&*token; 101]}), "#/tokens"),
        (json!({"tokens": "x"}), "#/tokens"),
        (json!({"tokens": [5]}), "#/tokens/0"),
        (json!({"tokens": [token], "owner": "key:x"}), "#/owner"),
    ] {
        assert_eq!(pointer(&post(&member, &body)), at, "{body}");
    }
    assert_eq!(
        statuses(&claim(&gateway, &member, &vec![&*token; 100]))
            .iter()
            .filter(|s| **s == 200)
            .count(),
        1
    );
}
