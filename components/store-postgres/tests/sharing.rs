//! Instances that share a database, with one another and with a gateway of a fleet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeSet;

use futures::future::join_all;
use support::{Fixture, run, server};
use tollgate_engines::{Engine as _, PostgresOptions, PostgresStore};
use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, Mutation, Outcome, Refusal, StoreError, literal,
};
use tollgate_store::ports::Store;

const STOCK: i64 = 40;

fn claim(user: usize) -> Commit {
    let add = |key: &str, delta, min| Mutation::Add {
        key: key.into(),
        delta,
        min,
        max: None,
    };
    let taken = format!("claim/{user}");
    Commit {
        partition: "campaign/c".into(),
        conditions: vec![Condition::Absent(taken.clone())],
        mutations: vec![
            add("sequence", 1, None),
            add("remaining", -1, Some(0)),
            Mutation::Set {
                key: taken,
                value: literal("1"),
                expires: None,
            },
        ],
        appends: vec![Append {
            topic: "coupon".into(),
            id: format!("m{user}"),
            key: String::new(),
            kind: "claimed".into(),
            content_type: String::new(),
            attributes: Vec::new(),
            payload: literal("{}"),
        }],
        ..Commit::default()
    }
}

fn stock() -> Commit {
    Commit {
        partition: "campaign/c".into(),
        mutations: vec![Mutation::Add {
            key: "remaining".into(),
            delta: STOCK,
            min: None,
            max: None,
        }],
        ..Commit::default()
    }
}

/// The sequences that claims were given; all others were refused.
fn admitted(outcomes: impl IntoIterator<Item = Result<Outcome, StoreError>>) -> BTreeSet<i64> {
    let mut given = BTreeSet::new();
    for outcome in outcomes {
        match outcome {
            Ok(Outcome::Committed(done)) => assert!(given.insert(done.sums[0]), "{done:?} twice"),
            Ok(Outcome::Refused(Refusal::Mutation(1) | Refusal::Condition(0))) => {}
            other => panic!("{other:?}"),
        }
    }
    given
}

#[test]
fn instances_that_begin_at_once_make_the_tables_once_and_sell_exactly_the_stock() {
    run(async {
        let url = server().unwrap().fresh();
        let instances: Vec<Fixture> = (0..6).map(|_| Fixture::at(url.clone())).collect();
        for outcome in join_all(instances.iter().map(|one| one.commit(stock()))).await {
            assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
        }
        let stock = 6 * STOCK;
        let claims = (0..2 * stock as usize).map(|user| instances[user % 6].commit(claim(user / 2)));
        let given = admitted(join_all(claims).await);
        assert_eq!(given, (1..=stock).collect());
        let messages = instances[0].topics(None, 1).await.unwrap();
        assert_eq!(messages[0].last, stock as u64);
    });
}

#[test]
fn a_gateway_and_instances_sell_one_stock_and_versions_never_meet() {
    run(async {
        let url = server().unwrap().fresh();
        let gateway = PostgresStore::open(PostgresOptions::new(url.clone())).unwrap();
        let instances: Vec<Fixture> = (0..3).map(|_| Fixture::at(url.clone())).collect();
        gateway.commit(stock()).await.unwrap();
        let (of_gateway, of_instances) = futures::join!(
            join_all((0..300).map(|user| gateway.commit(claim(user)))),
            join_all((0..300).map(|user| instances[user % 3].commit(claim(user)))),
        );
        let given = admitted(of_gateway.into_iter().chain(of_instances));
        assert_eq!(given, (1..=STOCK).collect());
        let (here, there) = (
            gateway.scan("claim/", None, 1_000).await.unwrap(),
            instances[0].scan("claim/", None, 1_000).await.unwrap(),
        );
        assert_eq!(here, there);
        let versions: BTreeSet<u64> = here.iter().map(|item| item.entry.version).collect();
        assert_eq!(versions.len(), STOCK as usize, "each commit has its own");
        assert_eq!(
            gateway.read("coupon", 0, 1_000, 0).await.unwrap(),
            Store::read(&instances[1], "coupon", 0, 1_000, 0).await.unwrap()
        );
        gateway.close();
    });
}

/// A repeated request may choose another partition each time: the code of a new link, for one.
#[test]
fn one_id_is_carried_out_once_by_gateways_and_instances_together() {
    run(async {
        let url = server().unwrap().fresh();
        let gateways: Vec<_> = (0..2)
            .map(|_| PostgresStore::open(PostgresOptions::new(url.clone())).unwrap())
            .collect();
        let instances: Vec<Fixture> = (0..4).map(|_| Fixture::at(url.clone())).collect();
        gateways[0].commit(stock()).await.unwrap();
        for round in 0..40 {
            let step = |caller: usize| {
                let key = format!("made/{round:02}/{caller}");
                Commit {
                    idempotence: Some(Idempotence {
                        id: format!("id {round}"),
                        fingerprint: b"f".to_vec(),
                        answer: literal(&*key),
                        ttl: 3_600_000,
                    }),
                    mutations: vec![Mutation::Set {
                        key: key.clone(),
                        value: literal("1"),
                        expires: None,
                    }],
                    partition: key,
                    ..Commit::default()
                }
            };
            let (of_gateways, of_instances) = futures::join!(
                join_all((0..6).map(|caller| gateways[caller % 2].commit(step(caller)))),
                join_all((0..8).map(|caller| instances[caller % 4].commit(step(10 + caller)))),
            );
            let outcomes: Vec<_> = of_gateways.into_iter().chain(of_instances).collect();
            let done = |outcome: &&_| matches!(outcome, Ok(Outcome::Committed(_)));
            assert_eq!(outcomes.iter().filter(done).count(), 1, "{outcomes:?}");
            let made = gateways[0]
                .scan(&format!("made/{round:02}/"), None, 100)
                .await
                .unwrap();
            let answer = Ok(Outcome::Replayed(made[0].key.clone().into_bytes()));
            let replayed = outcomes.iter().filter(|outcome| **outcome == answer);
            assert_eq!((made.len(), replayed.count()), (1, outcomes.len() - 1));
        }
        for gateway in gateways {
            gateway.close();
        }
    });
}

#[test]
fn tables_of_another_version_are_left_alone() {
    run(async {
        let store = Fixture::new();
        store.stop_clock().await;
        store
            .sql("UPDATE tollgate_meta SET value = 99 WHERE name = 'schema'")
            .await;
        let refused = store.commit(stock()).await;
        assert!(
            matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("another version")),
            "{refused:?}"
        );
    });
}
