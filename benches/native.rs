//! The cost of the rules by themselves, natively and in memory: `cargo bench -p tollgate-bench`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use std::cell::Cell;
use std::hint::black_box;
use tollgate_api::http::{self, Header, Request};
use tollgate_rules::codes;
use tollgate_rules::limiter;
use tollgate_rules::links;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_store::bucket::{Bucket, Level, State, TakeError, take_all, take_one};
use tollgate_store::commit::{Append, Commit, Condition, Entry, Mutation, Part, StoreError};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::plan::{self, Extent, Lookup, Record};
use tollgate_store::ports::Buckets;

/// Buckets of one client that always have enough.
struct Plenty(Cell<Option<State>>);

impl Buckets for Plenty {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let mut states = vec![self.0.get(); buckets.len()];
        let levels = take_all(&mut states, &buckets, START)?;
        self.0.set(states.first().copied().flatten());
        Ok(levels)
    }
}

/// A store that holds what a first claim finds: a campaign, its counters, no claim.
struct FirstClaim {
    entries: Vec<(&'static str, Entry)>,
}

impl Lookup for FirstClaim {
    type Found = Entry;

    fn entry(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self
            .entries
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, entry)| entry.clone()))
    }

    fn topic(&mut self, _topic: &str) -> Result<Extent, StoreError> {
        Ok(Extent { last: 41, bytes: 0 })
    }

    fn idempotence(&mut self, _id: &str) -> Result<Option<Record>, StoreError> {
        Ok(None)
    }
}

fn plenty() -> Bucket {
    Bucket {
        key: "default/client/id:client-1".into(),
        capacity: 1_000_000_000,
        refill: 1,
        interval_ns: 1_000_000_000,
        cost: 1,
    }
}

fn settings() -> Settings {
    let text = "[[limits]]\nname = \"default\"\ncapacity = 1000000000\nrefill = 1\n";
    Settings::parse(text, "bench").expect("it is valid")
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    Request {
        method: http::method(method),
        path: path.into(),
        query: None,
        headers: headers
            .iter()
            .map(|(name, value)| Header::new((*name).to_owned(), *value))
            .collect(),
        body: body.into(),
        peer: "192.0.2.1".into(),
    }
}

/// Runs `rule` in a world whose store holds the link `/sale`.
fn in_a_world<T>(rule: impl FnOnce(&World<'_, InMemoryStore>) -> T) -> T {
    let (store, settings, count) = (InMemoryStore::new(), settings(), Cell::new(0_u128));
    let fresh = || {
        count.set(count.get() + 1);
        count.get().to_be_bytes()
    };
    let world = World {
        store: &store,
        settings: &settings,
        now: START,
        fresh: &fresh,
    };
    const KEY: &str = "an-admin-key-for-the-bench";
    block_on(tollgate_rules::keys::install_admin(&store, KEY, START)).expect("the store is in memory");
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", &*key), ("content-type", "application/json")];
    let link = request(
        "POST",
        "/api/links",
        &headers,
        r#"{"url":"https://example.com/sale","code":"sale"}"#,
    );
    assert_eq!(block_on(links::handle(&world, &link)).status, 201);
    rule(&world)
}

fn bucket(c: &mut Criterion) {
    let bucket = plenty();
    let mut state = None;
    let mut now = START;
    c.bench_function("bucket: take one", |b| {
        b.iter(|| {
            now += 1;
            take_one(&mut state, black_box(&bucket), now)
        });
    });
    let empty = Bucket {
        capacity: 1,
        ..plenty()
    };
    let mut state = None;
    take_one(&mut state, &empty, START).expect("the first has a token");
    c.bench_function("bucket: refuse", |b| {
        b.iter(|| take_one(&mut state, black_box(&empty), START))
    });
}

fn limiter_check(c: &mut Criterion) {
    let request = request(
        "GET",
        "/sale",
        &[("host", "short.test"), ("x-client-id", "client-1")],
        "",
    );
    in_a_world(|world| {
        let buckets = Plenty(Cell::new(None));
        c.bench_function("limiter: admit one policy", |b| {
            b.iter(|| block_on(limiter::check(world, &buckets, black_box(&request))));
        });
    });
}

fn redirect(c: &mut Criterion) {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let headers = [
        ("host", "short.test"),
        ("user-agent", agent),
        ("x-client-id", "client-1"),
    ];
    let request = request("GET", "/sale", &headers, "");
    in_a_world(|world| {
        assert_eq!(block_on(links::handle(world, &request)).status, 302);
        c.bench_function("redirect: hot link, click submitted", |b| {
            b.iter(|| block_on(links::handle(world, black_box(&request))));
        });
    });
}

fn claim(c: &mut Criterion) {
    let number = |value: &str| Entry {
        value: value.into(),
        version: 7,
        expires: None,
    };
    let mut store = FirstClaim {
        entries: vec![
            ("campaign/spring", number("{}")),
            ("remaining/spring", number("1000")),
            ("sequence/spring", number("41")),
        ],
    };
    c.bench_function("claim: deciding the commit", |b| {
        b.iter_batched(
            claim_commit,
            |commit| plan::plan(commit, START, 8, &mut store),
            BatchSize::SmallInput,
        );
    });
}

/// A claim as the store sees it; see ARCHITECTURE.md, "A commit".
fn claim_commit() -> Commit {
    let add = |key: &str, delta, min| Mutation::Add {
        key: key.into(),
        delta,
        min,
        max: None,
    };
    let with_sequence = || {
        let (before, after) = (r#"{"claim":"0123456789abcdef","user":"u1","sequence":"#, "}");
        vec![
            Part::Bytes(before.into()),
            Part::Sum(1),
            Part::Bytes(after.into()),
        ]
    };
    Commit {
        partition: "campaign/spring".into(),
        idempotence: None,
        conditions: vec![
            Condition::Absent("claim/spring/u1/1".into()),
            Condition::Version {
                key: "campaign/spring".into(),
                version: 7,
            },
            Condition::NowIn {
                start: None,
                end: None,
            },
        ],
        mutations: vec![
            add("remaining/spring", -1, Some(0)),
            add("sequence/spring", 1, None),
            Mutation::Set {
                key: "claim/spring/u1/1".into(),
                value: with_sequence(),
                expires: None,
            },
        ],
        appends: vec![Append {
            topic: "coupon".into(),
            id: "0123456789abcdef".into(),
            key: "u1".into(),
            kind: "coupon.claimed".into(),
            content_type: "application/json".into(),
            attributes: Vec::new(),
            payload: with_sequence(),
        }],
    }
}

fn codes_and_ids(c: &mut Criterion) {
    let settings = settings();
    let mut fresh = 0_u128;
    c.bench_function("code: generate", |b| {
        b.iter(|| {
            fresh += 1;
            codes::generate(black_box(fresh.to_be_bytes()), 7, &settings.config)
        });
    });
}

criterion_group!(native, bucket, limiter_check, redirect, claim, codes_and_ids);
criterion_main!(native);
