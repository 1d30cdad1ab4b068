//! Many callers at once.

use futures::future::join_all;
use tollgate_core::commit::{Outcome, Part, Refusal, literal};
use tollgate_core::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

const CALLERS: usize = 100;

pub async fn a_stock_of_n_admits_exactly_n(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("remaining", "50"))).await;
    // Each of 100 users asks twice.
    let claims = (0..2 * CALLERS).map(|caller| {
        let user = format!("user {}", caller % CALLERS);
        let claim = commit()
            .when(absent(&user))
            .then(bounded("remaining", -1, Some(0), None))
            .then(add("sequence", 1))
            .then(set_parts(&user, vec![Part::Sum(1)]))
            .append(append_parts(
                "claimed",
                &format!("claim {caller}"),
                vec![Part::Sum(1)],
            ));
        store.commit(claim)
    });
    let outcomes = join_all(claims).await;
    let admitted = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Outcome::Committed(_))))
        .count();
    assert_eq!(admitted, 50);
    let sold_out = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Refused(Refusal::Mutation(0))))
        .count();
    let duplicate = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Refused(Refusal::Condition(0))))
        .count();
    assert_eq!(admitted + sold_out + duplicate, 2 * CALLERS);
    assert_eq!(value(&store, "remaining").await.as_deref(), Some("0"));
    assert_eq!(store.scan("user ", None, 1_000).await.unwrap().len(), 50);
    let messages = store.read("claimed", 0, 1_000, 0).await.unwrap();
    let numbers: Vec<_> = messages.iter().map(|m| (m.sequence, m.payload.clone())).collect();
    assert_eq!(
        numbers,
        (1..=50u64)
            .map(|n| (n, n.to_string().into_bytes()))
            .collect::<Vec<_>>()
    );
}

pub async fn one_key_is_created_once(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let outcomes = join_all(
        (0..CALLERS)
            .map(|caller| store.commit(commit().when(absent("a")).then(set("a", &caller.to_string())))),
    )
    .await;
    let winners: Vec<_> = (0..CALLERS)
        .filter(|&caller| matches!(outcomes[caller], Ok(Outcome::Committed(_))))
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&store, "a").await, Some(winners[0].to_string()));
}

pub async fn concurrent_additions_all_count(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let committed = join_all((0..CALLERS).map(|_| done(&store, commit().then(add("n", 1))))).await;
    let mut sums: Vec<_> = committed.iter().map(|c| c.sums[0]).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=CALLERS as i64).collect::<Vec<_>>());
    let mut versions: Vec<_> = committed.iter().map(|c| c.version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), CALLERS, "every commit has its own version");
}

pub async fn concurrent_appends_are_dense(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let appends =
        (0..CALLERS).map(|caller| done(&store, commit().append(append("t", &format!("m{caller}")))));
    let mut given: Vec<_> = join_all(appends).await.iter().map(|c| c.sequences[0]).collect();
    given.sort_unstable();
    assert_eq!(given, (1..=CALLERS as u64).collect::<Vec<_>>());
    let kept: Vec<_> = store
        .read("t", 0, 1_000, 0)
        .await
        .unwrap()
        .iter()
        .map(|m| m.sequence)
        .collect();
    assert_eq!(kept, given);
}

pub async fn one_id_is_carried_out_once(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let step = || {
        commit()
            .once("id", "f", vec![Part::Sum(0)], 3_600_000)
            .then(add("n", 1))
    };
    let outcomes = join_all((0..CALLERS).map(|_| store.commit(step()))).await;
    let first = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Outcome::Committed(_))))
        .count();
    let replayed = outcomes
        .iter()
        .filter(|o| **o == Ok(Outcome::Replayed(b"1".to_vec())))
        .count();
    assert_eq!((first, replayed), (1, CALLERS - 1));
    let conflict = store.commit(commit().once("id", "g", literal(""), 1)).await;
    assert_eq!(conflict, Ok(Outcome::Conflict));
}
