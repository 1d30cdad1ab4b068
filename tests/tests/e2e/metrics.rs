//! `GET /metrics`: who may read it, that others can parse it, that it counts what was done and nothing else, and that the board and
//! the rules of `deploy/` name nothing that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, eventually};

const OPENMETRICS: &str =
    "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Every series with its value.
type Series = BTreeMap<String, f64>;

fn series(text: &str) -> Series {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        (series.to_owned(), value.parse().expect("a number"))
    });
    parsed.collect()
}

/// How much each series of these metrics has grown, where it has.
fn growth(before: &Series, after: &Series, metrics: &[&str]) -> Series {
    let name = |series: &str| series.split('{').next().unwrap_or("").to_owned();
    let named = after
        .iter()
        .filter(|(series, _)| metrics.contains(&&*name(series)));
    let grown = named.map(|(series, value)| (series.clone(), value - before.get(series).unwrap_or(&0.0)));
    grown.filter(|(_, more)| *more != 0.0).collect()
}

pub async fn strangers_do_not_read_them(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let key = gateway.key(&["metrics"]).await;
    gateway.get("/metrics").send().await.problem(401, "unauthorized");
    gateway
        .get("/metrics")
        .header("x-forwarded-for", "127.0.0.1")
        .client("somebody")
        .user("somebody")
        .send()
        .await
        .problem(401, "unauthorized");
    for bad in ["tg_nobody_knows_this_key", &key[..key.len() - 1]] {
        gateway
            .get("/metrics")
            .key(bad)
            .send()
            .await
            .problem(401, "unauthorized");
    }
    for scope in ["links", "campaigns", "topics"] {
        let other = gateway.key(&[scope]).await;
        gateway
            .get("/metrics")
            .key(&other)
            .send()
            .await
            .problem(403, "forbidden");
    }
    for good in [&*key, ADMIN_KEY] {
        gateway.get("/metrics").key(good).send().await.expect(200);
    }
    let head = gateway.head("/metrics").key(&key).send().await.expect(200);
    assert_eq!(head.text(), "");
    let post = gateway.post("/metrics").key(&key).send().await;
    post.problem(405, "method-not-allowed");
    assert_eq!(post.header("allow"), "GET, HEAD");
    for path in ["/metrics/", "/metrics/x", "/Metrics", "//metrics"] {
        gateway.get(path).key(&key).send().await.problem(404, "not-found");
    }
    // The key reaches nothing else.
    for path in [
        "/api/links",
        "/api/campaigns",
        "/api/topics",
        "/api/keys",
        "/api/limits",
    ] {
        gateway.get(path).key(&key).send().await.problem(403, "forbidden");
    }
}

pub async fn callers_of_this_machine_need_no_key_where_the_settings_say_so(host: Host) {
    let gateway = Gateway::start(host, "[metrics]\naccess = \"loopback\"\n").await;
    gateway.get("/metrics").send().await.expect(200);
    for name in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let passed_on = gateway.get("/metrics").header(name, "for=192.0.2.1");
        passed_on.send().await.problem(401, "unauthorized");
    }
    let passed_on = gateway.get("/metrics").header("via", "1.1 proxy");
    passed_on.key(ADMIN_KEY).send().await.expect(200);
    let gateway = Gateway::start(host, "[metrics]\naccess = \"anyone\"\n").await;
    let passed_on = gateway.get("/metrics").header("x-forwarded-for", "192.0.2.1");
    passed_on.send().await.expect(200);
}

pub async fn they_count_exactly_what_was_done(host: Host) {
    const VISITS: usize = 137;
    let gateway = Gateway::start(host, "").await;
    gateway.link("counted").await;
    let before = series(&gateway.scrape().await);
    for number in 0..VISITS {
        let call = match number % 2 {
            0 => gateway.get("/counted"),
            _ => gateway.head("/counted"),
        };
        call.send().await.expect(302);
    }
    for nothing in ["/nothing-here", "/nor/here", "/api/nor/here"] {
        gateway.get(nothing).send().await.expect(404);
    }
    gateway.call(Method::DELETE, "/counted").send().await.expect(405);
    gateway
        .post("/signup")
        .client("c")
        .json(&json!({}))
        .send()
        .await
        .expect(202);
    gateway.get("/api/links").send().await.expect(401);
    gateway.get("/api/links").key(ADMIN_KEY).send().await.expect(200);
    let after = series(&gateway.scrape().await);
    let requests = growth(&before, &after, &["tollgate_http_requests_total"]);
    let expected = [
        ("follow_link", 302, VISITS),
        ("follow_link", 404, 1),
        ("forward", 202, 1),
        ("list_links", 200, 1),
        ("list_links", 401, 1),
        // The one before: this one is not answered yet.
        ("metrics", 200, 1),
        ("other", 404, 2),
        ("follow_link_by_delete", 405, 1),
    ];
    let name = |call: &str, code| format!("tollgate_http_requests_total{{call=\"{call}\",code=\"{code}\"}}");
    let expected: Series = expected
        .iter()
        .map(|(call, code, count)| (name(call, *code), *count as f64))
        .collect();
    assert_eq!(requests, expected);
    let durations = growth(&before, &after, &["tollgate_http_request_duration_seconds_count"]);
    assert_eq!(durations.values().sum::<f64>(), expected.values().sum::<f64>());
    assert_eq!(after["tollgate_store_up"], 1.0);
    assert_eq!(after["tollgate_http_requests_waiting"], 1.0, "this one");
    for (series, at_least) in [
        ("tollgate_store_commits_total", 2.0),
        ("tollgate_store_groups_total", 2.0),
        ("tollgate_connections", 1.0),
        ("tollgate_connections_accepted_total", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_start_time_seconds", 1.7e9),
    ] {
        let value = after.get(series);
        assert!(
            value.is_some_and(|value| *value >= at_least),
            "{series}: {value:?}"
        );
    }
    // What is read from the store is some seconds old.
    eventually("the message is told", async || {
        let told = series(&gateway.scrape().await);
        let size = told.get("tollgate_topic_size_bytes{topic=\"signup\"}");
        assert!(size.is_none_or(|size| *size > 0.0), "{size:?}");
        (told.get("tollgate_topic_depth{topic=\"signup\"}") == Some(&1.0) && size.is_some()).then_some(())
    })
    .await;
}

pub async fn rooms_are_told(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let room = json!({ "path": "/tickets", "admitPerSecond": 2.5 });
    let made = gateway.put("/api/rooms/tickets").key(ADMIN_KEY).json(&room);
    made.send().await.expect(201);
    let pace = async |wanted: f64| {
        eventually("the pace is told", async || {
            let told = series(&gateway.scrape().await);
            (told.get("tollgate_room_admits_per_second{room=\"tickets\"}") == Some(&wanted)).then_some(())
        })
        .await;
    };
    pace(2.5).await;
    let paused = gateway.post("/api/rooms/tickets/pause").key(ADMIN_KEY);
    paused.send().await.expect(200);
    pace(0.0).await;
}

pub async fn holds_draws_and_refusals_are_told(host: Host) {
    let settings = "[[challenges]]\nname = \"hard\"\npath = \"/hard\"\nkind = \"altcha\"\n\
                    [[access]]\nname = \"out\"\naction = \"deny\"\nclients = [\"id:harvester\"]\n";
    let gateway = Gateway::start(host, settings).await;
    let before = series(&gateway.scrape().await);
    let campaign = gateway.campaign(5, json!({"holdSeconds": 60})).await;
    let claims = format!("/api/campaigns/{campaign}/claims");
    let claim = gateway.post(&claims).user("ann").send().await.expect(201);
    gateway.post(&claims).user("ben").send().await.expect(201);
    let id = claim.json()["claim"]["id"].as_str().unwrap().to_owned();
    let confirmed = gateway.post(&format!("{claims}/{id}/confirm")).user("ann");
    confirmed.send().await.expect(200);
    let draw = json!({
        "id": "easter", "pick": 1, "pool": {"from": 1, "to": 9}, "closesAt": "2099-01-01T00:00:00Z",
        "prizes": [{"matches": 1, "name": "a book"}],
    });
    let made = gateway.post("/api/draws").key(ADMIN_KEY).json(&draw);
    made.send().await.expect(201);
    let entry = gateway.post("/api/draws/easter/entries").user("ann");
    entry.json(&json!({})).send().await.expect(201);
    for _ in 0..3 {
        let refused = gateway.get("/hard").send().await;
        refused.problem(403, "challenge-required");
    }
    let denied = gateway.get("/nothing").client("harvester");
    denied.send().await.problem(403, "forbidden");
    gateway
        .get("/api/links")
        .send()
        .await
        .problem(401, "unauthorized");
    let after = series(&gateway.scrape().await);
    let problem = |slug: &str| format!("tollgate_problems_total{{problem=\"{slug}\"}}");
    let expected = [("challenge-required", 3), ("forbidden", 1), ("unauthorized", 1)];
    let expected: Series = expected
        .iter()
        .map(|(slug, count)| (problem(slug), f64::from(*count)))
        .collect();
    assert_eq!(growth(&before, &after, &["tollgate_problems_total"]), expected);
    eventually("the hold and the entry are told", async || {
        let told = series(&gateway.scrape().await);
        let held = format!("tollgate_campaign_held{{campaign=\"{campaign}\"}}");
        let is_told = |series: &str| told.get(series) == Some(&1.0);
        (is_told(&held) && is_told("tollgate_draw_entries{draw=\"easter\"}")).then_some(())
    })
    .await;
}

pub async fn what_the_parser_refuses_is_counted(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let before = series(&gateway.scrape().await);
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(600_000));
    for (request, status) in [("NONSENSE\r\n\r\n", 400), (&huge, 431)] {
        assert_eq!(gateway.raw(request.to_owned()).await.status, status);
    }
    let after = series(&gateway.scrape().await);
    let requests = growth(&before, &after, &["tollgate_http_requests_total"]);
    for code in [400, 431] {
        let name = format!("tollgate_http_requests_total{{call=\"other\",code=\"{code}\"}}");
        assert_eq!(requests.get(&name), Some(&1.0), "{requests:?}");
    }
}

pub async fn strangers_make_no_series(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let secret = "strangers-word";
    let known = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let ask = async |number: usize| {
        let word = format!("{secret}-{number}");
        for path in [
            format!("/{word}"),
            format!("/{word}/{word}"),
            format!("/api/{word}"),
            format!("/api/campaigns/{word}"),
            format!("/api/campaigns/{word}/claims/{word}"),
            format!("/api/topics/{word}/messages"),
        ] {
            gateway
                .get(&path)
                .client(&word)
                .user(&word)
                .key(&word)
                .send()
                .await;
        }
        let claims = format!("/api/campaigns/{word}/claims");
        gateway.post(&claims).user(&word).send().await.expect(404);
        gateway
            .post("/signup")
            .client(&word)
            .json(&json!({}))
            .send()
            .await
            .expect(202);
        let method = Method::from_bytes(format!("X{number}").as_bytes()).expect("a method");
        gateway.call(method, "/").send().await;
    };
    ask(0).await;
    // The first scrape is counted by the second.
    gateway.scrape().await;
    let before = known(&gateway.scrape().await);
    for number in 1..30 {
        ask(number).await;
    }
    let after = gateway.scrape().await;
    assert!(!after.contains(secret), "{after}");
    assert_eq!(known(&after), before, "{after}");
}

pub async fn others_can_read_both_formats(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.get("/nothing-here").send().await.expect(404);
    let scrape = |accept: &'static str| {
        gateway
            .get("/metrics")
            .key(ADMIN_KEY)
            .header("accept", accept)
            .send()
    };
    for (accept, is_openmetrics) in [
        (OPENMETRICS, true),
        ("application/openmetrics-text", true),
        ("text/html, application/openmetrics-text;q=0.2", true),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;version=2.0.0", false),
        ("text/plain", false),
        ("*/*", false),
        ("", false),
    ] {
        let answer = scrape(accept).await.expect(200);
        let content_type = match is_openmetrics {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), content_type, "{accept}");
        assert_eq!(answer.text().ends_with("# EOF\n"), is_openmetrics, "{accept}");
    }
    let plain = scrape("text/plain").await.text();
    let lines = plain.lines().map(|line| Ok(line.to_owned()));
    let read = prometheus_parse::Scrape::parse(lines).expect("the text format");
    let samples = read
        .samples
        .iter()
        .filter(|one| one.metric == "tollgate_http_requests_total");
    assert!(samples.count() >= 2, "{plain}");
    // Where Python's and Prometheus' own readers are at hand, they read it too.
    let openmetrics = scrape(OPENMETRICS).await.text();
    let script = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                  assert len(list(read(sys.stdin.read()))) > 40";
    if Command::new("python3")
        .args(["-c", "import prometheus_client"])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        piped("python3", &["-c", script], &openmetrics);
    }
    if let Some(promtool) = promtool() {
        piped(&promtool, &["check", "metrics"], &plain);
    }
}

pub async fn claims_and_decisions_are_counted_as_they_were_told(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let campaign = gateway.campaign(2, json!({})).await;
    let later = gateway
        .campaign(2, json!({ "startsAt": "2100-01-01T00:00:00Z" }))
        .await;
    // Instances tell decisions some milliseconds later.
    let before = eventually("the campaigns' own requests are told", async || {
        let told = series(&gateway.scrape().await);
        let admitted = "tollgate_limit_decisions_total{policy=\"everything\",decision=\"admitted\"}";
        (told.get(admitted) == Some(&2.0)).then_some(told)
    })
    .await;
    let claim = async |campaign: &str, user: &str, key: &str, status| {
        let call = gateway
            .post(&format!("/api/campaigns/{campaign}/claims"))
            .user(user);
        let call = match key {
            "" => call,
            key => call.header("idempotency-key", key),
        };
        call.send().await.expect(status);
    };
    claim(&campaign, "a", "\"once\"", 201).await;
    claim(&campaign, "a", "\"once\"", 201).await;
    claim(&campaign, "a", "", 409).await;
    claim(&campaign, "b", "", 201).await;
    claim(&campaign, "c", "", 410).await;
    claim(&campaign, "d", "", 410).await;
    claim(&later, "a", "", 403).await;
    claim("nobodys", "a", "", 404).await;
    for number in 0..8 {
        let status = if number < 5 { 404 } else { 429 };
        gateway
            .get("/api/bounded/burst/x")
            .client("c")
            .send()
            .await
            .expect(status);
    }
    for _ in 0..4 {
        gateway
            .get("/api/bounded/shadow/x")
            .client("c")
            .send()
            .await
            .expect(404);
    }
    let after = series(&gateway.scrape().await);
    let claims = growth(&before, &after, &["tollgate_claims_total"]);
    let name = |campaign: &str, outcome| {
        format!("tollgate_claims_total{{campaign=\"{campaign}\",outcome=\"{outcome}\"}}")
    };
    let expected = [
        (name(&campaign, "admitted"), 2.0),
        (name(&campaign, "already_claimed"), 1.0),
        (name(&campaign, "replayed"), 1.0),
        (name(&campaign, "sold_out"), 2.0),
        (name(&later, "not_started"), 1.0),
    ];
    assert_eq!(claims, Series::from(expected));
    let name = |policy, decision| {
        format!("tollgate_limit_decisions_total{{policy=\"{policy}\",decision=\"{decision}\"}}")
    };
    let expected = Series::from([
        (name("burst", "admitted"), 5.0),
        (name("burst", "refused"), 3.0),
        (name("observed", "admitted"), 1.0),
        (name("observed", "would_refuse"), 3.0),
        // All but what was refused, and what nobody limits: a scrape.
        (name("everything", "admitted"), 8.0 + 5.0 + 4.0),
    ]);
    eventually("all are told", async || {
        let after = series(&gateway.scrape().await);
        (growth(&before, &after, &["tollgate_limit_decisions_total"]) == expected).then_some(())
    })
    .await;
    eventually("the stock is told", async || {
        let told = gateway.scrape().await;
        let stock =
            |campaign: &str, left| format!("tollgate_campaign_stock{{campaign=\"{campaign}\"}} {left}\n");
        (told.contains(&stock(&campaign, "0.0")) && told.contains(&stock(&later, "2.0"))).then_some(())
    })
    .await;
}

pub async fn deliveries_and_their_backlog_are_told(host: Host) {
    let origin = Origin::start().await;
    origin.answer(503);
    let gateway = Gateway::start(host, "").await;
    let body = json!({ "url": origin.url("/"), "allowPrivateAddresses": true });
    let path = "/api/topics/signup/subscriptions/hook";
    gateway
        .put(path)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    for number in 0..3 {
        let body = json!({ "number": number });
        gateway
            .post("/signup")
            .client("c")
            .json(&body)
            .send()
            .await
            .expect(202);
    }
    let labels = "topic=\"signup\",subscription=\"hook\"";
    eventually("the backlog is told", async || {
        let told = series(&gateway.scrape().await);
        let of = |name: &str| told.get(&format!("{name}{{{labels}}}")).copied();
        let refused = told.get(&format!(
            "tollgate_delivery_attempts_total{{{labels},outcome=\"refused\"}}"
        ));
        let is_told = of("tollgate_subscription_lag") == Some(3.0)
            && of("tollgate_oldest_message_age_seconds").is_some_and(|age| age > 0.0 && age < 120.0)
            && of("tollgate_dead_letters_total") == Some(0.0)
            && of("tollgate_circuit_state").is_some()
            && of("tollgate_subscription_paused") == Some(0.0)
            && refused.is_some_and(|refused| *refused >= 1.0);
        is_told.then_some(())
    })
    .await;
}

pub async fn messages_to_come_leases_and_quotas_are_told(host: Host) {
    let quota =
        "[[quotas]]\nname = \"trials\"\npath = \"/tried\"\nper = [\"ip\"]\nlimit = 2\nwindow = \"day\"\n";
    let gateway = Gateway::start(host, quota).await;
    for status in [404, 404, 429] {
        gateway.get("/tried").send().await.expect(status);
    }
    let group = "/api/topics/jobs/groups/workers";
    gateway.put(group).key(ADMIN_KEY).send().await.expect(201);
    for delay in ["0", "0", "600"] {
        let post = gateway.post("/api/topics/jobs/messages").key(ADMIN_KEY);
        let post = post.header("x-delay", delay).json(&json!({ "job": delay }));
        post.send().await.expect(202);
    }
    let lease = gateway.post(&format!("{group}/lease")).key(ADMIN_KEY);
    let asked = json!({ "limit": 1, "leaseSeconds": 600 });
    lease.json(&asked).send().await.expect(200);
    eventually("all of it is told", async || {
        let told = series(&gateway.scrape().await);
        let of = |name: &str| told.get(name).copied();
        let decided = |decision: &str| {
            of(&format!(
                "tollgate_limit_decisions_total{{policy=\"trials\",decision=\"{decision}\"}}"
            ))
        };
        let is_told = (decided("admitted"), decided("refused"), decided("failed"))
            == (Some(2.0), Some(1.0), Some(0.0))
            && of("tollgate_group_lag{topic=\"jobs\",group=\"workers\"}") == Some(2.0)
            && of("tollgate_group_leased{topic=\"jobs\",group=\"workers\"}") == Some(1.0)
            && of("tollgate_topic_delayed_bytes{topic=\"jobs\"}").is_some_and(|bytes| bytes > 0.0)
            && of("tollgate_delayed_overdue_seconds") == Some(0.0);
        is_told.then_some(())
    })
    .await;
    let refusals = gateway.get("/api/limits/refusals").key(ADMIN_KEY).send().await;
    let expected = json!([{ "policy": "trials", "refused": 1, "wouldRefuse": 0 }]);
    let told = refusals.expect(200).json();
    let of_quota = told["limits"].as_array().expect("a list").iter();
    let of_quota: Vec<_> = of_quota.filter(|one| one["policy"] == "trials").collect();
    assert_eq!(json!(of_quota), expected);
}

pub async fn board_and_rules_name_what_there_is(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let plain = gateway.scrape().await;
    let types = plain.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |file: &str| std::fs::read_to_string(deploy.join(file)).expect("it is there");
    let (board, rules) = (read("grafana/tollgate.json"), read("prometheus/alerts.yml"));
    let board: Value = serde_json::from_str(&board).expect("it is JSON");
    let mut shown = BTreeSet::new();
    let board = expressions(&board).join("\n");
    for (file, text) in [("the board", &board), ("the rules", &rules)] {
        let named = named(text);
        assert!(named.len() > 10, "{file} names {named:?}");
        for name in named {
            let stem = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            let known = [Some(name), stem]
                .into_iter()
                .flatten()
                .find(|name| there.contains(name));
            let known = known.unwrap_or_else(|| panic!("{file} names {name}, which is not there"));
            if file == "the board" {
                shown.insert(known.to_owned());
            }
        }
    }
    let missing: Vec<_> = there.iter().filter(|name| !shown.contains(**name)).collect();
    assert!(missing.is_empty(), "the board does not show {missing:?}");
    if let Some(promtool) = promtool() {
        let file = deploy.join("prometheus/alerts.yml");
        piped(&promtool, &["check", "rules", file.to_str().expect("UTF-8")], "");
        let file = deploy.join("prometheus/prometheus.yml");
        piped(
            &promtool,
            &["check", "config", "--syntax-only", file.to_str().expect("UTF-8")],
            "",
        );
    }
}

/// All queries of a board.
fn expressions(value: &Value) -> Vec<&str> {
    let text = |name: &str, value: &'_ Value| (name == "expr" || name == "definition") && value.is_string();
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match text(name, value) {
                true => value.as_str().into_iter().collect(),
                false => expressions(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words
        .filter(|word| word.starts_with("tollgate_") || word.starts_with("process_"))
        .collect()
}

/// Prometheus' own tool (Debian's package `prometheus`), if it is there.
fn promtool() -> Option<String> {
    let path = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let there = Command::new(&path)
        .arg("--version")
        .output()
        .is_ok_and(|done| done.status.success());
    there.then_some(path)
}

/// Runs a program that must be content with its input.
fn piped(program: &str, arguments: &[&str], input: &str) {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it is there");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{program} {arguments:?}: {told}\n{input}");
}
