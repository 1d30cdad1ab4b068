//! Limits that gateways share over a real Postgres: the bound over every window, also with a gateway that dies and a database that
//! crashes. Skipped, and said so, where there is no Postgres.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate_contract::postgres::Postgres;
use tollgate_engines::{GatewayBuckets, PostgresOptions, PostgresStore};
use tollgate_store::bucket::Bucket;
use tollgate_store::bucket::debt::{Sharing, credit};

const CAPACITY: u64 = 60;
const PER_SECOND: u64 = 40;
const SHARING: Sharing = Sharing {
    gateways: 3,
    debt_percent: 10,
};

struct Gateway {
    store: Arc<PostgresStore>,
    buckets: GatewayBuckets,
}

impl Gateway {
    fn start(url: &str) -> Self {
        let store = PostgresStore::open(PostgresOptions {
            sharing: SHARING,
            ..PostgresOptions::new(url)
        })
        .unwrap();
        let buckets = GatewayBuckets::new(1_000, Some(store.debts()));
        buckets.share(["both".to_owned()].into_iter());
        Self { store, buckets }
    }

    fn admits(&self, key: &str) -> bool {
        let bucket = Bucket {
            key: key.to_owned(),
            capacity: CAPACITY,
            refill: PER_SECOND,
            interval_ns: 1_000_000_000,
            cost: 1,
        };
        self.buckets.take_one_now(&bucket).is_ok()
    }
}

/// All gateways at once ask as often as they can, for so long; when they asked and were let through. `dies`: after how long the first
/// gateway ends and another begins.
fn hammer(url: &str, key: &str, long: Duration, dies: Option<Duration>) -> Vec<(Instant, Instant)> {
    let over = AtomicBool::new(false);
    let ask = |long: Option<Duration>| {
        let (gateway, began) = (Gateway::start(url), Instant::now());
        let mut admitted = Vec::new();
        while !over.load(Ordering::Relaxed) && long.is_none_or(|long| began.elapsed() < long) {
            let asked = Instant::now();
            if gateway.admits(key) {
                admitted.push((asked, Instant::now()));
            }
            thread::sleep(Duration::from_micros(500));
        }
        if long.is_none() {
            tollgate_engines::Engine::close(&*gateway.store);
        }
        // Else what it has admitted and not told goes with it.
        admitted
    };
    let mut admitted = thread::scope(|scope| {
        let all: Vec<_> = (0..SHARING.gateways)
            .map(|n| {
                let (dies, ask) = (dies.filter(|_| n == 0), &ask);
                scope.spawn(move || {
                    let mut admitted = ask(dies);
                    if dies.is_some() {
                        admitted.extend(ask(None));
                    }
                    admitted
                })
            })
            .collect();
        thread::sleep(long);
        over.store(true, Ordering::Relaxed);
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect::<Vec<_>>()
    });
    admitted.sort_unstable_by_key(|(_, answered)| *answered);
    admitted
}

/// The most that a window has beyond `capacity + refill · W`, of what was asked for and answered within it.
fn excess(admitted: &[(Instant, Instant)]) -> f64 {
    let mut worst = f64::MIN;
    for (first, _) in admitted {
        let within = admitted.iter().filter(|(asked, _)| asked >= first);
        for (count, (_, answered)) in within.enumerate() {
            let grown = PER_SECOND as f64 * answered.duration_since(*first).as_secs_f64();
            worst = worst.max((count + 1) as f64 - CAPACITY as f64 - grown);
        }
    }
    worst
}

#[test]
fn gateways_keep_the_bound_together_whoever_dies() {
    let Some(database) = Postgres::start("") else {
        return;
    };
    let url = database.fresh();
    let each = credit(CAPACITY, 1, SHARING) as f64;
    let long = Duration::from_secs(3);
    let began = Instant::now();
    let admitted = hammer(&url, "both|calm", long, None);
    let whole = CAPACITY as f64 + PER_SECOND as f64 * began.elapsed().as_secs_f64();
    let (count, worst) = (admitted.len(), excess(&admitted));
    eprintln!(
        "{count} of {whole:.0}, at most {worst:.1} more in a window, of {:.0}",
        3.0 * each
    );
    assert!(worst <= 3.0 * each, "{worst}");
    assert!(count as f64 > 0.6 * whole, "{count} of {whole}");
    let worst = excess(&hammer(&url, "both|dies", long, Some(long / 3)));
    eprintln!("with a death: {worst:.1}");
    assert!(worst <= 4.0 * each, "{worst}");
    // A crash leaves full buckets, and while the database is away each counts by its share: one capacity each, at most.
    let crashes = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(long / 2);
            database.order("crash");
        });
        hammer(&url, "both|crash", long * 2, None)
    });
    database.wait();
    let worst = excess(&crashes);
    eprintln!("with a crash: {} admitted, {worst:.1}", crashes.len());
    assert!(worst <= 2.0 * CAPACITY as f64 + 3.0 * each, "{worst}");
    assert!(crashes.len() as u64 > CAPACITY);
}
