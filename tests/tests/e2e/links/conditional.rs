//! Changes that are tied to what was seen, creations that are repeated, and images that are kept.

use futures::future::join_all;
use serde_json::json;

use super::{code, leads_to, link, managed, short};
use crate::harness::{Gateway, Host, unique};

pub async fn a_change_of_what_was_changed_since_is_refused(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/0", json!({})).await;
    let path = managed(&link);
    let seen = gateway.get(&path).key(&key).send().await.expect(200);
    let tag = seen.header("etag").to_owned();
    // Ten that have seen the same: one of them changes it.
    let patch = |n: usize| {
        let body = json!({ "url": format!("https://example.com/{n}") });
        gateway
            .patch(&path)
            .key(&key)
            .header("if-match", &tag)
            .json(&body)
            .send()
    };
    let answers = join_all((1..=10).map(patch)).await;
    let done: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(done.len(), 1, "one change, and nine that are told");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(412, "precondition-failed");
    }
    let url = done[0].json()["url"].as_str().unwrap().to_owned();
    leads_to(gateway.get(&short(&link)).send().await, &url);
    let delete = |tag: &str| gateway.delete(&path).key(&key).header("if-match", tag).send();
    delete(&tag).await.problem(412, "precondition-failed");
    delete(done[0].header("etag")).await.expect(204);
}

pub async fn a_creation_that_is_repeated_makes_one_link(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let (word, body) = (unique("k"), json!({ "url": "https://example.com/once" }));
    let create = || {
        gateway
            .post("/api/links")
            .key(&key)
            .header("idempotency-key", &word)
            .json(&body)
            .send()
    };
    let answers = join_all((0..8).map(|_| create())).await;
    let first = answers[0].json();
    for answer in answers {
        let answer = answer.expect(201);
        assert_eq!(answer.json(), first);
        assert_eq!(answer.header("location"), managed(&first));
    }
    let again = create().await.expect(201);
    assert_eq!(
        (again.header("idempotency-replayed"), again.json()),
        ("true", first.clone())
    );
    let other = json!({ "url": "https://example.com/other" });
    let call = gateway
        .post("/api/links")
        .key(&key)
        .header("idempotency-key", &word);
    call.json(&other)
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    let listed = gateway
        .get("/api/links")
        .key(&key)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(listed["links"], json!([first]));
    // A stranger gets its token again, and it opens the link.
    let create = || {
        let call = gateway.post("/api/links").client("a-stranger");
        call.header("idempotency-key", &word).json(&body).send()
    };
    let (first, again) = (
        create().await.expect(201).json(),
        create().await.expect(201).json(),
    );
    assert_eq!(first, again);
    let token = again["manageToken"].as_str().expect("it has one");
    gateway.get(&managed(&again)).key(token).send().await.expect(200);
}

pub async fn a_qr_code_is_drawn_and_kept(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    let path = format!("/api/links/{}/qr", code(&link));
    let svg = gateway.get(&path).key(&key).send().await.expect(200);
    assert_eq!(svg.header("content-type"), "image/svg+xml");
    assert!(svg.text().starts_with("<svg ") && svg.text().ends_with("</svg>"));
    let large = format!("{path}?format=png&size=2048&level=H&color=aa0000");
    let png = gateway.get(&large).key(&key).send().await.expect(200);
    assert_eq!(png.header("content-type"), "image/png");
    assert!(png.body.starts_with(b"\x89PNG\r\n\x1a\n") && png.body.len() < 64 << 10);
    for (path, image) in [(&path, &svg), (&large, &png)] {
        let tag = image.header("etag");
        let known = gateway
            .get(path)
            .key(&key)
            .header("if-none-match", tag)
            .send()
            .await
            .expect(304);
        assert_eq!((known.body.len(), known.header("etag")), (0, tag));
        let head = gateway.head(path).key(&key).send().await.expect(200);
        assert_eq!((head.body.len(), head.header("etag")), (0, tag));
    }
    gateway.get(&path).send().await.problem(401, "unauthorized");
    gateway
        .get(&path)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    gateway
        .get(&format!("{path}?size=9999"))
        .key(&key)
        .send()
        .await
        .names("query:size");
    gateway
        .get(&format!("{path}?color=%23fff"))
        .key(&key)
        .send()
        .await
        .names("query:color");
    let nobody = format!("/api/links/{}/qr", unique("nobody"));
    gateway
        .get(&nobody)
        .key(&key)
        .send()
        .await
        .problem(404, "not-found");
}
