//! SMTP, with aiosmtpd (Python) behind a script that writes down what it takes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::contract::{Server, Taken, holds};
use crate::server::{Process, is_installed};
use crate::{PATIENCE, QUICK, append, dead, options, start, until, watermark};

/// Its interpreter, with aiosmtpd: `TOLLGATE_AIOSMTPD`, or that of the machine.
fn python() -> String {
    std::env::var("TOLLGATE_AIOSMTPD").unwrap_or_else(|_| "python3".to_owned())
}

pub struct Smtp(Process);

holds! { Smtp:
    what_is_accepted_is_there_once_and_in_order
    a_server_that_refuses_gets_all_when_it_takes_again
    a_server_that_is_gone_gets_the_rest_when_it_returns
    a_server_that_says_nothing_is_waited_for_no_longer_than_allowed
    a_lost_answer_makes_no_second_message_where_the_target_can_tell
    an_orderly_stop_repeats_nothing_and_a_start_goes_on
    a_private_address_is_not_connected_to_unless_it_may_be
}

const TEMPLATES: &str = "from = \"Shop <shop@example.com>\"\nto = \"{{ data.email }}\"\nsubject = \"Welcome {{ id }}\"\n\
     text = \"{{ id }} {{ key }} {{ data.email }}\\n.\\nbye\"\nhtml = \"<p>{{ data.email }}</p>\"";

impl Smtp {
    /// What it took, as its script wrote it down.
    fn mails(&self) -> Vec<serde_json::Value> {
        let taken = std::fs::read_to_string(self.0.directory.path().join("taken")).unwrap_or_default();
        let whole = taken.lines().filter_map(|line| serde_json::from_str(line).ok());
        whole.collect()
    }

    fn answers(&self, to: &str, with: Option<&str>) {
        let file = self.0.directory.path().join(to);
        match with {
            Some(answer) => std::fs::write(file, answer).expect("the directory is ours"),
            None => drop(std::fs::remove_file(file)),
        }
    }
}

impl Server for Smtp {
    const DEDUPLICATES: bool = false;
    const MARKS: &'static [u8] = b"\r\n.\r\n";

    async fn start() -> Option<Self> {
        if !is_installed(&python(), "--version") {
            return None;
        }
        let has = Command::new(python()).args(["-c", "import aiosmtpd"]).output();
        if !has.is_ok_and(|ran| ran.status.success()) {
            eprintln!("skipped: aiosmtpd is not installed");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sinks/mail_server.py");
        let process = Process::start(|address, directory| {
            let [script, directory] = [&*script, directory].map(|path| path.display().to_string());
            vec![python(), script, address.port().to_string(), directory]
        })
        .await;
        Some(Self(process))
    }

    fn settings(&self, address: SocketAddr) -> String {
        format!("type = \"smtp\"\nurl = \"smtp://{address}\"\n{TEMPLATES}")
    }

    fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    async fn taken(&mut self) -> Vec<Taken> {
        let mails = self.mails().into_iter().map(|mail| {
            let text = mail["text"].as_str().unwrap_or_default().to_owned();
            let mut words = text.split_whitespace().map(str::to_owned);
            Taken {
                id: words.next().unwrap_or_default(),
                key: words.next().unwrap_or_default(),
                data: words.next().unwrap_or_default(),
            }
        });
        mails.collect()
    }

    async fn refuse(&mut self, refuses: bool) {
        self.answers("DATA", refuses.then_some("451 try again later"));
    }
}

fn relay_of(
    server: &Smtp,
    store: &std::sync::Arc<tollgate_store::memory::InMemoryStore>,
    more: &str,
) -> tollgate_delivery::driver::Relay {
    let settings = server.settings(server.0.address);
    start(
        store,
        &options(&format!("{settings}\nallow_private_addresses = true\n{more}")),
    )
}

#[tokio::test]
async fn a_mail_says_what_its_templates_say() {
    let Some(server) = Smtp::start().await else { return };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    let relay = relay_of(&server, &store, QUICK);
    until("it is delivered", async || watermark(&*store).await == 1).await;
    let mail = server.mails().remove(0);
    assert_eq!(
        mail["envelope"],
        serde_json::json!(["shop@example.com", ["u1@example.com"]])
    );
    assert_eq!(mail["headers"]["From"], "Shop <shop@example.com>");
    assert_eq!(mail["headers"]["To"], "u1@example.com");
    assert_eq!(mail["headers"]["Subject"], "Welcome m1");
    assert_eq!(mail["headers"]["Message-ID"], "<m1@localhost>");
    assert_eq!(mail["headers"]["Auto-Submitted"], "auto-generated");
    assert!(
        mail["headers"]["Date"]
            .as_str()
            .expect("a date")
            .contains("15 Jan 2027 08:00:00")
    );
    assert!(
        mail["html"]
            .as_str()
            .expect("a page")
            .contains("<p>u1@example.com</p>")
    );
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_final_answer_is_final_and_a_deferral_is_not() {
    let Some(server) = Smtp::start().await else { return };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    append(&*store, 1..=1, 1).await;
    server.answers("RCPT", Some("550 no such user here"));
    let relay = relay_of(&server, &store, QUICK);
    until("it is given up", async || dead(&store).await.len() == 1).await;
    let letter = dead(&store).await.remove(0);
    assert_eq!(letter.attempts, 1);
    assert!(
        letter.last_error.contains("550 no such user here"),
        "{}",
        letter.last_error
    );
    server.answers("RCPT", Some("450 busy"));
    append(&*store, 2..=2, 1).await;
    until("it is tried again", async || relay.status()[0].attempts > 3).await;
    server.answers("RCPT", None);
    until("it is delivered", async || watermark(&*store).await == 2).await;
    assert_eq!(server.mails().len(), 1);
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_second_server_takes_what_the_first_defers_or_does_not_get() {
    let (Some(mut first), Some(second)) = (Smtp::start().await, Smtp::start().await) else {
        return;
    };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    let more = format!("fallback_url = \"smtp://{}\"\n{QUICK}", second.0.address);
    let relay = relay_of(&first, &store, &more);
    append(&*store, 1..=1, 1).await;
    until("the first takes it", async || watermark(&*store).await == 1).await;
    assert_eq!((first.mails().len(), second.mails().len()), (1, 0));
    first.answers("DATA", Some("451 later"));
    append(&*store, 2..=2, 1).await;
    until("the second takes it", async || watermark(&*store).await == 2).await;
    first.process().kill();
    append(&*store, 3..=3, 1).await;
    until("the second takes it", async || watermark(&*store).await == 3).await;
    assert_eq!((first.mails().len(), second.mails().len()), (1, 2));
    until("it is counted", async || relay.status()[0].delivered == 3).await;
    assert_eq!(relay.status()[0].attempts, 3, "no attempt was in vain");
    relay.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn no_field_of_a_message_adds_a_header_or_a_recipient() {
    let Some(server) = Smtp::start().await else { return };
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    let hostile = [
        "a@example.com\\r\\nBcc: evil@example.com",
        "a@example.com, evil@example.com",
        "a@example.com>\\r\\nRCPT TO:<evil@example.com",
        "a@example.com\\nX-Evil: 1",
        "\\\"a\\\" <a@example.com>, evil@example.com",
        "",
        "nobody",
    ];
    for (n, email) in hostile.iter().enumerate() {
        let append = tollgate_store::commit::Append {
            topic: "t".into(),
            id: format!("m{n}\r\nX-Evil: 2"),
            key: format!("k{n}"),
            kind: "x".into(),
            content_type: "application/json".into(),
            attributes: Vec::new(),
            payload: tollgate_store::commit::literal(format!("{{\"email\":\"{email}\"}}")),
        };
        let commit = tollgate_store::commit::Commit {
            appends: vec![append],
            ..Default::default()
        };
        use tollgate_store::ports::Store as _;
        store.commit(commit).await.expect("appended");
    }
    let relay = relay_of(&server, &store, QUICK);
    until("all are finished", async || {
        watermark(&*store).await == hostile.len() as u64
    })
    .await;
    assert_eq!(dead(&store).await.len(), hostile.len(), "{:?}", server.mails());
    assert!(server.mails().is_empty());
    // What is no address may be in a subject, and stays one line of it.
    let settings = server.settings(server.0.address);
    let settings = settings.replace("to = \"{{ data.email }}\"", "to = \"a@example.com\"");
    let settings = settings.replace("Welcome {{ id }}", "Welcome {{ data.email }} {{ id }}");
    relay.shutdown(PATIENCE).await;
    let store = std::sync::Arc::new(tollgate_store::memory::InMemoryStore::new());
    let append = tollgate_store::commit::Append {
        topic: "t".into(),
        id: "m1\r\nX-Evil: 2".into(),
        key: "k".into(),
        kind: "x".into(),
        content_type: "application/json".into(),
        attributes: Vec::new(),
        payload: tollgate_store::commit::literal(format!("{{\"email\":\"{}\"}}", hostile[0])),
    };
    use tollgate_store::ports::Store as _;
    let commit = tollgate_store::commit::Commit {
        appends: vec![append],
        ..Default::default()
    };
    store.commit(commit).await.expect("appended");
    let relay = start(
        &store,
        &options(&format!("{settings}\nallow_private_addresses = true\n{QUICK}")),
    );
    until("it is delivered", async || watermark(&*store).await == 1).await;
    let mail = server.mails().remove(0);
    assert_eq!(mail["envelope"][1], serde_json::json!(["a@example.com"]));
    for header in ["Bcc", "X-Evil"] {
        assert!(mail["headers"].get(header).is_none(), "{mail}");
    }
    relay.shutdown(PATIENCE).await;
}
