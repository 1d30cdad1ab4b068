//! Batches against takes one after the other, and the bound over random fleets; and that it would be seen to break.

use super::super::take_all;
use super::*;

const MS: u64 = 1_000_000;

/// A generator of numbers that any machine gives alike (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn bucket(key: &str, capacity: u64, cost: u64) -> Bucket {
    Bucket {
        key: key.into(),
        capacity,
        refill: 3,
        interval_ns: 1_000 * MS,
        cost,
    }
}

/// The engine: the accounts of all.
#[derive(Default)]
struct Engine(HashMap<String, Option<Account>>);

impl Engine {
    fn decide(&mut self, wants: &BTreeMap<String, Want>, now: u64) -> HashMap<String, Granted> {
        let decide = |(key, want): (&String, &Want)| {
            let account = self.0.entry(key.clone()).or_default();
            (key.clone(), want.apply(account, now))
        };
        wants.iter().map(decide).collect()
    }
}

#[test]
fn a_batch_is_decided_as_its_takes_are_one_after_the_other() {
    let mut random = Random(7);
    for _ in 0..2_000 {
        let (mut engine, mut states) = (Engine::default(), HashMap::new());
        let mut now = MS;
        for _ in 0..4 {
            now += random.below(900 * MS);
            let mut batch = Batch::default();
            let mut asked = Vec::new();
            for place in 0..1 + random.below(9) {
                let key = ["a", "b", "c"][random.below(3) as usize];
                let take = vec![bucket(key, 5 + random.below(1), random.below(4))];
                assert!(batch.fits(&take));
                batch.add(take.clone(), place);
                asked.push(take);
            }
            let granted = engine.decide(batch.wants(), now);
            let (answers, backs) = batch.answer(&granted);
            for ((_, answer), take) in answers.iter().zip(&asked) {
                let mut state = vec![states.get(&take[0].key).copied()];
                let expected = take_all(&mut state, take, now);
                match (answer, expected) {
                    (Ok((told, _)), Ok(expected)) => {
                        assert_eq!(told[0].remaining, expected[0].remaining);
                        assert_eq!(told[0].full_ns, expected[0].full_ns);
                    }
                    (Err(told), Err(expected)) => assert_eq!(*told, expected),
                    (told, expected) => panic!("{told:?}, not {expected:?}"),
                }
                if let Some(state) = state[0] {
                    states.insert(take[0].key.clone(), state);
                }
            }
            // Where the costs differ, what nobody could use goes back.
            let mut last = Batch::<()>::default();
            backs.into_iter().for_each(|back| last.give_back(back));
            engine.decide(last.wants(), now);
        }
    }
}

#[test]
fn what_one_bucket_grants_in_vain_is_given_back() {
    let mut engine = Engine::default();
    let both = || vec![bucket("wide", 10, 1), bucket("narrow", 1, 1)];
    let mut batch = Batch::default();
    (0..3).for_each(|n| batch.add(both(), n));
    let granted = engine.decide(batch.wants(), MS);
    let (answers, backs) = batch.answer(&granted);
    assert!(answers[0].1.is_ok());
    let Err(TakeError::Refused { index: 1, levels }) = &answers[1].1 else {
        panic!("one is all there is")
    };
    assert_eq!((levels[0].remaining, levels[0].next_ns), (9, 0));
    assert!(levels[1].next_ns > 0);
    assert_eq!((backs.len(), backs[0].tokens, &*backs[0].key), (1, 2, "wide"));
    let mut next = Batch::default();
    backs.into_iter().for_each(|back| next.give_back(back));
    next.add(vec![bucket("wide", 10, 0)], 0);
    let granted = engine.decide(next.wants(), MS);
    let (answers, backs) = next.answer(&granted);
    assert_eq!(answers[0].1.as_ref().unwrap().0[0].remaining, 9);
    assert!(backs.is_empty());
}

#[test]
fn a_key_that_occurs_twice_is_charged_with_the_sum() {
    let mut engine = Engine::default();
    let twice = |one, other| vec![bucket("k", 5, one), bucket("k", 5, other)];
    let mut batch = Batch::default();
    batch.add(twice(2, 2), 0);
    batch.add(twice(1, 1), 1);
    let granted = engine.decide(batch.wants(), MS);
    let (answers, backs) = batch.answer(&granted);
    assert_eq!(answers[0].1.as_ref().unwrap().0[1].remaining, 1);
    assert!(matches!(
        &answers[1].1,
        Err(TakeError::Refused { index: 1, levels }) if levels[0].next_ns == 0
    ));
    assert_eq!(backs[0].tokens, 1);
}

#[test]
fn other_parameters_wait_for_the_next_batch() {
    let mut batch = Batch::default();
    batch.add(vec![bucket("k", 5, 1)], 0);
    assert!(batch.fits(&[bucket("k", 5, 3)]));
    assert!(!batch.fits(&[bucket("k", 6, 1)]));
    assert!(batch.fits(&[bucket("other", 6, 1)]));
    let operator = Bucket {
        capacity: 6,
        refill: 6,
        interval_ns: 1,
        ..bucket("k", 6, 1)
    };
    // It is filled, whatever was taken.
    let mut engine = Engine::default();
    let mut emptied = Batch::default();
    emptied.add(vec![bucket("k", 5, 5)], 0);
    engine.decide(emptied.wants(), MS);
    let mut fill = Batch::default();
    fill.add(vec![operator], 0);
    engine.decide(fill.wants(), MS + 1);
    let mut full = Batch::default();
    full.add(vec![bucket("k", 5, 5)], 0);
    let granted = engine.decide(full.wants(), MS + 1);
    assert!(full.answer(&granted).0[0].1.is_ok());
}

/// What is deliberately wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A batch whose answer is lost counts as granted.
    LostIsGranted,
    /// It is sent again, and both answers are handed out.
    SentTwice,
    /// What is refused is given back.
    GivesBackTooMuch,
    /// What is given back counts whole, whatever the bucket has gained meanwhile.
    GivesBackLate,
}

/// The most that any window of a world admitted beyond `capacity + refill · W`, in tokens.
fn world(seed: u64, wrong: Wrong) -> i128 {
    let mut random = Random(seed);
    let wide = Bucket {
        refill: 1 + random.below(50),
        interval_ns: [100 * MS, 1_000 * MS, 7_000 * MS][random.below(3) as usize],
        ..bucket("wide", [3, 20, 100][random.below(3) as usize], 1)
    };
    let narrow = Bucket {
        capacity: 1 + random.below(5),
        key: "narrow".into(),
        ..wide.clone()
    };
    let mut engine = Engine::default();
    let mut backs: Vec<Vec<Back>> = vec![Vec::new(); 1 + random.below(5) as usize];
    let (mut now, mut admitted) = (MS, Vec::new());
    for _ in 0..500 {
        now += random.below(20 * MS);
        let place = random.below(backs.len() as u64) as usize;
        let mut batch = Batch::default();
        for mut back in backs[place].drain(..) {
            if wrong == Wrong::GivesBackLate {
                back.at = now / MICRO;
            }
            batch.give_back(back);
        }
        for n in 0..random.below(6) {
            let cost = 1 + random.below(2);
            let mut take = vec![Bucket { cost, ..wide.clone() }];
            if random.below(2) == 0 {
                take.push(narrow.clone());
            }
            batch.add(take, (n, cost));
        }
        if random.below(20) == 0 {
            continue; // It is lost on its way.
        }
        let granted = engine.decide(batch.wants(), now);
        if random.below(20) == 0 {
            // Its answer is.
            match wrong {
                Wrong::LostIsGranted => {
                    admitted.extend(batch.into_waiting().map(|(_, cost)| (now, cost)));
                }
                Wrong::SentTwice => {
                    let again = engine.decide(batch.wants(), now);
                    for granted in [granted, again] {
                        admitted.push((now, granted.get("wide").map_or(0, |wide| wide.tokens)));
                    }
                    admitted.extend(batch.into_waiting().map(|(_, cost)| (now, cost)));
                }
                _ => {}
            }
            continue;
        }
        let (answers, back) = batch.answer(&granted);
        backs[place] = back;
        for ((_, cost), answer) in answers {
            match answer {
                Ok(_) => admitted.push((now, cost)),
                Err(_) if wrong == Wrong::GivesBackTooMuch => backs[place].push(Back {
                    key: "wide".into(),
                    scale: wide.check().unwrap(),
                    tokens: cost,
                    at: now / MICRO,
                }),
                Err(_) => {}
            }
        }
    }
    let mut worst = i128::MIN;
    for (first, (since, _)) in admitted.iter().enumerate() {
        let mut tokens = 0;
        for (at, cost) in admitted.iter().skip(first) {
            tokens += i128::from(*cost) * i128::from(wide.interval_ns);
            let gained = i128::from(at - since) * i128::from(wide.refill);
            let most = i128::from(wide.capacity) * i128::from(wide.interval_ns) + gained;
            worst = worst.max((tokens - most).div_euclid(i128::from(wide.interval_ns)));
        }
    }
    worst
}

#[test]
fn no_window_of_a_fleet_admits_more_than_its_bucket_has() {
    let worst = (0..200).map(|seed| world(seed, Wrong::Nothing)).max().unwrap();
    assert!(worst <= 0, "{worst}");
    let all = [
        Wrong::LostIsGranted,
        Wrong::SentTwice,
        Wrong::GivesBackTooMuch,
        Wrong::GivesBackLate,
    ];
    for wrong in all {
        let found = (0..200).filter(|seed| world(*seed, wrong) > 0).count();
        assert!(found > 0, "{wrong:?}");
    }
}
