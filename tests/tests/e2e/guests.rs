//! A component that misbehaves: it loops, recurses, allocates, traps, ends or waits for ever. It stands in
//! for all rules (`tests/guests`); everything else is as in production.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, Serve, built_components, crowd, eventually};

/// Kinds of misbehaviour that end an instance by themselves.
const ENDING: [&str; 3] = ["traps", "panics", "exits"];
/// Kinds that are stopped at a bound of memory.
const GREEDY: [&str; 2] = ["recurses", "allocates"];
/// Kinds that are stopped by time.
const STUCK: [&str; 2] = ["loops", "waits"];
/// A call that the crowd's instance answers, and one that it admits, for the rest's.
const CALLS: [&str; 2] = ["?now", ""];

/// The longest a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How many requests end an instance, for the sake of what they may leave behind.
const MANY: usize = 10_000;
/// How many of them are under way at once.
const WIDTH: usize = 16;
/// What may remain of all of them: less than 4 KiB each. An instance has more.
const SLACK_KIB: u64 = 32 << 10;
/// Connections of the clients come and go.
const SLACK_DESCRIPTORS: usize = 2 * WIDTH;

/// A directory with the component that misbehaves in the place of the rules.
static COMPONENTS: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = built_components();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("misbehaving");
    fs::create_dir_all(&directory).expect("the directory is ours");
    let from = built.join("misbehaving.wasm");
    if let Err(error) = fs::copy(&from, directory.join("rules.wasm")) {
        panic!(
            "cannot read {}: {error}; `cargo xtask build` makes it",
            from.display()
        );
    }
    directory
});

/// A gateway with so many workers (0: one per core).
async fn gateway(host: Host, workers: u32) -> Gateway {
    let serve = Serve {
        components: Some(COMPONENTS.clone()),
        ..Serve::with_key(ADMIN_KEY)
    };
    let timeout = REQUEST_TIMEOUT.as_secs();
    let settings = format!("[server]\nworkers = {workers}\nrequest_timeout = \"{timeout}s\"");
    Gateway::start_as(host, serve, &settings).await
}

fn ask(gateway: &Gateway, manner: &str, call: &str) -> impl Future<Output = Answer> + Send + 'static {
    gateway.get(&format!("/api/links/{manner}{call}")).send()
}

/// The instance ended: what became of the request is told, and when to come again.
#[track_caller]
fn ended(answer: &Answer) {
    answer.problem(503, "unavailable");
    answer.header("retry-after");
}

/// The instance was stopped, or the request was given up.
#[track_caller]
fn stopped(answer: &Answer) {
    match answer.status {
        504 => drop(answer.problem(504, "timeout")),
        _ => ended(answer),
    }
}

pub async fn each_gets_a_problem_and_a_successor(host: Host) {
    let gateway = gateway(host, 1).await;
    let behaves = async |call| {
        assert!(!ask(&gateway, "behaves", call).await.expect(200).body.is_empty());
    };
    behaves("").await;
    for call in CALLS {
        // More often than there are instances.
        for manner in ENDING.into_iter().chain(GREEDY) {
            for _ in 0..3 {
                let answer = ask(&gateway, manner, call).await;
                match GREEDY.contains(&manner) {
                    // On a busy machine its time may be up before its memory is.
                    true => stopped(&answer),
                    false => ended(&answer),
                }
                behaves(call).await;
            }
        }
    }
    for _ in 0..3 {
        stopped(&ask(&gateway, "loops", "?now").await);
        behaves("?now").await;
        for manner in STUCK {
            stopped(&ask(&gateway, manner, "").await);
            behaves("").await;
        }
    }
    ask(&gateway, "waits", "").await.problem(504, "timeout");
}

/// Requests of the hot path are answered as soon as ever, and all others by a thread that is not stuck.
pub async fn neighbours_are_served_meanwhile(host: Host) {
    let gateway = gateway(host, 2).await;
    for manner in STUCK {
        let stuck = tokio::spawn(ask(&gateway, manner, ""));
        // It is under way, and will be for a second at least.
        tokio::time::sleep(REQUEST_TIMEOUT / 10).await;
        let mut served = 0;
        while !stuck.is_finished() {
            let began = Instant::now();
            let hot = gateway.get("/behaves").send().await;
            let took = began.elapsed();
            let same = ask(&gateway, "behaves", "").await;
            if !stuck.is_finished() {
                hot.expect(200);
                assert!(took < REQUEST_TIMEOUT / 10, "{manner}: {took:?}");
                same.expect(200);
                served += 1;
            }
        }
        stopped(&stuck.await.expect("it was answered"));
        assert!(served >= 3, "{manner}: {served} were served meanwhile");
    }
}

/// Only requests in the instance that ends are lost, not those in the instance that redirects.
pub async fn a_trap_ends_what_waits_in_its_own_instance(host: Host) {
    let gateway = gateway(host, 1).await;
    // There is one thread of each kind.
    let count = async |path: &str| -> u64 {
        let answer = gateway.get(path).send().await.expect(200);
        answer.text().parse().expect("a number")
    };
    let before = count("/behaves").await;
    assert_eq!(count("/api/links/behaves").await, 1);
    let waiting = tokio::spawn(ask(&gateway, "waits", ""));
    tokio::time::sleep(REQUEST_TIMEOUT / 10).await;
    ended(&ask(&gateway, "traps", "").await);
    assert_eq!(count("/api/links/behaves").await, 1, "it is another instance");
    assert_eq!(count("/behaves").await, before + 1, "it is the same instance");
    stopped(&waiting.await.expect("it was answered"));
}

pub async fn what_they_say_is_in_the_log_up_to_a_bound(host: Host) {
    const WORDS: &str = "words, words, words";
    for call in CALLS {
        // One each: what the log has told already is counted there, not told again.
        let gateway = gateway(host, 1).await;
        let written = |words: &str| {
            let log = gateway.stderr();
            let by = r#""component":"rules""#;
            log.lines()
                .filter(|line| line.contains(words) && line.contains(by))
                .count()
        };
        ended(&ask(&gateway, "panics", call).await);
        eventually("its last words", async || {
            (written("as asked for") > 0).then_some(())
        })
        .await;
        ask(&gateway, "talks", call).await.expect(200);
        eventually("it is stopped", async || {
            (written("is left out") > 0).then_some(())
        })
        .await;
        let bytes = written(WORDS) * WORDS.len();
        assert!((1..=4 << 10).contains(&bytes), "{call}: {bytes}");
        ask(&gateway, "behaves", call).await.expect(200);
        let log = gateway.stderr();
        assert!(
            !log.contains("panicked at /") && !log.contains("runtime"),
            "{log}"
        );
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    resident_kib: u64,
    threads: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(gateway: &Gateway) -> Self {
        let process = PathBuf::from(format!("/proc/{}", gateway.process_id()));
        let status = fs::read_to_string(process.join("status")).expect("Linux tells how a process stands");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).expect("a number")
        };
        Self {
            resident_kib: number("VmRSS:"),
            threads: number("Threads:"),
            descriptors: fs::read_dir(process.join("fd")).expect("it runs").count(),
        }
    }

    fn is_within(self, before: Self) -> bool {
        self.resident_kib <= before.resident_kib + SLACK_KIB
            && self.threads <= before.threads
            && self.descriptors <= before.descriptors + SLACK_DESCRIPTORS
    }
}

/// So many requests that end an instance, and some of each other kind.
async fn misbehave(gateway: &Gateway, ending: usize) {
    let answers = crowd(WIDTH, 0..ending, |n| {
        ask(
            gateway,
            ENDING[n % ENDING.len()],
            CALLS[n / ENDING.len() % CALLS.len()],
        )
    });
    answers.await.iter().for_each(stopped);
    let greedy = crowd(WIDTH, 0..100, |n| {
        ask(gateway, GREEDY[n % GREEDY.len()], CALLS[n / 2 % 2])
    });
    greedy.await.iter().for_each(stopped);
    let stuck = crowd(WIDTH, 0..48, |n| ask(gateway, STUCK[n % STUCK.len()], ""));
    stuck.await.iter().for_each(stopped);
}

pub async fn ten_thousand_leave_nothing_behind(host: Host) {
    let gateway = gateway(host, 0).await;
    misbehave(&gateway, 500).await;
    let before = Footprint::of(&gateway);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let neighbour = async {
        while !done.load(Ordering::Relaxed) {
            gateway.get("/health/live").send().await.expect(200);
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let misbehaving = async {
        misbehave(&gateway, MANY).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(misbehaving, neighbour);
    assert!(served.into_inner() > 100, "its neighbours are served meanwhile");
    ask(&gateway, "behaves", "").await.expect(200);
    // Replaced instances may finish what they have.
    let bound = format!("it holds no more than {before:?}");
    let after = eventually(&bound, async || {
        Some(Footprint::of(&gateway)).filter(|now| now.is_within(before))
    })
    .await;
    eprintln!("before {before:?}, after {after:?}");
}
