//! The configuration, read again while the gateway runs: all of it comes into force or nothing, for each request as a whole, and
//! what was under way goes on.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::harness::{ADMIN_KEY, Answer, Connection, Gateway, Host, Serve, binary, crowd, eventually};

mod follows;
mod systemd;

pub use follows::{
    a_changed_file_is_read_and_a_bad_one_told_once, a_swapped_symbolic_link_is_followed,
    certificates_may_be_added, keys_subscriptions_and_logs_follow_their_files,
};
pub use systemd::{a_service_manager_is_told_of_reloads, sockets_may_be_opened_by_a_service_manager};

const CHANGED: &str = "the configuration was changed";
const REFUSED: &str = "the configuration is refused";
/// Reloads under load.
const RELOADS: usize = 100;
/// Requests at once, meanwhile.
const CALLERS: usize = 4;
/// Between two requests of one: the load must leave the machine to others.
const PAUSE: Duration = Duration::from_millis(2);
/// Read again on SIGHUP alone.
const ON_SIGHUP: &str = "[reload]\nevery = \"0s\"\n";

/// The file of a gateway that was started with `added`.
struct File<'g> {
    gateway: &'g Gateway,
    text: String,
    added: String,
}

impl<'g> File<'g> {
    fn of(gateway: &'g Gateway, added: &str) -> Self {
        let text = fs::read_to_string(Self::path(gateway)).expect("it is ours");
        assert!(text.contains(added));
        Self {
            gateway,
            text,
            added: added.to_owned(),
        }
    }

    fn path(gateway: &Gateway) -> std::path::PathBuf {
        gateway.directory().join("tollgate.toml")
    }

    /// The same text with `other` in the place of what was added.
    fn with(&self, other: &str) -> String {
        self.text.replace(&self.added, other)
    }

    fn write(&self, other: &str) {
        fs::write(Self::path(self.gateway), self.with(other)).expect("it is ours");
    }

    /// Writes one of the variants, asks for a reload, and waits until requests are judged by it. (The log folds lines that repeat.)
    async fn switch(&self, letter: char) {
        self.write(&variant(letter));
        self.gateway.signal(Signal::HUP);
        eventually("the variant is in force", async || {
            let call = self.gateway.get("/api/limits").key(ADMIN_KEY);
            (judged_by(&call.send().await.expect(200)) == letter).then_some(())
        })
        .await;
    }

    /// Writes it, asks for a reload, and waits until the log says `told`, once more than it has.
    async fn reload(&self, other: &str, told: &str) {
        let count = || self.gateway.stderr().matches(told).count();
        let before = count();
        self.write(other);
        self.gateway.signal(Signal::HUP);
        eventually(told, async || (count() > before).then_some(())).await;
    }
}

/// The last line of the log with these words.
fn line(gateway: &Gateway, words: &str) -> Value {
    let log = gateway.stderr();
    let line = log.lines().rfind(|line| line.contains(words));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{words}:\n{log}"))).expect("a line of JSON")
}

/// Of two configurations, the one by this letter: a policy, and a route's topic and order, differ.
fn variant(letter: char) -> String {
    let (capacity, ordering) = match letter {
        'a' => (1_000_001, "none"),
        _ => (2_000_002, "client"),
    };
    format!(
        "{ON_SIGHUP}[[limits]]\nname = \"toggled\"\ncapacity = {capacity}\nrefill = 1000000\n\
         [[forward]]\npath = \"/toggled\"\ntopic = \"of-{letter}\"\nordering = \"{ordering}\"\n"
    )
}

/// By which configuration the limiter judged a request.
fn judged_by(answer: &Answer) -> char {
    let policy = answer.header("ratelimit-policy");
    match (policy.contains("q=1000001;"), policy.contains("q=2000002;")) {
        (true, false) => 'a',
        (false, true) => 'b',
        _ => panic!("{}", answer.shown()),
    }
}

pub async fn each_request_is_judged_by_one_configuration_while_it_changes(host: Host) {
    let gateway = Arc::new(Gateway::start(host, &variant('a')).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = (0..CALLERS).map(|caller| {
        let (gateway, is_over) = (Arc::clone(&gateway), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                // On the hot path, on one thread; and on the threads of the rest, after a worker has judged it.
                let told = match caller % 2 {
                    0 => {
                        let call = gateway.post("/toggled").client(&format!("c{caller}"));
                        let answer = call.json(&json!({})).send().await.expect(202);
                        match answer.json()["topic"].as_str() {
                            Some("of-a") => 'a',
                            Some("of-b") => 'b',
                            _ => panic!("{}", answer.shown()),
                        }
                    }
                    _ => {
                        let answer = gateway.get("/api/limits").key(ADMIN_KEY).send().await.expect(200);
                        let all = answer.json();
                        let all = all["limits"].as_array().expect("a list of limits").clone();
                        let toggled = all.iter().find(|one| one["name"] == "toggled");
                        let told = match toggled.map(|one| one["capacity"].as_u64()) {
                            Some(Some(1_000_001)) => 'a',
                            Some(Some(2_000_002)) => 'b',
                            other => panic!("{other:?}"),
                        };
                        assert_eq!(judged_by(&answer), told, "{}", answer.shown());
                        told
                    }
                };
                seen.push(told);
                tokio::time::sleep(PAUSE).await;
            }
            (caller, seen)
        })
    });
    let callers: Vec<_> = callers.collect();
    let file = File::of(&gateway, &variant('a'));
    for letter in ['b', 'a'].into_iter().cycle().take(RELOADS) {
        file.switch(letter).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut counts = [0_usize; 2];
    for caller in callers {
        let (caller, seen) = caller.await.expect("no request fails");
        for letter in ['a', 'b'] {
            assert!(
                seen.contains(&letter),
                "caller {caller} saw but one configuration"
            );
        }
        if caller % 2 == 0 {
            counts[0] += seen.iter().filter(|letter| **letter == 'a').count();
            counts[1] += seen.iter().filter(|letter| **letter == 'b').count();
        }
    }
    let kept = [gateway.messages("of-a").await, gateway.messages("of-b").await];
    let [of_a, of_b] = &kept;
    assert!(of_a.iter().all(|message| message["key"].is_null()), "{of_a:?}");
    assert!(of_b.iter().all(|message| message["key"].is_string()), "{of_b:?}");
    let kept = kept.map(|messages| messages.len());
    assert_eq!(kept, counts, "what was accepted is there");
    let text = gateway.scrape().await;
    assert!(
        text.contains("tollgate_rules_starts_total{group=\"crowd\"}"),
        "{text}"
    );
    assert!(
        text.contains("tollgate_rules_traps_total{group=\"crowd\"} 0\n"),
        "{text}"
    );
    assert!(
        text.contains("tollgate_rules_traps_total{group=\"rest\"} 0\n"),
        "{text}"
    );
    assert!(
        text.contains("tollgate_config_last_reload_successful 1.0\n"),
        "{text}"
    );
}

pub async fn a_request_ends_under_the_configuration_that_it_began_with(host: Host) {
    let gateway = Gateway::start(host, &variant('a')).await;
    let file = File::of(&gateway, &variant('a'));
    let head =
        "POST /toggled HTTP/1.1\r\nhost: short.test\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\n";
    let mut slow = Connection::open(&gateway.address()).await.expect("it listens");
    slow.send(head.as_bytes()).await.expect("it listens");
    let waits = async || {
        let text = gateway.scrape().await;
        text.contains("tollgate_rules_tasks{group=\"crowd\"} 1.0\n")
            .then_some(())
    };
    eventually("the rule waits for the body", waits).await;
    file.reload(&variant('b'), CHANGED).await;
    slow.send(b"slow").await.expect("it listens");
    let answer = slow.answer("POST /toggled").await.expect("an answer");
    assert_eq!((answer.status, &answer.json()["topic"]), (202, &json!("of-a")));
    // The same connection.
    let next = head.replace("content-length: 4", "content-length: 0");
    slow.send(next.as_bytes()).await.expect("it is kept");
    let answer = slow.answer("POST /toggled").await.expect("an answer");
    assert_eq!((answer.status, &answer.json()["topic"]), (202, &json!("of-b")));
}

pub async fn a_configuration_that_is_refused_changes_nothing(host: Host) {
    let gateway = Gateway::start(host, &variant('a')).await;
    let file = File::of(&gateway, &variant('a'));
    let limits = async || {
        gateway
            .get("/api/limits")
            .key(ADMIN_KEY)
            .send()
            .await
            .expect(200)
            .json()
    };
    let before = limits().await;
    // The first part is sound, and changes as little as what is not.
    let bad = format!(
        "{}[[alerts]]\nname = \"x\"\nwhen = \"never\"\nurl = \"https://example.com/\"\n",
        variant('b')
    );
    file.reload(&bad, REFUSED).await;
    assert_eq!(limits().await, before);
    let told = line(&gateway, REFUSED)["error"]
        .as_str()
        .expect("a sentence")
        .to_owned();
    let check = std::process::Command::new(binary())
        .args(["check", "--config"])
        .arg(File::path(&gateway))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(
        said.contains(&told) && told.contains("alerts[0].when"),
        "{told}\n{said}"
    );
    let text = gateway.scrape().await;
    assert!(
        text.contains("tollgate_config_last_reload_successful 0.0\n"),
        "{text}"
    );
    let time = |text: &str| {
        let name = "tollgate_config_last_reload_success_timestamp_seconds ";
        let time = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        time.expect("a time")
    };
    // Not even a syntax.
    fs::write(File::path(&gateway), "[server\n").expect("it is ours");
    gateway.signal(Signal::HUP);
    eventually("the second one", async || {
        (gateway.stderr().matches(REFUSED).count() == 2).then_some(())
    })
    .await;
    fs::remove_file(File::path(&gateway)).expect("it is ours");
    gateway.signal(Signal::HUP);
    gateway.says("cannot read").await;
    assert_eq!(limits().await, before);
    file.reload(&variant('b'), CHANGED).await;
    assert_ne!(limits().await, before);
    let after = gateway.scrape().await;
    assert!(
        after.contains("tollgate_config_last_reload_successful 1.0\n"),
        "{after}"
    );
    assert!(time(&after) > time(&text), "{after}");
}

pub async fn no_claim_is_lost_in_the_middle_of_reloads(host: Host) {
    const UNITS: u64 = 300;
    let gateway = Arc::new(Gateway::start(host, &variant('a')).await);
    let campaign = gateway.campaign(UNITS, json!({})).await;
    let claims = {
        let (gateway, path) = (Arc::clone(&gateway), format!("/api/campaigns/{campaign}/claims"));
        tokio::spawn(async move {
            let job = |user: u64| {
                let call = gateway.post(&path).user(&format!("user-{user}"));
                async move { call.json(&json!({})).send().await.status }
            };
            crowd(16, 0..2 * UNITS, job).await
        })
    };
    let file = File::of(&gateway, &variant('a'));
    let mut letters = ['b', 'a'].into_iter().cycle();
    let mut reloads = 0;
    while !claims.is_finished() || reloads < 2 {
        file.switch(letters.next().expect("it never ends")).await;
        reloads += 1;
    }
    let statuses = claims.await.expect("no claim fails");
    let of = |status: u16| statuses.iter().filter(|one| **one == status).count() as u64;
    assert_eq!((of(201), of(410)), (UNITS, UNITS));
    let path = format!("/api/campaigns/{campaign}");
    let state = gateway.get(&path).send().await.expect(200).json();
    assert_eq!(state["admitted"], UNITS);
}

pub async fn levels_are_kept_where_the_policy_did_not_change(host: Host) {
    let limit = |refill: u64| {
        format!(
            "{ON_SIGHUP}[[limits]]\nname = \"changes\"\npath = \"/api/changes/...\"\ncapacity = 3\nrefill = {refill}\ninterval = \"1h\"\n"
        )
    };
    let gateway = Gateway::start(host, &limit(1)).await;
    let file = File::of(&gateway, &limit(1));
    let ask = async |path: &str| gateway.get(path).client("somebody").send().await;
    for _ in 0..5 {
        ask("/api/bounded/burst/x").await;
    }
    ask("/api/bounded/burst/x").await.expect(429);
    for _ in 0..3 {
        ask("/api/changes/x").await;
    }
    let counted = async || {
        let text = gateway.scrape().await;
        let name = "tollgate_limit_decisions_total{policy=\"burst\",decision=\"admitted\"} ";
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok())
    };
    eventually("they are counted", async || {
        (counted().await == Some(5)).then_some(())
    })
    .await;
    file.reload(&limit(2), CHANGED).await;
    ask("/api/bounded/burst/x").await.expect(429);
    assert_eq!(counted().await, Some(5), "and counted on");
    // A policy that has changed judges the level that there is.
    ask("/api/changes/x").await.expect(429);
    let told = line(&gateway, CHANGED);
    assert_eq!(told["changes"], "limits[changes].refill: 1 → 2");
}

pub async fn what_needs_a_restart_is_said_and_stays(host: Host) {
    let gateway = Gateway::start(host, ON_SIGHUP).await;
    let file = File::of(&gateway, ON_SIGHUP);
    let wanted = format!(
        "{ON_SIGHUP}[links]\nredirect = 301\n[clients]\nmax_buckets = 5\n[traces]\nservice_name = \"x\"\n"
    );
    file.reload(&wanted, CHANGED).await;
    let told = line(&gateway, "change with a restart")["settings"]
        .as_str()
        .expect("names")
        .to_owned();
    assert_eq!(
        told,
        "clients.max_buckets: 1000000 → 5; traces.service_name: \"tollgate\" → \"x\""
    );
    assert_eq!(line(&gateway, CHANGED)["changes"], "links.redirect: 302 → 301");
    gateway.link("moved").await;
    gateway.get("/moved").send().await.expect(301);
    let text = gateway.scrape().await;
    assert!(text.contains("tollgate_limit_buckets_max 1000000.0\n"), "{text}");
    // A file that says the same is no change.
    file.reload(&wanted, "nothing has changed").await;
}
