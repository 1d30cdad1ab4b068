//! How many durable claims per second the embedded store takes, by the number of claims that wait at once.
//!
//! `cargo run --release -p tollgate-engines --example claims [directory]`: the directory is where the database is made,
//! so that it says which disk is measured. The number to compare with is printed first: how often that disk can sync.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that a person runs"
)]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_engines::{Engine as _, Options, SqliteStore};
use tollgate_store::commit::{Append, Commit, Condition, Mutation, Outcome, Part, literal};

const FOR: Duration = Duration::from_secs(4);

fn main() {
    let directory = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    println!("SQLite {}, in {}", rusqlite::version(), directory.display());
    println!("bare fdatasync of 4 KiB appended: {:.0}/s", syncs(&directory));
    for waiting in [1, 64, 512, 2_048] {
        measure(&directory, waiting);
    }
}

fn syncs(directory: &std::path::Path) -> f64 {
    let path = directory.join("tollgate-syncs.tmp");
    let mut file = File::create(&path).unwrap();
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 4_096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    std::fs::remove_file(path).unwrap();
    f64::from(count) / started.elapsed().as_secs_f64()
}

fn claim(user: u64) -> Commit {
    let key = format!(
        "claim/summer/user-{:016x}",
        user.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let record = |rest: &str| {
        let head = format!(r#"{{"campaign":"summer","user":"{user}","number":"#);
        vec![
            Part::Bytes(head.into()),
            Part::Sum(1),
            Part::Bytes(rest.into()),
            Part::Time,
            Part::Bytes("}".into()),
        ]
    };
    Commit {
        partition: "campaign/summer".into(),
        idempotence: None,
        conditions: vec![
            Condition::Absent(key.clone()),
            Condition::NowIn {
                start: Some(1),
                end: Some(u64::MAX),
            },
        ],
        mutations: vec![
            Mutation::Add {
                key: "remaining/summer".into(),
                delta: -1,
                min: Some(0),
                max: None,
            },
            Mutation::Add {
                key: "sequence/summer".into(),
                delta: 1,
                min: None,
                max: None,
            },
            Mutation::Set {
                key,
                value: record(r#","at":"#),
                expires: None,
            },
        ],
        appends: vec![Append {
            topic: "coupon.claimed".into(),
            id: format!("{user:032x}"),
            key: user.to_string(),
            kind: "coupon.claimed".into(),
            content_type: "application/json".into(),
            attributes: Vec::new(),
            payload: record(r#","at":"#),
        }],
    }
}

fn measure(directory: &std::path::Path, waiting: u64) {
    let directory = tempfile::TempDir::new_in(directory).unwrap();
    let store = SqliteStore::open(Options::new(directory.path().join("claims.db"))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let stock = Mutation::Set {
        key: "remaining/summer".into(),
        value: literal("1000000000"),
        expires: None,
    };
    let setup = Commit {
        mutations: vec![stock],
        ..Commit::default()
    };
    runtime.block_on(store.commit(setup)).unwrap();
    let started = Instant::now();
    let tasks = async {
        let tasks: Vec<_> = (0..waiting)
            .map(|first| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut done = 0;
                    while started.elapsed() < FOR {
                        let outcome = store.commit(claim(first + done * waiting)).await;
                        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    };
    let done = runtime.block_on(tasks);
    let elapsed = started.elapsed();
    let stats = store.stats();
    println!(
        "{waiting:>5} waiting: {:>7.0} claims/s, {:>6.1} per group, COMMIT {:>6.0} us, {:.0} % of the time, {} checkpoints",
        done as f64 / elapsed.as_secs_f64(),
        stats.commits as f64 / stats.groups as f64,
        stats.syncs.sum as f64 / stats.groups as f64,
        100.0 * stats.syncs.sum as f64 / elapsed.as_micros() as f64,
        stats.checkpoints,
    );
    store.close();
}
