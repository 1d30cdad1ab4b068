//! When a link begins to lead somewhere, and when it ends.

use serde_json::json;

use super::{leads_to, link, managed, short};
use crate::harness::{Gateway, Host, eventually, in_seconds};

pub async fn times_to_the_end_of_the_year_9999_are_told_in_utc(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    for (sent, told) in [
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59.999+01:00", "9999-12-31T22:59:59.999Z"),
        ("9999-12-30T21:59:59-02:30", "9999-12-31T00:29:59Z"),
    ] {
        let fields = json!({ "expiresAt": sent, "validFrom": "0001-01-01T00:00:00Z" });
        let link = link(&gateway, &key, "https://example.com/", fields).await;
        assert_eq!(
            (&link["expiresAt"], &link["validFrom"]),
            (&json!(told), &json!("1970-01-01T00:00:00Z"))
        );
        let beyond = gateway.post(&format!("{}/extend", managed(&link))).key(&key);
        let beyond = beyond.json(&json!({ "seconds": 172_800 })).send().await;
        assert_eq!(beyond.status, 400, "{}", beyond.shown());
        beyond.names("#/seconds");
        leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
    }
}

pub async fn expired_link_is_gone(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
    let soon = json!({ "expiresAt": in_seconds(3) });
    gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&soon)
        .send()
        .await
        .expect(200);
    let gone = eventually("the link expires", async || {
        Some(gateway.get(&short(&link)).send().await).filter(|answer| answer.status != 302)
    });
    gone.await.problem(410, "gone");
}

pub async fn link_is_not_found_before_it_is_valid(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let later = json!({ "validFrom": in_seconds(3_600) });
    let link = link(&gateway, &key, "https://example.com/", later).await;
    gateway.get(&short(&link)).send().await.problem(404, "not-found");
    let soon = json!({ "validFrom": in_seconds(3) });
    gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&soon)
        .send()
        .await
        .expect(200);
    let valid = eventually("the link becomes valid", async || {
        Some(gateway.get(&short(&link)).send().await).filter(|answer| answer.status != 404)
    });
    leads_to(valid.await, "https://example.com/");
}

pub async fn archived_link_is_gone_until_it_is_brought_back(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&json!({ "archived": true }))
        .send()
        .await
        .expect(200);
    gateway.get(&short(&link)).send().await.problem(410, "gone");
    gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&json!({ "archived": false }))
        .send()
        .await
        .expect(200);
    leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
}

pub async fn ended_link_leads_to_its_fallback(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let fields = json!({ "maxVisits": 1, "fallbackUrl": "https://example.com/over" });
    let link = link(&gateway, &key, "https://example.com/", fields).await;
    leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
    leads_to(
        gateway.get(&short(&link)).send().await,
        "https://example.com/over",
    );
}

pub async fn extended_link_ends_later(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let fields = json!({ "expiresAt": "2099-01-01T00:00:00Z" });
    let link = link(&gateway, &key, "https://example.com/", fields).await;
    let extend = format!("{}/extend", managed(&link));
    let by_seconds = gateway
        .post(&extend)
        .key(&key)
        .json(&json!({ "seconds": 86_400 }))
        .send()
        .await;
    assert_eq!(by_seconds.expect(200).json()["expiresAt"], "2099-01-02T00:00:00Z");
    let to_a_time = json!({ "expiresAt": "2100-06-01T12:00:00Z" });
    let to_a_time = gateway
        .post(&extend)
        .key(&key)
        .json(&to_a_time)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(to_a_time["expiresAt"], "2100-06-01T12:00:00Z");
    let past = json!({ "expiresAt": "2001-01-01T00:00:00Z" });
    gateway
        .post(&extend)
        .key(&key)
        .json(&past)
        .send()
        .await
        .names("#/expiresAt");
}

pub async fn code_of_an_ended_link_becomes_free(host: Host) {
    let gateway = Gateway::start(host, "[links]\nkeep_expired = \"0s\"").await;
    let key = gateway.key(&["links"]).await;
    let soon = json!({ "expiresAt": in_seconds(2) });
    let first = link(&gateway, &key, "https://example.com/", soon).await;
    let body = json!({ "url": "https://example.com/next", "code": first["code"] });
    let post = async || gateway.post("/api/links").key(&key).json(&body).send().await;
    post().await.problem(409, "conflict");
    let again = eventually("the code is free", async || {
        Some(post().await).filter(|answer| answer.status == 201)
    });
    assert_eq!(again.await.json()["visits"], 0);
}
