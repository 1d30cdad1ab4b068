use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn bucket(key: &str, capacity: u64, cost: u64) -> Bucket {
    Bucket {
        key: key.into(),
        capacity,
        refill: 1,
        interval_ns: SECOND,
        cost,
    }
}

/// Buckets with a clock that the test sets.
fn with_hand_set_clock(max_keys: usize) -> (MemoryBuckets, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&clock);
    (
        MemoryBuckets::with_clock(max_keys, move || read.load(Ordering::SeqCst)),
        clock,
    )
}

#[test]
fn threads_together_are_admitted_exactly_the_capacity() {
    let (buckets, _) = with_hand_set_clock(1_000);
    let admitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    if buckets.take_now(&[bucket("k", 2_500, 1)]).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 2_500);
}

#[test]
fn threads_with_several_buckets_neither_lock_up_nor_take_halves() {
    let (buckets, _) = with_hand_set_clock(1_000);
    let admitted = AtomicUsize::new(0);
    let keys = ["a", "b", "c", "d", "e"];
    thread::scope(|scope| {
        for thread in 0..keys.len() {
            let (buckets, admitted) = (&buckets, &admitted);
            scope.spawn(move || {
                // Each thread names them in another order.
                let all: Vec<Bucket> = (0..keys.len())
                    .map(|i| bucket(keys[(thread + i) % keys.len()], 300, 1))
                    .collect();
                for _ in 0..200 {
                    if buckets.take_now(&all).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 300);
    for key in keys {
        assert_eq!(buckets.take_now(&[bucket(key, 300, 0)]).unwrap()[0].remaining, 0);
    }
}

#[test]
fn a_refused_take_leaves_every_bucket_as_it_was() {
    let (buckets, _) = with_hand_set_clock(1_000);
    buckets.take_now(&[bucket("small", 1, 1)]).unwrap();
    let both = [bucket("large", 10, 1), bucket("small", 1, 1)];
    for _ in 0..3 {
        assert!(matches!(
            buckets.take_now(&both),
            Err(TakeError::Refused { index: 1, .. })
        ));
    }
    assert_eq!(
        buckets.take_now(&[bucket("large", 10, 0)]).unwrap()[0].remaining,
        10
    );
}

#[test]
fn time_refills() {
    let (buckets, clock) = with_hand_set_clock(1_000);
    let drain = || {
        (0..10)
            .filter(|_| buckets.take_now(&[bucket("k", 3, 1)]).is_ok())
            .count()
    };
    assert_eq!(drain(), 3);
    clock.store(2 * SECOND, Ordering::SeqCst);
    assert_eq!(drain(), 2);
    clock.store(SECOND, Ordering::SeqCst);
    assert_eq!(drain(), 0);
}

#[test]
fn a_million_strangers_fit_in_their_bound() {
    const MAX: usize = 100_000;
    let (buckets, _) = with_hand_set_clock(MAX);
    for stranger in 0..1_000_000 {
        assert!(
            buckets
                .take_now(&[bucket(&format!("stranger {stranger}"), 5, 1)])
                .is_ok()
        );
    }
    assert!(buckets.len() <= MAX);
    assert!(buckets.len() > MAX * 9 / 10);
    assert!(
        buckets.heap_bytes() <= 128 * buckets.len(),
        "{} bytes",
        buckets.heap_bytes()
    );
}

#[test]
fn a_bucket_costs_at_most_128_bytes_while_the_table_grows() {
    let (buckets, _) = with_hand_set_clock(1_000_000);
    for stranger in 0..300_000_usize {
        buckets
            .take_now(&[bucket(&format!("stranger {stranger}"), 5, 1)])
            .unwrap();
        // Small tables have slack that does not matter.
        if stranger > 20_000 && stranger.is_multiple_of(1_000) {
            assert!(
                buckets.heap_bytes() <= 128 * buckets.len(),
                "{} for {stranger}",
                buckets.heap_bytes()
            );
        }
    }
}

#[test]
fn a_flood_of_strangers_does_not_reset_a_limited_client() {
    let (buckets, clock) = with_hand_set_clock(10_000);
    let victims: Vec<String> = (0..100).map(|i| format!("victim {i}")).collect();
    for victim in &victims {
        buckets.take_now(&[bucket(victim, 100, 100)]).unwrap();
    }
    for stranger in 0..200_000_u64 {
        clock.fetch_add(1_000, Ordering::SeqCst);
        buckets
            .take_now(&[bucket(&format!("stranger {stranger}"), 100, 1)])
            .unwrap();
    }
    for victim in &victims {
        assert!(buckets.take_now(&[bucket(victim, 100, 1)]).is_err(), "{victim}");
    }
}

#[test]
fn clients_that_have_gone_leave_no_trace() {
    let (buckets, clock) = with_hand_set_clock(1_000_000);
    for old in 0..10_000 {
        buckets.take_now(&[bucket(&format!("old {old}"), 5, 1)]).unwrap();
    }
    clock.store(3_600 * SECOND, Ordering::SeqCst);
    for new in 0..10_000 {
        buckets.take_now(&[bucket(&format!("new {new}"), 5, 1)]).unwrap();
    }
    assert!(buckets.len() < 12_000, "{}", buckets.len());
}

#[test]
fn looking_costs_no_room() {
    let (buckets, _) = with_hand_set_clock(1_000);
    for stranger in 0..1_000 {
        buckets
            .take_now(&[bucket(&format!("stranger {stranger}"), 5, 0)])
            .unwrap();
    }
    assert!(buckets.is_empty());
}

#[test]
fn too_many_buckets_are_invalid() {
    let (buckets, _) = with_hand_set_clock(1_000);
    let many: Vec<Bucket> = (0..=MAX_BUCKETS).map(|i| bucket(&i.to_string(), 1, 1)).collect();
    assert!(matches!(buckets.take_now(&many), Err(TakeError::Invalid(_))));
    assert_eq!(buckets.take_now(&[]), Ok(Vec::new()));
}

proptest! {
    #[test]
    fn it_decides_as_the_rules_do(
        steps in proptest::collection::vec(
            (0..2 * SECOND, proptest::collection::vec((0..4_u8, 0..3_u64), 1..5)),
            1..60,
        ),
    ) {
        let (buckets, clock) = with_hand_set_clock(1_000);
        let mut states: std::collections::HashMap<u8, State> = std::collections::HashMap::new();
        for (step, asked) in steps {
            let now = clock.fetch_add(step, Ordering::SeqCst) + step;
            let asked_buckets: Vec<Bucket> =
                asked.iter().map(|&(key, cost)| bucket(&key.to_string(), u64::from(key) + 2, cost)).collect();
            let mut before: Vec<Option<State>> = asked.iter().map(|(key, _)| states.get(key).copied()).collect();
            let expected = take_all(&mut before, &asked_buckets, now);
            prop_assert_eq!(buckets.take_now(&asked_buckets), expected);
            for ((key, _), state) in asked.into_iter().zip(before) {
                if let Some(state) = state {
                    states.insert(key, state);
                }
            }
        }
    }

    #[test]
    fn the_index_and_the_list_agree(steps in proptest::collection::vec((0..40_u128, 0..3 * SECOND), 1..200)) {
        let mut shard = Shard::new(8);
        let mut now = 0;
        for (id, step) in steps {
            now += step;
            // The lower half is the same for some: the index must still tell them apart.
            let id = (id << 64) | (id % 5);
            let mut state = shard.get(id);
            if take_one(&mut state, &bucket("k", 3, 1), now).is_ok() {
                shard.put(id, state, now);
                prop_assert_eq!(shard.get(id), state);
            }
            prop_assert!(shard.len() <= 8);
            prop_assert_eq!(shard.positions(), (0..shard.len()).collect::<Vec<_>>());
        }
    }
}
