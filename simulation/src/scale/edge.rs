//! Limits that a thousand gateways share by debt: the bound holds, and what it costs.

use tollgate_store::bucket::Bucket;
use tollgate_store::bucket::debt::{Account, Charge, Debt, Sharing, credit};

const MS: u64 = 1_000_000;
/// How often a gateway tells what it has admitted.
const REPORTS: u64 = 50 * MS;
/// How long the crowd lasts.
const LASTS: u64 = 5_000 * MS;

struct Gateway {
    debt: Debt,
    /// To and back again.
    way: u64,
    report: Option<(Charge, u64, u64)>,
    due: u64,
}

/// What came of it: requests admitted, the bound, and reports for each second.
#[derive(Debug)]
struct Came {
    admitted: u64,
    bound: u64,
    reports: u64,
}

/// One client asks all gateways at once, `rate` times a second, under a limit of `capacity` tokens that refills in a minute.
fn crowd(gateways: u32, capacity: u64, rate: u64) -> Came {
    let sharing = Sharing {
        gateways,
        debt_percent: 10,
    };
    let bucket = Bucket {
        key: "k".into(),
        capacity,
        refill: capacity,
        interval_ns: 60_000 * MS,
        cost: 1,
    };
    let scale = bucket.check().expect("it is a bucket");
    let mut random = fastrand::Rng::with_seed(u64::from(gateways) ^ capacity);
    let mut all: Vec<Gateway> = (0..gateways)
        .map(|_| Gateway {
            debt: Debt::new(&bucket, &scale, sharing, 0),
            way: 5 * MS + random.u64(..145 * MS),
            report: None,
            due: random.u64(..REPORTS),
        })
        .collect();
    let mut account: Option<Account> = None;
    let (mut admitted, mut reports, mut now) = (0, 0, 0);
    let step = MS;
    while now < LASTS {
        now += step;
        let asked = rate * step / 1_000_000_000;
        for _ in 0..asked {
            let gateway = random.usize(..all.len());
            let debt = &mut all[gateway].debt;
            if debt.has(1) {
                debt.admit(1);
                admitted += 1;
            }
        }
        for gateway in &mut all {
            match gateway.report {
                None if now >= gateway.due && gateway.debt.owes() => {
                    gateway.report = Some((gateway.debt.report(), now, now + gateway.way));
                }
                Some((charge, sent, back)) if now >= back => {
                    // It was charged half of the way ago; that the order is another one changes nothing of the sum.
                    let level = charge.apply(&mut account, now - gateway.way / 2);
                    let again = gateway.debt.answered(&charge, level, sent);
                    reports += 1;
                    gateway.report = None;
                    gateway.due = again.unwrap_or(0).max(now + REPORTS);
                }
                _ => {}
            }
        }
    }
    let refilled = capacity * LASTS / (60_000 * MS);
    Came {
        admitted,
        bound: capacity + refilled + u64::from(gateways) * credit(capacity, 1, sharing),
        reports: reports * 1_000_000_000 / LASTS,
    }
}

#[test]
fn a_thousand_gateways_keep_the_bound() {
    for (gateways, capacity) in [
        (10, 60),
        (100, 60),
        (1_000, 60),
        (1_000, 10_000),
        (1_000, 100_000),
    ] {
        let came = crowd(gateways, capacity, 50_000);
        println!("{gateways} gateways, {capacity} a minute: {came:?}");
        assert!(came.admitted <= came.bound, "{came:?}");
        assert!(came.reports <= u64::from(gateways) * 20, "{came:?}");
        assert!(came.admitted >= capacity.min(200_000), "{came:?}");
    }
}

/// Without a bound on the debt each gateway admits all: what the test above would see.
#[test]
fn gateways_that_do_not_tell_break_the_bound() {
    let alone = Bucket {
        key: "k".into(),
        capacity: 60,
        refill: 60,
        interval_ns: 60_000 * MS,
        cost: 1,
    };
    let scale = alone.check().expect("it is a bucket");
    let sharing = Sharing {
        gateways: 1,
        debt_percent: 100,
    };
    let admitted: u64 = (0..1_000)
        .map(|_| {
            let mut debt = Debt::new(&alone, &scale, sharing, 0);
            (0..100)
                .filter(|_| {
                    let has = debt.has(1);
                    if has {
                        debt.admit(1);
                    }
                    has
                })
                .count() as u64
        })
        .sum();
    assert!(
        admitted
            > 60 + 5
                + 1_000
                    * credit(
                        60,
                        1,
                        Sharing {
                            gateways: 1_000,
                            debt_percent: 10
                        }
                    )
    );
}
