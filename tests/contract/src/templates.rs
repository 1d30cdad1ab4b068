//! Values that hold numbers which only the commit knows.

use tollgate_store::commit::{Outcome, Part, Refusal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

async fn payload<S: Store>(store: &S, topic: &str, sequence: u64) -> String {
    let mut messages = store.read(topic, sequence - 1, 1, 0).await.unwrap();
    String::from_utf8(messages.remove(0).payload).unwrap()
}

pub async fn a_sum_is_filled_in(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(add("n", -42))).await;
    let value_of = vec![text("<"), Part::Sum(0), text("|"), Part::Sum(0), text(">")];
    let step = commit().then(add("n", 1)).then(set_parts("a", value_of));
    done(&store, step.append(append_parts("t", "m", vec![Part::Sum(0)]))).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("<-41|-41>"));
    assert_eq!(payload(&store, "t", 1).await, "-41");
}

pub async fn a_sum_of_a_later_mutation_is_filled_in(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(
        &store,
        commit()
            .then(set_parts("a", vec![Part::Sum(2), Part::Sum(1)]))
            .then(add("n", 7))
            .then(add("m", 8)),
    )
    .await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("87"));
}

pub async fn a_sequence_is_filled_in(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().append(append("t", "m1"))).await;
    let parts = vec![
        Part::Sequence(1),
        text("/"),
        Part::Sequence(0),
        text("/"),
        Part::Sequence(2),
    ];
    let step = commit().then(set_parts("a", parts.clone()));
    let step = step
        .append(append_parts("t", "m2", parts))
        .append(append("u", "m3"))
        .append(append("t", "m4"));
    assert_eq!(done(&store, step).await.sequences, [2, 1, 3]);
    assert_eq!(value(&store, "a").await.as_deref(), Some("1/2/3"));
    assert_eq!(payload(&store, "t", 2).await, "1/2/3");
}

pub async fn the_time_is_filled_in(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = commit()
        .then(set_parts("a", vec![Part::Time]))
        .append(append_parts("t", "m", vec![Part::Time]));
    let committed = done(&store, step).await;
    assert_eq!(value(&store, "a").await, Some(committed.time.to_string()));
    assert_eq!(payload(&store, "t", 1).await, committed.time.to_string());
    assert_eq!(store.read("t", 0, 1, 0).await.unwrap()[0].time, committed.time);
}

pub async fn an_empty_template_is_an_empty_value(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = commit()
        .then(set_parts("a", vec![]))
        .then(set_parts("b", vec![text(""), text("x"), text("")]));
    done(&store, step.append(append_parts("t", "m", vec![]))).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some(""));
    assert_eq!(value(&store, "b").await.as_deref(), Some("x"));
    assert_eq!(payload(&store, "t", 1).await, "");
}

pub async fn a_claim_is_one_commit(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("remaining", "2"))).await;
    let now = now(&store).await;
    let claim = |user: &str| {
        let record = vec![text(r#"{"number":"#), Part::Sum(1), text("}")];
        commit()
            .when(absent(&format!("claim/{user}")))
            .when(now_in(Some(now), Some(now + 3_600_000)))
            .then(bounded("remaining", -1, Some(0), None))
            .then(add("sequence", 1))
            .then(set_parts(&format!("claim/{user}"), record.clone()))
            .append(append_parts("coupon.claimed", user, record))
    };
    assert_eq!(done(&store, claim("ann")).await.sums, [1, 1, 0]);
    let duplicate = store.commit(claim("ann")).await;
    assert_eq!(duplicate, Ok(Outcome::Refused(Refusal::Condition(0))));
    assert_eq!(done(&store, claim("bob")).await.sums, [0, 2, 0]);
    let sold_out = store.commit(claim("cem")).await;
    assert_eq!(sold_out, Ok(Outcome::Refused(Refusal::Mutation(0))));
    assert_eq!(
        value(&store, "claim/bob").await.as_deref(),
        Some(r#"{"number":2}"#)
    );
    assert_eq!(payload(&store, "coupon.claimed", 2).await, r#"{"number":2}"#);
    assert_untouched(&store, &["claim/cem"], &[]).await;
}
