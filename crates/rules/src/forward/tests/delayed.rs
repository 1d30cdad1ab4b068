//! Messages that are posted to come later.

use super::*;
use crate::forward::delayed::{ToCome, release, to_come};
use tollgate_store::commit::StoreError;

const ORDERS: &str = "/api/topics/orders/messages";
const DAY: u64 = 24 * 60 * 60 * 1_000;

impl Gateway {
    fn post_later(&self, headers: &[(&str, &str)], payload: &str) -> Value {
        let all = [&[ANN][..], headers].concat();
        let answer = self.call("POST", ORDERS, &all, payload);
        assert_eq!(answer.status, 202, "{}", crate::testing::text(&answer));
        body(&answer)
    }

    fn release(&self) {
        while crate::testing::ready(release(&self.store, &self.settings.config, self.store.now())).unwrap() {}
    }

    fn payloads(&self) -> Vec<String> {
        let messages = block_on(self.store.read("orders", 0, 1_000, 0)).unwrap();
        messages
            .into_iter()
            .map(|message| String::from_utf8(message.payload).unwrap())
            .collect()
    }
}

#[test]
fn a_message_comes_when_it_is_due_and_once() {
    let gateway = Gateway::forwarding();
    let later = gateway.post_later(&[("x-delay", "60"), ("content-type", "text/plain")], "later");
    assert_eq!(later["sequence"], Value::Null);
    assert_eq!(later["deliverAt"], "2027-01-15T08:01:00Z");
    gateway.post_later(&[], "now");
    let path = format!("/api/messages/{}", later["id"].as_str().unwrap());
    let record = body(&gateway.call("GET", &path, &[ANN], b""));
    let expected = ["sequence", "deliverAt", "contentType", "path"].map(|name| record[name].clone());
    assert_eq!(
        expected,
        [
            Value::Null,
            json!("2027-01-15T08:01:00Z"),
            json!("text/plain"),
            json!(ORDERS)
        ]
    );
    gateway.store.set_now(START + 59_999);
    gateway.release();
    assert_eq!(gateway.payloads(), ["now"]);
    gateway.store.set_now(START + 60_000);
    gateway.release();
    gateway.release();
    assert_eq!(gateway.payloads(), ["now", "later"]);
    let record = body(&gateway.call("GET", &path, &[ANN], b""));
    assert_eq!(
        (&record["sequence"], &record["deliverAt"]),
        (&json!(2), &json!("2027-01-15T08:01:00Z"))
    );
    assert_eq!(record["time"], "2027-01-15T08:00:00Z");
}

#[test]
fn it_is_told_what_is_to_come_and_how_late_it_is() {
    let gateway = Gateway::forwarding();
    let told = |now| crate::testing::ready(to_come(&gateway.store, now)).unwrap();
    assert_eq!(told(START), ToCome::default());
    for delay in ["60", "61", "62"] {
        gateway.post_later(&[("x-delay", delay)], "later");
    }
    let before = told(START + 60_000);
    let [(topic, bytes)] = &before.topics[..] else {
        panic!("{before:?}");
    };
    assert_eq!((&**topic, before.overdue_ms), ("orders", 0));
    assert!((300..30_000).contains(bytes), "{bytes}");
    assert_eq!(told(START + 65_000).overdue_ms, 5_000);
    gateway.store.set_now(START + 62_000);
    gateway.release();
    let after = ToCome {
        topics: vec![("orders".to_owned(), 0)],
        overdue_ms: 0,
    };
    assert_eq!(told(START + 65_000), after);
}

#[test]
fn the_clock_of_who_releases_makes_nothing_come_early() {
    let gateway = Gateway::forwarding();
    gateway.post_later(&[("x-deliver-at", "2027-01-15T09:00:00Z")], "later");
    crate::testing::ready(release(&gateway.store, &gateway.settings.config, START + 2 * DAY)).unwrap();
    assert_eq!(gateway.depth("orders"), 0);
}

#[test]
fn those_of_one_caller_come_in_the_order_of_their_times_and_of_posting() {
    let gateway = Gateway::forwarding();
    let key = ("x-partition-key", "k");
    for (delay, name) in [("3", "c"), ("1", "a"), ("2", "b1")] {
        gateway.post_later(&[key, ("x-delay", delay)], name);
    }
    for index in 2..60 {
        gateway.store.set_now(START + index);
        gateway.post_later(
            &[key, ("x-deliver-at", "2027-01-15T08:00:02Z")],
            &format!("b{index}"),
        );
    }
    gateway.store.set_now(START + 10_000);
    gateway.release();
    let mut expected = vec!["a".to_owned()];
    expected.extend((1..60).map(|index| format!("b{index}")));
    expected.push("c".to_owned());
    assert_eq!(gateway.payloads(), expected);
}

#[test]
fn a_key_posts_a_later_message_once_and_tells_when_it_comes() {
    let gateway = Gateway::forwarding();
    let key = ("idempotency-key", "k");
    let first = gateway.post_later(&[key, ("x-delay", "60")], "x");
    assert_eq!(gateway.post_later(&[key, ("x-delay", "60")], "x"), first);
    let other = gateway.call("POST", ORDERS, &[ANN, key, ("x-delay", "61")], b"x");
    assert_eq!(other.status, 422);
    gateway.store.set_now(START + 60_000);
    gateway.release();
    let again = gateway.post_later(&[key, ("x-delay", "60")], "x");
    assert_eq!((&again["id"], &again["sequence"]), (&first["id"], &json!(1)));
    assert_eq!(gateway.depth("orders"), 1);
}

#[test]
fn a_time_that_has_passed_is_now_and_bad_ones_name_their_header() {
    let gateway = Gateway::forwarding();
    for (name, value) in [
        ("x-delay", "0"),
        ("x-deliver-at", "2020-01-01T00:00:00Z"),
        ("x-deliver-at", "2027-01-15T08:00:00Z"),
    ] {
        assert_ne!(gateway.post_later(&[(name, value)], "x")["sequence"], Value::Null);
    }
    for (name, value) in [
        ("x-delay", ""),
        ("x-delay", "-1"),
        ("x-delay", "+1"),
        ("x-delay", "1.5"),
        ("x-delay", "10m"),
        ("x-delay", "2592001"),
        ("x-delay", "99999999999999999999"),
        ("x-deliver-at", ""),
        ("x-deliver-at", "tomorrow"),
        ("x-deliver-at", "1800000000"),
        ("x-deliver-at", "2027-02-14T08:00:01Z"),
    ] {
        let answer = gateway.call("POST", ORDERS, &[ANN, (name, value)], b"x");
        assert_eq!(pointer(&answer), format!("header:{name}"), "{value}");
    }
    let both = [ANN, ("x-delay", "1"), ("x-deliver-at", "2027-01-15T08:00:01Z")];
    assert_eq!(
        pointer(&gateway.call("POST", ORDERS, &both, b"x")),
        "header:x-delay"
    );
    assert_eq!(gateway.depth("orders"), 3);
    // What a route is sent may be the site's own.
    let route = gateway.call("POST", "/signup", &[ANN, ("x-delay", "nonsense")], b"x");
    assert_eq!((route.status, &body(&route)["sequence"]), (202, &json!(1)));
}

#[test]
fn those_to_come_take_no_more_than_a_backlog_and_give_their_room_back() {
    let mut config = Gateway::forwarding().settings.config.clone();
    let topic = config.topics.get_mut("orders").unwrap();
    topic.max_bytes = tollgate_api::units::Bytes(1 << 10);
    topic.max_backlog = Some(tollgate_api::units::Bytes(4 << 10));
    let gateway = Gateway::with_settings(Settings::compile(config).unwrap());
    let post = |client: &str| {
        let headers = [("x-client-id", client), ("x-delay", "60")];
        gateway.call("POST", ORDERS, &headers, b"x").status
    };
    let taken = (0..100)
        .take_while(|client| post(&client.to_string()) == 202)
        .count();
    assert!((3..=8).contains(&taken), "{taken}");
    assert_eq!(post("another"), 503);
    gateway.store.set_now(START + 60_000);
    gateway.release();
    assert_eq!(gateway.depth("orders"), taken);
    let headers = [("x-client-id", "x"), ("x-delay", "1")];
    let full = gateway.call("POST", ORDERS, &headers, b"x");
    // The topic itself is full now, as it is for everyone.
    assert_eq!(full.status, 503);
    let sizes = block_on(gateway.store.scan("delayed-size/", None, 100)).unwrap();
    assert!(sizes.iter().all(|size| size.entry.value == b"0"), "{sizes:?}");
}

#[test]
fn what_cannot_be_read_holds_up_no_other() -> Result<(), StoreError> {
    use tollgate_store::commit::{Commit, Mutation, literal};
    let gateway = Gateway::forwarding();
    let damaged = Mutation::Set {
        key: format!("delayed/{:020}/{:020}/00damaged", 1, 1),
        value: literal("{"),
        expires: None,
    };
    let commit = Commit {
        partition: "messages/00".into(),
        mutations: vec![damaged],
        ..Commit::default()
    };
    block_on(gateway.store.commit(commit))?;
    gateway.post_later(&[("x-delay", "1")], "later");
    gateway.store.set_now(START + 1_000);
    gateway.release();
    assert_eq!(gateway.payloads(), ["later"]);
    Ok(())
}

#[test]
fn a_record_of_the_version_before_is_read() {
    let old = br#"{"topic":"orders","sequence":4,"client":"id:ann","time":5}"#;
    let record: crate::forward::record::Record = serde_json::from_slice(old).unwrap();
    assert!(!record.is_to_come() && record.deliver_at.is_none());
}

#[test]
fn where_nothing_works_in_the_background_a_reader_finds_what_is_due() {
    let gateway = Gateway::forwarding();
    gateway.post_later(&[("x-delay", "1")], "later");
    gateway.store.set_now(START + 1_000);
    let admin = format!("Bearer {ADMIN}");
    let request = crate::testing::request("GET", ORDERS, &[("authorization", &admin)], b"");
    let fresh = || gateway.fresh();
    let world = crate::world::World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: gateway.store.now(),
        fresh: &fresh,
    };
    let answer = crate::testing::ready(crate::forward::handle_alone(&world, &request));
    assert_eq!(body(&answer)["messages"][0]["data"], Value::Null);
    assert_eq!(body(&answer)["nextAfter"], 1);
}
