//! Entries, closes, draws, background work, steps of the clock and lost replies, interleaved in any way. A draw closes once and
//! is drawn once. No entry comes in after its close, and what was answered stays true.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::task::noop_waker;
use proptest::prelude::*;

use super::*;
use tollgate_store::commit::{Entry, Item, Outcome, Topic};
use tollgate_store::memory::InMemoryStore;

#[derive(Clone, Debug)]
enum Move {
    Enter { user: u8, key: Option<u8> },
    Draw { beacon: Option<u8> },
    Look,
    Maintain,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Move> {
    prop_oneof![
        20 => (0..6_u8, proptest::option::of(0..2_u8)).prop_map(|(user, key)| Move::Enter { user, key }),
        2 => proptest::option::of(0..2_u8).prop_map(|beacon| Move::Draw { beacon }),
        3 => Just(Move::Look),
        6 => Just(Move::Maintain),
        2 => (1..40 * SECOND).prop_map(Move::Advance),
    ]
}

/// Gives way before every call, and loses the replies of some commits.
struct Stepping<'a> {
    store: &'a InMemoryStore,
    losses: RefCell<Vec<bool>>,
}

impl Stepping<'_> {
    async fn give_way(&self) {
        let waited = Cell::new(false);
        poll_fn(|_| match waited.replace(true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
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
        self.store.scan(prefix, after, limit).await
    }
    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.store.read(topic, after, limit, wait).await
    }
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.store.topics(after, limit).await
    }
}

/// What was seen on the way.
#[derive(Default)]
struct Seen {
    entries: RefCell<Vec<Value>>,
    outcomes: RefCell<BTreeSet<String>>,
}

async fn run(gateway: &Gateway, store: &Stepping<'_>, step: &Move, seen: &Seen) {
    store.give_way().await;
    let authorization = format!("Bearer {ADMIN}");
    let response = match step {
        Move::Advance(ms) => return gateway.store.set_now(gateway.store.now() + ms),
        Move::Maintain => {
            let _ = maintain(store, gateway.store.now()).await;
            return;
        }
        Move::Look => {
            gateway
                .answer(store, &request("GET", "/api/draws/d", &[], ""))
                .await
        }
        Move::Draw { beacon } => {
            let headers = [("authorization", &*authorization)];
            let body = json!({ "beacon": beacon.map(|n| format!("beacon {n}")) }).to_string();
            let request = request("POST", "/api/draws/d/draw", &headers, &*body);
            gateway.answer(store, &request).await
        }
        Move::Enter { user, key } => {
            let (user, key) = (format!("user/{user}%"), key.map(|key| format!("\"{key}\"")));
            let mut headers = vec![("x-user-id", user.as_str())];
            headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
            let request = request("POST", "/api/draws/d/entries", &headers, "");
            let response = gateway.answer(store, &request).await;
            if response.status == 201 {
                let is_replay = response.header("idempotency-replayed").is_some();
                assert!(!is_replay || key.is_some());
                seen.entries.borrow_mut().push(body(&response)["entry"].clone());
            }
            response
        }
    };
    let answer = body(&response);
    assert!(
        response.status < 500 || response.status == 503,
        "{step:?}: {answer}"
    );
    if answer["seed"].is_string() {
        assert!(
            answer["state"] == "drawn" || answer["state"] == "void",
            "{answer}"
        );
        seen.outcomes.borrow_mut().insert(answer.to_string());
    } else {
        assert!(
            answer["winningWords"].is_null() && answer["winner"].is_null(),
            "{answer}"
        );
    }
}

fn interleave(gateway: &Gateway, store: &Stepping<'_>, steps: &[Move], schedule: &[usize], seen: &Seen) {
    const WIDTH: usize = 6;
    type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let mut running: Vec<Running<'_>> = Vec::new();
    let (mut waiting, mut turns) = (steps.iter(), schedule.iter().cycle());
    loop {
        while running.len() < WIDTH {
            let Some(step) = waiting.next() else { break };
            running.push(Box::pin(run(gateway, store, step, seen)));
        }
        if running.is_empty() {
            return;
        }
        let turn = turns.next().copied().unwrap_or(0) % running.len();
        if running[turn].as_mut().poll(&mut context).is_ready() {
            drop(running.swap_remove(turn));
        }
    }
}

#[test]
fn a_lost_reply_makes_no_second_entry() {
    for key in [None, Some(0)] {
        for losses in [vec![true], vec![true, true]] {
            let gateway = Gateway::with_draw(&lottery());
            let losses = RefCell::new(losses);
            let store = Stepping {
                store: &gateway.store,
                losses,
            };
            let seen = Seen::default();
            interleave(&gateway, &store, &[Move::Enter { user: 1, key }], &[0], &seen);
            assert_eq!(seen.entries.borrow().len(), 1, "{key:?}");
            assert_eq!(
                (gateway.draw_messages().len(), &gateway.the_draw()["entries"]),
                (1, &json!(1))
            );
        }
    }
}

proptest! {
    #[test]
    fn a_draw_closes_once_and_is_drawn_once(
        steps in proptest::collection::vec(step(), 1..60),
        schedule in proptest::collection::vec(0..6_usize, 1..100),
        losses in proptest::collection::vec(proptest::bool::weighted(0.1), 0..60),
        per_user in 1..4_u64,
        announced: bool,
    ) {
        let mut draw = with(&[("perUser", json!(per_user))]);
        if announced {
            draw["beaconSource"] = json!("a coin");
        }
        let gateway = Gateway::with_draw(&draw);
        let store = Stepping { store: &gateway.store, losses: RefCell::new(losses) };
        let seen = Seen::default();
        interleave(&gateway, &store, &steps, &schedule, &seen);
        // To its end.
        gateway.store.set_now(gateway.store.now().max(CLOSE));
        gateway.maintained();
        if gateway.the_draw()["state"] == "closed" {
            prop_assert!(announced);
            gateway.draw_now(&json!({"beacon": "heads"}));
        }
        let drawn = gateway.the_draw();
        seen.outcomes.borrow_mut().insert(drawn.to_string());
        prop_assert_eq!(seen.outcomes.borrow().len(), 1, "{:?}", seen.outcomes.borrow());

        let messages = gateway.draw_messages();
        let (entered, ends): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.kind == "draw.entered");
        prop_assert_eq!(ends.len(), 1);
        prop_assert_eq!(ends[0].sequence, messages.len() as u64, "an entry after the draw");
        prop_assert_eq!(&drawn["entries"], &json!(entered.len()));
        prop_assert_eq!(drawn["state"] == "void", entered.is_empty());
        let sequences: Vec<u64> = entered
            .iter()
            .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap()["sequence"].as_u64().unwrap())
            .collect();
        prop_assert_eq!(sequences, (1..=entered.len() as u64).collect::<Vec<_>>());
        // What was answered is there, with the leaf that was told, and is proved.
        for entry in seen.entries.borrow().iter() {
            let user = entry["user"].as_str().unwrap();
            let path = format!("/api/draws/d/entries/{}/proof", user.replace('%', "%25").replace('/', "%2F"));
            let proof = body(&gateway.call("GET", &path, &[("x-user-id", user)], ""));
            prop_assert_eq!(failing(&proof, None), Vec::<String>::new());
            let entries = proof["entries"].as_array().unwrap();
            prop_assert!(entries.len() as u64 <= per_user);
            let own = entries.iter().find(|one| one["id"] == entry["id"]).unwrap();
            prop_assert_eq!(&own["leaf"], &entry["leaf"]);
        }
    }
}
