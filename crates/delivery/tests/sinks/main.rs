//! The relay against the real servers of its sinks besides HTTP: one suite, for each of them. A server whose program is not
//! installed is left out, and said so.

mod contract;
mod kafka;
mod nats;
mod postgres;
mod proxy;
mod redis;
mod s3;
mod server;
mod smtp;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollgate_delivery::driver::{Intervals, Options, Relay};
use tollgate_delivery::relay::record::{DeadLetter, Keys};
use tollgate_delivery::relay::restore;
use tollgate_store::commit::{Append, Commit, literal};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store;

const PATIENCE: Duration = Duration::from_secs(30);
const QUICKLY: Intervals = Intervals {
    poll: Duration::from_millis(50),
    follow: Duration::from_millis(100),
    low_water: Duration::from_secs(1),
};
/// Retries fast enough for a test, and often enough for a bad server.
const QUICK: &str = "rate_per_second = 2000\nretry = { initial = \"20ms\", factor = 1.5, cap = \"200ms\", max_attempts = 40 }";

/// A subscription `s` to the topic `t`, as a file says it.
fn options(settings: &str) -> Options {
    let subscription = toml::from_str(&format!("name = \"s\"\n{settings}"));
    Options {
        subscriptions: vec![("t".to_owned(), subscription.expect("valid settings"))],
        public_url: "http://localhost:3000".to_owned(),
        idle_timeout: Duration::from_secs(4),
        intervals: QUICKLY,
        observer: None,
        shared: false,
    }
}

fn start(store: &Arc<InMemoryStore>, options: &Options) -> Relay {
    Relay::start(Arc::clone(store), options.clone(), Box::new(|_, _| {})).expect("a thread")
}

/// Messages `m1` and so on, of so many keys.
async fn append(store: &impl Store, range: std::ops::RangeInclusive<u64>, keys: u64) {
    for n in range {
        let append = Append {
            topic: "t".into(),
            id: format!("m{n}"),
            key: format!("k{}", n % keys),
            kind: "test.made".into(),
            content_type: "application/json".into(),
            attributes: Vec::new(),
            payload: literal(format!("{{\"email\":\"u{n}@example.com\"}}")),
        };
        let appends = vec![append];
        let commit = Commit {
            appends,
            ..Commit::default()
        };
        store.commit(commit).await.expect("appended");
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn watermark(store: &impl Store) -> u64 {
    let state = restore::state(store, &Keys::new("t", "s")).await;
    state.expect("readable").1.watermark()
}

async fn dead(store: &InMemoryStore) -> Vec<DeadLetter> {
    let prefix = Keys::new("t", "s").dead_prefix();
    let found = store.scan(&prefix, None, 1_000).await.expect("readable");
    let letters = found.iter().map(|item| serde_json::from_slice(&item.entry.value));
    letters.map(|letter| letter.expect("a dead letter")).collect()
}
