//! The largest draw on the embedded store: how long it takes to enter, to draw, and to check, and in how much memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::Value;
use support::{open, run, scratch};
use tollgate_api::http::{Header, Request, Response};
use tollgate_engines::SqliteStore;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{campaigns, draws, keys};

const ADMIN: &str = "an-admin-key-for-tests";
/// Entries that are under way at once.
const WIDTH: usize = 2_000;

fn fresh() -> [u8; 16] {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Unlike the last: ids are short for numbers that are alike.
    let [a, b] = [count, !count].map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
    (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
}

async fn send(store: &SqliteStore, method: &str, path: &str, header: (&str, &str), body: &str) -> Response {
    let settings = Settings::default();
    let world = World {
        store,
        settings: &settings,
        now: now(),
        fresh: &fresh,
    };
    let request = Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query: None,
        headers: vec![Header::new(header.0.to_owned(), header.1)],
        body: body.into(),
        peer: "192.0.2.1".into(),
    };
    campaigns::handle(&world, &request).await
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0))
}

/// The most memory that this process ever held, in MiB (Linux).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

fn draw_of(entries: u64) {
    let directory = scratch();
    let store = open(directory.path());
    let store = &*store;
    run(async {
        keys::install_admin(store, ADMIN, now()).await.unwrap();
        let admin = ("authorization", &*format!("Bearer {ADMIN}"));
        let body = r#"{"id":"d","pick":6,"pool":{"from":1,"to":49},"closesAt":"2999-01-01T00:00:00Z",
            "prizes":[{"matches":6,"name":"car","quantity":1},{"matches":3,"name":"book","quantity":100}]}"#;
        assert_eq!(send(store, "POST", "/api/draws", admin, body).await.status, 201);
        let begun = Instant::now();
        let users = futures::stream::iter(0..entries).map(async |n| {
            let user = format!("user-{n}");
            let answer = send(store, "POST", "/api/draws/d/entries", ("x-user-id", &user), "").await;
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        });
        // As the host does beside it, once a second.
        let upkeep = async {
            loop {
                while draws::maintain(store, now()).await.unwrap() {}
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let entering = users.buffer_unordered(WIDTH).collect::<Vec<()>>();
        tokio::select! { _ = entering => {}, () = upkeep => {} }
        let (entered, before) = (begun.elapsed(), peak());
        let begun = Instant::now();
        let mut answer = send(store, "POST", "/api/draws/d/draw", admin, "").await;
        while answer.status == 202 {
            answer = send(store, "POST", "/api/draws/d/draw", admin, "").await;
        }
        let drawn = begun.elapsed();
        let outcome: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (&outcome["state"], &outcome["entries"]),
            (&"drawn".into(), &entries.into())
        );
        let begun = Instant::now();
        let user = format!("user-{}", entries / 2);
        let path = format!("/api/draws/d/entries/{user}");
        assert_eq!(
            send(store, "GET", &path, ("x-user-id", &user), "").await.status,
            200
        );
        let checked = begun.elapsed();
        let begun = Instant::now();
        let proof = send(store, "GET", &format!("{path}/proof"), ("x-user-id", &user), "").await;
        let proved = begun.elapsed();
        assert!(draws::verify(&proof.body, None).unwrap().holds());
        println!(
            "{entries} entries: entered in {entered:.1?}, drawn in {drawn:.2?}, a user's check {checked:.1?}, a proof {proved:.1?}; \
             memory at most {before} MiB before, {} MiB after",
            peak()
        );
    });
}

#[test]
fn a_draw_on_the_embedded_store_is_drawn_and_proved() {
    draw_of(20_000);
}

#[test]
#[ignore = "minutes; run by hand for docs/guides/draws.md"]
fn a_draw_of_a_million_entries() {
    draw_of(draws::MAX_ENTRIES);
}
