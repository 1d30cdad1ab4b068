//! Commits that nobody waits for.

use std::time::{Duration, Instant};

use tollgate_store::commit::{Outcome, Refusal, literal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

/// How long what was deferred may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until what was deferred is there: a commit may overtake it where `defer` works beside the caller.
async fn settled<S: Store>(harness: &impl StoreHarness<Store = S>, store: &S, key: &str, wanted: &str) {
    // By the clock, not by turns: where commits are fast, a hundred of them are over before the others have had their turn.
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        done(store, commit().then(add("flushed", 1))).await;
        if value(store, key).await.as_deref() == Some(wanted) {
            return;
        }
        harness.pass(store, 20).await;
    }
    panic!("{key} is {:?}, not {wanted:?}", value(store, key).await);
}

pub async fn a_deferred_commit_is_carried_out(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    store.defer(
        commit()
            .then(set("a", "1"))
            .then(add("n", 2))
            .append(append("t", "m")),
    );
    settled(harness, &store, "a", "1").await;
    assert_eq!(value(&store, "n").await.as_deref(), Some("2"));
    assert_eq!(store.read("t", 0, 10, 0).await.unwrap().len(), 1);
}

pub async fn deferred_additions_sum_up(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for _ in 0..500 {
        store.defer(commit().then(add("n", 1)));
    }
    settled(harness, &store, "n", "500").await;
}

pub async fn a_deferred_commit_with_conditions_does_nothing(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    store.defer(commit().when(absent("a")).then(set("a", "1")));
    store.defer(commit().then(set("b", "1")).then(bounded("n", 1, Some(0), None)));
    store.defer(commit().once("id", "f", literal(""), 1_000).then(set("c", "1")));
    store.defer(commit().then(set("d", "1")).then(set("d", "2")));
    store.defer(commit().then(set("last", "1")));
    settled(harness, &store, "last", "1").await;
    assert_untouched(&store, &["a", "b", "c", "d", "n"], &[]).await;
}

pub async fn a_commit_knows_what_was_deferred_before_it_was_settled<H: StoreHarness>(harness: &H) {
    let store = harness.fresh().await;
    for _ in 0..20 {
        store.defer(commit().then(add("n", 1)));
    }
    store.settle().await.unwrap();
    let one_more = commit().then(bounded("n", 1, None, Some(20)));
    let outcome = store.commit(one_more).await.unwrap();
    if H::ALONE {
        assert_eq!(outcome, Outcome::Refused(Refusal::Mutation(0)));
    }
}
