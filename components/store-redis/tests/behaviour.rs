//! Behaviour that the contract suite does not see: instances that share a Redis, and one that is short of memory, restarted or damaged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use futures::future::join_all;
use support::{Fixture, Native, run, server};
use tollgate_contract::redis::{Redis as Server, SYNCED};
use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, Mutation, Outcome, Refusal, StoreError, literal, record_key,
};
use tollgate_store::deleted::key;
use tollgate_store::ports::{Store, Upkeep as _};
use tollgate_store::retention::Retention;
use tollgate_store_redis::durability::complaint;

const STOCK: i64 = 40;

fn add(key: &str, delta: i64, min: Option<i64>) -> Mutation {
    Mutation::Add {
        key: key.into(),
        delta,
        min,
        max: None,
    }
}

fn set(key: &str, value: Vec<u8>, expires: Option<u64>) -> Mutation {
    Mutation::Set {
        key: key.into(),
        value: literal(value),
        expires,
    }
}

fn of(mutations: Vec<Mutation>) -> Commit {
    Commit {
        partition: "campaign/c".into(),
        mutations,
        ..Commit::default()
    }
}

fn append(id: String, payload: Vec<u8>) -> Append {
    Append {
        topic: "coupon".into(),
        id,
        key: String::new(),
        kind: "claimed".into(),
        content_type: String::new(),
        attributes: Vec::new(),
        payload: literal(payload),
    }
}

fn claim(user: usize) -> Commit {
    let taken = format!("claim/{user:04}");
    Commit {
        conditions: vec![Condition::Absent(taken.clone())],
        appends: vec![append(format!("m{user}"), b"{}".to_vec())],
        ..of(vec![
            add("sequence", 1, None),
            add("remaining", -1, Some(0)),
            set(&taken, b"1".to_vec(), None),
        ])
    }
}

/// A server of this case's own.
fn own(extra: &str) -> &'static Server {
    Box::leak(Box::new(Server::start(extra).unwrap()))
}

#[test]
fn instances_sell_exactly_the_stock_and_versions_never_meet() {
    run(async {
        let (server, number) = (server().unwrap(), server().unwrap().fresh());
        let instances: Vec<Fixture> = (0..6).map(|_| Fixture::at(server, number)).collect();
        instances[0]
            .commit(of(vec![add("remaining", STOCK, None)]))
            .await
            .unwrap();
        let claims = (0..300).map(|user| instances[user % 6].commit(claim(user / 2)));
        let mut given = BTreeSet::new();
        for outcome in join_all(claims).await {
            match outcome {
                Ok(Outcome::Committed(done)) => assert!(given.insert(done.sums[0]), "{done:?} twice"),
                Ok(Outcome::Refused(Refusal::Mutation(1) | Refusal::Condition(0))) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(given, (1..=STOCK).collect());
        let claims = instances[1].scan("claim/", None, 1_000).await.unwrap();
        let versions: BTreeSet<u64> = claims.iter().map(|item| item.entry.version).collect();
        assert_eq!(versions.len(), STOCK as usize);
        let topic = instances[2].topics(None, 10).await.unwrap().remove(0);
        assert_eq!(topic.last, STOCK as u64);
    });
}

/// Also the script that Redis has forgotten, and connections that are dead.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    static SERVER: OnceLock<&Server> = OnceLock::new();
    run(async {
        let server = SERVER.get_or_init(|| own(SYNCED));
        let (number, mut acknowledged) = (server.fresh(), BTreeSet::new());
        let instances: Vec<Fixture> = (0..4).map(|_| Fixture::at(server, number)).collect();
        for round in 0..3 {
            // It dies while claims are under way: after the first of them were answered, however slow its disk is.
            let answered = tokio::sync::Semaphore::new(0);
            let claims = (0..200).map(|n| {
                let (user, instance, answered) = (round * 200 + n, &instances[n % 4], &answered);
                async move {
                    let outcome = Store::commit(&**instance, claim(user)).await;
                    answered.add_permits(1);
                    (user, outcome)
                }
            });
            let (outcomes, ()) = futures::join!(join_all(claims), async {
                drop(answered.acquire_many(20).await);
                server.order("crash");
            });
            for (user, outcome) in outcomes {
                match outcome {
                    Ok(Outcome::Committed(_)) => _ = acknowledged.insert(format!("claim/{user:04}")),
                    // The stock is what there is: nothing.
                    Ok(Outcome::Refused(_)) | Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            tokio::task::spawn_blocking(move || server.wait()).await.unwrap();
            if round == 0 {
                instances[0]
                    .commit(of(vec![add("remaining", 300, None)]))
                    .await
                    .ok();
                instances[0]
                    .commit(of(vec![add("remaining", 300, None)]))
                    .await
                    .unwrap();
            }
        }
        assert!(!acknowledged.is_empty());
        // A read over a connection that is dead is asked again.
        let found = instances[1].scan("claim/", None, 1_000).await.unwrap();
        let found: BTreeSet<String> = found.into_iter().map(|item| item.key).collect();
        assert!(found.is_superset(&acknowledged));
        let topic = instances[2].topics(None, 1).await.unwrap().remove(0);
        assert_eq!(topic.last, found.len() as u64, "each with its message");
    });
}

#[test]
fn scripts_that_redis_has_forgotten_are_sent_again() {
    run(async {
        let store = Fixture::new();
        store.commit(of(vec![add("n", 1, None)])).await.unwrap();
        store.database.ask(&["SCRIPT", "FLUSH"]);
        assert!(matches!(
            store.commit(of(vec![add("n", 1, None)])).await,
            Ok(Outcome::Committed(_))
        ));
    });
}

#[test]
fn without_memory_a_commit_is_refused_whole_and_what_makes_room_is_done() {
    run(async {
        let server = own("");
        let store = Fixture::at(server, server.fresh());
        let now = store.stop_clock();
        for n in 0..20 {
            let id = format!("m{n}");
            let mut commit = of(vec![
                set(&record_key(&id), vec![0; 1_000], None),
                set(&format!("ends/{n}"), vec![0; 1_000], Some(now + 1)),
            ]);
            commit.appends.push(append(id, vec![0; 1_000]));
            store.commit(commit).await.unwrap();
        }
        store.pass(2);
        store.database.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let refused = store.commit(of(vec![add("sequence", 1, None)])).await;
        assert!(
            matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("OOM")),
            "{refused:?}"
        );
        // Its clock was not moved either: nothing was written.
        assert_eq!(store.database.ask(&["HGET", "{tollgate}:meta", "revision"]), "20");
        assert_eq!(store.get("", &["sequence".into()]).await.unwrap(), [None]);
        let all = Retention {
            max_bytes: Some(0),
            ..Retention::default()
        };
        while store.trim("coupon", all, u64::MAX).await.unwrap() {}
        while store.expire().await.unwrap() {}
        for key in ["entries", "keys", "expiries", "messages"] {
            assert_eq!(
                store.database.ask(&["EXISTS", &format!("{{tollgate}}:{key}")]),
                "0",
                "{key}"
            );
        }
        store.database.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        store.commit(of(vec![add("n", 1, None)])).await.unwrap();
    });
}

#[test]
fn a_replica_and_data_that_are_not_whole_are_refused() {
    run(async {
        let server = own("");
        let store = Fixture::at(server, server.fresh());
        store.commit(of(vec![add("n", 1, None)])).await.unwrap();
        store
            .commit(Commit {
                appends: vec![append("m".into(), vec![])],
                ..of(vec![])
            })
            .await
            .unwrap();
        let refused = async |word: &str| {
            let outcome = store.commit(of(vec![add("n", 1, None)])).await;
            assert!(
                matches!(&outcome, Err(StoreError::Unavailable(why)) if why.contains(word)),
                "{outcome:?}"
            );
        };
        store.database.ask(&["REPLICAOF", "127.0.0.1", "1"]);
        refused("READONLY").await;
        store.database.ask(&["REPLICAOF", "NO", "ONE"]);
        store.database.ask(&["HSET", "{tollgate}:meta", "schema", "2"]);
        refused("another version").await;
        store.database.ask(&["HSET", "{tollgate}:meta", "schema", "1"]);
        store.commit(of(vec![add("n", 1, None)])).await.unwrap();
        // As an eviction would; all but the one that holds nothing.
        for key in ["entries", "keys", "topics", "extents", "messages", "meta"] {
            let (key, spare) = (format!("{{tollgate}}:{key}"), format!("spare-{key}"));
            store.database.ask(&["RENAME", &key, &spare]);
            refused("a part of the data is missing").await;
            store.database.ask(&["RENAME", &spare, &key]);
        }
        store.commit(of(vec![add("n", 1, None)])).await.unwrap();
        store.database.ask(&["DEL", "{tollgate}:entries"]);
        let read = store.get("", &["sequence".into()]).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    });
}

#[test]
fn the_time_never_runs_backwards() {
    run(async {
        let store = Fixture::new();
        let ahead = store.stop_clock();
        let Outcome::Committed(done) = store
            .commit(of(vec![set("a", vec![], Some(ahead))]))
            .await
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(done.time, ahead);
        assert_eq!(
            store.get("", &["a".into()]).await.unwrap(),
            [None],
            "it has expired"
        );
    });
}

#[test]
fn a_scan_goes_on_over_many_that_have_expired() {
    run(async {
        let store = Fixture::new();
        let now = store.stop_clock();
        for batch in 0..70 {
            let many = (0..64).map(|n| set(&format!("k/{:05}", batch * 64 + n), vec![], Some(now + 1)));
            store.commit(of(many.collect())).await.unwrap();
        }
        store
            .commit(of(vec![set("k/x", vec![], None), set("k/y", vec![], None)]))
            .await
            .unwrap();
        store.pass(1);
        let found = store.scan("k/", None, 1).await.unwrap();
        assert_eq!(found.iter().map(|item| &*item.key).collect::<Vec<_>>(), ["k/x"]);
        assert_eq!(store.scan("k/", Some("k/x"), 10).await.unwrap().len(), 1);
        while store.expire().await.unwrap() {}
        assert_eq!(store.database.ask(&["ZCARD", "{tollgate}:keys"]), "2");
        assert_eq!(store.database.ask(&["HLEN", "{tollgate}:entries"]), "2");
        assert_eq!(store.database.ask(&["EXISTS", "{tollgate}:expiries"]), "0");
    });
}

#[test]
fn large_messages_are_removed_some_at_a_time() {
    run(async {
        let store = Fixture::new();
        for n in 0..12 {
            let large = append(format!("m{n}"), vec![b'x'; 1_000_000]);
            let mut commit = of(vec![set(&record_key(&format!("m{n}")), vec![], None)]);
            commit.appends.push(large);
            store.commit(commit).await.unwrap();
        }
        let first = async || store.topics(None, 1).await.unwrap()[0].first;
        let all = Retention {
            max_bytes: Some(0),
            ..Retention::default()
        };
        assert!(store.trim("coupon", all, 8).await.unwrap(), "there is more");
        assert_eq!(first().await, 6, "4 MiB, and one");
        assert!(!store.trim("coupon", all, 8).await.unwrap());
        assert_eq!(first().await, 8);
        store
            .commit(of(vec![set(&key("coupon"), b"12".to_vec(), None)]))
            .await
            .unwrap();
        assert_eq!(first().await, 13);
        assert!(store.expire().await.unwrap());
        assert_eq!(store.scan("message/", None, 10).await.unwrap().len(), 0);
        assert!(!store.expire().await.unwrap());
        assert_eq!(store.database.ask(&["EXISTS", "{tollgate}:messages"]), "0");
    });
}

#[test]
fn ids_are_forgotten() {
    run(async {
        let store = Fixture::new();
        store.stop_clock();
        let commit = |id: &str, ttl| Commit {
            idempotence: Some(Idempotence {
                id: id.into(),
                fingerprint: vec![0, 32, 255],
                answer: literal(" a b"),
                ttl,
            }),
            ..of(vec![add("n", 1, None)])
        };
        store.commit(commit("a", 10)).await.unwrap();
        store.commit(commit("b", u64::MAX)).await.unwrap();
        store.pass(10);
        while store.expire().await.unwrap() {}
        assert_eq!(store.database.ask(&["HLEN", "{tollgate}:ids"]), "1");
        let again = store.commit(commit("b", 1)).await;
        assert_eq!(again, Ok(Outcome::Replayed(b" a b".to_vec())));
    });
}

#[test]
fn deferred_commits_wait_for_a_connection_and_keep_their_order() {
    run(async {
        let server = own("");
        let number = server.fresh();
        let store = Fixture::at(server, number);
        server.order("stop");
        while store.get("", &[]).await.is_ok() {}
        for n in 0..100_u8 {
            store.defer(of(vec![set("last", vec![n], None), add("n", 1, None)]));
        }
        store.work().await;
        assert!(store.has_work(), "nobody could be reached");
        server.order("start");
        tokio::task::spawn_blocking(move || server.wait()).await.unwrap();
        store.work().await;
        assert!(!store.has_work());
        let found = store.get("", &["last".into(), "n".into()]).await.unwrap();
        let values: Vec<_> = found.into_iter().flatten().map(|entry| entry.value).collect();
        assert_eq!(values, [vec![99], b"100".to_vec()]);
    });
}

#[test]
fn what_redis_cannot_promise_is_said_once() {
    run(async {
        let server = own("");
        let database = Native::new(server, server.fresh());
        let said = complaint(&database).await.unwrap();
        assert!(said.contains("appendonly is not yes"), "{said}");
        assert_eq!(complaint(&database).await, None, "not again at once");
        server.ask(0, &["CONFIG", "SET", "appendonly", "yes"]);
        server.ask(0, &["CONFIG", "SET", "appendfsync", "always"]);
        let other = Native::new(server, server.fresh());
        assert_eq!(complaint(&other).await, None);
        server.ask(0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        assert!(complaint(&other).await.unwrap().contains("noeviction"));
    });
}
