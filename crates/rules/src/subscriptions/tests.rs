//! The calls, one rule each, against a store in memory.

use futures::executor::block_on;
use serde_json::{Value, json};

use super::*;
use crate::settings::Settings;
use crate::testing::{ADMIN, Gateway};
use tollgate_api::time;
use tollgate_delivery::relay::progress::Progress;
use tollgate_delivery::relay::record::{BreakerRecord, DeadLetter, StoredMessage, Waiting};
use tollgate_delivery::subscriptions::{MAX_STORED, PARTITION, PREFIX, all, low_water, standing};
use tollgate_store::commit::Append;
use tollgate_store::memory::{InMemoryStore, START};

const FILE: &str = r#"
[[topics.signup.subscriptions]]
name = "origin"
url = "http://127.0.0.1:9000/signup"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
allow_private_addresses = true
"#;

impl Gateway {
    fn subscribed() -> Self {
        Self::with_settings(Settings::parse(FILE, "tollgate.toml").unwrap())
    }

    fn ask_as(&self, key: &str, method: &str, path: &str, body: Value) -> Response {
        self.with(key, method, &format!("/api/topics/{path}"), &body)
    }

    fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.ask_as(ADMIN, method, path, body);
        let document = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        (response.status, document)
    }

    fn refused(&self, body: Value) -> String {
        let (status, document) = self.ask("PUT", "t/subscriptions/s", body);
        assert_eq!(status, 400, "{document}");
        document["errors"][0]["pointer"].as_str().unwrap().to_owned()
    }

    fn bury(&self, topic: &str, name: &str, sequence: u64, payload: &[u8]) {
        let append = Append {
            topic: topic.into(),
            id: format!("m{sequence}"),
            key: "k".into(),
            kind: "test".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: literal(payload),
        };
        block_on(self.store.commit(Commit {
            appends: vec![append],
            ..Commit::default()
        }))
        .unwrap();
        let message = block_on(self.store.read(topic, sequence - 1, 1, 0))
            .unwrap()
            .remove(0);
        let letter = DeadLetter {
            id: message.id.clone(),
            sequence,
            attempts: 12,
            last_error: "the origin answered 500".into(),
            first_at: START,
            died_at: START + 1_000,
            message: StoredMessage::of(&message),
        };
        let value = literal(serde_json::to_vec(&letter).unwrap());
        let key = self.keys_of(topic, name).dead(sequence);
        let set = Mutation::Set {
            key,
            value,
            expires: None,
        };
        block_on(self.store.commit(Commit {
            mutations: vec![set],
            ..Commit::default()
        }))
        .unwrap();
    }

    /// Where the relay keeps its state of a subscription that there is.
    fn keys_of(&self, topic: &str, name: &str) -> Keys {
        let defined = block_on(of_topic(&self.store, self.settings.config.subscriptions(), topic)).unwrap();
        let found = defined.into_iter().find(|one| one.settings.name == name);
        found.expect("there is one").keys()
    }

    fn set(&self, key: String, value: &impl serde::Serialize) {
        let set = Mutation::Set {
            key,
            value: literal(serde_json::to_vec(value).unwrap()),
            expires: None,
        };
        let commit = Commit {
            mutations: vec![set],
            ..Commit::default()
        };
        block_on(self.store.commit(commit)).unwrap();
    }

    fn count(&self, prefix: &str) -> usize {
        block_on(self.store.scan(prefix, None, 1_000)).unwrap().len()
    }
}

#[test]
fn a_subscription_is_made_read_changed_listed_and_removed() {
    let gateway = Gateway::subscribed();
    let body = json!({ "url": "https://example.com/hook", "ratePerSecond": 50, "timeout": 5,
        "retry": { "scheduleSeconds": [5, 300], "final": [422] } });
    let (status, made) = gateway.ask("PUT", "orders/subscriptions/hook", body.clone());
    assert_eq!(status, 201);
    let secret = made["secret"].as_str().unwrap();
    assert!(
        tollgate_delivery::webhook::Secret::parse(secret).is_ok(),
        "shown once: {secret}"
    );
    assert_eq!(
        made["retry"],
        json!({ "scheduleSeconds": [5, 300], "final": [422] })
    );
    let (_, read) = gateway.ask("GET", "orders/subscriptions/hook", Value::Null);
    let expected = json!({
        "topic": "orders", "name": "hook", "type": "http", "url": "https://example.com/hook", "secret": "whsec_********",
        "previousSecret": null, "previousSecretUntil": null, "headers": {}, "startFrom": "oldest", "filter": null, "payload": "full",
        "ratePerSecond": 50, "concurrency": 8, "batch": null, "batchInterval": null, "timeout": 5, "pauseAfter": 432000, "ordered": true, "allowPrivateAddresses": false,
        "retry": { "scheduleSeconds": [5, 300], "final": [422] }, "source": "api", "paused": false, "pauseReason": null,
        "pausedAt": null, "breaker": { "state": "closed", "until": null, "why": null }, "watermark": 0, "lag": 0, "oldestWaiting": null, "lastError": null,
        "attemptsLastHour": 0, "failuresLastHour": 0, "lastDeliveredAt": null, "failingSince": null, "createdAt": "2027-01-15T08:00:00Z",
        "updatedAt": "2027-01-15T08:00:00Z",
    });
    assert_eq!(read, expected);

    gateway.store.set_now(START + 1_000);
    let (status, changed) = gateway.ask(
        "PUT",
        "orders/subscriptions/hook",
        json!({ "url": "https://example.com/other" }),
    );
    assert_eq!((status, &changed["secret"]), (200, &json!("whsec_********")));
    assert_eq!(
        changed["ratePerSecond"], 500,
        "what is left out takes its default"
    );
    let known = block_on(all(&gateway.store, gateway.settings.config.subscriptions())).unwrap();
    assert_eq!(
        known[1].settings.secret.as_ref().map(|secret| secret.expose()),
        Some(secret),
        "the secret stays"
    );

    let (_, list) = gateway.ask("GET", "orders/subscriptions", Value::Null);
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(
        gateway.ask("DELETE", "orders/subscriptions/hook", Value::Null).0,
        204
    );
    assert_eq!(
        gateway.ask("GET", "orders/subscriptions/hook", Value::Null).0,
        404
    );
    assert_eq!(
        gateway.ask("DELETE", "orders/subscriptions/hook", Value::Null).0,
        404
    );
}

#[test]
fn every_fault_of_a_body_is_named() {
    let gateway = Gateway::subscribed();
    let url = "https://example.com/";
    for (body, pointer) in [
        (json!({}), "#/url"),
        (json!({ "url": "ftp://example.com/" }), "#/url"),
        (json!({ "url": "https://o{}.example/" }), "#/url"),
        (json!({ "url": "http://127.0.0.1/" }), "#/url"),
        (json!({ "url": "http://0x7f.1/" }), "#/url"),
        (json!({ "url": "http://[::ffff:10.0.0.1]/" }), "#/url"),
        (json!({ "url": "http://localhost./" }), "#/url"),
        (json!({ "url": url, "secret": "hunter2" }), "#/secret"),
        (json!({ "url": url, "ratePerSecond": 0 }), "#/ratePerSecond"),
        (json!({ "url": url, "concurrency": 100_000 }), "#/concurrency"),
        (json!({ "url": url, "timeout": 0 }), "#/timeout"),
        (json!({ "url": url, "timeout": -1 }), "#/timeout"),
        (json!({ "url": url, "batch": 101 }), "#/batch"),
        (json!({ "url": url, "batch": 0 }), "#/batch"),
        (json!({ "url": url, "batchInterval": 10 }), "#/batch"),
        (
            json!({ "url": url, "batch": 10, "batchInterval": 0.001 }),
            "#/batchInterval",
        ),
        (
            json!({ "url": url, "batch": 10, "batchInterval": 61 }),
            "#/batchInterval",
        ),
        (
            json!({ "url": url, "batch": 10, "batchInterval": -1 }),
            "#/batchInterval",
        ),
        (
            json!({ "url": url, "retry": { "initialSeconds": 0 } }),
            "#/retry/initialSeconds",
        ),
        (
            json!({ "url": url, "retry": { "factor": 0.5 } }),
            "#/retry/factor",
        ),
        (
            json!({ "url": url, "retry": { "initialSeconds": 9, "capSeconds": 8 } }),
            "#/retry/capSeconds",
        ),
        (
            json!({ "url": url, "retry": { "maxAttempts": 0 } }),
            "#/retry/maxAttempts",
        ),
        (
            json!({ "url": url, "retry": { "scheduleSeconds": [1, 0] } }),
            "#/retry/scheduleSeconds/1",
        ),
        (
            json!({ "url": url, "retry": { "scheduleSeconds": [1], "factor": 2 } }),
            "#/retry/scheduleSeconds",
        ),
        (
            json!({ "url": "http://localhost:3000/signup", "allowPrivateAddresses": true }),
            "#/url",
        ),
        (
            json!({ "url": "http://127.0.0.1:3000/", "allowPrivateAddresses": true }),
            "#/url",
        ),
        (
            json!({ "url": url, "retry": { "final": [422, 200] } }),
            "#/retry/final/1",
        ),
        (
            json!({ "url": url, "retry": { "final": [410] } }),
            "#/retry/final/0",
        ),
        (
            json!({ "url": url, "retry": { "final": [400, 400] } }),
            "#/retry/final/1",
        ),
        (
            json!({ "url": url, "retry": { "final": (400..440).collect::<Vec<_>>() } }),
            "#/retry/final",
        ),
        (json!({ "url": url, "retry": { "nope": 1 } }), "#/retry/nope"),
        (json!({ "url": url, "nope": 1 }), "#/nope"),
    ] {
        let shown = body.to_string();
        assert_eq!(gateway.refused(body), pointer, "{shown}");
    }
    assert_eq!(
        gateway
            .ask("PUT", "t/subscriptions/Nope", json!({ "url": url }))
            .0,
        400
    );
    assert_eq!(gateway.count(PREFIX), 0, "nothing was stored");
}

#[test]
fn private_targets_take_an_admin_and_calls_the_scope() {
    let gateway = Gateway::subscribed();
    let mint = |scope| {
        let fresh = || {
            gateway.count.set(gateway.count.get() + 1);
            gateway.count.get().to_be_bytes()
        };
        let (text, commit) = keys::mint("k", &[scope], None, START, &fresh);
        block_on(gateway.store.commit(commit)).unwrap();
        text
    };
    let (topics, links) = (mint(Scope::Topics), mint(Scope::Links));
    let private = json!({ "url": "http://10.0.0.1/", "allowPrivateAddresses": true });
    assert_eq!(
        gateway
            .ask_as(&topics, "PUT", "t/subscriptions/s", private.clone())
            .status,
        403
    );
    assert_eq!(
        gateway.ask_as(ADMIN, "PUT", "t/subscriptions/s", private).status,
        201
    );
    assert_eq!(
        gateway
            .ask_as(&topics, "GET", "t/subscriptions/s", Value::Null)
            .status,
        200
    );
    assert_eq!(
        gateway
            .ask_as(&links, "GET", "t/subscriptions/s", Value::Null)
            .status,
        403
    );
    assert_eq!(
        gateway
            .ask_as("nobody-knows-this-one", "GET", "t/subscriptions", Value::Null)
            .status,
        401
    );
    let wrong = gateway.ask_as(ADMIN, "PATCH", "t/subscriptions/s", Value::Null);
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("GET, HEAD, PUT, DELETE"))
    );
    assert_eq!(
        gateway
            .ask_as(ADMIN, "GET", "t/subscriptions/s/pause", Value::Null)
            .status,
        405
    );
    assert_eq!(
        gateway
            .ask_as(ADMIN, "POST", "t/subscriptions/s/nope", Value::Null)
            .status,
        404
    );
}

#[test]
fn a_subscription_of_the_file_can_be_paused_and_not_changed() {
    let gateway = Gateway::subscribed();
    let path = "signup/subscriptions/origin";
    let (status, read) = gateway.ask("GET", path, Value::Null);
    assert_eq!(
        (status, &read["source"], &read["secret"]),
        (200, &json!("file"), &json!("whsec_********"))
    );
    assert_eq!(
        gateway
            .ask("PUT", path, json!({ "url": "https://example.com/" }))
            .0,
        409
    );
    assert_eq!(gateway.ask("DELETE", path, Value::Null).0, 409);
    let (status, paused) = gateway.ask("POST", &format!("{path}/pause"), Value::Null);
    assert_eq!(
        (status, &paused["paused"], &paused["pauseReason"]),
        (200, &json!(true), &json!("requested"))
    );
    assert_eq!(gateway.ask("POST", &format!("{path}/pause"), Value::Null).0, 200);
    let (_, resumed) = gateway.ask("POST", &format!("{path}/resume"), Value::Null);
    assert_eq!(
        (&resumed["paused"], &resumed["pausedAt"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        gateway
            .ask("POST", "signup/subscriptions/none/pause", Value::Null)
            .0,
        404
    );
}

#[test]
fn dead_letters_are_listed_with_their_message_in_pages() {
    let gateway = Gateway::subscribed();
    for sequence in 1..=5 {
        gateway.bury(
            "signup",
            "origin",
            sequence,
            format!("hello {sequence}").as_bytes(),
        );
    }
    let path = "signup/subscriptions/origin/dead-letters";
    let (_, page) = gateway.ask("GET", &format!("{path}?limit=2"), Value::Null);
    let first = json!({
        "id": "m1", "sequence": 1, "attempts": 12, "lastError": "the origin answered 500",
        "firstAttemptAt": "2027-01-15T08:00:00Z", "lastAttemptAt": "2027-01-15T08:00:01Z",
        "message": { "id": "m1", "sequence": 1, "topic": "signup", "key": "k", "type": "test",
            "time": "2027-01-15T08:00:00Z", "contentType": "text/plain", "data": "hello 1" },
    });
    assert_eq!(page["deadLetters"][0], first);
    let (mut seen, mut cursor) = (2, page["nextCursor"].clone());
    while let Some(after) = cursor.as_str() {
        let (_, page) = gateway.ask("GET", &format!("{path}?limit=2&cursor={after}"), Value::Null);
        seen += page["deadLetters"].as_array().unwrap().len();
        cursor = page["nextCursor"].clone();
    }
    assert_eq!(seen, 5);
    assert_eq!(
        gateway.ask("GET", &format!("{path}?cursor=x"), Value::Null).0,
        400
    );
    assert_eq!(gateway.ask("GET", &format!("{path}?limit=0"), Value::Null).0, 400);
}

#[test]
fn a_redrive_moves_dead_letters_once_and_tells_the_relay() {
    let gateway = Gateway::subscribed();
    let keys = Keys::new("signup", "origin");
    // Large ones: what one commit and one page of the store cannot hold.
    for sequence in 1..=60 {
        gateway.bury("signup", "origin", sequence, &vec![b'x'; 60_000]);
    }
    gateway.set(keys.progress(), &Progress::up_to(60));
    let path = "signup/subscriptions/origin/dead-letters/redrive";
    let ids = json!({ "ids": ["m7", "m59", "none"] });
    assert_eq!(
        gateway.ask("POST", path, ids.clone()),
        (200, json!({ "redriven": 2, "more": false }))
    );
    assert_eq!(
        gateway.ask("POST", path, ids),
        (200, json!({ "redriven": 0, "more": false }))
    );
    assert_eq!(gateway.count(&keys.retry_prefix()), 2);
    // They count as not delivered, wherever that is told.
    let lag = || {
        let (_, one) = gateway.ask("GET", "signup/subscriptions/origin", Value::Null);
        let (_, topic) = gateway.ask("GET", "signup", Value::Null);
        let told = block_on(status::backlogs(&gateway.store, &gateway.settings.config, &[], 9)).unwrap();
        [
            one["lag"].as_u64(),
            topic["subscriptions"][0]["lag"].as_u64(),
            Some(told[0].lag),
        ]
    };
    assert_eq!(lag(), [Some(2); 3]);
    let (_, answer) = gateway.ask("POST", path, json!({ "all": true }));
    assert_eq!(answer, json!({ "redriven": 58, "more": false }));
    assert_eq!(lag(), [Some(60); 3]);
    assert_eq!(gateway.count(&keys.dead_prefix()), 0);
    let restored = block_on(restore::restore(&gateway.store, "signup", &keys)).unwrap();
    assert!(restored.polled.redrives > 0);
    assert!(
        restored
            .waiting
            .values()
            .all(|w| w.redriven && w.attempts == 0 && w.lane != 0)
    );
    let sequences: Vec<u64> = restored.waiting.keys().copied().collect();
    let found = block_on(restore::fetch(&gateway.store, "signup", &keys, &sequences)).unwrap();
    assert_eq!(found.len(), 60);
    let whole = |m: &tollgate_store::commit::Message| m.payload.len() == 60_000;
    assert!(
        found
            .iter()
            .all(|found| found.message.as_ref().is_some_and(whole))
    );
    for bad in [
        json!({}),
        json!({ "all": false }),
        json!({ "ids": [] }),
        json!({ "ids": ["a"], "all": true }),
    ] {
        assert_eq!(gateway.ask("POST", path, bad).0, 400);
    }
}

#[test]
fn a_removed_subscription_leaves_nothing_to_one_that_takes_its_name() {
    let gateway = Gateway::subscribed();
    let body = json!({ "url": "https://example.com/" });
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body.clone()).0, 201);
    for sequence in 1..=150 {
        gateway.bury("t", "s", sequence, b"x");
    }
    let old = gateway.keys_of("t", "s");
    gateway.ask("POST", "t/subscriptions/s/pause", Value::Null);
    assert_eq!(gateway.ask("DELETE", "t/subscriptions/s", Value::Null).0, 204);
    assert_eq!(gateway.count("relay/"), 0);
    // The old one's relay has not heard of it, and makes its progress durable.
    gateway.set(old.progress(), &Progress::up_to(150));
    let (status, made) = gateway.ask("PUT", "t/subscriptions/s", body);
    assert_eq!(
        (status, &made["paused"], &made["lag"], &made["watermark"]),
        (201, &json!(false), &json!(150), &json!(0))
    );
    assert_ne!(gateway.keys_of("t", "s"), old);
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: START,
        fresh: &|| [0; 16],
    };
    let found = block_on(deliveries(&world, "t", 150, None, true)).unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap()[0]["state"], "pending");
}

#[test]
fn what_a_removal_could_not_clear_is_cleared_by_the_next_call() {
    let gateway = Gateway::subscribed();
    let body = json!({ "url": "https://example.com/" });
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body.clone()).0, 201);
    let keys = gateway.keys_of("t", "s");
    for sequence in 1..=6_400 {
        gateway.set(keys.dead(sequence), &0);
    }
    assert_eq!(gateway.ask("DELETE", "t/subscriptions/s", Value::Null).0, 204);
    assert_eq!(
        (gateway.count("relay/"), gateway.count("subscription-removed/")),
        (100, 1)
    );
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body).0, 201);
    assert_eq!(
        (gateway.count("relay/"), gateway.count("subscription-removed/")),
        (0, 0)
    );
}

#[test]
fn a_subscription_of_the_version_before_keeps_its_state_by_its_name() {
    let gateway = Gateway::subscribed();
    let stored = json!({ "id": "x", "createdAt": START, "updatedAt": START,
        "settings": { "name": "s", "url": "https://example.com/", "retry": { "max_attempts": 3 } } });
    gateway.set(format!("{PREFIX}t/s"), &stored);
    assert_eq!(gateway.keys_of("t", "s"), Keys::new("t", "s"));
    let body = json!({ "url": "https://example.com/other" });
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body.clone()).0, 200);
    assert_eq!(
        gateway.keys_of("t", "s"),
        Keys::new("t", "s"),
        "a change keeps it"
    );
    assert_eq!(gateway.ask("DELETE", "t/subscriptions/s", Value::Null).0, 204);
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body).0, 201);
    assert_ne!(gateway.keys_of("t", "s"), Keys::new("t", "s"));
}

#[test]
fn a_relay_that_has_not_heard_of_a_change_begins_nothing_more() {
    let gateway = Gateway::subscribed();
    let body = json!({ "url": "https://example.com/" });
    let defined = || {
        let all = block_on(all(&gateway.store, gateway.settings.config.subscriptions())).unwrap();
        all.into_iter().find(|one| one.topic == "t").unwrap()
    };
    let stands = |defined: &Defined| block_on(standing(&gateway.store, defined)).unwrap();
    gateway.ask("PUT", "t/subscriptions/s", body.clone());
    let first = defined();
    assert!(stands(&first).in_force && !stands(&first).polled.control.0.paused);
    gateway.ask("POST", "t/subscriptions/s/pause", Value::Null);
    assert!(stands(&first).polled.control.0.paused);
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body.clone()).0, 200);
    assert!(stands(&first).in_force, "nothing has changed");
    gateway.ask(
        "PUT",
        "t/subscriptions/s",
        json!({ "url": "https://example.com/other" }),
    );
    assert!(!stands(&first).in_force);
    let second = defined();
    gateway.ask("DELETE", "t/subscriptions/s", Value::Null);
    assert!(!stands(&second).in_force);
    gateway.ask(
        "PUT",
        "t/subscriptions/s",
        json!({ "url": "https://example.com/other" }),
    );
    assert!(!stands(&second).in_force, "another one with its name");
}

#[test]
fn the_breaker_is_shown_and_reset_also_by_a_resume() {
    let gateway = Gateway::subscribed();
    let path = "signup/subscriptions/origin";
    let keys = gateway.keys_of("signup", "origin");
    let open = BreakerRecord {
        until: Some(START + 60_000),
        why: Some("the origin answered 503".into()),
    };
    for (call, resets) in [("reset-breaker", 1), ("resume", 2)] {
        gateway.set(keys.breaker(), &open);
        let (_, read) = gateway.ask("GET", path, Value::Null);
        let shown =
            json!({ "state": "open", "until": "2027-01-15T08:01:00Z", "why": "the origin answered 503" });
        assert_eq!(read["breaker"], shown);
        let (status, reset) = gateway.ask("POST", &format!("{path}/{call}"), Value::Null);
        let closed = json!({ "state": "closed", "until": null, "why": null });
        assert_eq!((status, &reset["breaker"]), (200, &closed));
        assert_eq!(
            block_on(restore::poll(&gateway.store, &keys)).unwrap().resets,
            resets
        );
    }
    gateway.set(keys.breaker(), &open);
    gateway.store.set_now(START + 60_000);
    assert_eq!(
        gateway.ask("GET", path, Value::Null).1["breaker"]["state"],
        "half-open"
    );
    let none = "signup/subscriptions/none/reset-breaker";
    assert_eq!(gateway.ask("POST", none, Value::Null).0, 404);
}

#[test]
fn the_number_of_subscriptions_is_bounded() {
    let gateway = Gateway::subscribed();
    let body = json!({ "url": "https://example.com/" });
    for n in 0..MAX_STORED {
        assert_eq!(
            gateway
                .ask("PUT", &format!("t/subscriptions/s{n}"), body.clone())
                .0,
            201
        );
    }
    assert_eq!(gateway.ask("PUT", "t/subscriptions/more", body.clone()).0, 409);
    assert_eq!(
        gateway.ask("PUT", "t/subscriptions/s7", body.clone()).0,
        200,
        "a change is no more"
    );
    assert_eq!(gateway.ask("DELETE", "t/subscriptions/s7", Value::Null).0, 204);
    assert_eq!(gateway.ask("PUT", "t/subscriptions/more", body).0, 201);
}

#[test]
fn a_message_and_its_topic_tell_how_the_delivery_stands() {
    let gateway = Gateway::subscribed();
    gateway.bury("signup", "origin", 1, b"x");
    let fresh = || [0; 16];
    let world = World {
        store: &gateway.store,
        settings: &gateway.settings,
        now: START,
        fresh: &fresh,
    };
    let found = block_on(deliveries(&world, "signup", 1, None, true)).unwrap();
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        json!([{ "subscription": "origin", "state": "dead", "attempts": 12, "nextAttemptAt": null,
            "lastError": "the origin answered 500", "deliveredAt": null, "attemptLog": [] }])
    );
    let (_, topic) = gateway.ask("GET", "signup", Value::Null);
    assert_eq!(
        topic["subscriptions"],
        json!([{ "name": "origin", "lag": 1, "paused": false }])
    );
    assert_eq!(
        block_on(low_water(&gateway.store, gateway.settings.config.subscriptions())).unwrap(),
        [("signup".to_owned(), 1)]
    );
}

#[test]
fn a_target_says_what_it_is_and_one_that_was_stored_without_is_http() {
    let gateway = Gateway::subscribed();
    let body = json!({"type": "http", "url": "https://origin.example/"});
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body.clone()).0, 201);
    let key = "subscription/t/s".to_owned();
    let stored = |gateway: &Gateway| {
        let found = block_on(gateway.store.get(PARTITION, std::slice::from_ref(&key))).unwrap();
        serde_json::from_slice::<Value>(&found[0].as_ref().unwrap().value).unwrap()
    };
    let mut record = stored(&gateway);
    assert_eq!(record["settings"]["type"], "http");
    record["settings"].as_object_mut().unwrap().remove("type");
    let rewrite = Mutation::Set {
        key: key.clone(),
        value: literal(record.to_string()),
        expires: None,
    };
    let commit = Commit {
        partition: PARTITION.to_owned(),
        mutations: vec![rewrite],
        ..Commit::default()
    };
    block_on(gateway.store.commit(commit)).unwrap();
    let (status, document) = gateway.ask("GET", "t/subscriptions/s", Value::Null);
    assert_eq!(
        (status, &document["url"]),
        (200, &json!("https://origin.example/"))
    );
    assert_eq!(
        gateway.refused(json!({"type": "pigeon", "url": "https://origin.example/"})),
        "#/type"
    );
}

#[test]
fn what_is_damaged_is_not_told_as_missing() {
    let gateway = Gateway::subscribed();
    let url = json!({ "url": "https://example.com/" });
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", url).0, 201);
    gateway.bury("t", "s", 1, b"payload");
    let keys = gateway.keys_of("t", "s");
    let world = |read: &dyn Fn(&World<'_, InMemoryStore>) -> bool| {
        let world = World {
            store: &gateway.store,
            settings: &gateway.settings,
            now: START,
            fresh: &|| [7; 16],
        };
        read(&world)
    };
    let told = || world(&|world| block_on(deliveries(world, "t", 1, None, true)).is_ok());
    let waits = || block_on(restore::fetch(&gateway.store, "t", &keys, &[1])).is_ok();
    let restored = || block_on(restore::restore(&gateway.store, "t", &keys)).is_ok();
    assert!(told() && waits() && restored());
    gateway.set(keys.retry(1), &"damaged");
    assert!(!told() && !waits() && !restored());
    gateway.set(keys.retry(1), &json!({}));
    gateway.set(keys.dead(1), &"damaged");
    assert!(!told());
    assert_eq!(
        gateway
            .ask("GET", "t/subscriptions/s/dead-letters", Value::Null)
            .0,
        500
    );
    let all = json!({ "all": true });
    let redrive = gateway.ask("POST", "t/subscriptions/s/dead-letters/redrive", all);
    assert_eq!(redrive.0, 500);
}

#[test]
fn what_is_kept_is_replayed_from_a_sequence_or_a_time_but_not_what_waits() {
    let gateway = Gateway::subscribed();
    for sequence in 1..=130 {
        gateway.bury("signup", "origin", sequence, b"x");
        gateway.store.set_now(gateway.store.now() + 1_000);
    }
    let keys = Keys::new("signup", "origin");
    let waits = Mutation::Set {
        key: keys.retry(100),
        value: literal(br#"{"attempts":3}"#.to_vec()),
        expires: None,
    };
    let commit = Commit {
        mutations: vec![waits],
        ..Commit::default()
    };
    gateway.store.commit_now(commit).unwrap();
    let path = "signup/subscriptions/origin/replay";
    let replay = |body: Value| gateway.ask("POST", path, body);
    let told = |replayed: u64| (200, json!({ "replayed": replayed, "nextSequence": null }));
    assert_eq!(replay(json!({ "fromSequence": 91 })), told(39));
    assert_eq!(replay(json!({ "fromSequence": 91 })), told(0));
    assert_eq!(
        replay(json!({ "fromTime": time::format(START + 80_000) })),
        told(10)
    );
    assert_eq!(replay(json!({ "fromSequence": 131 })), told(0));
    let found = block_on(gateway.store.scan(&keys.retry_prefix(), None, 1_000)).unwrap();
    assert_eq!(found.len(), 50);
    let again: Vec<Waiting> = found
        .iter()
        .map(|item| serde_json::from_slice(&item.entry.value).unwrap())
        .collect();
    assert_eq!(again.iter().filter(|waiting| waiting.redriven).count(), 49);
    assert!(
        again
            .iter()
            .all(|waiting| waiting.attempts == 3 || waiting.lane != 0)
    );
    for (bad, at) in [
        (json!({}), "#/fromSequence"),
        (json!({ "fromSequence": 0 }), "#/fromSequence"),
        (
            json!({ "fromSequence": 1, "fromTime": "2027-01-15T08:00:00Z" }),
            "#/fromTime",
        ),
        (json!({ "fromTime": "yesterday" }), "#/fromTime"),
    ] {
        let (status, document) = replay(bad.clone());
        assert_eq!(
            (status, &document["errors"][0]["pointer"]),
            (400, &json!(at)),
            "{bad}"
        );
    }
    assert_eq!(
        gateway
            .ask(
                "POST",
                "signup/subscriptions/nobody/replay",
                json!({ "fromSequence": 1 })
            )
            .0,
        404
    );
    assert_eq!(
        gateway
            .ask("POST", "signup/subscriptions/origin/retry-now", Value::Null)
            .0,
        200
    );
    assert_eq!(block_on(restore::poll(&gateway.store, &keys)).unwrap().hurries, 1);
}

#[test]
fn what_and_how_it_is_sent_is_set_shown_and_kept_and_values_are_never_shown() {
    let gateway = Gateway::subscribed();
    let (old, new) = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_dGhlIG9yaWdpbidzIHNlY3JldCBvZiAzMiBieXRlcyE=",
    );
    let until = time::format(START + 60_000);
    let body = json!({
        "url": "https://example.com/", "secret": new, "previousSecret": old, "previousSecretUntil": until,
        "headers": { "authorization": "Bearer hidden", "x-tenant": "hidden" }, "payload": "reference",
        "filter": { "types": ["coupon.*", "link.visited"] }, "ratePerSecond": 0.05, "startFrom": "newest",
    });
    let (status, made) = gateway.ask("PUT", "t/subscriptions/s", body);
    assert_eq!(status, 201, "{made}");
    let (_, read) = gateway.ask("GET", "t/subscriptions/s", Value::Null);
    for shown in [&made, &read] {
        let text = shown.to_string();
        assert!(
            !text.contains("hidden") && !text.contains("MfKQ") && !text.contains("dGhl"),
            "{text}"
        );
        assert_eq!(
            shown["headers"],
            json!({ "authorization": "********", "x-tenant": "********" })
        );
        assert_eq!(
            (&shown["previousSecretUntil"], &shown["ratePerSecond"]),
            (&json!(until), &json!(0.05))
        );
        assert_eq!(shown["filter"], json!({ "types": ["coupon.*", "link.visited"] }));
        assert_eq!(
            (&shown["payload"], &shown["startFrom"]),
            (&json!("reference"), &json!("newest"))
        );
    }
    // A change keeps what nobody can read and give back; the rest takes its default.
    let (_, changed) = gateway.ask(
        "PUT",
        "t/subscriptions/s",
        json!({ "url": "https://example.com/" }),
    );
    assert_eq!(changed["headers"], read["headers"]);
    assert_eq!(changed["previousSecret"], "whsec_********");
    assert_eq!(
        (&changed["filter"], &changed["payload"]),
        (&Value::Null, &json!("full"))
    );
    let kept = |gateway: &Gateway| {
        let all = block_on(all(&gateway.store, gateway.settings.config.subscriptions())).unwrap();
        all.into_iter().find(|one| one.topic == "t").unwrap().settings
    };
    let is = |secret: &Option<tollgate_api::secret::SecretText>, text: &str| {
        secret.as_ref().is_some_and(|secret| secret.expose() == text)
    };
    let now = kept(&gateway);
    assert!(is(&now.secret, new) && is(&now.previous_secret, old));
    assert_eq!(now.headers["authorization"].expose(), "Bearer hidden");
    // Gone with its time, and with the next change from the store.
    gateway.store.set_now(START + 60_000);
    let (_, read) = gateway.ask("GET", "t/subscriptions/s", Value::Null);
    assert_eq!(
        (&read["previousSecret"], &read["previousSecretUntil"]),
        (&Value::Null, &Value::Null)
    );
    let body = json!({ "url": "https://example.com/", "headers": {} });
    assert_eq!(gateway.ask("PUT", "t/subscriptions/s", body).0, 200);
    let now = kept(&gateway);
    assert!(now.headers.is_empty() && now.previous_secret.is_none() && is(&now.secret, new));
}

#[test]
fn a_password_of_postgres_is_kept_for_the_statement_that_it_was_given_for() {
    let gateway = Gateway::subscribed();
    let body = |statement: &str, parameters: Value, password: Option<&str>| {
        let mut body = json!({ "type": "postgres", "url": "postgres://app@db.example/shop", "statement": statement, "parameters": parameters });
        if let Some(password) = password {
            body["password"] = json!(password);
        }
        body
    };
    let insert = "INSERT INTO t VALUES ($1)";
    let (status, made) = gateway.ask(
        "PUT",
        "t/subscriptions/s",
        body(insert, json!(["id"]), Some("hunter2")),
    );
    assert_eq!(
        (
            status,
            &made["type"],
            &made["password"],
            &made["statement"],
            &made["parameters"]
        ),
        (
            201,
            &json!("postgres"),
            &json!("********"),
            &json!(insert),
            &json!(["id"])
        )
    );
    let (_, changed) = gateway.ask("PUT", "t/subscriptions/s", body(insert, json!(["message"]), None));
    assert_eq!(changed["password"], json!("********"));
    // Else whoever may change it reads with a password that is not theirs.
    let reads = "SELECT secret::int FROM other WHERE id <> $1";
    let (status, changed) = gateway.ask("PUT", "t/subscriptions/s", body(reads, json!(["id"]), None));
    assert_eq!((status, changed.get("password")), (200, None));
    for (statement, parameters, pointer) in [
        ("", json!(["id"]), "#/statement"),
        (insert, json!([]), "#/parameters"),
        (insert, json!(["id", "who"]), "#/parameters/1"),
    ] {
        let (status, problem) = gateway.ask("PUT", "t/subscriptions/new", body(statement, parameters, None));
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (400, &json!(pointer)),
            "{problem}"
        );
    }
}

#[test]
fn a_password_of_kafka_is_kept_for_the_mechanism_that_it_was_given_for() {
    let gateway = Gateway::subscribed();
    let put = |more: Value| {
        let mut body = json!({ "type": "kafka", "url": "kafka://app@kafka.example/sign-ups" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        gateway.ask("PUT", "t/subscriptions/s", body)
    };
    let (status, made) = put(json!({ "password": "hunter2" }));
    assert_eq!(
        (status, &made["type"], &made["mechanism"], &made["password"]),
        (201, &json!("kafka"), &json!("SCRAM-SHA-512"), &json!("********"))
    );
    let (_, changed) = put(json!({ "mechanism": "SCRAM-SHA-512", "batch": 10 }));
    assert_eq!(changed["password"], json!("********"));
    // Else whoever may change it has it sent in clear.
    let (status, changed) = put(json!({ "mechanism": "PLAIN" }));
    assert_eq!(
        (status, &changed["mechanism"], changed.get("password")),
        (200, &json!("PLAIN"), None)
    );
    let nobody = json!({ "url": "kafka://kafka.example" });
    assert_eq!(put(nobody).1.get("mechanism"), None);
    for (more, pointer) in [
        (json!({ "mechanism": "GSSAPI" }), "#/mechanism"),
        (
            json!({ "url": "kafka://kafka.example", "password": "x" }),
            "#/password",
        ),
        (json!({ "url": "kafka://app@kafka.example/a/b" }), "#/url"),
    ] {
        let (status, problem) = put(more);
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (400, &json!(pointer)),
            "{problem}"
        );
    }
}

#[test]
fn a_redis_subscription_is_made_shown_and_changed_without_its_password() {
    let mut gateway = Gateway::subscribed();
    let body = |more: Value| {
        let mut body = json!({ "type": "redis", "url": "rediss://app@cache.example/1" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let (status, made) = gateway.ask(
        "PUT",
        "t/subscriptions/s",
        body(json!({ "password": "hunter2", "stream": "sign-ups", "maxLength": 1_000 })),
    );
    assert_eq!(
        (status, &made["type"], &made["secret"]),
        (201, &json!("redis"), &Value::Null)
    );
    assert_eq!(
        (
            &made["password"],
            &made["stream"],
            &made["maxLength"],
            &made["deduplicate"]
        ),
        (&json!("********"), &json!("sign-ups"), &json!(1_000), &json!(600))
    );
    let password = |gateway: &Gateway| {
        let all = block_on(all(&gateway.store, gateway.settings.config.subscriptions())).unwrap();
        let one = all.into_iter().find(|one| one.topic == "t").unwrap();
        one.settings.password.map(|password| password.expose().to_owned())
    };
    // Kept for the server that it was given for, and for no other.
    gateway.ask("PUT", "t/subscriptions/s", body(json!({ "deduplicate": 0 })));
    assert_eq!(password(&gateway).as_deref(), Some("hunter2"));
    let elsewhere = json!({ "type": "redis", "url": "rediss://app@evil.example/1" });
    let (status, changed) = gateway.ask("PUT", "t/subscriptions/s", elsewhere);
    assert_eq!((status, changed.get("password")), (200, None));
    assert_eq!(password(&gateway), None);
    // Of another type, it is signed from then on.
    let (status, http) = gateway.ask(
        "PUT",
        "t/subscriptions/s",
        json!({ "url": "https://example.com/" }),
    );
    assert_eq!(
        (status, &http["type"], http.get("deduplicate")),
        (200, &json!("http"), None)
    );
    assert!(http["secret"].as_str().unwrap().len() > 20, "{http}");
    for (more, pointer) in [
        (json!({ "password": "********" }), "#/password"),
        (json!({ "url": "redis://127.0.0.1/" }), "#/url"),
        (json!({ "url": "redis://u:p@cache.example/" }), "#/url"),
        (json!({ "maxLength": 0 }), "#/maxLength"),
        (json!({ "stream": "" }), "#/stream"),
        (json!({ "deduplicate": 604_801 }), "#/deduplicate"),
        (json!({ "headers": { "x-a": "b" } }), "#/headers"),
        (json!({ "retry": { "final": [400] } }), "#/retry/final"),
        (json!({ "type": "amqp" }), "#/type"),
    ] {
        let (status, problem) = gateway.ask("PUT", "t/subscriptions/new", body(more));
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (400, &json!(pointer)),
            "{problem}"
        );
    }
    // Where no sockets are.
    gateway.settings.on_spin = true;
    let (status, problem) = gateway.ask("PUT", "t/subscriptions/new", body(json!({})));
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (400, &json!("#/type")),
        "{problem}"
    );
    assert!(problem.to_string().contains("Spin"), "{problem}");
}

#[test]
fn a_key_value_subscription_is_made_and_shown_under_spin_only() {
    let mut gateway = Gateway::subscribed();
    let body = |more: Value| {
        let mut body = json!({ "type": "key-value", "url": "key-value://default" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let (status, problem) = gateway.ask("PUT", "t/subscriptions/s", body(json!({})));
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (400, &json!("#/type")),
        "{problem}"
    );
    assert!(problem.to_string().contains("Spin"), "{problem}");
    gateway.settings.on_spin = true;
    let (status, made) = gateway.ask("PUT", "t/subscriptions/s", body(json!({})));
    assert_eq!(
        (status, &made["type"], &made["key"], &made["secret"]),
        (201, &json!("key-value"), &json!("{topic}/{id}"), &Value::Null)
    );
    let template = "claims/{data.campaign}/{data.user}";
    let (status, changed) = gateway.ask("PUT", "t/subscriptions/s", body(json!({ "key": template })));
    assert_eq!((status, &changed["key"]), (200, &json!(template)));
    for (more, pointer) in [
        (json!({ "key": "{key}" }), "#/key"),
        (json!({ "key": "" }), "#/key"),
        (json!({ "url": "http://default" }), "#/url"),
        (json!({ "password": "x" }), "#/password"),
        (json!({ "headers": { "x-a": "b" } }), "#/headers"),
        (json!({ "batch": 10 }), "#/batch"),
        (json!({ "stream": "x" }), "#/stream"),
    ] {
        let (status, problem) = gateway.ask("PUT", "t/subscriptions/new", body(more));
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (400, &json!(pointer)),
            "{problem}"
        );
    }
    let of_http = json!({ "url": "https://example.com/", "key": "x/{id}" });
    let (status, problem) = gateway.ask("PUT", "t/subscriptions/new", of_http);
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("#/key")));
}

#[test]
fn every_fault_of_what_is_sent_is_named() {
    let gateway = Gateway::subscribed();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let many: std::collections::BTreeMap<String, &str> = (0..17).map(|n| (format!("x-{n}"), "v")).collect();
    for (field, value, pointer) in [
        ("headers", json!({ "host": "x" }), "#/headers/host"),
        ("headers", json!({ "bad name": "x" }), "#/headers/bad name"),
        ("headers", json!({ "a/b~c": "x" }), "#/headers/a~1b~0c"),
        (
            "headers",
            json!({ "content-type": "x" }),
            "#/headers/content-type",
        ),
        (
            "headers",
            json!({ "content-encoding": "x" }),
            "#/headers/content-encoding",
        ),
        ("headers", json!({ "connection": "x" }), "#/headers/connection"),
        (
            "headers",
            json!({ "transfer-encoding": "x" }),
            "#/headers/transfer-encoding",
        ),
        (
            "headers",
            json!({ "webhook-signature": "v1,x" }),
            "#/headers/webhook-signature",
        ),
        ("headers", json!({ "ce-id": "x" }), "#/headers/ce-id"),
        ("headers", json!({ "traceparent": "x" }), "#/headers/traceparent"),
        ("headers", json!({ "X-A": "x" }), "#/headers/X-A"),
        ("headers", json!({ "x-a": "a\r\nx-b: c" }), "#/headers/x-a"),
        ("headers", json!({ "x-a": "" }), "#/headers/x-a"),
        ("headers", json!({ "x-a": " v" }), "#/headers/x-a"),
        ("headers", json!({ "x-a": "********" }), "#/headers/x-a"),
        ("headers", json!({ "x-a": "v".repeat(1_025) }), "#/headers/x-a"),
        ("headers", json!(many), "#/headers"),
        ("previousSecret", json!(secret), "#/previousSecretUntil"),
        (
            "previousSecretUntil",
            json!("2027-02-15T08:00:00Z"),
            "#/previousSecret",
        ),
        ("previousSecretUntil", json!("tomorrow"), "#/previousSecretUntil"),
        ("filter", json!({}), "#/filter/types"),
        ("filter", json!({ "types": [] }), "#/filter/types"),
        ("filter", json!({ "types": ["a", "b*c"] }), "#/filter/types/1"),
        ("filter", json!({ "types": [""] }), "#/filter/types/0"),
        ("filter", json!({ "types": vec!["a"; 33] }), "#/filter/types"),
        ("payload", json!("none"), "#/payload"),
        ("startFrom", json!("middle"), "#/startFrom"),
        ("startFrom", json!(0), "#/startFrom"),
        ("startFrom", json!(2), "#/startFrom"),
        ("ratePerSecond", json!(0.009), "#/ratePerSecond"),
        ("ratePerSecond", json!(100_000.5), "#/ratePerSecond"),
        ("ratePerSecond", json!(-1), "#/ratePerSecond"),
    ] {
        let mut body = json!({ "url": "https://example.com/" });
        body[field] = value.clone();
        assert_eq!(gateway.refused(body), pointer, "{field}: {value}");
    }
    assert_eq!(
        gateway.count(PREFIX) + gateway.count("relay/"),
        0,
        "nothing was stored"
    );
}

#[test]
fn a_new_subscription_begins_where_it_is_told_and_a_changed_one_goes_on() {
    let gateway = Gateway::subscribed();
    for sequence in 1..=4 {
        gateway.bury("signup", "origin", sequence, b"x");
        gateway.store.set_now(gateway.store.now() + 1_000);
    }
    let lag = |name: &str, start: Value| {
        let body = json!({ "url": "https://example.com/", "startFrom": start });
        let (status, made) = gateway.ask("PUT", &format!("signup/subscriptions/{name}"), body);
        assert!(status < 300, "{made}");
        made["lag"].as_u64().unwrap()
    };
    assert_eq!(lag("oldest", json!("oldest")), 4);
    assert_eq!(lag("newest", json!("newest")), 0);
    assert_eq!(lag("third", json!(3)), 2);
    assert_eq!(lag("end", json!(5)), 0);
    assert_eq!(lag("time", json!(time::format(START + 1_000))), 3);
    assert_eq!(
        lag("newest", json!("oldest")),
        0,
        "a changed one goes on where it is"
    );
    let body = json!({ "url": "https://example.com/", "startFrom": 6 });
    assert_eq!(gateway.ask("PUT", "signup/subscriptions/x", body).0, 400);
}

#[test]
fn a_replay_and_the_state_of_a_message_heed_the_filter() {
    let gateway = Gateway::subscribed();
    for sequence in 1..=3 {
        gateway.bury("signup", "origin", sequence, b"x");
    }
    let path = "signup/subscriptions/some";
    for (types, replayed, state) in [(["test"], 3, "pending"), (["other"], 0, "filtered")] {
        let body = json!({ "url": "https://example.com/", "filter": { "types": types } });
        assert!(gateway.ask("PUT", path, body).0 < 300);
        let replay = gateway.ask("POST", &format!("{path}/replay"), json!({ "fromSequence": 1 }));
        assert_eq!(replay.1["replayed"], replayed);
        let world = World {
            store: &gateway.store,
            settings: &gateway.settings,
            now: START,
            fresh: &|| [0; 16],
        };
        let message = block_on(gateway.store.read("signup", 1, 1, 0)).unwrap().remove(0);
        let found = block_on(deliveries(&world, "signup", 2, Some(&message), true)).unwrap();
        let some = found.iter().find(|one| one.subscription == "some").unwrap();
        assert_eq!(serde_json::to_value(some).unwrap()["state"], state);
        gateway.ask("DELETE", path, Value::Null);
    }
}

#[test]
fn a_record_of_the_version_before_is_served_as_it_was() {
    let gateway = Gateway::subscribed();
    let stored = json!({ "id": "x", "byId": true, "createdAt": START, "updatedAt": START,
        "settings": { "name": "s", "type": "http", "url": "https://example.com/", "secret": null, "rate_per_second": 7,
            "concurrency": 8, "timeout": "10s", "ordered": true, "allow_private_addresses": false,
            "retry": { "initial": "1s", "factor": 2.0, "cap": "1h", "max_attempts": 3, "schedule": null } } });
    gateway.set(format!("{PREFIX}t/s"), &stored);
    let (status, read) = gateway.ask("GET", "t/subscriptions/s", Value::Null);
    assert_eq!(
        (status, &read["ratePerSecond"], &read["payload"]),
        (200, &json!(7), &json!("full"))
    );
    assert_eq!(
        (&read["startFrom"], &read["filter"]),
        (&json!("oldest"), &Value::Null)
    );
}
