//! What is cached, awaited, kept and swept.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate_engines::{Engine as _, Options, Retention, SqliteStore};
use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, MESSAGE_OVERHEAD, Mutation, Outcome, literal, record_key,
};

struct Fixture {
    store: Arc<SqliteStore>,
    clock: Arc<AtomicU64>,
    directory: TempDir,
}

fn fixture(change: impl FnOnce(&mut Options)) -> Fixture {
    let directory = TempDir::new().unwrap();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let read = Arc::clone(&clock);
    let mut options = Options::new(directory.path().join("test.db"));
    options.clock = Arc::new(move || read.load(Ordering::Relaxed));
    change(&mut options);
    Fixture {
        store: SqliteStore::open(options).unwrap(),
        clock,
        directory,
    }
}

impl Fixture {
    /// Rows of a table, seen from outside.
    fn rows(&self, table: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.directory.path().join("test.db")).unwrap();
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    }

    fn sequences(&self) -> Vec<u64> {
        run(self.store.read("t", 0, 1_000, 0))
            .unwrap()
            .into_iter()
            .map(|message| message.sequence)
            .collect()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// Sweeps come about once a second.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn set(key: &str, value: &str, expires: Option<u64>) -> Commit {
    let mutation = Mutation::Set {
        key: key.into(),
        value: literal(value),
        expires,
    };
    Commit {
        mutations: vec![mutation],
        ..Commit::default()
    }
}

fn append(payload: &[u8]) -> Commit {
    let append = Append {
        topic: "t".into(),
        id: "m".into(),
        key: String::new(),
        kind: String::new(),
        content_type: String::new(),
        attributes: Vec::new(),
        payload: literal(payload),
    };
    Commit {
        appends: vec![append],
        ..Commit::default()
    }
}

#[test]
fn a_commit_is_in_the_cache_when_it_is_answered_if_its_key_was_ever_asked_for() {
    let Fixture { store, .. } = fixture(|_| {});
    run(store.commit(set("claim", "1", None))).unwrap();
    assert_eq!(store.get_now("claim"), None, "new, and nobody asked for it");
    assert_eq!(store.get_now("a"), None, "nothing is known yet");
    assert_eq!(run(store.get("", &["a".into()])).unwrap(), [None]);
    run(store.commit(set("a", "1", None))).unwrap();
    assert_eq!(store.get_now("a").unwrap().unwrap().value, b"1");
    run(store.commit(Commit {
        mutations: vec![Mutation::Delete { key: "a".into() }],
        ..Commit::default()
    }))
    .unwrap();
    assert_eq!(store.get_now("a"), Some(None), "known to be absent");
    assert_eq!(run(store.get("", &["b".into()])).unwrap(), [None]);
    assert_eq!(store.get_now("b"), Some(None), "learnt by asking");
}

#[test]
fn a_cached_entry_expires() {
    let Fixture { store, clock, .. } = fixture(|_| {});
    run(store.commit(set("a", "1", Some(1_000_010)))).unwrap();
    clock.store(1_000_009, Ordering::Relaxed);
    assert!(run(store.get("", &["a".into()])).unwrap()[0].is_some());
    assert!(store.get_now("a").unwrap().is_some());
    clock.store(1_000_010, Ordering::Relaxed);
    assert_eq!(store.get_now("a"), Some(None));
}

#[test]
fn readers_never_see_an_older_value_after_a_newer_one() {
    // A cache so small that it forgets all the time: reads go to the database and come back.
    let Fixture { store, .. } = fixture(|options| options.cache_entries = 1);
    let done = Arc::new(AtomicU64::new(0));
    let key = "n".to_owned();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (store, done, key) = (Arc::clone(&store), Arc::clone(&done), key.clone());
            scope.spawn(move || {
                let mut newest = 0;
                while done.load(Ordering::Acquire) < 300 {
                    let acknowledged = done.load(Ordering::Acquire);
                    let found = run(store.get_shared(std::slice::from_ref(&key)))
                        .unwrap()
                        .remove(0);
                    let value =
                        found.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap());
                    assert!(
                        value >= newest && value >= acknowledged,
                        "{value} after {newest}, {acknowledged}"
                    );
                    newest = value;
                }
            });
        }
        for round in 1..=300 {
            let add = Mutation::Add {
                key: key.clone(),
                delta: 1,
                min: None,
                max: None,
            };
            let noise = Mutation::Set {
                key: format!("noise {round}"),
                value: literal("x"),
                expires: None,
            };
            run(store.commit(Commit {
                mutations: vec![add, noise],
                ..Commit::default()
            }))
            .unwrap();
            done.store(round, Ordering::Release);
        }
    });
}

#[test]
fn a_tail_moves_when_a_message_can_be_read() {
    let Fixture { store, .. } = fixture(|_| {});
    run(async {
        let mut tail = store.subscribe("t");
        let quiet = tokio::time::timeout(Duration::from_millis(50), tail.moved()).await;
        assert!(quiet.is_err(), "nothing was appended");
        store.commit(append(b"x")).await.unwrap();
        assert!(tail.moved().await);
        assert_eq!(store.read("t", 0, 10, 0).await.unwrap().len(), 1);
    });
}

#[test]
fn what_has_expired_is_swept() {
    let fixture = fixture(|_| {});
    for index in 0..700 {
        fixture
            .store
            .defer(set(&format!("e{index}"), "1", Some(1_000_100)));
    }
    run(fixture.store.commit(set("kept", "1", None))).unwrap();
    let idempotence = Idempotence {
        id: "i".into(),
        fingerprint: vec![],
        answer: vec![],
        ttl: 100,
    };
    run(fixture.store.commit(Commit {
        idempotence: Some(idempotence),
        ..Commit::default()
    }))
    .unwrap();
    let found = || run(fixture.store.scan("", None, 1_000)).unwrap().len();
    assert_eq!(found(), 701, "the record of an id is no entry");
    eventually("all are flushed", || {
        (fixture.rows("entries"), fixture.rows("idempotence")) == (701, 1)
    });
    assert_eq!(found(), 701);
    assert_eq!((fixture.rows("journal"), fixture.store.stats().flushed), (0, 702));
    fixture.clock.store(1_000_100, Ordering::Relaxed);
    eventually("all expired rows are gone", || {
        (fixture.rows("entries"), fixture.rows("idempotence")) == (1, 0)
    });
    // Counted once it is durable, which is a moment after it can be seen.
    eventually("all are counted", || fixture.store.stats().swept >= 701);
    assert_eq!(fixture.store.stats().swept, 701);
}

#[test]
fn what_expires_makes_room_where_there_is_none() {
    let fixture = fixture(|options| options.max_bytes = Some(1 << 20));
    let value = "x".repeat(60_000);
    let commit = |key: &str, expires| run(fixture.store.commit(set(key, &value, expires)));
    let written = (0..100).take_while(|n| commit(&format!("e{n}"), Some(1_000_100)).is_ok());
    let written = written.count();
    assert!((5..100).contains(&written), "{written}");
    // Those that are idle flush what they can.
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(commit("late", None).is_err());
    fixture.clock.store(1_000_100, Ordering::Relaxed);
    eventually("there is room", || commit("late", None).is_ok());
    assert_eq!(run(fixture.store.scan("", None, 10)).unwrap().len(), 1);
}

#[test]
fn old_messages_go_unless_a_subscription_needs_them() {
    let fixture = fixture(|_| {});
    for _ in 0..3 {
        run(fixture.store.commit(append(b"x"))).unwrap();
    }
    fixture.clock.store(1_005_000, Ordering::Relaxed);
    run(fixture.store.commit(append(b"young"))).unwrap();
    fixture.store.set_low_water("t", 3);
    let retention = Retention {
        age_ms: Some(5_000),
        max_bytes: None,
        ..Retention::default()
    };
    fixture
        .store
        .set_retention(Retention::default(), [("t".to_owned(), retention)]);
    eventually("the first two are gone", || fixture.sequences() == [3, 4]);
    fixture.store.set_low_water("t", 5);
    eventually("the third is gone", || fixture.sequences() == [4]);
    let topic = run(fixture.store.topics(None, 1)).unwrap().remove(0);
    assert_eq!(
        (topic.first, topic.last, topic.first_time),
        (4, 4, Some(1_005_000))
    );
    fixture.clock.store(2_000_000, Ordering::Relaxed);
    eventually("all are gone", || fixture.sequences().is_empty());
    let topic = run(fixture.store.topics(None, 1)).unwrap().remove(0);
    assert_eq!(
        (topic.first, topic.last, topic.first_time, topic.last_time),
        (5, 4, None, None)
    );
    run(fixture.store.commit(append(b"next"))).unwrap();
    assert_eq!(fixture.sequences(), [5], "the numbers go on");
}

#[test]
fn a_topic_keeps_the_newest_messages_that_fit() {
    let fixture = fixture(|_| {});
    for _ in 0..10 {
        run(fixture.store.commit(append(&[b'x'; 100]))).unwrap();
    }
    let each = MESSAGE_OVERHEAD + 1 + 1 + 100;
    let retention = Retention {
        age_ms: None,
        max_bytes: Some(3 * each + 50),
        ..Retention::default()
    };
    fixture.store.set_retention(retention, []);
    eventually("three are left", || fixture.sequences() == [8, 9, 10]);
}

#[test]
fn a_topic_that_is_full_drops_its_oldest_although_a_subscription_needs_them() {
    let fixture = fixture(|_| {});
    for _ in 0..10 {
        run(fixture.store.commit(append(&[b'x'; 100]))).unwrap();
    }
    fixture.store.set_low_water("t", 1);
    let each = MESSAGE_OVERHEAD + 1 + 1 + 100;
    let retention = Retention {
        drop_beyond: Some(4 * each + 50),
        ..Retention::default()
    };
    fixture.store.set_retention(retention, []);
    eventually("four are left", || fixture.sequences() == [7, 8, 9, 10]);
}

/// A message of the topic `t`, and the entry that goes with it.
fn posted(n: u64) -> Commit {
    let id = format!("id{n}");
    let mut commit = append(b"");
    commit.appends[0].id.clone_from(&id);
    commit.mutations = set(&record_key(&id), "what became of it", None).mutations;
    commit
}

#[test]
fn messages_without_a_body_weigh_too_and_their_entries_go_with_them() {
    let fixture = fixture(|_| {});
    let keep = MESSAGE_OVERHEAD * 50;
    let retention = Retention {
        age_ms: None,
        max_bytes: Some(keep),
        ..Retention::default()
    };
    fixture.store.set_retention(retention, []);
    // So many that some entries are in their table, some in the journal, and some in the cache.
    for n in 0..3_000 {
        run(fixture.store.commit(posted(n))).unwrap();
        if n % 100 == 0 {
            run(fixture.store.get("", &[record_key(&format!("id{n}"))])).unwrap();
        }
        if n == 1_500 {
            std::thread::sleep(Duration::from_millis(1_500));
        }
    }
    eventually("most have gone", || fixture.sequences().len() <= 50);
    let kept = fixture.sequences();
    assert!(kept.len() >= 45, "{kept:?}");
    let entries = run(fixture.store.scan("message/", None, 1_000)).unwrap();
    assert_eq!(entries.len(), kept.len(), "an entry for each that is kept");
    for n in 0..3_000 {
        let key = record_key(&format!("id{n}"));
        let found = run(fixture.store.get("", &[key])).unwrap().remove(0);
        assert_eq!(found.is_some(), kept.contains(&(n + 1)), "{n}");
    }
    eventually("the table too", || fixture.rows("entries") == kept.len() as i64);
}

#[test]
fn a_database_of_the_version_before_is_weighed_and_gets_its_column() {
    let Fixture {
        store,
        directory,
        clock,
    } = fixture(|_| {});
    for n in 0..10 {
        run(store.commit(posted(n))).unwrap();
    }
    store.close();
    drop(store);
    let path = directory.path().join("test.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let before = "ALTER TABLE messages DROP COLUMN attributes; DELETE FROM meta WHERE name = 'weighed';
        UPDATE topics SET bytes = 0;";
    connection.execute_batch(before).unwrap();
    drop(connection);
    let mut options = Options::new(path);
    options.clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let store = SqliteStore::open(options).unwrap();
    let below = |bytes| {
        let condition = Condition::TopicBelow {
            topic: "t".into(),
            bytes,
        };
        let commit = Commit {
            conditions: vec![condition],
            ..Commit::default()
        };
        matches!(run(store.commit(commit)).unwrap(), Outcome::Committed(_))
    };
    let weight = 10 * (MESSAGE_OVERHEAD + 1 + 3);
    assert!(below(weight + 1) && !below(weight));
    assert_eq!(run(store.read("t", 0, 1, 0)).unwrap()[0].attributes, b"");
}

#[test]
fn a_sweep_keeps_pace_with_commits_that_never_stop() {
    let fixture = fixture(|_| {});
    let retention = Retention {
        age_ms: None,
        max_bytes: Some(MESSAGE_OVERHEAD * 100),
        ..Retention::default()
    };
    fixture.store.set_retention(retention, []);
    let started = Instant::now();
    let whole = Duration::from_secs(4);
    // The least that is kept at once, once the sweep has had its time: one that waits for a pause takes nothing away.
    let mut least = u64::MAX;
    let mut posted_so_far = 0;
    while started.elapsed() < whole {
        let group = (0..64).map(|n| fixture.store.commit(posted(posted_so_far + n)));
        run(futures::future::join_all(group));
        posted_so_far += 64;
        let topic = run(fixture.store.topics(None, 1)).unwrap().remove(0);
        if started.elapsed() > whole / 2 {
            least = least.min(topic.last + 1 - topic.first);
        }
    }
    assert!(
        least < posted_so_far / 4,
        "of {posted_so_far} messages, at least {least} were kept"
    );
}

#[test]
fn several_keys_are_read_at_one_moment_by_many_threads() {
    // All of them are raised by the same commits; so many that showing a commit takes a while.
    let keys: Vec<String> = (0..60).map(|n| format!("counter {n}")).collect();
    // One that keeps them in the cache, and one that keeps next to nothing anywhere but in the database.
    for small in [false, true] {
        let Fixture { store, directory, .. } = fixture(|options| {
            if small {
                (options.cache_entries, options.memtable_entries) = (1, 16);
            }
        });
        let raise = || Commit {
            mutations: keys
                .iter()
                .map(|key| Mutation::Add {
                    key: key.clone(),
                    delta: 1,
                    min: None,
                    max: None,
                })
                .collect(),
            ..Commit::default()
        };
        let until = Instant::now() + Duration::from_millis(1_500);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < until {
                    run(store.commit(raise())).unwrap();
                }
            });
            for _ in 0..3 {
                scope.spawn(|| {
                    while Instant::now() < until {
                        let found = run(store.get("", &keys)).unwrap();
                        let values: Vec<_> = found.into_iter().map(|entry| entry.map(|e| e.value)).collect();
                        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
                    }
                });
            }
        });
        drop((store, directory));
    }
}
