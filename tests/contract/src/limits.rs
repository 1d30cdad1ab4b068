//! Calls that break a rule of the interface.

use tollgate_store::commit::{
    Commit, MAX_COMMIT_BYTES, MAX_GET_KEYS, MAX_KEY_BYTES, MAX_STEPS, Part, StoreError, literal,
};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

async fn invalid<S: Store>(store: &S, commit: Commit) {
    let outcome = store.commit(commit).await;
    assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
}

pub async fn a_key_mutated_twice_is_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    invalid(&store, commit().then(set("a", "1")).then(set("a", "1"))).await;
    invalid(
        &store,
        commit().then(add("a", 1)).then(set("b", "1")).then(delete("a")),
    )
    .await;
    assert_untouched(&store, &["a", "b"], &[]).await;
    // Looking at a key is not mutating it.
    done(
        &store,
        commit().when(absent("a")).when(absent("a")).then(set("a", "1")),
    )
    .await;
}

pub async fn too_many_steps_are_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let (mut conditions, mut mutations, mut appends) = (commit(), commit(), commit());
    for index in 0..=MAX_STEPS {
        conditions = conditions.when(absent("a"));
        mutations = mutations.then(set(&format!("k{index}"), "1"));
        appends = appends.append(append("t", &format!("m{index}")));
    }
    for commit in [conditions, mutations, appends] {
        invalid(&store, commit).await;
    }
    assert_untouched(&store, &["k0"], &["t"]).await;
}

pub async fn a_full_commit_is_taken(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let mut full = commit();
    for index in 0..MAX_STEPS {
        let parts = literal(vec![b'x'; 7_000]);
        full = full.when(absent(&format!("k{index}")));
        full = full.then(set_parts(&format!("k{index}"), parts.clone()));
        full = full.append(append_parts("t", &format!("m{index}"), parts));
    }
    assert_eq!(done(&store, full).await.sequences.len(), MAX_STEPS);
    assert_eq!(value(&store, "k63").await.map(|value| value.len()), Some(7_000));
}

pub async fn too_many_bytes_are_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let half = || literal(vec![b'x'; MAX_COMMIT_BYTES / 2]);
    invalid(
        &store,
        commit()
            .then(set_parts("a", half()))
            .append(append_parts("t", "m", half())),
    )
    .await;
    invalid(
        &store,
        commit()
            .once("id", "f", half(), 1_000)
            .then(set_parts("a", half())),
    )
    .await;
    assert_untouched(&store, &["a"], &["t"]).await;
    let room = 2 * MAX_KEY_BYTES;
    done(
        &store,
        commit().then(set_parts("a", literal(vec![b'x'; MAX_COMMIT_BYTES - room]))),
    )
    .await;
}

pub async fn empty_and_overlong_names_are_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for name in ["", &"x".repeat(MAX_KEY_BYTES + 1), "nul\0"] {
        invalid(&store, commit().when(absent(name))).await;
        invalid(&store, commit().when(version(name, 1))).await;
        invalid(&store, commit().then(set(name, "1"))).await;
        invalid(&store, commit().then(delete(name))).await;
        invalid(&store, commit().then(add(name, 1))).await;
        invalid(&store, commit().append(append(name, "m"))).await;
        invalid(&store, commit().append(append("t", name))).await;
        invalid(&store, commit().once(name, "f", literal(""), 1_000)).await;
    }
    assert_untouched(&store, &[], &["t"]).await;
    let longest = "x".repeat(MAX_KEY_BYTES);
    let step = commit()
        .once(&longest, "f", literal(""), 1_000)
        .when(absent(&longest));
    done(
        &store,
        step.then(set(&longest, "1")).append(append(&longest, &longest)),
    )
    .await;
}

pub async fn a_sum_must_point_to_an_add(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for index in [0, 2, u32::MAX] {
        let wrong = vec![Part::Sum(index)];
        invalid(
            &store,
            commit().then(set_parts("a", wrong.clone())).then(add("n", 1)),
        )
        .await;
        let appended = append_parts("t", "m", wrong.clone());
        invalid(
            &store,
            commit().then(set("a", "")).then(add("n", 1)).append(appended),
        )
        .await;
        invalid(
            &store,
            commit()
                .once("id", "f", wrong, 1_000)
                .then(delete("a"))
                .then(add("n", 1)),
        )
        .await;
    }
    assert_untouched(&store, &["a", "n"], &["t"]).await;
}

pub async fn a_sequence_must_point_to_an_append(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    invalid(&store, commit().then(set_parts("a", vec![Part::Sequence(0)]))).await;
    invalid(
        &store,
        commit().append(append_parts("t", "m", vec![Part::Sequence(1)])),
    )
    .await;
    assert_untouched(&store, &["a"], &["t"]).await;
}

pub async fn an_invalid_commit_changes_nothing(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let before = done(&store, commit().then(set("a", "text")).append(append("t", "m1"))).await;
    let step = commit()
        .once("id", "f", literal("x"), 60_000)
        .then(set("b", "1"))
        .append(append("t", "m2"));
    invalid(&store, step.then(add("a", 1))).await;
    assert_untouched(&store, &["b"], &[]).await;
    assert_eq!(entry(&store, "a").await.unwrap().version, before.version);
    // Neither the id nor the sequence is used up.
    let again = commit()
        .once("id", "g", literal("x"), 60_000)
        .append(append("t", "m2"));
    assert_eq!(done(&store, again).await.sequences, [2]);
}

pub async fn too_many_keys_of_a_get_are_invalid(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("k7", "7"))).await;
    let keys: Vec<_> = (0..=MAX_GET_KEYS).map(|index| format!("k{index}")).collect();
    let found = store.get(PARTITION, &keys[..MAX_GET_KEYS]).await.unwrap();
    assert_eq!(found.len(), MAX_GET_KEYS);
    assert_eq!(found.iter().position(Option::is_some), Some(7));
    let outcome = store.get(PARTITION, &keys).await;
    assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
}
