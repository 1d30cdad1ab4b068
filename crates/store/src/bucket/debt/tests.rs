//! The bound, over random fleets: gateways, delays, lost answers, deaths. And that it would be seen to break.

use std::collections::VecDeque;

use super::*;

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

/// What is deliberately wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Credit is given whatever the level is.
    DebtWithoutBound,
    /// A report that is repeated since its answer was lost is forgotten instead.
    ReportsAreForgotten,
    /// A gateway forgets a bucket that is not full.
    ForgetsTooEarly,
}

/// A report under way: when it reaches the engine, when its answer is back.
struct Report {
    charge: Charge,
    number: u64,
    sent: u64,
    arrives: u64,
    returns: u64,
    level: Option<i64>,
    is_lost: bool,
}

struct Gateway {
    debt: Option<Debt>,
    report: Option<Report>,
    number: u64,
    due: u64,
}

const MS: u64 = 1_000_000;

/// The most that any window of a world admitted beyond `capacity + refill · W`, in tokens; and N · f with those that died.
fn world(seed: u64, wrong: Wrong) -> (i128, i128, u64) {
    let mut random = Random(seed);
    let gateways = 1 + random.below(6);
    let sharing = Sharing {
        gateways: u32::try_from(gateways).unwrap(),
        debt_percent: [1, 10, 10, 50][random.below(4) as usize],
    };
    let bucket = Bucket {
        key: "k".into(),
        capacity: [1, 3, 20, 100, 1_000][random.below(5) as usize],
        refill: 1 + random.below(50),
        interval_ns: [100 * MS, 1_000 * MS, 7_000 * MS][random.below(3) as usize],
        cost: 1,
    };
    let scale = bucket.check().unwrap();
    let most = credit(bucket.capacity, bucket.cost, sharing);
    let (mut account, mut charged_number) = (None, vec![0; gateways as usize]);
    let mut all: Vec<Gateway> = (0..gateways)
        .map(|_| Gateway {
            debt: None,
            report: None,
            number: 0,
            due: 0,
        })
        .collect();
    let mut admitted: VecDeque<u64> = VecDeque::new();
    let (mut now, mut deaths) = (0, 0);
    // Half of the worlds lean on one gateway.
    let leans = random.below(2) == 0;
    for _ in 0..4_000 {
        now += random.below(3 * MS);
        let place = match leans && random.below(4) > 0 {
            true => 0,
            false => random.below(gateways) as usize,
        };
        let gateway = &mut all[place];
        if random.below(400) == 0 {
            // It dies; its place is taken by a new one.
            (gateway.debt, gateway.report) = (None, None);
            deaths += 1;
        }
        let debt = gateway
            .debt
            .get_or_insert_with(|| Debt::new(&bucket, &scale, sharing, now));
        for _ in 0..random.below(3) {
            if debt.has(1) {
                debt.admit(1);
                admitted.push_back(now);
            }
        }
        if wrong == Wrong::ForgetsTooEarly && random.below(50) == 0 && gateway.report.is_none() {
            gateway.debt = None;
        }
        for (place, gateway) in all.iter_mut().enumerate() {
            let Some(debt) = &mut gateway.debt else { continue };
            if let Some(report) = &mut gateway.report {
                if report.level.is_none() && now >= report.arrives {
                    let is_new = charged_number[place] != report.number;
                    charged_number[place] = report.number;
                    let charge = match is_new {
                        true => report.charge,
                        false => Charge {
                            units: 0,
                            ..report.charge
                        },
                    };
                    report.level = Some(charge.apply(&mut account, report.arrives));
                }
                if now < report.returns {
                    continue;
                }
                let Some(level) = report.level else { continue };
                if report.is_lost && wrong != Wrong::ReportsAreForgotten {
                    // The same again.
                    (report.level, report.is_lost) = (None, random.below(4) == 0);
                    (report.arrives, report.returns) = (now + 5 * MS, now + 10 * MS);
                    continue;
                }
                let level = match wrong {
                    Wrong::DebtWithoutBound => level.max(signed(scale.full)),
                    _ => level,
                };
                let (charge, sent) = (report.charge, report.sent);
                gateway.due = debt.answered(&charge, level, sent).unwrap_or(u64::MAX);
                gateway.report = None;
            }
            if debt.is_urgent() || (debt.owes() && random.below(20) == 0) || now >= gateway.due {
                gateway.number = random.next() | 1;
                let arrives = now + random.below(20 * MS);
                let charge = debt.report();
                let is_forgotten = wrong == Wrong::ReportsAreForgotten && random.below(3) == 0;
                gateway.report = Some(Report {
                    charge: Charge {
                        units: if is_forgotten { 0 } else { charge.units },
                        ..charge
                    },
                    number: gateway.number,
                    sent: now,
                    arrives,
                    returns: arrives + random.below(20 * MS),
                    level: None,
                    is_lost: random.below(6) == 0,
                });
            }
        }
    }
    (
        excess(&bucket, admitted.make_contiguous()),
        i128::from(most) * i128::from(gateways + deaths),
        deaths,
    )
}

/// The most that a window admitted beyond `capacity + refill · W`.
fn excess(bucket: &Bucket, admitted: &[u64]) -> i128 {
    // Largest of count(i..=j) - refill · (t_j - t_i) / interval, in fractions of a token, by one pass.
    let (mut worst, mut best) = (i128::MIN, i128::MIN);
    let unit = i128::from(bucket.interval_ns);
    for (index, at) in admitted.iter().enumerate() {
        let level = i128::from(*at) * i128::from(bucket.refill) - index as i128 * unit;
        best = best.max(level);
        worst = worst.max(best - (level - unit));
    }
    worst.max(0).div_euclid(unit) - i128::from(bucket.capacity)
}

#[test]
fn a_fleet_never_admits_more_than_its_bound() {
    for seed in 0..400 {
        let (excess, bound, deaths) = world(seed, Wrong::Nothing);
        assert!(
            excess <= bound,
            "seed {seed}: {excess} beyond, of {bound}, {deaths} died"
        );
    }
}

#[test]
fn each_deliberate_bug_is_found() {
    for wrong in [
        Wrong::DebtWithoutBound,
        Wrong::ReportsAreForgotten,
        Wrong::ForgetsTooEarly,
    ] {
        let found = (0..400).any(|seed| {
            let (excess, bound, _) = world(seed, wrong);
            excess > bound
        });
        assert!(found, "{wrong:?}");
    }
}

fn bucket(capacity: u64, refill: u64) -> Bucket {
    Bucket {
        key: "k".into(),
        capacity,
        refill,
        interval_ns: 1_000 * MS,
        cost: 1,
    }
}

#[test]
fn a_drained_bucket_is_asked_for_again_when_it_has_a_token() {
    let (bucket, sharing) = (
        bucket(100, 10),
        Sharing {
            gateways: 4,
            debt_percent: 10,
        },
    );
    let mut debt = Debt::new(&bucket, &bucket.check().unwrap(), sharing, 0);
    assert!(debt.has(2) && !debt.has(3));
    debt.admit(2);
    assert!(debt.is_urgent() && !debt.has(1));
    let charge = debt.report();
    assert_eq!(charge.units, 2 * charge.token);
    // What is under way is owed still.
    assert!(!debt.has(1));
    let again = debt.answered(&charge, -signed(charge.token) / 2, 0).unwrap();
    assert_eq!(again, 150 * MS, "half a token below none, ten a second");
    assert_eq!(debt.level(1, 0, 50 * MS).next_ns, 150 * MS);
    assert!(!debt.has(1) && !debt.may_go(again));
    let charge = debt.report();
    debt.answered(&charge, signed(charge.token), again);
    assert!(debt.has(1) && !debt.has(2));
}

#[test]
fn a_bucket_that_is_filled_is_full_everywhere() {
    let bucket = bucket(5, 1);
    let sharing = Sharing {
        gateways: 2,
        debt_percent: 10,
    };
    let mut debt = Debt::new(&bucket, &bucket.check().unwrap(), sharing, 0);
    let mut account = None;
    debt.admit(1);
    let charge = debt.report();
    let level = Charge {
        units: 9 * charge.token,
        ..charge
    }
    .apply(&mut account, 0);
    assert_eq!(level, -4 * signed(charge.token));
    debt.answered(&charge, level, 0);
    debt.fill(MS);
    assert!(debt.has(1) && debt.owes());
    let charge = debt.report();
    assert_eq!(charge.apply(&mut account, MS), signed(charge.full));
}

#[test]
fn parameters_that_change_keep_the_tokens() {
    let mut account = None;
    let old = Charge {
        token: 10,
        rate: 1,
        full: 100,
        units: 70,
    };
    assert_eq!(old.apply(&mut account, 0), 30);
    let new = Charge {
        token: 1_000,
        rate: 1,
        full: 50_000,
        units: 0,
    };
    assert_eq!(new.apply(&mut account, 5), 3_005);
    assert_eq!(share(&bucket(100, 10), 4).unwrap().capacity, 25);
    assert_eq!(share(&bucket(2, 10), 4).unwrap().capacity, 1);
}
