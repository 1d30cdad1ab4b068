//! The log of visits against the store in memory.

use serde_json::{Value, json};

use super::super::tests::{BOT, FIREFOX, IPHONE};
use super::super::{NOTES, step};
use crate::settings::Settings;
use crate::testing::{Gateway, SECOND, body, pointer, ready, text};
use tollgate_store::ports::Store as _;

impl Gateway {
    /// All visits of a list, by pages of so many.
    fn logged_visits(&self, path: &str, limit: usize) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/links/{path}?limit={limit}{cursor}");
            let answer = self.admin("GET", &path, &Value::Null);
            assert_eq!(answer.status, 200, "{}", text(&answer));
            let page = body(&answer);
            all.extend(page["visits"].as_array().unwrap().iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

fn logged(settings: &str) -> Gateway {
    Gateway::with_settings(Settings::parse(settings, "t").unwrap())
}

#[test]
fn the_newest_visits_are_told_one_by_one() {
    let gateway = logged("[links]\nvisit_log = 10\n");
    gateway.noted_link("abc", json!({}));
    for n in 0..25 {
        let referrer = format!("https://news.example/{n}#x");
        let more = [("referer", &*referrer)];
        assert_eq!(gateway.comes("abc", &format!("c{}", n % 2), FIREFOX, &more), 302);
        gateway.pass_time(SECOND);
    }
    gateway.comes("abc", "c0", BOT, &[]);
    let visits = gateway.logged_visits("abc/visits", 3);
    assert_eq!(visits.len(), 10);
    let bot = &visits[0];
    assert_eq!((&bot["bot"], &bot["userAgent"]), (&json!(true), &json!(BOT)));
    let newest = &visits[1];
    assert_eq!(newest["referrer"], json!("https://news.example/24"));
    assert_eq!(
        newest["time"],
        json!(tollgate_api::time::format(gateway.store.now() - SECOND))
    );
    let of_agent = ["device", "os", "browser"].map(|name| newest[name].as_str().unwrap());
    assert_eq!(of_agent, ["desktop", "linux", "firefox"]);
    assert_eq!(
        (&newest["target"], &newest["country"]),
        (&json!("https://example.com/"), &Value::Null)
    );
    // The same client has the same name, whatever it is.
    assert_eq!(visits[1]["client"], visits[3]["client"]);
    assert_eq!(visits[0]["client"], visits[1]["client"]);
    assert_ne!(visits[1]["client"], visits[2]["client"]);
    let link = gateway.link_of("abc");
    assert_eq!((&link["visits"], &link["bots"]), (&json!(25), &json!(1)));
}

#[test]
fn a_target_is_the_one_of_its_time() {
    let gateway = Gateway::new();
    let more = json!({"rules": [{"when": {"os": "ios"}, "url": "https://example.org/ios"}]});
    gateway.noted_link("abc", more);
    gateway.comes("abc", "c", IPHONE, &[]);
    gateway.comes("abc", "c", FIREFOX, &[]);
    let long = format!("https://example.net/{}", "x".repeat(400));
    let edited = gateway.admin("PATCH", "/api/links/abc", &json!({"url": long}));
    assert_eq!(edited.status, 200);
    gateway.pass_time(1);
    gateway.comes("abc", "c", FIREFOX, &[]);
    let visits = gateway.logged_visits("abc/visits", 10);
    let mut targets: Vec<_> = visits
        .iter()
        .map(|visit| visit["target"].as_str().unwrap())
        .collect();
    assert!(targets[0].starts_with("https://example.net/xxx") && targets[0].ends_with('\u{2026}'));
    targets[1..].sort_unstable();
    assert_eq!(targets[1..], ["https://example.com/", "https://example.org/ios"]);
}

#[test]
fn visits_are_forgotten_and_what_they_counted_stays() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({"maxVisits": 500}));
    for n in 0..150 {
        gateway.comes("abc", "c", FIREFOX, &[]);
        if n == 100 {
            assert_eq!(gateway.logged_visits("abc/visits", 500).len(), 101);
        }
    }
    let before = gateway.logged_visits("abc/visits", 1)[0]["client"].clone();
    let gone = gateway.admin("DELETE", "/api/links/abc/visits", &Value::Null);
    assert_eq!(gone.status, 204);
    assert_eq!(gateway.logged_visits("abc/visits", 10), Vec::<Value>::new());
    assert_eq!(gateway.link_of("abc")["visits"], json!(150));
    assert_eq!(gateway.stats("abc/stats")["visits"], json!(150));
    gateway.comes("abc", "c", FIREFOX, &[]);
    let after = gateway.logged_visits("abc/visits", 10);
    assert_eq!(after.len(), 1);
    assert_ne!(after[0]["client"], before);
    gateway.admin("DELETE", "/api/links/abc", &Value::Null);
    gateway.pass_time(900 * SECOND);
    while ready(step(
        &gateway.store,
        &gateway.settings.config.links,
        gateway.store.now(),
    ))
    .unwrap()
    {}
    assert_eq!(gateway.count_keys("log/"), 0);
}

#[test]
fn visits_to_codes_that_no_link_has_are_one_bounded_list() {
    let gateway = logged("[links]\nvisit_log = 70\n");
    gateway.noted_link("abc", json!({}));
    gateway.comes("abc", "c", FIREFOX, &[]);
    for n in 0..300 {
        assert_eq!(gateway.comes(&format!("lost{n}"), "c", FIREFOX, &[]), 404);
        gateway.pass_time(1);
    }
    assert_eq!(gateway.comes("wp-login.php", "c", BOT, &[]), 404);
    let head = gateway.call("HEAD", "/lost", &[], &Value::Null);
    assert_eq!(head.status, 404);
    let visits = gateway.logged_visits("orphans", 50);
    assert_eq!(visits.len(), 70);
    assert_eq!(
        (&visits[0]["target"], &visits[0]["bot"]),
        (&json!("/wp-login.php"), &json!(true))
    );
    assert_eq!(visits[1]["target"], json!("/lost299"));
    let gone = gateway.admin("DELETE", "/api/links/orphans", &Value::Null);
    assert_eq!(gone.status, 204);
    assert_eq!(gateway.logged_visits("orphans", 50), Vec::<Value>::new());
    let taken = gateway.admin(
        "POST",
        "/api/links",
        &json!({"url": "https://example.com/", "code": "orphans"}),
    );
    assert_eq!(pointer(&taken), "#/code");
}

#[test]
fn without_a_log_nothing_is_told_of_a_single_visit() {
    let gateway = logged("[links]\nvisit_log = 0\n");
    gateway.noted_link("abc", json!({}));
    gateway.comes(
        "abc",
        "c",
        FIREFOX,
        &[("referer", "https://news.example/private")],
    );
    gateway.comes("lost", "c", FIREFOX, &[]);
    let items = ready(gateway.store.scan(NOTES, None, 10)).unwrap();
    assert_eq!(items.len(), 1);
    let note = String::from_utf8_lossy(&items[0].entry.value).into_owned();
    assert!(!note.contains("private") && !note.contains("Gecko"), "{note}");
    assert_eq!(gateway.logged_visits("abc/visits", 10), Vec::<Value>::new());
    assert_eq!(gateway.stats("abc/stats")["visits"], json!(1));
    assert_eq!(gateway.count_keys("log/"), 0);
}

#[test]
fn a_list_of_visits_that_cannot_be_is_named() {
    let gateway = Gateway::new();
    gateway.noted_link("abc", json!({}));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=LTEuMA", "cursor"),
        ("page=1", "page"),
    ] {
        for path in ["abc/visits", "orphans"] {
            let answer = gateway.admin("GET", &format!("/api/links/{path}?{query}"), &Value::Null);
            assert_eq!(pointer(&answer), format!("query:{field}"), "{query}");
        }
    }
    // Of another list, or of a time that is over: nothing more.
    for cursor in ["0.0", "18446744073709551615.18446744073709551615"] {
        use base64::Engine as _;
        let cursor = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(cursor);
        let answer = gateway.admin(
            "GET",
            &format!("/api/links/abc/visits?cursor={cursor}"),
            &Value::Null,
        );
        assert_eq!(answer.status, 200);
    }
}
