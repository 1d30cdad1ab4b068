//! Claims on a stock, as commits, and what must be true of them afterwards.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate_engines::{OpenError, Options, SqliteStore};
use tollgate_store::commit::{Append, Commit, Condition, Entry, Mutation, Part, literal};

/// A directory of the test's own; in memory where the system has a place for that, since what is tested about disks is
/// simulated.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    }
}

/// What the tests begin with.
pub const STOCK: usize = 1_000_000;

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// How long a child of another test may hold what this one has closed.
const BORROWED: Duration = Duration::from_secs(10);

/// The test's store. A lock is held by the descriptor. A child that another test starts has a copy of every
/// descriptor until it runs its own program. Until then, a store that was closed a moment ago still counts as
/// open.
pub fn open(directory: &Path) -> Arc<SqliteStore> {
    let until = Instant::now() + BORROWED;
    loop {
        match SqliteStore::open(Options::new(directory.join("test.db"))) {
            Err(OpenError::Locked(_)) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1))
            }
            opened => return opened.unwrap(),
        }
    }
}

pub fn set(key: &str, bytes: usize) -> Commit {
    let mutation = Mutation::Set {
        key: key.into(),
        value: literal(vec![b'x'; bytes]),
        expires: None,
    };
    Commit {
        mutations: vec![mutation],
        ..Commit::default()
    }
}

pub fn claim(user: &str) -> Commit {
    Commit {
        partition: "campaign".into(),
        idempotence: None,
        conditions: vec![Condition::Absent(format!("claim/{user}"))],
        mutations: vec![
            Mutation::Add {
                key: "remaining".into(),
                delta: -1,
                min: Some(0),
                max: None,
            },
            Mutation::Add {
                key: "sequence".into(),
                delta: 1,
                min: None,
                max: None,
            },
            Mutation::Set {
                key: format!("claim/{user}"),
                value: vec![Part::Sum(1)],
                expires: None,
            },
        ],
        appends: vec![Append {
            topic: "claimed".into(),
            id: user.into(),
            key: user.into(),
            kind: "claimed".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: vec![Part::Sum(1)],
        }],
    }
}

pub fn stock(units: u64) -> Commit {
    let value = literal(units.to_string());
    let mutation = Mutation::Set {
        key: "remaining".into(),
        value,
        expires: None,
    };
    Commit {
        mutations: vec![mutation],
        ..Commit::default()
    }
}

pub fn get(store: &SqliteStore, key: &str) -> Option<Entry> {
    run(store.get("", &[key.to_owned()])).unwrap().remove(0)
}

/// All messages of the topic of claims.
pub fn claimed(store: &SqliteStore) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let page = run(store.read("claimed", ids.len() as u64, 1_000, 0)).unwrap();
        if page.is_empty() {
            return ids;
        }
        for message in page {
            ids.push(message.id);
            assert_eq!(message.sequence, ids.len() as u64, "dense");
        }
    }
}

pub fn claim_keys(store: &SqliteStore) -> BTreeSet<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let page = run(store.scan("claim/", keys.last().map(String::as_str), 1_000)).unwrap();
        if page.is_empty() {
            return keys.into_iter().collect();
        }
        keys.extend(page.into_iter().map(|item| item.key));
    }
}

/// State and queue agree: every claim has its message, took one unit, and counts. Answers the claims' keys.
pub fn check_claims(store: &SqliteStore) -> BTreeSet<String> {
    let kept = claim_keys(store);
    let messages = claimed(store).into_iter();
    let messages: BTreeSet<String> = messages.map(|id| format!("claim/{id}")).collect();
    assert_eq!(messages, kept, "a claim exists if and only if its message does");
    let number = |key: &str| {
        get(store, key).map_or(0, |entry| {
            String::from_utf8(entry.value).unwrap().parse::<usize>().unwrap()
        })
    };
    assert_eq!(number("sequence"), kept.len(), "every claim counts");
    assert_eq!(number("remaining"), STOCK - kept.len(), "every claim took a unit");
    kept
}
