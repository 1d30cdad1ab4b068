//! Who may claim.

use super::*;
use crate::campaigns::purge;
use crate::testing::ready;
use tollgate_store::commit::{Commit, Entry, Item, Outcome, Topic};

fn put(gateway: &Gateway, change: Value) -> Response {
    gateway.admin("PUT", "/api/campaigns/c/eligible", &change)
}

fn lists(gateway: &Gateway) -> (usize, usize) {
    let count = |prefix: &str| ready(gateway.store.scan(prefix, None, 1_000)).unwrap().len();
    (count("eligible/"), count("left-over/"))
}

#[test]
fn only_those_on_the_list_may_claim() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    assert_eq!(gateway.claim("zoe").status, 201, "everybody may");
    assert_eq!(
        body(&put(&gateway, json!({"add": ["ann", "a/%b", "ann"]}))),
        json!({"restricted": true, "added": 2, "removed": 0})
    );
    assert_eq!(gateway.campaign()["restricted"], true);
    let refused = gateway.claim("bob");
    assert_eq!((refused.status, slug(&refused).as_str()), (403, "not-eligible"));
    let path = "/api/campaigns/c/claims/eligibility";
    let told = body(&gateway.call("GET", path, &[("x-user-id", "bob")], ""));
    assert_eq!(
        (&told["eligible"], &told["problem"]),
        (&json!(false), &body(&refused))
    );
    assert_eq!(gateway.claim("ann").status, 201);
    assert_eq!(gateway.claim("a/%b").status, 201);
    assert_eq!(gateway.claim("a").status, 403);
    assert_eq!(
        put(&gateway, json!({"add": ["bob"], "remove": ["ann"]})).status,
        200
    );
    assert_eq!(gateway.claim("bob").status, 201);
    assert_eq!(
        slug(&gateway.claim("ann")),
        "not-eligible",
        "what is claimed stays"
    );
    assert_eq!(gateway.campaign()["admitted"], 4);
    assert_eq!(
        body(&put(&gateway, json!({"replace": null})))["restricted"],
        false
    );
    assert_eq!(gateway.claim("dan").status, 201);
}

#[test]
fn a_list_is_replaced_whole_and_the_one_before_is_removed_later() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    let many: Vec<_> = (0..200).map(|n| format!("user-{n}")).collect();
    assert_eq!(body(&put(&gateway, json!({"replace": many})))["added"], 200);
    assert_eq!(gateway.claim("user-199").status, 201);
    assert_eq!(body(&put(&gateway, json!({"replace": ["ann"]})))["added"], 1);
    assert_eq!(gateway.claim("user-1").status, 403);
    assert_eq!(gateway.claim("ann").status, 201);
    assert_eq!(lists(&gateway), (201, 1));
    assert!(!ready(purge(&gateway.store, START)).unwrap());
    assert_eq!(lists(&gateway), (201, 1), "a call may still be writing it");
    while ready(purge(&gateway.store, START + 2 * 60 * 60 * SECOND)).unwrap() {}
    assert_eq!(lists(&gateway), (1, 0));
    assert_eq!(body(&put(&gateway, json!({"replace": []})))["restricted"], true);
    assert_eq!(gateway.claim("zoe").status, 403, "an empty list is nobody");
}

#[test]
fn an_answered_claim_is_replayed_whoever_may_claim_now() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    put(&gateway, json!({"add": ["ann"]}));
    let first = gateway.claim_with_key("ann", "\"k\"", "");
    assert_eq!(first.status, 201);
    put(&gateway, json!({"remove": ["ann"]}));
    let again = gateway.claim_with_key("ann", "\"k\"", "");
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, Some("true"))
    );
    assert_eq!(body(&again), body(&first));
    assert_eq!(slug(&gateway.claim_with_key("bob", "\"k\"", "")), "not-eligible");
    assert_eq!(
        slug(&gateway.claim_with_key("ann", "\"other\"", "")),
        "already-claimed"
    );
}

/// Takes the user from the list between the claim's look and its commit.
struct Removing<'a> {
    gateway: &'a Gateway,
    done: Cell<bool>,
}

impl Store for Removing<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if !self.done.replace(true) {
            assert_eq!(put(self.gateway, json!({"remove": ["ann"]})).status, 200);
        }
        self.gateway.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.gateway.store.defer(commit);
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
fn whoever_is_taken_from_the_list_meanwhile_is_not_admitted() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    put(&gateway, json!({"add": ["ann", "bob"]}));
    let store = Removing {
        gateway: &gateway,
        done: Cell::new(false),
    };
    let request = request("POST", "/api/campaigns/c/claims", &[("x-user-id", "ann")], "");
    assert_eq!(slug(&ready(gateway.answer(&store, &request))), "not-eligible");
    assert_eq!(gateway.campaign()["admitted"], 0);
}

#[test]
fn a_campaign_with_a_list_is_removed_with_it() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    put(&gateway, json!({"add": ["ann", "bob"]}));
    assert_eq!(
        gateway.admin("DELETE", "/api/campaigns/c", &Value::Null).status,
        204
    );
    assert_eq!(gateway.claim("ann").status, 404);
    while ready(purge(&gateway.store, START + 25 * 60 * 60 * SECOND)).unwrap() {}
    assert_eq!(lists(&gateway), (0, 0));
    assert_eq!(
        gateway.create_campaign(json!({"id": "c", "quantity": 1})).status,
        201
    );
    assert_eq!(
        gateway.claim("zoe").status,
        201,
        "another campaign, for everybody"
    );
}

#[test]
fn bad_lists_of_users_name_their_field() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 9}));
    let many: Vec<_> = (0..10_001).map(|n| n.to_string()).collect();
    for (change, at) in [
        (json!({"add": many}), "#/add"),
        (json!({"replace": many}), "#/replace"),
        (json!({"add": many[..6_000], "remove": many[6_000..]}), "#/remove"),
        (json!({"add": ["ann", ""]}), "#/add/1"),
        (json!({"add": ["two words"]}), "#/add/0"),
        (json!({"add": ["x".repeat(129)]}), "#/add/0"),
        (json!({"remove": ["ann"]}), "#/remove"),
        (json!({"add": ["ann"], "remove": ["ann"]}), "#/remove/0"),
        (json!({"add": ["ann"], "replace": []}), "#/replace"),
        (json!({"add": ["ann"], "replace": null}), "#/replace"),
        (json!({"add": "ann"}), "#/add"),
        (json!({"set": []}), "#/set"),
    ] {
        assert_eq!(pointer(&put(&gateway, change)), at);
    }
    assert_eq!(lists(&gateway), (0, 0));
    assert_eq!(gateway.campaign()["restricted"], false);
    assert_eq!(
        gateway
            .admin("PUT", "/api/campaigns/none/eligible", &json!({"add": ["a"]}))
            .status,
        404
    );
    assert_eq!(
        gateway
            .call("PUT", "/api/campaigns/c/eligible", &[], &json!({"add": ["a"]}))
            .status,
        401
    );
}
