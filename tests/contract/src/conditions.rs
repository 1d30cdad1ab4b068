//! What must hold for a commit to happen.

use tollgate_store::commit::{Commit, Outcome, Refusal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

pub(crate) async fn refused_at<S: Store>(store: &S, commit: Commit, index: u32) {
    let outcome = store.commit(commit).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::Condition(index))));
}

pub async fn absent_holds_only_without_an_entry(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().when(absent("a")).then(set("a", "1"))).await;
    refused_at(&store, commit().when(absent("a")).then(set("a", "2")), 0).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    done(&store, commit().then(delete("a"))).await;
    done(&store, commit().when(absent("a")).then(set("a", "3"))).await;
}

pub async fn a_version_must_match_exactly(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let first = done(&store, commit().then(set("a", "1"))).await.version;
    for wrong in [0, first - 1, first + 1, u64::MAX] {
        refused_at(&store, commit().when(version("a", wrong)).then(set("a", "2")), 0).await;
    }
    refused_at(&store, commit().when(version("never there", 0)), 0).await;
    let second = done(&store, commit().when(version("a", first)).then(set("a", "2")))
        .await
        .version;
    refused_at(&store, commit().when(version("a", first)).then(set("a", "3")), 0).await;
    done(&store, commit().when(version("a", second)).then(set("a", "3"))).await;
}

pub async fn a_recreated_key_has_another_version(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let first = done(&store, commit().then(set("a", "1"))).await.version;
    done(&store, commit().then(delete("a"))).await;
    refused_at(&store, commit().when(version("a", first)), 0).await;
    let again = done(&store, commit().when(absent("a")).then(set("a", "1")))
        .await
        .version;
    assert!(again > first);
    refused_at(&store, commit().when(version("a", first)), 0).await;
}

pub async fn a_window_includes_its_start_and_excludes_its_end(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    const HOUR: u64 = 3_600_000;
    let now = now(&store).await;
    done(&store, commit().when(now_in(Some(now), Some(now + HOUR)))).await;
    refused_at(
        &store,
        commit().when(now_in(Some(now + HOUR), Some(now + 2 * HOUR))),
        0,
    )
    .await;
    refused_at(&store, commit().when(now_in(Some(now - HOUR), Some(now))), 0).await;
    refused_at(
        &store,
        commit().when(now_in(Some(now + HOUR), Some(now - HOUR))),
        0,
    )
    .await;
}

pub async fn a_window_with_a_missing_side_is_open(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let now = now(&store).await;
    done(&store, commit().when(now_in(None, None))).await;
    done(
        &store,
        commit()
            .when(now_in(Some(0), None))
            .when(now_in(None, Some(u64::MAX))),
    )
    .await;
    refused_at(&store, commit().when(now_in(None, Some(now))), 0).await;
    refused_at(&store, commit().when(now_in(Some(u64::MAX), None)), 0).await;
}

pub async fn the_first_condition_that_fails_is_named(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("a", "1")).then(set("b", "1"))).await;
    refused_at(
        &store,
        commit().when(absent("c")).when(absent("b")).when(absent("a")),
        1,
    )
    .await;
    let mut many = commit();
    for _ in 0..63 {
        many = many.when(absent("c"));
    }
    refused_at(&store, many.when(version("a", 0)), 63).await;
}

pub async fn conditions_come_before_mutations(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("a", "1"))).await;
    refused_at(
        &store,
        commit().when(absent("a")).then(bounded("n", -1, Some(0), None)),
        0,
    )
    .await;
    // A value that is not a counter is not even looked at.
    refused_at(
        &store,
        commit().when(absent("a")).then(set("b", "2")).then(add("a", 1)),
        0,
    )
    .await;
}

pub async fn conditions_see_the_state_before_the_commit(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let first = done(&store, commit().when(absent("a")).then(set("a", "1")))
        .await
        .version;
    done(&store, commit().when(version("a", first)).then(delete("a"))).await;
}

pub async fn a_refused_commit_changes_nothing(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let before = done(&store, commit().then(set("a", "1"))).await;
    let all = commit()
        .then(set("b", "2"))
        .then(delete("a"))
        .then(add("n", 1))
        .append(append("t", "m"));
    refused_at(&store, all.clone().when(absent("b")).when(absent("a")), 1).await;
    let outcome = store.commit(all.then(bounded("stock", -1, Some(0), None))).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::Mutation(3))));
    assert_untouched(&store, &["b", "n", "stock"], &["t"]).await;
    assert_eq!(entry(&store, "a").await.unwrap().version, before.version);
    assert_eq!(store.topics(None, 10).await.unwrap(), []);
}

pub async fn a_commit_of_conditions_alone_is_decided(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let committed = done(&store, commit().when(absent("a"))).await;
    assert_eq!((committed.sums, committed.sequences), (vec![], vec![]));
}
