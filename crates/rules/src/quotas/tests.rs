use serde_json::{Value, json};

use super::*;
use crate::limiter::{self, Verdict};
use crate::settings::Settings;
use crate::testing::{Gateway, body, ready, request};
use crate::world::World;
use tollgate_api::time;
use tollgate_store::commit::StoreError;
use tollgate_store::memory::START;

const HOUR_MS: u64 = 3_600_000;

fn at(text: &str) -> u64 {
    time::parse(text).unwrap()
}

fn window(zone: &str, window: QuotaWindow, now: &str) -> (u64, u64) {
    Zone::named(zone).unwrap().window(window, at(now))
}

fn gateway(quotas: &str) -> Gateway {
    Gateway::with_settings(Settings::parse(quotas, "tollgate.toml").unwrap())
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Verdict {
    let fresh = || gateway.fresh();
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let request = request("POST", "/api/accounts", headers, &Value::Null);
    ready(limiter::check(&world, &gateway.buckets, &request))
}

fn admitted(gateway: &Gateway, headers: &[(&str, &str)]) -> usize {
    (0..10)
        .filter(|_| matches!(ask(gateway, headers), Verdict::Admit(_)))
        .count()
}

#[test]
fn days_of_23_and_25_hours_are_one_window_each() {
    // Berlin: 2027-03-28 has 23 hours, 2027-10-31 has 25.
    for (now, start, hours) in [
        ("2027-03-28T10:00:00Z", "2027-03-27T23:00:00Z", 23),
        ("2027-03-27T22:59:59Z", "2027-03-26T23:00:00Z", 24),
        ("2027-10-31T00:30:00Z", "2027-10-30T22:00:00Z", 25),
        ("2027-10-31T22:59:59Z", "2027-10-30T22:00:00Z", 25),
        ("2027-10-31T23:00:00Z", "2027-10-31T23:00:00Z", 24),
    ] {
        let (from, to) = window("Europe/Berlin", QuotaWindow::Day, now);
        assert_eq!((from, (to - from) / HOUR_MS), (at(start), hours), "{now}");
    }
    // A midnight that does not exist: Beirut, 2027-03-28, begins at 01:00.
    let (from, _) = window("Asia/Beirut", QuotaWindow::Day, "2027-03-28T12:00:00Z");
    assert_eq!(from, at("2027-03-27T22:00:00Z"));
}

#[test]
fn weeks_months_and_hours_begin_where_the_calendar_says() {
    // A Friday.
    let now = "2027-01-15T08:20:00Z";
    let of = |zone, kind| window(zone, kind, now);
    assert_eq!(
        of("UTC", QuotaWindow::Week),
        (at("2027-01-11T00:00:00Z"), at("2027-01-18T00:00:00Z"))
    );
    assert_eq!(
        of("Asia/Seoul", QuotaWindow::Month),
        (at("2026-12-31T15:00:00Z"), at("2027-01-31T15:00:00Z"))
    );
    assert_eq!(
        of("UTC", QuotaWindow::Hour),
        (at("2027-01-15T08:00:00Z"), at("2027-01-15T09:00:00Z"))
    );
    assert_eq!(
        of("Asia/Kolkata", QuotaWindow::Hour),
        (at("2027-01-15T07:30:00Z"), at("2027-01-15T08:30:00Z"))
    );
    assert!(Zone::named("Mars/Olympus").is_none());
    // Beyond the calendar: a window, and no panic.
    let (from, to) = Zone::named("UTC")
        .unwrap()
        .window(QuotaWindow::Month, u64::MAX / 2);
    assert!(from < to);
}

const DAILY: &str = "[[quotas]]\nname = \"accounts\"\npath = \"/api/accounts\"\nmethods = [\"POST\"]\nper = [\"ip\"]\nlimit = 3\nwindow = \"day\"\n\
    timezone = \"Europe/Berlin\"\n\n[[quotas]]\nname = \"rewards\"\npath = \"/api/accounts\"\nper = [\"header:x-device\"]\nlimit = 5\nwindow = \"week\"\n";

#[test]
fn a_quota_is_exact_and_says_how_long() {
    let gateway = gateway(DAILY);
    let Verdict::Admit(headers) = ask(&gateway, &[]) else {
        panic!("refused")
    };
    let told: Vec<String> = headers
        .iter()
        .map(|header| String::from_utf8(header.value.clone()).unwrap())
        .collect();
    assert_eq!(told[0], "\"accounts\";q=3;w=86400, \"rewards\";q=5;w=604800");
    // START is 08:00 of UTC, 09:00 of Berlin: 15 hours are left.
    assert!(
        told[1].starts_with("\"accounts\";r=2;t=54000, \"rewards\";r=4;t="),
        "{}",
        told[1]
    );
    assert_eq!(admitted(&gateway, &[]), 2);
    let Verdict::Answer(refused) = ask(&gateway, &[]) else {
        panic!("admitted")
    };
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("54000"))
    );
    assert_eq!(body(&refused)["violated-policies"], json!(["accounts"]));
    // Admitted, refused, would have been, failed: of each quota, since it was asked last. Of ten that `admitted` asks, two were.
    assert_eq!(gateway.settings.decisions(), [3, 9, 0, 0, 3, 0, 0, 0]);
    assert!(gateway.settings.decisions().is_empty());
    // What one refused, the other did not count.
    gateway.store.set_now(START + 15 * HOUR_MS);
    assert_eq!(admitted(&gateway, &[]), 2, "a new day; the week has two left");
}

#[test]
fn what_cannot_be_counted_is_not_let_through() {
    let gateway = gateway(DAILY);
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    let Verdict::Answer(refused) = ask(&gateway, &[]) else {
        panic!("admitted")
    };
    assert_eq!(refused.status, 503);
    assert_eq!(admitted(&gateway, &[]), 3);
}

#[test]
fn counters_that_are_over_are_swept_in_batches() {
    let gateway = gateway("[[quotas]]\nname = \"hourly\"\nlimit = 1\nwindow = \"hour\"\n");
    for n in 0..150 {
        ask(&gateway, &[("x-client-id", &n.to_string())]);
    }
    let left = || ready(gateway.store.scan(PREFIX, None, 1_000)).unwrap().len();
    // And how many names the address has brought.
    assert_eq!(left(), 151);
    assert!(
        !ready(maintain(&gateway.store, START + HOUR_MS)).unwrap(),
        "kept for a day"
    );
    assert_eq!(left(), 151);
    gateway.store.set_now(START + 2 * GRACE_MS);
    ask(&gateway, &[("x-client-id", "new")]);
    let mut steps = 0;
    while ready(maintain(&gateway.store, gateway.store.now())).unwrap() {
        steps += 1;
    }
    assert_eq!((steps, left()), (2, 2), "what counts is left");
    assert_eq!(admitted(&gateway, &[("x-client-id", "new")]), 0);
}

/// Two limits and a quota on the same path; the second limit is in shadow and refuses everything but one.
const BOTH: &str = "[[limits]]\nname = \"burst\"\npath = \"/api/accounts\"\nper = [\"client\"]\ncapacity = 4\nrefill = 1\ninterval = \"1h\"\n\n\
    [[limits]]\nname = \"tried\"\nper = [\"ip\"]\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\nshadow = true\n\n\
    [[quotas]]\nname = \"daily\"\npath = \"/api/accounts\"\nper = [\"ip\"]\nlimit = 3\nwindow = \"day\"\n";

fn left(gateway: &Gateway, client: &str) -> (u64, u64) {
    let told = gateway.admin("GET", &format!("/api/limits/clients/{client}"), &Value::Null);
    let told = body(&told);
    let used = told["quotas"][0]["used"].as_u64().unwrap_or(u64::MAX);
    (told["limits"][0]["remaining"].as_u64().unwrap(), used)
}

#[test]
fn what_a_quota_refuses_takes_no_tokens_and_what_a_limit_refuses_is_not_counted() {
    let gateway = gateway(BOTH);
    let (ann, bob) = ([("x-client-id", "ann")], [("x-client-id", "bob")]);
    let used = || left(&gateway, "ip%3A192.0.2.1").1;
    assert_eq!(admitted(&gateway, &ann), 3);
    assert_eq!(left(&gateway, "id%3Aann").0, 1, "seven were refused by the quota");
    assert_eq!(used(), 3);
    // A new day: bob has his four tokens, of which the quota takes three.
    gateway.store.set_now(START + 24 * HOUR_MS);
    assert_eq!(admitted(&gateway, &ann), 1, "its one token");
    assert_eq!(used(), 1, "nine were refused by the limit");
    assert_eq!(admitted(&gateway, &bob), 2);
    assert_eq!(left(&gateway, "id%3Abob").0, 2);
    assert_eq!(used(), 3);
}

#[test]
fn what_is_exempt_or_denied_is_neither_taken_nor_counted() {
    let lists = "\n[[access]]\nname = \"friends\"\naction = \"exempt\"\nclients = [\"id:friend\"]\n\n\
        [[access]]\nname = \"foes\"\naction = \"deny\"\nclients = [\"id:foe\"]\n";
    let gateway = gateway(&[BOTH, lists].concat());
    assert_eq!(admitted(&gateway, &[("x-client-id", "friend")]), 10);
    assert_eq!(admitted(&gateway, &[("x-client-id", "foe")]), 0);
    for client in ["friend", "foe"] {
        assert_eq!(left(&gateway, &format!("id%3A{client}")).0, 4, "{client}");
    }
    assert_eq!(left(&gateway, "ip%3A192.0.2.1").1, 0);
}

#[test]
fn where_the_bucket_is_emptied_between_both_the_count_is_given_back() {
    use tollgate_store::bucket::{Level, TakeError};
    use tollgate_store::ports::Buckets;

    /// Says that there is enough, and refuses to give it: another request was faster.
    struct Faster;
    impl Buckets for Faster {
        async fn take(&self, buckets: Vec<tollgate_store::bucket::Bucket>) -> Result<Vec<Level>, TakeError> {
            let is_looked_at = buckets.iter().all(|bucket| bucket.cost == 0);
            let level = |left| Level {
                remaining: left,
                next_ns: 1_000_000_000 * (1 - left),
                full_ns: 1,
            };
            let levels = |left| buckets.iter().map(|_| level(left)).collect();
            match is_looked_at {
                true => Ok(levels(1)),
                false => Err(TakeError::Refused {
                    index: 0,
                    levels: levels(0),
                }),
            }
        }
    }
    let gateway = gateway(BOTH);
    let fresh = || gateway.fresh();
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let request = request("POST", "/api/accounts", &[], &Value::Null);
    for _ in 0..5 {
        let verdict = ready(limiter::check(&world, &Faster, &request));
        assert!(matches!(verdict, Verdict::Answer(refused) if refused.status == 429));
    }
    assert_eq!(left(&gateway, "ip%3A192.0.2.1").1, 0);
}

#[test]
fn names_that_a_stranger_invents_share_a_counter_beyond_a_bound() {
    let quota =
        "[clients]\nmax_quota_names = 3\n\n[[quotas]]\nname = \"hourly\"\nlimit = 2\nwindow = \"hour\"\n";
    let gateway = gateway(quota);
    let of = |name: usize| admitted(&gateway, &[("x-client-id", &name.to_string())]);
    assert_eq!((0..3).map(of).sum::<usize>(), 6);
    // The fourth name is told what the address has left; so are those after it, and the address without a name.
    assert_eq!((3..100).map(of).sum::<usize>(), 2);
    assert_eq!(admitted(&gateway, &[]), 0);
    assert_eq!((0..3).map(of).sum::<usize>(), 0, "those that were there count on");
    let kept = ready(gateway.store.scan(PREFIX, None, 1_000)).unwrap().len();
    assert_eq!(
        kept,
        3 + 1 + 1,
        "three names, the address, and how many names it brought"
    );
    // Another window; and what is over is swept.
    gateway.store.set_now(START + HOUR_MS);
    assert_eq!(of(50), 2);
    while ready(maintain(&gateway.store, START + HOUR_MS + 2 * GRACE_MS)).unwrap() {}
    assert_eq!(ready(gateway.store.scan(PREFIX, None, 1_000)).unwrap().len(), 0);
}

const REWARDS: &str = "[[quotas]]\nname = \"rewards\"\npath = \"/api/accounts\"\nper = [\"ip\"]\nlimit = 2\nwindow = \"day\"\ntimezone = \"Europe/Berlin\"\n\
    count = \"status:2xx\"\n\n[[quotas]]\nname = \"tries\"\npath = \"/api/accounts\"\nper = [\"ip\"]\nlimit = 9\nwindow = \"week\"\n";

/// The reservation of a request that was let through.
fn reserved(gateway: &Gateway) -> Option<String> {
    match ask(gateway, &[]) {
        Verdict::Admit(headers) => {
            let held = headers.into_iter().find(|header| header.name == HELD);
            Some(String::from_utf8(held.expect("it is reserved").value).unwrap())
        }
        Verdict::Answer(refused) => {
            assert_eq!(refused.status, 429);
            None
        }
    }
}

/// Used of both quotas.
fn used_of_both(gateway: &Gateway) -> [u64; 2] {
    let told = body(&gateway.admin("GET", "/api/limits/clients/ip%3A192.0.2.1", &Value::Null));
    [0, 1].map(|index| told["quotas"][index]["used"].as_u64().unwrap())
}

#[test]
fn a_quota_by_outcome_reserves_first_and_gives_back_once() {
    let gateway = gateway(REWARDS);
    let end = |key: &str, status| ready(settle(&gateway.store, key, status)).unwrap();
    let (first, second) = (reserved(&gateway).unwrap(), reserved(&gateway).unwrap());
    assert_eq!(reserved(&gateway), None, "both may succeed yet");
    assert_eq!(
        used_of_both(&gateway),
        [2, 2],
        "what one refuses the other does not count"
    );
    end(&first, Some(409));
    end(&first, Some(409));
    end(&first, None);
    assert_eq!(
        used_of_both(&gateway),
        [1, 2],
        "given back once, and only by outcome"
    );
    end(&second, Some(201));
    end(&second, Some(500));
    assert_eq!(used_of_both(&gateway), [1, 2], "what has succeeded stays");
    let third = reserved(&gateway).unwrap();
    end(&third, Some(299));
    assert_eq!(reserved(&gateway), None);
    gateway.store.set_now(START + 15 * HOUR_MS);
    assert!(reserved(&gateway).is_some(), "a new day");
}

#[test]
fn a_reservation_that_nobody_ends_ends_by_itself() {
    let gateway = gateway(REWARDS);
    assert!(reserved(&gateway).is_some() && reserved(&gateway).is_some());
    let later = START + 10_000 + held::GRACE_MS;
    for (now, expected) in [(later - 1, [2, 2]), (later, [0, 2]), (later + HOUR_MS, [0, 2])] {
        ready(maintain(&gateway.store, now)).unwrap();
        assert_eq!(used_of_both(&gateway), expected);
    }
    let none = ready(gateway.store.scan("quota-held/", None, 10)).unwrap();
    assert!(none.is_empty());
}

#[test]
fn what_was_reserved_before_a_window_ended_is_given_back_to_that_window() {
    let gateway = gateway(REWARDS);
    gateway.store.set_now(START + 15 * HOUR_MS - 1);
    let late = reserved(&gateway).unwrap();
    gateway.store.set_now(START + 15 * HOUR_MS);
    assert!(reserved(&gateway).is_some());
    ready(settle(&gateway.store, &late, None)).unwrap();
    assert_eq!(used_of_both(&gateway)[0], 1, "that of the new day");
    assert!(reserved(&gateway).is_some());
    assert_eq!(reserved(&gateway), None);
}

#[test]
fn a_counter_that_began_anew_gives_back_what_it_has() {
    let gateway = gateway(REWARDS);
    let (first, second) = (reserved(&gateway).unwrap(), reserved(&gateway).unwrap());
    assert_eq!(
        gateway
            .admin("DELETE", "/api/limits/clients/ip%3A192.0.2.1", &Value::Null)
            .status,
        204
    );
    for key in [first, second] {
        ready(settle(&gateway.store, &key, Some(500))).unwrap();
    }
    assert_eq!(used_of_both(&gateway), [0, 0], "never below");
}

#[test]
fn who_asks_for_another_server_is_counted_when_let_through() {
    let trusting = format!("[server]\ntrusted_proxies = [\"192.0.2.1\"]\n{REWARDS}");
    let gateway = gateway(&trusting);
    let fresh = || gateway.fresh();
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let headers = [
        ("x-forwarded-uri", "/api/accounts"),
        ("x-forwarded-for", "198.51.100.7"),
    ];
    let statuses = [204, 204, 429].map(|status| {
        let request = request("GET", "/api/check", &headers, &Value::Null);
        let Verdict::Answer(answer) = ready(limiter::check(&world, &gateway.buckets, &request)) else {
            panic!("it is answered")
        };
        assert_eq!(answer.header(HELD), None);
        (status, answer.status)
    });
    assert!(
        statuses.iter().all(|(expected, found)| expected == found),
        "{statuses:?}"
    );
}

#[test]
fn what_counts_is_read_as_it_is_written() {
    for (text, expected) in [
        ("admitted", Some(QuotaCount::Admitted)),
        ("status:2xx", Some(QuotaCount::Status(200, 299))),
        ("status:201", Some(QuotaCount::Status(201, 201))),
        ("status:1xx", None),
        ("status:6xx", None),
        ("status:20x", None),
        ("status:+20", None),
        ("status:", None),
        ("2xx", None),
    ] {
        let found = QuotaCount::try_from(text.to_owned()).ok();
        assert_eq!(found, expected, "{text}");
        if let Some(found) = found {
            assert_eq!(String::from(found), text);
        }
    }
}
