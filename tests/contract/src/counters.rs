//! Additions and their bounds.

use tollgate_store::commit::{Commit, Outcome, Refusal, StoreError};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

const SOON: u64 = 400;

async fn refused_at<S: Store>(store: &S, commit: Commit, index: u32) {
    let outcome = store.commit(commit).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::Mutation(index))));
}

pub async fn a_missing_counter_is_zero(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    assert_eq!(
        done(&store, commit().then(add("n", 5)).then(add("m", -3)))
            .await
            .sums,
        [5, -3]
    );
    assert_eq!(
        done(&store, commit().then(add("n", 2)).then(add("m", 0)))
            .await
            .sums,
        [7, -3]
    );
    assert_eq!(value(&store, "n").await.as_deref(), Some("7"));
    assert_eq!(value(&store, "m").await.as_deref(), Some("-3"));
    // A counter may be set, too.
    done(&store, commit().then(set("n", "40"))).await;
    assert_eq!(done(&store, commit().then(add("n", 2))).await.sums, [42]);
}

pub async fn bounds_are_inclusive(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("n", "1"))).await;
    assert_eq!(
        done(&store, commit().then(bounded("n", -1, Some(0), None)))
            .await
            .sums,
        [0]
    );
    refused_at(&store, commit().then(bounded("n", -1, Some(0), None)), 0).await;
    assert_eq!(
        done(&store, commit().then(bounded("n", 3, Some(-9), Some(3))))
            .await
            .sums,
        [3]
    );
    refused_at(&store, commit().then(bounded("n", 1, None, Some(3))), 0).await;
    // Only the result counts, not where the counter was.
    assert_eq!(
        done(&store, commit().then(bounded("n", 10, Some(13), Some(13))))
            .await
            .sums,
        [13]
    );
    assert_eq!(value(&store, "n").await.as_deref(), Some("13"));
}

pub async fn the_first_add_out_of_bounds_is_named(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let two = commit()
        .then(set("a", "1"))
        .then(add("n", 1))
        .then(bounded("x", -1, Some(0), None));
    refused_at(&store, two.then(bounded("y", -1, Some(0), None)), 2).await;
    let mut many = commit();
    for index in 0..63 {
        many = many.then(add(&format!("n{index}"), 1));
    }
    refused_at(&store, many.then(bounded("x", 1, None, Some(0))), 63).await;
    assert_untouched(&store, &["a", "n", "x", "y", "n0", "n62"], &[]).await;
}

pub async fn overflow_is_refused(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(
        &store,
        commit().then(add("high", i64::MAX)).then(add("low", i64::MIN)),
    )
    .await;
    refused_at(&store, commit().then(add("n", 1)).then(add("high", 1)), 1).await;
    refused_at(&store, commit().then(add("low", -1)), 0).await;
    assert_eq!(
        done(&store, commit().then(add("high", -1)).then(add("low", 1)))
            .await
            .sums,
        [i64::MAX - 1, i64::MIN + 1]
    );
}

pub async fn an_entry_that_is_no_integer_is_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for text in [
        "",
        "x",
        "1.0",
        "+1",
        "01",
        "-0",
        " 1",
        "1 ",
        "9223372036854775808",
        "1e3",
        "0x1",
    ] {
        done(&store, commit().then(set("a", text))).await;
        let outcome = store
            .commit(
                commit()
                    .then(set("b", "2"))
                    .then(add("a", 1))
                    .append(append("t", "m")),
            )
            .await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid(_))),
            "{text:?}: {outcome:?}"
        );
        assert_eq!(value(&store, "a").await.as_deref(), Some(text));
        assert_untouched(&store, &["b"], &["t"]).await;
    }
}

pub async fn extremes_are_exact(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for number in [i64::MAX, i64::MIN, i64::MAX - 1, (1 << 53) + 1, -(1 << 53) - 1] {
        let key = format!("n{number}");
        let exact = bounded(&key, number, Some(number), Some(number));
        assert_eq!(done(&store, commit().then(exact)).await.sums, [number]);
        assert_eq!(value(&store, &key).await, Some(number.to_string()));
    }
}

pub async fn an_add_keeps_the_expiry(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let until = now(&store).await + 3_600_000;
    done(&store, commit().then(set_until("n", "1", until))).await;
    let committed = done(&store, commit().then(add("n", 1))).await;
    let found = entry(&store, "n").await.unwrap();
    assert_eq!((found.expires, found.version), (Some(until), committed.version));
}

pub async fn an_expired_counter_is_zero_and_lasts(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let until = now(&store).await + SOON;
    done(
        &store,
        commit()
            .then(set_until("n", "41", until))
            .then(set_until("text", "no", until)),
    )
    .await;
    harness.pass(&store, SOON).await;
    assert_eq!(
        done(&store, commit().then(add("n", 1)).then(add("text", 1)))
            .await
            .sums,
        [1, 1]
    );
    assert_eq!(entry(&store, "n").await.unwrap().expires, None);
}
