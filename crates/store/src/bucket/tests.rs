use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn bucket(key: &str, capacity: u64, refill: u64, interval_ns: u64, cost: u64) -> Bucket {
    Bucket {
        key: key.into(),
        capacity,
        refill,
        interval_ns,
        cost,
    }
}

/// One bucket by the definition, in fractions: a level is `parts / interval` tokens, in 128 bits.
struct Oracle {
    parts: u128,
    last: u64,
}

impl Oracle {
    fn full(bucket: &Bucket) -> Self {
        Self {
            parts: u128::from(bucket.capacity) * u128::from(bucket.interval_ns),
            last: 0,
        }
    }

    /// Whether the cost is there, and the level afterwards. A refusal leaves no trace, not even of its time.
    fn take(&mut self, bucket: &Bucket, now: u64) -> (bool, Level) {
        let before = (self.parts, self.last);
        let interval = u128::from(bucket.interval_ns);
        let refill = u128::from(bucket.refill);
        let full = u128::from(bucket.capacity) * interval;
        let now = now.max(self.last);
        self.parts = full.min(self.parts + u128::from(now - self.last) * refill);
        self.last = now;
        let cost = u128::from(bucket.cost) * interval;
        let admitted = self.parts >= cost;
        if admitted {
            self.parts -= cost;
        }
        let wait = |parts: u128| u64::try_from(parts.saturating_sub(self.parts).div_ceil(refill)).unwrap();
        let remaining = u64::try_from(self.parts / interval).unwrap();
        let level = Level {
            remaining,
            next_ns: wait(cost),
            full_ns: wait(full),
        };
        if !admitted {
            (self.parts, self.last) = before;
        }
        (admitted, level)
    }
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    let small = (
        1..20_u64,
        1..20_u64,
        prop_oneof![1..50_u64, Just(SECOND), Just(7), Just(86_400 * SECOND)],
    );
    let extreme = (1..=1_000_u64, 1..=u64::MAX, 1..=u64::MAX);
    prop_oneof![4 => small, 1 => extreme]
        .prop_map(|(c, r, i)| bucket("k", c, r, i, 1))
        .prop_filter("within bounds", |bucket| bucket.check().is_ok())
}

/// Steps of a clock in nanoseconds, also back, and costs. Steps are of the order of a token.
fn schedule() -> impl Strategy<Value = (Bucket, Vec<(u64, u64)>)> {
    any_bucket().prop_flat_map(|bucket| {
        let token_ns = (bucket.interval_ns / bucket.refill).clamp(1, 1 << 50);
        let time = prop_oneof![
            5 => 0..=token_ns * 2,
            1 => Just(token_ns * bucket.capacity * 2),
        ];
        let steps = proptest::collection::vec((time, any::<bool>(), 0..=bucket.capacity.min(5)), 1..60);
        (Just(bucket), steps).prop_map(|(bucket, steps)| {
            let mut now = 1_u64 << 50;
            let schedule = steps.into_iter().map(|(step, back, cost)| {
                now = if back {
                    now.saturating_sub(step / 2)
                } else {
                    now.saturating_add(step)
                };
                (now, cost)
            });
            let schedule = schedule.collect();
            (bucket, schedule)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_decision_and_level_is_exact((bucket, schedule) in schedule()) {
        let (mut oracle, mut state) = (Oracle::full(&bucket), None);
        for (now, cost) in schedule {
            let bucket = Bucket { cost, ..bucket.clone() };
            let (admitted, level) = oracle.take(&bucket, now);
            match take_one(&mut state, &bucket, now) {
                Ok(found) => prop_assert_eq!((true, found), (admitted, level)),
                Err(TakeError::Refused { levels, .. }) => {
                    prop_assert_eq!((false, levels[0]), (admitted, level));
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn no_window_admits_more_than_a_full_bucket_and_its_refill((bucket, schedule) in schedule()) {
        let mut state = None;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        let mut clock = 0;
        for (now, cost) in schedule {
            clock = now.max(clock);
            if take_one(&mut state, &Bucket { cost, ..bucket.clone() }, now).is_ok() {
                admitted.push((clock, cost));
            }
        }
        let [capacity, refill, interval] = [bucket.capacity, bucket.refill, bucket.interval_ns].map(u128::from);
        for (from, &(start, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for &(end, cost) in &admitted[from..] {
                sum += u128::from(cost);
                prop_assert!(sum * interval <= capacity * interval + refill * u128::from(end - start));
            }
        }
    }

    #[test]
    fn a_refusal_postpones_nothing((bucket, schedule) in schedule()) {
        // Two buckets; one of them is asked in between for more than it has.
        let (mut asked, mut left_alone) = (None, None);
        for (now, cost) in schedule {
            let too_much = Bucket { cost: bucket.capacity, ..bucket.clone() };
            let before = asked;
            if take_one(&mut asked, &too_much, now).is_ok() {
                asked = before;
            }
            let bucket = Bucket { cost, ..bucket.clone() };
            prop_assert_eq!(take_one(&mut asked, &bucket, now), take_one(&mut left_alone, &bucket, now));
        }
    }

    #[test]
    fn what_a_refusal_says_to_wait_is_enough_and_not_too_much((bucket, schedule) in schedule()) {
        let (mut state, mut clock) = (None, 0);
        for (now, _) in schedule {
            let asked_at = now.max(clock);
            let Err(TakeError::Refused { levels, .. }) = take_one(&mut state, &bucket, now) else {
                clock = asked_at;
                continue;
            };
            let (mut early, mut late) = (state, state);
            prop_assert!(take_one(&mut early, &bucket, asked_at + levels[0].next_ns - 1).is_err());
            prop_assert!(take_one(&mut late, &bucket, asked_at + levels[0].next_ns).is_ok());
        }
    }

    #[test]
    fn several_are_taken_together_or_not_at_all(
        shapes in proptest::collection::vec(any_bucket(), 2..6),
        steps in proptest::collection::vec((0..2 * SECOND, proptest::collection::vec(0..3_u64, 6)), 1..30),
        same in proptest::collection::vec(0..6_usize, 6),
    ) {
        // Bucket i has the key, and the shape, of bucket same[i], if that is before it.
        let key = |i: usize| same[i].min(i);
        let mut oracles: Vec<Oracle> = shapes.iter().map(Oracle::full).collect();
        let mut states = vec![None; shapes.len()];
        let mut now = 0;
        for (step, costs) in steps {
            now += step;
            let buckets: Vec<Bucket> = (0..shapes.len())
                .map(|i| {
                    let shape = &shapes[key(i)];
                    Bucket { key: key(i).to_string(), cost: costs[i].min(shape.capacity), ..shape.clone() }
                })
                .collect();
            let before = states.clone();
            let result = take_all(&mut states, &buckets, now);
            if matches!(result, Err(TakeError::Invalid(_))) {
                // Costs of one key that add up to more than its capacity.
                prop_assert_eq!(&states, &before);
                continue;
            }
            let saved: Vec<(u128, u64)> = oracles.iter().map(|o| (o.parts, o.last)).collect();
            let first_short = buckets.iter().enumerate().position(|(i, b)| !oracles[key(i)].take(b, now).0);
            match (result, first_short) {
                (Ok(levels), None) => {
                    for (i, level) in levels.into_iter().enumerate() {
                        let mut look = Bucket { cost: 0, ..buckets[i].clone() };
                        prop_assert_eq!(level.remaining, oracles[key(i)].take(&look, now).1.remaining);
                        look.cost = buckets[i].cost;
                        let mut alone = states[i];
                        prop_assert_eq!(take_one(&mut alone, &look, now).is_ok(), level.next_ns == 0);
                        let first = buckets.iter().position(|b| b.key == buckets[i].key).unwrap();
                        prop_assert_eq!(states[i], states[first]);
                    }
                }
                (Err(TakeError::Refused { index, levels }), Some(short)) => {
                    prop_assert_eq!(index as usize, short);
                    prop_assert_eq!(levels.len(), buckets.len());
                    prop_assert!(levels[short].next_ns > 0);
                    prop_assert_eq!(&states, &before);
                    for (oracle, (parts, last)) in oracles.iter_mut().zip(saved) {
                        (oracle.parts, oracle.last) = (parts, last);
                    }
                }
                (result, short) => prop_assert!(false, "{result:?}, but {short:?} was short"),
            }
        }
    }

    #[test]
    fn changed_parameters_never_make_tokens(
        (old, schedule) in schedule(),
        new in any_bucket(),
    ) {
        let mut state = None;
        let mut clock = 0;
        for (now, cost) in schedule {
            clock = now.max(clock);
            let _ = take_one(&mut state, &Bucket { cost, ..old.clone() }, now);
        }
        let before = take_one(&mut state, &Bucket { cost: 0, ..old }, clock).unwrap().remaining;
        let after = take_one(&mut state, &Bucket { cost: 0, ..new.clone() }, clock).unwrap();
        // A refill of at least one token per nanosecond aside, nothing was gained at this very moment.
        prop_assert_eq!(after.remaining, before.min(new.capacity));
    }
}

#[test]
fn a_bucket_never_seen_is_full() {
    let level = take_one(&mut None, &bucket("k", 100, 10, SECOND, 1), 5).unwrap();
    assert_eq!(
        level,
        Level {
            remaining: 99,
            next_ns: 0,
            full_ns: SECOND / 10
        }
    );
}

#[test]
fn a_clock_that_steps_back_stands_still() {
    let one = bucket("k", 1, 1, SECOND, 1);
    let mut state = None;
    take_one(&mut state, &one, 10 * SECOND).unwrap();
    for now in [0, 9 * SECOND, 11 * SECOND - 1] {
        assert!(take_one(&mut state, &one, now).is_err(), "{now}");
    }
    assert!(take_one(&mut state, &one, 11 * SECOND).is_ok());
}

#[test]
fn rates_at_the_bounds_do_not_overflow() {
    let wide = bucket("k", 1 << 62, 1, 1, 1 << 62);
    let fast = bucket("k", 1, 1 << 62, 1, 1);
    let slow = bucket("k", 1, 1, 1 << 62, 1);
    for bucket in [wide, fast, slow] {
        let mut state = None;
        take_one(&mut state, &bucket, 0).unwrap();
        assert!(take_one(&mut state, &bucket, 0).is_err());
        take_one(&mut state, &bucket, u64::MAX).unwrap();
        assert!(take_one(&mut state, &bucket, u64::MAX).is_err());
    }
}

#[test]
fn what_is_out_of_bounds_is_invalid() {
    let over = (1 << 62) + 1;
    let long_key = "k".repeat(MAX_KEY_BYTES + 1);
    let cases = [
        bucket("k", 0, 1, 1, 0),
        bucket("k", 1, 0, 1, 1),
        bucket("k", 1, 1, 0, 1),
        bucket("k", over, 1, 1, 1),
        bucket("k", 1, over, 1, 1),
        bucket("k", 1, 1, over, 1),
        bucket("k", u64::MAX, 3, u64::MAX, 1),
        bucket("k", 5, 1, 1, 6),
        bucket(&long_key, 1, 1, 1, 1),
    ];
    for bucket in cases {
        assert!(matches!(bucket.check(), Err(TakeError::Invalid(_))), "{bucket:?}");
        let mut state = None;
        assert!(matches!(
            take_one(&mut state, &bucket, 0),
            Err(TakeError::Invalid(_))
        ));
        assert_eq!(state, None);
    }
}

#[test]
fn a_common_divisor_makes_room() {
    // A hundred thousand a day, all at once or spread.
    let daily = bucket("k", 100_000, 100_000, 86_400 * SECOND, 1);
    assert_eq!(
        daily.check().unwrap(),
        Scale {
            token: 864_000_000,
            rate: 1,
            full: 86_400 * SECOND,
            cost: 864_000_000
        }
    );
}

#[test]
fn one_key_twice_is_charged_the_sum() {
    let take = |states: &mut [Option<State>], costs: [u64; 2]| {
        take_all(states, &costs.map(|cost| bucket("k", 5, 1, SECOND, cost)), 0)
    };
    let mut states = [None, None];
    let levels = take(&mut states, [2, 1]).unwrap();
    assert_eq!(
        levels.iter().map(|level| level.remaining).collect::<Vec<_>>(),
        [2, 2]
    );
    assert_eq!(states[0], states[1]);
    let before = states;
    let Err(TakeError::Refused { index, levels }) = take(&mut states, [2, 1]) else {
        panic!("two are left")
    };
    assert_eq!((index, levels[0].next_ns, levels[1].next_ns), (1, 0, SECOND));
    assert_eq!(states, before);
    assert!(
        matches!(take(&mut states, [3, 3]), Err(TakeError::Invalid(_))),
        "six of five can never be had"
    );
    let differing = [bucket("k", 5, 1, SECOND, 1), bucket("k", 6, 1, SECOND, 1)];
    assert!(matches!(
        take_all(&mut states, &differing, 0),
        Err(TakeError::Invalid(_))
    ));
}

#[test]
fn a_take_is_bounded() {
    let buckets: Vec<Bucket> = (0..=MAX_BUCKETS)
        .map(|i| bucket(&i.to_string(), 1, 1, 1, 1))
        .collect();
    assert!(matches!(
        take_all(&mut vec![None; buckets.len()], &buckets, 0),
        Err(TakeError::Invalid(_))
    ));
    assert_eq!(
        take_all(&mut vec![None; MAX_BUCKETS], &buckets[..MAX_BUCKETS], 0).map(|l| l.len()),
        Ok(MAX_BUCKETS)
    );
    assert_eq!(take_all(&mut [], &[], 0), Ok(Vec::new()));
}
