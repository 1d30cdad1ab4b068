//! Set, delete, get, expiry, versions.

use tollgate_store::commit::{Entry, Mutation, Outcome, Refusal, literal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

/// Long enough that a case reaches its next line before it is over, on a busy machine too.
const SOON: u64 = 400;

pub async fn a_set_entry_is_read_back(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let committed = done(&store, commit().then(set("a", "1"))).await;
    let wanted = Entry {
        value: b"1".to_vec(),
        version: committed.version,
        expires: None,
    };
    assert_eq!(entry(&store, "a").await, Some(wanted));
    assert_eq!(entry(&store, "b").await, None);
}

pub async fn all_entries_of_a_commit_have_its_version(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let committed = done(
        &store,
        commit().then(set("a", "1")).then(add("n", 1)).then(set("b", "2")),
    )
    .await;
    for key in ["a", "n", "b"] {
        assert_eq!(
            entry(&store, key).await.unwrap().version,
            committed.version,
            "{key}"
        );
    }
}

pub async fn versions_grow(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let mut last = 0;
    for round in 0..5 {
        let committed = done(&store, commit().then(set(&format!("key {round}"), "x"))).await;
        assert!(committed.version > last, "{} after {last}", committed.version);
        last = committed.version;
    }
    assert_eq!(
        done(&store, commit().then(add("n", 1)).then(delete("key 0")))
            .await
            .sums,
        [1, 0]
    );
    assert!(entry(&store, "n").await.unwrap().version > last);
}

pub async fn a_delete_removes_or_does_nothing(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("a", "1"))).await;
    assert_eq!(
        done(&store, commit().then(delete("a")).then(delete("never there")))
            .await
            .sums,
        [0, 0]
    );
    assert_untouched(&store, &["a", "never there"], &[]).await;
}

pub async fn get_answers_in_the_order_of_the_keys(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("a", "A")).then(set("c", "C"))).await;
    let keys = ["c", "b", "a", "c"].map(String::from);
    let found = store.get(PARTITION, &keys).await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|entry| entry.map(|entry| entry.value))
        .collect();
    assert_eq!(
        found,
        [
            Some(b"C".to_vec()),
            None,
            Some(b"A".to_vec()),
            Some(b"C".to_vec())
        ]
    );
    assert_eq!(store.get(PARTITION, &[]).await.unwrap(), []);
}

pub async fn an_entry_ceases_to_exist_when_it_expires(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let until = now(&store).await + SOON;
    done(&store, commit().then(set_until("a", "1", until))).await;
    assert_eq!(entry(&store, "a").await.unwrap().expires, Some(until));
    harness.pass(&store, SOON).await;
    assert_eq!(entry(&store, "a").await, None);
}

pub async fn an_entry_that_has_expired_already_is_absent(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    done(&store, commit().then(set("a", "1"))).await;
    let now = now(&store).await;
    done(
        &store,
        commit()
            .then(set_until("a", "2", now))
            .then(set_until("b", "2", 0)),
    )
    .await;
    assert_untouched(&store, &["a", "b"], &[]).await;
    done(&store, commit().when(absent("a")).when(absent("b"))).await;
}

pub async fn a_set_replaces_the_expiry(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let until = now(&store).await + SOON;
    done(
        &store,
        commit()
            .then(set_until("cleared", "1", until))
            .then(set_until("moved", "1", until)),
    )
    .await;
    done(
        &store,
        commit()
            .then(set("cleared", "2"))
            .then(set_until("moved", "2", until + 3_600_000)),
    )
    .await;
    harness.pass(&store, SOON).await;
    assert_eq!(value(&store, "cleared").await.as_deref(), Some("2"));
    assert_eq!(entry(&store, "cleared").await.unwrap().expires, None);
    assert_eq!(
        entry(&store, "moved").await.unwrap().expires,
        Some(until + 3_600_000)
    );
}

pub async fn an_expired_entry_counts_as_absent_in_conditions(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let until = now(&store).await + SOON;
    let first = done(&store, commit().then(set_until("a", "1", until))).await;
    let refused = store.commit(commit().when(absent("a")).then(set("b", "2"))).await;
    assert_eq!(refused, Ok(Outcome::Refused(Refusal::Condition(0))));
    harness.pass(&store, SOON).await;
    let stale = store
        .commit(commit().when(version("a", first.version)).then(set("b", "2")))
        .await;
    assert_eq!(stale, Ok(Outcome::Refused(Refusal::Condition(0))));
    done(&store, commit().when(absent("a")).then(set("a", "3"))).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("3"));
}

pub async fn values_are_any_bytes(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let all: Vec<u8> = (0..=255).collect();
    let big = vec![0xA5; 300_000];
    for (key, wanted) in [
        ("all", all),
        ("none", Vec::new()),
        ("big", big),
        ("digits", b"12".to_vec()),
    ] {
        let mutation = Mutation::Set {
            key: key.into(),
            value: literal(wanted.clone()),
            expires: None,
        };
        done(&store, commit().then(mutation)).await;
        assert_eq!(entry(&store, key).await.unwrap().value, wanted, "{key}");
    }
}

pub async fn keys_are_any_text(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let longest = "é".repeat(256);
    let keys = [
        "a'b\"c\\",
        "%_*?[x]",
        "ключ/鍵/🔑",
        "\u{1}\u{7f}\n",
        " ",
        "1",
        "1.0",
        &longest,
    ];
    for key in keys {
        done(&store, commit().when(absent(key)).then(set(key, key))).await;
    }
    for key in keys {
        assert_eq!(value(&store, key).await.as_deref(), Some(key));
    }
}
