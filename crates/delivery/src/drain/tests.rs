//! Drains in a world without real time: a clock that goes on when everything waits for it.

use super::*;
use crate::lease;
use crate::relay::Blame;
use crate::relay::attempt::Answered;
use crate::subscription::{SinkKind, Subscription};
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt as _;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Poll, Waker};
use tollgate_store::commit::{Append, Commit, Mutation, literal};
use tollgate_store::memory::InMemoryStore;

const START: u64 = 1_800_000_000_000;

type Sleepers = RefCell<Vec<(u64, Rc<Cell<bool>>, Waker)>>;

/// Clock, receiver and store.
struct Scene {
    store: InMemoryStore,
    now: Cell<u64>,
    /// How far the clock of the store was set forward.
    ahead: Cell<u64>,
    sleepers: Sleepers,
    drawn: Cell<u64>,
    /// Refuses everything before this time.
    refuses_until: Cell<u64>,
    /// How long an answer takes.
    answers_in: Cell<u64>,
    /// Key and sequence of what was accepted.
    accepted: RefCell<Vec<(String, u64)>>,
    subscription: Subscription,
    /// It is in the store, not in the file.
    is_stored: Cell<bool>,
    /// Where the last one was sent to.
    last_url: RefCell<String>,
}

impl Scene {
    fn new() -> Rc<Self> {
        let mut subscription = Subscription::new("s", "https://origin.example/hook");
        subscription.rate_per_second.0 = 1_000.0;
        let scene = Self {
            store: InMemoryStore::new(),
            now: Cell::new(START),
            ahead: Cell::new(0),
            sleepers: RefCell::default(),
            drawn: Cell::new(7),
            refuses_until: Cell::new(0),
            answers_in: Cell::new(5),
            accepted: RefCell::default(),
            subscription,
            is_stored: Cell::new(false),
            last_url: RefCell::default(),
        };
        scene.store.set_now(START);
        Rc::new(scene)
    }

    /// Makes or changes the subscription over HTTP.
    fn put(&self, url: &str) {
        self.is_stored.set(true);
        let stored = subscriptions::Stored {
            id: "id".into(),
            by_id: true,
            settings: Subscription {
                url: url.into(),
                ..self.subscription.clone()
            },
            created_at: START,
            updated_at: self.now.get(),
        };
        let set = Mutation::Set {
            key: subscriptions::key("t", "s"),
            value: literal(serde_json::to_vec(&stored).unwrap()),
            expires: None,
        };
        let commit = Commit {
            partition: subscriptions::PARTITION.into(),
            mutations: vec![set],
            ..Commit::default()
        };
        self.store.commit_now(commit).unwrap();
    }

    fn append(&self, range: std::ops::RangeInclusive<u64>) {
        for n in range {
            let append = Append {
                topic: "t".into(),
                id: format!("m{n}"),
                key: format!("k{}", n % 5),
                kind: "test".into(),
                content_type: "text/plain".into(),
                attributes: Vec::new(),
                payload: literal("x"),
            };
            let commit = Commit {
                appends: vec![append],
                ..Commit::default()
            };
            self.store.commit_now(commit).unwrap();
        }
    }

    /// Runs what is on the pool until `done`, and lets time pass; whether it was done before `end`.
    fn run(&self, pool: &mut LocalPool, end: u64, done: impl Fn() -> bool) -> bool {
        loop {
            pool.run_until_stalled();
            if done() {
                return true;
            }
            let next = self.sleepers.borrow().iter().map(|(at, ..)| *at).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                return false;
            };
            self.go_on_to(next);
            let due = |at: &(u64, Rc<Cell<bool>>, Waker)| at.0 <= next;
            let (due, rest): (Vec<_>, Vec<_>) = self.sleepers.take().into_iter().partition(due);
            self.sleepers.replace(rest);
            for (_, rung, waker) in due {
                rung.set(true);
                waker.wake();
            }
        }
    }

    fn go_on_to(&self, time: u64) {
        self.now.set(self.now.get().max(time));
        self.store.set_now(self.now.get() + self.ahead.get());
    }

    fn sequences(&self) -> Vec<u64> {
        let mut all: Vec<_> = self
            .accepted
            .borrow()
            .iter()
            .map(|(_, sequence)| *sequence)
            .collect();
        all.sort_unstable();
        all
    }

    fn is_in_order(&self) -> bool {
        let mut last = BTreeMap::new();
        let accepted = self.accepted.borrow();
        accepted.iter().all(|(key, sequence)| {
            last.insert(key.clone(), *sequence)
                .is_none_or(|before| before <= *sequence)
        })
    }

    async fn is_free(&self) -> bool {
        let keys = Keys::new("t", "s");
        lease::look(&self.store, &keys).await.unwrap().ends == 0
    }
}

impl Outside for Scene {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u64 {
        let drawn = self
            .drawn
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.drawn.set(drawn);
        drawn
    }

    fn serves(&self, of: &Defined) -> bool {
        of.settings.kind == SinkKind::Http
    }

    async fn sleep(&self, ms: u64) {
        let (at, rung) = (self.now.get().saturating_add(ms), Rc::new(Cell::new(false)));
        std::future::poll_fn(|context| {
            if rung.get() {
                return Poll::Ready(());
            }
            let sleeper = (at, Rc::clone(&rung), context.waker().clone());
            self.sleepers.borrow_mut().push(sleeper);
            Poll::Pending
        })
        .await;
    }

    async fn deliver(&self, to: &Defined, message: Arc<Message>) -> (Delivered, Answered) {
        self.last_url.replace(to.settings.url.clone());
        self.sleep(self.answers_in.get()).await;
        if self.now.get() < self.refuses_until.get() {
            let refused = Delivered::refused(Blame::Origin, "the origin answered 503");
            return (refused, Answered::default());
        }
        self.accepted
            .borrow_mut()
            .push((message.key.clone(), message.sequence));
        (Delivered::Accepted, Answered::default())
    }

    async fn deliver_together(
        &self,
        to: &Defined,
        messages: &[(Arc<Message>, u32)],
    ) -> (Delivered, Answered) {
        let mut reported = (Delivered::Accepted, Answered::default());
        for (message, _) in messages {
            reported = self.deliver(to, Arc::clone(message)).await;
        }
        reported
    }

    fn note(&self, _: &Defined, _: &Note) {}
}

type Reported = Rc<RefCell<Option<Report>>>;

/// Begins a drain; what it reports, and what drops it.
fn begin(scene: &Rc<Scene>, pool: &LocalPool, until: Until) -> (Reported, futures::future::AbortHandle) {
    let (scene, reported) = (Rc::clone(scene), Reported::default());
    let report = Rc::clone(&reported);
    let drained = async move {
        let file = Some(("t", &scene.subscription)).filter(|_| !scene.is_stored.get());
        let done = drain(
            &scene.store,
            &*scene,
            || file.into_iter(),
            until,
            &Cell::new(false),
        )
        .await;
        report.replace(Some(done.unwrap()));
    };
    let (drained, handle) = futures::future::abortable(drained);
    let spawned = pool.spawner().spawn_local(async move {
        let _ = drained.await;
    });
    spawned.unwrap();
    (reported, handle)
}

fn finish(scene: &Rc<Scene>, pool: &mut LocalPool, until: Until) -> Report {
    let (reported, _) = begin(scene, pool, until);
    assert!(
        scene.run(pool, START + 3_600_000, || reported.borrow().is_some()),
        "it never ends"
    );
    reported.take().unwrap()
}

fn free(scene: &Scene) -> bool {
    futures::executor::block_on(scene.is_free())
}

#[test]
fn a_tick_delivers_what_is_there_in_order_and_ends_well_before_its_budget() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    assert_eq!(
        finish(&scene, &mut pool, Until::Budget(20_000)),
        Report::default()
    );
    assert_eq!(scene.now.get(), START, "nothing to do, so nothing is taken");
    scene.append(1..=100);
    let report = finish(&scene, &mut pool, Until::Budget(20_000));
    let expected = Report {
        delivered: 100,
        ..Report::default()
    };
    assert_eq!(report, expected);
    assert_eq!(scene.sequences(), (1..=100).collect::<Vec<_>>());
    assert!(scene.is_in_order() && free(&scene));
    assert!(scene.now.get() < START + 5_000, "{}", scene.now.get() - START);
    assert_eq!(finish(&scene, &mut pool, Until::Budget(20_000)).delivered, 0);
}

#[test]
fn a_drain_sees_an_origin_through_its_refusals_and_ends_some_time_after_the_queue_is_empty() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.refuses_until.set(START + 20_000);
    scene.append(1..=200);
    let report = finish(&scene, &mut pool, Until::Empty);
    assert_eq!((report.delivered, report.next_due_at), (200, None));
    assert!(report.failed > 0);
    assert_eq!(scene.sequences(), (1..=200).collect::<Vec<_>>(), "each once");
    assert!(scene.is_in_order() && free(&scene));
    let took = scene.now.get() - START;
    assert!((LINGER_MS + 20_000..20_000 + 120_000).contains(&took), "{took}");
}

#[test]
fn what_comes_while_a_drain_lingers_is_delivered_at_once() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.append(1..=5);
    let (reported, _) = begin(&scene, &pool, Until::Empty);
    assert!(!scene.run(&mut pool, START + 20_000, || reported.borrow().is_some()));
    scene.append(6..=10);
    assert!(scene.run(&mut pool, START + 21_000, || scene.accepted.borrow().len() == 10));
    assert!(
        !scene.run(&mut pool, START + 45_000, || reported.borrow().is_some()),
        "30 s after the last"
    );
    assert!(scene.run(&mut pool, START + 60_000, || reported.borrow().is_some()));
    assert_eq!(reported.take().unwrap().delivered, 10);
}

#[test]
fn a_tick_tells_when_something_is_due_again_and_the_next_one_delivers_it() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.refuses_until.set(START + 30_000);
    scene.append(1..=10);
    let report = finish(&scene, &mut pool, Until::Budget(2_000));
    assert!(report.failed > 0 && report.delivered == 0 && free(&scene));
    assert!(scene.now.get() < START + 4_000, "the budget holds");
    let due = report.next_due_at.expect("they wait");
    assert!(due > scene.now.get() && due < START + 10_000, "{}", due - START);
    let mut ticks = 0;
    while scene.accepted.borrow().len() < 10 {
        scene.go_on_to(scene.now.get() + 5_000);
        finish(&scene, &mut pool, Until::Budget(1_000));
        ticks += 1;
        assert!(ticks < 50);
    }
    assert_eq!(scene.sequences(), (1..=10).collect::<Vec<_>>());
}

/// A drain that lingers has the lease, and knows the subscription as it was.
#[test]
fn a_subscription_that_is_changed_is_served_anew_at_once() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.put("https://origin.example/before");
    scene.append(1..=2);
    let (reported, _) = begin(&scene, &pool, Until::Empty);
    assert!(scene.run(&mut pool, START + 1_000, || scene.accepted.borrow().len() == 2));
    scene.put("https://origin.example/after");
    scene.append(3..=3);
    assert!(scene.run(&mut pool, START + 3_000, || scene.accepted.borrow().len() == 3));
    assert_eq!(*scene.last_url.borrow(), "https://origin.example/after");
    assert!(scene.run(&mut pool, START + 60_000, || reported.borrow().is_some()));
    assert_eq!(reported.take().unwrap().delivered, 3);
}

/// Else the host that can would find the lease taken, and attempts would be used up.
#[test]
fn what_is_not_served_here_is_left_to_another_host() {
    let (mut scene, mut pool) = (Scene::new(), LocalPool::new());
    Rc::get_mut(&mut scene).unwrap().subscription.kind = SinkKind::Kafka;
    scene.append(1..=5);
    let report = finish(&scene, &mut pool, Until::Budget(5_000));
    assert_eq!((report, scene.now.get()), (Report::default(), START));
    assert!(free(&scene));
}

#[test]
fn of_two_drains_one_delivers_and_the_other_says_so() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.append(1..=50);
    let (one, _) = begin(&scene, &pool, Until::Budget(10_000));
    let (other, _) = begin(&scene, &pool, Until::Budget(10_000));
    assert!(scene.run(&mut pool, START + 20_000, || one.borrow().is_some()
        && other.borrow().is_some()));
    let reports = [one.take().unwrap(), other.take().unwrap()];
    assert_eq!(reports.map(|report| report.delivered).iter().sum::<u64>(), 50);
    assert_eq!(reports.map(|report| report.elsewhere).iter().sum::<u64>(), 1);
    assert_eq!(scene.sequences(), (1..=50).collect::<Vec<_>>(), "none twice");
}

#[test]
fn after_a_drain_that_was_killed_the_next_goes_on_once_its_lease_has_ended() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.answers_in.set(500);
    scene.append(1..=50);
    let (_, kill) = begin(&scene, &pool, Until::Empty);
    scene.run(&mut pool, START + 1_200, || false);
    let before = scene.accepted.borrow().len();
    assert!((1..50).contains(&before), "{before}");
    kill.abort();
    pool.run_until_stalled();
    assert!(!free(&scene), "nobody gave it back");
    let ends = START + 1_200 + scene.subscription.timeout.as_millis() + lease::SLACK_MS;
    assert_eq!(finish(&scene, &mut pool, Until::Budget(1_000)).elsewhere, 1);
    scene.go_on_to(ends);
    finish(&scene, &mut pool, Until::Budget(20_000));
    let mut sequences = scene.sequences();
    let twice = sequences.len() - 50;
    sequences.dedup();
    assert_eq!(sequences, (1..=50).collect::<Vec<_>>(), "all, at least once");
    assert!(twice <= 2 * 16, "{twice}");
    assert!(free(&scene));
}

#[test]
fn whoever_is_overtaken_ends_with_its_next_commit_and_little_is_sent_twice() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.answers_in.set(100);
    scene.append(1..=400);
    let (first, _) = begin(&scene, &pool, Until::Empty);
    scene.run(&mut pool, START + 1_000, || false);
    // The clock of the store is set forward: to it the lease is over, and to its holder it is not.
    scene.ahead.set(60_000);
    scene.go_on_to(scene.now.get());
    let (keys, terms) = (Keys::new("t", "s"), lease::Terms { attempt_ms: 10_000 });
    let taken = futures::executor::block_on(async {
        let found = lease::look(&scene.store, &keys).await.unwrap();
        lease::take(&scene.store, &keys, "other", terms, &found)
            .await
            .unwrap()
    });
    let before = scene.accepted.borrow().len();
    assert!(
        scene.run(&mut pool, START + 2_000, || first.borrow().is_some()),
        "the first one ends"
    );
    assert!(scene.accepted.borrow().len() <= before + 8, "and begins no more");
    futures::executor::block_on(taken.unwrap().release(&scene.store, &keys)).unwrap();
    assert_eq!(finish(&scene, &mut pool, Until::Empty).elsewhere, 0);
    let mut sequences = scene.sequences();
    let all = sequences.len();
    sequences.dedup();
    assert_eq!(sequences, (1..=400).collect::<Vec<_>>());
    assert!(all - 400 <= 3 * 8, "{} were sent twice", all - 400);
}

#[test]
fn whoever_appends_after_a_kill_waits_for_the_lease_of_the_dead() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.answers_in.set(500);
    scene.append(1..=5);
    let (_, kill) = begin(&scene, &pool, Until::Empty);
    scene.run(&mut pool, START + 600, || false);
    kill.abort();
    pool.run_until_stalled();
    assert!(!free(&scene), "nobody gave it back");
    let ends = START + 600 + scene.subscription.timeout.as_millis() + lease::SLACK_MS;
    scene.append(6..=6);
    begin(&scene, &pool, Until::Empty);
    let is_there = || scene.accepted.borrow().iter().any(|(_, sequence)| *sequence == 6);
    assert!(scene.run(&mut pool, ends + 5_000, is_there));
}

#[test]
fn whoever_finds_a_holder_that_lives_leaves_it_to_it() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.refuses_until.set(START + 50_000);
    scene.append(1..=5);
    begin(&scene, &pool, Until::Empty);
    scene.run(&mut pool, START + 1_000, || false);
    let (other, _) = begin(&scene, &pool, Until::Empty);
    assert!(scene.run(&mut pool, START + 60_000, || other.borrow().is_some()));
    // The breaker was open for longer than a drain lingers.
    assert!(scene.run(&mut pool, START + 600_000, || scene.sequences().len() == 5));
}

#[test]
fn what_failed_after_the_budget_was_used_up_is_due_again() {
    let (scene, mut pool) = (Scene::new(), LocalPool::new());
    scene.refuses_until.set(START + 30_000);
    scene.answers_in.set(1_500);
    scene.append(1..=40);
    let report = finish(&scene, &mut pool, Until::Budget(1_000));
    assert!(report.failed > 0 && report.next_due_at.is_some(), "{report:?}");
}
