//! Statistics against the store in memory.

use serde_json::{Value, json};

use super::{DAY, HOUR, NOTES, fold, step};
use crate::settings::Settings;
use crate::testing::{Gateway, SECOND, body, pointer, ready, text};
use tollgate_store::memory::START;
use tollgate_store::plan::coalescer::noted;
use tollgate_store::ports::Store as _;

pub(super) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
pub(super) const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
pub(super) const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

impl Gateway {
    pub(super) fn noted_link(&self, code: &str, more: Value) {
        let mut fields = json!({"url": "https://example.com/", "code": code});
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = self.admin("POST", "/api/links", &fields);
        assert_eq!(made.status, 201, "{}", text(&made));
    }

    /// A client with this agent follows the link.
    pub(super) fn comes(&self, code: &str, client: &str, agent: &str, more: &[(&str, &str)]) -> u16 {
        let headers = [&[("x-client-id", client), ("user-agent", agent)], more].concat();
        self.call("GET", &format!("/{code}"), &headers, &Value::Null)
            .status
    }

    pub(super) fn stats(&self, path: &str) -> Value {
        let answer = self.admin("GET", &format!("/api/links/{path}"), &Value::Null);
        assert_eq!(answer.status, 200, "{}", text(&answer));
        body(&answer)
    }

    pub(super) fn link_of(&self, code: &str) -> Value {
        body(&self.admin("GET", &format!("/api/links/{code}"), &Value::Null))
    }

    pub(super) fn count_keys(&self, prefix: &str) -> usize {
        ready(self.store.scan(prefix, None, 1_000)).unwrap().len()
    }

    pub(super) fn pass_time(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }
}

/// The visits that the entries of all links' statistics stand for.
fn kept(gateway: &Gateway) -> u64 {
    let items = ready(gateway.store.scan("", None, 1_000)).unwrap();
    let visits = items
        .iter()
        .filter_map(|item| super::visits_of(&item.key, &item.entry.value));
    visits.map(|(_, visits)| visits).sum()
}

fn values(stats: &Value) -> Vec<(Option<&str>, u64)> {
    let rows = stats["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["value"].as_str(), row["visits"].as_u64().unwrap()))
        .collect()
}

#[test]
fn visits_are_told_by_time_and_by_what_they_came_with() {
    let gateway = Gateway::with_settings(
        Settings::parse(
            "[server]\ntrusted_proxies = [\"192.0.2.1\"]\n[clients]\ncountry_header = \"cf-ipcountry\"\n",
            "t",
        )
        .unwrap(),
    );
    gateway.noted_link("abc", json!({}));
    for n in 0..4 {
        let german = [("accept-language", "de-AT,de;q=0.9"), ("cf-ipcountry", "AT")];
        gateway.comes("abc", &format!("c{n}"), FIREFOX, &german);
    }
    gateway.pass_time(HOUR);
    let referred = [("referer", "https://www.news.example/today?x")];
    for _ in 0..3 {
        gateway.comes("abc", "c0", IPHONE, &referred);
    }
    gateway.comes("abc", "x", BOT, &[]);
    let head = gateway.call("HEAD", "/abc", &[("user-agent", FIREFOX)], &Value::Null);
    assert_eq!(head.status, 302);
    let stats = gateway.stats("abc/stats?interval=2h");
    let sums = |value: &Value| {
        [&value["visits"], &value["uniqueVisitors"], &value["bots"]].map(|n| n.as_u64().unwrap())
    };
    assert_eq!(sums(&stats), [7, 4, 1]);
    let rows = stats["rows"].as_array().unwrap();
    let rows: Vec<_> = rows.iter().map(sums).collect();
    assert_eq!(rows, [[0, 0, 0], [4, 4, 0], [3, 1, 1]]);
    for (by, expected) in [
        ("device", vec![(Some("desktop"), 4), (Some("mobile"), 3)]),
        ("os", vec![(Some("linux"), 4), (Some("ios"), 3)]),
        ("browser", vec![(Some("firefox"), 4), (Some("safari"), 3)]),
        ("country", vec![(Some("AT"), 4), (None, 3)]),
        ("language", vec![(Some("de"), 4), (None, 3)]),
        ("referrer", vec![(None, 4), (Some("news.example"), 3)]),
    ] {
        let stats = gateway.stats(&format!("abc/stats?groupBy={by}"));
        assert_eq!((values(&stats), sums(&stats)), (expected, [7, 4, 1]), "{by}");
    }
    let link = gateway.link_of("abc");
    assert_eq!((&link["visits"], &link["uniqueVisitors"]), (&json!(7), &json!(4)));
}

#[test]
fn a_country_is_believed_from_a_trusted_proxy_alone() {
    for (trusted, expected) in [("192.0.2.1", Some("AT")), ("192.0.2.2", None)] {
        let settings = format!(
            "[server]\ntrusted_proxies = [\"{trusted}\"]\n[clients]\ncountry_header = \"x-country\"\n"
        );
        let gateway = Gateway::with_settings(Settings::parse(&settings, "t").unwrap());
        gateway.noted_link("abc", json!({}));
        gateway.comes("abc", "c", FIREFOX, &[("x-country", "at")]);
        assert_eq!(
            values(&gateway.stats("abc/stats?groupBy=country")),
            [(expected, 1)]
        );
    }
}

#[test]
fn what_is_noted_is_counted_once_whoever_folds() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    gateway.noted_link("xyz", json!({"maxVisits": 1_000}));
    for n in 0..200 {
        assert_eq!(gateway.comes("abc", &format!("c{}", n % 7), FIREFOX, &[]), 302);
        assert_eq!(gateway.comes("xyz", "c", FIREFOX, &[]), 302);
    }
    assert_eq!((gateway.count_keys(NOTES), kept(&gateway)), (400, 400));
    ready(fold(&gateway.store, NOTES, 1_000)).unwrap();
    ready(fold(&gateway.store, NOTES, 1_000)).unwrap();
    assert_eq!((gateway.count_keys(NOTES), kept(&gateway)), (0, 400));
    for (code, unique) in [("abc", 7), ("xyz", 1)] {
        let stats = gateway.stats(&format!("{code}/stats"));
        assert_eq!(
            (&stats["visits"], &stats["uniqueVisitors"]),
            (&json!(200), &json!(unique))
        );
    }
    let all = gateway.stats("stats");
    assert_eq!((&all["visits"], &all["uniqueVisitors"]), (&json!(400), &json!(8)));
}

#[test]
fn hours_are_kept_for_ninety_days_and_days_for_ever() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    gateway.comes("abc", "a", FIREFOX, &[]);
    ready(step(
        &gateway.store,
        &gateway.settings.config.links,
        gateway.store.now(),
    ))
    .unwrap();
    gateway.pass_time(60 * DAY);
    let by_hour = |gateway: &Gateway| gateway.stats("abc/stats?interval=90d&unit=hour")["visits"].clone();
    assert_eq!(by_hour(&gateway), json!(1));
    gateway.pass_time(31 * DAY);
    assert_eq!(by_hour(&gateway), json!(0));
    assert_eq!(gateway.stats("abc/stats?interval=100d")["visits"], json!(1));
    gateway.pass_time(900 * DAY);
    let all = gateway.stats("abc/stats?interval=all&groupBy=browser");
    assert_eq!(values(&all), [(Some("firefox"), 1)]);
    assert_eq!(
        all["from"],
        json!(tollgate_api::time::format((START - 1) / DAY * DAY))
    );
}

#[test]
fn the_statistics_of_a_deleted_link_go_and_are_not_the_next_ones() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    for _ in 0..100 {
        gateway.comes("abc", "a", FIREFOX, &[]);
        gateway.pass_time(HOUR);
    }
    ready(fold(&gateway.store, NOTES, 1_000)).unwrap();
    gateway.comes("abc", "a", FIREFOX, &[]);
    assert_eq!(
        gateway.admin("DELETE", "/api/links/abc", &Value::Null).status,
        204
    );
    gateway.noted_link("abc", json!({}));
    gateway.comes("abc", "b", FIREFOX, &[]);
    assert_eq!(gateway.stats("abc/stats?interval=30d")["visits"], json!(1));
    while ready(step(
        &gateway.store,
        &gateway.settings.config.links,
        gateway.store.now(),
    ))
    .unwrap()
    {}
    assert!(
        gateway.count_keys("stats/") > 100,
        "a visit may still be on its way"
    );
    gateway.pass_time(900 * SECOND);
    while ready(step(
        &gateway.store,
        &gateway.settings.config.links,
        gateway.store.now(),
    ))
    .unwrap()
    {}
    assert_eq!(
        (
            gateway.count_keys("stats/"),
            gateway.count_keys(NOTES),
            gateway.count_keys("gone/")
        ),
        (3, 0, 0)
    );
    assert_eq!(gateway.stats("abc/stats?interval=30d")["visits"], json!(1));
}

#[test]
fn where_it_is_off_nothing_is_noted() {
    for settings in ["[links]\nstats = false\n", "[links]\nclicks = \"off\"\n"] {
        let gateway = Gateway::with_settings(Settings::parse(settings, "t").unwrap());
        gateway.noted_link("abc", json!({}));
        gateway.comes("abc", "a", FIREFOX, &[]);
        gateway.comes("abc", "a", BOT, &[]);
        assert_eq!(gateway.count_keys(NOTES), 0);
        assert_eq!(gateway.stats("abc/stats")["visits"], json!(0));
    }
}

#[test]
fn a_machine_never_uses_up_a_numbered_link_however_often_it_comes() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({"maxVisits": 1}));
    for _ in 0..3 {
        assert_eq!(gateway.comes("abc", "a", BOT, &[]), 200);
    }
    assert_eq!(gateway.comes("abc", "a", FIREFOX, &[]), 302);
    assert_eq!(gateway.comes("abc", "a", FIREFOX, &[]), 410);
    let stats = gateway.stats("abc/stats");
    assert_eq!((&stats["visits"], &stats["bots"]), (&json!(1), &json!(3)));
}

/// What users of similar products have reported: previews of a network of many servers inflate the count, so do heads with the agents
/// of browsers, and a client without an id is another one each time.
#[test]
fn visits_are_not_inflated() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    let mastodon = "http.rb/5.1.1 (Mastodon/4.2.1; +https://mastodon.example/)";
    for n in 0..5 {
        gateway.comes("abc", &format!("server{n}"), mastodon, &[]);
        gateway.call("HEAD", "/abc", &[("user-agent", IPHONE)], &Value::Null);
        let forged = format!("198.51.100.{n}");
        let headers = [("user-agent", FIREFOX), ("x-forwarded-for", &forged)];
        gateway.call("GET", "/abc", &headers, &Value::Null);
    }
    let stats = gateway.stats("abc/stats");
    let told = ["visits", "uniqueVisitors", "bots"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(told, [5, 1, 5]);
}

#[test]
fn a_query_that_cannot_be_is_named() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    for (query, field) in [
        ("interval=1w", "interval"),
        ("groupBy=target", "groupBy"),
        ("unit=minute", "unit"),
        ("interval=91d&unit=hour", "unit"),
        ("intervall=1h", "intervall"),
    ] {
        for path in ["abc/stats", "stats"] {
            let answer = gateway.admin("GET", &format!("/api/links/{path}?{query}"), &Value::Null);
            assert_eq!(pointer(&answer), format!("query:{field}"));
        }
    }
}

#[test]
fn no_note_names_an_address() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    gateway.comes("abc", "somebody", FIREFOX, &[("x-forwarded-for", "198.51.100.7")]);
    let items = ready(gateway.store.scan(NOTES, None, 10)).unwrap();
    let rows = noted(&items[0].entry.value).unwrap();
    let row = String::from_utf8_lossy(&rows[0].row).into_owned();
    for secret in ["somebody", "198.51.100.7", "192.0.2.1"] {
        assert!(!row.contains(secret), "{row}");
    }
}
