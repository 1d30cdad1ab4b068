//! Claims, what becomes of them, changes, closings, steps of the clock and lost replies, interleaved in any way. A campaign
//! of N admits at most N, and exactly N when enough users ask. Sequences are dense, and a claim is there if and only if its
//! message is. A unit that was held is back exactly once, or confirmed exactly once.

use futures::task::noop_waker;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use crate::campaigns::record::{Claim, Status};
use tollgate_store::commit::{Commit, Entry, Item, Outcome, Topic};

#[derive(Clone, Debug)]
enum Step {
    Claim {
        user: u8,
        units: u64,
        key: Option<u8>,
    },
    /// Of the claims admitted so far, the one at this index, by its user or by an operator.
    Settle {
        claim: usize,
        to: Status,
        by_user: bool,
        key: Option<u8>,
    },
    Sweep,
    /// A user's place in line is asked for, or given up.
    Join(u8),
    Leave(u8),
    Quantity(u64),
    Close,
    Open,
    EndIn(u64),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..6_u8, 1..4_u64, proptest::option::of(0..2_u8))
            .prop_map(|(user, units, key)| Step::Claim { user, units, key }),
        14 => (0..12_usize, settled(), any::<bool>(), proptest::option::of(0..2_u8))
            .prop_map(|(claim, to, by_user, key)| Step::Settle { claim, to, by_user, key }),
        3 => Just(Step::Sweep),
        6 => (0..6_u8).prop_map(Step::Join),
        2 => (0..6_u8).prop_map(Step::Leave),
        3 => (1..8_u64).prop_map(Step::Quantity),
        1 => Just(Step::Close),
        1 => Just(Step::Open),
        1 => (1..30 * SECOND).prop_map(Step::EndIn),
        2 => (1..10 * SECOND).prop_map(Step::Advance),
    ]
}

fn settled() -> impl Strategy<Value = Status> {
    prop_oneof![
        5 => Just(Status::Confirmed),
        5 => Just(Status::Released),
        1 => Just(Status::Revoked),
    ]
}

/// Gives way before every call, so that a schedule decides who is next, and loses the replies of some commits.
struct Stepping<'a> {
    store: &'a InMemoryStore,
    losses: RefCell<Vec<bool>>,
    /// Claims at the moment the campaign was closed.
    at_close: Cell<Option<usize>>,
    /// Entries that scans have given.
    scanned: Cell<usize>,
}

impl<'a> Stepping<'a> {
    fn new(store: &'a InMemoryStore, losses: Vec<bool>) -> Self {
        Self {
            store,
            losses: RefCell::new(losses),
            at_close: Cell::new(None),
            scanned: Cell::new(0),
        }
    }
    async fn give_way(&self) {
        let waited = Cell::new(false);
        poll_fn(|_| {
            if waited.replace(true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Store for Stepping<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.give_way().await;
        if self.losses.borrow_mut().pop() == Some(true) {
            self.store.fail_next(StoreError::Unknown("lost".into()));
        }
        self.store.commit(commit).await
    }
    fn defer(&self, commit: Commit) {
        self.store.defer(commit);
    }
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.give_way().await;
        self.store.get(partition, keys).await
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.give_way().await;
        let items = self.store.scan(prefix, after, limit).await?;
        self.scanned.set(self.scanned.get() + items.len());
        Ok(items)
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.give_way().await;
        self.store.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.give_way().await;
        self.store.topics(after, limit).await
    }
}

fn user(number: u8) -> String {
    format!("user/{number}%")
}

/// What a step asks for; a claim that is to be settled is one of those that were admitted when it begins.
fn as_request(step: &Step, now: u64, admitted: &[Message], per_user: u64) -> Option<Request> {
    let authorization = format!("Bearer {ADMIN}");
    let patch = |body: Value| {
        Some(request(
            "PATCH",
            "/api/campaigns/c",
            &[("authorization", &authorization)],
            &*body.to_string(),
        ))
    };
    match step {
        Step::Claim {
            user: number,
            units,
            key,
        } => {
            let (user, key) = (user(*number), key.map(|key| format!("\"{key}\"")));
            let mut headers = vec![("x-user-id", user.as_str())];
            headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
            // One user may have so many.
            let body = match (*units).min(per_user) {
                1 => String::new(),
                units => json!({"units": units, "metadata": {"n": -units.cast_signed()}}).to_string(),
            };
            Some(request("POST", "/api/campaigns/c/claims", &headers, &*body))
        }
        Step::Settle {
            claim,
            to,
            by_user,
            key,
        } => {
            let message = admitted.get(claim % admitted.len().max(1))?;
            let verb = match to {
                Status::Confirmed => "confirm",
                Status::Released => "release",
                _ => "revoke",
            };
            let key = key.map(|key| format!("\"{key}\""));
            // In a campaign without holds an operator names the user.
            let mut headers = vec![("x-user-id", message.key.as_str())];
            if !by_user || *to == Status::Revoked {
                headers.push(("authorization", &authorization));
            }
            headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
            let path = format!("/api/campaigns/c/claims/{}/{verb}", message.id);
            Some(request("POST", &path, &headers, ""))
        }
        Step::Join(number) | Step::Leave(number) => {
            let method = if matches!(step, Step::Join(_)) {
                "POST"
            } else {
                "DELETE"
            };
            let headers = [("x-user-id", &*user(*number))];
            Some(request(method, "/api/campaigns/c/waitlist", &headers, ""))
        }
        Step::Quantity(quantity) => patch(json!({"quantity": quantity})),
        Step::Close => patch(json!({"state": "closed"})),
        Step::Open => patch(json!({"state": "open"})),
        Step::EndIn(ms) => patch(json!({"endsAt": time::format(now + ms)})),
        Step::Advance(_) | Step::Sweep => None,
    }
}

async fn run(gateway: &Gateway, store: &Stepping<'_>, step: &Step) -> Option<Response> {
    store.give_way().await;
    let mut admitted = gateway.messages();
    admitted.retain(|message| message.kind == "coupon.claimed");
    let campaign = gateway.campaign();
    let per_user = match campaign["codes"] == "import" {
        // Each takes one code.
        true => 1,
        false => campaign["perUser"].as_u64().unwrap(),
    };
    match (step, as_request(step, gateway.store.now(), &admitted, per_user)) {
        (_, Some(request)) => {
            let response = gateway.answer(store, &request).await;
            // Nothing gives way between a commit and its response.
            if matches!(step, Step::Close) && response.status == 200 && store.at_close.get().is_none() {
                store.at_close.set(Some(stored_claims(gateway).len()));
            }

            if let Step::Settle { to, .. } = step
                && response.status == 200
            {
                let answer = body(&response);
                let id = answer["claim"]["id"].as_str().unwrap();
                let announced = gateway.messages();
                let message = announced
                    .iter()
                    .any(|message| message.id == format!("{id}-{}", to.name()));
                let without_hold = answer["claim"]["status"] == "confirmed";
                assert!(
                    message || without_hold,
                    "{answer} was told, and its message is not there"
                );
            }
            Some(response)
        }
        (Step::Advance(ms), None) => {
            gateway.store.set_now(gateway.store.now() + ms);
            None
        }
        (Step::Sweep, None) => {
            let _ = crate::campaigns::maintain(store, gateway.store.now()).await;
            None
        }
        _ => None,
    }
}

/// Polls the steps, at most `width` of them at once, in the order that `schedule` picks.
fn interleave(
    gateway: &Gateway,
    store: &Stepping<'_>,
    steps: &[Step],
    width: usize,
    schedule: &[usize],
) -> Vec<Response> {
    type Running<'a> = Pin<Box<dyn Future<Output = Option<Response>> + 'a>>;
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let (mut running, mut responses): (Vec<Running<'_>>, Vec<Response>) = (Vec::new(), Vec::new());
    let (mut waiting, mut turns) = (steps.iter(), schedule.iter().cycle());
    loop {
        while running.len() < width {
            let Some(step) = waiting.next() else { break };
            running.push(Box::pin(run(gateway, store, step)));
        }
        if running.is_empty() {
            return responses;
        }
        let turn = turns.next().copied().unwrap_or(0) % running.len();
        if let Poll::Ready(response) = running[turn].as_mut().poll(&mut context) {
            responses.extend(response);
            drop(running.swap_remove(turn));
        }
    }
}

fn stored_claims(gateway: &Gateway) -> BTreeMap<String, Claim> {
    let items = block_on(gateway.store.scan("claim/c/", None, 1_000)).unwrap();
    let claims = items
        .iter()
        .map(|item| serde_json::from_slice(&item.entry.value).unwrap());
    claims.map(|claim: Claim| (claim.id.clone(), claim)).collect()
}

/// Each code is one claim's, or nobody's. Those of claims that were revoked stay where they are; their number.
fn check_codes(gateway: &Gateway, claims: &BTreeMap<String, Claim>, imported: usize) -> usize {
    let free = block_on(gateway.store.scan("pool/c/", None, 1_000)).unwrap();
    let free = free
        .iter()
        .map(|item| String::from_utf8(item.entry.value.clone()).unwrap());
    let given = claims.values().filter_map(|claim| claim.code.clone());
    let all: Vec<String> = free.chain(given).collect();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(
        (all.len(), distinct.len()),
        (imported, imported),
        "a code twice, or lost"
    );
    for claim in claims.values() {
        let was_shown = matches!(claim.status, Status::Confirmed);
        assert!(!was_shown || claim.code.is_some(), "{claim:?}");
    }
    claims
        .values()
        .filter(|claim| claim.status == Status::Revoked && claim.code.is_some())
        .count()
}

/// Every user in line has one place, every place a user, and they are counted.
fn check_line(gateway: &Gateway, campaign: &Value) {
    let keys = |prefix: &str| block_on(gateway.store.scan(prefix, None, 1_000)).unwrap();
    let (line, waiters) = (keys("line/c/"), keys("waiter/c/"));
    let places: BTreeSet<String> = line.into_iter().map(|item| item.key).collect();
    let led_to = waiters
        .iter()
        .map(|item| String::from_utf8(item.entry.value.clone()).unwrap());
    assert_eq!(places, led_to.collect::<BTreeSet<_>>());
    assert_eq!(campaign["waiting"].as_u64().unwrap_or(0), waiters.len() as u64);
}

fn check(gateway: &Gateway, per_user: usize) {
    let (claims, messages, campaign) = (stored_claims(gateway), gateway.messages(), gateway.campaign());
    let quantity = campaign["quantity"].as_u64().unwrap() as usize;
    let count = |of: &dyn Fn(Status) -> bool| claims.values().filter(|claim| of(claim.status)).count();
    let units = |of: &dyn Fn(Status) -> bool| {
        let claims = claims.values().filter(|claim| of(claim.status));
        claims.map(|claim| claim.units as usize).sum::<usize>()
    };
    let live = units(&Status::is_live);
    assert!(live <= quantity, "{live} of {quantity}");
    check_line(gateway, &campaign);
    let is_imported = campaign["codes"] == "import";
    let burnt = match is_imported {
        true => check_codes(gateway, &claims, quantity),
        false => 0,
    };
    let numbers = json!({
        "admitted": live, "remaining": quantity - live - burnt, "released": units(&|_| true) - live - burnt,
        "held": units(&|status| status == Status::Held), "confirmed": units(&|status| status == Status::Confirmed),
    });
    for (name, number) in numbers.as_object().unwrap() {
        assert_eq!(&campaign[name], number, "{name}");
    }

    let sequences: BTreeSet<u64> = claims
        .values()
        .filter_map(|claim| claim.sequence.known())
        .collect();
    assert_eq!(sequences, (1..=claims.len() as u64).collect());
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for claim in claims.values().filter(|claim| claim.status.is_live()) {
        *held.entry(&claim.user).or_default() += claim.units as usize;
    }
    assert!(held.values().all(|&count| count <= per_user), "{held:?}");

    // What the messages tell of each claim, in order, ends with how it is.
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut next = 1;
    for message in &messages {
        let data: Value = serde_json::from_slice(&message.payload).unwrap();
        let claim = &claims[data["claim"].as_str().unwrap()];
        assert_eq!(data["user"], claim.user);
        assert_eq!(data["sequence"].as_u64(), claim.sequence.known());
        assert_eq!(data["units"], claim.units);
        let metadata = claim.metadata.clone().unwrap_or_default();
        assert_eq!(data["metadata"], metadata);
        if message.kind == "coupon.claimed" {
            assert_eq!((&message.id, &data["sequence"]), (&claim.id, &json!(next)));
            next += 1;
        } else {
            assert_eq!(
                message.kind,
                format!("coupon.{}", data["status"].as_str().unwrap())
            );
        }
        let status = data["status"].as_str().unwrap().to_owned();
        told.entry(claim.id.clone()).or_default().push(status);
    }
    for claim in claims.values() {
        let told: Vec<_> = told.remove(&claim.id).unwrap_or_default();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(told.last(), Some(&claim.status.name()), "{claim:?}");
        let fates: &[&[&str]] = match campaign["holdSeconds"].is_null() {
            true => &[&["confirmed"], &["confirmed", "revoked"]],
            false => &[
                &["held"],
                &["held", "released"],
                &["held", "expired"],
                &["held", "revoked"],
                &["held", "confirmed"],
                &["held", "confirmed", "revoked"],
            ],
        };
        assert!(fates.contains(&&told[..]), "{told:?}");
    }
    let left = [("hold/c/", "held"), ("holder/c/", "")].map(|(prefix, _)| {
        let items = block_on(gateway.store.scan(prefix, None, 1_000)).unwrap();
        items.len()
    });
    assert_eq!(
        left[0],
        count(&|status| status == Status::Held),
        "holds in the order of their ends"
    );
    assert!(campaign["holdSeconds"].is_null() || left[1] == claims.len());
}

#[test]
fn claims_that_come_at_once_read_codes_for_each_other() {
    const CLAIMS: usize = 250;
    for order in ["random", "import"] {
        let gateway = Gateway::with_campaign(json!({ "id": "c", "codes": "import", "codeOrder": order }));
        let codes: Vec<String> = (0..2_000).map(|n| format!("code-{n}")).collect();
        let imported = gateway.admin("POST", "/api/campaigns/c/codes", &json!({ "codes": codes }));
        assert_eq!(imported.status, 200);
        let claims: Vec<Step> = (0..CLAIMS as u8)
            .map(|user| Step::Claim {
                user,
                units: 1,
                key: None,
            })
            .collect();
        let store = Stepping::new(&gateway.store, Vec::new());
        let turns: Vec<usize> = (0..CLAIMS).collect();
        let responses = interleave(&gateway, &store, &claims, CLAIMS, &turns);
        assert!(responses.iter().all(|response| response.status == 201));
        // Each for itself would read a page.
        let scanned = store.scanned.get();
        assert!(
            scanned < 8 * CLAIMS,
            "{order}: {scanned} entries for {CLAIMS} claims"
        );
    }
}

proptest! {
    #[test]
    fn a_campaign_admits_exactly_n_whatever_happens(
        quantity in 1..6_u64,
        per_user in 1..4_usize,
        hold_seconds in proptest::option::weighted(0.7, 1..20_u64),
        steps in proptest::collection::vec(step(), 1..40),
        width in 1..8_usize,
        schedule in proptest::collection::vec(0..64_usize, 1..64),
        losses in proptest::collection::vec(proptest::bool::weighted(0.15), 0..40),
        is_lined in proptest::bool::weighted(0.5),
        order in proptest::option::weighted(0.4, proptest::sample::select(vec!["import", "random"])),
    ) {
        let mut campaign = json!({"id": "c", "perUser": per_user, "holdSeconds": hold_seconds});
        if hold_seconds.is_some() && is_lined {
            campaign["waitlist"] = true.into();
        }
        match order {
            Some(order) => (campaign["codes"], campaign["codeOrder"]) = ("import".into(), order.into()),
            None => campaign["quantity"] = quantity.into(),
        }
        let gateway = Gateway::with_campaign(campaign);
        if order.is_some() {
            let codes: Vec<String> = (0..quantity).map(|n| format!("code-{n}")).collect();
            let imported = gateway.admin("POST", "/api/campaigns/c/codes", &json!({"codes": codes}));
            prop_assert_eq!(imported.status, 200);
        }
        let store = Stepping::new(&gateway.store, losses);
        let responses = interleave(&gateway, &store, &steps, width, &schedule);
        check(&gateway, per_user);

        let known = stored_claims(&gateway);
        let may_admit = steps.iter().any(|step| matches!(step, Step::Open));
        let at_close = store.at_close.get().filter(|_| !may_admit);
        prop_assert!(at_close.is_none_or(|claims| claims == known.len()), "admitted after closing");
        for response in &responses {
            let expected = [200, 201, 204, 403, 409, 410, 422, 503].contains(&response.status)
                // The stock is what was imported.
                || order.is_some() && response.status == 400;
            prop_assert!(expected, "{} {}", response.status, String::from_utf8_lossy(&response.body));
            if response.status == 201 && body(response)["claim"].is_object() {
                // Whoever was told that it is admitted is. What became of it since, others were told.
                let answer = body(response);
                let claim = &known[answer["claim"]["id"].as_str().unwrap()];
                let view = serde_json::to_value(claim.view()).unwrap();
                for field in ["id", "campaign", "user", "sequence"] {
                    prop_assert_eq!(&answer["claim"][field], &view[field]);
                }
                if answer["claim"]["status"] == view["status"] {
                    let mut told = answer["claim"].clone();
                    prop_assert_eq!(told["receipt"].is_string(), view["status"] == "confirmed");
                    told["receipt"] = Value::Null;
                    prop_assert_eq!(&told, &view);
                }
            }
        }

        // And when enough users ask, all of it goes: what is held meanwhile comes back, with nobody's help.
        let now = gateway.store.now();
        gateway.store.set_now(now + 20 * SECOND);
        let open = |gateway: &Gateway| gateway.campaign()["state"] == "open";
        // Those in line come first: they are served with what comes back, or leave.
        while matches!(block_on(crate::campaigns::maintain(&gateway.store, gateway.store.now())), Ok(true)) {}
        for number in 0..6 {
            gateway.call("DELETE", "/api/campaigns/c/waitlist", &[("x-user-id", &user(number))], "");
        }
        gateway.store.set_now(gateway.store.now() + 40 * SECOND);
        check(&gateway, per_user);
        let left = |gateway: &Gateway| {
            let campaign = gateway.campaign();
            campaign["remaining"].as_u64().unwrap() + campaign["held"].as_u64().unwrap()
        };
        if open(&gateway) || gateway.campaign()["state"] == "soldOut" {
            for number in 0..left(&gateway) {
                prop_assert_eq!(gateway.claim(&format!("late-{number}")).status, 201);
            }
            prop_assert_eq!(gateway.claim("too-late").status, 410);
            check(&gateway, per_user);
        }
    }
}
