//! The native gateway comes to a database that instances on Spin have open, and goes again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::time::Duration;

use support::{Fixture, run, sleep};
use tollgate_engines::{Engine as _, Options, SqliteStore};
use tollgate_store::commit::{Commit, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store as _;

/// Units of stock, and how often the gateway comes and goes.
const STOCK: u64 = 400;
const TURNS: usize = 4;

fn claim() -> Commit {
    let add = |key: &str, delta, min| Mutation::Add {
        key: key.into(),
        delta,
        min,
        max: None,
    };
    Commit {
        mutations: vec![add("remaining", -1, Some(0)), add("sequence", 1, None)],
        ..Commit::default()
    }
}

fn stock(units: u64) -> Commit {
    let remaining = Mutation::Set {
        key: "remaining".into(),
        value: literal(units.to_string()),
        expires: None,
    };
    Commit {
        mutations: vec![remaining],
        ..Commit::default()
    }
}

fn sequence(outcome: Outcome) -> Option<i64> {
    match outcome {
        Outcome::Committed(committed) => Some(committed.sums[1]),
        _ => None,
    }
}

#[test]
fn an_instance_that_has_the_database_open_commits_nothing_while_the_gateway_has_it() {
    run(async {
        let spin = Fixture::new();
        spin.commit(stock(10)).await.unwrap();
        let native = SqliteStore::open(Options::new(spin.database.path())).unwrap();
        // Even before the gateway has written anything.
        for _ in 0..2 {
            match spin.commit(claim()).await {
                Err(StoreError::Unavailable(told)) => assert!(told.contains("tollgate serve"), "{told}"),
                other => panic!("{other:?}"),
            }
            spin.defer(claim());
            native.commit(claim()).await.unwrap();
        }
        assert_eq!(sequence(native.commit(claim()).await.unwrap()), Some(3));
        native.health().unwrap();
        native.close();
        assert_eq!(sequence(spin.commit(claim()).await.unwrap()), Some(4));
    });
}

#[test]
fn stock_is_given_out_once_while_the_gateway_comes_and_goes() {
    run(async {
        let spin = Fixture::new();
        spin.commit(stock(STOCK)).await.unwrap();
        let path = spin.database.path();
        let native = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            let mut given = Vec::new();
            for _ in 0..TURNS {
                let store = SqliteStore::open(Options::new(&path)).unwrap();
                for _ in 0..STOCK / 20 {
                    given.extend(sequence(runtime.block_on(store.commit(claim())).unwrap()));
                }
                store.health().unwrap();
                store.close();
                drop(store);
                std::thread::sleep(Duration::from_millis(20));
            }
            given
        });
        let (mut given, mut refused) = (Vec::new(), 0);
        loop {
            let has_ended = native.is_finished();
            match spin.commit(claim()).await {
                Ok(outcome) => match sequence(outcome) {
                    Some(number) => given.push(number),
                    None if has_ended => break,
                    None => {}
                },
                Err(StoreError::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            sleep(1).await;
        }
        given.extend(native.join().unwrap());
        given.sort_unstable();
        let all: Vec<i64> = (1..=i64::try_from(STOCK).unwrap()).collect();
        assert_eq!(given, all, "each once, and all of it");
        assert!(refused > 0, "they never met");
    });
}
