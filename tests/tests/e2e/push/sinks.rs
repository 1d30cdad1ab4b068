//! Subscriptions of other types than `http`, through the whole gateway: made over HTTP, served after a kill, shown without secrets.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;

use super::{SIGN_UPS, sign_up};
use crate::harness::{ADMIN_KEY, Gateway, Host, Program, eventually, free_port};

const MADE: &str = "/api/topics/signup/subscriptions/made";
const PASSWORD: &str = "correct-horse";

/// Whether this program can be run; says so where not.
fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let ran = command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is = ran.is_ok_and(|status| status.success());
    if !is {
        eprintln!("skipped: {program} is not on this machine");
    }
    is
}

/// 200 sign-ups come, the gateway is killed in the middle, and the stream has each of them once.
pub async fn a_redis_stream_gets_every_sign_up_once(host: Host) {
    if !is_installed("redis-server") || !is_installed("redis-cli") {
        return;
    }
    let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port().to_string());
    let mut server = Command::new("redis-server");
    server
        .args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            PASSWORD,
            "--dir",
        ])
        .arg(directory.path());
    let _server = Program::start(server, directory.path());
    let ask = |arguments: &[&str]| {
        let mut client = Command::new("redis-cli");
        client
            .args(["-p", &port, "--no-auth-warning", "-a", PASSWORD])
            .args(arguments);
        String::from_utf8(client.output().expect("it runs").stdout).expect("UTF-8")
    };
    eventually("Redis answers", async || {
        ask(&["PING"]).starts_with("PONG").then_some(())
    })
    .await;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let body = json!({
        "type": "redis", "url": format!("redis://127.0.0.1:{port}/0"), "password": PASSWORD, "stream": "sign-ups",
        "allowPrivateAddresses": true, "ratePerSecond": 2_000,
        "retry": { "initialSeconds": 1, "factor": 1.0, "capSeconds": 1, "maxAttempts": 50 },
    });
    let made = gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&body)
        .send()
        .await
        .expect(201);
    let read = gateway.get(MADE).key(ADMIN_KEY).send().await.expect(200);
    assert!(
        !made.text().contains(PASSWORD) && !read.text().contains(PASSWORD),
        "{}",
        read.shown()
    );
    assert_eq!(
        (&read.json()["type"], &read.json()["stream"]),
        (&json!("redis"), &json!("sign-ups"))
    );
    let sample = gateway
        .post(&format!("{MADE}/test"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200);
    assert_eq!(sample.json()["delivered"], json!(true), "{}", sample.shown());
    let killing = Arc::clone(&gateway);
    let kill = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        killing.kill();
        killing.restart().await;
    });
    let accepted = sign_up(&gateway, SIGN_UPS).await;
    kill.await.expect("it was killed");
    let ids: BTreeSet<String> = accepted.into_values().collect();
    let entries = eventually("the stream has every message", async || {
        let entries = ask(&["XRANGE", "sign-ups", "-", "+"]);
        ids.iter()
            .all(|id| entries.lines().any(|line| line == id))
            .then_some(entries)
    })
    .await;
    for id in &ids {
        assert_eq!(
            entries.lines().filter(|line| line == id).count(),
            1,
            "{id} is there once"
        );
    }
    let log = gateway.stderr();
    assert!(!log.contains(PASSWORD), "{log}");
}

/// Nothing leaves a component but HTTP: said of the field, where it is asked for.
pub async fn other_types_than_http_are_refused_under_spin(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({ "type": "redis", "url": "redis://cache.example/" });
    let answer = gateway.put(MADE).key(ADMIN_KEY).json(&body).send().await;
    let problem = answer.problem(400, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], json!("#/type"));
}
