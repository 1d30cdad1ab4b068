//! What a host asks of an engine besides the store's contract, run against every engine.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tollgate_engines::{
    AnyEngine, CommitBatcher as _, Engine as _, InMemoryEngine, Options, Retention, SqliteStore,
};
use tollgate_store::commit::{Append, Commit, Mutation, Outcome, StoreError, literal, record_key, weight};
use tollgate_store::deleted;
use tollgate_store::memory::START;
use tollgate_store::packed;
use tollgate_store::ports::Store as _;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a case on each engine, whose clock the case may move.
fn on_each(case: impl AsyncFn(&AnyEngine, &AtomicU64)) {
    let directory = TempDir::new().unwrap();
    for kind in ["sqlite", "memory"] {
        let clock = Arc::new(AtomicU64::new(START));
        let read = Arc::clone(&clock);
        let wall = Arc::new(move || read.load(Ordering::Relaxed));
        let engine = match kind {
            "memory" => AnyEngine::Memory(InMemoryEngine::new(1 << 20, wall)),
            _ => AnyEngine::Sqlite(
                SqliteStore::open(Options {
                    clock: wall,
                    ..Options::new(directory.path().join("t.db"))
                })
                .unwrap(),
            ),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(case(&engine, &clock));
        engine.close();
    }
}

fn set(key: &str, value: impl Into<Vec<u8>>) -> Commit {
    let set = Mutation::Set {
        key: key.into(),
        value: literal(value.into()),
        expires: None,
    };
    Commit {
        partition: "p".into(),
        mutations: vec![set],
        ..Commit::default()
    }
}

fn append(id: &str) -> Commit {
    let append = Append {
        topic: "t".into(),
        id: id.into(),
        key: String::new(),
        kind: "x".into(),
        content_type: "text/plain".into(),
        attributes: Vec::new(),
        payload: literal("payload"),
    };
    Commit {
        partition: "p".into(),
        appends: vec![append],
        ..Commit::default()
    }
}

#[test]
fn a_batcher_answers_commits_packed_or_not_and_bad_ones_too() {
    on_each(async |engine, _| {
        let batcher = engine.batcher(PATIENCE);
        let work = async {
            let packed = packed::pack(&set("b", "2"), packed::COMMIT_BYTES);
            let (plain, packed, empty, garbage) = tokio::join!(
                batcher.commit(set("a", "1")),
                batcher.commit_packed(packed),
                batcher.commit(set("", "3")),
                batcher.commit_packed(vec![255; 9]),
            );
            for done in [plain, packed] {
                assert!(matches!(done.unwrap(), Ok(Outcome::Committed(_))));
            }
            for bad in [empty, garbage] {
                assert!(matches!(bad.unwrap(), Err(StoreError::Invalid(_))));
            }
        };
        tokio::select! {
            () = batcher.run() => unreachable!("it runs for ever"),
            () = work => {}
        }
        let found = engine.get("p", &["a".into(), "b".into()]).await.unwrap();
        assert!(found.iter().all(Option::is_some));
    });
}

#[test]
fn what_was_read_is_known_at_once_absent_keys_too() {
    on_each(async |engine, _| {
        engine.commit(set("a", "1")).await.unwrap();
        engine.get("p", &["a".into(), "b".into()]).await.unwrap();
        assert_eq!(engine.get_now("a").unwrap().unwrap().value, b"1");
        assert_eq!(engine.get_now("b"), Some(None));
        let both = engine.get_all_now(&["a", "b"]).unwrap();
        assert!(both[0].is_some() && both[1].is_none());
    });
}

#[test]
fn who_watches_a_topic_is_woken_by_what_is_appended_to_it() {
    on_each(async |engine, _| {
        let mut tail = engine.subscribe("t");
        let (moved, done) = tokio::join!(tail.moved(), engine.commit(append("m")));
        assert!(moved && done.is_ok());
        assert_eq!(engine.read("t", 0, 9, 0).await.unwrap().len(), 1);
    });
}

#[test]
fn messages_past_their_retention_go_once_no_subscription_needs_them() {
    on_each(async |engine, clock| {
        for id in ["a", "b", "c"] {
            engine.commit(append(id)).await.unwrap();
        }
        engine.set_low_water("t", 3);
        let kept = Retention {
            age_ms: Some(1_000),
            max_bytes: None,
            ..Retention::default()
        };
        engine.set_retention(kept, []);
        clock.fetch_add(3_600_000, Ordering::Relaxed);
        let first = async || engine.topics(None, 1).await.unwrap().remove(0).first;
        for (needed, gone) in [(3, 3), (u64::MAX, 4)] {
            engine.set_low_water("t", needed);
            let mut rounds = 0;
            while first().await != gone {
                // An engine that sweeps when it has nothing else to do takes a second or so for it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                clock.fetch_add(1_000, Ordering::Relaxed);
                rounds += 1;
                assert!(rounds < 400, "nothing was removed");
            }
        }
    });
}

#[test]
fn messages_of_a_deleted_topic_are_hidden_at_once_and_removed_in_time_whoever_needs_them() {
    on_each(async |engine, clock| {
        for id in ["a", "b"] {
            let mut commit = append(id);
            commit.mutations = set(&record_key(id), "record").mutations;
            engine.commit(commit).await.unwrap();
        }
        engine.set_low_water("t", 1);
        engine.set_retention(Retention::default(), []);
        engine.commit(set(&deleted::key("t"), "2")).await.unwrap();
        engine.commit(append("c")).await.unwrap();
        let ids = async || -> Vec<String> {
            let found = engine.read("t", 0, 9, 0).await.unwrap();
            found.into_iter().map(|message| message.id).collect()
        };
        assert_eq!(ids().await, ["c"]);
        let kept = engine
            .read("t", 2, 1, 0)
            .await
            .unwrap()
            .iter()
            .map(weight)
            .sum::<u64>();
        let records = [record_key("a"), record_key("b")];
        let mut rounds = 0;
        loop {
            let topic = engine.topics(None, 1).await.unwrap().remove(0);
            assert_eq!((topic.first, topic.last), (3, 3));
            let left = engine.get("p", &records).await.unwrap();
            if topic.bytes == kept && left == [None, None] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            clock.fetch_add(1_000, Ordering::Relaxed);
            rounds += 1;
            assert!(rounds < 400, "nothing was removed: {topic:?}, {left:?}");
        }
        assert_eq!(ids().await, ["c"]);
    });
}

#[test]
fn a_closed_engine_takes_no_commit_and_is_still_read() {
    on_each(async |engine, _| {
        engine.commit(set("a", "1")).await.unwrap();
        assert_eq!((engine.health(), engine.now() >= START), (Ok(()), true));
        engine.close();
        let refused = engine.commit(set("b", "2")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        engine.defer(set("b", "2"));
        let found = engine.get("p", &["a".into(), "b".into()]).await.unwrap();
        assert!(found[0].is_some() && found[1].is_none());
        let stats = engine.stats();
        assert_eq!(stats.dropped, 1, "{stats:?}");
        assert!(stats.commits >= 1, "{stats:?}");
    });
}

#[test]
fn a_full_memory_refuses_says_so_and_takes_commits_again_once_there_is_room() {
    let clock = Arc::new(|| START);
    let engine = AnyEngine::Memory(InMemoryEngine::new(1 << 20, clock));
    futures::executor::block_on(async {
        let mut taken = 0;
        while engine
            .commit(set(&format!("k{taken}"), vec![0; 100_000]))
            .await
            .is_ok()
        {
            taken += 1;
        }
        assert_eq!(taken, 10);
        assert!(engine.health().is_err());
        let delete = Commit {
            partition: "p".into(),
            mutations: vec![Mutation::Delete { key: "k0".into() }],
            ..Commit::default()
        };
        engine.commit(delete).await.unwrap();
        assert_eq!(engine.health(), Ok(()));
        engine.commit(set("again", vec![0; 100_000])).await.unwrap();
        assert_eq!(engine.stats().overflowed, 1);
    });
}
