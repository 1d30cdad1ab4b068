//! Lists of links, page by page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{code, link};
use crate::harness::{Gateway, Host, crowd, unique};

/// Every code of a list, page by page.
async fn walk(gateway: &Gateway, key: &str, query: &str) -> Vec<String> {
    let (mut codes, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway
            .get(&format!("/api/links?{query}{cursor}"))
            .key(key)
            .send()
            .await
            .expect(200)
            .json();
        codes.extend(
            page["links"]
                .as_array()
                .expect("a page has links")
                .iter()
                .map(|l| code(l).to_owned()),
        );
        match &page["nextCursor"] {
            Value::Null => return codes,
            next => cursor = format!("&cursor={}", next.as_str().expect("a cursor is a text")),
        }
    }
}

pub async fn list_walks_every_link_exactly_once(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let mut made = BTreeSet::new();
    for n in 0..25 {
        made.insert(
            code(&link(&gateway, &key, &format!("https://example.com/{n}"), json!({})).await).to_owned(),
        );
    }
    for limit in [1, 7, 25, 500] {
        let codes = walk(&gateway, &key, &format!("limit={limit}")).await;
        assert_eq!(codes.len(), made.len(), "limit={limit}");
        assert_eq!(codes.into_iter().collect::<BTreeSet<_>>(), made, "limit={limit}");
    }
}

pub async fn lists_are_filtered(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let tagged = link(
        &gateway,
        &key,
        "https://example.com/a",
        json!({ "tags": ["spring", "sale"] }),
    )
    .await;
    let titled = link(
        &gateway,
        &key,
        "https://example.com/b",
        json!({ "title": "Summer Catalogue" }),
    )
    .await;
    assert_eq!(walk(&gateway, &key, "tag=spring").await, [code(&tagged)]);
    assert_eq!(walk(&gateway, &key, "search=catalogue").await, [code(&titled)]);
    assert!(walk(&gateway, &key, "tag=nothing").await.is_empty());
}

pub async fn a_member_sees_and_changes_only_its_own_links(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    let path = super::managed(&link);
    assert!(walk(&gateway, &other, "limit=10").await.is_empty());
    gateway
        .get(&path)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .delete(&path)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    let owner = link["owner"].as_str().expect("a link has an owner");
    gateway
        .get(&format!("/api/links?owner={owner}"))
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    assert_eq!(
        walk(&gateway, crate::harness::ADMIN_KEY, &format!("owner={owner}")).await,
        [code(&link)]
    );
}

pub async fn every_link_is_in_its_owners_list_whoever_lost_its_code(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let mut codes: Vec<String> = (0..30).map(|_| unique("dc")).collect();
    for code in &codes {
        let body = json!({ "url": format!("https://example.com/{code}"), "code": code });
        let answers = crowd(2, 0..2, |_| {
            gateway.post("/api/links").key(&key).json(&body).send()
        })
        .await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{code}");
    }
    let page = gateway
        .get("/api/links?limit=500")
        .key(&key)
        .send()
        .await
        .expect(200)
        .json();
    let links = page["links"].as_array().expect("a list");
    let mut listed: Vec<&str> = links.iter().filter_map(|link| link["code"].as_str()).collect();
    listed.sort_unstable();
    codes.sort_unstable();
    assert_eq!(listed, codes);
}
