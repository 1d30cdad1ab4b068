//! Limits that gateways share over a real Redis: the bound over every window, also with a server that is killed; the same decisions as
//! the model's; a cluster. Skipped, and said so, where there is no `redis-server`.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeSet, HashMap};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate_engines::{Decider, GatewayBuckets, RedisLimits, RedisOptions, Together};
use tollgate_store::bucket::debt::{Account, Sharing, credit};
use tollgate_store::bucket::exact::{Back, Batch};
use tollgate_store::bucket::{Bucket, TakeError};
use tollgate_store::settings::RedisAddress;

const CAPACITY: u64 = 60;
const PER_SECOND: u64 = 40;
const PASSWORD: &str = "correct-horse";
const SHARING: Sharing = Sharing {
    gateways: 3,
    debt_percent: 10,
};

/// A server, which ends with this.
struct Redis {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
    arguments: &'static [&'static str],
}

impl Redis {
    fn start(arguments: &'static [&'static str]) -> Option<Self> {
        let there = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if there.is_err() {
            eprintln!("skipped: there is no redis-server");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // A node of a cluster has another port, 10,000 above.
        let port = if port > 55_000 { port - 20_000 } else { port };
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(port, directory.path(), arguments);
        let server = Self {
            process,
            port,
            directory,
            arguments,
        };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        let began = Instant::now();
        while self.ask::<String>(&["PING"]).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/", self.port);
        let mut open = redis::Client::open(url)?.get_connection()?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut open)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    fn restart(&mut self) {
        self.process = spawn(self.port, self.directory.path(), self.arguments);
        self.wait();
    }

    fn options(&self) -> RedisOptions {
        options(&format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn spawn(port: u16, directory: &std::path::Path, arguments: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--requirepass", PASSWORD])
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn options(url: &str) -> RedisOptions {
    RedisOptions {
        address: RedisAddress::parse(url).unwrap(),
        prefix: "test".into(),
        sharing: SHARING,
        patience: Duration::from_millis(250),
    }
}

fn gateway(options: &RedisOptions) -> GatewayBuckets {
    let buckets = GatewayBuckets::new(1_000, Some(RedisLimits::start(options.clone()).unwrap()));
    let names = [("both", Together::Debt), ("exact", Together::Exact)];
    buckets.share(names.map(|(name, how)| (name.to_owned(), how)).into_iter());
    buckets
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

/// Three gateways, each with some requests at once, ask as often as they can: when those were sent and answered that were let through, in
/// the order of the answers; and how many could not be asked about.
fn hammer(options: &RedisOptions, asked: &[Bucket], long: Duration) -> (Vec<(Instant, Instant)>, u64) {
    const AT_ONCE: usize = 8;
    let (over, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    let one = async |buckets: &GatewayBuckets| {
        let mut admitted = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            match buckets.take_exact(asked).await {
                Ok(_) => admitted.push((began, Instant::now())),
                Err(TakeError::Refused { .. }) => {}
                Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        admitted
    };
    let mut admitted: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..SHARING.gateways)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let buckets = gateway(options);
                    let all = futures::future::join_all((0..AT_ONCE).map(|_| one(&buckets)));
                    runtime.unwrap().block_on(all).concat()
                })
            })
            .collect();
        thread::sleep(long);
        over.store(true, Ordering::Relaxed);
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    admitted.sort_unstable_by_key(|(_, answered)| *answered);
    (admitted, failed.into_inner())
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
fn gateways_keep_the_bounds_over_a_redis_that_dies() {
    let Some(mut server) = Redis::start(&[]) else {
        return;
    };
    let options = server.options();
    let long = Duration::from_millis(1_500);
    let (admitted, failed) = hammer(&options, &[bucket("exact|calm", CAPACITY)], long);
    let whole = (CAPACITY + PER_SECOND) as f64;
    let worst = excess(&admitted);
    eprintln!(
        "exact: {} of some {whole}, {worst:.2}, {failed} failed",
        admitted.len()
    );
    assert!(worst <= 0.0 && failed == 0, "{worst}, {failed}");
    assert!(admitted.len() as f64 > 0.85 * whole);
    let (admitted, failed) = hammer(&options, &[bucket("both|calm", CAPACITY)], long);
    let worst = excess(&admitted);
    let debt = SHARING.gateways as f64 * credit(CAPACITY, 1, SHARING) as f64;
    eprintln!("debt: {} of some {whole}, {worst:.2} of {debt}", admitted.len());
    assert!(worst <= debt && failed == 0, "{worst}, {failed}");
    assert!(admitted.len() as f64 > 0.6 * whole);
    // Nobody is named, and nothing is kept for ever.
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).unwrap();
    assert!(
        !keys.is_empty() && keys.iter().all(|key| key.starts_with("test:{")),
        "{keys:?}"
    );
    assert!(keys.iter().all(|key| !key.contains("calm")), "{keys:?}");
    for key in &keys {
        let left: i64 = server.ask(&["PTTL", key]).unwrap();
        assert!(left != -1, "{key} is kept for ever");
    }
    // The script is forgotten, the server stands still, and is killed: it comes back with full buckets. Then it is asked again.
    let (admitted, failed) = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(long / 3);
            server.ask::<()>(&["SCRIPT", "FLUSH"]).unwrap();
            thread::sleep(long / 3);
            // It stands still: nobody is told that it has gone.
            server.signal("STOP");
            thread::sleep(long / 2);
            server.signal("CONT");
            thread::sleep(long / 3);
            server.kill();
            thread::sleep(long / 3);
            server.restart();
        });
        hammer(&options, &[bucket("exact|dies", CAPACITY)], long * 3)
    });
    let worst = excess(&admitted);
    eprintln!("killed: {} admitted, {worst:.2}, {failed} failed", admitted.len());
    assert!(worst <= CAPACITY as f64 && failed > 0, "{worst}, {failed}");
    assert!(admitted.len() as u64 > CAPACITY + 2 * PER_SECOND);
}

/// Random batches, decided by Redis and by the model, under limits that gain next to nothing.
fn compare(options: &RedisOptions) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let mut decider = Decider::connect(options).await.unwrap();
        let mut accounts: HashMap<String, Option<Account>> = HashMap::new();
        let mut backs: Vec<Back> = Vec::new();
        let mut capacity = HashMap::new();
        // One that is full is as one that was never seen: with a larger capacity it is full as well.
        let mut is_full: HashMap<String, bool> = HashMap::new();
        for round in 0..300_u64 {
            let mut batch = Batch::default();
            backs.drain(..).for_each(|back| batch.give_back(back));
            for _ in 0..fastrand::u64(1..8) {
                let mut take = Vec::new();
                for name in ["exact|a", "exact|b", "exact|c", "exact|d"] {
                    if round % 40 == 0 && fastrand::bool() {
                        // Parameters change under a live bucket.
                        capacity.insert(name, fastrand::u64(4..30));
                    }
                    if fastrand::bool() {
                        take.push(Bucket {
                            refill: 1,
                            interval_ns: 86_400_000_000_000,
                            cost: fastrand::u64(0..3),
                            ..bucket(name, *capacity.entry(name).or_insert(12))
                        });
                    }
                }
                if batch.fits(&take) {
                    batch.add(take, ());
                }
            }
            let told = decider.take(batch.wants()).await.unwrap();
            for (key, want) in batch.wants() {
                let told = told[key];
                let account = accounts.entry(key.clone()).or_default();
                if is_full.get(key) == Some(&true) {
                    *account = None;
                }
                let expected = want.apply(account, told.at * 1_000);
                is_full.insert(key.clone(), told.level as u64 >= want.scale.full);
                assert_eq!(told.tokens, expected.tokens, "{round} {key} {want:?}");
                let gap = told.level.abs_diff(expected.level);
                assert!(
                    gap < want.scale.token / 1_000,
                    "{round} {key} {want:?} {told:?} {expected:?}"
                );
            }
            if fastrand::u8(..10) > 0 {
                backs = batch.answer(&told).1;
            }
        }
    });
}

#[test]
fn redis_decides_as_the_model_does() {
    let Some(server) = Redis::start(&[]) else { return };
    compare(&server.options());
}

#[test]
fn a_cluster_decides_as_the_model_does_and_keeps_the_bound() {
    let cluster = &["--cluster-enabled", "yes"];
    let (Some(one), Some(other)) = (Redis::start(cluster), Redis::start(cluster)) else {
        return;
    };
    one.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "8000"]).unwrap();
    other
        .ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "8001", "16383"])
        .unwrap();
    one.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string()])
        .unwrap();
    let began = Instant::now();
    let is_ready = |node: &Redis| {
        let said: String = node.ask(&["CLUSTER", "INFO"]).unwrap();
        said.contains("cluster_state:ok") && said.contains("cluster_known_nodes:2")
    };
    while !is_ready(&one) || !is_ready(&other) {
        assert!(began.elapsed() < Duration::from_secs(20), "no cluster");
        thread::sleep(Duration::from_millis(50));
    }
    let options = options(&format!("redis://:{PASSWORD}@127.0.0.1:{}?cluster", one.port));
    compare(&options);
    let long = Duration::from_millis(1_200);
    let (admitted, failed) = hammer(&options, &[bucket("exact|calm", CAPACITY)], long);
    let worst = excess(&admitted);
    eprintln!(
        "a cluster: {} admitted, {worst:.2}, {failed} failed",
        admitted.len()
    );
    assert!(worst <= 0.0 && failed == 0, "{worst}, {failed}");
    let long = Duration::from_millis(800);
    let many: Vec<Bucket> = (0..12).map(|n| bucket(&format!("exact|{n}"), CAPACITY)).collect();
    let (admitted, _) = hammer(&options, &many, long);
    assert!(excess(&admitted) <= 0.0 && !admitted.is_empty());
    // Both nodes have some.
    let of = |node: &Redis| -> BTreeSet<String> { node.ask(&["KEYS", "*"]).unwrap() };
    assert!(!of(&one).is_empty() && !of(&other).is_empty());
}

/// Is ended, however the test ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sentinels_name_the_server() {
    let Some(server) = Redis::start(&[]) else { return };
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {} 1\nsentinel auth-pass ours {PASSWORD}\n",
        server.port
    );
    std::fs::write(&file, text).unwrap();
    let sentinel = Command::new("redis-server")
        .arg(&file)
        .arg("--sentinel")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _sentinel = Ends(sentinel);
    let options = options(&format!("redis://:{PASSWORD}@127.0.0.1:{port}/0?sentinel=ours"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let connected = loop {
        match runtime.block_on(Decider::connect(&options)) {
            Err(_) if began.elapsed() < Duration::from_secs(10) => thread::sleep(Duration::from_millis(100)),
            connected => break connected,
        }
    };
    let is_connected = connected.map(drop);
    if is_connected.is_ok() {
        compare(&options);
    }
    is_connected.unwrap();
}
