//! Postgres, with the server of that name, from Debian's binaries.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio_postgres::{Client, NoTls};
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::relay::restore;
use tollgate_store::commit::{Append, Commit, literal};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store as _;

use crate::contract::{Server, Taken, contract};
use crate::proxy::Proxy;
use crate::server::Process;
use crate::{PATIENCE, QUICK, append, dead, options, start, until, watermark};

const PASSWORD: &str = "correct horse";
const TABLE: &str = "CREATE TABLE sign_ups (n bigserial, id text PRIMARY KEY, key text, email text NOT NULL, at timestamptz, data jsonb)";
const STATEMENT: &str =
    "INSERT INTO sign_ups (id, key, email, at, data) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING";
const PARAMETERS: &str = "[\"id\", \"key\", \"data.email\", \"time\", \"data\"]";
/// Postgres refuses to be root.
const NOBODY: u32 = 65_534;

pub struct Postgres {
    process: Process,
    client: Client,
}

contract!(Postgres);

/// The newest of Debian's binaries.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok();
    let found = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|one| one.path().join("bin"));
    let newest = found.filter(|bin| bin.join("initdb").exists()).max();
    if newest.is_none() {
        eprintln!("skipped: there is no Postgres in /usr/lib/postgresql/*/bin");
    }
    newest
}

/// A command as a user that is not root.
fn unprivileged(program: &Path, directory: &Path) -> Vec<String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    let mut command = Vec::new();
    if is_root {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may");
        command = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ]
        .map(str::to_owned)
        .to_vec();
    }
    command.push(program.display().to_string());
    command
}

async fn connect(address: SocketAddr) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(address.port());
    config.user("postgres").password(PASSWORD).dbname("postgres");
    let mut made = None;
    until("Postgres answers", async || {
        made = config.connect(NoTls).await.ok();
        made.is_some()
    })
    .await;
    let (client, connection) = made.expect("it answered");
    tokio::spawn(connection);
    client
}

impl Postgres {
    async fn sql(&mut self, sql: &str) {
        if self.client.is_closed() {
            self.client = connect(self.process.address).await;
        }
        self.client.batch_execute(sql).await.expect(sql);
    }

    fn relay(&self, store: &Arc<InMemoryStore>, more: &str) -> tollgate_delivery::driver::Relay {
        let settings = self.settings(self.process.address);
        start(
            store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{more}")),
        )
    }
}

impl Server for Postgres {
    const DEDUPLICATES: bool = true;
    const MARKS: &'static [u8] = b"@example.com";

    async fn start() -> Option<Self> {
        let bin = binaries()?;
        let mut process = Process::start(|address, directory| {
            let (data, secret) = (directory.join("data"), directory.join("password"));
            std::fs::write(&secret, PASSWORD).expect("the directory is ours");
            let mut init = unprivileged(&bin.join("initdb"), directory);
            chown(
                &secret,
                Some(std::fs::metadata(directory).expect("ours").uid()),
                None,
            )
            .expect("ours");
            init.extend(
                [
                    "-A",
                    "scram-sha-256",
                    "-U",
                    "postgres",
                    "-E",
                    "UTF8",
                    "--locale=C",
                    "--no-sync",
                ]
                .map(str::to_owned),
            );
            init.extend([
                "-D".to_owned(),
                data.display().to_string(),
                format!("--pwfile={}", secret.display()),
            ]);
            let made = Command::new(&init[0])
                .args(&init[1..])
                .current_dir(directory)
                .output()
                .expect("it runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let mut run = unprivileged(&bin.join("postgres"), directory);
            let (data, socket) = (data.display(), directory.display());
            let arguments = format!(
                "-D {data} -k {socket} -c listen_addresses=127.0.0.1 -c port={}",
                address.port()
            );
            run.extend(arguments.split(' ').map(str::to_owned));
            run
        })
        .await;
        // At once, and without the processes of its connections.
        process.ends_by = Some("-QUIT");
        let client = connect(process.address).await;
        client.batch_execute(TABLE).await.expect("a table");
        Some(Self { process, client })
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!(
            "type = \"postgres\"\nurl = \"postgres://postgres@{address}/postgres?sslmode=disable\"\npassword = \"{PASSWORD}\"\n\
             statement = \"{STATEMENT}\"\nparameters = {PARAMETERS}"
        )
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn taken(&mut self) -> Vec<Taken> {
        self.sql("").await;
        let rows = self
            .client
            .query("SELECT id, key, email FROM sign_ups ORDER BY n", &[])
            .await;
        let rows = rows.expect("rows").into_iter().map(|row| Taken {
            id: row.get(0),
            key: row.get(1),
            data: row.get(2),
        });
        rows.collect()
    }

    /// It only reads meanwhile, as a replica does.
    async fn refuse(&mut self, refuses: bool) {
        let mode = if refuses { "on" } else { "off" };
        self.sql(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {mode}"
        ))
        .await;
        self.sql("SELECT pg_reload_conf()").await;
        until("it is told", async || {
            let shown = self
                .client
                .query_one("SHOW default_transaction_read_only", &[])
                .await;
            shown.is_ok_and(|row| row.get::<_, &str>(0) == mode)
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_has_what_the_statement_says_with_its_types() {
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let relay = server.relay(&store, QUICK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    server.sql("").await;
    let all = "SELECT id = 'm1' AND key = 'k0' AND at = '2027-01-15T08:00:00Z' AND data->>'email' = email FROM sign_ups";
    let row = server.client.query_one(all, &[]).await.expect("one row");
    assert!(row.get::<_, bool>(0));
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_row_that_the_table_refuses_is_a_dead_letter_and_its_batch_is_there() {
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    server
        .sql("ALTER TABLE sign_ups ADD CHECK (email NOT IN ('u7@example.com', 'u33@example.com'))")
        .await;
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=60, 60).await;
    // Text that no statement may hold, and a payload without what a column needs.
    for (id, payload) in [
        ("m61", "{\"email\":\"a\\u0000b\"}"),
        ("m62", "[]"),
        ("m63", "{\"email\":\"'); DROP TABLE sign_ups; --\"}"),
    ] {
        let append = Append {
            topic: "t".into(),
            id: id.into(),
            key: id.into(),
            kind: "x".into(),
            content_type: "application/json".into(),
            attributes: Vec::new(),
            payload: literal(payload.to_owned()),
        };
        let commit = Commit {
            appends: vec![append],
            ..Commit::default()
        };
        store.commit(commit).await.expect("appended");
    }
    let few = "retry = { initial = \"20ms\", cap = \"50ms\", max_attempts = 3 }";
    let relay = server.relay(&store, &format!("batch = 50\nbatch_interval = \"50ms\"\n{few}"));
    until("all are finished", async || watermark(&*store).await == 63).await;
    let mut letters: Vec<_> = dead(&store)
        .await
        .into_iter()
        .map(|letter| (letter.sequence, letter.last_error))
        .collect();
    letters.sort();
    let said = ["23514", "23514", "22", "23502"];
    assert_eq!(
        letters.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
        [7, 33, 61, 62],
        "{letters:?}"
    );
    for ((_, error), code) in letters.iter().zip(said) {
        assert!(error.contains(&format!("Postgres answered {code}")), "{error}");
    }
    let taken = server.taken().await;
    assert_eq!(taken.len(), 59, "each once");
    assert!(
        taken.iter().any(|one| one.data == "'); DROP TABLE sign_ups; --"),
        "a value is never part of the statement"
    );
    assert_eq!(
        relay.status()[0].machine.breaker,
        "closed",
        "the database is not to blame"
    );
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_batch_whose_commit_was_not_answered_is_there_once() {
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=90, 90).await;
    let proxy = Proxy::start(server.process.address, b"COMMIT").await;
    let settings = server.settings(proxy.address);
    proxy.loses(2);
    let more = format!("allow_private_addresses = true\nbatch = 30\nbatch_interval = \"50ms\"\n{QUICK}");
    let relay = start(&store, &options(&format!("{settings}\n{more}")));
    until("all is delivered", async || watermark(&*store).await == 90).await;
    assert_eq!((proxy.lost(), server.taken().await.len()), (2, 90));
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_subscription_is_told_and_costs_no_message() {
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    let store = Arc::new(InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let good = server.settings(server.process.address);
    let few = "retry = { initial = \"20ms\", cap = \"20ms\", max_attempts = 100 }";
    for (settings, said) in [
        (good.replace(PASSWORD, "hunter2"), "28P01"),
        // A server that has no TLS gets no login.
        (good.replace("?sslmode=disable", ""), "TLS"),
        (good.replace("INTO sign_ups", "INTO nobody"), "42P01"),
        (good.replace("VALUES ($1", "VALUES (("), "42601"),
        (
            good.replace(", $5", ", NULL"),
            "has 4 parameters, and parameters lists 5",
        ),
        (
            good.replace("DO NOTHING", "DO NOTHING; DELETE FROM sign_ups"),
            "42601",
        ),
    ] {
        let relay = start(
            &store,
            &options(&format!("{settings}\nallow_private_addresses = true\n{few}")),
        );
        until(said, async || {
            let keys = Keys::new("t", "s");
            let error = restore::last_error(&*store, &keys)
                .await
                .expect("readable")
                .unwrap_or_default();
            assert!(!error.contains("hunter2") && !error.contains(PASSWORD), "{error}");
            error.contains(said)
        })
        .await;
        relay.shutdown(PATIENCE).await;
    }
    assert!(dead(&store).await.is_empty());
    let relay = server.relay(&store, QUICK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    assert_eq!(server.taken().await.len(), 1);
    relay.shutdown(PATIENCE).await;
}
