//! Scan, read, and their pages.

use std::time::{Duration, Instant};

use futures::future::join;
use tollgate_store::commit::{MAX_PAGE, MAX_PAGE_BYTES, literal};
use tollgate_store::ports::Store;

use crate::StoreHarness;
use crate::shapes::*;

async fn keys<S: Store>(store: &S, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    store
        .scan(prefix, after, limit)
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.key)
        .collect()
}

async fn sequences<S: Store>(store: &S, after: u64, limit: u32) -> Vec<u64> {
    store
        .read("t", after, limit, 0)
        .await
        .unwrap()
        .into_iter()
        .map(|message| message.sequence)
        .collect()
}

async fn fill<S: Store>(store: &S, keys: &[&str]) {
    for key in keys {
        done(store, commit().then(set(key, &format!("value of {key}")))).await;
    }
}

pub async fn a_scan_is_in_byte_order_and_stays_in_its_prefix(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    fill(
        &store,
        &[
            "p/é",
            "p/z",
            "p/a",
            "p/B",
            "p/a/b",
            "p/🔑",
            "p/\u{FFFD}",
            "p",
            "o/z",
            "p0",
            "q",
        ],
    )
    .await;
    let found = keys(&store, "p/", None, 100).await;
    assert_eq!(found, ["p/B", "p/a", "p/a/b", "p/z", "p/é", "p/\u{FFFD}", "p/🔑"]);
    assert_eq!(keys(&store, "p", None, 3).await, ["p", "p/B", "p/a"]);
    assert_eq!(keys(&store, "", None, 100).await.len(), 11);
    assert_eq!(keys(&store, "none", None, 100).await, [""; 0]);
    let item = store.scan("q", None, 1).await.unwrap().remove(0);
    assert_eq!(item.entry, entry(&store, "q").await.unwrap());
}

pub async fn a_scan_goes_on_after_a_key(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    fill(&store, &["p/a", "p/b", "p/c", "q"]).await;
    assert_eq!(keys(&store, "p/", Some("p/a"), 100).await, ["p/b", "p/c"]);
    assert_eq!(keys(&store, "p/", Some("p/aa"), 100).await, ["p/b", "p/c"]);
    assert_eq!(keys(&store, "p/", Some("p/c"), 100).await, [""; 0]);
    assert_eq!(keys(&store, "p/", Some("z"), 100).await, [""; 0]);
    assert_eq!(keys(&store, "p/", Some("a"), 1).await, ["p/a"]);
}

pub async fn a_scan_covers_all_partitions(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for partition in ["one", "two"] {
        let mut step = commit().then(set(&format!("p/{partition}"), "1"));
        step.partition = partition.into();
        done(&store, step).await;
    }
    assert_eq!(keys(&store, "p/", None, 100).await, ["p/one", "p/two"]);
}

pub async fn a_scan_is_bounded_by_its_limit(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    fill(&store, &["p/a", "p/b", "p/c"]).await;
    assert_eq!(keys(&store, "p/", None, 2).await, ["p/a", "p/b"]);
    assert_eq!(keys(&store, "p/", None, 3).await.len(), 3);
}

pub async fn a_scan_is_bounded_by_bytes(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let large = literal(vec![b'x'; MAX_PAGE_BYTES / 2 - 100]);
    for key in ["p/a", "p/b", "p/c"] {
        done(&store, commit().then(set_parts(key, large.clone()))).await;
    }
    assert_eq!(keys(&store, "p/", None, 100).await, ["p/a", "p/b"]);
    assert_eq!(keys(&store, "p/", Some("p/b"), 100).await, ["p/c"]);
}

pub async fn a_scan_takes_the_prefix_literally(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    fill(
        &store,
        &[
            "a%b",
            "a_b",
            "axb",
            "A%b",
            "a*b",
            "a'b",
            "\u{10FFFF}x",
            "\u{D7FF}x",
        ],
    )
    .await;
    assert_eq!(keys(&store, "a%", None, 10).await, ["a%b"]);
    assert_eq!(keys(&store, "a_", None, 10).await, ["a_b"]);
    assert_eq!(keys(&store, "a*", None, 10).await, ["a*b"]);
    assert_eq!(keys(&store, "a'", None, 10).await, ["a'b"]);
    assert_eq!(keys(&store, "\u{10FFFF}", None, 10).await, ["\u{10FFFF}x"]);
    assert_eq!(keys(&store, "\u{D7FF}", None, 10).await, ["\u{D7FF}x"]);
}

pub async fn a_scan_leaves_expired_entries_out(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    fill(&store, &["p/a", "p/c"]).await;
    let now = now(&store).await;
    done(
        &store,
        commit()
            .then(set_until("p/b", "1", now))
            .then(set_until("p/d", "1", now + 3_600_000)),
    )
    .await;
    assert_eq!(keys(&store, "p/", None, 2).await, ["p/a", "p/c"]);
    assert_eq!(keys(&store, "p/", None, 9).await, ["p/a", "p/c", "p/d"]);
}

pub async fn a_read_goes_on_after_a_sequence(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for id in ["a", "b", "c"] {
        done(&store, commit().append(append("t", id)).append(append("t0", id))).await;
    }
    assert_eq!(sequences(&store, 0, 100).await, [1, 2, 3]);
    assert_eq!(sequences(&store, 1, 100).await, [2, 3]);
    assert_eq!(sequences(&store, 0, 2).await, [1, 2]);
    assert_eq!(sequences(&store, 3, 100).await, [0; 0]);
    assert_eq!(sequences(&store, u64::MAX, 100).await, [0; 0]);
}

pub async fn a_read_is_bounded_by_bytes(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for (id, bytes) in [("a", 800_000), ("b", 10), ("c", 800_000), ("d", 10)] {
        let payload = literal(vec![b'x'; bytes]);
        done(&store, commit().append(append_parts("t", id, payload))).await;
    }
    assert_eq!(sequences(&store, 0, 100).await, [1, 2]);
    assert_eq!(sequences(&store, 2, 100).await, [3, 4]);
}

pub async fn a_read_of_an_unknown_topic_is_empty(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    assert_eq!(store.read("never there", 0, 10, 0).await, Ok(vec![]));
}

pub async fn a_read_waits_for_the_first_message(harness: &impl StoreHarness) {
    async fn check<H: StoreHarness>(harness: &H) {
        if !H::WAITS {
            return;
        }
        let store = harness.fresh().await;
        done(&store, commit().append(append("t", "a"))).await;
        let asked = Instant::now();
        // What is there already is not waited for, and another topic wakes nobody for nothing.
        assert_eq!(store.read("t", 0, 10, 20_000).await.unwrap().len(), 1);
        let appended = async {
            done(&store, commit().append(append("u", "x"))).await;
            done(&store, commit().append(append("t", "b"))).await;
        };
        let (messages, ()) = join(store.read("t", 1, 10, 20_000), appended).await;
        assert_eq!(messages.unwrap()[0].id, "b");
        assert!(asked.elapsed() < Duration::from_secs(15), "woken, not timed out");
    }
    check(harness).await;
}

pub async fn a_read_waits_no_longer_than_it_may(harness: &impl StoreHarness) {
    async fn check<H: StoreHarness>(harness: &H) {
        let store = harness.fresh().await;
        let asked = Instant::now();
        assert_eq!(store.read("t", 0, 10, 300).await, Ok(vec![]));
        if H::WAITS {
            assert!(
                asked.elapsed() >= Duration::from_millis(290),
                "waited {:?}",
                asked.elapsed()
            );
        }
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
    check(harness).await;
}

pub async fn pages_have_at_least_one_and_at_most_a_thousand_items(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    for round in 0..16 {
        let mut step = commit();
        for index in 0..64 {
            let name = format!("{:04}", round * 64 + index);
            step = step
                .then(set(&format!("p/{name}"), "1"))
                .append(append("t", &name));
        }
        done(&store, step).await;
    }
    for (asked, wanted) in [
        (0, 1),
        (1, 1),
        (MAX_PAGE, 1_000),
        (MAX_PAGE + 1, 1_000),
        (u32::MAX, 1_000),
    ] {
        assert_eq!(
            keys(&store, "p/", None, asked).await.len(),
            wanted,
            "scan of {asked}"
        );
        assert_eq!(sequences(&store, 0, asked).await.len(), wanted, "read of {asked}");
    }
    assert_eq!(store.topics(None, 0).await.unwrap().len(), 1);
}
