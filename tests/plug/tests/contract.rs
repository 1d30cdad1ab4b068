//! The contract of the ports, run against the component inside wasmtime, three instances over one database; and what the
//! component makes of what Spin answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use futures::future::join_all;
use tollgate_contract::{BucketsHarness, StoreHarness};
use tollgate_plug::{Plug, run};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store as _;

struct Component;

impl StoreHarness for Component {
    type Store = Plug;
    const ALONE: bool = false;

    async fn fresh(&self) -> Plug {
        Plug::with_stopped_clock().await
    }

    async fn pass(&self, store: &Plug, ms: u64) {
        store.pass(ms);
    }
}

impl BucketsHarness for Component {
    type Buckets = Plug;

    async fn fresh(&self) -> Plug {
        Plug::with_stopped_clock().await
    }

    async fn pass(&self, buckets: &Plug, ms: u64) {
        buckets.pass(ms);
    }
}

mod store {
    use super::*;
    tollgate_contract::store_contract!(Component, run);
}

mod upkeep {
    use super::*;
    tollgate_contract::upkeep_contract!(Component, run);
}

mod buckets {
    use super::*;
    tollgate_contract::buckets_contract!(Component, run);
}

fn set(key: &str) -> Commit {
    let mutation = Mutation::Set {
        key: key.into(),
        value: literal("v"),
        expires: None,
    };
    Commit {
        mutations: vec![mutation],
        ..Commit::default()
    }
}

#[test]
fn instances_that_begin_at_once_make_the_tables_once() {
    run(async {
        let plug = Plug::new();
        let outcomes = join_all((0..30).map(|n| plug.commit(set(&format!("k{n}"))))).await;
        for outcome in outcomes {
            assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
        }
        assert_eq!(plug.scan("k", None, 100).await.unwrap().len(), 30);
    });
}

#[test]
fn a_writer_that_does_not_end_makes_the_store_unavailable() {
    run(async {
        let plug = Plug::with_stopped_clock().await;
        plug.commit(set("a")).await.unwrap();
        let other = plug.raw();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let outcome = plug.commit(set("b")).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert!(
            plug.get("", &["a".into()]).await.unwrap()[0].is_some(),
            "reads go on"
        );
        other.execute_batch("COMMIT").unwrap();
        plug.commit(Commit {
            conditions: vec![Condition::Absent("b".into())],
            ..set("b")
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_file_that_is_no_database_makes_the_store_unavailable() {
    run(async {
        let plug = Plug::new();
        std::fs::write(
            plug.raw().path().unwrap(),
            "no database, as can be seen".repeat(99),
        )
        .unwrap();
        let outcome = plug.get("", &["a".into()]).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    });
}
