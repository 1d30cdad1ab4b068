//! What makes no sense to the APIs of other shorteners, and to the call that makes or changes a link.

use reqwest::Method;
use serde_json::{Value, json};

use super::everything;
use crate::harness::{Gateway, Host, unique};

pub async fn bad_input_of_other_shorteners_is_refused_in_their_form(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, topic) = (gateway.key(&["links"]).await, unique("untouched"));
    let (code, own) = (unique("theirs"), format!("/api/links/{}", unique("put")));
    let made = json!({ "url": "https://example.com/", "code": code });
    let made = gateway.post("/api/links").key(&key).json(&made);
    made.send().await.expect(201);
    let before = everything(&gateway, &key, &topic).await;
    shlink(&gateway, &key, &code).await;
    dub(&gateway, &key, &code).await;
    yourls(&gateway, &key, &code).await;
    for path in [own.as_str(), &format!("/api/links/{code}")] {
        put(&gateway, &key, path).await;
    }
    assert_eq!(everything(&gateway, &key, &topic).await, before);
}

async fn put(gateway: &Gateway, key: &str, path: &str) {
    let with = |member: &str, value: Value| {
        let mut body = json!({ "url": "https://example.com/" });
        body[member] = value;
        body
    };
    for (body, pointer) in [
        (json!({}), "#/url"),
        (json!({ "url": null }), "#/url"),
        (json!({ "url": "javascript:1" }), "#/url"),
        (json!([]), "#"),
        (with("code", json!("other")), "#/code"),
        (with("codeLength", json!(9)), "#/codeLength"),
        (with("ifExists", json!("return")), "#/ifExists"),
        (with("archived", json!(true)), "#/archived"),
        (with("surprise", json!(1)), "#/surprise"),
        (with("maxVisits", json!(0)), "#/maxVisits"),
        (with("tags", json!(["fine", 7])), "#/tags/1"),
        (with("utm", json!({})), "#/utm"),
        (with("utm", json!({ "source": "x".repeat(191) })), "#/utm/source"),
        (
            with("rules", json!([{ "when": {}, "url": "https://example.com/" }])),
            "#/rules/0/when",
        ),
    ] {
        let answer = gateway.put(path).key(key).json(&body).send().await;
        assert!(answer.status == 400, "{path} {body}\n{}", answer.shown());
        answer.names(pointer);
    }
}

async fn shlink(gateway: &Gateway, key: &str, code: &str) {
    let one = format!("/short-urls/{code}");
    let rules = format!("{one}/redirect-rules");
    let link = |member: &str, value: Value| {
        let mut body = json!({ "longUrl": "https://example.com/" });
        body[member] = value;
        body
    };
    let condition = json!({ "type": "query-param", "matchKey": "a", "matchValue": "b" });
    for (method, path, body, element) in [
        (Method::POST, "/short-urls", json!({}), "longUrl"),
        (
            Method::POST,
            "/short-urls",
            json!({ "longUrl": "data:,x" }),
            "longUrl",
        ),
        (
            Method::POST,
            "/short-urls",
            link("customSlug", json!("a b")),
            "customSlug",
        ),
        (
            Method::POST,
            "/short-urls",
            link("customSlug", json!("rest")),
            "customSlug",
        ),
        (
            Method::POST,
            "/short-urls",
            link("shortCodeLength", json!(3)),
            "shortCodeLength",
        ),
        (
            Method::POST,
            "/short-urls",
            link("validUntil", json!("tomorrow")),
            "validUntil",
        ),
        (
            Method::POST,
            "/short-urls",
            link("maxVisits", json!(-1)),
            "maxVisits",
        ),
        (Method::POST, "/short-urls", link("tags", json!("a")), "tags"),
        (
            Method::POST,
            "/short-urls",
            link("domain", json!("elsewhere.example")),
            "domain",
        ),
        (Method::PATCH, &one, json!({ "longUrl": "" }), "longUrl"),
        (Method::PATCH, &one, json!({ "validSince": 5 }), "validSince"),
        (Method::POST, &rules, json!({}), "redirectRules"),
        (
            Method::POST,
            &rules,
            json!({ "redirectRules": [{ "conditions": [condition] }] }),
            "conditions",
        ),
        (
            Method::POST,
            &rules,
            json!({ "redirectRules": [{ "longUrl": "https://example.com/" }] }),
            "redirectRules",
        ),
        (
            Method::GET,
            "/short-urls?itemsPerPage=5001",
            Value::Null,
            "itemsPerPage",
        ),
        (Method::GET, "/short-urls?page=x", Value::Null, "page"),
        (
            Method::GET,
            "/short-urls?orderBy=luck-ASC",
            Value::Null,
            "orderBy",
        ),
        (
            Method::GET,
            "/short-urls?startDate=soon",
            Value::Null,
            "startDate",
        ),
    ] {
        let call = gateway
            .call(method, &format!("/rest/v3{path}"))
            .header("x-api-key", key);
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.outside_contract().send().await;
        assert!(answer.status == 400, "{path} {body}\n{}", answer.shown());
        let problem = answer.json();
        assert_eq!(
            problem["type"],
            json!("https://shlink.io/api/error/invalid-data"),
            "{path} {body}"
        );
        assert_eq!(problem["invalidElements"], json!([element]), "{path} {body}");
    }
}

async fn dub(gateway: &Gateway, key: &str, code: &str) {
    let link = |member: &str, value: Value| {
        let mut body = json!({ "url": "https://example.com/" });
        body[member] = value;
        body
    };
    for (method, path, body, field) in [
        (Method::POST, "", json!({}), "url"),
        (Method::POST, "", json!({ "url": "data:,x" }), "url"),
        (Method::POST, "", link("key", json!("a/b")), "key"),
        (Method::POST, "", link("key", json!("api")), "key"),
        (Method::POST, "", link("keyLength", json!(3)), "keyLength"),
        (Method::POST, "", link("prefix", json!("/c/")), "prefix"),
        (Method::POST, "", link("domain", json!("dub.sh")), "domain"),
        (Method::POST, "", link("tagNames", json!({ "a": 1 })), "tagNames"),
        (Method::POST, "", link("utm_term", json!("a\r\nb")), "utm_term"),
        (
            Method::POST,
            "",
            link("geo", json!({ "Korea": "https://example.com/" })),
            "ios, android, geo",
        ),
        (
            Method::POST,
            "",
            link("testVariants", json!([{ "percentage": 1e300 }])),
            "testVariants",
        ),
        (Method::PUT, "/upsert", json!({ "title": "x" }), "url"),
        (
            Method::PUT,
            "/upsert",
            link("expiresAt", json!("tomorrow")),
            "expiresAt",
        ),
        (Method::GET, "?pageSize=101", Value::Null, "pageSize"),
        (Method::GET, "?page=0", Value::Null, "page"),
        (Method::GET, "?sortBy=luck", Value::Null, "sortBy"),
        (
            Method::GET,
            "?endingBefore=link_none",
            Value::Null,
            "endingBefore",
        ),
        (Method::GET, "/count?groupBy=tagId", Value::Null, "groupBy"),
        (Method::POST, "/bulk", json!([]), "links"),
        (
            Method::PATCH,
            "/bulk",
            json!({ "linkIds": [], "data": {} }),
            "linkIds",
        ),
        (Method::PATCH, "/bulk", json!({ "linkIds": ["a"] }), "data"),
        (
            Method::PATCH,
            "/bulk",
            json!({ "externalIds": ["a"], "data": { "externalId": "b" } }),
            "externalId",
        ),
        (Method::DELETE, "/bulk?linkIds=,,", Value::Null, "linkIds"),
    ] {
        let call = gateway.call(method, &format!("/api/dub/links{path}")).key(key);
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.outside_contract().send().await;
        assert!(answer.status == 422, "{path} {body}\n{}", answer.shown());
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], json!("unprocessable_entity"), "{path} {body}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with(&format!("{field}: ")),
            "{path} {body}: {message}"
        );
    }
    for (method, path, body, status) in [
        (Method::POST, "", "{", 400),
        (Method::POST, "", "[]", 400),
        (Method::PATCH, "/link_none", "{}", 404),
        (Method::PATCH, "/ext_", "{}", 404),
        (Method::PATCH, "/%00", "{}", 404),
        (Method::GET, "/info", "", 400),
        (Method::GET, "/info?key=none-there", "", 404),
        (Method::GET, "/info?linkId=%FF", "", 404),
    ] {
        let call = gateway.call(method, &format!("/api/dub/links{path}")).key(key);
        let call = call
            .header("content-type", "application/json")
            .body(body.as_bytes().to_vec());
        let answer = call.outside_contract().send().await;
        assert!(answer.status == status, "{path} {body}\n{}", answer.shown());
    }
    let taken = json!({ "url": "https://example.com/another", "key": code });
    let taken = gateway.post("/api/dub/links").key(key).json(&taken);
    assert_eq!(
        taken.send().await.expect(409).json()["error"]["code"],
        json!("conflict")
    );
}

async fn yourls(gateway: &Gateway, key: &str, code: &str) {
    for (query, status, error) in [
        ("", 400, "error"),
        ("action=dance", 400, "error"),
        ("action=shorturl", 400, "error:nourl"),
        ("action=shorturl&url=javascript%3A%2F%2F1", 400, "error:nourl"),
        (
            "action=shorturl&url=https%3A%2F%2Fexample.com%2Fy&keyword=a%20b",
            400,
            "error:keyword",
        ),
        (
            "action=shorturl&url=https%3A%2F%2Fexample.com%2Fy&keyword=api",
            400,
            "error:keyword",
        ),
        (
            &format!("action=shorturl&url=https%3A%2F%2Fexample.com%2Fy&keyword={code}"),
            400,
            "error:keyword",
        ),
        ("action=stats&filter=luck", 400, "error"),
    ] {
        let path = format!("/yourls-api.php?format=json&signature={key}&{query}");
        let answer = gateway.get(&path).send().await;
        assert!(answer.status == status, "{query}\n{}", answer.shown());
        assert_eq!(answer.json()["code"], json!(error), "{query}");
    }
    for query in [
        "action=expand",
        "action=expand&shorturl=%00",
        "action=url-stats&shorturl=nothing-here",
    ] {
        let path = format!("/yourls-api.php?format=json&signature={key}&{query}");
        gateway.get(&path).send().await.expect(404);
    }
}
