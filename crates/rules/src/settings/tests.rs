//! What a configuration says, and how its faults are told.

use super::*;
use crate::config::{Links, MAX_KEPT_HEADERS, MAX_LIMITS, SAMPLE, Server};
use tollgate_api::units::Bytes;
use tollgate_store::settings::StoreSettings;

fn fault(text: &str) -> String {
    Settings::parse(text, "tollgate.toml").unwrap_err().to_string()
}

fn parsed(text: &str) -> Config {
    Settings::parse(text, "tollgate.toml").unwrap().config
}

/// A limit with one line changed or added.
fn limit_with(line: &str) -> String {
    let key = line.split_once(' ').map_or("", |(key, _)| key);
    let mut lines = vec!["[[limits]]"];
    lines.extend(
        ["name = \"a\"", "capacity = 5", "refill = 1"]
            .iter()
            .filter(|l| l.split(' ').next() != Some(key)),
    );
    lines.push(line);
    lines.join("\n")
}

fn subscription_with(line: &str) -> String {
    format!("[[topics.t.subscriptions]]\nname = \"s\"\nurl = \"http://origin/\"\n{line}\n")
}

#[test]
fn the_sample_is_the_default_of_every_table() {
    let sample = parsed(SAMPLE);
    let empty = parsed("");
    assert_eq!(sample, Config::default());
    assert_eq!(Settings::default().config, sample);
    assert_eq!(sample.server, empty.server);
    assert_eq!(sample.clients, empty.clients);
    assert_eq!(sample.users, empty.users);
    assert_eq!(sample.store, empty.store);
    assert_eq!(sample.links, empty.links);
    assert_eq!(sample.access_log, empty.access_log);
    assert_eq!(sample.traces, empty.traces);
    assert_eq!(sample.server, Server::default());
    assert_eq!(sample.links, Links::default());
    // The sample's limit writes out every default of a limit.
    let short = "[[limits]]\nname = \"default\"\ncapacity = 100\nrefill = 10\n";
    assert_eq!(parsed(short).limits, sample.limits);
    assert!(empty.limits.is_empty() && empty.forward.is_empty() && empty.topics.is_empty());
}

#[test]
fn each_engine_has_settings_of_its_own_and_what_is_shown_reads_back() {
    let memory = parsed("[store]\nengine = \"memory\"\nmax_bytes = \"2MiB\"\n");
    let max_bytes = Bytes(2 << 20);
    assert_eq!(memory.store, StoreSettings::Memory { max_bytes });
    assert_eq!(parsed(&memory.to_toml()).store, memory.store);
    for foreign in [
        "max_bytes = \"2MiB\"",
        "engine = \"memory\"\npath = \"x.db\"",
        "engine = \"memory\"\ncache_entries = 4096",
        "engine = \"memory\"\ncache_bytes = \"2MiB\"",
    ] {
        refused("store", &format!("[store]\n{foreign}\n"));
    }
}

#[test]
fn the_store_of_limits_is_checked_and_its_password_told_to_nobody() {
    let text =
        "[limits_store]\nurl = \"redis://me:hunter2@a:1,b:2?cluster\"\nprefix = \"shop\"\ngateways = 3\n";
    let config = parsed(text);
    for shown in [config.to_toml(), config.for_components()] {
        assert!(shown.contains("redis://me@a:1,b:2?cluster"), "{shown}");
        assert!(!shown.contains("hunter2"));
        assert_eq!(parsed(&shown).limits_store.gateways, Some(3));
    }
    for (setting, wrong) in [
        ("url", "url = \"http://:hunter2@a\""),
        ("url", "url = \"redis://:hunter2@a,b\""),
        ("prefix", "prefix = \"\""),
        ("prefix", "prefix = \"a b\""),
        ("prefix", "prefix = \"{a}\""),
        ("timeout", "timeout = \"1ms\""),
        ("timeout", "timeout = \"11s\""),
        ("gateways", "gateways = 0"),
        ("debt_percent", "debt_percent = 101"),
    ] {
        let text = format!("[limits_store]\n{wrong}\n");
        refused(&format!("limits_store.{setting}"), &text);
        assert!(!fault(&text).contains("hunter2"));
    }
}

#[test]
fn the_commented_subscription_of_the_sample_is_valid_and_equals_the_defaults() {
    let (_, rest) = SAMPLE.split_once("# [[topics.signup.subscriptions]]").unwrap();
    let text: String = rest
        .lines()
        .map(|l| format!("{}\n", l.strip_prefix("# ").unwrap_or(l)))
        .collect();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let text = format!(
        "[[topics.signup.subscriptions]]\n{}",
        text.replace("whsec_…", secret)
    );
    let config = parsed(&text);
    let given = &config.topics["signup"].subscriptions[0];
    let short = "[[topics.signup.subscriptions]]\nname = \"origin\"\nurl = \"http://127.0.0.1:9000/signup\"\nallow_private_addresses = true\n";
    let mut expected = parsed(short).topics["signup"].subscriptions[0].clone();
    expected.secret = Some(secret.to_owned().into());
    expected.allow_private_addresses = true;
    assert_eq!(given, &expected);
}

#[test]
fn a_syntax_error_names_its_line() {
    assert!(
        fault("[server]\nlisten = \n").starts_with("tollgate.toml:2: "),
        "{}",
        fault("[server]\nlisten = \n")
    );
    assert!(fault("[server]\n[server]\n").starts_with("tollgate.toml:2: "));
}

#[test]
fn unknown_keys_and_wrong_types_name_line_and_key() {
    let unknown = fault("[server]\nlisten = \"127.0.0.1:1\"\nlissten = 1\n");
    assert!(
        unknown.starts_with("tollgate.toml:3: server.lissten: unknown field `lissten`"),
        "{unknown}"
    );
    let unknown = fault("\n[servers]\n");
    assert!(
        unknown.starts_with("tollgate.toml:2: servers: unknown field `servers`"),
        "{unknown}"
    );
    let wrong = fault("[links]\nanonymous = true\ncode_length = \"7\"\n");
    assert!(
        wrong.starts_with("tollgate.toml:3: links.code_length: invalid type: string"),
        "{wrong}"
    );
    let wrong = fault("[[limits]]\nname = \"a\"\ncapacity = 1\nrefill = -1\n");
    assert!(
        wrong.starts_with("tollgate.toml:4: limits[0].refill: "),
        "{wrong}"
    );
    let wrong = fault("[[limits]]\nname = \"a\"\ncapacity = 1\nrefill = 1\ninterval = \"soon\"\n");
    assert!(
        wrong.starts_with("tollgate.toml:5: limits[0].interval: must be a duration"),
        "{wrong}"
    );
    let wrong = fault("[links]\nclicks = \"sometimes\"\n");
    assert!(
        wrong.starts_with("tollgate.toml:2: links.clicks: unknown variant"),
        "{wrong}"
    );
    let missing = fault("[links]\n\n[[limits]]\nname = \"a\"\nrefill = 1\n");
    assert!(
        missing.starts_with("tollgate.toml:3: limits[0].capacity: missing field"),
        "{missing}"
    );
}

#[test]
fn a_broken_rule_names_line_and_key() {
    assert_eq!(
        fault(&limit_with("capacity = 0")),
        "tollgate.toml:4: limits[0].capacity: must be at least 1"
    );
    // A default that conflicts with what is written is told at the table.
    let text = "[topics.a]\n[[topics.a.subscriptions]]\nname = \"s\"\nurl = \"http://o/\"\nretry = { initial = \"2h\" }\n";
    assert_eq!(
        fault(text),
        "tollgate.toml:5: topics.a.subscriptions[0].retry.cap: must be from 2h to 30d"
    );
    let dotted = "[topics.\"a.b\"]\nmax_bytes = 1\n";
    assert_eq!(
        fault(dotted),
        "tollgate.toml:2: topics.\"a.b\".max_bytes: must be from 1KiB to 1024TiB"
    );
}

/// Each line breaks one rule; the fault must name the key of that line.
#[track_caller]
fn refused(key: &str, text: &str) {
    let error = Settings::parse(text, "f").expect_err(text);
    assert_eq!(error.key, key, "{text}\n{error}");
}

#[test]
fn every_rule_of_the_plain_tables_is_checked() {
    for (table, key, values) in [
        (
            "server",
            "listen",
            &[
                "\"\"",
                "\"3000\"",
                "\"127.0.0.1\"",
                "\"127.0.0.256:1\"",
                "\"a b:1\"",
                "\"h:70000\"",
            ][..],
        ),
        (
            "server",
            "public_url",
            &[
                "\"ftp://a\"",
                "\"a\"",
                "\"http://a/?q\"",
                "\"http://a/#f\"",
                "\"http://u@a/\"",
                "\" http://a/\"",
                "\"http://a/\\tb\"",
                "\"http:a\"",
                "'http:\\\\a'",
            ],
        ),
        ("server", "max_connections", &["0"]),
        (
            "server",
            "max_connections_per_address",
            &["1000001", "-1", "\"many\""],
        ),
        ("server", "max_body", &["0", "\"2GiB\""]),
        ("server", "request_timeout", &["\"0s\"", "\"1d\""]),
        ("server", "workers", &["129", "100000"]),
        (
            "clients",
            "header",
            &["\"\"", "\"X-Client-Id\"", "\"a b\"", "\"a:\""],
        ),
        ("clients", "max_buckets", &["0"]),
        ("users", "header", &["\"é\""]),
        (
            "store",
            "path",
            &[
                "\"\"",
                "\"data/\"",
                "\"..\"",
                "\"data/..\"",
                "\"/\"",
                "\"a\\u0000b\"",
            ],
        ),
        ("store", "cache_entries", &["0"]),
        ("store", "cache_bytes", &["\"1KiB\"", "\"9999TiB\""]),
        (
            "store",
            "max_bytes",
            &[
                "\"1KiB\"\nengine = \"memory\"",
                "\"9999TiB\"\nengine = \"memory\"",
            ],
        ),
        ("store", "engine", &["\"paper\""]),
        ("links", "redirect", &["303", "200"]),
        ("links", "code_length", &["3", "33"]),
        ("links", "anonymous_idle", &["\"0s\"", "\"4000d\""]),
        ("links", "anonymous_per_day", &["0"]),
        ("links", "anonymous_max", &["0"]),
        ("links", "keep_expired", &["\"4000d\""]),
        ("links", "keep_archived", &["\"0s\"", "\"23h\"", "\"4000d\""]),
        ("access_log", "format", &["\"xml\"", "true"]),
        ("access_log", "path", &["\"\"", "\"logs/\""]),
        ("access_log", "sample", &["-0.1", "1.1", "nan", "\"1\""]),
        (
            "traces",
            "endpoint",
            &[
                "\"\"",
                "\"localhost:4318\"",
                "\"grpc://a\"",
                "\"http://localhost:3000/\"",
            ],
        ),
        ("traces", "sample", &["-0.1", "1.5"]),
        ("traces", "service_name", &["\"\"", "\"a\\nb\""]),
        ("access_log", "sample_refusals", &["-1.0", "2.0"]),
    ] {
        for value in values {
            refused(
                &format!("{table}.{key}"),
                &format!("[{table}]\n{key} = {value}\n"),
            );
        }
    }
    for cidr in [
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "x",
        "10.0.0.0/",
        "10.0.0.0/+8",
    ] {
        refused(
            "server.trusted_proxies[1]",
            &format!("[server]\ntrusted_proxies = [\"::1\", \"{cidr}\"]\n"),
        );
    }
}

#[test]
fn a_collector_is_named_with_or_without_the_path_and_its_key_is_a_secret() {
    for (given, used) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://a.example/otlp/", "https://a.example/otlp/v1/traces"),
        ("http://a.example/v1/traces", "http://a.example/v1/traces"),
    ] {
        let text =
            format!("[traces]\nendpoint = \"{given}\"\nheaders = {{ authorization = \"Bearer k3y\" }}\n");
        let settings = Settings::parse(&text, "f").unwrap();
        assert_eq!(settings.config.traces.endpoint.as_deref(), Some(used));
        // As it is when the host compiles it again.
        let again = Settings::compile(settings.config.clone()).unwrap();
        assert_eq!(again.config.traces, settings.config.traces);
        for shown in [
            settings.config.to_toml(),
            format!("{settings:?}"),
            settings.config.without_secrets().to_toml(),
        ] {
            assert!(!shown.contains("k3y"), "{shown}");
        }
    }
    refused(
        "traces.headers.Authorization",
        "[traces]\nheaders = { Authorization = \"x\" }\n",
    );
}

#[test]
fn every_rule_of_a_limit_is_checked() {
    for (key, line) in [
        ("name", "name = \"\""),
        ("name", "name = \"a b\""),
        ("name", "name = \"a|b\""),
        ("name", "name = \"ä\""),
        ("path", "path = \"x\""),
        ("path", "path = \"/a//b\""),
        ("path", "path = \"/.../b\""),
        ("path", "path = \"/:\""),
        ("path", "path = \"/a?b\""),
        ("path", "path = \"/%2e%2e%2e/b\""),
        ("methods", "methods = []"),
        ("methods[1]", "methods = [\"GET\", \"post\"]"),
        ("per", "per = [\"ip\", \"ip\"]"),
        ("per", "per = [\"ip\", \"all\"]"),
        ("refill", "refill = 0"),
        ("interval", "interval = \"999us\""),
        ("interval", "interval = \"31d\""),
        ("cost", "cost = 0"),
        ("cost", "cost = 6"),
    ] {
        refused(&format!("limits[0].{key}"), &limit_with(line));
    }
    let twice = format!("{}\n{}", limit_with("cost = 1"), limit_with("cost = 2"));
    refused("limits[1].name", &twice);
    // Beyond what a bucket counts in.
    refused(
        "limits[0].capacity",
        &limit_with(&format!("refill = {}", i64::MAX)),
    );
    let many: String = (0..=MAX_LIMITS)
        .map(|n| limit_with(&format!("name = \"n{n}\"")) + "\n")
        .collect();
    refused("limits", &many);
}

#[test]
fn as_many_limits_as_may_be_written_can_be_put_in_force() {
    let most: String = (0..MAX_LIMITS)
        .map(|n| limit_with(&format!("name = \"n{n}\"")) + "\n")
        .collect();
    assert!(Settings::parse(&most, "f").is_ok());
}

#[test]
fn a_bucket_counts_in_at_most_2_to_the_62_units() {
    // 2^22 tokens over 2^40 ns and an odd refill: exactly at the bound; one more is over it.
    let with = |capacity: u64| {
        format!(
            "[[limits]]\nname = \"a\"\ncapacity = {capacity}\nrefill = 3\ninterval = \"1099511627776ns\"\n"
        )
    };
    assert!(Settings::parse(&with(1 << 22), "f").is_ok());
    refused("limits[0].capacity", &with((1 << 22) + 1));
    // A refill that divides the interval makes the units coarser, and room for more.
    let shared = with(1 << 40).replace("refill = 3", "refill = 1099511627776");
    assert!(Settings::parse(&shared, "f").is_ok());
}

#[test]
fn patterns_of_the_route_syntax_are_taken() {
    for path in [
        "/",
        "/...",
        "/a",
        "/a/...",
        "/a/:id",
        "/:any/b",
        "/a%20b",
        "/a.b-c_d~e",
    ] {
        let text = limit_with(&format!("path = \"{path}\""));
        assert!(Settings::parse(&text, "f").is_ok(), "{path}");
    }
}

#[test]
fn forwarded_paths_neither_hide_links_nor_the_gateways_own() {
    let with = |path: &str, topic: &str| format!("[[forward]]\npath = \"{path}\"\ntopic = \"{topic}\"\n");
    assert!(Settings::parse(&with("/signup/:plan/...", "signup"), "f").is_ok());
    for path in [
        "/...",
        "/:any",
        "/api",
        "/API/links",
        "/health/live",
        "/robots.txt",
        "/docs/...",
        "/.hooks/...",
        "/a/.b",
    ] {
        refused("forward[0].path", &with(path, "signup"));
    }
    for topic in ["", "Signup", "-a", "a/b", &"a".repeat(65)] {
        refused("forward[0].topic", &with("/signup", topic));
    }
}

#[test]
fn what_is_kept_and_ordered_of_a_forwarded_request_is_checked() {
    let with = |line: &str| format!("[[forward]]\npath = \"/signup\"\ntopic = \"signup\"\n{line}\n");
    for (key, line) in [
        ("headers[0]", "headers = [\"\"]"),
        ("headers[0]", "headers = [\"*\"]"),
        ("headers[1]", "headers = [\"x-a\", \"X-B\"]"),
        ("headers[0]", "headers = [\"x-*-y\"]"),
        ("headers[0]", "headers = [\"host\"]"),
        ("headers[0]", "headers = [\"ce-*\"]"),
        ("headers", "headers = \"x-a\""),
        ("ordering", "ordering = \"\""),
        ("ordering", "ordering = \"Client\""),
        ("ordering", "ordering = \"header\""),
        ("ordering", "ordering = \"header:\""),
        ("ordering", "ordering = \"header:X-Order\""),
        ("ordering", "ordering = \"header:a b\""),
        ("methods[0]", "methods = [\"post\"]"),
        ("type", "type = \"\""),
        ("type", "type = \"a b\""),
        ("verify", "secret = \"0123456789abcdef\""),
        ("verify", "verify = \"slack\"\nsecret = \"0123456789abcdef\""),
        ("secret", "verify = \"stripe\""),
        ("secret", "verify = \"stripe\"\nsecret = \"short\""),
        (
            "previous_secret",
            "verify = \"stripe\"\nsecret = \"0123456789abcdef\"\nprevious_secret = \"short\"",
        ),
        ("previous_secret", "previous_secret = \"0123456789abcdef\""),
        (
            "secret",
            "verify = \"standard-webhooks\"\nsecret = \"0123456789abcdef\"",
        ),
    ] {
        refused(&format!("forward[0].{key}"), &with(line));
    }
    let long = "x".repeat(65);
    refused("forward[0].headers[0]", &with(&format!("headers = [\"{long}\"]")));
    let many: Vec<String> = (0..=MAX_KEPT_HEADERS).map(|n| format!("\"x-{n}\"")).collect();
    refused(
        "forward[0].headers",
        &with(&format!("headers = [{}]", many.join(", "))),
    );
    for sound in [
        "headers = [\"stripe-signature\", \"x-github-*\"]",
        "ordering = \"header:x-order\"",
        "type = \"stripe.event\"\nverify = \"stripe\"\nsecret = \"whsec_0123456789\"",
        "verify = \"github\"\nsecret = \"0123456789abcdef\"",
        "verify = \"github\"\nsecret = \"0123456789abcdef\"\nprevious_secret = \"fedcba9876543210\"",
        "verify = \"standard-webhooks\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
    ] {
        assert!(Settings::parse(&with(sound), "f").is_ok(), "{sound}");
    }
}

#[test]
fn a_backlog_is_at_least_what_is_kept() {
    let with = |line: &str| format!("[topics.t]\nmax_bytes = \"1MiB\"\nmax_backlog = {line}\n");
    for line in ["0", "\"1023KiB\"", "\"2048TiB\"", "\"much\"", "-1"] {
        refused("topics.t.max_backlog", &with(line));
    }
    assert!(Settings::parse(&with("\"1MiB\""), "f").is_ok());
}

#[test]
fn every_rule_of_a_subscription_is_checked() {
    for (key, line) in [
        ("secret", "secret = \"abc\""),
        ("secret", "secret = \"whsec_c2hvcnQ=\""),
        ("secret", "secret = \"whsec_!\""),
        ("rate_per_second", "rate_per_second = 0"),
        ("rate_per_second", "rate_per_second = 0.009"),
        ("rate_per_second", "rate_per_second = nan"),
        ("previous_secret", "previous_secret = \"abc\""),
        (
            "previous_secret_until",
            "previous_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
        ),
        (
            "previous_secret",
            "previous_secret_until = \"2027-01-15T08:00:00Z\"",
        ),
        ("previous_secret_until", "previous_secret_until = \"soon\""),
        ("headers.host", "headers = { host = \"a\" }"),
        ("headers.webhook-id", "headers = { webhook-id = \"a\" }"),
        ("filter.types", "filter = { types = [] }"),
        ("payload", "payload = \"none\""),
        ("start_from", "start_from = \"middle\""),
        ("rate_per_second", "rate_per_second = 100001"),
        ("concurrency", "concurrency = 257"),
        ("timeout", "timeout = \"99ms\""),
        ("timeout", "timeout = \"61s\""),
        ("retry.initial", "retry = { initial = \"9ms\" }"),
        ("retry.factor", "retry = { factor = 0.5 }"),
        ("retry.factor", "retry = { factor = nan }"),
        ("retry.cap", "retry = { cap = \"999ms\" }"),
        ("retry.max_attempts", "retry = { max_attempts = 101 }"),
        ("retry.schedule[1]", "retry = { schedule = [\"1s\", \"0s\"] }"),
    ] {
        refused(
            &format!("topics.t.subscriptions[0].{key}"),
            &subscription_with(line),
        );
    }
    for url in [
        "origin",
        "ftp://a/",
        "http://u:p@a/",
        "http://a/#f",
        "http://a`b/",
    ] {
        let text = subscription_with("").replace("http://origin/", url);
        refused("topics.t.subscriptions[0].url", &text);
    }
    refused("topics.t.subscriptions[1].name", &subscription_with("").repeat(2));
    refused("topics.T", "[topics.T]\n");
    refused("topics.t.retention", "[topics.t]\nretention = \"0s\"\n");
}

#[test]
fn secrets_are_masked_in_print_and_absent_from_what_components_get() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let more = "previous_secret_until = \"2027-01-15T08:00:00Z\"\nheaders = { x-tenant = \"MfKQ\" }\nrate_per_second = 0.5\nstart_from = 7";
    let text = format!(
        "{SAMPLE}\n{}",
        subscription_with(&format!(
            "secret = \"{secret}\"\nprevious_secret = \"{secret}\"\n{more}"
        ))
    );
    let config = parsed(&text);
    assert!(!config.to_toml().contains("MfKQ"));
    assert!(config.to_toml().contains("secret = \"********\""));
    assert!(!format!("{config:?}").contains(&secret[6..]));
    let bare = config.without_secrets();
    assert_eq!(bare.topics["t"].subscriptions[0].secret, None);
    assert_eq!(parsed(&bare.to_toml()), bare);
    let broken = fault(&subscription_with("secret = \"whsec_hunter2\""));
    assert!(!broken.contains("hunter2"), "{broken}");
}

#[test]
fn a_public_url_ends_without_a_slash() {
    let text = "[server]\npublic_url = \"https://go.example.com/s/\"\n";
    let settings = Settings::parse(text, "tollgate.toml").unwrap();
    assert_eq!(settings.public_url, "https://go.example.com/s");
}

#[test]
fn a_public_url_that_nobody_set_follows_the_port() {
    for (listen, port) in [
        ("127.0.0.1:8080", ":8080"),
        ("[::1]:4000", ":4000"),
        ("shop:1", ":1"),
        ("0.0.0.0:80", ""),
    ] {
        let text = format!("[server]\nlisten = \"{listen}\"\n");
        let settings = Settings::parse(&text, "tollgate.toml").unwrap();
        assert_eq!(settings.public_url, format!("http://localhost{port}"), "{listen}");
        let shown = settings.in_force();
        assert_eq!(shown.server.public_url.as_ref(), Some(&settings.public_url));
        assert_eq!(Settings::compile(shown).unwrap().own, settings.own);
        let set = format!("{text}public_url = \"https://go.example\"\n");
        let settings = Settings::parse(&set, "tollgate.toml").unwrap();
        assert_eq!(settings.public_url, "https://go.example", "{listen}");
    }
    assert_eq!(Settings::default().public_url, "http://localhost:3000");
    let tls = "[server]\nlisten = \"127.0.0.1:443\"\n[server.tls]\ncert = \"a\"\nkey = \"b\"\n";
    assert!(
        fault(tls).contains("server.public_url: must begin with https://"),
        "{}",
        fault(tls)
    );
}

#[test]
fn one_address_has_a_tenth_of_the_connections_unless_told_otherwise() {
    let most = |all, one| {
        Server {
            max_connections: all,
            max_connections_per_address: one,
            ..Server::default()
        }
        .connections_per_address()
    };
    assert_eq!(Server::default().connections_per_address(), 1_000);
    assert_eq!(most(40, 0), 16);
    assert_eq!(most(1, 0), 16);
    assert_eq!(most(40, 40), 40);
    assert_eq!(most(10_000, 1), 1);
}

#[test]
fn a_subscription_to_a_private_address_or_to_the_gateway_is_refused_as_over_http() {
    let of = |url: &str, more: &str| {
        let text = format!("[[topics.t.subscriptions]]\nname = \"s\"\nurl = \"{url}\"\n{more}");
        Settings::parse(&text, "t.toml")
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let allowed = "allow_private_addresses = true";
    for url in [
        "http://127.0.0.1:9000/",
        "http://localhost/",
        "http://[::1]/",
        "http://0x7f.1/",
    ] {
        let error = of(url, "").unwrap_err();
        assert!(
            error.contains("url") && error.contains("is not a public address"),
            "{error}"
        );
        assert_eq!(of(url, allowed), Ok(()));
    }
    for url in ["http://127.0.0.1:3000/signup", "http://localhost:3000/"] {
        let error = of(url, allowed).unwrap_err();
        assert!(error.contains("is the gateway itself"), "{error}");
    }
}

#[test]
fn a_redis_subscription_has_settings_of_its_own() {
    let of = |lines: &str| {
        let text = format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"redis\"\n{lines}");
        Settings::parse(&text, "t.toml")
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let url = "url = \"rediss://app@cache.example:6380/3\"";
    let more =
        "password = \"hunter2\"\nstream = \"sign-ups\"\nmax_length = 1000\ndeduplicate = \"0s\"\nbatch = 50";
    assert_eq!(of(&format!("{url}\n{more}")), Ok(()));
    for (key, lines) in [
        ("url", "url = \"http://cache.example/\"".to_owned()),
        ("url", "url = \"redis://:hunter2@cache.example/\"".to_owned()),
        ("url", "url = \"redis://cache.example/x\"".to_owned()),
        ("url", "url = \"redis://cache.example/?hunter2\"".to_owned()),
        ("url", "url = \"redis://0x7f.1/\"".to_owned()),
        (
            "url",
            "url = \"redis://localhost:3000/\"\nallow_private_addresses = true".to_owned(),
        ),
        (
            "secret",
            format!("{url}\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        ),
        ("headers", format!("{url}\nheaders = {{ x-a = \"hunter2\" }}")),
        ("retry.final", format!("{url}\nretry = {{ final = [400] }}")),
        ("password", format!("{url}\npassword = \"hunter2\\n\"")),
        ("password", format!("{url}\npassword = \"\"")),
        ("stream", format!("{url}\nstream = \"a b\"")),
        ("max_length", format!("{url}\nmax_length = 0")),
        ("deduplicate", format!("{url}\ndeduplicate = \"8d\"")),
    ] {
        let error = of(&lines).expect_err(&lines);
        assert!(
            error.contains(&format!("subscriptions[0].{key}")),
            "{lines}: {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    for line in [
        "password = \"x\"",
        "stream = \"x\"",
        "max_length = 1",
        "deduplicate = \"1m\"",
    ] {
        let key = line.split(' ').next().unwrap_or_default();
        refused(
            &format!("topics.t.subscriptions[0].{key}"),
            &subscription_with(line),
        );
    }
    for (key, lines) in [
        ("subject", "subject = \"a b\""),
        ("subject", "subject = \"a.*\""),
        ("subject", "subject = \"a..b\""),
        ("subject", "subject = \"$JS.API\""),
        ("subject", "subject = \"\""),
        ("stream", "stream = \"x\""),
        ("secret", "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        ("url", "url = \"nats://h.example/x\""),
        ("url", "url = \"redis://h.example\""),
    ] {
        let of =
            |url: &str| format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"nats\"\n{url}\n{lines}");
        let url = if key == "url" {
            ""
        } else {
            "url = \"tls://app@nats.example\""
        };
        refused(&format!("topics.t.subscriptions[0].{key}"), &of(url));
    }
    refused(
        "topics.t.subscriptions[0].subject",
        &subscription_with("subject = \"x\""),
    );
    refused(
        "topics.t.subscriptions[0].type",
        &subscription_with("type = \"amqp\""),
    );
    let secret = format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"redis\"\n{url}\n{more}");
    let config = parsed(&secret);
    assert!(!config.to_toml().contains("hunter2") && config.to_toml().contains("password = \"********\""));
    assert!(!config.for_components().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_postgres_subscription_has_a_user_a_database_a_statement_and_its_parameters() {
    let good = [
        ("url", "\"postgres://shop@db.example:5433/shop\""),
        ("password", "\"hunter2\""),
        ("statement", "\"INSERT INTO t VALUES ($1, $2)\""),
        ("parameters", "[\"id\", \"data.items.0\"]"),
        ("batch", "100"),
    ];
    let of = |changed: &str, value: &str| {
        let kept = good.iter().filter(|(key, _)| *key != changed);
        let mut lines: Vec<String> = kept.map(|(key, value)| format!("{key} = {value}")).collect();
        lines.extend((!value.is_empty()).then(|| format!("{changed} = {value}")));
        let text = lines.join("\n");
        format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"postgres\"\n{text}\n")
    };
    let config = parsed(&of("ordered", "true"));
    assert!(!config.to_toml().contains("hunter2") && !config.for_components().contains("hunter2"));
    parsed(&of(
        "url",
        "\"postgresql://shop@db.example/shop?sslmode=disable\"",
    ));
    let many = format!("[{}]", "\"id\", ".repeat(65));
    let long = format!("\"{}\"", "x".repeat(16_385));
    for (setting, key, value) in [
        ("url", "url", "\"postgres://db.example/shop\""),
        ("url", "url", "\"postgres://shop@db.example\""),
        ("url", "url", "\"postgres://shop@db.example/a/b\""),
        ("url", "url", "\"postgres://shop@db.example/shop?host=127.0.0.1\""),
        ("url", "url", "\"postgres://shop@db.example/shop?sslmode=prefer\""),
        ("url", "url", "\"postgres://shop:hunter2@db.example/shop\""),
        ("url", "url", "\"postgres://shop@10.0.0.1/shop\""),
        ("url", "url", "\"postgres:///shop\""),
        ("statement", "statement", ""),
        ("statement", "statement", "\" \""),
        ("statement", "statement", "\"a\\u0000b\""),
        ("statement", "statement", &long),
        ("parameters", "parameters", ""),
        ("parameters", "parameters", "[]"),
        ("parameters", "parameters", &many),
        ("parameters[1]", "parameters", "[\"id\", \"nobody\"]"),
        ("parameters[0]", "parameters", "[\"id.x\"]"),
        ("stream", "stream", "\"x\""),
        ("secret", "secret", "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
    ] {
        refused(&format!("topics.t.subscriptions[0].{setting}"), &of(key, value));
    }
    for line in ["statement = \"x\"", "parameters = [\"id\"]"] {
        let key = line.split(' ').next().unwrap_or_default();
        refused(
            &format!("topics.t.subscriptions[0].{key}"),
            &subscription_with(line),
        );
    }
}

#[test]
fn a_kafka_subscription_has_servers_and_perhaps_a_user_a_mechanism_and_a_topic() {
    let of = |lines: &str| format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"kafka\"\n{lines}\n");
    let url = "url = \"kafka+ssl://shop@kafka.example:9093/sign-ups\"";
    let config = parsed(&of(&format!(
        "{url}\npassword = \"hunter2\"\nmechanism = \"SCRAM-SHA-256\"\nbatch = 100"
    )));
    assert!(!config.to_toml().contains("hunter2") && !config.for_components().contains("hunter2"));
    for url in [
        "kafka://kafka.example",
        "kafka://kafka.example/",
        "kafka://a.example,b.example:9092/t",
        "kafka+ssl://shop@a.example:1,[2600::1]:2,c.example",
        "kafka://shop@[2600::1]:9092/a.b_c-D",
    ] {
        parsed(&of(&format!("url = \"{url}\"")));
    }
    for url in [
        "kafka://",
        "kafka://shop:hunter2@kafka.example",
        "kafka://a.example,,b.example",
        "kafka://a.example,10.0.0.1:9092",
        "kafka://kafka.example/a/b",
        "kafka://kafka.example/a%20b",
        "kafka://kafka.example?acks=0",
        "kafka://a%00b@kafka.example",
        "kafka://10.0.0.1",
        "http://kafka.example",
    ] {
        refused("topics.t.subscriptions[0].url", &of(&format!("url = \"{url}\"")));
    }
    let long = format!("url = \"kafka://kafka.example/{}\"", "x".repeat(250));
    refused("topics.t.subscriptions[0].url", &of(&long));
    for (key, lines) in [
        (
            "password",
            "url = \"kafka://kafka.example\"\npassword = \"hunter2\"",
        ),
        (
            "mechanism",
            "url = \"kafka://kafka.example\"\nmechanism = \"PLAIN\"",
        ),
        ("stream", "url = \"kafka://kafka.example\"\nstream = \"x\""),
        (
            "headers",
            "url = \"kafka://kafka.example\"\nheaders = { a = \"b\" }",
        ),
        (
            "retry.final",
            "url = \"kafka://kafka.example\"\nretry = { final = [400] }",
        ),
    ] {
        refused(&format!("topics.t.subscriptions[0].{key}"), &of(lines));
    }
    refused(
        "topics.t.subscriptions[0].mechanism",
        &subscription_with("mechanism = \"PLAIN\""),
    );
}

#[test]
fn a_subscription_of_objects_has_a_bucket_and_perhaps_a_key_a_prefix_and_a_region() {
    let of = |lines: &str| format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"s3\"\n{lines}\n");
    let url = "url = \"https://AKIA@s3.eu-central-1.amazonaws.com/sign-ups/raw/source=tollgate\"";
    let config = parsed(&of(&format!(
        "{url}\npassword = \"hunter2\"\nregion = \"eu-central-1\"\nbatch = 100"
    )));
    assert!(!config.to_toml().contains("hunter2") && !config.for_components().contains("hunter2"));
    parsed(&of("url = \"https://storage.example/public-bucket\""));
    for url in [
        "https://AKIA@s3.example",
        "https://AKIA@s3.example/ab",
        "https://AKIA@s3.example/Bucket",
        "https://AKIA@s3.example/bucket//x",
        "https://AKIA@s3.example/bucket/a%20b",
        "https://AKIA@s3.example/bucket?x=y",
        "https://AKIA:hunter2@s3.example/bucket",
        "https://a%2Fb@s3.example/bucket",
        "s3://bucket/x",
        "https://AKIA@10.0.0.1/bucket",
    ] {
        refused("topics.t.subscriptions[0].url", &of(&format!("url = \"{url}\"")));
    }
    let long = format!("url = \"https://AKIA@s3.example/bucket/{}\"", "x".repeat(513));
    refused("topics.t.subscriptions[0].url", &of(&long));
    refused(
        "topics.t.subscriptions[0].url",
        &of("url = \"https://s3.example/bucket\"\npassword = \"hunter2\""),
    );
    for (key, line) in [
        ("region", "region = \"\""),
        ("region", "region = \"EU\""),
        ("stream", "stream = \"x\""),
        ("secret", "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        ("retry.final", "retry = { final = [400] }"),
    ] {
        refused(
            &format!("topics.t.subscriptions[0].{key}"),
            &of(&format!("{url}\n{line}")),
        );
    }
    refused(
        "topics.t.subscriptions[0].region",
        &subscription_with("region = \"eu-central-1\""),
    );
}

#[test]
fn a_subscription_of_values_has_a_store_and_a_template_and_is_served_under_spin_alone() {
    let of =
        |lines: &str| format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"key-value\"\n{lines}\n");
    let url = "url = \"key-value://default\"";
    parsed(&of(&format!(
        "{url}\nkey = \"latest/{{key}}\"\npayload = \"reference\""
    )));
    let served = |on_spin: bool, text: &str| {
        let mut settings = Settings::parse(text, "t.toml").unwrap();
        settings.on_spin = on_spin;
        settings
            .ensure_served(text, "t.toml")
            .map_err(|error| error.to_string())
    };
    let (values, kafka) = (of(url), of(url).replace("key-value", "kafka"));
    assert_eq!((served(true, &values), served(false, &kafka)), (Ok(()), Ok(())));
    let refused_by_host = served(false, &values).unwrap_err();
    assert!(
        refused_by_host.starts_with("t.toml:3: topics.t.subscriptions[0].type: is for Spin"),
        "{refused_by_host}"
    );
    let refused_by_spin = served(true, &kafka).unwrap_err();
    assert!(
        refused_by_spin.contains("must be http or key-value"),
        "{refused_by_spin}"
    );
    for url in [
        "key-value:default",
        "key-value://",
        "key-value://a/b",
        "key-value://u@a",
        "redis://default",
        "https://default/",
    ] {
        refused("topics.t.subscriptions[0].url", &of(&format!("url = \"{url}\"")));
    }
    for (key, line) in [
        ("key", "key = \"\""),
        ("key", "key = \"{key}\""),
        ("key", "key = \"a/{nobody}\""),
        ("batch", "batch = 10"),
        ("password", "password = \"x\""),
        ("stream", "stream = \"x\""),
        ("secret", "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        ("retry.final", "retry = { final = [400] }"),
    ] {
        refused(
            &format!("topics.t.subscriptions[0].{key}"),
            &of(&format!("{url}\n{line}")),
        );
    }
    refused(
        "topics.t.subscriptions[0].key",
        &subscription_with("key = \"a/{id}\""),
    );
}

#[test]
fn a_subscription_of_mails_has_a_sender_templates_and_perhaps_a_second_server() {
    let good = [
        ("url", "\"smtps://shop@mail.example\""),
        ("password", "\"hunter2\""),
        ("fallback_url", "\"smtp://mail2.example:25\""),
        ("from", "\"Shop <shop@example.com>\""),
        ("to", "\"{{ data.email }}\""),
        ("subject", "\"Welcome\""),
        ("text", "\"Hello\""),
        ("html", "\"<p>Hello</p>\""),
    ];
    let of = |changed: &str, value: &str| {
        let kept = good.iter().filter(|(key, _)| *key != changed);
        let mut lines: Vec<String> = kept.map(|(key, value)| format!("{key} = {value}")).collect();
        lines.extend((!value.is_empty()).then(|| format!("{changed} = {value}")));
        let text = lines.join("\n");
        format!("[[topics.t.subscriptions]]\nname = \"s\"\ntype = \"smtp\"\n{text}\n")
    };
    let whole = of("ordered", "true");
    let config = parsed(&whole);
    assert!(!config.to_toml().contains("hunter2") && !config.for_components().contains("hunter2"));
    for (key, value) in [
        ("url", "\"smtps://mail.example\""),
        ("url", "\"smtp://u@mail.example/x\""),
        ("url", "\"smtp://u@10.0.0.1\""),
        ("fallback_url", "\"http://mail2.example\""),
        ("fallback_url", "\"smtp://127.1\""),
        ("from", ""),
        ("from", "\"shop\""),
        ("from", "\"a@b.c, d@e.f\""),
        ("from", "\"a@b.c\\nBcc: d@e.f\""),
        ("from", "\"Shop <a@b.c\""),
        ("to", ""),
        ("to", "\" \""),
        ("subject", ""),
        ("text", ""),
        ("batch", "10"),
        ("stream", "\"x\""),
        ("secret", "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        #[cfg(feature = "templates")]
        ("text", "\"{{ x\""),
        #[cfg(feature = "templates")]
        ("html", "\"{% include 'x' %}\""),
    ] {
        refused(&format!("topics.t.subscriptions[0].{key}"), &of(key, value));
    }
    let alone = of("fallback_url", "");
    parsed(&alone);
    refused(
        "topics.t.subscriptions[0].fallback_url",
        &format!("{alone}fallback_password = \"x\""),
    );
}

#[test]
fn final_statuses_are_bounded() {
    let of = |list: &str| {
        let text = format!(
            "[[topics.t.subscriptions]]\nname = \"s\"\nurl = \"https://example.com/\"\nretry = {{ final = {list} }}"
        );
        Settings::parse(&text, "t.toml").is_ok()
    };
    assert!(of("[]") && of("[400, 413, 422, 599]"));
    assert!(!of("[399]") && !of("[600]") && !of("[410]") && !of("[422, 422]") && !of("422"));
}

fn component_with(line: &str) -> String {
    let key = line.split_once(' ').map_or("", |(key, _)| key);
    let mut lines = vec!["[[components]]"];
    lines.extend(
        [
            "name = \"hello\"",
            "path = \"/hello/...\"",
            "source = \"hello.wasm\"",
        ]
        .iter()
        .filter(|l| l.split(' ').next() != Some(key)),
    );
    lines.push(line);
    lines.join("\n") + "\n"
}

#[test]
fn every_rule_of_a_component_is_checked() {
    for (key, line) in [
        ("name", "name = \"Hello\""),
        ("name", "name = \"a/b\""),
        ("path", "path = \"/...\""),
        ("path", "path = \"/:any\""),
        ("path", "path = \"/api/hello\""),
        ("path", "path = \"/health\""),
        ("strip_prefix", "strip_prefix = \"/\""),
        ("strip_prefix", "strip_prefix = \"/hell\""),
        ("strip_prefix", "strip_prefix = \"/other\""),
        ("source", "source = \"\""),
        ("memory", "memory = \"1KiB\""),
        ("memory", "memory = \"5GiB\""),
        ("timeout", "timeout = \"99ms\""),
        ("concurrency", "concurrency = 0"),
        ("concurrency", "concurrency = 257"),
        ("environment.\"a=b\"", "environment = { \"a=b\" = \"\" }"),
        (
            "allowed_outbound_hosts[1]",
            "allowed_outbound_hosts = [\"https://a.test\", \"a.test\"]",
        ),
        ("store_prefix", "store_prefix = \"app\""),
        ("store_prefix", "store_prefix = \"a b/\""),
    ] {
        refused(&format!("components[0].{key}"), &component_with(line));
    }
    refused(
        "components[1].name",
        &component_with("memory = \"1MiB\"").repeat(2),
    );
    let other = component_with("name = \"other\"");
    refused(
        "components[1].path",
        &format!("{}{other}", component_with("concurrency = 1")),
    );
}

#[test]
fn a_component_has_its_routes_before_the_short_links() {
    let text = component_with("environment = { TOKEN = \"hunter2\" }");
    let special = "[[components]]\nname = \"b\"\npath = \"/hello/:a/b\"\nsource = \"b\"\n";
    let settings = Settings::parse(&format!("{text}{special}"), "f").unwrap();
    assert_eq!(settings.hosted("/hello"), Some(0));
    assert_eq!(settings.hosted("/hello/x/b"), Some(1));
    assert_eq!(settings.hosted("/hello/a/b/c"), Some(0));
    assert_eq!(settings.hosted("/hellos"), None);
    assert_eq!(settings.component("/hello"), Component::Admin);
    assert_eq!(settings.component("/hellos"), Component::Shortener);
    assert!(crate::codes::is_reserved("Hello", &settings.config));
    assert_eq!(settings.config.components[0].store_prefix(), "app/hello/");
    // Its environment may hold secrets.
    assert!(!settings.config.to_toml().contains("hunter2"));
    assert!(!format!("{:?}", settings.config).contains("hunter2"));
    let bare = settings.config.without_secrets();
    assert!(bare.components[0].environment.is_empty());
    assert_eq!(parsed(&bare.to_toml()), bare);
}

#[test]
fn the_commented_component_of_the_sample_is_valid_and_equals_the_defaults() {
    let (_, rest) = SAMPLE.split_once("# [[components]]").unwrap();
    let (lines, _) = rest.split_once("\n\n").unwrap();
    let lines = lines.lines().map(|l| l.strip_prefix("# ").unwrap_or(l));
    let text: String = ["[[components]]"]
        .into_iter()
        .chain(lines)
        .map(|l| format!("{l}\n"))
        .collect();
    let mut shown = parsed(&text).components.remove(0);
    assert_eq!(shown.store_prefix, Some("app/hello/".into()));
    (shown.store_prefix, shown.environment) = (None, Default::default());
    assert_eq!(
        vec![shown],
        parsed(&component_with("concurrency = 16")).components
    );
}

#[test]
fn an_alerts_url_and_secret_are_shown_to_nobody() {
    const ALERT: &str = "[[alerts]]\nname = \"errors\"\nwhen = \"server_errors > 10 per 1m\"\n\
        url = \"https://hooks.example/services/T0/B0/hush\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    let config = parsed(ALERT);
    for shown in [
        config.to_toml(),
        config.without_secrets().to_toml(),
        format!("{config:?}"),
    ] {
        assert!(!shown.contains("hush") && !shown.contains("MfKQ9r8"), "{shown}");
    }
    for (setting, bad) in [
        ("name = \"errors\"", "name = \"Errors!\""),
        ("10 per 1m", "10 per 1d"),
        ("https://hooks.example", "ftp://hooks.example"),
        ("https://hooks.example", "http://127.0.0.1:9"),
        ("https://hooks.example", "http://localhost:3000"),
        ("whsec_", "whsec-"),
        ("[[alerts]]", "[[alerts]]\nevery = \"1ms\""),
        ("[[alerts]]", "[[alerts]]\nrepeat_after = \"1s\""),
    ] {
        let text = ALERT.replacen(setting, bad, 1);
        let error = Settings::parse(&text, "test").expect_err(bad).to_string();
        assert!(error.contains("alerts[0]") || error.contains("alerts"), "{error}");
        assert!(!error.contains("hush") && !error.contains("MfKQ9r8"), "{error}");
    }
}

#[test]
fn the_secret_of_a_route_is_masked_and_only_the_rules_have_it() {
    let text = "[[forward]]\npath = \"/s\"\ntopic = \"t\"\nverify = \"stripe\"\nsecret = \"whsec_of_stripe_0123\"\n\
         previous_secret = \"whsec_of_stripe_4567\"\n";
    let settings = Settings::parse(text, "f").unwrap();
    let config = &settings.config;
    for shown in [
        config.to_toml(),
        config.without_secrets().to_toml(),
        format!("{settings:?}"),
    ] {
        assert!(!shown.contains("of_stripe"), "{shown}");
    }
    let theirs = Settings::parse(&config.for_components(), "f").unwrap();
    assert_eq!(theirs.config.forward, config.forward);
    assert!(theirs.verifier(0).is_some());
}
