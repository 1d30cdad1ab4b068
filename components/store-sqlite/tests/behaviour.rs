//! Behaviour that the contract suite does not see: the clock, bounds on stored data, other connections, and
//! the arithmetic of buckets against the store in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::rc::Rc;

use support::{Fixture, run};
use tollgate_store::bucket::{Bucket, State, TakeError, take_all};
use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, MESSAGE_OVERHEAD, Mutation, Outcome, Part, StoreError, literal,
};
use tollgate_store::ports::{Buckets as _, Store as _};
use tollgate_store_sqlite::IN_MEMORY;
use tollgate_store_sqlite::buckets::SqliteBuckets;
use tollgate_store_sqlite::database::{Database as _, Failure, Purpose, Value};
use tollgate_store_sqlite::sql;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const SECOND_NS: u64 = 1_000_000_000;

fn set(key: &str, expires: Option<u64>) -> Commit {
    let mutation = Mutation::Set {
        key: key.into(),
        value: literal("v"),
        expires,
    };
    Commit {
        mutations: vec![mutation],
        ..Commit::default()
    }
}

/// Spin's default where it has no directory for its state: each connection would have a database of its own.
#[test]
fn a_database_in_memory_is_refused() {
    run(async {
        for purpose in [Purpose::Durable, Purpose::Relaxed] {
            let link = support::Link(rusqlite::Connection::open_in_memory().unwrap());
            let refused = tollgate_store_sqlite::prepare(&link, purpose).await;
            assert_eq!(refused, Err(Failure::NotDone(IN_MEMORY.to_owned())));
        }
    });
}

fn append(topic: &str, id: &str) -> Append {
    Append {
        topic: topic.into(),
        id: id.into(),
        key: String::new(),
        kind: String::new(),
        content_type: String::new(),
        attributes: Vec::new(),
        payload: literal("payload"),
    }
}

/// The steps of SQLite's machine that a commit takes.
fn steps(fixture: &Fixture, commit: &Commit) -> i32 {
    let (body, bytes) = tollgate_store::encoded::encode(commit);
    let raw = fixture.database.raw();
    let mut statement = raw.prepare(sql::COMMIT).unwrap();
    let mut rows = statement.query((body, bytes)).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    statement.get_status(rusqlite::StatementStatus::VmStep)
}

#[test]
fn a_commit_takes_no_more_steps_however_much_there_is() {
    let commit = |name: &str, topics: &[&str]| Commit {
        idempotence: Some(Idempotence {
            id: name.into(),
            fingerprint: vec![1],
            ttl: DAY_MS,
            answer: literal("done"),
        }),
        conditions: vec![Condition::Absent(name.into())],
        mutations: vec![
            Mutation::Add {
                key: "count".into(),
                delta: 1,
                min: None,
                max: Some(1_000_000),
            },
            Mutation::Set {
                key: name.into(),
                value: vec![Part::Sum(0), Part::Sequence(0)],
                expires: None,
            },
        ],
        appends: topics.iter().map(|topic| append(topic, name)).collect(),
        ..Commit::default()
    };
    run(async {
        let store = Fixture::new();
        store.commit(commit("first", &["few", "many"])).await.unwrap();
        let before = steps(&store, &commit("before", &["many"]));
        for n in 0..400 {
            let other = format!("topic-{n}");
            store
                .commit(commit(&format!("n-{n:03}"), &["many", &other]))
                .await
                .unwrap();
        }
        let after = steps(&store, &commit("next", &["many"]));
        assert!(after <= before + 50, "{before} steps, and {after} later");
    });
}

#[test]
fn a_database_of_an_older_component_gets_what_it_lacks() {
    run(async {
        let store = Fixture::new();
        store.commit(set("before", None)).await.unwrap();
        store.database.close();
        let raw = store.database.raw();
        raw.execute_batch("DROP VIEW tollgate_commit_3; CREATE VIEW tollgate_commit_2 AS SELECT 1")
            .unwrap();
        let done = store.commit(set("after", None)).await;
        assert!(matches!(done, Ok(Outcome::Committed(_))), "{done:?}");
    });
}

fn number(fixture: &Fixture, sql: &str) -> i64 {
    fixture
        .database
        .raw()
        .query_row(sql, [], |row| row.get(0))
        .unwrap()
}

#[test]
fn the_time_never_runs_backwards() {
    run(async {
        let store = Fixture::new();
        let wall_ms = || store.database.now_ns() / 1_000_000;
        let earliest = wall_ms();
        let Outcome::Committed(before) = store.commit(set("a", None)).await.unwrap() else {
            panic!()
        };
        // To the millisecond, which SQLite rounds.
        assert!(
            (earliest..=wall_ms() + 1).contains(&before.time),
            "the wall clock"
        );
        // The machine's clock was a day ahead at the last commit.
        let ahead = before.time + DAY_MS;
        let sql = format!("UPDATE meta SET value = {ahead} WHERE name = 'now'");
        store.database.raw().execute(&sql, []).unwrap();
        let Outcome::Committed(after) = store.commit(set("b", Some(ahead))).await.unwrap() else {
            panic!()
        };
        assert_eq!(after.time, ahead);
        assert_eq!(
            store.get("", &["b".into()]).await.unwrap(),
            [None],
            "it has expired by the store's clock"
        );
        assert!(store.scan("b", None, 10).await.unwrap().is_empty());
    });
}

#[test]
fn what_has_expired_is_removed() {
    run(async {
        let store = Fixture::new();
        for index in 0..100 {
            let mut commit = set(&format!("k{index}"), Some(1));
            let id = format!("id{index}");
            commit.idempotence = Some(Idempotence {
                id,
                fingerprint: vec![],
                answer: vec![],
                ttl: 0,
            });
            store.commit(commit).await.unwrap();
        }
        // The last sweep was at commit 96.
        assert_eq!(number(&store, "SELECT count(*) FROM entries"), 4);
        assert!(number(&store, "SELECT count(*) FROM idempotence") <= 5);
    });
}

#[test]
fn the_log_is_copied_into_the_database() {
    run(async {
        let store = Fixture::new();
        let wal = store.database.path().with_extension("db-wal");
        let mut longest = 0;
        for index in 0..1_000 {
            store.commit(set(&format!("k{}", index % 7), None)).await.unwrap();
            longest = longest.max(std::fs::metadata(&wal).unwrap().len());
        }
        assert!(longest < 8 << 20, "{longest}");
    });
}

#[test]
fn topics_count_what_their_messages_take() {
    run(async {
        let store = Fixture::new();
        let append = |payload| Append {
            payload,
            ..append("t", "m")
        };
        let three = vec![Part::Bytes(b"ab".to_vec()), Part::Sequence(0)];
        let commit = Commit {
            appends: vec![append(literal("12345")), append(three)],
            ..Commit::default()
        };
        store.commit(commit.clone()).await.unwrap();
        store.commit(commit).await.unwrap();
        let each = i64::try_from(MESSAGE_OVERHEAD).unwrap() + 1 + 1;
        let bytes = number(&store, "SELECT bytes FROM topics WHERE name = 't'");
        assert_eq!(bytes, 4 * each + 5 + 3 + 5 + 3);
    });
}

#[test]
fn two_instances_share_the_stock() {
    run(async {
        let one = Fixture::new();
        let two = Fixture::on(Rc::clone(&one.database));
        let claim = || {
            let mutation = Mutation::Add {
                key: "left".into(),
                delta: 1,
                min: None,
                max: Some(20),
            };
            Commit {
                mutations: vec![mutation],
                ..Commit::default()
            }
        };
        let claims = (0..30).map(|index| {
            if index % 2 == 0 {
                one.commit(claim())
            } else {
                two.commit(claim())
            }
        });
        let outcomes = futures::future::join_all(claims).await;
        let admitted = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Outcome::Committed(_))))
            .count();
        assert_eq!(admitted, 20);
    });
}

#[test]
fn a_writer_that_does_not_end_makes_the_store_unavailable() {
    run(async {
        let store = Fixture::new();
        store.commit(set("a", None)).await.unwrap();
        let other = store.database.raw();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let outcome = store.commit(set("a", None)).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert!(
            store.get("", &["a".into()]).await.unwrap()[0].is_some(),
            "reads go on"
        );
        other.execute_batch("COMMIT").unwrap();
        store.commit(set("a", None)).await.unwrap();
    });
}

#[test]
fn a_deferred_commit_waits_for_a_writer() {
    run(async {
        let store = Fixture::new();
        store.get("", &[]).await.unwrap();
        let other = store.database.raw();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.defer(set("a", None));
        assert!(store.has_work());
        other.execute_batch("COMMIT").unwrap();
        store.work().await;
        assert!(store.get("", &["a".into()]).await.unwrap()[0].is_some());
        store.defer(set("b", None));
        assert!(!store.has_work(), "nobody writes: done at once");
    });
}

#[test]
fn a_database_of_a_newer_version_or_with_a_journal_is_refused() {
    run(async {
        for (version, says) in [(3, "this component knows 1"), (2, "start it there once more")] {
            let store = Fixture::new();
            store.commit(set("a", None)).await.unwrap();
            store
                .database
                .raw()
                .execute("UPDATE meta SET value = ?1 WHERE name = 'schema'", [version])
                .unwrap();
            store.database.close();
            match store.commit(set("a", None)).await {
                Err(StoreError::Unavailable(told)) => assert!(told.contains(says), "{told}"),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn buckets_count_as_core_does() {
    run(async {
        let fixture = Fixture::new();
        let buckets = SqliteBuckets::new(Rc::clone(&fixture.database));
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        // Capacity, refill, interval: plain ones, fractions, and the greatest units.
        let shapes = [
            (10, 3, SECOND_NS),
            (7, 1, 1),
            (1, 1 << 62, 3),
            (1 << 32, 1, 1 << 30),
            (5, 7, 11_000_000),
        ];
        let mut now = 1_000 * SECOND_NS;
        let mut states: Vec<Option<State>> = vec![None; 3];
        for step in 0..2_000 {
            let steps_ns = [0, 1, 17, 5_000_000, SECOND_NS / 3, 40 * SECOND_NS];
            now += steps_ns[random(6) as usize];
            let seen = if random(20) == 0 { now - SECOND_NS } else { now };
            let first = random(3) as usize;
            let second = random(3) as usize;
            let bucket = |at: usize, shape: usize, cost: u64| {
                let (capacity, refill, interval_ns) = shapes[shape];
                Bucket {
                    key: format!("k{at}"),
                    capacity,
                    refill,
                    interval_ns,
                    cost: cost.min(capacity),
                }
            };
            let (a, b) = (random(5) as usize, random(5) as usize);
            let b = if first == second { a } else { b };
            let asked = vec![bucket(first, a, random(6)), bucket(second, b, random(6))];
            let mut both = [states[first], states[second]];
            let expected = take_all(&mut both, &asked, seen);
            // Reading alone writes nothing.
            if expected.is_ok() && asked.iter().any(|bucket| bucket.cost > 0) {
                states[first] = both[0];
                states[second] = both[1];
            }
            fixture.database.set_now_ns(seen);
            assert_eq!(
                buckets.take(asked.clone()).await,
                expected,
                "step {step}: {asked:?}"
            );
        }
    });
}

#[test]
fn buckets_are_forgotten_once_they_are_full_and_beyond_the_bound() {
    run(async {
        let fixture = Fixture::new();
        fixture.database.set_now_ns(SECOND_NS);
        let buckets = SqliteBuckets::new(Rc::clone(&fixture.database));
        let bucket = |key: &str, interval_ns| Bucket {
            key: key.into(),
            capacity: 1,
            refill: 1,
            interval_ns,
            cost: 1,
        };
        buckets
            .take(vec![
                bucket("soon", 1),
                bucket("later", SECOND_NS),
                bucket("last", 9 * SECOND_NS),
            ])
            .await
            .unwrap();
        fixture.database.set_now_ns(SECOND_NS + 1);
        buckets.maintain().await;
        assert_eq!(
            number(&fixture, "SELECT count(*) FROM buckets WHERE key <> 'soon'"),
            2
        );
        assert_eq!(number(&fixture, "SELECT count(*) FROM buckets"), 2);
        let beyond: Vec<Value> = vec![1_u32.into(), (SECOND_NS + 1).into(), 1_u32.into()];
        let parameters = beyond.into_iter().map(|value| match value {
            Value::Integer(number) => number,
            _ => 0,
        });
        let raw = fixture.database.raw();
        raw.execute(sql::SWEEP_BUCKETS, rusqlite::params_from_iter(parameters))
            .unwrap();
        assert_eq!(
            number(&fixture, "SELECT count(*) FROM buckets WHERE key = 'last'"),
            1
        );
        assert_eq!(number(&fixture, "SELECT count(*) FROM buckets"), 1);
    });
}

#[test]
fn while_others_write_who_lacks_the_cost_is_refused_at_once_and_who_has_it_waits() {
    run(async {
        let store = Fixture::new();
        let bucket = |key: &str| Bucket {
            key: key.into(),
            capacity: 1,
            refill: 1,
            interval_ns: 3_600 * SECOND_NS,
            cost: 1,
        };
        let buckets = SqliteBuckets::new(Rc::clone(&store.database));
        buckets.take(vec![bucket("emptied")]).await.unwrap();
        let writer = store.database.raw();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        let began = std::time::Instant::now();
        // Another instance: it remembers no refusal.
        let another = SqliteBuckets::new(Rc::clone(&store.database));
        let refused = another.take(vec![bucket("emptied")]).await;
        assert!(
            matches!(refused, Err(TakeError::Refused { index: 0, .. })),
            "{refused:?}"
        );
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
        let waited = buckets.take(vec![bucket("full")]).await;
        assert!(matches!(waited, Err(TakeError::Busy(_))), "{waited:?}");
        writer.execute_batch("COMMIT").unwrap();
        assert!(buckets.take(vec![bucket("full")]).await.is_ok());
    });
}
