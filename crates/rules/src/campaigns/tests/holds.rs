//! Holds at their hard moments: exactly one thing becomes of each claim, and its unit is back once or never.

use super::*;
use crate::campaigns::maintain;
use crate::testing::ready;
use tollgate_store::commit::{Commit, Entry, Item, Outcome, Topic};

/// Milliseconds of a hold in these tests.
const HOLD: u64 = 60 * SECOND;

impl Gateway {
    fn with_holds(quantity: u64, per_user: u64) -> Self {
        Self::with_campaign(json!({"id": "c", "quantity": quantity, "perUser": per_user, "holdSeconds": 60}))
    }

    /// A claim that is held: its id.
    #[track_caller]
    fn held(&self, user: &str) -> String {
        let response = self.claim(user);
        let answer = body(&response);
        assert_eq!(
            (response.status, &answer["claim"]["status"]),
            (201, &json!("held")),
            "{answer}"
        );
        answer["claim"]["id"].as_str().unwrap().to_owned()
    }

    fn settle(&self, user: &str, claim: &str, verb: &str) -> Response {
        let path = format!("/api/campaigns/c/claims/{claim}/{verb}");
        self.call("POST", &path, &[("x-user-id", user)], "")
    }

    fn settle_with_key(&self, user: &str, claim: &str, verb: &str, key: &str) -> Response {
        let path = format!("/api/campaigns/c/claims/{claim}/{verb}");
        let headers = [("x-user-id", user), ("idempotency-key", key)];
        self.call("POST", &path, &headers, "")
    }

    fn operator(&self, claim: &str, verb: &str) -> Response {
        self.admin("POST", &format!("/api/campaigns/c/claims/{claim}/{verb}"), "")
    }

    fn advance(&self, ms: u64) {
        self.store.set_now(self.store.now() + ms);
    }

    /// Held, confirmed, released, remaining.
    fn counters(&self) -> [u64; 4] {
        let campaign = self.campaign();
        ["held", "confirmed", "released", "remaining"].map(|name| campaign[name].as_u64().unwrap())
    }

    /// The types of the messages so far.
    fn told(&self) -> Vec<String> {
        let messages = self.messages().into_iter();
        messages
            .map(|message| message.kind.replace("coupon.", ""))
            .collect()
    }
}

#[test]
fn a_claim_is_held_and_then_confirmed() {
    let gateway =
        Gateway::with_campaign(json!({"id": "c", "quantity": 3, "holdSeconds": 60, "codes": "generate"}));
    let answer = body(&gateway.claim("ann"));
    let claim = &answer["claim"];
    assert_eq!(claim["expiresAt"], time::format(START + HOLD));
    // A code is worth something: whoever does not confirm never sees it.
    assert_eq!(claim["code"], Value::Null);
    assert_eq!(gateway.counters(), [1, 0, 0, 2]);
    assert_eq!(gateway.campaign()["admitted"], 1);

    let id = claim["id"].as_str().unwrap();
    let confirmed = gateway.settle("ann", id, "confirm");
    let answer = body(&confirmed);
    let claim = &answer["claim"];
    assert_eq!(
        (confirmed.status, &claim["status"], &claim["expiresAt"]),
        (200, &json!("confirmed"), &Value::Null)
    );
    assert_eq!(claim["code"].as_str().unwrap().len(), 10);
    assert_eq!(confirmed.header("cache-control"), Some("no-store"));
    assert_eq!(gateway.counters(), [0, 1, 0, 2]);
    let messages = gateway.messages();
    let message = messages.last().unwrap();
    assert_eq!(
        (message.id.as_str(), message.key.as_str(), message.kind.as_str()),
        (format!("{id}-confirmed").as_str(), "ann", "coupon.confirmed")
    );
    let data: Value = serde_json::from_slice(&message.payload).unwrap();
    let expected = json!({
        "campaign": "c", "user": "ann", "claim": id, "sequence": 1, "units": 1, "code": claim["code"], "status": "confirmed",
    });
    assert_eq!(data, expected);
    // Again: the same answer, and nothing else.
    let again = gateway.settle("ann", id, "confirm");
    assert_eq!((again.status, &again.body), (200, &confirmed.body));
    assert_eq!(gateway.told(), ["claimed", "confirmed"]);
}

#[test]
fn confirm_meets_expiry_at_the_very_millisecond() {
    for (late, status) in [(0, 410), (1, 200)] {
        let gateway = Gateway::with_holds(1, 1);
        let id = gateway.held("ann");
        gateway.store.set_now(START + HOLD - late);
        let confirmed = gateway.settle("ann", &id, "confirm");
        assert_eq!(confirmed.status, status, "{late} ms before the end");
        // The sweep at that very moment.
        assert_eq!(ready(maintain(&gateway.store, gateway.store.now())), Ok(false));
        gateway.advance(HOLD);
        ready(maintain(&gateway.store, gateway.store.now())).unwrap();
        if status == 200 {
            assert_eq!(gateway.counters(), [0, 1, 0, 0]);
            assert_eq!(gateway.told(), ["claimed", "confirmed"]);
        } else {
            assert_eq!(slug(&confirmed), "hold-expired");
            assert_eq!(body(&confirmed)["claim"]["status"], "expired");
            assert_eq!(gateway.counters(), [0, 0, 1, 1]);
            assert_eq!(gateway.told(), ["claimed", "expired"]);
        }
    }
}

#[test]
fn a_unit_comes_back_once_however_often_it_is_released() {
    for per_user in [1, 3] {
        let gateway = Gateway::with_holds(1, per_user);
        let id = gateway.held("ann");
        for _ in 0..3 {
            let released = gateway.settle("ann", &id, "release");
            assert_eq!(
                (released.status, &body(&released)["claim"]["status"]),
                (200, &json!("released"))
            );
        }
        assert_eq!(gateway.counters(), [0, 0, 1, 1]);
        assert_eq!(gateway.told(), ["claimed", "released"]);
        let late = gateway.settle("ann", &id, "confirm");
        assert_eq!((late.status, slug(&late).as_str()), (409, "conflict"));
        assert_eq!(body(&late)["claim"]["id"], id);
        gateway.advance(2 * HOLD);
        ready(maintain(&gateway.store, gateway.store.now())).unwrap();
        assert_eq!(gateway.counters(), [0, 0, 1, 1]);
        // The user may claim again, and gets another claim.
        let second = gateway.held("ann");
        assert_ne!(second, id);
        assert_eq!(
            body(&gateway.settle("ann", &second, "confirm"))["claim"]["sequence"],
            2
        );
        let own = body(&gateway.call("GET", "/api/campaigns/c/claims/ann", &[("x-user-id", "ann")], ""));
        let statuses: Vec<_> = own["claims"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["status"])
            .collect();
        assert_eq!(statuses, ["released", "confirmed"]);
        assert_eq!(gateway.settle("ann", &id, "release").status, 200);
        assert_eq!(gateway.counters(), [0, 1, 1, 0]);
    }
}

#[test]
fn a_confirmed_claim_is_taken_back_by_an_operator_only() {
    let gateway = Gateway::with_holds(2, 1);
    let id = gateway.held("ann");
    gateway.settle("ann", &id, "confirm");
    assert_eq!(gateway.settle("ann", &id, "release").status, 409);
    assert_eq!(gateway.settle("ann", &id, "revoke").status, 401);
    for _ in 0..2 {
        let revoked = gateway.operator(&id, "revoke");
        assert_eq!(
            (revoked.status, &body(&revoked)["claim"]["status"]),
            (200, &json!("revoked"))
        );
    }
    assert_eq!(gateway.counters(), [0, 0, 1, 2]);
    assert_eq!(gateway.operator(&id, "confirm").status, 409);
    let held = gateway.held("bob");
    assert_eq!(gateway.operator(&held, "revoke").status, 200);
    assert_eq!(gateway.counters(), [0, 0, 2, 2]);
    assert_eq!(
        gateway.told(),
        ["claimed", "confirmed", "revoked", "claimed", "revoked"]
    );
}

#[test]
fn claims_of_a_campaign_without_holds_are_revoked_by_their_user() {
    for per_user in [1, 2] {
        let gateway = Gateway::with_campaign(json!({"id": "c", "quantity": 1, "perUser": per_user}));
        let answer = body(&gateway.claim("ann"));
        let id = answer["claim"]["id"].as_str().unwrap();
        assert_eq!(pointer(&gateway.operator(id, "revoke")), "header:x-user-id");
        let bearer = format!("Bearer {ADMIN}");
        let path = format!("/api/campaigns/c/claims/{id}/revoke");
        let revoke = |user| {
            let headers = [("authorization", bearer.as_str()), ("x-user-id", user)];
            gateway.call("POST", &path, &headers, "").status
        };
        assert_eq!((revoke("bob"), revoke("ann"), revoke("ann")), (404, 200, 200));
        assert_eq!(gateway.counters(), [0, 0, 1, 1]);
        assert_eq!(gateway.settle("ann", id, "confirm").status, 409);
        assert_eq!(gateway.claim("ann").status, 201);
        assert_eq!(gateway.claim("bob").status, 410);
        assert_eq!(gateway.told(), ["claimed", "revoked", "claimed"]);
    }
}

#[test]
fn units_of_ended_holds_are_there_without_a_sweep() {
    let gateway = Gateway::with_holds(2, 1);
    let (ann, _bob) = (gateway.held("ann"), gateway.held("bob"));
    let full = gateway.claim("cleo");
    assert_eq!(
        (full.status, slug(&full).as_str(), full.header("retry-after")),
        (410, "sold-out", Some("60"))
    );
    assert_eq!(body(&full)["held"], 2);
    gateway.advance(HOLD - 1_500);
    assert_eq!(gateway.claim("cleo").header("retry-after"), Some("2"));
    assert_eq!(gateway.settle("ann", &ann, "confirm").status, 200);
    gateway.advance(1_500);
    // Bob's hold has ended: his unit is for whoever asks first.
    assert_eq!(gateway.held("cleo").len(), 20);
    assert_eq!(gateway.counters(), [1, 1, 1, 0]);
    assert_eq!(
        gateway.told(),
        ["claimed", "claimed", "confirmed", "expired", "claimed"]
    );
    let full = body(&gateway.claim("bob"));
    assert_eq!(full["held"], 1);
}

#[test]
fn a_user_whose_hold_has_ended_may_claim_again() {
    for per_user in [1, 2] {
        let gateway = Gateway::with_holds(9, per_user);
        let first: Vec<String> = (0..per_user).map(|_| gateway.held("ann")).collect();
        let again = gateway.claim("ann");
        assert_eq!((again.status, slug(&again).as_str()), (409, "already-claimed"));
        assert_eq!(body(&again)["claim"]["id"], first[0]);
        gateway.advance(HOLD);
        for _ in 0..per_user {
            assert!(!first.contains(&gateway.held("ann")));
        }
        assert_eq!(gateway.claim("ann").status, 409);
        assert_eq!(gateway.counters(), [per_user, 0, per_user, 9 - per_user]);
        // Also where all is sold out to nobody else.
        let gateway = Gateway::with_holds(per_user, per_user);
        (0..per_user).for_each(|_| drop(gateway.held("ann")));
        gateway.advance(HOLD);
        gateway.held("ann");
    }
}

#[test]
fn a_retry_is_answered_as_the_first_was() {
    let gateway = Gateway::with_holds(2, 1);
    let held = gateway.claim_with_key("ann", "k", "");
    let id = body(&held)["claim"]["id"].as_str().unwrap().to_owned();
    let confirmed = gateway.settle_with_key("ann", &id, "confirm", "k");
    assert_eq!(
        (confirmed.status, confirmed.header("idempotency-replayed")),
        (200, None)
    );
    assert_eq!(gateway.operator(&id, "revoke").status, 200);
    // With the key, as it was; without it, as it is.
    let replay = gateway.settle_with_key("ann", &id, "confirm", "k");
    assert_eq!(
        (replay.status, replay.header("idempotency-replayed"), &replay.body),
        (200, Some("true"), &confirmed.body)
    );
    assert_eq!(gateway.settle("ann", &id, "confirm").status, 409);
    assert_eq!(
        gateway.settle_with_key("ann", &id, "confirm", "other").status,
        409
    );
    let headers = [("x-user-id", "ann"), ("idempotency-key", "k")];
    let path = format!("/api/campaigns/c/claims/{id}/confirm");
    let mismatch = gateway.call("POST", &path, &headers, "{}");
    assert_eq!(
        (mismatch.status, slug(&mismatch).as_str()),
        (422, "idempotency-key-reused")
    );
    // The claim itself, too: its unit is back, and the same request is no new claim.
    let replay = gateway.claim_with_key("ann", "k", "");
    assert_eq!((replay.status, &replay.body), (201, &held.body));
    assert_eq!(gateway.told(), ["claimed", "confirmed", "revoked"]);
    assert_eq!(gateway.counters(), [0, 0, 1, 2]);
}

#[test]
fn a_lost_reply_settles_a_claim_once() {
    for verb in ["confirm", "release"] {
        for key in [None, Some("k")] {
            let gateway = Gateway::with_holds(1, 1);
            let id = gateway.held("ann");
            let lossy = Lossy {
                store: &gateway.store,
                lose: Cell::new(1),
            };
            let mut headers = vec![("x-user-id", "ann")];
            headers.extend(key.map(|key| ("idempotency-key", key)));
            let path = format!("/api/campaigns/c/claims/{id}/{verb}");
            let response = block_on(gateway.answer(&lossy, &request("POST", &path, &headers, "")));
            assert_eq!(
                (response.status, response.header("idempotency-replayed")),
                (200, None),
                "{verb} {key:?}"
            );
            assert_eq!(gateway.messages().len(), 2);
        }
    }
}

#[test]
fn quantity_never_goes_below_what_is_held() {
    let gateway = Gateway::with_holds(3, 1);
    let patch = |quantity: u64| gateway.admin("PATCH", "/api/campaigns/c", &json!({"quantity": quantity}));
    let (ann, bob) = (gateway.held("ann"), gateway.held("bob"));
    assert_eq!(patch(1).status, 409);
    let lowered = body(&patch(2));
    assert_eq!(
        (&lowered["held"], &lowered["remaining"], &lowered["state"]),
        (&json!(2), &json!(0), &json!("soldOut"))
    );
    gateway.settle("ann", &ann, "release");
    assert_eq!(gateway.counters(), [1, 0, 1, 1]);
    assert_eq!(patch(1).status, 200);
    gateway.settle("bob", &bob, "confirm");
    assert_eq!(gateway.claim("cleo").status, 410);
    assert_eq!(gateway.counters(), [0, 1, 1, 0]);
}

#[test]
fn holds_outlive_the_end_of_their_campaign_and_its_closing() {
    for change in [
        json!({"state": "closed"}),
        json!({"endsAt": time::format(START + 1)}),
    ] {
        let gateway = Gateway::with_holds(3, 1);
        let (ann, bob, _) = (gateway.held("ann"), gateway.held("bob"), gateway.held("cleo"));
        assert_eq!(gateway.admin("PATCH", "/api/campaigns/c", &change).status, 200);
        gateway.advance(10 * SECOND);
        assert_eq!(slug(&gateway.claim("dan")), "ended");
        assert_eq!(gateway.settle("ann", &ann, "confirm").status, 200);
        assert_eq!(gateway.settle("bob", &bob, "release").status, 200);
        gateway.advance(HOLD);
        ready(maintain(&gateway.store, gateway.store.now())).unwrap();
        assert_eq!(gateway.counters(), [0, 1, 2, 2]);
        assert_eq!(slug(&gateway.claim("dan")), "ended");
    }
}

#[test]
fn a_clock_that_steps_back_neither_shortens_a_hold_nor_ends_it_twice() {
    /// A gateway whose clock is so much behind the store's, which never runs backwards.
    fn claim_by(gateway: &Gateway, behind: u64) -> Response {
        let fresh = || gateway.fresh();
        let world = crate::world::World {
            store: &gateway.store,
            settings: &gateway.settings,
            now: gateway.store.now() - behind,
            fresh: &fresh,
        };
        let request = request("POST", "/api/campaigns/c/claims", &[("x-user-id", "ann")], "");
        ready(crate::campaigns::handle(&world, &request))
    }
    for behind in [0, 900, 5_000, 3_600_000] {
        let gateway = Gateway::with_holds(1, 1);
        gateway.advance(7_200_000);
        let response = claim_by(&gateway, behind);
        let answer = body(&response);
        assert_eq!(response.status, 201, "{answer}");
        let ends = time::parse(answer["claim"]["expiresAt"].as_str().unwrap()).unwrap();
        let left = ends - gateway.store.now();
        assert!((HOLD - 1_000..=HOLD).contains(&left), "{behind}: {left}");
        let id = answer["claim"]["id"].as_str().unwrap();
        gateway.store.set_now(ends);
        // A sweep by a clock that is behind does nothing, and one by a clock that is ahead does not do more.
        ready(maintain(&gateway.store, ends - 1)).unwrap();
        assert_eq!(gateway.counters(), [1, 0, 0, 0]);
        assert_eq!(gateway.settle("ann", id, "confirm").status, 410);
        ready(maintain(&gateway.store, ends + HOLD)).unwrap();
        assert_eq!(gateway.counters(), [0, 0, 1, 1]);
    }
    let gateway = Gateway::with_holds(1, 1);
    let id = gateway.held("ann");
    ready(maintain(&gateway.store, START + 2 * HOLD)).unwrap();
    assert_eq!(
        gateway.settle("ann", &id, "confirm").status,
        200,
        "the store's clock decides"
    );
}

#[test]
fn the_sweep_gives_back_what_has_ended_in_every_campaign_in_bounded_batches() {
    let gateway = Gateway::new();
    for id in ["a", "a-b", "b"] {
        let hold = if id == "a-b" { 6_000 } else { 60 };
        let campaign = json!({"id": id, "quantity": 100, "holdSeconds": hold});
        assert_eq!(gateway.create_campaign(campaign).status, 201);
        for user in 0..50 {
            let user = format!("user-{user}");
            let path = format!("/api/campaigns/{id}/claims");
            assert_eq!(
                gateway.call("POST", &path, &[("x-user-id", &user)], "").status,
                201
            );
        }
    }
    gateway.advance(HOLD);
    let held =
        |id: &str| body(&gateway.call("GET", &format!("/api/campaigns/{id}"), &[], ""))["held"].clone();
    assert_eq!(ready(maintain(&gateway.store, gateway.store.now())), Ok(true));
    assert_eq!(
        (held("a"), held("a-b"), held("b")),
        (json!(0), json!(50), json!(36))
    );
    assert_eq!(ready(maintain(&gateway.store, gateway.store.now())), Ok(false));
    assert_eq!(
        (held("a"), held("a-b"), held("b")),
        (json!(0), json!(50), json!(0))
    );
}

#[test]
fn a_claim_is_settled_by_its_user_or_by_a_key() {
    let gateway = Gateway::with_holds(5, 1);
    let id = gateway.held("ann");
    for verb in ["confirm", "release"] {
        assert_eq!(gateway.settle("bob", &id, verb).status, 403);
        let path = format!("/api/campaigns/c/claims/{id}/{verb}");
        assert_eq!(gateway.call("POST", &path, &[], "").status, 401);
        for unknown in ["none", "8Jq3vTzLrM4nBw9QpX2K", "..", "%zz"] {
            assert_eq!(gateway.settle("ann", unknown, verb).status, 404, "{unknown}");
        }
        let path = format!("/api/campaigns/none/claims/{id}/{verb}");
        assert_eq!(
            gateway.call("POST", &path, &[("x-user-id", "ann")], "").status,
            404
        );
    }
    let bad = gateway.call(
        "POST",
        &format!("/api/campaigns/c/claims/{id}/confirm"),
        &[("x-user-id", "ann")],
        r#"{"user":"bob"}"#,
    );
    assert_eq!(pointer(&bad), "#/user");
    assert_eq!(gateway.told(), ["claimed"]);
    assert_eq!(gateway.operator(&id, "confirm").status, 200);
}

/// Ends a hold, by whoever it may be, between two calls of a request.
struct Between<'a> {
    gateway: &'a Gateway,
    /// Before this commit.
    before: Cell<u32>,
    act: &'a dyn Fn(),
}

impl Store for Between<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if self.before.get() == 0 {
            self.before.set(u32::MAX);
            (self.act)();
        }
        self.before.set(self.before.get().saturating_sub(1));
        self.gateway.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.gateway.store.defer(commit);
    }
    async fn get(&self, p: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.gateway.store.get(p, keys).await
    }
    async fn scan(&self, p: &str, after: Option<&str>, n: u32) -> Result<Vec<Item>, StoreError> {
        self.gateway.store.scan(p, after, n).await
    }
    async fn read(&self, t: &str, after: u64, n: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.gateway.store.read(t, after, n, wait).await
    }
    async fn topics(&self, after: Option<&str>, n: u32) -> Result<Vec<Topic>, StoreError> {
        self.gateway.store.topics(after, n).await
    }
}

#[test]
fn whoever_comes_first_decides() {
    for (first, second, status) in [
        ("confirm", "release", 409),
        ("release", "confirm", 409),
        ("confirm", "confirm", 200),
        ("release", "release", 200),
    ] {
        let gateway = Gateway::with_holds(1, 1);
        let id = gateway.held("ann");
        let store = Between {
            gateway: &gateway,
            before: Cell::new(0),
            act: &|| assert_eq!(gateway.settle("ann", &id, first).status, 200),
        };
        let path = format!("/api/campaigns/c/claims/{id}/{second}");
        let late = block_on(gateway.answer(&store, &request("POST", &path, &[("x-user-id", "ann")], "")));
        assert_eq!(late.status, status, "{first}, then {second}");
        let expected = if first == "confirm" {
            [0, 1, 0, 0]
        } else {
            [0, 0, 1, 1]
        };
        assert_eq!(gateway.counters(), expected);
        assert_eq!(gateway.messages().len(), 2);
    }
}

#[test]
fn a_unit_that_comes_back_goes_to_one_of_those_who_ask() {
    let gateway = Gateway::with_holds(1, 1);
    gateway.held("ann");
    gateway.advance(HOLD);
    // Cleo is faster, after Bob has given Ann's unit back.
    let store = Between {
        gateway: &gateway,
        before: Cell::new(1),
        act: &|| assert_eq!(gateway.claim("cleo").status, 201),
    };
    let request = request("POST", "/api/campaigns/c/claims", &[("x-user-id", "bob")], "");
    let late = block_on(gateway.answer(&store, &request));
    assert_eq!((late.status, &body(&late)["held"]), (410, &json!(1)));
    assert_eq!(gateway.told(), ["claimed", "expired", "claimed"]);
}
