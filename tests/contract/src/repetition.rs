//! Commits that carry an id.

use tollgate_store::commit::{Outcome, Part, Refusal, literal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

const HOUR: u64 = 3_600_000;
const SOON: u64 = 400;

pub async fn a_repeated_commit_is_answered_and_not_repeated(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = || {
        commit()
            .once("id", "f", literal("answer"), HOUR)
            .then(add("n", 1))
            .append(append("t", "m"))
    };
    done(&store, step()).await;
    for _ in 0..2 {
        assert_eq!(
            store.commit(step()).await,
            Ok(Outcome::Replayed(b"answer".to_vec()))
        );
    }
    // Only the id and the fingerprint are compared, and the first answer is the one that counts.
    let other = commit()
        .once("id", "f", literal("another"), 0)
        .then(set("a", "1"));
    assert_eq!(
        store.commit(other).await,
        Ok(Outcome::Replayed(b"answer".to_vec()))
    );
    assert_eq!(value(&store, "n").await.as_deref(), Some("1"));
    assert_eq!(store.read("t", 0, 10, 0).await.unwrap().len(), 1);
    assert_untouched(&store, &["a"], &[]).await;
    done(
        &store,
        commit()
            .once("another id", "f", literal("x"), HOUR)
            .then(add("n", 1)),
    )
    .await;
}

pub async fn another_fingerprint_is_a_conflict(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(
        &store,
        commit()
            .once("id", "f", literal("answer"), HOUR)
            .then(add("n", 1)),
    )
    .await;
    for fingerprint in ["g", "", "ff"] {
        let outcome = store
            .commit(
                commit()
                    .once("id", fingerprint, literal("x"), HOUR)
                    .then(add("n", 1)),
            )
            .await;
        assert_eq!(outcome, Ok(Outcome::Conflict), "{fingerprint:?}");
    }
    assert_eq!(value(&store, "n").await.as_deref(), Some("1"));
}

pub async fn a_refused_commit_may_be_tried_again(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = || {
        commit()
            .once("id", "f", literal("answer"), HOUR)
            .then(bounded("stock", -1, Some(0), None))
    };
    assert_eq!(
        store.commit(step()).await,
        Ok(Outcome::Refused(Refusal::Mutation(0)))
    );
    let step = || step().when(absent("closed"));
    done(
        &store,
        commit().then(set("closed", "yes")).then(set("stock", "1")),
    )
    .await;
    assert_eq!(
        store.commit(step()).await,
        Ok(Outcome::Refused(Refusal::Condition(0)))
    );
    done(&store, commit().then(delete("closed"))).await;
    assert_eq!(done(&store, step()).await.sums, [0]);
}

pub async fn repetition_comes_before_conditions(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = || {
        commit()
            .once("id", "f", literal("answer"), HOUR)
            .when(absent("a"))
            .then(set("a", "1"))
    };
    done(&store, step()).await;
    assert_eq!(
        store.commit(step()).await,
        Ok(Outcome::Replayed(b"answer".to_vec()))
    );
    let conflict = commit()
        .once("id", "g", literal("answer"), HOUR)
        .when(absent("a"));
    assert_eq!(store.commit(conflict).await, Ok(Outcome::Conflict));
}

pub async fn an_id_is_forgotten_after_its_time(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = |fingerprint| {
        commit()
            .once("id", fingerprint, literal(fingerprint), SOON)
            .then(add("n", 1))
    };
    done(&store, step("f")).await;
    assert_eq!(
        store.commit(step("f")).await,
        Ok(Outcome::Replayed(b"f".to_vec()))
    );
    harness.pass(&store, SOON).await;
    assert_eq!(done(&store, step("g")).await.sums, [2]);
    assert_eq!(
        store.commit(step("g")).await,
        Ok(Outcome::Replayed(b"g".to_vec()))
    );
}

pub async fn an_id_without_time_is_forgotten_at_once(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = |ttl| commit().once("id", "f", literal(""), ttl).then(add("n", 1));
    done(&store, step(0)).await;
    assert_eq!(done(&store, step(u64::MAX)).await.sums, [2]);
    assert_eq!(store.commit(step(0)).await, Ok(Outcome::Replayed(Vec::new())));
}

pub async fn the_answer_may_hold_numbers(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(add("n", 6)).append(append("t", "m0"))).await;
    let answer = vec![
        text("n="),
        Part::Sum(0),
        text(" s="),
        Part::Sequence(0),
        text(" t="),
        Part::Time,
    ];
    let step = || {
        commit()
            .once("id", "f", answer.clone(), HOUR)
            .then(add("n", 1))
            .append(append("t", "m"))
    };
    let time = done(&store, step()).await.time;
    let wanted = format!("n=7 s=2 t={time}").into_bytes();
    assert_eq!(store.commit(step()).await, Ok(Outcome::Replayed(wanted)));
}
