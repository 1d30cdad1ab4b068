//! The visits of a link, by time and by what they came with.

use serde_json::{Value, json};

use super::{link, managed, short};
use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, eventually};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 \
                      Mobile/15E148 Safari/604.1";
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

async fn stats(gateway: &Gateway, key: &str, path: &str) -> Value {
    gateway.get(path).key(key).send().await.expect(200).json()
}

/// So many visits, machines and clients, which are told a moment later.
async fn tell(gateway: &Gateway, key: &str, path: &str, expected: [u64; 3]) {
    eventually("the statistics have every visit", async || {
        let told = stats(gateway, key, path).await;
        let told = ["visits", "bots", "uniqueVisitors"].map(|name| told[name].as_u64().unwrap());
        (told == expected).then_some(())
    })
    .await;
}

fn values(stats: &Value) -> Vec<(Option<&str>, u64)> {
    let rows = stats["rows"].as_array().expect("rows").iter();
    rows.map(|row| (row["value"].as_str(), row["visits"].as_u64().unwrap()))
        .collect()
}

pub async fn visits_are_told_by_time_and_by_what_they_came_with(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let plain = link(&gateway, &key, "https://example.com/", json!({})).await;
    let numbered = link(&gateway, &key, "https://example.com/", json!({ "maxVisits": 9 })).await;
    for n in 0..12 {
        let (agent, language) = match n % 3 {
            0 => (IPHONE, "de-AT,de;q=0.9"),
            _ => (FIREFOX, "en"),
        };
        let call = gateway.get(&short(&plain)).header("user-agent", agent);
        let call = call
            .header("accept-language", language)
            .header("referer", "https://www.news.example/today");
        call.client(&format!("c{}", n % 4)).send().await.expect(302);
    }
    for _ in 0..3 {
        gateway
            .get(&short(&plain))
            .header("user-agent", BOT)
            .send()
            .await
            .expect(302);
        gateway
            .get(&short(&numbered))
            .client("c0")
            .send()
            .await
            .expect(302);
    }
    let path = format!("{}/stats", managed(&plain));
    tell(&gateway, &key, &path, [12, 3, 4]).await;
    for (by, expected) in [
        ("device", vec![(Some("desktop"), 8), (Some("mobile"), 4)]),
        ("os", vec![(Some("linux"), 8), (Some("ios"), 4)]),
        ("browser", vec![(Some("firefox"), 8), (Some("safari"), 4)]),
        ("language", vec![(Some("en"), 8), (Some("de"), 4)]),
        ("referrer", vec![(Some("news.example"), 12)]),
        ("country", vec![(None, 12)]),
    ] {
        let told = stats(&gateway, &key, &format!("{path}?groupBy={by}")).await;
        assert_eq!(values(&told), expected, "{by}");
    }
    let by_time = stats(&gateway, &key, &format!("{path}?interval=2h")).await;
    let periods = by_time["rows"].as_array().unwrap();
    let sum: u64 = periods.iter().map(|row| row["visits"].as_u64().unwrap()).sum();
    assert_eq!((periods.len(), sum), (3, 12));
    tell(&gateway, &key, "/api/links/stats?interval=all", [15, 3, 4]).await;
    assert_eq!(stats(&gateway, &other, "/api/links/stats").await["visits"], 0);
    let shown = stats(&gateway, &key, &managed(&plain)).await;
    assert_eq!(
        (&shown["visits"], &shown["uniqueVisitors"]),
        (&json!(12), &json!(4))
    );
    gateway
        .get(&path)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
}

pub async fn statistics_have_the_visits_that_the_counter_has_after_a_kill(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let plain = link(&gateway, ADMIN_KEY, "https://example.com/", json!({})).await;
    let numbered = link(
        &gateway,
        ADMIN_KEY,
        "https://example.com/",
        json!({ "maxVisits": 100_000 }),
    )
    .await;
    let mut made = 0;
    for round in 0..3 {
        for link in [&plain, &numbered] {
            let path = short(link);
            let visit = |n: usize| gateway.get(&path).client(&format!("c{}", n % 10)).send();
            crowd(50, 0..1_000, visit).await;
        }
        made += 1_000;
        if round == 1 {
            assert!(gateway.stop().await.success());
        } else {
            gateway.kill();
        }
        gateway.restart().await;
        for link in [&plain, &numbered] {
            let visits = stats(&gateway, ADMIN_KEY, &managed(link)).await["visits"]
                .as_u64()
                .unwrap();
            let told = stats(&gateway, ADMIN_KEY, &format!("{}/stats", managed(link))).await;
            assert_eq!(
                told["visits"], visits,
                "round {round}: the two were written together"
            );
            assert!(visits <= made);
            if link == &numbered {
                assert_eq!(visits, made, "every one was durable before it was answered");
            }
        }
    }
}
