//! The sweep of ended links, and the repair of what earlier versions left undone.

use super::*;
use crate::links::maintain;
use crate::settings::Settings;
use tollgate_store::commit::{Commit, Mutation, StoreError, literal};

const DAY: u64 = 86_400 * SECOND;

impl Gateway {
    fn keys(&self, prefix: &str) -> Vec<String> {
        let items = ready(self.store.scan(prefix, None, 1_000)).unwrap();
        items.into_iter().map(|item| item.key).collect()
    }

    fn listed(&self, query: &str) -> Vec<String> {
        let page = json_of(&self.admin("GET", &format!("/api/links?{query}"), &Value::Null));
        let links = page["links"].as_array().unwrap();
        links
            .iter()
            .map(|link| link["code"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn an_expired_link_is_gone_for_a_while_and_then_its_code_is_free() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"expiresAt": at(SECOND)}));
    gateway.link("stays", json!({}));
    gateway.visit("/abc");
    gateway.pass(SECOND + 30 * DAY - 1);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/abc").status, 410);
    let taken = json!({"url": "https://example.com/b", "code": "abc"});
    assert_eq!(gateway.admin("POST", "/api/links", &taken).status, 409);
    gateway.pass(1);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/abc").status, 404);
    assert_eq!(gateway.listed("owner=key:configured"), ["stays"]);
    assert_eq!(gateway.admin("POST", "/api/links", &taken).status, 201);
    assert_eq!(gateway.visits("abc"), 0);
    gateway.pass(DAY);
    gateway.maintain_links();
    assert_eq!(gateway.keys("due/"), [""; 0]);
}

#[test]
fn what_ends_later_than_it_seemed_is_looked_at_later() {
    let gateway = Gateway::new();
    gateway.link("idle", json!({"expireAfterIdle": 60}));
    gateway.link("extended", json!({"expiresAt": at(SECOND)}));
    let end = json!({"expiresAt": at(90 * DAY)});
    assert_eq!(gateway.admin("PATCH", "/api/links/extended", &end).status, 200);
    gateway.link("endless", json!({"expiresAt": at(SECOND)}));
    let endless = json!({"expiresAt": null});
    gateway.admin("PATCH", "/api/links/endless", &endless);
    gateway.pass(59 * SECOND);
    assert_eq!(gateway.visit("/idle").status, 302);
    gateway.pass(30 * DAY + 2 * SECOND);
    gateway.maintain_links();
    assert_eq!(
        gateway.visit("/idle").status,
        410,
        "it was visited, and is kept from there"
    );
    gateway.pass(DAY);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/idle").status, 404);
    assert_eq!(gateway.visit("/extended").status, 302);
    assert_eq!(gateway.visit("/endless").status, 302);
    assert_eq!(gateway.keys("due/").len(), 2, "idle's leftovers, and extended");
}

#[test]
fn an_archived_link_goes_as_long_after_its_last_change_as_the_settings_say() {
    let settings = Settings::parse("[links]\nkeep_archived = \"90d\"\n", "t").unwrap();
    let gateway = Gateway::with_settings(settings);
    let archive = |code: &str, archived: bool| {
        let path = format!("/api/links/{code}");
        let answer = gateway.admin("PATCH", &path, &json!({ "archived": archived }));
        assert_eq!(answer.status, 200, "{}", text(&answer));
    };
    for code in ["old", "back", "changed", "ending", "live"] {
        gateway.link(code, json!({}));
    }
    for code in ["old", "back", "changed", "ending"] {
        archive(code, true);
    }
    let end = json!({ "expiresAt": at(DAY) });
    assert_eq!(gateway.admin("PATCH", "/api/links/ending", &end).status, 200);
    gateway.pass(60 * DAY);
    gateway.maintain_links();
    // Its time was over for 30 days before: what comes first counts.
    assert_eq!(gateway.visit("/ending").status, 404);
    archive("back", false);
    let title = json!({ "title": "still wanted" });
    assert_eq!(gateway.admin("PATCH", "/api/links/changed", &title).status, 200);
    gateway.pass(30 * DAY - SECOND);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/old").status, 410, "never sooner");
    gateway.pass(2 * SECOND);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/old").status, 404);
    gateway.link("old", json!({}));
    assert_eq!(gateway.visit("/back").status, 302);
    assert_eq!(gateway.visit("/live").status, 302);
    assert_eq!(gateway.visit("/changed").status, 410);
    gateway.pass(60 * DAY);
    gateway.maintain_links();
    assert_eq!(gateway.visit("/changed").status, 404);
    assert_eq!(
        (gateway.visit("/old").status, gateway.visit("/back").status),
        (302, 302)
    );
}

#[test]
fn archived_links_are_kept_unless_the_settings_say_otherwise() {
    let mut gateway =
        Gateway::with_settings(Settings::parse("[links]\nkeep_archived = \"1d\"\n", "t").unwrap());
    gateway.link("abc", json!({}));
    gateway.admin("PATCH", "/api/links/abc", &json!({ "archived": true }));
    assert_eq!(gateway.keys("due/").len(), 1);
    // The setting goes before it is time.
    gateway.settings = Settings::default();
    gateway.pass(400 * DAY);
    gateway.maintain_links();
    assert_eq!(
        (gateway.visit("/abc").status, gateway.keys("due/").len()),
        (410, 0)
    );
}

#[test]
fn a_click_that_arrives_after_its_link_leaves_no_counter_behind() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    gateway.visit("/abc");
    let counters = gateway.keys("visits/");
    gateway.admin("DELETE", "/api/links/abc", &Value::Null);
    gateway.store.defer(Commit {
        mutations: vec![Mutation::Add {
            key: counters[0].clone(),
            delta: 1,
            min: None,
            max: None,
        }],
        ..Commit::default()
    });
    gateway.maintain_links();
    assert_eq!(gateway.keys("visits/"), counters);
    gateway.pass(3_600 * SECOND);
    gateway.maintain_links();
    assert_eq!(gateway.keys("visit"), [""; 0]);
}

#[test]
fn a_batch_is_bounded_and_what_failed_is_done_later() {
    let gateway = Gateway::new();
    for n in 0..150 {
        gateway.link(&format!("l{n:03}"), json!({"expiresAt": at(SECOND)}));
    }
    gateway.maintain_links();
    gateway.pass(SECOND + 30 * DAY);
    let step = || {
        ready(maintain(
            &gateway.store,
            &gateway.settings.config,
            gateway.store.now(),
        ))
    };
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    assert!(step().is_err());
    assert_eq!(step(), Ok(true));
    let left = gateway.keys("link/").len();
    assert!((86..150).contains(&left), "{left}");
    gateway.maintain_links();
    assert_eq!(gateway.keys("link/"), [""; 0]);
    gateway.pass(3_600 * SECOND);
    gateway.maintain_links();
    assert_eq!(gateway.keys("due/"), [""; 0]);
    assert_eq!(gateway.keys("owner/"), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_in_nobodys_way() {
    let gateway = Gateway::new();
    gateway.link("bad", json!({"expiresAt": at(SECOND)}));
    gateway.link("good", json!({"expiresAt": at(2 * SECOND)}));
    let commit = Commit {
        mutations: vec![Mutation::Set {
            key: "link/bad".into(),
            value: literal("{"),
            expires: None,
        }],
        ..Commit::default()
    };
    ready(gateway.store.commit(commit)).unwrap();
    gateway.pass(31 * DAY);
    gateway.maintain_links();
    assert_eq!(gateway.keys("link/"), ["link/bad"]);
    assert_eq!(
        gateway.keys("due/").len(),
        2,
        "good's leftovers, and bad, a day later"
    );
}

/// As an earlier version made links: counters under the code, nothing for the sweep, and some not in their owner's list.
#[test]
fn links_that_are_missing_from_their_owners_list_are_entered_once() {
    let gateway = Gateway::new();
    let set = |key: String, value: String| Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    };
    let start = tollgate_store::memory::START;
    for n in 0..200_u64 {
        let manage = (n % 10 == 0).then_some("digest");
        let owner = if manage.is_some() {
            "client:c"
        } else {
            "key:configured"
        };
        let mut record = json!({"url": format!("https://example.com/{}", n / 2), "redirect": 302, "createdAt": start + n,
            "updatedAt": start, "id": format!("01{n:024}"), "owner": owner});
        if let Some(manage) = manage {
            record["manage"] = manage.into();
        }
        let code = format!("l{n:03}");
        let mut mutations = vec![set(format!("link/{code}"), record.to_string())];
        if n % 3 == 0 {
            let inverted = (1_u64 << 48) - 1 - (start + n);
            mutations.push(set(
                format!("owner/{owner}/t/{inverted:012x}{code}"),
                String::new(),
            ));
        }
        let commit = Commit {
            mutations,
            ..Commit::default()
        };
        ready(gateway.store.commit(commit)).unwrap();
    }
    assert!(gateway.listed("owner=key:configured&limit=500").len() < 100);
    gateway.maintain_links();
    let all = gateway.listed("owner=key:configured&limit=500");
    let expected: Vec<_> = (0..200)
        .rev()
        .filter(|n| n % 10 != 0)
        .map(|n| format!("l{n:03}"))
        .collect();
    assert_eq!(all, expected, "each once, newest first");
    assert_eq!(gateway.listed("owner=client:c&limit=500").len(), 20);
    let body = json!({"url": "https://example.com/3", "ifExists": "return"});
    let found = gateway.admin("POST", "/api/links", &body);
    assert_eq!(
        (found.status, json_of(&found)["code"].as_str()),
        (200, Some("l007"))
    );
    assert_eq!(gateway.keys("due/").len(), 20, "links of strangers end now");
    assert_eq!(gateway.read("l010")["expireAfterIdle"], 30 * 86_400);
    let before = ready(gateway.store.scan("", None, 1_000)).unwrap();
    gateway.maintain_links();
    assert_eq!(ready(gateway.store.scan("", None, 1_000)).unwrap(), before);
}
