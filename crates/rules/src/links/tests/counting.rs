//! Clicks that are counted a moment later than they are answered, and links that change, go and come back meanwhile.

use std::cell::RefCell;

use super::*;
use tollgate_store::commit::{Commit, Entry, Item, Message, Mutation, Outcome, StoreError, Topic, literal};

/// The store in memory, where what is deferred is under way until it is settled.
struct Held<'a> {
    gateway: &'a Gateway,
    deferred: RefCell<Vec<Commit>>,
}

impl<'a> Held<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        let deferred = RefCell::default();
        Self { gateway, deferred }
    }

    fn arrive(&self) {
        for commit in self.deferred.take() {
            self.gateway.store.defer(commit);
        }
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Response {
        let headers = [("authorization", &*format!("Bearer {ADMIN}"))];
        ready(self.gateway.answer(self, &request(method, path, &headers, body)))
    }

    /// How many of so many visitors get through.
    fn visits(&self, count: usize) -> usize {
        let get = request("GET", "/abc", &[("user-agent", BROWSER)], &Value::Null);
        let answers = (0..count).map(|_| ready(self.gateway.answer(self, &get)).status);
        answers.filter(|status| *status == 302).count()
    }
}

impl Store for Held<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.gateway.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.deferred.borrow_mut().push(commit);
    }
    async fn settle(&self) -> Result<(), StoreError> {
        self.arrive();
        Ok(())
    }
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.gateway.store.get(partition, keys).await
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.gateway.store.scan(prefix, after, limit).await
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.gateway.store.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.gateway.store.topics(after, limit).await
    }
}

const LINK: &str = "/api/links/abc";

#[test]
fn clicks_on_a_deleted_link_take_nothing_from_the_next_one_with_its_code() {
    let gateway = Gateway::new();
    let held = Held::new(&gateway);
    gateway.link("abc", json!({}));
    assert_eq!(held.visits(10), 10);
    assert_eq!(gateway.admin("DELETE", LINK, &Value::Null).status, 204);
    gateway.link("abc", json!({"maxVisits": 3}));
    held.arrive();
    assert_eq!(gateway.visits("abc"), 0);
    assert_eq!(held.visits(9), 3);
    assert_eq!(gateway.visits("abc"), 3);
}

#[test]
fn a_bound_that_is_set_on_a_link_in_use_counts_what_is_still_on_its_way() {
    let gateway = Gateway::new();
    let held = Held::new(&gateway);
    gateway.link("abc", json!({}));
    assert_eq!(held.visits(57), 57);
    let patched = held.admin("PATCH", LINK, &json!({"maxVisits": 60}));
    assert_eq!(
        (patched.status, json_of(&patched)["maxVisits"].clone()),
        (200, json!(60))
    );
    assert_eq!(held.visits(20), 3);
    held.arrive();
    assert_eq!(gateway.visits("abc"), 60);
    // Without a bound visits count as before; with one again, as exactly.
    assert_eq!(held.admin("PATCH", LINK, &json!({"maxVisits": null})).status, 200);
    assert_eq!(held.visits(5), 5);
    assert_eq!(held.deferred.borrow().len(), 5);
    assert_eq!(held.admin("PATCH", LINK, &json!({"maxVisits": 66})).status, 200);
    assert_eq!(held.visits(5), 1);
    assert_eq!(gateway.visits("abc"), 66);
}

#[test]
fn visits_between_the_two_steps_of_setting_a_bound_are_counted_before_they_are_answered() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let fail = StoreError::Unavailable("down".into());
    // The step is made, and the bound is not.
    let steps = Stopping::new(&gateway, fail);
    let headers = [("authorization", &*format!("Bearer {ADMIN}"))];
    let patch = request("PATCH", LINK, &headers, &json!({"maxVisits": 2}));
    assert_eq!(ready(gateway.answer(&steps, &patch)).status, 503);
    assert_eq!(gateway.read("abc")["maxVisits"], Value::Null);
    let held = Held::new(&gateway);
    assert_eq!(held.visits(1), 1);
    assert_eq!(held.deferred.borrow().len(), 0);
    assert_eq!(held.admin("PATCH", LINK, &json!({"maxVisits": 2})).status, 200);
    assert_eq!(held.visits(5), 1);
}

/// Fails to settle.
struct Stopping<'a> {
    gateway: &'a Gateway,
    error: StoreError,
}

impl<'a> Stopping<'a> {
    fn new(gateway: &'a Gateway, error: StoreError) -> Self {
        Self { gateway, error }
    }
}

impl Store for Stopping<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.gateway.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.gateway.store.defer(commit);
    }
    async fn settle(&self) -> Result<(), StoreError> {
        Err(self.error.clone())
    }
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.gateway.store.get(partition, keys).await
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.gateway.store.scan(prefix, after, limit).await
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.gateway.store.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.gateway.store.topics(after, limit).await
    }
}

#[test]
fn a_link_of_an_earlier_version_keeps_its_count() {
    let gateway = Gateway::new();
    let set = |key: &str, value: String| Mutation::Set {
        key: key.into(),
        value: literal(value),
        expires: None,
    };
    let record = json!({"url": "https://example.com/old", "redirect": 302, "createdAt": tollgate_store::memory::START,
        "updatedAt": tollgate_store::memory::START, "id": "01aaaaaaaaaaaaaaaaaaaaaaaa", "owner": "key:configured"});
    let commit = Commit {
        partition: "link/abc".into(),
        mutations: vec![
            set("link/abc", record.to_string()),
            set("visits/abc", "7".into()),
            set("visited/abc", tollgate_store::memory::START.to_string()),
        ],
        ..Commit::default()
    };
    ready(gateway.store.commit(commit)).unwrap();
    let held = Held::new(&gateway);
    assert_eq!(gateway.visits("abc"), 7);
    assert_eq!(held.visits(1), 1);
    assert_eq!(held.admin("PATCH", LINK, &json!({"maxVisits": 10})).status, 200);
    assert_eq!(held.visits(5), 2);
    assert_eq!(gateway.visits("abc"), 10);
    gateway.admin("DELETE", LINK, &Value::Null);
    assert_eq!(ready(gateway.store.scan("visits/", None, 10)).unwrap(), []);
    gateway.link("abc", json!({}));
    assert_eq!(gateway.visits("abc"), 0);
}
