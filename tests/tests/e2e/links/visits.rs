//! Visits: counted exactly, by people only.

use serde_json::{Value, json};

use super::{leads_to, link, managed, short};
use crate::harness::{Gateway, Host, crowd, eventually};

pub async fn max_visits_redirects_exactly_that_many(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({ "maxVisits": 5 })).await;
    let path = short(&link);
    let answers = crowd(200, 0..200, |_| gateway.get(&path).send()).await;
    let redirects = answers.iter().filter(|answer| answer.status == 302).count();
    assert_eq!(redirects, 5);
    for answer in answers.iter().filter(|answer| answer.status != 302) {
        answer.problem(410, "gone");
    }
    let after = gateway
        .get(&managed(&link))
        .key(&key)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(after["visits"], 5);
}

pub async fn raised_max_visits_admits_the_difference(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({ "maxVisits": 1 })).await;
    leads_to(gateway.get(&short(&link)).send().await, "https://example.com/");
    gateway.get(&short(&link)).send().await.problem(410, "gone");
    gateway
        .patch(&managed(&link))
        .key(&key)
        .json(&json!({ "maxVisits": 3 }))
        .send()
        .await
        .expect(200);
    let path = short(&link);
    let answers = crowd(20, 0..20, |_| gateway.get(&path).send()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 302).count(), 2);
}

pub async fn machines_and_heads_do_not_use_up_a_link(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let target = "https://example.com/secret";
    let link = link(&gateway, &key, target, json!({ "maxVisits": 1 })).await;
    let path = short(&link);
    for (name, value) in [
        (
            "user-agent",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        ),
        ("user-agent", "facebookexternalhit/1.1"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
    ] {
        let answer = gateway.get(&path).header(name, value).send().await;
        assert!(
            answer.maybe_header("location").is_none(),
            "{name}: {value}\n{}",
            answer.shown()
        );
    }
    leads_to(gateway.head(&path).send().await, target);
    leads_to(gateway.get(&path).send().await, target);
    gateway.get(&path).send().await.problem(410, "gone");
}

pub async fn person_taken_for_a_machine_gets_through_by_the_button(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let target = "https://example.com/secret";
    let link = link(&gateway, &key, target, json!({ "maxVisits": 1 })).await;
    let path = short(&link);
    let machine = "Mozilla/5.0 (compatible; Bluesky Cardyb/1.1; +mailto:support@bsky.app)";
    let page = gateway
        .get(&path)
        .header("user-agent", machine)
        .send()
        .await
        .expect(200);
    assert!(
        page.text().contains("<form method=\"post\">") && !page.text().contains("secret"),
        "{}",
        page.shown()
    );
    let form = "application/x-www-form-urlencoded";
    let press = |body: &'static str| {
        let call = gateway
            .post(&path)
            .header("user-agent", machine)
            .header("content-type", form);
        call.body(body).send()
    };
    press("").await.problem(405, "method-not-allowed");
    let opened = press("open=1").await.expect(303);
    assert_eq!(opened.header("location"), target);
    press("open=1").await.problem(410, "gone");
    gateway.get(&path).send().await.problem(410, "gone");
}

pub async fn slash_and_needless_encoding_lead_to_the_same_link(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let code = crate::harness::unique("sale");
    let link = link(&gateway, &key, "https://example.com/", json!({ "code": code })).await;
    let encoded = format!("/%{:02X}{}", code.as_bytes()[0], &code[1..]);
    for path in [
        format!("{}/", short(&link)),
        encoded.clone(),
        format!("{encoded}/"),
    ] {
        leads_to(gateway.get(&path).send().await, "https://example.com/");
    }
    gateway
        .get(&format!("{}//", short(&link)))
        .send()
        .await
        .problem(404, "not-found");
    let read = gateway
        .get(&format!("/api/links{encoded}"))
        .key(&key)
        .send()
        .await
        .expect(200);
    assert_eq!(read.json()["code"], code.as_str());
}

pub async fn visits_of_a_plain_link_are_counted(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let link = link(&gateway, &key, "https://example.com/", json!({})).await;
    let path = short(&link);
    crowd(10, 0..30, |_| gateway.get(&path).send()).await;
    gateway.head(&path).send().await.expect(302);
    eventually("30 visits are counted", async || {
        let now = gateway
            .get(&managed(&link))
            .key(&key)
            .send()
            .await
            .expect(200)
            .json();
        (now["visits"] == 30 && now["lastVisitedAt"] != Value::Null).then_some(())
    })
    .await;
}

pub async fn clicks_on_a_deleted_link_do_not_count_for_the_next_one(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    let first = link(&gateway, &key, "https://example.com/", json!({})).await;
    let path = short(&first);
    for _ in 0..10 {
        leads_to(gateway.get(&path).send().await, "https://example.com/");
    }
    gateway
        .delete(&managed(&first))
        .key(&key)
        .send()
        .await
        .expect(204);
    let fields = json!({ "code": first["code"], "maxVisits": 3 });
    let second = link(&gateway, &key, "https://example.com/next", fields).await;
    // By now whatever was on its way has arrived.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let answers = crowd(9, 0..9, |_| gateway.get(&path).send()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 302).count(), 3);
    let after = gateway.get(&managed(&second)).key(&key).send().await.expect(200);
    assert_eq!(after.json()["visits"], 3);
}

pub async fn max_visits_set_on_a_link_in_use_holds_from_the_answer_on(host: Host) {
    let gateway = Gateway::shared(host).await;
    let key = gateway.key(&["links"]).await;
    for _ in 0..5 {
        let link = link(&gateway, &key, "https://example.com/", json!({})).await;
        let path = short(&link);
        // The bound comes while some 64 ask at a time, after the first fifty or so.
        let answers = crowd(64, 0..1_000, |n| {
            let request = match n {
                50 => gateway
                    .patch(&managed(&link))
                    .key(&key)
                    .json(&json!({ "maxVisits": 400 })),
                _ => gateway.get(&path),
            };
            request.send()
        })
        .await;
        let of = |status| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((of(200), of(302)), (1, 400));
    }
}
