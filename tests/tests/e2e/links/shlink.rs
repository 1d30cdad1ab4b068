//! The APIs of other shorteners: sessions of their own clients, and what these ask.

use reqwest::Method;
use serde_json::json;

use crate::harness::{ADMIN_KEY, Gateway, Host, node, unique};

async fn session(host: Host, name: &str, package: &str, wanted: &str) {
    let gateway = Gateway::start(host, "").await;
    node::session(&gateway, name, package, wanted).await;
}

pub async fn shlinks_own_client_has_a_session(host: Host) {
    session(host, "shlink", "@shlinkio/shlink-js-sdk", "TOLLGATE_SHLINK").await;
}

pub async fn dubs_own_client_has_a_session(host: Host) {
    session(host, "dub", "dub", "TOLLGATE_DUB").await;
}

pub async fn dubs_calls_make_change_and_remove_links(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, word) = (gateway.key(&["links"]).await, unique("dub"));
    let ask = |method: Method, path: &str, sent: serde_json::Value| {
        let call = gateway.call(method, &format!("/api/dub/links{path}")).key(&key);
        match sent.is_null() {
            true => call.send(),
            false => call.json(&sent).send(),
        }
    };
    let url = format!("https://example.com/{word}");
    let sent = json!({ "url": url, "key": word, "externalId": word, "utm_source": "mail", "ios": "https://example.com/ios" });
    let made = ask(Method::POST, "", sent).await.expect(200).json();
    let id = made["id"].as_str().expect("a link has an id").to_owned();
    let led = gateway.get(&format!("/{word}")).send().await.expect(302);
    assert_eq!(led.header("location"), format!("{url}?utm_source=mail"));
    let upsert = json!({ "url": url, "title": "T" });
    let changed = ask(Method::PUT, "/upsert", upsert).await.expect(200).json();
    assert_eq!((&changed["id"], &changed["title"]), (&made["id"], &json!("T")));
    let by_name = format!("/ext_{word}");
    let patched = ask(Method::PATCH, &by_name, json!({ "ios": null })).await;
    assert_eq!(patched.expect(200).json()["ios"], json!(null));
    let shown = ask(Method::GET, &format!("/info?linkId={id}"), json!(null)).await;
    assert_eq!(shown.expect(200).json()["key"], json!(word));
    let listed = ask(Method::GET, "?pageSize=10", json!(null))
        .await
        .expect(200)
        .json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let gone = ask(Method::DELETE, &format!("/{id}"), json!(null)).await;
    assert_eq!(gone.expect(200).json(), json!({ "id": id }));
    let count = ask(Method::GET, "/count", json!(null)).await.expect(200);
    assert_eq!(count.json(), json!(0));
    let none = ask(Method::PATCH, &format!("/{id}"), json!({ "title": "x" })).await;
    assert_eq!(none.expect(404).json()["error"]["code"], json!("not_found"));
}

pub async fn dubs_bulk_calls_deal_with_each_link_on_its_own(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other, word) = (
        gateway.key(&["links"]).await,
        gateway.key(&["links"]).await,
        unique("bulk"),
    );
    let ask = |key: &str, method: Method, path: &str, sent: serde_json::Value| {
        let call = gateway.call(method, &format!("/api/dub/links{path}")).key(key);
        match sent.is_null() {
            true => call.send(),
            false => call.json(&sent).send(),
        }
    };
    let sent = json!([
        { "url": "https://example.com/1", "key": format!("{word}-1"), "externalId": format!("{word}-e1") },
        { "url": "no address" },
        { "url": "https://example.com/3", "key": format!("{word}-1") },
        { "url": "https://example.com/4", "externalId": format!("{word}-e4") },
    ]);
    let made = ask(&key, Method::POST, "/bulk", sent.clone())
        .await
        .expect(200)
        .json();
    assert_eq!(
        (
            &made[0]["key"],
            &made[1]["code"],
            &made[1]["link"],
            &made[2]["code"]
        ),
        (
            &sent[0]["key"],
            &json!("unprocessable_entity"),
            &sent[1],
            &json!("conflict")
        )
    );
    gateway.get(&format!("/{word}-1")).send().await.expect(302);

    let info = |key: &str, id: &str| ask(key, Method::GET, &format!("/info?externalId={id}"), json!(null));
    let found = info(&key, &format!("{word}-e4")).await.expect(200).json();
    assert_eq!(found["id"], made[3]["id"]);
    info(&other, &format!("{word}-e4")).await.expect(404);
    let renamed = json!({ "externalId": format!("{word}-e5") });
    let path = format!("/ext_{word}-e4");
    ask(&key, Method::PATCH, &path, renamed).await.expect(200);
    info(&key, &format!("{word}-e4")).await.expect(404);
    info(&key, &format!("{word}-e5")).await.expect(200);

    let changes = json!({ "linkIds": [made[0]["id"]], "externalIds": [format!("{word}-e5"), format!("{word}-none")], "data": { "title": "T" } });
    let not_theirs = ask(&other, Method::PATCH, "/bulk", changes.clone())
        .await
        .expect(200)
        .json();
    let codes: Vec<_> = (0..3).map(|index| not_theirs[index]["code"].clone()).collect();
    assert_eq!(codes, ["not_found"; 3]);
    let changed = ask(&key, Method::PATCH, "/bulk", changes)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&changed[0]["title"], &changed[1]["id"], &changed[2]["code"]),
        (&json!("T"), &made[3]["id"], &json!("not_found"))
    );
    for (method, path, sent) in [
        (Method::POST, "/bulk", json!([])),
        (
            Method::POST,
            "/bulk",
            json!(vec![json!({ "url": "https://example.com/" }); 101]),
        ),
        (
            Method::PATCH,
            "/bulk",
            json!({ "linkIds": ["a"], "data": { "key": "abc" } }),
        ),
        (Method::DELETE, "/bulk", json!(null)),
    ] {
        ask(&key, method, path, sent).await.expect(422);
    }
    let ids = format!(
        "/bulk?linkIds={},{}",
        made[0]["id"].as_str().unwrap_or_default(),
        made[3]["id"].as_str().unwrap_or_default()
    );
    let none = ask(&other, Method::DELETE, &ids, json!(null))
        .await
        .expect(200)
        .json();
    assert_eq!(none, json!({ "deletedCount": 0 }));
    let gone = ask(&key, Method::DELETE, &ids, json!(null))
        .await
        .expect(200)
        .json();
    assert_eq!(gone, json!({ "deletedCount": 2 }));
    info(&key, &format!("{word}-e1")).await.expect(404);
    gateway.get(&format!("/{word}-1")).send().await.expect(404);
}

pub async fn shlinks_calls_are_open_to_scripts_of_any_page(host: Host) {
    let gateway = Gateway::shared(host).await;
    let asked = gateway
        .call(Method::OPTIONS, "/rest/v3/short-urls")
        .header("origin", "https://app.shlink.io")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key");
    let preflight = asked.outside_contract().send().await.expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "content-type,x-api-key"
    );
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    let code = unique("shlink");
    let made = gateway
        .post("/rest/v3/short-urls")
        .header("x-api-key", ADMIN_KEY)
        .header("origin", "https://app.shlink.io")
        .json(&json!({ "longUrl": "https://example.com/", "customSlug": code }));
    let made = made.outside_contract().send().await.expect(200);
    assert_eq!(made.header("access-control-allow-origin"), "*");
    assert_eq!(made.json()["shortCode"], json!(code));
    // Without a key, and elsewhere with such a header, nobody gets in.
    let without = gateway
        .get("/rest/v3/tags")
        .outside_contract()
        .send()
        .await
        .expect(401);
    assert_eq!(without.header("access-control-allow-origin"), "*");
    let kind = "https://shlink.io/api/error/missing-authentication";
    assert_eq!(without.json()["type"], json!(kind));
    let elsewhere = gateway.get("/api/links").header("x-api-key", ADMIN_KEY);
    elsewhere.send().await.problem(401, "unauthorized");
    // The key counts as the caller also where limits ask.
    let twice = gateway
        .get("/rest/v3/tags")
        .header("x-api-key", ADMIN_KEY)
        .header("x-api-key", "another");
    let twice = twice.outside_contract().send().await;
    assert!(twice.status == 400, "{}", twice.shown());
}

pub async fn yourls_clients_make_and_expand_links(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = unique("yourls");
    let ask = |query: &str| {
        gateway
            .get(&format!("/yourls-api.php?signature={ADMIN_KEY}&{query}"))
            .send()
    };
    let url = format!("https%3A%2F%2Fexample.com%2F{code}");
    let made = ask(&format!("action=shorturl&format=json&keyword={code}&url={url}"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&made["status"], &made["url"]["keyword"]),
        (&json!("success"), &json!(code))
    );
    let again = ask(&format!("action=shorturl&format=json&url={url}"))
        .await
        .expect(400)
        .json();
    assert_eq!(
        (&again["code"], &again["shorturl"]),
        (&json!("error:url"), &made["shorturl"])
    );
    let expanded = ask(&format!("action=expand&format=simple&shorturl={code}"))
        .await
        .expect(200);
    assert_eq!(expanded.text(), format!("https://example.com/{code}"));
    let xml = ask(&format!("action=url-stats&shorturl={code}"))
        .await
        .expect(200);
    assert!(xml.text().contains("<clicks>0</clicks>"), "{}", xml.shown());
    let body = format!("signature={ADMIN_KEY}&action=expand&format=json&shorturl={code}");
    let form = gateway
        .post("/yourls-api.php")
        .header("content-type", "application/x-www-form-urlencoded");
    let posted = form.body(body.into_bytes()).send().await.expect(200).json();
    assert_eq!(posted["longurl"], json!(format!("https://example.com/{code}")));
    ask("action=expand&format=json&shorturl=not-there")
        .await
        .expect(404);
    // What YOURLS has for it is beside the problem.
    let nobody = gateway
        .get("/yourls-api.php?action=db-stats&format=json")
        .outside_contract()
        .send()
        .await;
    assert!(nobody.status == 401, "{}", nobody.shown());
}

pub async fn put_makes_a_link_or_changes_it(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let path = format!("/api/links/{}", unique("put"));
    let put =
        |key: &str, sent: serde_json::Value| gateway.call(Method::PUT, &path).key(key).json(&sent).send();
    let made = put(&key, json!({ "url": "https://example.com/a", "title": "A" }))
        .await
        .expect(201)
        .json();
    let changed = put(&key, json!({ "url": "https://example.com/b" }))
        .await
        .expect(200)
        .json();
    assert_eq!((&changed["id"], &changed["title"]), (&made["id"], &json!(null)));
    put(&other, json!({ "url": "https://example.com/c" }))
        .await
        .problem(403, "forbidden");
    let answer = put(&key, json!({ "url": "https://example.com/b", "code": "x" })).await;
    assert!(answer.status == 400, "{}", answer.shown());
    answer.names("#/code");
}
