//! Campaigns against the store in memory: verdicts here, management in [`manage`], holds in [`holds`], interleavings in
//! [`races`].

mod codes;
mod eligibility;
mod eligible;
mod holds;
mod listing;
mod manage;
mod races;
mod removing;
mod units;
mod waitlist;

use futures::executor::block_on;
use serde_json::{Value, json};
use std::cell::Cell;

use crate::testing::{ADMIN, Gateway, SECOND, body, pointer, request, slug};
use tollgate_api::http::{Request, Response};
use tollgate_api::time;
use tollgate_store::commit::{Message, StoreError};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::ports::Store;

impl Gateway {
    fn with_campaign(campaign: Value) -> Self {
        let gateway = Self::new();
        // The key of receipts is there, so that a claim is one commit.
        assert_eq!(gateway.call("GET", "/api/receipts/keys", &[], "").status, 200);
        let response = gateway.create_campaign(campaign);
        assert_eq!(
            response.status,
            201,
            "{}",
            String::from_utf8_lossy(&response.body)
        );
        gateway
    }

    fn create_campaign(&self, campaign: Value) -> Response {
        self.admin("POST", "/api/campaigns", &campaign)
    }

    fn claim(&self, user: &str) -> Response {
        self.call("POST", "/api/campaigns/c/claims", &[("x-user-id", user)], "")
    }

    fn claim_with_key(&self, user: &str, key: &str, body: &str) -> Response {
        let headers = [("x-user-id", user), ("idempotency-key", key)];
        self.call("POST", "/api/campaigns/c/claims", &headers, body)
    }

    fn campaign(&self) -> Value {
        body(&self.call("GET", "/api/campaigns/c", &[], ""))
    }

    fn messages(&self) -> Vec<Message> {
        block_on(self.store.read("coupon", 0, 1_000, 0)).unwrap()
    }
}

#[test]
fn a_claim_is_announced_with_its_place_in_a_trace() {
    const PLACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2}));
    for (user, sent) in [("ann", PLACE), ("bob", "00-none")] {
        let headers = [("x-user-id", user), ("traceparent", sent)];
        assert_eq!(
            gateway
                .call("POST", "/api/campaigns/c/claims", &headers, "")
                .status,
            201
        );
    }
    let places = gateway.messages();
    let places = places.iter().map(tollgate_delivery::attributes::traceparent);
    let places: Vec<_> = places.map(|place| place.map(|place| place.to_string())).collect();
    assert_eq!(places, [Some(PLACE.to_owned()), None]);
}

#[test]
fn a_claim_is_admitted_and_announced() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2, "codes": "generate"}));
    let response = gateway.claim("a/\"é%\u{1}".trim_end_matches("é%\u{1}"));
    let answer = body(&response);
    let claim = &answer["claim"];
    assert_eq!((response.status, &answer["outcome"]), (201, &json!("admitted")));
    assert_eq!(
        response.header("location"),
        Some("/api/campaigns/c/claims/a%2F%22")
    );
    assert_eq!(claim["sequence"], 1);
    assert_eq!(claim["user"], "a/\"");
    assert_eq!(claim["code"].as_str().unwrap().len(), 10);
    let id = claim["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "campaign": "c", "user": "a/\"", "sequence": 1, "units": 1, "code": claim["code"], "status": "confirmed",
        "expiresAt": null, "receipt": claim["receipt"],
    });
    assert_eq!(claim, &expected);

    let messages = gateway.messages();
    let message = &messages[0];
    assert_eq!(
        (messages.len(), message.id.as_str(), message.key.as_str()),
        (1, id, "a/\"")
    );
    assert_eq!(
        (message.kind.as_str(), message.content_type.as_str()),
        ("coupon.claimed", "application/json")
    );
    let data: Value = serde_json::from_slice(&message.payload).unwrap();
    let expected = json!({
        "campaign": "c", "user": "a/\"", "claim": id, "sequence": 1, "units": 1, "code": claim["code"], "status": "confirmed",
    });
    assert_eq!(data, expected);

    let own = gateway.call(
        "GET",
        "/api/campaigns/c/claims/a%2F%22",
        &[("x-user-id", "a/\"")],
        "",
    );
    assert_eq!(body(&own), json!({"claims": [claim]}));
}

#[test]
fn verdicts_are_told_apart() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 2}));
    assert_eq!(
        slug(&gateway.call("POST", "/api/campaigns/c/claims", &[], "")),
        "user-required"
    );
    assert_eq!(pointer(&gateway.claim("not visible")), "header:x-user-id");
    assert_eq!(
        gateway
            .call("POST", "/api/campaigns/none/claims", &[("x-user-id", "a")], "")
            .status,
        404
    );
    let first = body(&gateway.claim("ann"));
    assert_eq!(first["claim"]["code"], Value::Null);
    let again = gateway.claim("ann");
    assert_eq!((again.status, slug(&again).as_str()), (409, "already-claimed"));
    assert_eq!(body(&again)["claim"], first["claim"]);
    assert_eq!(body(&gateway.claim("bob"))["claim"]["sequence"], 2);
    let late = gateway.claim("cleo");
    assert_eq!((late.status, slug(&late).as_str()), (410, "sold-out"));
    let again = gateway.claim("ann");
    assert_eq!((again.status, &body(&again)["claim"]), (409, &first["claim"]));
    assert_eq!(gateway.campaign()["state"], "soldOut");
    assert_eq!(gateway.messages().len(), 2);
}

#[test]
fn the_window_is_by_the_clock_of_the_store() {
    let (start, end) = (START + 10 * SECOND, START + 20 * SECOND);
    let gateway = Gateway::with_campaign(json!({
        "id": "c", "quantity": 9, "startsAt": time::format(start), "endsAt": time::format(end),
    }));
    let early = gateway.claim("ann");
    assert_eq!(
        (early.status, slug(&early).as_str(), early.header("retry-after")),
        (403, "not-started", Some("10"))
    );
    assert_eq!(gateway.campaign()["state"], "scheduled");
    gateway.store.set_now(start - 1);
    let early = gateway.claim("ann");
    assert_eq!(
        (slug(&early).as_str(), early.header("retry-after")),
        ("not-started", Some("1"))
    );
    gateway.store.set_now(start);
    assert_eq!(gateway.claim("ann").status, 201);
    assert_eq!(gateway.campaign()["state"], "open");
    gateway.store.set_now(end - 1);
    assert_eq!(gateway.claim("bob").status, 201);
    for late in [end, end + 60 * SECOND] {
        gateway.store.set_now(late);
        assert_eq!(slug(&gateway.claim("cleo")), "ended");
        assert_eq!(slug(&gateway.claim("ann")), "already-claimed");
    }
    assert_eq!(gateway.campaign()["state"], "ended");
}

#[test]
fn a_user_may_claim_as_often_as_the_campaign_says() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 4, "perUser": 3}));
    let first = body(&gateway.claim("ann"));
    for sequence in [2, 3] {
        assert_eq!(body(&gateway.claim("ann"))["claim"]["sequence"], sequence);
    }
    let more = gateway.claim("ann");
    assert_eq!((more.status, &body(&more)["claim"]), (409, &first["claim"]));
    assert_eq!(gateway.claim("bob").status, 201);
    assert_eq!(gateway.claim("bob").status, 410);
    assert_eq!(gateway.claim("ann").status, 409);
    let own = body(&gateway.call("GET", "/api/campaigns/c/claims/ann", &[("x-user-id", "ann")], ""));
    let sequences: Vec<_> = own["claims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["sequence"].clone())
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
}

#[test]
fn an_idempotency_key_replays_the_answer() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1}));
    let first = gateway.claim_with_key("ann", "\"k\"", "{}");
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    // Sold out and taken by now, which a repetition must not be told.
    let again = gateway.claim_with_key("ann", "\"k\"", "{}");
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, Some("true"))
    );
    assert_eq!(
        (&again.body, again.header("location")),
        (&first.body, first.header("location"))
    );
    let other = gateway.claim_with_key("ann", "\"k\"", "");
    assert_eq!(
        (other.status, slug(&other).as_str()),
        (422, "idempotency-key-reused")
    );
    assert_eq!(gateway.claim_with_key("ann", "\"new\"", "{}").status, 409);
    assert_eq!(gateway.claim_with_key("bob", "\"k\"", "{}").status, 410);
    assert_eq!(
        pointer(&gateway.claim_with_key("ann", "k k", "{}")),
        "header:idempotency-key"
    );
    assert_eq!(gateway.messages().len(), 1);
    gateway.store.set_now(START + crate::idempotency::TTL_MS);
    assert_eq!(gateway.claim_with_key("ann", "\"k\"", "{}").status, 409);
}

#[test]
fn a_lost_reply_neither_admits_twice_nor_hides_the_claim() {
    for (per_user, key) in [(1, None), (2, None), (1, Some("\"k\"")), (2, Some("\"k\""))] {
        let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1, "perUser": per_user}));
        let mut headers = vec![("x-user-id", "ann")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let request = request("POST", "/api/campaigns/c/claims", &headers, "");
        let lossy = Lossy {
            store: &gateway.store,
            lose: Cell::new(1),
        };
        let response = block_on(gateway.answer(&lossy, &request));
        assert_eq!(
            (response.status, response.header("idempotency-replayed")),
            (201, None),
            "{per_user} {key:?}"
        );
        assert_eq!(body(&response)["claim"]["sequence"], 1);
        assert_eq!(
            (gateway.messages().len(), &gateway.campaign()["admitted"]),
            (1, &json!(1))
        );
    }
}

#[test]
fn a_store_that_is_down_closes_the_door() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1}));
    gateway.store.fail_next(StoreError::Unavailable("down".into()));
    let response = gateway.claim("ann");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("1"))
    );
    let never = Lossy {
        store: &gateway.store,
        lose: Cell::new(99),
    };
    let request = request("POST", "/api/campaigns/c/claims", &[("x-user-id", "ann")], "");
    assert_eq!(block_on(gateway.answer(&never, &request)).status, 503);
    assert_eq!(gateway.messages().len(), 1);
}

#[test]
fn a_claim_takes_no_other_fields() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1}));
    let with = |body: &str| gateway.call("POST", "/api/campaigns/c/claims", &[("x-user-id", "a")], body);
    assert_eq!(pointer(&with(r#"{"user":"b"}"#)), "#/user");
    assert_eq!(pointer(&with("[1]")), "#");
    assert_eq!(pointer(&with("nope")), "#");
    assert_eq!(gateway.messages().len(), 0);
    assert_eq!(with("{}").status, 201);
}

#[test]
fn a_users_claims_are_for_the_user_and_for_the_scope() {
    let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1}));
    gateway.claim("ann");
    let path = "/api/campaigns/c/claims/ann";
    assert_eq!(gateway.call("GET", path, &[("x-user-id", "bob")], "").status, 403);
    assert_eq!(gateway.call("GET", path, &[], "").status, 401);
    assert_eq!(
        gateway
            .call("GET", path, &[("authorization", "Bearer nonsense-nonsense")], "")
            .status,
        401
    );
    assert_eq!(
        body(&gateway.admin("GET", path, &Value::Null))["claims"][0]["user"],
        "ann"
    );
    assert_eq!(
        body(&gateway.admin("GET", "/api/campaigns/c/claims/an", &Value::Null)),
        json!({"claims": []})
    );
    assert_eq!(
        gateway
            .admin("GET", "/api/campaigns/none/claims/ann", &Value::Null)
            .status,
        404
    );
    assert_eq!(
        gateway
            .admin("GET", "/api/campaigns/c/claims/%zz", &Value::Null)
            .status,
        404
    );
}

/// Carries commits out and loses the first `lose` replies.
struct Lossy<'a> {
    store: &'a InMemoryStore,
    lose: Cell<u32>,
}

impl Store for Lossy<'_> {
    async fn commit(
        &self,
        commit: tollgate_store::commit::Commit,
    ) -> Result<tollgate_store::commit::Outcome, StoreError> {
        if self.lose.get() > 0 {
            self.lose.set(self.lose.get() - 1);
            self.store.fail_next(StoreError::Unknown("lost".into()));
        }
        self.store.commit(commit).await
    }
    fn defer(&self, commit: tollgate_store::commit::Commit) {
        self.store.defer(commit);
    }
    async fn get(
        &self,
        p: &str,
        keys: &[String],
    ) -> Result<Vec<Option<tollgate_store::commit::Entry>>, StoreError> {
        self.store.get(p, keys).await
    }
    async fn scan(
        &self,
        p: &str,
        after: Option<&str>,
        n: u32,
    ) -> Result<Vec<tollgate_store::commit::Item>, StoreError> {
        self.store.scan(p, after, n).await
    }
    async fn read(&self, t: &str, after: u64, n: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.store.read(t, after, n, wait).await
    }
    async fn topics(
        &self,
        after: Option<&str>,
        n: u32,
    ) -> Result<Vec<tollgate_store::commit::Topic>, StoreError> {
        self.store.topics(after, n).await
    }
}
