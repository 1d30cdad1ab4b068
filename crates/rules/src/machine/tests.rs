//! The machine: each call in its steps, with one charge and the effects of its rule.

use std::cell::Cell;
use std::collections::HashMap;

use futures::executor::block_on;
use serde_json::{Value, json};

use super::*;
use crate::keys;
use crate::links::stats::{MAX_WAITING, round};
use tollgate_store::bucket::{State, take_all};
use tollgate_store::commit::Mutation;
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::ports::Store;

const ADMIN: &str = "an-admin-key-for-tests";
const CONFIG: &str = r#"
[[limits]]
name = "each"
capacity = 3
refill = 1
interval = "1h"

[[forward]]
path = "/signup"
topic = "signups"
"#;

mod configure;

/// A store, whose entries are in memory or all have to be waited for, and buckets.
struct Node {
    store: InMemoryStore,
    warm: Cell<bool>,
    buckets: RefCell<HashMap<String, State>>,
    takes: Cell<u32>,
    /// Whether takes are decided elsewhere.
    elsewhere: Cell<bool>,
}

impl Node {
    fn take(&self, buckets: &[Bucket]) -> Result<Vec<Level>, TakeError> {
        self.takes.set(self.takes.get() + 1);
        let mut all = self.buckets.borrow_mut();
        let state = |bucket: &Bucket| all.get(&bucket.key).copied();
        let mut states: Vec<_> = buckets.iter().map(state).collect();
        let levels = take_all(&mut states, buckets, 0)?;
        let kept = buckets.iter().zip(states);
        all.extend(kept.filter_map(|(bucket, state)| Some((bucket.key.clone(), state?))));
        Ok(levels)
    }
}

#[derive(Clone)]
struct Shared(Rc<Node>);

impl Memory for Shared {
    fn take(&self, buckets: Vec<Bucket>) -> Taken<Vec<Bucket>, Vec<Level>> {
        match self.0.elsewhere.get() {
            true => Taken::Elsewhere(buckets),
            false => Taken::Decided(self.0.take(&buckets)),
        }
    }

    fn take_one(&self, bucket: Bucket) -> Taken<Bucket, Level> {
        match self.0.elsewhere.get() {
            true => Taken::Elsewhere(bucket),
            false => Taken::Decided(self.0.take(&[bucket]).map(|levels| levels[0])),
        }
    }

    fn get(&self, key: &str) -> Option<Option<Entry>> {
        let found = block_on(self.0.store.get("", &[key.to_owned()])).unwrap();
        self.0.warm.get().then(|| found.into_iter().next().flatten())
    }

    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        let found = block_on(self.0.store.get("", keys)).unwrap();
        self.0.warm.get().then_some(found)
    }

    fn defer(&self, commits: Vec<Commit>) {
        for commit in commits {
            self.0.store.defer(commit);
        }
    }
}

fn fresh() -> [u8; 16] {
    thread_local!(static COUNT: Cell<u128> = const { Cell::new(0) });
    COUNT.with(|count| {
        count.set(count.get() + 1);
        count.get().to_be_bytes()
    })
}

struct Gateway {
    node: Rc<Node>,
    machine: Machine<Shared>,
    settings: Settings,
}

impl Gateway {
    fn new(warm: bool) -> Self {
        let store = InMemoryStore::new();
        block_on(keys::install_admin(&store, ADMIN, START)).unwrap();
        let node = Rc::new(Node {
            store,
            warm: Cell::new(warm),
            buckets: RefCell::default(),
            takes: Cell::new(0),
            elsewhere: Cell::new(false),
        });
        let settings = Settings::parse(CONFIG, "test").unwrap();
        let machine = Machine::new(settings.clone(), Shared(Rc::clone(&node)), fresh);
        let gateway = Self {
            node,
            machine,
            settings,
        };
        let link = json!({"url": "https://a.example/", "code": "hello"});
        gateway.set_up("/api/links", &link);
        let link = json!({"url": "https://a.example/", "code": "twice", "maxVisits": 2});
        gateway.set_up("/api/links", &link);
        gateway.set_up("/api/campaigns", &json!({"id": "sale", "quantity": 2}));
        gateway
    }

    /// Creates something, by the component's own rule.
    fn set_up(&self, path: &str, body: &Value) {
        let request = as_admin("POST", path, &body.to_string());
        let world = World {
            store: &self.node.store,
            settings: &self.settings,
            now: START,
            fresh: &fresh,
        };
        let response = match path {
            "/api/links" => block_on(links::handle(&world, &request)),
            _ => block_on(campaigns::handle(&world, &request)),
        };
        assert_eq!(response.status, 201, "{response:?}");
    }

    fn start(&mut self, request: Request) -> Step {
        self.start_with(&request, false)
    }

    fn start_with(&mut self, request: &Request, body_follows: bool) -> Step {
        let head = heads::head_of(request);
        self.machine.start(&head, START, body_follows, Stage::Arrived)
    }

    /// The answer to a request that another machine has admitted, and the kinds of call that it took.
    fn admitted(&mut self, request: &Request) -> (heads::Response, Vec<&'static str>) {
        let (head, has_body) = (heads::head_of(request), !request.body.is_empty());
        let mut step = self.machine.start(&head, START, has_body, Stage::Admitted);
        let mut calls = Vec::new();
        loop {
            let (task, call) = match step {
                Step::Done(response) => return (response, calls),
                Step::Waits(task, call) => (task, call),
                other => panic!("{other:?}"),
            };
            calls.push(kind(&call));
            let reply = match call {
                Call::Body(_) => Reply::Body(request.body.clone()),
                call => self.reply(call),
            };
            step = self.machine.resume(task, reply);
        }
    }

    /// What the store has counted for a link, with all that was deferred.
    fn visits(&mut self, code: &str) -> String {
        self.machine.flush();
        let found = block_on(self.node.store.scan(&format!("visits/{code}/"), None, 2)).unwrap();
        assert!(found.len() < 2, "one link, one counter");
        let value = found.into_iter().next().map(|item| item.entry.value);
        String::from_utf8(value.unwrap_or_default()).unwrap()
    }

    /// What the store says to a call.
    fn reply(&self, call: Call) -> Reply {
        let store = &self.node.store;
        match call {
            Call::Packed(_) | Call::PackedEach(_) => panic!("the rules themselves pack nothing"),
            Call::Commits(commits) => Reply::Commits(block_on(store.commit_each(commits))),
            Call::Commit(commit) => Reply::Commit(block_on(store.commit(commit))),
            Call::Get(keys) => Reply::Get(block_on(store.get("", &keys))),
            Call::Scan { prefix, after, limit } => {
                Reply::Scan(block_on(store.scan(&prefix, after.as_deref(), limit)))
            }
            Call::Read {
                topic,
                after,
                limit,
                wait,
            } => Reply::Read(block_on(store.read(&topic, after, limit, wait))),
            Call::Topics { after, limit } => Reply::Topics(block_on(store.topics(after.as_deref(), limit))),
            Call::Settle => Reply::Settle(block_on(store.settle())),
            Call::Take(buckets) => Reply::Take(self.node.take(&buckets)),
            Call::Post { .. } => panic!("nobody is asked"),
            Call::Body(_) => panic!("there is no body"),
        }
    }

    /// Goes through all steps.
    fn answer(&mut self, request: Request) -> Step {
        let mut step = self.start(request);
        while let Step::Waits(task, call) = step {
            let reply = self.reply(call);
            step = self.machine.resume(task, reply);
        }
        step
    }

    fn status(&mut self, request: Request) -> u16 {
        match self.answer(request) {
            Step::Done(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(&self) -> usize {
        self.machine.tasks.iter().flatten().count()
    }
}

fn kind(call: &Call) -> &'static str {
    match call {
        Call::Commit(_) | Call::Packed(_) => "commit",
        Call::Commits(_) | Call::PackedEach(_) => "commits",
        Call::Get(_) => "get",
        Call::Scan { .. } => "scan",
        Call::Read { .. } => "read",
        Call::Topics { .. } => "topics",
        Call::Settle => "settle",
        Call::Take(_) => "take",
        Call::Post { .. } => "post",
        Call::Body(_) => "body",
    }
}

fn as_admin(method: &str, path: &str, body: &str) -> Request {
    let bearer = format!("Bearer {ADMIN}");
    Request {
        body: body.into(),
        ..request(
            method,
            path,
            &[("authorization", &bearer), ("content-type", "application/json")],
        )
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query: None,
        headers: headers
            .iter()
            .map(|(name, value)| Header::new((*name).to_owned(), *value))
            .collect(),
        body: Vec::new(),
        peer: "192.0.2.1".into(),
    }
}

fn claim(user: &str, peer: &str) -> Request {
    Request {
        peer: peer.into(),
        ..request("POST", "/api/campaigns/sale/claims", &[("x-user-id", user)])
    }
}

#[test]
fn a_redirect_from_memory_is_one_step_and_one_visit() {
    let mut gateway = Gateway::new(true);
    let Step::Done(response) = gateway.start(request("GET", "/hello", &[])) else {
        panic!("it waited")
    };
    assert_eq!(response.status, 302);
    assert_eq!(gateway.node.takes.get(), 1);
    assert_eq!(gateway.visits("hello"), "1");
}

#[test]
fn a_redirect_that_is_not_in_memory_is_waited_for_and_charged_and_counted_once() {
    let mut gateway = Gateway::new(false);
    let step = gateway.start(request("GET", "/hello", &[]));
    let Step::Waits(task, call) = step else {
        panic!("{step:?}")
    };
    assert_eq!(call, Call::Get(vec!["link/hello".into()]));
    let reply = gateway.reply(call);
    let step = gateway.machine.resume(task, reply);
    assert!(
        matches!(&step, Step::Done(response) if response.status == 302),
        "{step:?}"
    );
    assert_eq!(gateway.node.takes.get(), 1);
    assert_eq!(gateway.visits("hello"), "1");
    assert_eq!(gateway.waiting(), 0);
}

#[test]
fn a_take_that_is_decided_elsewhere_is_waited_for_and_made_once() {
    let mut gateway = Gateway::new(true);
    gateway.node.elsewhere.set(true);
    for left in [2, 1, 0] {
        let step = gateway.start(request("GET", "/hello", &[]));
        let Step::Waits(task, call) = step else {
            panic!("{step:?}")
        };
        assert!(
            matches!(&call, Call::Take(buckets) if buckets.len() == 1),
            "{call:?}"
        );
        assert_eq!(gateway.node.takes.get(), 2 - left, "nothing is taken before");
        let reply = gateway.reply(call);
        let step = gateway.machine.resume(task, reply);
        assert!(
            matches!(&step, Step::Done(response) if response.status == 302),
            "{step:?}"
        );
    }
    assert_eq!(gateway.status(request("GET", "/hello", &[])), 429);
    assert_eq!((gateway.visits("hello").as_str(), gateway.waiting()), ("3", 0));
    // A call that another group answers is admitted all the same.
    let mut gateway = Gateway::new(true);
    gateway.node.elsewhere.set(true);
    assert!(matches!(
        gateway.answer(as_admin("GET", "/api/links", "")),
        Step::Admitted(_)
    ));
    // Who cannot be asked: the limit lets it through.
    let Step::Waits(task, _) = gateway.start(request("GET", "/hello", &[])) else {
        panic!("it did not wait")
    };
    let away = Reply::Take(Err(TakeError::Unavailable("away".into())));
    let step = gateway.machine.resume(task, away);
    assert!(
        matches!(&step, Step::Done(response) if response.status == 302),
        "{step:?}"
    );
}

#[test]
fn claims_are_exact_and_the_verdicts_are_those_of_the_rule() {
    for warm in [true, false] {
        let mut gateway = Gateway::new(warm);
        let statuses: Vec<u16> = [
            ("ann", "192.0.2.1"),
            ("ann", "192.0.2.2"),
            ("bob", "192.0.2.3"),
            ("eve", "192.0.2.4"),
        ]
        .map(|(user, peer)| gateway.status(claim(user, peer)))
        .into();
        assert_eq!(statuses, [201, 409, 201, 410], "warm: {warm}");
        assert_eq!(gateway.waiting(), 0);
    }
}

#[test]
fn an_exact_link_redirects_as_often_as_it_may() {
    let mut gateway = Gateway::new(true);
    let visit = |peer: &str| Request {
        peer: peer.into(),
        ..request("GET", "/twice", &[])
    };
    let statuses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|peer| gateway.status(visit(peer)));
    assert_eq!(statuses, [302, 302, 410]);
}

#[test]
fn the_limiter_comes_first_and_refuses_without_anything_else() {
    let mut gateway = Gateway::new(true);
    let statuses = [(); 4].map(|()| gateway.status(request("GET", "/hello", &[])));
    assert_eq!(statuses, [302, 302, 302, 429]);
    assert_eq!(gateway.status(claim("ann", "192.0.2.1")), 429);
    assert_eq!(gateway.visits("hello"), "3");
}

#[test]
fn what_is_not_on_the_hot_path_is_charged_and_admitted() {
    for (method, path) in [
        ("GET", "/api/links"),
        ("POST", "/api/links"),
        ("GET", "/api/campaigns/sale"),
        ("POST", "/api/campaigns"),
        ("GET", "/api/topics"),
        ("GET", "/robots.txt"),
    ] {
        let mut gateway = Gateway::new(true);
        let step = gateway.start(request(method, path, &[]));
        assert!(matches!(step, Step::Admitted(_)), "{method} {path}: {step:?}");
        assert_eq!(gateway.node.takes.get(), 1);
    }
}

#[test]
fn what_was_admitted_is_answered_and_not_charged_again() {
    for warm in [true, false] {
        let mut gateway = Gateway::new(warm);
        for (method, path, body, status, call) in [
            (
                "POST",
                "/api/links",
                r#"{"url": "https://b.example/"}"#,
                201,
                "body",
            ),
            ("GET", "/api/links", "", 200, "scan"),
            ("PATCH", "/api/links/hello", r#"{"maxVisits": 5}"#, 200, "settle"),
            ("POST", "/api/topics/news/messages", "{}", 202, "commit"),
            ("GET", "/api/topics/news/messages", "", 200, "read"),
            ("GET", "/api/topics", "", 200, "topics"),
            (
                "POST",
                "/api/keys",
                r#"{"name": "a", "scopes": ["links"]}"#,
                201,
                "commit",
            ),
            ("GET", "/api/campaigns/sale", "", 200, ""),
            ("GET", "/robots.txt", "", 200, ""),
            ("GET", "/api/nothing", "", 404, ""),
        ] {
            let (response, calls) = gateway.admitted(&as_admin(method, path, body));
            let said = String::from_utf8_lossy(&response.body);
            assert_eq!(response.status, status, "{method} {path}: {said}");
            assert!(
                call.is_empty() || calls.contains(&call),
                "{method} {path}: {calls:?}"
            );
            assert_eq!(calls.contains(&"body"), !body.is_empty(), "{method} {path}");
        }
        assert_eq!(gateway.node.takes.get(), 0);
        assert_eq!(gateway.waiting(), 0);
    }
}

#[test]
fn what_the_form_of_a_link_sends_is_judged_elsewhere() {
    let mut gateway = Gateway::new(true);
    let button = request(
        "POST",
        "/twice",
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    let step = gateway.start_with(&button, true);
    assert!(matches!(step, Step::Admitted(_)), "{step:?}");
}

#[test]
fn a_caller_whose_key_is_not_in_memory_is_waited_for() {
    let mut gateway = Gateway::new(false);
    let bearer = format!("Bearer {ADMIN}");
    let request = || request("GET", "/api/links", &[("authorization", &bearer)]);
    let step = gateway.start(request());
    assert!(matches!(step, Step::Waits(_, Call::Get(_))), "{step:?}");
    assert_eq!(
        gateway.node.takes.get(),
        0,
        "nothing is charged before the client is known"
    );
    assert!(matches!(gateway.answer(request()), Step::Admitted(_)));
    assert_eq!(gateway.node.takes.get(), 1);
}

#[test]
fn a_body_is_asked_for_after_the_verdict_and_only_where_it_is_used() {
    let mut gateway = Gateway::new(true);
    let sign_up = request("POST", "/signup", &[("content-type", "text/plain")]);
    let step = gateway.start_with(&sign_up, true);
    let Step::Waits(task, Call::Body(_)) = step else {
        panic!("{step:?}")
    };
    let mut step = gateway
        .machine
        .resume(task, Reply::Body(b"ann@example.com".to_vec()));
    while let Step::Waits(task, call) = step {
        let reply = gateway.reply(call);
        step = gateway.machine.resume(task, reply);
    }
    assert!(
        matches!(&step, Step::Done(response) if response.status == 202),
        "{step:?}"
    );
    let messages = block_on(gateway.node.store.read("signups", 0, 10, 0)).unwrap();
    assert_eq!(messages[0].payload, b"ann@example.com");
    assert_eq!(gateway.machine.bodies, 0);
    let step = gateway.start_with(&request("GET", "/hello", &[]), true);
    assert!(
        matches!(step, Step::Done(_)),
        "a redirect has no use for a body: {step:?}"
    );
}

#[test]
fn who_may_not_send_many_is_told_what_the_limiter_adds() {
    let mut gateway = Gateway::new(true);
    let step = gateway.answer(request("POST", "/api/links/bulk", &[]));
    let Step::Done(response) = step else {
        panic!("{step:?}")
    };
    assert_eq!(response.status, 401);
    let mut names = heads::pairs(&response.headers).map(|(name, _)| name);
    assert!(names.any(|name| name == b"ratelimit"));
}

#[test]
fn a_body_that_cannot_be_had_is_told_with_what_the_request_was_counted_for() {
    let mut gateway = Gateway::new(true);
    const COUNTED: &str = "[[quotas]]\nname = \"few\"\nlimit = 1\nwindow = \"day\"\ncount = \"status:2xx\"\n";
    let settings = Settings::parse(&format!("{CONFIG}{COUNTED}"), "test").unwrap();
    gateway.machine.configure(settings);
    let sign_up = request("POST", "/signup", &[("content-type", "text/plain")]);
    for _ in 0..3 {
        let mut step = gateway.start_with(&sign_up, true);
        let (task, held) = loop {
            match step {
                Step::Waits(task, Call::Body(held)) => break (task, held),
                Step::Waits(task, call) => {
                    let reply = gateway.reply(call);
                    step = gateway.machine.resume(task, reply);
                }
                other => panic!("it is let through: {other:?}"),
            }
        };
        let held = held.expect("it is reserved");
        gateway.machine.cancel(task);
        block_on(quotas::settle(&gateway.node.store, &held, Some(413))).unwrap();
    }
}

#[test]
fn what_waits_is_bounded_and_given_up_when_its_caller_goes() {
    let mut gateway = Gateway::new(true);
    let mut tasks = Vec::new();
    for number in 0..=MAX_TASKS {
        let step = gateway.start(claim(
            &format!("user{number}"),
            &format!("10.0.{}.{}", number / 256, number % 256),
        ));
        match step {
            Step::Waits(task, _) => tasks.push(task),
            Step::Busy => assert_eq!(number, MAX_TASKS),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tasks.len(), MAX_TASKS);
    for task in tasks {
        gateway.machine.cancel(task);
        gateway.machine.cancel(task);
    }
    assert_eq!(gateway.waiting(), 0);
    assert_eq!(
        gateway.status(claim("ann", "192.0.2.1")),
        201,
        "there is room again"
    );
    assert_eq!(gateway.machine.free.len(), MAX_TASKS, "each number is free once");
}

#[test]
fn the_bodies_of_what_waits_are_bounded_together() {
    let mut gateway = Gateway::new(true);
    let large = MAX_BODIES / 4;
    let mut send = |number: u32| {
        let request = Request {
            peer: format!("192.0.2.{number}"),
            ..request("POST", "/signup", &[("content-type", "text/plain")])
        };
        let Step::Waits(task, Call::Body(_)) = gateway.start_with(&request, true) else {
            panic!("it did not ask for the body")
        };
        (task, gateway.machine.resume(task, Reply::Body(vec![b'x'; large])))
    };
    // A sign-up of that size is refused by its rule, or waits for its commit; four of them fill the room.
    let steps: Vec<_> = (1..=5).map(&mut send).collect();
    let waiting: Vec<u32> = steps
        .iter()
        .filter(|(_, step)| matches!(step, Step::Waits(..)))
        .map(|(task, _)| *task)
        .collect();
    let held: usize = gateway.machine.tasks.iter().flatten().map(|task| task.body).sum();
    assert_eq!(gateway.machine.bodies, held);
    assert!(held <= MAX_BODIES);
    assert_eq!(held, waiting.len() * large);
}

#[test]
fn a_reply_to_nobody_and_a_reply_of_another_kind_do_no_harm() {
    let mut gateway = Gateway::new(true);
    assert_eq!(gateway.machine.resume(7, Reply::Body(Vec::new())), Step::Busy);
    let step = gateway.start(claim("ann", "192.0.2.1"));
    let Step::Waits(task, Call::Commit(_)) = step else {
        panic!("{step:?}")
    };
    let mut step = gateway.machine.resume(task, Reply::Body(Vec::new()));
    // The outcome counts as not known: the rule asks again, with the same ids.
    while let Step::Waits(task, call) = step {
        let reply = gateway.reply(call);
        step = gateway.machine.resume(task, reply);
    }
    assert!(
        matches!(&step, Step::Done(response) if response.status == 201),
        "{step:?}"
    );
}

#[test]
fn clicks_are_combined_until_they_are_flushed() {
    let mut gateway = Gateway::new(true);
    for last in 1..=3 {
        let visit = Request {
            peer: format!("192.0.2.{last}"),
            ..request("GET", "/hello", &[])
        };
        assert!(matches!(gateway.start(visit), Step::Done(_)));
    }
    let deferred = gateway.machine.near.deferred.take().take();
    let [Commit { mutations, .. }] = &deferred[..] else {
        panic!("{deferred:?}")
    };
    assert!(
        matches!(&mutations[0], Mutation::Add { delta: 3, .. }),
        "{mutations:?}"
    );
    assert_eq!(gateway.visits("hello"), "");
}

#[test]
fn visits_of_the_same_client_are_one_note() {
    let mut gateway = Gateway::new(true);
    let robot = || request("GET", "/hello", &[("user-agent", "Googlebot/2.1")]);
    let person = || {
        request(
            "GET",
            "/hello",
            &[("x-client-id", "ann"), ("referer", "https://a.example/")],
        )
    };
    for visit in [person(), person(), robot()] {
        assert!(matches!(gateway.start(visit), Step::Done(response) if response.status == 302));
    }
    let deferred = gateway.machine.near.deferred.take().take();
    let [Mutation::Add { delta: 2, .. }, _, Mutation::Set { value, .. }] = &*deferred[0].mutations else {
        panic!("{deferred:?}")
    };
    let [tollgate_store::commit::Part::Bytes(value)] = &**value else {
        panic!("{value:?}")
    };
    let rows = tollgate_store::plan::coalescer::noted(value).unwrap();
    let mut times: Vec<_> = rows.iter().map(|row| row.times).collect();
    times.sort_unstable();
    assert_eq!(times, [1, 2]);
}

#[test]
fn while_too_many_notes_wait_visits_are_counted_and_not_noted() {
    let mut gateway = Gateway::new(true);
    let mut came = 0;
    let mut come = |gateway: &mut Gateway| {
        came += 1;
        for path in ["/hello", "/nobody"] {
            let id = came.to_string();
            let visit = request("GET", path, &[("x-client-id", &id)]);
            assert!(matches!(gateway.start(visit), Step::Done(_)));
        }
        assert_eq!(gateway.visits("hello"), came.to_string());
        block_on(gateway.node.store.scan("seen/", None, 100))
            .unwrap()
            .len()
    };
    assert_eq!(come(&mut gateway), 2);
    block_on(round::write_met(&gateway.node.store, MAX_WAITING));
    // The flush after these is when memory is asked.
    assert_eq!(come(&mut gateway), 4);
    assert_eq!((come(&mut gateway), come(&mut gateway)), (4, 4));
    block_on(round::write_met(&gateway.node.store, MAX_WAITING - 1));
    assert_eq!((come(&mut gateway), come(&mut gateway)), (4, 6));
}

#[test]
fn a_head_that_is_none_is_a_problem() {
    let mut gateway = Gateway::new(true);
    let step = gateway
        .machine
        .start(b"GET / HTTP/1.1", START, false, Stage::Arrived);
    assert!(
        matches!(&step, Step::Done(response) if response.status == 500),
        "{step:?}"
    );
    assert_eq!(gateway.node.takes.get(), 0);
}
