//! What a request costs behind HTTP: the doors of the components, and the ports under them, on the embedded store.
//! `cargo bench -p tollgate-bench --bench doors`; needs the components (`cargo xtask build`, or a directory of them in
//! `TOLLGATE_COMPONENTS`).

use criterion::{Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::LocalSet;
use tollgate_core::bucket::Bucket;
use tollgate_core::commit::{Commit, Committed, Mutation, Outcome, Part};
use tollgate_core::fast_path::{Call, Reply, Step};
use tollgate_core::http::{Header, Request};
use tollgate_core::memory::START;
use tollgate_core::ports::World;
use tollgate_core::settings::Settings;
use tollgate_core::{campaigns, keys, links, packed};
use tollgate_engine::{MemoryBuckets, Options, SqliteStore};
use tollgate_host::server::fast::Steps;
use tollgate_host::wasm::bindings::{filter::exports::tollgate::edge::filter::Verdict, types};
use tollgate_host::wasm::compiled::{self, Library};
use tollgate_host::wasm::doors::{FilterDoor, GateDoor};
#[cfg(not(feature = "native-rules"))]
use tollgate_host::wasm::fast;
use tollgate_host::wasm::pool::Pool;
use tollgate_host::wasm::ports::{self, Engines};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod wasi_http;

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
        store,
        buckets: Arc::new(MemoryBuckets::new(MAX_BUCKETS)),
        settings: settings.config.without_secrets().to_toml().into(),
        settling: Default::default(),
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
    packed::head(["GET", path, "127.0.0.1"], None, headers)
}

fn status(step: Option<Step>) -> u16 {
    match step {
        Some(Step::Done(response)) => response.status,
        other => unreachable!("it is answered at once: {other:?}"),
    }
}

fn doors(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings();
    let engines = engines(directory.path(), &settings);
    let library = Library {
        components: std::env::var_os("TOLLGATE_COMPONENTS").map(Into::into),
        cache: std::env::temp_dir().join("tollgate-bench-cache"),
    };
    let wasm = compiled::Engines::new(64, 4).expect("wasmtime starts");
    #[cfg(not(feature = "native-rules"))]
    let steps = {
        let component = library.load(&wasm.fast, fast::NAME);
        fast::Instance::new(&component.expect("the component is there"), engines.clone())
            .expect("the component fits")
    };
    #[cfg(feature = "native-rules")]
    let steps = tollgate_host::server::fast::native::Native::new(settings.clone(), engines.clone());
    let hot = get("/hot");
    assert_eq!(status(steps.start(&hot, START, false)), 302);
    c.bench_function("fast path: redirect", |b| {
        b.iter(|| black_box(steps.start(black_box(&hot), START, false)))
    });
    let refused = get("/api/refused");
    let _ = steps.start(&refused, START, false);
    assert_eq!(status(steps.start(&refused, START, false)), 429);
    c.bench_function("fast path: refusal", |b| {
        b.iter(|| black_box(steps.start(black_box(&refused), START, false)))
    });
    let unknown = get("/no--such--code");
    // Once from the database; then it is known.
    assert_eq!(
        block_on(engines.store.get("", &["link/no--such--code".into()])),
        Ok(vec![None])
    );
    assert_eq!(status(steps.start(&unknown, START, false)), 404);
    c.bench_function("fast path: no such code", |b| {
        b.iter(|| black_box(steps.start(black_box(&unknown), START, false)))
    });
    claim(c, &steps, &engines, &settings);
    waiting_doors(c, &library, &wasm, &engines);
    wasi_http::redirect(c, &library, &wasm, &engines);
    ports(c, &engines);
    engines.store.close();
}

/// The same redirect by the ordinary way: the typed doors of the limiter and of the shortener, whose calls may wait.
fn waiting_doors(c: &mut Criterion, library: &Library, wasm: &compiled::Engines, engines: &Engines) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, local) = (runtime.expect("a runtime"), LocalSet::new());
    let load = |name| library.load(&wasm.waiting, name).expect("the component is there");
    let linker = ports::linker(&wasm.waiting).expect("the ports fit");
    let timeout = Duration::from_secs(10);
    let (limiter, shortener) = local.block_on(&runtime, async {
        let filter = FilterDoor::new(&linker, &load("limiter")).expect("the component fits");
        let gate = GateDoor::new(&linker, &load("shortener")).expect("the component fits");
        let of = || (wasm.waiting.clone(), engines.clone());
        let ((engine, own), (other, others)) = (of(), of());
        (
            Pool::new(engine, own, Rc::new(filter), "limiter", timeout),
            Pool::new(other, others, Rc::new(gate), "shortener", timeout),
        )
    });
    let headers = HEADERS.iter().map(|(name, value)| types::Header {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
    });
    let request = types::Request {
        method: "GET".into(),
        path: "/hot".into(),
        query: None,
        headers: headers.collect(),
        body: Vec::new(),
        peer: "127.0.0.1".into(),
    };
    let redirect = async || {
        let verdict = limiter.call(request.clone()).await;
        assert!(matches!(verdict, Ok(Verdict::Admit(_))));
        shortener.call(request.clone()).await
    };
    let response = local.block_on(&runtime, redirect());
    assert!(response.is_ok_and(|response| response.status == 302));
    c.bench_function("ordinary way, typed and async: redirect", |b| {
        b.iter(|| local.block_on(&runtime, redirect()).is_ok())
    });
    c.bench_function(
        "ordinary way, typed and async: redirect, by the shortener alone",
        |b| b.iter(|| local.block_on(&runtime, shortener.call(request.clone())).is_ok()),
    );
}

/// A claim but for its commit, which a reply stands in for: to what it waits for, and from there to the answer.
fn claim(c: &mut Criterion, steps: &impl Steps, engines: &Engines, settings: &Settings) {
    let campaign = admin("/api/campaigns", r#"{"id":"spring","quantity":1000000000}"#);
    let fresh = || fastrand::u128(..).to_le_bytes();
    let world = World {
        store: &*engines.store,
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
    let head = packed::head(["POST", path, "127.0.0.1"], None, headers);
    let begin = || match steps.start(&head, START, false) {
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
    c.bench_function("fast path: claim without its commit", |b| {
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
    c.bench_function("port: submit a click", |b| {
        b.iter(|| {
            engines.store.submit(Commit {
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

criterion_group!(benches, doors);
criterion_main!(benches);
