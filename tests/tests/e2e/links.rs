//! Short links: made, followed, changed, ended.

mod anonymous;
mod conditional;
mod domains;
mod lifetime;
mod listing;
mod many;
mod ranking;
mod shlink;
mod statistics;
mod visits;
mod ways;

pub use anonymous::*;
pub use conditional::*;
pub use domains::*;
pub use lifetime::*;
pub use listing::*;
pub use many::*;
pub use ranking::*;
pub use shlink::*;
pub use statistics::*;
pub use visits::*;
pub use ways::*;

use serde_json::{Value, json};

use reqwest::Method;

use crate::harness::{Answer, Gateway, Host, eventually, in_seconds, unique};

/// A member's link, with whatever `fields` say besides its URL.
async fn link(gateway: &Gateway, key: &str, url: &str, fields: Value) -> Value {
    let mut body = json!({ "url": url });
    let members = fields.as_object().expect("fields are an object").clone();
    body.as_object_mut().unwrap().extend(members);
    gateway
        .post("/api/links")
        .key(key)
        .json(&body)
        .send()
        .await
        .expect(201)
        .json()
}

fn code(link: &Value) -> &str {
    link["code"].as_str().expect("a link has a code")
}

/// `/{code}`
fn short(link: &Value) -> String {
    format!("/{}", code(link))
}

/// `/api/links/{code}`
fn managed(link: &Value) -> String {
    format!("/api/links/{}", code(link))
}

/// It must be a redirect to this place that nobody may keep.
#[track_caller]
fn leads_to(answer: Answer, url: &str) {
    let answer = answer.expect(302);
    assert_eq!(answer.header("location"), url, "{}", answer.shown());
    assert!(
        answer.header("cache-control").contains("no-store"),
        "{}",
        answer.shown()
    );
    assert!(answer.body.is_empty(), "{}", answer.shown());
}

pub async fn created_link_redirects(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let url = "https://example.com/a?b=c#d";
    let created = gateway
        .post("/api/links")
        .key(&key)
        .json(&json!({ "url": url }))
        .send()
        .await
        .expect(201);
    let link = created.json();
    assert_eq!(created.header("location"), managed(&link));
    assert_eq!(link["shortUrl"], format!("http://short.test/{}", code(&link)));
    assert_eq!(link["url"], url);
    assert_eq!(link["redirect"], 302);
    assert_eq!(link["visits"], 0);
    assert_eq!(link["archived"], false);
    assert_eq!(link["tags"], json!([]));
    assert_eq!(code(&link).len(), 7);
    for absent in [
        "validFrom",
        "expiresAt",
        "maxVisits",
        "fallbackUrl",
        "title",
        "lastVisitedAt",
    ] {
        assert_eq!(link.get(absent), Some(&Value::Null), "{absent}");
    }
    leads_to(gateway.get(&short(&link)).send().await, url);
    leads_to(gateway.head(&short(&link)).send().await, url);
    assert_eq!(
        gateway
            .get(&managed(&link))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json()["url"],
        url
    );
}

pub async fn every_redirect_status_is_kept(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    for status in [301, 302, 307, 308] {
        let link = link(
            &gateway,
            &key,
            "https://example.com/",
            json!({ "redirect": status }),
        )
        .await;
        let answer = gateway.get(&short(&link)).send().await.expect(status);
        assert_eq!(answer.header("location"), "https://example.com/");
    }
}

pub async fn a_link_that_keeps_methods_takes_any_and_reads_no_body(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let kept = link(
        &gateway,
        &key,
        "https://example.com/hook",
        json!({ "redirect": 307 }),
    )
    .await;
    // More than any call takes: it is for the target.
    let large = vec![b'x'; 600 * 1_024];
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let call = gateway
            .call(method, &short(&kept))
            .header("content-type", "image/png");
        let answer = call.body(large.clone()).send().await.expect(307);
        assert_eq!(answer.header("location"), "https://example.com/hook");
    }
    let form = gateway
        .post(&short(&kept))
        .header("content-type", "application/x-www-form-urlencoded");
    form.body("user=ann&password=secret").send().await.expect(307);
    eventually("all are counted", async || {
        let told = gateway
            .get(&managed(&kept))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json();
        (told["visits"] == 5).then_some(())
    })
    .await;
    let other = link(&gateway, &key, "https://example.com/", json!({})).await;
    let refused = gateway.delete(&short(&other)).send().await;
    refused.problem(405, "method-not-allowed");
    assert_eq!(refused.header("allow"), "GET, HEAD");
}

pub async fn edited_link_leads_to_the_new_target_at_once(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(
        &gateway,
        &key,
        "https://example.com/0",
        json!({ "title": "kept" }),
    )
    .await;
    for version in 1..=20 {
        let url = format!("https://example.com/{version}");
        let edited = gateway
            .patch(&managed(&link))
            .key(&key)
            .json(&json!({ "url": url }))
            .send()
            .await;
        let edited = edited.expect(200).json();
        assert_eq!((&edited["url"], &edited["title"]), (&json!(url), &json!("kept")));
        leads_to(gateway.get(&short(&link)).send().await, &url);
    }
}

pub async fn deleted_link_is_gone(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
    gateway.delete(&managed(&link)).key(&key).send().await.expect(204);
    gateway.get(&short(&link)).send().await.problem(404, "not-found");
    gateway
        .get(&managed(&link))
        .key(&key)
        .send()
        .await
        .problem(404, "not-found");
    gateway
        .delete(&managed(&link))
        .key(&key)
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn unknown_code_is_not_found(host: Host) {
    let gateway = Gateway::shared(host).await;
    let code = unique("nobody");
    gateway
        .get(&format!("/{code}"))
        .send()
        .await
        .problem(404, "not-found");
    gateway.head(&format!("/{code}")).send().await.expect(404);
    gateway
        .get(&format!("/{code}+"))
        .send()
        .await
        .problem(404, "not-found");
}

pub async fn null_clears_a_field_and_absence_keeps_it(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let fields = json!({
        "title": "a title", "externalId": "e-1", "tags": ["x", "y"], "expiresAt": in_seconds(3_600),
        "fallbackUrl": "https://example.com/over", "maxVisits": 9,
    });
    let link = link(&gateway, &key, "https://example.com/", fields).await;
    let patch = json!({ "title": null, "expiresAt": null, "fallbackUrl": null, "maxVisits": null });
    let patched = gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&patch)
        .send()
        .await
        .expect(200)
        .json();
    for cleared in ["title", "expiresAt", "fallbackUrl", "maxVisits"] {
        assert_eq!(patched[cleared], Value::Null, "{cleared}");
    }
    for kept in ["id", "code", "url", "externalId", "tags", "createdAt", "owner"] {
        assert_eq!(patched[kept], link[kept], "{kept}");
    }
    assert_eq!(
        gateway
            .get(&managed(&link))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json()["title"],
        Value::Null
    );
    let refused = gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&json!({ "url": null }))
        .send()
        .await;
    refused.names("#/url");
}

pub async fn query_is_forwarded_where_the_link_says_so(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let url = "https://example.com/?a=b#f";
    let forwarding = link(&gateway, &key, url, json!({ "forwardQuery": true })).await;
    let plain = link(&gateway, &key, url, json!({})).await;
    let asked = |link: &Value| gateway.get(&format!("{}?x=%2B1&y=2", short(link))).send();
    leads_to(asked(&forwarding).await, "https://example.com/?a=b&x=%2B1&y=2#f");
    leads_to(asked(&plain).await, url);
}

pub async fn preview_shows_the_target_and_escapes_it(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let url = "https://example.com/?q=\"><script>alert(1)</script>&a=b";
    let fields = json!({ "title": "<img src=x onerror=alert(2)>" });
    let link = link(&gateway, &key, url, fields).await;
    for path in [format!("{}+", short(&link)), format!("{}%2B", short(&link))] {
        let page = gateway.get(&path).send().await.expect(200);
        assert!(
            page.header("content-type").starts_with("text/html"),
            "{}",
            page.shown()
        );
        let html = page.text();
        assert!(!html.contains("<script>") && !html.contains("<img"), "{html}");
        assert!(
            html.contains("&lt;script&gt;alert(1)") && html.contains("&lt;img"),
            "{html}"
        );
        assert!(
            page.header("content-security-policy")
                .contains("default-src 'none'"),
            "{}",
            page.shown()
        );
    }
    // Looking at a link is no visit.
    leads_to(gateway.get(&short(&link)).send().await, url);
}

pub async fn own_host_is_refused_as_a_target(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let mut all = [
        "http://short.test/abc",
        "http:///short.test/abc",
        "https://SHORT.test.:8443/",
        "http://short%2Etest/",
    ]
    .map(str::to_owned)
    .to_vec();
    // Only our own host knows which port the system chose.
    if host == Host::Native {
        let address = gateway.address();
        let (_, port) = address.rsplit_once(':').expect("an address has a port");
        all.extend(["127.0.0.1", "2130706433", "localhost"].map(|host| format!("http://{host}:{port}/abc")));
    }
    for own in all {
        let refused = gateway
            .post("/api/links")
            .key(&key)
            .json(&json!({ "url": own }))
            .send()
            .await;
        refused.names("#/url");
    }
}

pub async fn codes_are_as_asked_for(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let long = link(
        &gateway,
        &key,
        "https://example.com/",
        json!({ "codeLength": 20 }),
    )
    .await;
    assert_eq!(code(&long).len(), 20);
    assert!(code(&long).bytes().all(|b| b.is_ascii_alphanumeric()), "{long}");
    let custom = unique("Custom_code");
    let made = link(&gateway, &key, "https://example.com/1", json!({ "code": custom })).await;
    assert_eq!(code(&made), custom);
    let again = json!({ "url": "https://example.com/2", "code": custom });
    let taken = gateway.post("/api/links").key(&key).json(&again).send().await;
    taken.problem(409, "conflict");
    taken.points_at("#/code");
    leads_to(
        gateway.get(&format!("/{custom}")).send().await,
        "https://example.com/1",
    );
}

pub async fn existing_link_is_returned_when_asked_for(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let body = json!({ "url": "https://example.com/once", "ifExists": "return" });
    let create = |key: &str| gateway.post("/api/links").key(key).json(&body).send();
    let first = create(&key).await.expect(201).json();
    let second = create(&key).await.expect(200).json();
    assert_eq!(first["id"], second["id"]);
    let others = create(&other).await.expect(201).json();
    assert_ne!(
        first["id"], others["id"],
        "links are found among the caller's own"
    );
    let new = link(&gateway, &key, "https://example.com/once", json!({})).await;
    assert_ne!(first["id"], new["id"], "without ifExists every call makes a link");
}
