//! The arithmetic of buckets against the store in memory, and how many are kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::rc::Rc;

use support::{Fixture, run};
use tollgate_store::bucket::{Bucket, State, TakeError, take_all};
use tollgate_store::ports::Buckets as _;
use tollgate_store_redis::buckets::RedisBuckets;

const SECOND_NS: u64 = 1_000_000_000;

#[test]
fn buckets_count_as_core_does() {
    run(async {
        let database = Fixture::new().database;
        let buckets = RedisBuckets::new(Rc::clone(&database));
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        // Capacity, refill, interval: plain ones, fractions, and the greatest units.
        let shapes = [
            (10, 3, SECOND_NS),
            (7, 1, 1),
            (1, 1 << 62, 3),
            (1 << 32, 1, 1 << 30),
            (5, 7, 11_000_000),
            (3, (1 << 61) - 1, (1 << 60) - 1),
        ];
        let mut now = 1_800_000_000 * SECOND_NS;
        let mut states: Vec<Option<State>> = vec![None; 3];
        let (mut granted, mut refused) = (0, 0);
        for step in 0..3_000 {
            let steps_ns = [0, 1, 17, 5_000_000, SECOND_NS / 3, 40 * SECOND_NS];
            now += steps_ns[random(6) as usize];
            let seen = if random(20) == 0 { now - SECOND_NS } else { now };
            let first = random(3) as usize;
            let second = random(3) as usize;
            let bucket = |at: usize, shape: usize, cost: u64| {
                let (capacity, refill, interval_ns) = shapes[shape];
                Bucket {
                    key: format!("k{at}"),
                    capacity,
                    refill,
                    interval_ns,
                    cost: cost.min(capacity),
                }
            };
            let (a, b) = (random(6) as usize, random(6) as usize);
            let b = if first == second { a } else { b };
            let asked = vec![bucket(first, a, random(6)), bucket(second, b, random(6))];
            let mut both = [states[first], states[second]];
            let expected = take_all(&mut both, &asked, seen);
            // Reading alone writes nothing.
            if expected.is_ok() && asked.iter().any(|bucket| bucket.cost > 0) {
                states[first] = both[0];
                states[second] = both[1];
                // As the script forgets.
                let is_left = |state: &mut State| state.full_at() / 1_000_000 + 60_000 > seen / 1_000_000;
                for state in &mut states {
                    *state = state.take_if(is_left);
                }
            }
            match &expected {
                Ok(_) => granted += 1,
                Err(TakeError::Refused { .. }) => refused += 1,
                Err(_) => {}
            }
            database.set_clock_ns(seen);
            assert_eq!(
                buckets.take(asked.clone()).await,
                expected,
                "step {step}: {asked:?}"
            );
        }
        assert!(granted > 500 && refused > 200, "{granted} {refused}");
    });
}

#[test]
fn buckets_are_forgotten_once_they_are_full_and_beyond_the_bound() {
    run(async {
        let database = Fixture::new().database;
        let mut now = 1_800_000_000 * SECOND_NS;
        database.set_clock_ns(now);
        let buckets = RedisBuckets::keeping(Rc::clone(&database), 10);
        let bucket = |n: u64, interval_ns| Bucket {
            key: format!("k{n}"),
            capacity: 1,
            refill: 1,
            interval_ns,
            cost: 1,
        };
        for n in 1..=50 {
            buckets.take(vec![bucket(n, n * SECOND_NS)]).await.unwrap();
        }
        let kept = || {
            let counts = [["HLEN", "{tollgate}:buckets"], ["ZCARD", "{tollgate}:fulls"]];
            counts.map(|count| database.ask(&count))
        };
        assert_eq!(kept(), ["10", "10"]);
        assert_eq!(
            database.ask(&["HEXISTS", "{tollgate}:buckets", "k50"]),
            "1",
            "those that are full last are kept"
        );
        now += 200 * SECOND_NS;
        for n in 51..=60 {
            database.set_clock_ns(now);
            buckets.take(vec![bucket(n, 900 * SECOND_NS)]).await.unwrap();
        }
        assert_eq!(kept(), ["10", "10"]);
        assert_eq!(database.ask(&["HEXISTS", "{tollgate}:buckets", "k50"]), "0");
        // By Redis' own clock.
        let real = RedisBuckets::new(Fixture::new().database);
        real.take(vec![bucket(1, 900 * SECOND_NS)]).await.unwrap();
        let refused = real.take(vec![bucket(1, 900 * SECOND_NS)]).await;
        assert!(
            matches!(refused, Err(TakeError::Refused { index: 0, .. })),
            "{refused:?}"
        );
    });
}
