//! Short links on several hosts.

use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host};

const SETTINGS: &str = "[server]\npublic_url = \"http://short.test\"\n\
    [[domains]]\nhost = \"sale.test\"\nroot_url = \"https://shop.example/\"\nnot_found_url = \"https://shop.example/sorry\"\n\
    [[domains]]\nhost = \"other.test\"\n";

async fn led(gateway: &Gateway, host: &str, path: &str) -> Answer {
    gateway.get(path).header("host", host).send().await
}

pub async fn the_same_code_on_two_hosts_is_two_links(host: Host) {
    let gateway = Gateway::start(host, SETTINGS).await;
    let make = async |domain: Value, url: &str| {
        let new = json!({ "url": url, "code": "spring", "domain": domain });
        let made = gateway.post("/api/links").key(ADMIN_KEY).json(&new).send().await;
        made.expect(201)
    };
    let here = make(Value::Null, "https://a.example/").await;
    let there = make(json!("sale.test"), "https://b.example/").await;
    assert_eq!(here.json()["shortUrl"], "http://short.test/spring");
    assert_eq!(there.json()["shortUrl"], "http://sale.test/spring");
    assert_eq!(there.header("location"), "/api/links/spring?domain=sale.test");
    for (host, url) in [
        ("short.test", "https://a.example/"),
        ("unknown.test", "https://a.example/"),
        ("sale.test", "https://b.example/"),
        ("SALE.test:8080", "https://b.example/"),
    ] {
        assert_eq!(
            led(&gateway, host, "/spring")
                .await
                .expect(302)
                .header("location"),
            url,
            "{host}"
        );
    }
    let lost = led(&gateway, "sale.test", "/nothing").await.expect(302);
    assert_eq!(lost.header("location"), "https://shop.example/sorry");
    led(&gateway, "other.test", "/spring")
        .await
        .problem(404, "not-found");
    let root = led(&gateway, "sale.test", "/").await.expect(302);
    assert_eq!(root.header("location"), "https://shop.example/");

    let path = "/api/links/spring?domain=sale.test";
    let shown = gateway.get(path).key(ADMIN_KEY).send().await.expect(200).json();
    assert_eq!(
        (&shown["id"], &shown["domain"]),
        (&there.json()["id"], &json!("sale.test"))
    );
    let listed = gateway
        .get("/api/links?domain=sale.test")
        .key(ADMIN_KEY)
        .send()
        .await;
    assert_eq!(
        listed.expect(200).json()["links"].as_array().map(Vec::len),
        Some(1)
    );
    let unknown = gateway
        .get("/api/links/spring?domain=nowhere.test")
        .key(ADMIN_KEY);
    unknown.send().await.names("query:domain");
    let new = json!({ "url": "https://a.example/", "domain": "nowhere.test" });
    gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .json(&new)
        .send()
        .await
        .names("#/domain");
    let new = json!({ "url": "http://sale.test/spring" });
    gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .json(&new)
        .send()
        .await
        .names("#/url");

    gateway.kill();
    gateway.restart().await;
    gateway.delete(path).key(ADMIN_KEY).send().await.expect(204);
    assert_eq!(
        led(&gateway, "short.test", "/spring")
            .await
            .expect(302)
            .header("location"),
        "https://a.example/"
    );
    let lost = led(&gateway, "sale.test", "/spring").await.expect(302);
    assert_eq!(lost.header("location"), "https://shop.example/sorry");
}
