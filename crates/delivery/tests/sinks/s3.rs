//! S3, with moto (Python) behind a script that checks signatures and keeps what it has.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::relay::restore;
use tollgate_store::memory::InMemoryStore;

use crate::contract::{Server, Taken, contract};
use crate::server::{Process, is_installed};
use crate::{PATIENCE, QUICK, append, dead, options, start, until, watermark};

const ACCESS_KEY: &str = "AKIATEST";
const SECRET_KEY: &str = "correct horse/+";
const BUCKET: &str = "sign-ups";

/// Its interpreter, with moto: `TOLLGATE_MOTO`, or that of the machine.
fn python() -> String {
    std::env::var("TOLLGATE_MOTO").unwrap_or_else(|_| "python3".to_owned())
}

pub struct S3(Process);

contract!(S3);

/// The body of an answer.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let asked = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(" 200 "), "{path}: {answer}");
    body.to_owned()
}

impl S3 {
    /// The names of its objects, sorted.
    async fn names(&self) -> Vec<String> {
        let list = get(self.0.address, &format!("/{BUCKET}?list-type=2")).await;
        let names = list
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split_once("</Key>"));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    async fn lines(&self) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        for name in self.names().await {
            let object = get(self.0.address, &format!("/{BUCKET}/{name}")).await;
            assert!(object.ends_with('\n'), "{object}");
            lines.extend(
                object
                    .lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON")),
            );
        }
        lines
    }

    fn relay(&self, store: &Arc<InMemoryStore>, more: &str) -> tollgate_delivery::driver::Relay {
        let settings = self.settings(self.0.address);
        start(
            store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{more}")),
        )
    }
}

impl Server for S3 {
    const DEDUPLICATES: bool = true;
    const MARKS: &'static [u8] = b"@example.com";

    async fn start() -> Option<Self> {
        if !is_installed(&python(), "--version") {
            return None;
        }
        let has = Command::new(python()).args(["-c", "import moto.server"]).output();
        if !has.is_ok_and(|ran| ran.status.success()) {
            eprintln!("skipped: moto's server is not installed");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sinks/s3_server.py");
        let process = Process::start(|address, directory| {
            let [script, directory] = [&*script, directory].map(|path| path.display().to_string());
            let port = address.port().to_string();
            let all = [
                &*python(),
                &script,
                &port,
                &directory,
                BUCKET,
                ACCESS_KEY,
                SECRET_KEY,
            ];
            all.map(str::to_owned).to_vec()
        })
        .await;
        Some(Self(process))
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!(
            "type = \"s3\"\nurl = \"http://{ACCESS_KEY}@{address}/{BUCKET}/raw/source=tollgate\"\npassword = \"{SECRET_KEY}\"\nregion = \"eu-central-1\""
        )
    }

    fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    /// By sequence: objects have names, and no order.
    async fn taken(&mut self) -> Vec<Taken> {
        let mut lines = self.lines().await;
        lines.sort_by_key(|line| line["sequence"].as_u64());
        let taken = lines.iter().map(|line| Taken {
            id: line["id"].as_str().expect("a text").to_owned(),
            key: line["key"].as_str().expect("a text").to_owned(),
            data: line["data"].to_string(),
        });
        taken.collect()
    }

    async fn refuse(&mut self, refuses: bool) {
        let file = self.0.directory.path().join("refuse");
        match refuses {
            true => std::fs::write(file, "").expect("the directory is ours"),
            false => std::fs::remove_file(file).expect("it is there"),
        }
    }
}

#[tokio::test]
async fn a_batch_is_an_object_of_lines_whose_name_says_what_it_has() {
    let Some(server) = S3::start().await else { return };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=40, 40).await;
    let relay = server.relay(&store, &format!("batch = 40\nbatch_interval = \"2s\"\n{QUICK}"));
    until("it is delivered", async || watermark(&*store).await == 40).await;
    let names = server.names().await;
    let begin = "raw/source=tollgate/t/2027-01-15/00000000000000000001-00000000000000000040-";
    assert!(names.len() == 1 && names[0].starts_with(begin), "{names:?}");
    let lines = server.lines().await;
    let sequences: Vec<_> = lines
        .iter()
        .filter_map(|line| line["sequence"].as_u64())
        .collect();
    assert_eq!(sequences, (1..=40).collect::<Vec<_>>());
    assert_eq!(lines[6]["data"]["email"], "u7@example.com");
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_subscription_is_told_and_costs_no_message() {
    let Some(server) = S3::start().await else { return };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let good = server.settings(server.0.address);
    let few = "retry = { initial = \"20ms\", cap = \"20ms\", max_attempts = 100 }";
    for (settings, said) in [
        (good.replace(SECRET_KEY, "hunter2"), "403 SignatureDoesNotMatch"),
        (
            good.replace(&format!("{ACCESS_KEY}@"), "nobody@"),
            "403 InvalidAccessKeyId",
        ),
        (
            good.replace(&format!("password = \"{SECRET_KEY}\"\n"), ""),
            "password: is needed",
        ),
        (
            good.replace(&format!("/{BUCKET}/"), "/nobodys/"),
            "404 NoSuchBucket",
        ),
    ] {
        let relay = start(
            &store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{few}")),
        );
        until(said, async || {
            let error = restore::last_error(&*store, &Keys::new("t", "s")).await;
            let error = error.expect("readable").unwrap_or_default();
            assert!(
                !error.contains("hunter2") && !error.contains("Signature="),
                "{error}"
            );
            error.contains(said)
        })
        .await;
        relay.shutdown(PATIENCE).await;
    }
    assert!(dead(&store).await.is_empty() && server.names().await.is_empty());
    let relay = server.relay(&store, QUICK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    assert_eq!(server.names().await.len(), 1);
    relay.shutdown(PATIENCE).await;
}
