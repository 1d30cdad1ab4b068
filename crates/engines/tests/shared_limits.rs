//! Limits that gateways share over a real Postgres, by bounded debt and exactly: the bound over every window, also with a gateway that
//! dies and a database that crashes. Skipped, and said so, where there is no Postgres.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate_contract::postgres::Postgres;
use tollgate_engines::{GatewayBuckets, PostgresOptions, PostgresStore, Together};
use tollgate_store::bucket::debt::{Sharing, credit};
use tollgate_store::bucket::{Bucket, TakeError};

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
        let buckets = GatewayBuckets::new(1_000, Some(store.limits()));
        let names = [
            ("both", Together::Debt),
            ("exact", Together::Exact),
            ("narrow", Together::Exact),
        ];
        buckets.share(names.map(|(name, how)| (name.to_owned(), how)).into_iter());
        Self { store, buckets }
    }

    fn admits(&self, key: &str) -> bool {
        self.buckets.take_one_now(&bucket(key, CAPACITY)).unwrap().is_ok()
    }
}

fn bucket(key: &str, capacity: u64) -> Bucket {
    Bucket {
        key: key.to_owned(),
        capacity,
        refill: PER_SECOND,
        interval_ns: 1_000_000_000,
        cost: 1,
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

/// As [`hammer`], under exact limits; each gateway has so many requests at once, each under all of these buckets. How many could not be
/// asked about, beside who was let through.
fn hammer_exact(
    url: &str,
    buckets: &[Bucket],
    long: Duration,
    dies: Option<Duration>,
) -> (Vec<(Instant, Instant)>, usize) {
    const AT_ONCE: usize = 12;
    let over = AtomicBool::new(false);
    let ask = |long: Option<Duration>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (gateway, began) = (Gateway::start(url), Instant::now());
        let is_over = || over.load(Ordering::Relaxed) || long.is_some_and(|long| began.elapsed() >= long);
        let one = async || {
            let (mut admitted, mut failed) = (Vec::new(), 0);
            while !is_over() {
                let asked = Instant::now();
                match gateway.buckets.take_exact(buckets).await {
                    Ok(levels) => {
                        assert_eq!(levels.len(), buckets.len());
                        admitted.push((asked, Instant::now()));
                    }
                    Err(TakeError::Refused { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(_) => {
                        failed += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            (admitted, failed)
        };
        let all = futures::future::join_all((0..AT_ONCE).map(|_| one()));
        runtime.unwrap().block_on(all)
    };
    let all = thread::scope(|scope| {
        let all: Vec<_> = (0..SHARING.gateways)
            .map(|n| {
                let (dies, ask) = (dies.filter(|_| n == 0), &ask);
                scope.spawn(move || {
                    let mut all = ask(dies);
                    if dies.is_some() {
                        all.extend(ask(None));
                    }
                    all
                })
            })
            .collect();
        thread::sleep(long);
        over.store(true, Ordering::Relaxed);
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect::<Vec<_>>()
    });
    let failed = all.iter().map(|(_, failed)| failed).sum();
    let mut admitted: Vec<_> = all.into_iter().flat_map(|(admitted, _)| admitted).collect();
    admitted.sort_unstable_by_key(|(_, answered)| *answered);
    (admitted, failed)
}

#[test]
fn exact_limits_are_exact_whoever_dies() {
    let Some(database) = Postgres::start("") else {
        return;
    };
    let url = database.fresh();
    let long = Duration::from_millis(1_500);
    let began = Instant::now();
    let (admitted, failed) = hammer_exact(&url, &[bucket("exact|calm", CAPACITY)], long, None);
    let whole = CAPACITY as f64 + PER_SECOND as f64 * began.elapsed().as_secs_f64();
    let (count, worst) = (admitted.len(), excess(&admitted));
    eprintln!("exact: {count} of {whole:.0}, at most {worst:.2} more in a window");
    assert!(worst <= 0.0 && failed == 0, "{worst}, {failed} failed");
    assert!(count as f64 > 0.85 * whole, "{count} of {whole}");
    // Under several at once: one is the gateway's own, one is shared by debt, and one is much narrower.
    let several = [
        bucket("mine|x", 1_000),
        bucket("exact|several", CAPACITY),
        bucket("both|several", 10 * CAPACITY),
        bucket("narrow|several", 5),
    ];
    let began = Instant::now();
    let (admitted, _) = hammer_exact(&url, &several, long, Some(long / 3));
    let worst = excess(&admitted) + CAPACITY as f64 - 5.0;
    let whole = 5.0 + PER_SECOND as f64 * began.elapsed().as_secs_f64();
    eprintln!("of several: {} of {whole:.0}, {worst:.2}", admitted.len());
    assert!(worst <= 0.0, "{worst}");
    assert!(
        admitted.len() as f64 > 0.6 * whole,
        "{} of {whole}",
        admitted.len()
    );
    // A crash leaves full buckets: one capacity more. What is under way then has failed, and nobody hangs.
    let (admitted, failed) = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(long / 2);
            database.order("crash");
        });
        hammer_exact(&url, &[bucket("exact|crash", CAPACITY)], long * 3, None)
    });
    database.wait();
    let worst = excess(&admitted);
    eprintln!(
        "with a crash: {} admitted, {failed} failed, {worst:.2}",
        admitted.len()
    );
    assert!(worst <= CAPACITY as f64 && failed > 0, "{worst}, {failed}");
    assert!(
        admitted.len() as u64 > CAPACITY + PER_SECOND,
        "it was asked again"
    );
}

/// Random batches, decided by the database and by the model, under limits that gain next to nothing.
#[test]
fn the_database_decides_as_the_model_does() {
    use std::collections::HashMap;
    use tollgate_engines::{Failure, Takes};
    use tollgate_store::bucket::debt::Account;
    use tollgate_store::bucket::exact::{Back, Batch};
    let Some(database) = Postgres::start("") else {
        return;
    };
    let url = database.fresh();
    let store = PostgresStore::open(PostgresOptions::new(&url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let decided: Result<(), Failure> = runtime.unwrap().block_on(async {
        let mut takes = Takes::connect(&store).await.unwrap();
        let mut accounts: HashMap<String, Option<Account>> = HashMap::new();
        let mut backs: Vec<Back> = Vec::new();
        let mut capacity = HashMap::new();
        for round in 0..150_u64 {
            let mut batch = Batch::default();
            backs.drain(..).for_each(|back| batch.give_back(back));
            for _ in 0..fastrand::u64(1..8) {
                let mut take = Vec::new();
                for name in ["exact|a", "exact|b", "exact|c", "exact|d"] {
                    if fastrand::bool() {
                        if round % 40 == 0 && fastrand::bool() {
                            // Parameters change under a live bucket.
                            capacity.insert(name, fastrand::u64(4..30));
                        }
                        take.push(Bucket {
                            refill: 1,
                            interval_ns: 3_600_000_000_000_000,
                            cost: fastrand::u64(0..3),
                            ..bucket(name, *capacity.entry(name).or_insert(12))
                        });
                    }
                }
                if batch.fits(&take) {
                    batch.add(take, ());
                }
            }
            let told = takes.take(batch.wants()).await?;
            for (key, want) in batch.wants() {
                let told = told[key];
                let expected = want.apply(accounts.entry(key.clone()).or_default(), told.at * 1_000);
                assert_eq!(told.tokens, expected.tokens, "{round} {key} {want:?}");
                let gap = told.level.abs_diff(expected.level);
                assert!(
                    gap < want.scale.token / 100,
                    "{round} {key} {want:?} {told:?} {expected:?}"
                );
            }
            if fastrand::u8(..10) > 0 {
                backs = batch.answer(&told).1;
            }
        }
        Ok(())
    });
    decided.unwrap();
}
