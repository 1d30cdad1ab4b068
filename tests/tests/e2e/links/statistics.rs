//! The visits of a link, by time and by what they came with.

use serde_json::{Value, json};

use std::fs;

use super::{link, managed, short};
use crate::harness::{ADMIN_KEY, Gateway, Host, crowd, eventually, root};

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

/// All visits of a list, by pages of so many.
async fn log(gateway: &Gateway, key: &str, path: &str, limit: usize) -> Vec<Value> {
    let (mut visits, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stats(gateway, key, &format!("{path}?limit={limit}{cursor}")).await;
        visits.extend(page["visits"].as_array().expect("visits").iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return visits,
        }
    }
}

pub async fn the_newest_visits_are_told_one_by_one(host: Host) {
    let gateway = Gateway::shared(host).await;
    let (key, other) = (gateway.key(&["links"]).await, gateway.key(&["links"]).await);
    let plain = link(&gateway, &key, "https://example.com/", json!({})).await;
    let path = format!("{}/visits", managed(&plain));
    for n in 0..7 {
        let call = gateway.get(&short(&plain)).header("user-agent", FIREFOX);
        let call = call.header("referer", &format!("https://news.example/{n}"));
        call.client(&format!("c{}", n % 2)).send().await.expect(302);
    }
    gateway
        .get(&short(&plain))
        .header("user-agent", BOT)
        .send()
        .await
        .expect(302);
    let visits = eventually("all visits are told", async || {
        let visits = log(&gateway, &key, &path, 3).await;
        (visits.len() == 8).then_some(visits)
    })
    .await;
    let mut referrers: Vec<_> = visits
        .iter()
        .filter_map(|visit| visit["referrer"].as_str())
        .collect();
    referrers.sort_unstable();
    let expected: Vec<_> = (0..7).map(|n| format!("https://news.example/{n}")).collect();
    assert_eq!(referrers, expected);
    let machines: Vec<_> = visits
        .iter()
        .filter(|visit| visit["bot"] == json!(true))
        .collect();
    assert_eq!((machines.len(), &machines[0]["userAgent"]), (1, &json!(BOT)));
    let mut clients: Vec<_> = visits
        .iter()
        .filter(|visit| visit["bot"] == json!(false))
        .map(|visit| visit["client"].as_str().unwrap())
        .collect();
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), 2);
    assert!(
        visits
            .iter()
            .all(|visit| visit["target"] == json!("https://example.com/"))
    );
    gateway
        .get(&path)
        .key(&other)
        .send()
        .await
        .problem(403, "forbidden");
    gateway.get(&path).send().await.problem(401, "unauthorized");
    let refused = gateway.delete(&path).key(&other).send().await;
    refused.problem(403, "forbidden");
    gateway.delete(&path).key(&key).send().await.expect(204);
    assert!(log(&gateway, &key, &path, 10).await.is_empty());
    assert_eq!(stats(&gateway, &key, &managed(&plain)).await["visits"], 7);
}

pub async fn visits_to_codes_that_no_link_has_are_told(host: Host) {
    let gateway = Gateway::shared(host).await;
    let lost = format!("/{}", crate::harness::unique("lost"));
    let path = "/api/links/orphans";
    eventually("the visit is told", async || {
        // Another one of the same moment may stand for it.
        let visit = gateway.get(&lost).header("user-agent", FIREFOX);
        visit.send().await.expect(404);
        let visits = log(&gateway, ADMIN_KEY, path, 500).await;
        let found = visits.into_iter().find(|visit| visit["target"] == json!(lost))?;
        (found["browser"] == json!("firefox")).then_some(())
    })
    .await;
    let key = gateway.key(&["links"]).await;
    gateway.get(path).key(&key).send().await.problem(403, "forbidden");
    gateway
        .delete(path)
        .key(&key)
        .send()
        .await
        .problem(403, "forbidden");
}

pub async fn the_log_outlives_a_kill_and_keeps_the_newest(host: Host) {
    let gateway = Gateway::start(host, "[links]\nvisit_log = 100\n").await;
    let plain = link(&gateway, ADMIN_KEY, "https://example.com/", json!({})).await;
    let path = short(&plain);
    let visit = |n: usize| gateway.get(&path).client(&format!("c{}", n % 100)).send();
    crowd(20, 0..500, visit).await;
    let visits = format!("{}/visits", managed(&plain));
    eventually("as many as are kept", async || {
        (log(&gateway, ADMIN_KEY, &visits, 500).await.len() == 100).then_some(())
    })
    .await;
    tell(
        &gateway,
        ADMIN_KEY,
        &format!("{}/stats", managed(&plain)),
        [500, 0, 100],
    )
    .await;
    let before = log(&gateway, ADMIN_KEY, &visits, 7).await;
    gateway.kill();
    gateway.restart().await;
    assert_eq!(log(&gateway, ADMIN_KEY, &visits, 500).await, before);
}

pub async fn visitors_are_where_the_operators_file_says(host: Host) {
    let made = |name: &str| root().join("tests/countries").join(name);
    let directory = tempfile::tempdir().expect("a place for files");
    let (file, next) = (
        directory.path().join("here.mmdb"),
        directory.path().join("next.mmdb"),
    );
    fs::copy(made("countries.mmdb"), &file).expect("it is ours");
    let settings = format!(
        "[clients]\ncountry_file = \"{}\"\ncountry_header = \"x-country\"\n[reload]\nevery = \"200ms\"\n",
        file.display()
    );
    let gateway = Gateway::start_trusting(host, "127.0.0.1", &settings).await;
    let rules = json!([{ "when": { "country": "KR" }, "url": "https://example.com/kr" }]);
    let link = link(
        &gateway,
        ADMIN_KEY,
        "https://example.com/",
        json!({ "rules": rules }),
    )
    .await;
    let visit = async |address: &str, told: &str| {
        let call = gateway.get(&short(&link)).header("x-forwarded-for", address);
        let call = call.header("x-country", told).header("user-agent", FIREFOX);
        call.send().await.expect(302).header("location").to_owned()
    };
    // A proxy that knows is believed first. What is no country is nothing.
    assert_eq!(visit("198.51.100.7", "").await, "https://example.com/kr");
    assert_eq!(visit("203.0.113.7", "").await, "https://example.com/");
    assert_eq!(visit("2001:db8::7", "").await, "https://example.com/");
    assert_eq!(visit("203.0.113.7", "KR").await, "https://example.com/kr");
    assert_eq!(visit("192.0.2.1", "somewhere").await, "https://example.com/");
    let path = format!("{}/stats?groupBy=country", managed(&link));
    tell(&gateway, ADMIN_KEY, &path, [5, 0, 4]).await;
    let told = stats(&gateway, ADMIN_KEY, &path).await;
    let mut told = values(&told);
    told.sort_unstable();
    assert_eq!(
        told,
        [(None, 1), (Some("DE"), 1), (Some("FR"), 1), (Some("KR"), 2)]
    );
    // What is no database is refused, and what was before stays in force.
    fs::copy(made("networks.mmdb"), &file).expect("it is ours");
    gateway.says("it has no countries").await;
    assert_eq!(visit("198.51.100.7", "").await, "https://example.com/kr");
    // Another is in force without a restart; it comes by a rename, as the tools that fetch it have it.
    fs::copy(made("moved.mmdb"), &next).expect("it is ours");
    fs::rename(next, file).expect("it is ours");
    gateway.says("the file of countries was read again").await;
    assert_eq!(visit("198.51.100.7", "").await, "https://example.com/");
}
