//! Token buckets.

use futures::future::join_all;
use tollgate_store::bucket::{Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

use crate::BucketsHarness;

const HOUR_NS: u64 = 3_600_000_000_000;

/// A bucket that gains next to nothing while a case runs.
fn bucket(key: &str, capacity: u64, cost: u64) -> Bucket {
    Bucket {
        key: key.into(),
        capacity,
        refill: 1,
        interval_ns: HOUR_NS,
        cost,
    }
}

async fn take<B: Buckets>(buckets: &B, asked: Vec<Bucket>) -> Vec<Level> {
    buckets.take(asked).await.unwrap()
}

async fn remaining<B: Buckets>(buckets: &B, key: &str, capacity: u64) -> u64 {
    take(buckets, vec![bucket(key, capacity, 0)]).await[0].remaining
}

pub async fn a_bucket_never_seen_is_full(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    let levels = take(&buckets, vec![bucket("a", 10, 0)]).await;
    assert_eq!(
        levels,
        [Level {
            remaining: 10,
            next_ns: 0,
            full_ns: 0
        }]
    );
}

pub async fn a_full_bucket_admits_its_capacity_and_no_more(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    for left in (0..5).rev() {
        assert_eq!(take(&buckets, vec![bucket("a", 5, 1)]).await[0].remaining, left);
    }
    let refused = buckets.take(vec![bucket("a", 5, 1)]).await;
    assert!(
        matches!(refused, Err(TakeError::Refused { index: 0, .. })),
        "{refused:?}"
    );
    assert_eq!(
        remaining(&buckets, "b", 5).await,
        5,
        "another key is another bucket"
    );
}

pub async fn every_cost_is_taken_or_none(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    take(&buckets, vec![bucket("b", 3, 2), bucket("c", 2, 1)]).await;
    let asked = vec![bucket("a", 5, 1), bucket("b", 3, 2), bucket("c", 2, 2)];
    let Err(TakeError::Refused { index, levels }) = buckets.take(asked).await else {
        panic!("b holds one token only");
    };
    let left: Vec<_> = levels.iter().map(|level| level.remaining).collect();
    assert_eq!(
        (index, left),
        (1, vec![5, 1, 1]),
        "the first that lacks its cost; nothing taken"
    );
    assert_eq!(remaining(&buckets, "a", 5).await, 5);
    take(&buckets, vec![bucket("a", 5, 1), bucket("b", 3, 1)]).await;
    assert_eq!(
        (
            remaining(&buckets, "a", 5).await,
            remaining(&buckets, "b", 3).await
        ),
        (4, 0)
    );
}

pub async fn a_cost_of_zero_reads_the_level(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    take(&buckets, vec![bucket("a", 2, 2)]).await;
    for _ in 0..3 {
        assert_eq!(
            remaining(&buckets, "a", 2).await,
            0,
            "an empty bucket can be read"
        );
    }
}

pub async fn a_bucket_is_filled_by_a_take_under_terms_of_its_own(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    take(&buckets, vec![bucket("a", 2, 2)]).await;
    let terms = Bucket {
        refill: 3,
        interval_ns: 1,
        ..bucket("a", 3, 1)
    };
    harness.pass(&buckets, 1).await;
    take(&buckets, vec![terms]).await;
    assert_eq!(remaining(&buckets, "a", 2).await, 2);
}

pub async fn a_bucket_refills_continuously_up_to_its_capacity(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    // A token every 50 ms.
    let asked = |cost| {
        vec![Bucket {
            key: "a".into(),
            capacity: 4,
            refill: 20,
            interval_ns: 1_000_000_000,
            cost,
        }]
    };
    take(&buckets, asked(4)).await;
    harness.pass(&buckets, 110).await;
    assert!(take(&buckets, asked(2)).await[0].remaining <= 2);
    harness.pass(&buckets, 1_000).await;
    assert_eq!(take(&buckets, asked(0)).await[0].remaining, 4);
}

pub async fn a_refusal_says_when_to_come_again(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    take(&buckets, vec![bucket("a", 3, 3)]).await;
    let Err(TakeError::Refused { levels, .. }) = buckets.take(vec![bucket("a", 3, 2)]).await else {
        panic!("it is empty");
    };
    let Level {
        remaining,
        next_ns,
        full_ns,
    } = levels[0];
    // Two tokens take two hours, three take three; less what passed since.
    let minute_ns = HOUR_NS / 60;
    assert_eq!(remaining, 0);
    assert!(
        next_ns <= 2 * HOUR_NS && next_ns > 2 * HOUR_NS - minute_ns,
        "{next_ns}"
    );
    assert!(
        full_ns <= 3 * HOUR_NS && full_ns > 3 * HOUR_NS - minute_ns,
        "{full_ns}"
    );
}

pub async fn buckets_out_of_bounds_are_invalid(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    for (capacity, refill, interval_ns) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (u64::MAX, 1, 1)] {
        let wrong = Bucket {
            key: "a".into(),
            capacity,
            refill,
            interval_ns,
            cost: 0,
        };
        let outcome = buckets.take(vec![bucket("b", 5, 1), wrong.clone()]).await;
        assert!(
            matches!(outcome, Err(TakeError::Invalid(_))),
            "{wrong:?}: {outcome:?}"
        );
    }
    assert_eq!(remaining(&buckets, "b", 5).await, 5);
}

pub async fn more_than_sixteen_buckets_are_invalid(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    let asked = |count| {
        (0..count)
            .map(|index| bucket(&format!("k{index}"), 5, 1))
            .collect::<Vec<_>>()
    };
    let outcome = buckets.take(asked(17)).await;
    assert!(matches!(outcome, Err(TakeError::Invalid(_))), "{outcome:?}");
    assert_eq!(take(&buckets, asked(16)).await.len(), 16);
}

pub async fn concurrent_takers_share_one_bucket(harness: &impl BucketsHarness) {
    let buckets = harness.fresh().await;
    let outcomes = join_all((0..100).map(|_| buckets.take(vec![bucket("a", 30, 1)]))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 30);
}
