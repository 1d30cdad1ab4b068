//! Consumers of a group, against a store in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::forward;
use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, ready, request, text};
use crate::world::World;
use tollgate_delivery::groups::{self, MAX_GROUPS, MAX_OUT};
use tollgate_delivery::subscriptions::low_water;
use tollgate_store::commit::{Append, Commit, literal};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store as _;

const GROUP: &str = "/api/topics/t/groups/g";

fn append(store: &InMemoryStore, key: &str, payload: &[u8]) {
    let count = ready(store.topics(None, 1))
        .unwrap()
        .first()
        .map_or(0, |topic| topic.last);
    let append = Append {
        topic: "t".into(),
        id: format!("m{}", count + 1),
        key: key.into(),
        kind: "test".into(),
        content_type: "text/plain".into(),
        attributes: Vec::new(),
        payload: literal(payload),
    };
    let commit = Commit {
        appends: vec![append],
        ..Commit::default()
    };
    store.commit_now(commit).unwrap();
}

impl Gateway {
    fn with_group(keys: &[&str], settings: Value) -> Self {
        let gateway = Self::new();
        for key in keys {
            append(&gateway.store, key, b"x");
        }
        let made = gateway.admin("PUT", GROUP, &settings);
        assert_eq!(made.status, 201, "{}", text(&made));
        gateway
    }

    #[track_caller]
    fn on_group(&self, call: &str, document: Value) -> Value {
        let answer = self.admin("POST", &format!("{GROUP}/{call}"), &document);
        assert_eq!(answer.status, 200, "{}", text(&answer));
        body(&answer)
    }

    /// Sequence, lease id and attempt of what is leased.
    #[track_caller]
    fn lease(&self, limit: u64, seconds: u64) -> Vec<(u64, String, u64)> {
        let answer = self.on_group("lease", json!({"limit": limit, "leaseSeconds": seconds}));
        leases(&answer)
    }

    fn sequences(&self, limit: u64) -> Vec<u64> {
        self.lease(limit, 30)
            .into_iter()
            .map(|(sequence, ..)| sequence)
            .collect()
    }

    fn view(&self) -> Value {
        body(&self.admin("GET", GROUP, &Value::Null))
    }

    fn later(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }
}

fn leases(answer: &Value) -> Vec<(u64, String, u64)> {
    let leases = answer["leases"].as_array().unwrap().iter();
    leases
        .map(|lease| {
            let id = lease["leaseId"].as_str().unwrap().to_owned();
            let sequence = lease["message"]["sequence"].as_u64().unwrap();
            (sequence, id, lease["attempt"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn a_message_is_one_consumers_until_it_is_acknowledged_or_its_lease_runs_out() {
    let gateway = Gateway::with_group(&[""; 5], json!({}));
    let first = gateway.lease(2, 30);
    assert_eq!(gateway.sequences(10), [3, 4, 5]);
    assert_eq!(gateway.sequences(10), [] as [u64; 0]);
    let answer = gateway.on_group("ack", json!({"leaseIds": [first[0].1]}));
    assert_eq!(answer, json!({"acked": 1, "expired": []}));
    gateway.later(30 * SECOND - 1);
    assert_eq!(gateway.sequences(10), [] as [u64; 0]);
    gateway.later(1);
    let second = gateway.lease(10, 30);
    let again: Vec<_> = second
        .iter()
        .map(|(sequence, _, attempt)| (*sequence, *attempt))
        .collect();
    assert_eq!(again, [(2, 2), (3, 2), (4, 2), (5, 2)]);
    // Late, and told so; the message is the other's.
    let late = gateway.on_group("ack", json!({"leaseIds": [first[1].1]}));
    assert_eq!(late, json!({"acked": 0, "expired": [first[1].1]}));
    let ids: Vec<_> = second.iter().map(|(_, id, _)| id).collect();
    assert_eq!(gateway.on_group("ack", json!({"leaseIds": ids}))["acked"], 4);
    assert_eq!(gateway.view()["lag"], 0);
    gateway.later(60 * SECOND);
    assert_eq!(gateway.sequences(10), [] as [u64; 0]);
}

#[test]
fn an_ack_at_the_deadline_is_late_although_nobody_has_leased_again() {
    let gateway = Gateway::with_group(&[""], json!({}));
    let (_, id, _) = gateway.lease(1, 30).remove(0);
    gateway.later(30 * SECOND);
    for call in ["ack", "nack"] {
        let answer = gateway.on_group(call, json!({"leaseIds": [id]}));
        assert_eq!(answer["expired"], json!([id]), "{call}");
    }
    let answer = gateway.on_group("extend", json!({"leaseIds": [id], "leaseSeconds": 9}));
    assert_eq!(answer, json!({"extended": 0, "deadline": null, "expired": [id]}));
    assert_eq!(gateway.sequences(1), [1]);
}

#[test]
fn a_lease_that_is_extended_holds_for_longer() {
    let gateway = Gateway::with_group(&["", ""], json!({}));
    let taken = gateway.lease(2, 1);
    let answer = gateway.on_group("extend", json!({"leaseIds": [taken[0].1], "leaseSeconds": 60}));
    assert_eq!(answer["extended"], 1);
    assert_eq!(answer["deadline"], "2027-01-15T08:01:00Z");
    gateway.later(59 * SECOND);
    assert_eq!(gateway.sequences(9), [2]);
    assert_eq!(
        gateway.on_group("ack", json!({"leaseIds": [taken[0].1]}))["acked"],
        1
    );
}

#[test]
fn what_is_given_back_waits_for_its_delay_and_dies_after_its_attempts() {
    let gateway = Gateway::with_group(&["", ""], json!({"maxAttempts": 2}));
    let taken = gateway.lease(2, 30);
    gateway.on_group("nack", json!({"leaseIds": [taken[0].1], "delaySeconds": 5}));
    gateway.on_group("nack", json!({"leaseIds": [taken[1].1]}));
    assert_eq!(gateway.sequences(9), [2]);
    gateway.later(5 * SECOND);
    let again = gateway.lease(9, 30);
    assert_eq!(
        again.iter().map(|one| (one.0, one.2)).collect::<Vec<_>>(),
        [(1, 2)]
    );
    // The second attempt of both was the last: one is given back, the other one's lease runs out.
    gateway.on_group("nack", json!({"leaseIds": [again[0].1], "delaySeconds": 900}));
    let dead = |gateway: &Gateway| {
        let page = body(&gateway.admin("GET", &format!("{GROUP}/dead-letters"), &Value::Null));
        page["deadLetters"].as_array().unwrap().clone()
    };
    let letters = dead(&gateway);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["id"], &letters[0]["attempts"]),
        (&json!("m1"), &json!(2))
    );
    assert_eq!(letters[0]["lastError"], "the consumer gave it back");
    assert_eq!(letters[0]["firstAttemptAt"], "2027-01-15T08:00:00Z");
    assert_eq!(letters[0]["message"]["data"], "x");
    gateway.later(30 * SECOND);
    assert_eq!(gateway.sequences(9), [] as [u64; 0]);
    assert_eq!(dead(&gateway).len(), 2);
    // Redriven, they are leased anew; they need nothing of the topic.
    let needed = ready(low_water(&gateway.store, std::iter::empty())).unwrap();
    assert_eq!(needed, [("t".to_owned(), 3)]);
    let redriven = gateway.on_group("dead-letters/redrive", json!({"all": true}));
    assert_eq!(redriven, json!({"redriven": 2, "more": false}));
    // They count, also before a lease takes them in: who adds consumers by the lag has to see them.
    let told = |gateway: &Gateway| {
        let one = body(&gateway.admin("GET", GROUP, &Value::Null));
        let topic = body(&gateway.admin("GET", "/api/topics/t", &Value::Null));
        let backlog = ready(super::backlogs(&gateway.store, &[], 9, 0)).unwrap();
        assert_eq!(topic["groups"][0]["lag"], one["lag"]);
        assert_eq!(json!(backlog[0].lag), one["lag"]);
        (one["lag"].clone(), one["waiting"].clone())
    };
    assert_eq!(told(&gateway), (json!(2), json!(2)));
    let again = gateway.lease(9, 30);
    assert_eq!(told(&gateway), (json!(2), json!(0)));
    assert_eq!(
        again.iter().map(|one| (one.0, one.2)).collect::<Vec<_>>(),
        [(1, 1), (2, 1)]
    );
    let needed = ready(low_water(&gateway.store, std::iter::empty())).unwrap();
    assert_eq!(needed, [("t".to_owned(), 3)], "each carries its message");
    assert_eq!(
        gateway.on_group("ack", json!({"leaseIds": [again[0].1, again[1].1]}))["acked"],
        2
    );
    let keys = ready(groups::find(&gateway.store, "t", "g"))
        .unwrap()
        .unwrap()
        .keys();
    assert_eq!(
        ready(gateway.store.scan(&keys.retry_prefix(), None, 9)).unwrap(),
        []
    );
    assert_eq!(gateway.sequences(9), [] as [u64; 0]);
}

#[test]
fn dead_letters_are_removed_by_id_by_age_or_all() {
    let gateway = Gateway::with_group(&["", "", ""], json!({"maxAttempts": 1}));
    for _ in 0..3 {
        let taken = gateway.lease(1, 30);
        gateway.on_group("nack", json!({"leaseIds": [taken[0].1]}));
        gateway.later(10 * SECOND);
    }
    let path = format!("{GROUP}/dead-letters");
    let remove = |what: Value| gateway.admin("DELETE", &path, &what);
    assert_eq!(
        body(&remove(json!({"olderThan": 25}))),
        json!({"removed": 1, "more": false})
    );
    assert_eq!(
        body(&remove(json!({"olderThan": "2027-01-15T08:00:10Z"})))["removed"],
        0
    );
    assert_eq!(body(&remove(json!({"ids": ["m2", "m9"]})))["removed"], 1);
    assert_eq!(body(&remove(json!({"all": true})))["removed"], 1);
    for (bad, at) in [
        (json!({}), "#/ids"),
        (json!({"ids": []}), "#/ids"),
        (json!({"all": false}), "#/all"),
        (json!({"all": true, "ids": ["m"]}), "#/all"),
        (json!({"all": true, "olderThan": 1}), "#/olderThan"),
        (json!({"olderThan": "yesterday"}), "#/olderThan"),
        (json!({"olderThan": -1}), "#/olderThan"),
    ] {
        let refused = remove(bad.clone());
        assert_eq!(pointer(&refused), at, "{bad}");
        let detail = text(&refused);
        assert!(!detail.contains("enum"), "{detail}");
    }
}

#[test]
fn one_message_of_a_key_is_out_at_a_time_and_in_order() {
    let keys = ["a", "a", "b", "", "a", "b", ""];
    let gateway = Gateway::with_group(&keys, json!({}));
    let taken = gateway.lease(9, 30);
    assert_eq!(taken.iter().map(|one| one.0).collect::<Vec<_>>(), [1, 3, 4, 7]);
    gateway.on_group("nack", json!({"leaseIds": [taken[0].1], "delaySeconds": 5}));
    gateway.on_group("ack", json!({"leaseIds": [taken[1].1]}));
    assert_eq!(
        gateway.sequences(9),
        [6],
        "the other messages of a wait for the first"
    );
    gateway.later(5 * SECOND);
    let first = gateway.lease(9, 10);
    assert_eq!(first.iter().map(|one| one.0).collect::<Vec<_>>(), [1]);
    gateway.on_group("ack", json!({"leaseIds": [first[0].1]}));
    assert_eq!(gateway.sequences(9), [2]);
    // Without order, all at once.
    gateway.admin("PUT", GROUP, &json!({"ordered": false}));
    assert_eq!(gateway.sequences(9), [5]);
}

#[test]
fn a_group_begins_where_it_is_told_and_goes_on_where_it_is() {
    let gateway = Gateway::new();
    for _ in 0..4 {
        append(&gateway.store, "", b"x");
        gateway.later(10 * SECOND);
    }
    let start = |from: Value| {
        gateway.admin("DELETE", GROUP, &Value::Null);
        let made = gateway.admin("PUT", GROUP, &json!({"startFrom": from}));
        assert_eq!(made.status, 201, "{}", text(&made));
        body(&made)["next"].as_u64().unwrap()
    };
    assert_eq!(
        (start(json!("oldest")), start(json!("newest")), start(json!(3))),
        (1, 5, 3)
    );
    assert_eq!(start(json!("2027-01-15T08:00:10Z")), 2);
    assert_eq!(start(json!("2027-01-15T08:00:10.001Z")), 3);
    assert_eq!(start(json!("2028-01-15T08:00:10+02:00")), 5);
    assert_eq!(start(json!("1999-01-15T08:00:10Z")), 1);
    assert_eq!(gateway.sequences(2), [1, 2]);
    let changed = gateway.admin("PUT", GROUP, &json!({"startFrom": "newest", "maxAttempts": 3}));
    assert_eq!((changed.status, body(&changed)["next"].as_u64()), (200, Some(3)));
    for bad in [
        json!(0),
        json!(6),
        json!("yesterday"),
        json!("2027-01-15"),
        json!(1.5),
        json!([]),
    ] {
        let refused = gateway.admin("PUT", GROUP, &json!({"startFrom": bad}));
        assert_eq!(pointer(&refused), "#/startFrom", "{bad}");
    }
}

#[test]
fn a_removed_group_leaves_nothing_and_its_leases_hold_no_more() {
    let gateway = Gateway::with_group(&[""; 300], json!({"maxAttempts": 1}));
    let taken = gateway.lease(300, 30);
    gateway.on_group("nack", json!({"leaseIds": [taken[0].1]}));
    assert_eq!(gateway.admin("DELETE", GROUP, &Value::Null).status, 204);
    assert_eq!(
        ready(gateway.store.scan("group", None, 9)).unwrap().len(),
        1,
        "the counter"
    );
    assert_eq!(
        gateway
            .admin("POST", &format!("{GROUP}/lease"), &json!({}))
            .status,
        404
    );
    assert_eq!(gateway.admin("PUT", GROUP, "").status, 201);
    let late = gateway.on_group("ack", json!({"leaseIds": [taken[1].1]}));
    assert_eq!(late["acked"], 0);
    assert_eq!(gateway.lease(1, 30)[0].0, 1);
}

#[test]
fn bad_input_names_its_field_and_bounds_hold() {
    let gateway = Gateway::with_group(&[""], json!({}));
    let post = |call: &str, what: Value| gateway.admin("POST", &format!("{GROUP}/{call}"), &what);
    for (call, what, at) in [
        ("lease", json!({"limit": 0}), "#/limit"),
        ("lease", json!({"limit": 1001}), "#/limit"),
        ("lease", json!({"leaseSeconds": 0}), "#/leaseSeconds"),
        ("lease", json!({"leaseSeconds": 43201}), "#/leaseSeconds"),
        ("lease", json!({"wait": 31}), "#/wait"),
        ("lease", json!({"max": 1}), "#/max"),
        ("ack", json!({"leaseIds": []}), "#/leaseIds"),
        ("ack", json!({"leaseIds": vec!["x"; 1001]}), "#/leaseIds"),
        ("ack", json!({}), "#/leaseIds"),
        (
            "nack",
            json!({"leaseIds": ["x"], "delaySeconds": 43201}),
            "#/delaySeconds",
        ),
        ("extend", json!({"leaseIds": ["x"]}), "#/leaseSeconds"),
        (
            "extend",
            json!({"leaseIds": ["x"], "leaseSeconds": 0}),
            "#/leaseSeconds",
        ),
    ] {
        assert_eq!(pointer(&post(call, what.clone())), at, "{call} {what}");
    }
    for bad in [json!({"maxAttempts": 0}), json!({"maxAttempts": 101})] {
        assert_eq!(pointer(&gateway.admin("PUT", GROUP, &bad)), "#/maxAttempts");
    }
    assert_eq!(
        pointer(&gateway.admin("PUT", "/api/topics/t/groups/A", &json!({}))),
        "path:group"
    );
    for id in [
        "",
        "x",
        "-",
        "1",
        "1-",
        "01-00000000000000aa",
        "1-aa",
        "+1-00000000000000aa",
        "18446744073709551616-00000000000000aa",
    ] {
        let answer = gateway.on_group("ack", json!({"leaseIds": [id]}));
        assert_eq!(answer, json!({"acked": 0, "expired": [id]}), "{id}");
    }
    for number in 1..MAX_GROUPS {
        let path = format!("/api/topics/t/groups/g{number}");
        assert_eq!(gateway.admin("PUT", &path, "").status, 201);
    }
    assert_eq!(gateway.admin("PUT", "/api/topics/t/groups/more", "").status, 409);
    let page = body(&gateway.admin("GET", "/api/topics/t/groups", &Value::Null));
    assert_eq!(page["groups"].as_array().unwrap().len() as i64, MAX_GROUPS);
}

#[test]
fn a_bounded_number_is_out() {
    let gateway = Gateway::with_group(&vec![""; MAX_OUT + 500], json!({}));
    let mut taken = Vec::new();
    loop {
        let more = gateway.lease(1_000, 30);
        if more.is_empty() {
            break;
        }
        taken.extend(more);
    }
    assert_eq!(taken.len(), MAX_OUT);
    // Those at both ends: far apart, and still one call.
    let ids = json!([taken[0].1, taken[MAX_OUT - 1].1]);
    assert_eq!(gateway.on_group("ack", json!({"leaseIds": ids}))["acked"], 2);
    assert_eq!(gateway.sequences(9).len(), 2);
    let every: Vec<_> = taken.iter().map(|one| &one.1).collect();
    let acked = every
        .chunks(1_000)
        .map(|ids| gateway.on_group("ack", json!({"leaseIds": ids})));
    let acked: u64 = acked.map(|answer| answer["acked"].as_u64().unwrap()).sum();
    assert_eq!(acked, MAX_OUT as u64 - 2);
}

/// Consumers whose clock is anybody's guess, against plain maps.
#[test]
fn whatever_the_clocks_say_a_message_has_one_holder_and_a_key_one_message() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let ordered = random.bool();
        let gateway = Gateway::with_group(&[], json!({"maxAttempts": 4, "ordered": ordered}));
        let skew = Cell::new(0_i64);
        let call = |call: &str, document: Value| {
            let bearer = format!("Bearer {ADMIN}");
            let path = format!("{GROUP}/{call}");
            let request = request("POST", &path, &[("authorization", &bearer)], &document);
            let fresh = || gateway.fresh();
            let world = World {
                store: &gateway.store,
                settings: &gateway.settings,
                now: gateway.store.now().saturating_add_signed(skew.get()),
                fresh: &fresh,
            };
            let answer = ready(forward::handle(&world, &request));
            assert_eq!(answer.status, 200, "seed {seed}: {}", text(&answer));
            body(&answer)
        };
        let (mut keys, mut done) = (Vec::new(), BTreeSet::new());
        // By sequence: lease id and deadline.
        let mut held = BTreeMap::<u64, (String, u64)>::new();
        for _ in 0..300 {
            skew.set(random.i64(-40_000..40_000) * random.i64(0..2));
            let now = gateway.store.now();
            match random.u8(0..10) {
                0..3 => {
                    let key = ["", "a", "b", "c"][random.usize(0..4)];
                    append(&gateway.store, key, b"x");
                    keys.push(key);
                }
                3..6 => {
                    let seconds = random.u64(1..30);
                    let answer = call(
                        "lease",
                        json!({"limit": random.u64(1..6), "leaseSeconds": seconds}),
                    );
                    for (sequence, id, attempt) in leases(&answer) {
                        let key = keys[sequence as usize - 1];
                        assert!(
                            !done.contains(&sequence),
                            "seed {seed}: {sequence} was acknowledged"
                        );
                        assert!(attempt <= 4, "seed {seed}: attempt {attempt}");
                        let before = held.insert(sequence, (id, now + seconds * 1_000));
                        assert!(
                            before.is_none_or(|(_, until)| until <= now),
                            "seed {seed}: {sequence} is held"
                        );
                        if ordered && !key.is_empty() {
                            let others = held.iter().filter(|(other, (_, until))| {
                                **other != sequence && *until > now && keys[**other as usize - 1] == key
                            });
                            assert_eq!(others.count(), 0, "seed {seed}: two of {key}");
                        }
                    }
                }
                6..8 if !held.is_empty() => {
                    let picked = random.usize(0..held.len());
                    let (&sequence, (id, until)) = held.iter().nth(picked).unwrap();
                    let (id, until) = (id.clone(), *until);
                    let answer = call("ack", json!({"leaseIds": [id]}));
                    if answer["acked"] == 1 {
                        assert!(
                            until > now && done.insert(sequence),
                            "seed {seed}: {sequence} late"
                        );
                        held.remove(&sequence);
                    } else {
                        assert!(skew.get() > 0 || until <= now, "seed {seed}: {sequence} refused");
                    }
                }
                8 if !held.is_empty() => {
                    let picked = random.usize(0..held.len());
                    let (&sequence, (id, _)) = held.iter().nth(picked).unwrap();
                    let answer = call(
                        "nack",
                        json!({"leaseIds": [id], "delaySeconds": random.u64(0..20)}),
                    );
                    if answer["nacked"] == 1 {
                        held.remove(&sequence);
                    }
                }
                _ => gateway.later(random.u64(0..20_000)),
            }
        }
        // Nothing is lost: whatever is not done is leased, or a dead letter.
        skew.set(0);
        for _ in 0..200 {
            gateway.later(60 * SECOND);
            let ids: Vec<_> = leases(&call("lease", json!({"limit": 50})))
                .into_iter()
                .map(|(sequence, id, _)| {
                    assert!(done.insert(sequence), "seed {seed}: {sequence} twice");
                    id
                })
                .collect();
            if !ids.is_empty() {
                assert_eq!(call("ack", json!({"leaseIds": ids}))["acked"], ids.len());
            }
        }
        let page = body(&gateway.admin("GET", &format!("{GROUP}/dead-letters?limit=100"), &Value::Null));
        let dead = page["deadLetters"].as_array().unwrap();
        let dead: BTreeSet<u64> = dead
            .iter()
            .map(|letter| letter["sequence"].as_u64().unwrap())
            .collect();
        assert!(dead.is_disjoint(&done), "seed {seed}");
        assert_eq!(dead.len() + done.len(), keys.len(), "seed {seed}");
        assert_eq!(gateway.view()["lag"], 0, "seed {seed}");
    }
}
