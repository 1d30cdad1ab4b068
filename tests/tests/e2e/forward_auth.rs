//! Forward auth: other servers ask whether a request may go on. With the configurations of the guide, in front of a real origin.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{ADMIN_KEY, Gateway, Host, Origin, Program, eventually, free_port, root};

const SITE: &str = "[[limits]]\nname = \"cart\"\npath = \"/cart/...\"\nmethods = [\"POST\"]\nper = [\"ip\"]\ncapacity = 3\nrefill = 1\n\
    interval = \"1h\"\n\n[[access]]\nname = \"secret\"\naction = \"deny\"\npath = \"/secret/...\"";

pub async fn a_proxy_is_told_whether_a_request_may_go_on(host: Host) {
    let gateway = Gateway::start_trusting(host, "127.0.0.0/8", SITE).await;
    let ask = |path: &str, address: &str| {
        let call = gateway.get(path).header("x-forwarded-method", "POST");
        call.header("x-forwarded-uri", "/cart/1?x=1")
            .header("x-forwarded-for", address)
            .send()
    };
    for left in ["r=2", "r=1", "r=0"] {
        let answer = ask("/api/check", "203.0.113.7").await.expect(204);
        assert!(answer.header("ratelimit").contains(left), "{}", answer.shown());
    }
    let refused = ask("/api/check", "203.0.113.7").await;
    assert_eq!(refused.status, 429);
    let refused = ask("/api/check?deny=403", "203.0.113.7").await;
    assert_eq!(
        (refused.status, refused.header("x-tollgate-status")),
        (403, "429")
    );
    assert!(
        refused
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|wait| wait >= 1)
    );
    ask("/api/check", "203.0.113.8").await.expect(204);
    // Envoy: the original request is the one behind the prefix.
    let tail = gateway
        .post("/api/check/cart/2?deny=403")
        .header("x-forwarded-for", "203.0.113.9");
    tail.send().await.expect(200);
    let secret = gateway
        .get("/api/check/secret/1")
        .header("x-forwarded-for", "203.0.113.9");
    secret.send().await.problem(403, "forbidden");
}

pub async fn strangers_may_not_ask_about_others(host: Host) {
    let gateway = Gateway::start(host, SITE).await;
    for path in ["/api/check", "/api/check/cart/1"] {
        let call = gateway.get(path).header("x-forwarded-uri", "/cart/1");
        call.send().await.problem(403, "forbidden");
    }
}

pub async fn a_list_is_in_force_when_it_is_answered(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let path = "/api/access/blocked";
    let ask = || gateway.get("/api/nothing").client("mallory").send();
    let list = json!({ "action": "deny", "clients": ["id:mallory"] });
    gateway
        .put(path)
        .key(ADMIN_KEY)
        .json(&list)
        .send()
        .await
        .expect(201);
    if host.is_spin() {
        // The first of all is in force within a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    }
    for _ in 0..8 {
        ask().await.problem(403, "forbidden");
    }
    gateway.stop().await;
    gateway.restart().await;
    ask().await.problem(403, "forbidden");
    gateway.delete(path).key(ADMIN_KEY).send().await.expect(204);
    for _ in 0..8 {
        ask().await.problem(404, "not-found");
    }
    let bad = json!({ "action": "deny", "cidrs": ["10.0.0.0/40"] });
    gateway
        .put(path)
        .key(ADMIN_KEY)
        .json(&bad)
        .send()
        .await
        .names("#/cidrs/0");
}

/// The configuration of the guide in this language, for these servers.
fn configuration(language: &str, gateway: &Gateway, origin: &Origin, port: u16) -> String {
    let guide = fs::read_to_string(root().join("docs/guides/forward-auth.md")).expect("the guide");
    let begin = format!("```{language}\n");
    let block = guide
        .split(&begin)
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let gateway = gateway.address();
    let origin = origin.url("").trim_start_matches("http://").to_owned();
    let of = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
    block
        .expect("the guide has it")
        .replace("127.0.0.1:3000", &gateway)
        .replace("127.0.0.1:9000", &origin)
        .replace("port_value: 3000", &format!("port_value: {}", of(&gateway)))
        .replace("port_value: 9000", &format!("port_value: {}", of(&origin)))
        .replace("8080", &port.to_string())
}

/// A gateway, an origin, and this server in front of it. `None` where the program is absent, which is said.
async fn front(
    host: Host,
    language: &str,
    program: &str,
) -> Option<(Gateway, Origin, Program, String, tempfile::TempDir)> {
    let version = if program == "nginx" { "-v" } else { "version" };
    let version = if language == "yaml" { "--version" } else { version };
    let found = Command::new(program)
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {program} is not on this machine");
        return None;
    }
    let gateway = Gateway::start_trusting(host, "127.0.0.0/8", SITE).await;
    let (origin, port) = (Origin::start().await, free_port());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("configuration.yaml");
    let text = configuration(language, &gateway, &origin, port);
    let text = match language {
        "nginx" => format!(
            "daemon off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{}{text}\n}}\n",
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {kind};\n"))
                .concat()
        ),
        "caddy" => format!("{{\n    admin off\n    auto_https off\n}}\n{text}"),
        _ => text,
    };
    fs::write(&file, text).expect("the directory is ours");
    let program = Program::start(
        command(program, language, &file, directory.path()),
        directory.path(),
    );
    let base = format!("http://127.0.0.1:{port}");
    let first = format!("{base}/ready");
    eventually("the server in front answers", async || {
        let answer = reqwest::get(&first).await.ok()?;
        (answer.status() == 204).then_some(())
    })
    .await;
    Some((gateway, origin, program, base, directory))
}

fn command(program: &str, language: &str, file: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    match language {
        "nginx" => command
            .arg("-p")
            .arg(directory)
            .arg("-e")
            .arg("stderr")
            .arg("-c")
            .arg(file),
        "caddy" => command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(file),
        _ => command
            .args(["--log-level", "error", "--use-dynamic-base-id", "-c"])
            .arg(file),
    };
    // Caddy keeps what it remembers there.
    command
        .env("HOME", directory)
        .env("XDG_DATA_HOME", directory)
        .env("XDG_CONFIG_HOME", directory);
    command
}

/// Three are let through, the fourth is told how long to wait, and the origin sees no other; what is denied is a 403.
async fn is_limited(host: Host, language: &str, program: &str) {
    let Some((_gateway, origin, _program, base, _directory)) = front(host, language, program).await else {
        return;
    };
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for n in 0..3 {
        let answer = client
            .post(format!("{base}/cart/{n}?x=1"))
            .body("a body")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 204, "{n}");
    }
    let refused = client
        .post(format!("{base}/cart/3"))
        .body("a body")
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 429);
    let wait = refused
        .headers()
        .get("retry-after")
        .and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1..=3_600).contains(&wait)), "{wait:?}");
    let other = client
        .get(format!("{base}/cart/3"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 204, "another method");
    let denied = client
        .get(format!("{base}/secret/1"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(denied.status(), 403);
    let deliveries = origin.deliveries();
    let posts = deliveries.iter().filter(|one| &one.body[..] == b"a body");
    assert_eq!(posts.count(), 3);
}

pub async fn nginx_asks_before_it_answers(host: Host) {
    is_limited(host, "nginx", "nginx").await;
}

pub async fn caddy_asks_before_it_answers(host: Host) {
    is_limited(host, "caddy", "caddy").await;
}

pub async fn envoy_asks_before_it_answers(host: Host) {
    let envoy = std::env::var("TOLLGATE_ENVOY").unwrap_or_else(|_| "envoy".into());
    is_limited(host, "yaml", &envoy).await;
}
