//! Several gateways over one Postgres: one truth, whoever of them dies. Skipped, and said so, where there is no Postgres.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_contract::postgres::Postgres;
use tollgate_contract::redis::Redis;

use crate::harness::tls::Authority;
use crate::harness::{
    ADMIN_KEY, Answer, Gateway, Host, Origin, Program, SECRET, Serve, Trouble, Wire, binary, crowd,
    eventually, free_port,
};

/// How far a gateway's memory may be behind, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(250);
const BUSY: Duration = Duration::from_millis(1_500);

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

async fn claim(gateway: &Gateway, campaign: &str, user: &str) -> Option<Answer> {
    let path = format!("/api/campaigns/{campaign}/claims");
    let call = gateway.post(&path).user(user).json(&json!({}));
    call.attempt().await.ok()
}

async fn server(extra: &'static str) -> Option<Arc<Postgres>> {
    let started = tokio::task::spawn_blocking(move || Postgres::start(extra)).await;
    started.unwrap().map(Arc::new)
}

async fn fleet(database: &Postgres, gateways: usize) -> Vec<Gateway> {
    let url = database.fresh();
    let mut all = Vec::new();
    for _ in 0..gateways {
        all.push(Gateway::start_on(&url, "").await);
    }
    all
}

/// Every claim has its message, sequences are dense, and nobody has two.
fn check(messages: &[Value], admitted: usize) {
    let mut users = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(
            message["data"]["sequence"],
            index + 1,
            "dense and in order: {message}"
        );
        *users.entry(message["data"]["user"].to_string()).or_insert(0) += 1;
    }
    assert_eq!((messages.len(), users.len()), (admitted, admitted));
}

pub async fn four_gateways_sell_exactly_what_there_is(_: Host) {
    const USERS: usize = 10_000;
    const UNITS: usize = 100;
    let Some(database) = server("").await else { return };
    let all = fleet(&database, 4).await;
    let campaign = all[0].campaign(UNITS as u64, json!({ "topic": "sale" })).await;
    // Until the others may no longer believe that it is not there.
    tokio::time::sleep(BOUND * 2).await;
    let all = Arc::new(all);
    let statuses = crowd(64, 0..USERS, |n| {
        let (all, campaign) = (Arc::clone(&all), campaign.clone());
        async move {
            let answer = claim(&all[n % all.len()], &campaign, &format!("user-{n}"))
                .await
                .unwrap();
            if answer.status != 201 {
                answer.problem(410, "sold-out");
            }
            answer.status
        }
    })
    .await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), UNITS);
    check(&all[3].messages("sale").await, UNITS);
}

pub async fn what_one_gateway_changes_the_other_shows_within_the_bound(_: Host) {
    let Some(database) = server("").await else { return };
    let all = fleet(&database, 2).await;
    let (a, b) = (&all[0], &all[1]);
    // An answer that it is not there is remembered too.
    b.get("/moved").send().await.problem(404, "not-found");
    a.link("moved").await;
    let leads = async |to: &str| {
        let began = Instant::now();
        loop {
            let answer = b.get("/moved").send().await;
            if answer.maybe_header("location") == Some(to) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < BOUND + BUSY,
                "{} after {:?}",
                answer.shown(),
                began.elapsed()
            );
        }
    };
    let first = a.get("/moved").send().await.header("location").to_owned();
    let mut longest = leads(&first).await;
    for n in 0..10 {
        let to = format!("https://example.com/{n}");
        let path = "/api/links/moved";
        let tag = a.get(path).key(crate::harness::ADMIN_KEY).send().await;
        let tag = tag.maybe_header("etag").map(str::to_owned);
        let mut call = a
            .patch(path)
            .key(crate::harness::ADMIN_KEY)
            .json(&json!({ "url": to }));
        if let Some(tag) = &tag {
            call = call.header("if-match", tag);
        }
        call.send().await.expect(200);
        longest = longest.max(leads(&to).await);
    }
    eprintln!("a change was seen by the other gateway after {longest:?} at most");
}

pub async fn a_database_that_is_away_is_told_and_memory_still_redirects(_: Host) {
    let Some(database) = server("").await else { return };
    let all = fleet(&database, 1).await;
    let gateway = &all[0];
    gateway.link("kept").await;
    gateway.get("/kept").send().await.expect(302);
    database.order("stop");
    eventually("it is not ready", async || {
        let ready = gateway.get("/health/ready").send().await;
        (ready.status == 503).then_some(())
    })
    .await;
    gateway.get("/kept").send().await.expect(302);
    gateway.get("/health/live").send().await.expect(200);
    let body = json!({ "text": "x" });
    let answer = gateway.post("/signup").client("c").json(&body).send().await;
    answer.problem(503, "unavailable");
    answer.header("retry-after");
    database.order("start");
    eventually("it is ready again", async || {
        let ready = gateway.get("/health/ready").send().await;
        (ready.status == 200).then_some(())
    })
    .await;
    gateway
        .post("/signup")
        .client("c")
        .json(&body)
        .send()
        .await
        .expect(202);
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

pub async fn a_database_that_may_lose_commits_is_refused(_: Host) {
    let Some(database) = server("-c synchronous_commit=off").await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tollgate.toml"), "").unwrap();
    let mut serve = Serve::with_key(crate::harness::ADMIN_KEY);
    serve
        .environment
        .push(("TOLLGATE_STORE_URL", database.fresh().into()));
    let mut program: Program = serve.start(directory.path());
    let ended = program.exit(Duration::from_secs(60)).await.expect("it ends");
    assert!(!ended.success());
    let said = program.stderr();
    assert!(said.contains("synchronous_commit=off"), "{said}");
}

pub async fn nothing_acknowledged_is_lost_when_gateways_and_the_database_die(_: Host) {
    const ROUNDS: usize = 6;
    let Some(database) = server("").await else { return };
    let all = Arc::new(fleet(&database, 2).await);
    let campaign = all[0].campaign(1_000_000, json!({ "topic": "sale" })).await;
    tokio::time::sleep(BOUND * 2).await;
    let journal = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for round in 0..ROUNDS {
        let until = Instant::now() + Duration::from_millis(1_500);
        let clients = crowd(24, 0..24_usize, |client| {
            let (all, campaign) = (Arc::clone(&all), campaign.clone());
            let (journal, next) = (Arc::clone(&journal), Arc::clone(&next));
            async move {
                while Instant::now() < until {
                    let user = format!("user-{}", next.fetch_add(1, Ordering::Relaxed));
                    let answer = claim(&all[client % 2], &campaign, &user).await;
                    match answer {
                        Some(answer) if answer.status == 201 => {
                            let sequence = answer.json()["claim"]["sequence"].as_u64().unwrap();
                            journal.lock().unwrap().insert(user, sequence);
                        }
                        Some(answer) if answer.status != 503 => panic!("{}", answer.shown()),
                        _ => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        });
        let die = async {
            tokio::time::sleep(Duration::from_millis(400 + 100 * round as u64)).await;
            match round % 2 {
                0 => all[round / 2 % 2].kill(),
                _ => database.order("crash"),
            }
        };
        tokio::join!(clients, die);
        if round % 2 == 0 {
            all[round / 2 % 2].restart().await;
        }
        for gateway in all.iter() {
            eventually("it is ready", async || {
                let ready = gateway.get("/health/ready").attempt().await.ok()?;
                (ready.status == 200).then_some(())
            })
            .await;
        }
    }
    let messages = all[1].messages("sale").await;
    check(&messages, messages.len());
    let journal = journal.lock().unwrap();
    let kept: BTreeMap<&str, u64> = messages
        .iter()
        .map(|message| {
            (
                message["data"]["user"].as_str().unwrap(),
                message["data"]["sequence"].as_u64().unwrap(),
            )
        })
        .collect();
    for (user, sequence) in journal.iter() {
        assert_eq!(kept.get(user.as_str()), Some(sequence), "{user} was acknowledged");
    }
    assert!(
        journal.len() > ROUNDS * 20,
        "there was no load: {}",
        journal.len()
    );
    eprintln!(
        "{} acknowledged, {} kept, none lost, none twice",
        journal.len(),
        kept.len()
    );
}

pub async fn one_relay_at_a_time_and_another_takes_over(_: Host) {
    let Some(database) = server("").await else { return };
    let url = database.fresh();
    let origin = Origin::start().await;
    let settings = format!(
        "[topics.sale]\n[[topics.sale.subscriptions]]\nname = \"o\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\ntimeout = \"1s\"\nallow_private_addresses = true\n",
        origin.url("/hook")
    );
    let first = Gateway::start_on(&url, &settings).await;
    let campaign = first.campaign(1_000, json!({ "topic": "sale" })).await;
    let second = Gateway::start_on(&url, &settings).await;
    let delivered = async |wanted: usize| {
        eventually("it is delivered", async || {
            (origin.deliveries().len() >= wanted).then_some(())
        })
        .await;
    };
    for n in 0..50 {
        assert_eq!(
            claim(&first, &campaign, &format!("a-{n}")).await.unwrap().status,
            201
        );
    }
    delivered(50).await;
    tokio::time::sleep(BOUND * 4).await;
    assert_eq!(origin.deliveries().len(), 50, "two relays would send some twice");
    first.kill();
    let began = Instant::now();
    assert_eq!(claim(&second, &campaign, "b").await.unwrap().status, 201);
    eventually("another relay takes over", async || {
        let all = origin.deliveries();
        all.iter()
            .any(|delivery| String::from_utf8_lossy(&delivery.body).contains("\"b\""))
            .then_some(())
    })
    .await;
    // The attempt's time, five seconds, and one.
    assert!(
        began.elapsed() < Duration::from_secs(7) + BUSY,
        "{:?}",
        began.elapsed()
    );
    eprintln!("another relay took over after {:?}", began.elapsed());
}

/// The primary dies under load, and its standby is promoted. `Some` of the claims that were acknowledged, and of those that are missing.
async fn fail_over(is_synchronous: bool) -> Option<(usize, usize)> {
    let primary = server("").await?;
    let own = Arc::clone(&primary);
    let standby = tokio::task::spawn_blocking(move || own.standby()).await.unwrap();
    let standby = Arc::new(standby);
    if is_synchronous {
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.sql("SELECT pg_reload_conf()");
    }
    let wanted = if is_synchronous { "sync" } else { "async" };
    eventually("the standby follows", async || {
        let state = primary.ask("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'");
        (state.trim() == wanted).then_some(())
    })
    .await;
    let fresh = primary.fresh();
    let (_, schema) = fresh.rsplit_once("%3D").unwrap();
    let url = primary.url_with(&standby, schema);
    let all = Arc::new([
        Gateway::start_on(&url, "").await,
        Gateway::start_on(&url, "").await,
    ]);
    let campaign = all[0].campaign(1_000_000, json!({ "topic": "sale" })).await;
    tokio::time::sleep(BOUND * 2).await;
    let journal = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
    let next = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = crowd(24, 0..24_usize, |client| {
        let (all, campaign, is_over) = (Arc::clone(&all), campaign.clone(), Arc::clone(&is_over));
        let (journal, next) = (Arc::clone(&journal), Arc::clone(&next));
        async move {
            while !is_over.load(Ordering::Acquire) {
                let user = format!("user-{}", next.fetch_add(1, Ordering::Relaxed));
                match claim(&all[client % 2], &campaign, &user).await {
                    Some(answer) if answer.status == 201 => {
                        let sequence = answer.json()["claim"]["sequence"].as_u64().unwrap();
                        journal.lock().unwrap().insert(user, sequence);
                    }
                    Some(answer) if answer.status != 503 => panic!("{}", answer.shown()),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
    });
    let death = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !is_synchronous {
            // What the standby does not get any more is acknowledged all the same.
            standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
            standby.sql("SELECT pg_reload_conf()");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        primary.order("stop");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = journal.lock().unwrap().len();
        let began = Instant::now();
        let promoted = Arc::clone(&standby);
        let promoting = tokio::task::spawn_blocking(move || promoted.sql("SELECT pg_promote()"));
        promoting.await.unwrap();
        eventually("the gateways go on", async || {
            (journal.lock().unwrap().len() > before + 50).then_some(())
        })
        .await;
        eprintln!(
            "claims are admitted again {:?} after the promotion began",
            began.elapsed()
        );
        is_over.store(true, Ordering::Release);
    };
    tokio::join!(clients, death);
    let messages = all[1].messages("sale").await;
    let journal = journal.lock().unwrap();
    let kept: BTreeMap<&str, u64> = messages
        .iter()
        .map(|message| {
            (
                message["data"]["user"].as_str().unwrap(),
                message["data"]["sequence"].as_u64().unwrap(),
            )
        })
        .collect();
    let missing = journal
        .iter()
        .filter(|(user, sequence)| kept.get(user.as_str()) != Some(*sequence));
    let counts = (journal.len(), missing.count());
    if is_synchronous {
        check(&messages, messages.len());
    }
    Some(counts)
}

pub async fn a_failover_to_a_synchronous_standby_loses_nothing(_: Host) {
    let Some((acknowledged, missing)) = fail_over(true).await else {
        return;
    };
    assert!(acknowledged > 50);
    assert_eq!(missing, 0, "of {acknowledged}");
}

pub async fn a_failover_to_an_asynchronous_standby_is_seen_to_lose(_: Host) {
    let Some((acknowledged, missing)) = fail_over(false).await else {
        return;
    };
    assert!(
        missing > 0,
        "nothing of {acknowledged}: the other case could not fail"
    );
    eprintln!("{missing} of {acknowledged} acknowledged claims are missing");
}

/// Which gateway does it, and how often it went to another: `owner|takeovers`.
fn upkeep(database: &Postgres, schema: &str) -> (String, u64) {
    let entry = |key: &str| {
        database.ask(&format!(
            "SELECT convert_from(value, 'UTF8') FROM {schema}.tollgate_entries WHERE key = 'upkeep/{key}'"
        ))
    };
    let lease: Value = serde_json::from_str(&entry("lease")).unwrap_or_default();
    let owner = lease["owner"].as_str().unwrap_or_default().to_owned();
    (owner, entry("epoch").trim().parse().unwrap_or_default())
}

pub async fn one_gateway_does_the_background_work_and_another_takes_over(_: Host) {
    // The longest step, five seconds, and one.
    const TAKEOVER: Duration = Duration::from_secs(7);
    let Some(database) = server("").await else { return };
    let url = database.fresh();
    let (_, schema) = url.rsplit_once("%3D").unwrap();
    let first = Gateway::start_on(&url, "").await;
    let second = Gateway::start_on(&url, "").await;
    // Released by background work.
    let later = async |gateway: &Gateway, text: &str| {
        let call = gateway
            .post("/api/topics/later/messages")
            .key(crate::harness::ADMIN_KEY);
        call.header("x-delay", "1")
            .json(&json!(text))
            .send()
            .await
            .expect(202);
        let began = Instant::now();
        eventually("it is released", async || {
            let all = gateway.messages("later").await;
            all.iter().any(|message| message["data"] == text).then_some(())
        })
        .await;
        began.elapsed()
    };
    later(&first, "both are there").await;
    let (owner, takeovers) = upkeep(&database, schema);
    assert!(!owner.is_empty(), "nobody does it");
    tokio::time::sleep(TAKEOVER).await;
    assert_eq!(upkeep(&database, schema), (owner, takeovers), "it is kept");

    first.kill();
    let took = later(&second, "the first is dead").await;
    assert!(took < TAKEOVER + BUSY, "{took:?}");
    first.restart().await;
    second.kill();
    let took = took.max(later(&first, "the second is dead").await);
    assert!(took < TAKEOVER + BUSY, "{took:?}");
    let (_, afterwards) = upkeep(&database, schema);
    assert!(afterwards > takeovers, "one of the two had it");
    second.restart().await;
    tokio::time::sleep(BOUND).await;
    first.stop().await;
    let orderly = later(&second, "the first has ended").await;
    assert!(orderly < Duration::from_secs(2) + BUSY, "{orderly:?}");
    eprintln!(
        "background work went on after {took:?} at most, and after {orderly:?} when its gateway ended in order"
    );
}

pub async fn a_move_whose_last_answer_is_lost_is_told_as_done(_: Host) {
    let Some(database) = server("").await else { return };
    let one = Gateway::start(Host::Native, "").await;
    one.link("moved").await;
    one.stop().await;
    let url = database.fresh();
    let (_, schema) = url.rsplit_once("%3D").unwrap();
    let wire = Wire::to(database.directory(), None).await;
    // The tables are there, as a start makes them: that would be another COMMIT.
    let tables = crate::harness::root().join("crates/engines/src/postgres/schema.sql");
    database.sql(&format!(
        "SET search_path = {schema}; {} INSERT INTO tollgate_lanes SELECT n, n, 0 FROM generate_series(0, 15) AS n;
         INSERT INTO tollgate_meta VALUES ('schema', 1), ('lanes', 16)",
        std::fs::read_to_string(tables).unwrap()
    ));
    wire.suffers(Trouble::LosesCommits);
    let (done, said) = migrate(&one, &wire.url(schema)).await;
    assert!(done, "{said}");
    let two = Gateway::start_on(&url, "").await;
    two.get("/moved").send().await.expect(302);
}

pub async fn what_says_that_it_is_ready_reads_over_no_silent_connection(_: Host) {
    const READS: usize = 16;
    let Some(database) = server("").await else { return };
    let url = database.fresh();
    let (_, schema) = url.rsplit_once("%3D").unwrap();
    let wire = Wire::to(database.directory(), None).await;
    let gateway = Gateway::start_on(&wire.url(schema), "").await;
    wire.forgets();
    for status in [503, 200] {
        eventually("its health says so", async || {
            let health = gateway.get("/health/ready").send().await;
            (health.status == status).then_some(())
        })
        .await;
    }
    // None of them is in memory.
    let reads = crowd(READS, 0..READS, |n| {
        gateway.get(&format!("/not-there-{n}")).send()
    });
    for read in reads.await {
        read.problem(404, "not-found");
    }
}

/// `tollgate migrate`, with what a store holds; its output, and whether it was done.
async fn migrate(from: &Gateway, url: &str) -> (bool, String) {
    let mut command = std::process::Command::new(binary());
    command.args(["migrate", "--json", "--from", "data/tollgate.db"]);
    command
        .current_dir(from.directory())
        .env("TOLLGATE_STORE_URL", url);
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let ended = ended.unwrap().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (
        ended.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

pub async fn an_embedded_store_moves_into_a_postgres(_: Host) {
    const BEFORE: usize = 40;
    let Some(database) = server("").await else { return };
    let one = Gateway::start(Host::Native, "").await;
    let campaign = one.campaign(BEFORE as u64 + 2, json!({ "topic": "sale" })).await;
    one.link("moved").await;
    let target = one.get("/moved").send().await.header("location").to_owned();
    for n in 0..BEFORE {
        assert_eq!(
            claim(&one, &campaign, &format!("user-{n}")).await.unwrap().status,
            201
        );
    }
    let post = |gateway: &Gateway| {
        let call = gateway.post("/signup").client("c").json(&json!({ "n": 1 }));
        call.header("idempotency-key", "once").send()
    };
    let first = post(&one).await.expect(202).json();
    let key = one.key(&["topics"]).await;
    let messages = one.messages("sale").await;
    let url = database.fresh();
    // Not beside a gateway that runs.
    let (done, said) = migrate(&one, &url).await;
    assert!(!done && said.contains("in use"), "{said}");
    one.stop().await;
    let (done, said) = migrate(&one, &url).await;
    assert!(done, "{said}");
    assert!(!said.contains(&url), "{said}");
    // Not over something.
    let (again, said) = migrate(&one, &url).await;
    assert!(!again && said.contains("hold something"), "{said}");
    let two = Gateway::start_on(&url, "").await;
    assert_eq!(two.messages("sale").await, messages);
    two.get("/api/topics").key(&key).send().await.expect(200);
    assert_eq!(two.get("/moved").send().await.header("location"), target);
    assert_eq!(
        post(&two).await.expect(202).json(),
        first,
        "told again, not taken again"
    );
    let twice = claim(&two, &campaign, "user-0").await.unwrap();
    twice.problem(409, "already-claimed");
    for n in 0..2 {
        let made = claim(&two, &campaign, &format!("late-{n}")).await.unwrap();
        assert_eq!(made.expect(201).json()["claim"]["sequence"], BEFORE + n + 1);
    }
    let late = claim(&two, &campaign, "late-3").await.unwrap();
    late.problem(410, "sold-out");
    check(&two.messages("sale").await, BEFORE + 2);
}

/// When a request was sent and answered; only those that were let through.
type Passed = (Instant, Instant);

/// Clients at every gateway ask for the same bucket as often as they can; who was let through, in the order of the answers.
async fn hammer(all: &Arc<Vec<Gateway>>, limit: &str, client: &str, until: Instant) -> Vec<Passed> {
    let path = format!("/api/bounded/{limit}/x");
    let passed = crowd(12, 0..12_usize, |n| {
        let (all, client, path) = (Arc::clone(all), client.to_owned(), path.clone());
        async move {
            let mut passed = Vec::new();
            while Instant::now() < until {
                let began = Instant::now();
                let call = all[n % all.len()].get(&path).client(&client);
                match call.attempt().await {
                    Ok(answer) if answer.status == 404 => passed.push((began, Instant::now())),
                    // Its limit says so where nobody can be asked.
                    Ok(answer) if answer.status == 503 => tokio::time::sleep(Duration::from_millis(20)).await,
                    Ok(answer) => drop(answer.expect(429)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            passed
        }
    })
    .await;
    let mut passed = passed.concat();
    passed.sort_by_key(|(_, answered)| *answered);
    passed
}

/// The most by which a window has more than `capacity + refill · W`: of what was sent and answered within it.
fn excess(passed: &[Passed], capacity: f64, per_second: f64) -> f64 {
    let mut worst = f64::MIN;
    for (first, _) in passed {
        let mut within = 0.0;
        for (_, answered) in passed.iter().filter(|(sent, _)| sent >= first) {
            within += 1.0;
            let window = answered.duration_since(*first).as_secs_f64();
            worst = f64::max(worst, within - capacity - per_second * window);
        }
    }
    worst
}

pub async fn a_shared_limit_keeps_its_bound_whatever_dies(_: Host) {
    const CAPACITY: f64 = 60.0;
    const PER_SECOND: f64 = 20.0;
    // Of each gateway: a tenth of the capacity, divided.
    const CREDIT: f64 = 2.0;
    const GATEWAYS: f64 = 3.0;
    let settings = "[metrics]\naccess = \"loopback\"\n[store]\nengine = \"postgres\"\ngateways = 3\n[[limits]]\nname = \"together\"\n\
        path = \"/api/bounded/together/...\"\ncapacity = 60\nrefill = 20\nshared = \"debt\"\n";
    let Some(database) = server("").await else { return };
    let url = database.fresh();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Gateway::start_on(&url, settings).await);
    }
    let all = Arc::new(all);
    let seconds = |n| Instant::now() + Duration::from_secs(n);
    // Together they are one bucket.
    let began = Instant::now();
    let passed = hammer(&all, "together", "calm", seconds(4)).await;
    let whole = CAPACITY + PER_SECOND * began.elapsed().as_secs_f64();
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!(
        "{} of {whole:.0} passed, at most {worst:.1} more in a window",
        passed.len()
    );
    assert!(worst <= GATEWAYS * CREDIT, "{worst}");
    assert!(passed.len() as f64 > 0.7 * whole, "{} of {whole}", passed.len());
    // Without a key, which the database would have to check.
    let scrape = async || all[1].get("/metrics").send().await.expect(200).text();
    let scraped = scrape().await;
    assert!(scraped.contains("tollgate_shared_limit_apart 0"), "{scraped}");
    assert!(!scraped.contains("tollgate_shared_limit_reports_total 0\n"));
    // A gateway that dies has not told its debt.
    let dies = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        all[0].kill();
        all[0].restart().await;
    };
    let (passed, ()) = tokio::join!(hammer(&all, "together", "dying", seconds(4)), dies);
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!("with a death: {worst:.1}");
    assert!(worst <= (GATEWAYS + 1.0) * CREDIT, "{worst}");
    // The database goes away: each gateway's share, one capacity more at most; a crash leaves full buckets, which is another.
    let away = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        database.order("stop");
        tokio::time::sleep(Duration::from_secs(4)).await;
        let scraped = scrape().await;
        assert!(scraped.contains("tollgate_shared_limit_apart 1"), "{scraped}");
        database.order("start");
    };
    let (passed, ()) = tokio::join!(hammer(&all, "together", "away", seconds(8)), away);
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!("with the database away: {} passed, {worst:.1}", passed.len());
    assert!(worst <= 2.0 * CAPACITY + GATEWAYS * CREDIT, "{worst}");
    assert!(
        passed.len() as f64 > CAPACITY,
        "nobody was let through while it was away"
    );
}

pub async fn an_exact_limit_admits_what_it_has_whatever_dies(_: Host) {
    const CAPACITY: f64 = 30.0;
    const PER_SECOND: f64 = 20.0;
    let settings = "[metrics]\naccess = \"loopback\"\n[store]\nengine = \"postgres\"\ngateways = 3\n[[limits]]\nname = \"exact\"\n\
        path = \"/api/bounded/exact/...\"\ncapacity = 30\nrefill = 20\nshared = \"exact\"\non_store_failure = \"deny\"\n\
        [[limits]]\nname = \"own\"\npath = \"/api/bounded/...\"\ncapacity = 100000\nrefill = 100000\n\
        [[limits]]\nname = \"money\"\npath = \"/api/bounded/money/...\"\ncapacity = 3\nrefill = 1\ninterval = \"1h\"\n\
        shared = \"exact\"\n";
    let Some(database) = server("").await else { return };
    let url = database.fresh();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Gateway::start_on(&url, settings).await);
    }
    let all = Arc::new(all);
    // One after the other, at all gateways: what one took the next one knows, to the last token.
    let ask = async |n: usize| {
        let call = all[n].get("/api/bounded/money/x").client("buyer");
        call.send().await
    };
    for n in 0..3 {
        let answer = ask(n).await.expect(404);
        let limits = answer.header("ratelimit").to_owned();
        assert!(limits.contains(&format!("\"money\";r={};", 2 - n)), "{limits}");
    }
    let refused = ask(0).await;
    refused.problem(429, QUOTA_EXCEEDED);
    assert_eq!(refused.json()["violated-policies"], json!(["money"]));
    let key = all[1].key(&["limits"]).await;
    let client = "/api/limits/clients/id%3Abuyer";
    let shown = all[2].get(client).key(&key).send().await.expect(200).json();
    let of_money = shown["limits"].as_array().unwrap().iter();
    let of_money: Vec<&Value> = of_money.filter(|limit| limit["policy"] == "money").collect();
    assert_eq!(of_money[0]["remaining"], 0, "{shown}");
    // Filled at one, it is full at the others.
    all[1].delete(client).key(&key).send().await.expect(204);
    for n in 0..3 {
        ask(2 - n).await.expect(404);
    }
    ask(1).await.problem(429, QUOTA_EXCEEDED);
    // A crowd at all gateways, one of which dies.
    let seconds = |n| Instant::now() + Duration::from_secs(n);
    let dies = async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        all[0].kill();
        all[0].restart().await;
    };
    let began = Instant::now();
    let (passed, ()) = tokio::join!(hammer(&all, "exact", "dying", seconds(3)), dies);
    let whole = CAPACITY + PER_SECOND * began.elapsed().as_secs_f64();
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!(
        "{} of {whole:.0} passed, at most {worst:.2} more in a window",
        passed.len()
    );
    assert!(worst <= 0.0, "{worst}");
    assert!(passed.len() as f64 > 0.7 * whole, "{} of {whole}", passed.len());
    let scraped = all[1].get("/metrics").send().await.expect(200).text();
    assert!(scraped.contains("tollgate_exact_limit_away 0"), "{scraped}");
    assert!(!scraped.contains("tollgate_exact_limit_flights_total 0\n"));
    // The database crashes: a full bucket is left, and meanwhile nobody passes.
    let away = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        database.order("stop");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // Without the store, what this gateway counts by itself still counts: `money` lets through.
        let began = Instant::now();
        let answer = ask(1).await.expect(404);
        let limits = answer.header("ratelimit").to_owned();
        assert!(limits.contains("own") && !limits.contains("money"), "{limits}");
        assert!(
            began.elapsed() < Duration::from_millis(200),
            "it waits for nobody"
        );
        let scraped = all[1].get("/metrics").send().await.expect(200).text();
        assert!(scraped.contains("tollgate_exact_limit_away 1"), "{scraped}");
        database.order("start");
    };
    let (passed, ()) = tokio::join!(hammer(&all, "exact", "away", seconds(5)), away);
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!("with the database away: {} passed, {worst:.2}", passed.len());
    assert!(worst <= CAPACITY, "{worst}");
    assert!(passed.len() as f64 > CAPACITY + PER_SECOND, "it is asked again");
}

/// Over TLS, whose certificate an authority of the case's own has issued.
pub async fn embedded_gateways_share_limits_over_a_redis(host: Host) {
    const CAPACITY: f64 = 30.0;
    const PER_SECOND: f64 = 20.0;
    let authority = Authority::new();
    let ((cert, key), port) = (authority.issue("redis", &["localhost"]), free_port());
    let options = format!(
        "--user tollgate on >correct-horse ~* +@all --tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {} \
         --tls-ca-cert-file {}",
        cert.display(),
        key.display(),
        authority.file().display()
    );
    let started = tokio::task::spawn_blocking(move || Redis::start(&options));
    let Some(server) = started.await.unwrap() else {
        return;
    };
    let url = format!("rediss://tollgate:correct-horse@localhost:{port}/0");
    let settings = format!(
        "[metrics]\naccess = \"loopback\"\n[limits_store]\nurl = \"{url}\"\ngateways = 3\n\
         [[limits]]\nname = \"exact\"\npath = \"/api/bounded/exact/...\"\ncapacity = 30\nrefill = 20\nshared = \"exact\"\n\
         on_store_failure = \"deny\"\n\
         [[limits]]\nname = \"debt\"\npath = \"/api/bounded/debt/...\"\ncapacity = 30\nrefill = 20\nshared = \"debt\"\n"
    );
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut serve = Serve::with_key(ADMIN_KEY);
        serve.environment.push(("SSL_CERT_FILE", authority.file()));
        all.push(Gateway::start_as(host, serve, &settings).await);
    }
    let all = Arc::new(all);
    let seconds = |n| Instant::now() + Duration::from_secs(n);
    for (limit, most) in [("exact", 0.0), ("debt", 3.0)] {
        let began = Instant::now();
        let passed = hammer(&all, limit, "calm", seconds(2)).await;
        let whole = CAPACITY + PER_SECOND * began.elapsed().as_secs_f64();
        let worst = excess(&passed, CAPACITY, PER_SECOND);
        eprintln!(
            "{limit}: {} of {whole:.0} passed, at most {worst:.2} more",
            passed.len()
        );
        assert!(worst <= most, "{limit}: {worst}");
        assert!(
            passed.len() as f64 > 0.6 * whole,
            "{limit}: {} of {whole}",
            passed.len()
        );
    }
    // Redis crashes: a full bucket is left. It is asked again.
    let crashes = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.order("stop");
        tokio::time::sleep(Duration::from_millis(800)).await;
        let scraped = all[1].get("/metrics").send().await.expect(200).text();
        assert!(scraped.contains("tollgate_exact_limit_away 1"), "{scraped}");
        all[1].get("/health/ready").send().await.expect(200);
        server.order("start");
    };
    let (passed, ()) = tokio::join!(hammer(&all, "exact", "crash", seconds(4)), crashes);
    let worst = excess(&passed, CAPACITY, PER_SECOND);
    eprintln!("with a crash: {} passed, {worst:.2}", passed.len());
    assert!(worst <= CAPACITY, "{worst}");
    assert!(passed.len() as f64 > CAPACITY + PER_SECOND, "it is asked again");
    // The password is told to nobody.
    let all = Arc::into_inner(all).expect("nobody else has them");
    for gateway in &all {
        gateway.stop().await;
        assert!(!gateway.stderr().contains("correct-horse"));
    }
}
