//! Which of several gateways over a real Postgres removes old messages. Skipped, and said so, where there is no Postgres.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tollgate_contract::postgres::Postgres;
use tollgate_engines::{Engine as _, PostgresOptions, PostgresStore, Retention};
use tollgate_store::commit::{Append, Commit, literal};
use tollgate_store::ports::Store as _;

/// More than are looked at each time.
const TOPICS: usize = 300;
const HOUR_MS: u64 = 3_600_000;

fn appends(begin: usize) -> Commit {
    let append = |n| Append {
        topic: format!("t{n:03}"),
        id: format!("{begin}-{n}"),
        key: String::new(),
        kind: "told".into(),
        content_type: String::new(),
        attributes: Vec::new(),
        payload: literal(b"{}".to_vec()),
    };
    Commit {
        partition: "p".into(),
        appends: (begin..TOPICS.min(begin + 50)).map(append).collect(),
        ..Commit::default()
    }
}

/// Waits until nothing is left of the messages; the engine sweeps once in a second.
async fn until_all_are_gone(store: &PostgresStore) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let topics = store.topics(None, 1_000).await.unwrap();
        assert_eq!(topics.len(), TOPICS);
        let left = topics.iter().filter(|topic| topic.first <= topic.last).count();
        if left == 0 {
            return;
        }
        assert!(Instant::now() < until, "{left} topics have their message still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn old_messages_of_many_topics_are_removed_by_the_one_that_is_told_to() {
    let Some(database) = Postgres::start("") else {
        return;
    };
    let url = database.fresh();
    let [first, second] = [(); 2].map(|()| {
        let options = PostgresOptions::new(&url);
        let ahead = Arc::clone(&options.ahead_ms);
        let store = PostgresStore::open(options).unwrap();
        let kept = Retention {
            age_ms: Some(HOUR_MS),
            ..Retention::default()
        };
        store.set_retention(kept, []);
        (store, ahead)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        for (sweeping, idle, hours) in [(&first, &second, 2), (&second, &first, 4)] {
            idle.0.set_sweeps(false);
            for begin in (0..TOPICS).step_by(50) {
                first.0.commit(appends(begin)).await.unwrap();
            }
            let before = [sweeping, idle].map(|(store, _)| store.stats().swept);
            // What is old for one is old for the other.
            for (_, ahead) in [&first, &second] {
                ahead.store(hours * HOUR_MS, Ordering::Relaxed);
            }
            sweeping.0.set_sweeps(true);
            until_all_are_gone(&idle.0).await;
            let after = [sweeping, idle].map(|(store, _)| store.stats().swept);
            assert!(after[0] >= before[0] + TOPICS as u64, "{before:?}, {after:?}");
            assert_eq!(after[1], before[1], "told not to");
        }
    });
}
