//! What a request costs behind HTTP: the steps of the rules, and the ports under them, on the embedded store.
//! `cargo bench -p tollgate-bench --bench rules`; needs the components (`cargo xtask build`, or a directory of them in
//! `TOLLGATE_COMPONENTS`).

use criterion::{Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use std::hint::black_box;
use std::sync::Arc;
use tollgate_api::http::{Header, Request};
use tollgate_engines::{AnyEngine, Engine as _, GatewayBuckets, Options, SqliteStore};
use tollgate_host::ranking::Ranking;
use tollgate_host::server::generation::Generation;
use tollgate_host::server::runner::Steps;
use tollgate_host::wasm::ports::Engines;
use tollgate_rules::machine::{Call, Reply, Stage, Step};
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{campaigns, heads, keys, links};
use tollgate_store::bucket::Bucket;
use tollgate_store::commit::{Commit, Committed, Mutation, Outcome, Part};
use tollgate_store::memory::START;
use tollgate_store::ports::Store as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: &str = "an-admin-key-for-the-bench";
const MAX_BUCKETS: usize = 1_000;
/// As a browser's request line and the headers that the rules look at.
const HEADERS: [(&str, &str); 2] = [("host", "127.0.0.1:3000"), ("user-agent", "wrk/4.1.0")];

fn settings() -> Settings {
    let text = "[[limits]]\nname = \"default\"\ncapacity = 1000000000\nrefill = 1000000\n\
                [[limits]]\nname = \"none\"\npath = \"/api/refused\"\ncapacity = 1\nrefill = 1\ninterval = \"24h\"\n";
    Settings::parse(text, "bench").expect("it is valid")
}

/// A store with the link `/hot`.
fn engines(directory: &std::path::Path, settings: &Settings) -> Engines {
    let store = SqliteStore::open(Options::new(directory.join("bench.db"))).expect("the directory is ours");
    let fresh = || fastrand::u128(..).to_le_bytes();
    let world = World {
        store: &*store,
        settings,
        now: START,
        fresh: &fresh,
    };
    block_on(keys::install_admin(&*store, KEY, START)).expect("the store takes it");
    let link = admin(
        "/api/links",
        r#"{"url":"https://example.com/a/b?c=d","code":"hot"}"#,
    );
    assert_eq!(block_on(links::handle(&world, &link)).status, 201);
    Engines {
        store: AnyEngine::Sqlite(store),
        buckets: Arc::new(GatewayBuckets::new(MAX_BUCKETS, None)),
        settling: Default::default(),
        counted: Default::default(),
        refused: Arc::default(),
        ranking: Arc::new(Ranking::new(START)),
        outbound: Arc::default(),
    }
}

fn admin(path: &str, body: &str) -> Request {
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", &*key), ("content-type", "application/json")];
    Request {
        method: "POST".into(),
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

fn get(path: &str) -> Vec<u8> {
    let headers = HEADERS.iter().map(|(name, value)| (*name, value.as_bytes()));
    heads::head(["GET", path, "127.0.0.1"], None, headers)
}

fn status(step: Option<Step>) -> u16 {
    match step {
        Some(Step::Done(response)) => response.status,
        other => unreachable!("it is answered at once: {other:?}"),
    }
}

#[cfg(not(feature = "native-rules"))]
fn rules(settings: &Settings, engines: Engines) -> impl Steps {
    use tollgate_host::wasm::compiled::{self, Library};
    use tollgate_host::wasm::rules;
    let library = Library {
        components: std::env::var_os("TOLLGATE_COMPONENTS").map(Into::into),
        cache: std::env::temp_dir().join("tollgate-bench-cache"),
    };
    let engine = compiled::engine(1).expect("wasmtime starts");
    let component = library.load(&engine, rules::NAME);
    rules::Instance::new(
        &component.expect("the component is there"),
        engines,
        rules::Group::Crowd,
        &Generation::first(settings.clone(), None, None),
    )
    .expect("the component fits")
}

#[cfg(feature = "native-rules")]
fn rules(settings: &Settings, engines: Engines) -> impl Steps {
    tollgate_host::server::runner::native::Native::new(settings.clone(), engines)
}

fn steps(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings();
    let engines = engines(directory.path(), &settings);
    let steps = rules(&settings, engines.clone());
    let start = |head: &[u8]| steps.start(head, START, false, Stage::Arrived);
    let hot = get("/hot");
    assert_eq!(status(start(&hot)), 302);
    c.bench_function("rules: redirect", |b| {
        b.iter(|| black_box(start(black_box(&hot))))
    });
    let refused = get("/api/refused");
    let _ = start(&refused);
    assert_eq!(status(start(&refused)), 429);
    c.bench_function("rules: refusal", |b| {
        b.iter(|| black_box(start(black_box(&refused))))
    });
    let unknown = get("/no--such--code");
    // Once from the database; then it is known.
    assert_eq!(
        block_on(engines.store.get("", &["link/no--such--code".into()])),
        Ok(vec![None])
    );
    assert_eq!(status(start(&unknown)), 404);
    c.bench_function("rules: no such code", |b| {
        b.iter(|| black_box(start(black_box(&unknown))))
    });
    claim(c, &steps, &engines, &settings);
    ports(c, &engines);
    engines.store.close();
}

/// A claim but for its commit, which a reply stands in for: to what it waits for, and from there to the answer.
fn claim(c: &mut Criterion, steps: &impl Steps, engines: &Engines, settings: &Settings) {
    let campaign = admin("/api/campaigns", r#"{"id":"spring","quantity":1000000000}"#);
    let fresh = || fastrand::u128(..).to_le_bytes();
    let world = World {
        store: &engines.store,
        settings,
        now: START,
        fresh: &fresh,
    };
    assert_eq!(block_on(campaigns::handle(&world, &campaign)).status, 201);
    // Once from the database; then they are known.
    let keys = ["campaign/spring".to_owned(), "remaining/spring".to_owned()];
    assert!(block_on(engines.store.get("", &keys)).is_ok());
    let headers = [("host", "127.0.0.1:3000"), ("x-user-id", "u10000001")];
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let path = "/api/campaigns/spring/claims";
    let head = heads::head(["POST", path, "127.0.0.1"], None, headers);
    let begin = || match steps.start(&head, START, false, Stage::Arrived) {
        Some(Step::Waits(task, call @ (Call::Commit(_) | Call::Packed(_)))) => (task, call),
        other => unreachable!("it waits for its commit: {other:?}"),
    };
    let end = |task| {
        let done = Committed {
            version: 7,
            sums: vec![999, 1, 0],
            sequences: vec![1],
            time: START,
        };
        steps.resume(task, Reply::Commit(Ok(Outcome::Committed(done))))
    };
    assert_eq!(status(end(begin().0)), 201);
    c.bench_function("rules: claim without its commit", |b| {
        b.iter(|| {
            let (task, commit) = begin();
            drop(black_box(commit));
            black_box(end(task))
        })
    });
}

fn ports(c: &mut Criterion, engines: &Engines) {
    c.bench_function("port: take one", |b| {
        b.iter(|| {
            black_box(engines.buckets.take_now(&[Bucket {
                key: "default/client/id:client-1".into(),
                capacity: 1_000_000_000,
                refill: 1,
                interval_ns: 1_000_000_000,
                cost: 1,
            }]))
        })
    });
    c.bench_function("port: get from memory", |b| {
        b.iter(|| black_box(engines.store.get_now("link/hot")))
    });
    c.bench_function("port: defer a click", |b| {
        b.iter(|| {
            engines.store.defer(Commit {
                partition: "link/hot".into(),
                mutations: vec![
                    Mutation::Add {
                        key: "visits/hot".into(),
                        delta: 1,
                        min: None,
                        max: None,
                    },
                    Mutation::Set {
                        key: "visited/hot".into(),
                        value: vec![Part::Time],
                        expires: None,
                    },
                ],
                ..Commit::default()
            })
        })
    });
}

criterion_group!(benches, steps);
criterion_main!(benches);
