//! Topics that are deleted, and what has their name next.

use std::cell::Cell;

use super::*;
use crate::forward::delayed::release;
use crate::testing::{ready, text};
use tollgate_delivery::subscription::Subscription;
use tollgate_store::commit::{Commit, Entry, Item, Message, Mutation, Outcome, StoreError, Topic, literal};
use tollgate_store::memory::InMemoryStore;

const FREE: &str = "/api/topics/free";

impl Gateway {
    #[track_caller]
    fn post_to(&self, topic: &str, headers: &[(&str, &str)], payload: &str) -> Value {
        let path = format!("/api/topics/{topic}/messages");
        let bearer = format!("Bearer {ADMIN}");
        let all = [&[("authorization", bearer.as_str())][..], headers].concat();
        let answer = self.call("POST", &path, &all, payload);
        assert_eq!(answer.status, 202, "{}", text(&answer));
        body(&answer)
    }

    fn names(&self) -> Vec<String> {
        let (mut names, mut query) = (Vec::new(), String::new());
        loop {
            let page = body(&self.admin("GET", &format!("/api/topics?limit=2{query}"), ""));
            let topics = page["topics"].as_array().unwrap();
            names.extend(
                topics
                    .iter()
                    .map(|topic| topic["name"].as_str().unwrap().to_owned()),
            );
            match page["nextCursor"].as_str() {
                Some(next) => query = format!("&cursor={next}"),
                None => return names,
            }
        }
    }
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_starts_clean() {
    let gateway = Gateway::forwarding();
    let first = gateway.post_to("free", &[ANN], "1");
    gateway.post_to("free", &[ANN], "2");
    assert_eq!(gateway.admin("DELETE", FREE, "").status, 204);
    assert_eq!(gateway.admin("GET", FREE, "").status, 404);
    assert_eq!(gateway.admin("DELETE", FREE, "").status, 404);
    let read = |after: u64| body(&gateway.admin("GET", &format!("{FREE}/messages?after={after}"), ""));
    assert_eq!(read(0), json!({"messages": [], "nextAfter": 0}));
    let record = format!("/api/messages/{}", first["id"].as_str().unwrap());
    assert_eq!(gateway.admin("GET", &record, "").status, 404);
    assert!(!gateway.names().contains(&"free".to_owned()));

    let next = gateway.post_to("free", &[ANN], "3");
    assert_eq!(
        next["sequence"], 4,
        "sequences go on, after that of the deletion: no reader takes one for another"
    );
    for after in [0, 2] {
        let found = read(after);
        assert_eq!(found["messages"][0]["sequence"], 4);
        assert_eq!(found["messages"].as_array().unwrap().len(), 1);
    }
    let topic = body(&gateway.admin("GET", FREE, ""));
    assert_eq!((&topic["first"], &topic["depth"]), (&json!(4), &json!(1)));
    assert!(gateway.names().contains(&"free".to_owned()));
    assert_eq!(gateway.admin("DELETE", FREE, "").status, 204);
    assert_eq!(gateway.admin("GET", FREE, "").status, 404);
}

#[test]
fn deleted_topics_leave_no_holes_in_the_list() {
    let gateway = Gateway::forwarding();
    for index in 0..9 {
        gateway.post_to(&format!("t{index}"), &[ANN], "x");
    }
    for index in [0, 1, 2, 3, 5, 7] {
        assert_eq!(
            gateway
                .admin("DELETE", &format!("/api/topics/t{index}"), "")
                .status,
            204
        );
    }
    assert_eq!(
        gateway.names(),
        ["coupon", "hooks", "orders", "signup", "t4", "t6", "t8"]
    );
}

#[test]
fn a_topic_of_the_configuration_is_there_afterwards_and_empty() {
    let gateway = Gateway::forwarding();
    gateway.post_to("orders", &[ANN], "x");
    for _ in 0..2 {
        assert_eq!(gateway.admin("DELETE", "/api/topics/orders", "").status, 204);
        let topic = body(&gateway.admin("GET", "/api/topics/orders", ""));
        assert_eq!((&topic["depth"], &topic["bytes"]), (&json!(0), &json!(0)));
    }
    assert_eq!(gateway.post_to("orders", &[ANN], "y")["sequence"], 4);
}

#[test]
fn consumers_go_with_it_only_by_force_and_leave_nothing_to_those_of_their_names() {
    let gateway = Gateway::forwarding();
    gateway.post_to("free", &[ANN], "1");
    let push = json!({"url": "https://origin.example/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    let subscription = format!("{FREE}/subscriptions/crm");
    assert_eq!(gateway.admin("PUT", &subscription, &push).status, 201);
    let group = format!("{FREE}/groups/g");
    assert_eq!(
        gateway.admin("PUT", &group, &json!({"maxAttempts": 1})).status,
        201
    );
    let lease =
        |limit: u64| body(&gateway.admin("POST", &format!("{group}/lease"), &json!({"limit": limit})));
    let leased = lease(1);
    let old = leased["leases"][0]["leaseId"].clone();
    let refused = gateway.admin("DELETE", FREE, "");
    assert_eq!(refused.status, 409);
    assert!(
        text(&refused).contains("subscriptions (1) and groups (1)"),
        "{}",
        text(&refused)
    );
    assert_eq!(
        gateway.admin("GET", &subscription, "").status,
        200,
        "nothing was done"
    );
    for bad in [
        "force=1",
        "force=",
        "force=True",
        "force=true&force=true",
        "forced=true",
    ] {
        assert_eq!(
            gateway.admin("DELETE", &format!("{FREE}?{bad}"), "").status,
            400,
            "{bad}"
        );
    }
    assert_eq!(
        pointer(&gateway.admin("DELETE", &format!("{FREE}?force=1"), "")),
        "query:force"
    );
    assert_eq!(
        gateway.admin("DELETE", &format!("{FREE}?force=true"), "").status,
        204
    );
    for path in [&subscription, &group] {
        assert_eq!(gateway.admin("GET", path, "").status, 404);
    }
    let left = |prefix: &str| ready(gateway.store.scan(prefix, None, 100)).unwrap().len();
    assert_eq!(
        (
            left("relay/"),
            left("groups/"),
            left("group/"),
            left("subscription/")
        ),
        (0, 0, 0, 0)
    );

    gateway.post_to("free", &[ANN], "2");
    assert_eq!(
        gateway.admin("PUT", &group, &json!({"maxAttempts": 1})).status,
        201
    );
    let late = body(&gateway.admin("POST", &format!("{group}/ack"), &json!({"leaseIds": [old]})));
    let shown = body(&gateway.admin("GET", &group, ""));
    assert_eq!(shown["lag"], 1, "{late}");
    let leased = lease(10);
    assert_eq!(leased["leases"].as_array().unwrap().len(), 1);
    assert_eq!(leased["leases"][0]["message"]["sequence"], 3);
    assert_eq!(gateway.admin("PUT", &subscription, &push).status, 201);
    let shown = body(&gateway.admin("GET", &subscription, ""));
    assert_eq!(shown["lag"], 1, "{shown}");
}

#[test]
fn what_was_to_come_does_not_come_into_the_next_of_its_name() {
    let gateway = Gateway::forwarding();
    let release = || {
        while ready(release(
            &gateway.store,
            &gateway.settings.config,
            gateway.store.now(),
        ))
        .unwrap()
        {}
    };
    let old = gateway.post_to("free", &[ANN, ("x-delay", "60")], "old");
    let path = format!("/api/messages/{}", old["id"].as_str().unwrap());
    assert_eq!(gateway.admin("GET", &path, "").status, 200);
    assert_eq!(
        gateway.admin("DELETE", FREE, "").status,
        204,
        "it is all there is of the topic"
    );
    assert_eq!(gateway.admin("GET", &path, "").status, 404);
    gateway.post_to("free", &[ANN, ("x-delay", "60")], "new");
    gateway.store.set_now(START + 60_000);
    release();
    let messages = block_on(gateway.store.read("free", 0, 10, 0)).unwrap();
    let payloads: Vec<_> = messages.iter().map(|one| one.payload.as_slice()).collect();
    assert_eq!(payloads, [b"new"]);
    let left = |prefix: &str| ready(gateway.store.scan(prefix, None, 100)).unwrap().len();
    assert_eq!((left("delayed/"), left("message/")), (0, 1));
    let sizes = ready(gateway.store.scan("delayed-size/", None, 9)).unwrap();
    assert!(sizes.iter().all(|size| size.entry.value == b"0"), "{sizes:?}");
}

/// The store, and a deletion that others make right before its next commit.
struct Between<'a>(&'a InMemoryStore, Cell<Option<Commit>>);

impl Store for Between<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if let Some(first) = self.1.take() {
            assert!(matches!(self.0.commit(first).await?, Outcome::Committed(_)));
        }
        self.0.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.0.defer(commit);
    }
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.0.get(partition, keys).await
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.0.scan(prefix, after, limit).await
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.0.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.0.topics(after, limit).await
    }
}

#[test]
fn what_is_due_at_the_moment_of_the_deletion_does_not_come_after_it() {
    for is_new in [true, false] {
        let gateway = Gateway::forwarding();
        if !is_new {
            // It was deleted before, too.
            gateway.post_to("free", &[ANN], "first");
            assert_eq!(gateway.admin("DELETE", FREE, "").status, 204);
        }
        for _ in 0..3 {
            gateway.post_to("free", &[ANN, ("x-delay", "60")], "old");
        }
        gateway.post_to("other", &[ANN, ("x-delay", "60")], "other");
        gateway.store.set_now(START + 60_000);
        let deletion = Commit {
            mutations: vec![Mutation::Set {
                key: "topic-deleted/free".into(),
                value: literal("2"),
                expires: None,
            }],
            ..Commit::default()
        };
        let between = Between(&gateway.store, Cell::new(Some(deletion)));
        while ready(release(&between, &gateway.settings.config, gateway.store.now())).unwrap() {}
        let read = |topic| block_on(gateway.store.read(topic, 0, 10, 0)).unwrap().len();
        assert_eq!((read("free"), read("other")), (0, 1));
        let left = |prefix: &str| ready(gateway.store.scan(prefix, None, 100)).unwrap().len();
        assert_eq!(
            (left("delayed/"), left("message/")),
            (0, 1 + usize::from(!is_new))
        );
    }
}

#[test]
fn a_message_that_came_between_the_look_and_the_deletion_is_the_first_of_the_next() {
    let gateway = Gateway::forwarding();
    gateway.post_to("free", &[ANN], "1");
    // The commit's reply is lost: what was done is found, and nothing comes back.
    gateway.store.fail_next(StoreError::Unavailable("once".into()));
    assert_eq!(gateway.admin("DELETE", FREE, "").status, 503);
    assert_eq!(gateway.depth("free"), 1);
    assert_eq!(gateway.admin("DELETE", FREE, "").status, 204);
    gateway.post_to("free", &[ANN], "2");
    assert_eq!(gateway.depth("free"), 1);
}

#[test]
fn a_subscription_of_the_file_keeps_its_topic() {
    let mut config = Config::default();
    let topic = TopicSettings {
        subscriptions: vec![Subscription::new("crm", "https://origin.example/")],
        ..TopicSettings::default()
    };
    config.topics.insert("orders".into(), topic);
    let gateway = Gateway::with_settings(Settings::compile(config).unwrap());
    for force in ["", "?force=true"] {
        let refused = gateway.admin("DELETE", &format!("/api/topics/orders{force}"), "");
        assert_eq!(refused.status, 409);
        assert!(text(&refused).contains("tollgate.toml"), "{}", text(&refused));
    }
}
