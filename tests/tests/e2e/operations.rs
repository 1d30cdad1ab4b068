//! Running it: health, request ids, an orderly end, and errors before the start.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    ADMIN_KEY, Connection, Gateway, Host, Serve, address, binary, crowd, eventually, unique,
};

const END: Duration = Duration::from_secs(30);
/// How often it is stopped under load.
const SIGTERMS: usize = 5;
const CLIENTS: usize = 32;

pub async fn health_is_told(host: Host) {
    let gateway = Gateway::shared(host).await;
    for (path, status) in [("/health/live", "live"), ("/health/ready", "ready")] {
        let answer = gateway.get(path).send().await.expect(200);
        assert_eq!(answer.json()["status"], status, "{}", answer.shown());
        gateway.head(path).send().await.expect(200);
    }
    let robots = gateway.get("/robots.txt").send().await.expect(200);
    assert!(robots.text().contains("Disallow: /api/"), "{}", robots.shown());
}

pub async fn sane_request_ids_are_kept_and_others_replaced(host: Host) {
    let gateway = Gateway::shared(host).await;
    let ask = async |id: &str| -> String {
        let answer = gateway
            .get("/health/live")
            .header("x-request-id", id)
            .send()
            .await
            .expect(200);
        answer.header("x-request-id").to_owned()
    };
    for sane in ["a", "trace-1.2_3", &"x".repeat(128)] {
        assert_eq!(ask(sane).await, sane);
    }
    for insane in ["two words", "a\"b", "<script>", "a,b", &"x".repeat(129)] {
        let replaced = ask(insane).await;
        assert!(!replaced.is_empty() && replaced != insane, "{insane}: {replaced}");
    }
    let mut fresh = BTreeSet::new();
    for path in [
        "/health/live",
        "/api/links",
        "/nothing",
        "/api/keys",
        "/api/topics",
        "/api/campaigns",
        "/a/b",
    ] {
        let answer = gateway.get(path).send().await;
        assert!(
            fresh.insert(answer.header("x-request-id").to_owned()),
            "used twice: {}",
            answer.shown()
        );
    }
    // Problems carry it too.
    let problem = gateway
        .get("/api/links")
        .header("x-request-id", "mine")
        .send()
        .await;
    problem.problem(401, "unauthorized");
    assert_eq!(problem.header("x-request-id"), "mine");
}

pub async fn http_2_is_spoken(host: Host) {
    let gateway = Gateway::shared(host).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .expect("a client");
    let gateway = Arc::new(gateway);
    let answers = crowd(50, 0..50, |_| {
        gateway
            .call_through(&client, reqwest::Method::GET, "/api/campaigns/nothing")
            .send()
    })
    .await;
    for answer in answers {
        answer.problem(404, "not-found");
    }
}

/// Claims on connections of their own, a few on each, until nobody takes connections any more. Gives how many were
/// admitted.
async fn claim_on_connections(address: String, client: usize, stopping: Arc<AtomicBool>) -> u64 {
    let line = "POST /api/campaigns/load/claims";
    let mut admitted = 0;
    for n in 0.. {
        let Ok(mut connection) = Connection::open(&address).await else {
            assert!(stopping.load(Ordering::SeqCst), "no connection");
            return admitted;
        };
        for turn in 0..4 {
            let request = format!(
                "{line} HTTP/1.1\r\nhost: short.test\r\nx-user-id: {client}-{n}-{turn}\r\n\
                 content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            let sent = connection.send(request.as_bytes()).await;
            // From here on, the gateway's system has all of it.
            let in_time = sent.is_ok() && !stopping.load(Ordering::SeqCst);
            match connection.answer(line).await {
                Ok(answer) => {
                    let last = answer.maybe_header("connection") == Some("close");
                    answer.expect(201);
                    admitted += 1;
                    if last {
                        break;
                    }
                }
                Err(part) => {
                    assert!(
                        !in_time,
                        "sent before SIGTERM, and not answered (request {turn} of its connection)"
                    );
                    assert!(part.is_empty(), "cut: {}", String::from_utf8_lossy(&part));
                    break;
                }
            }
        }
    }
    admitted
}

pub async fn sigterm_under_load_cuts_nothing_that_was_sent(host: Host) {
    let gateway = Gateway::start(host, "").await;
    gateway.campaign(1_000_000, json!({ "id": "load" })).await;
    let mut heard = 0;
    for _ in 0..SIGTERMS {
        let stopping = Arc::new(AtomicBool::new(false));
        let clients = crowd(CLIENTS, 0..CLIENTS, |_| {
            let client = usize::try_from(fastrand::u32(..)).unwrap_or(0);
            claim_on_connections(gateway.address(), client, Arc::clone(&stopping))
        });
        let stop = async {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..300))).await;
            stopping.store(true, Ordering::SeqCst);
            gateway.stop().await
        };
        let (admitted, status) = tokio::join!(clients, stop);
        assert_eq!(status.code(), Some(0));
        heard += admitted.iter().sum::<u64>();
        gateway.restart().await;
    }
    let state = gateway.get("/api/campaigns/load").send().await.expect(200).json();
    assert!(heard > 0);
    assert_eq!(
        state["admitted"], heard,
        "every claim that was admitted was answered"
    );
}

pub async fn slow_request_is_answered_after_sigterm(host: Host) {
    let gateway = Arc::new(Gateway::start(host, "").await);
    let topic = unique("draining");
    let path = format!("/api/topics/{topic}/messages?wait=5");
    let waiting = tokio::spawn(gateway.get(&path).key(ADMIN_KEY).send());
    // Long enough to be accepted, on a busy machine too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    assert_eq!(gateway.stop().await.code(), Some(0));
    let answer = waiting
        .await
        .expect("the request was accepted, so it is answered");
    assert!(answer.status == 200 || answer.status == 503, "{}", answer.shown());
}

/// A supervisor may stop it at any moment: as soon as it says that it starts, or that it listens.
pub async fn sigterm_while_it_starts_ends_it_in_order(host: Host) {
    let gateway = Gateway::start(host, "").await;
    assert!(gateway.stop().await.success());
    let serve = Serve::with_key(ADMIN_KEY);
    for round in 0..2 * SIGTERMS {
        let mut program = serve.start(gateway.directory());
        if round % 2 == 0 {
            eventually("it says that it starts", async || {
                program.stderr().contains("starting").then_some(())
            })
            .await;
        } else {
            let listening = program.line(address, END).await;
            listening.unwrap_or_else(|why| panic!("it did not start: {why}"));
        }
        program.signal(Signal::TERM);
        let status = program.exit(END).await.expect("it ends by itself");
        assert_eq!(status.code(), Some(0), "{status}:\n{}", program.tail());
        assert!(program.stderr().contains("stopped"), "{}", program.tail());
    }
}

pub async fn second_process_on_the_same_store_is_refused(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let mut second = Serve::with_key(ADMIN_KEY).start(gateway.directory());
    let status = second.exit(END).await.expect("it ends by itself");
    assert!(!status.success());
    let told = second.stderr();
    assert!(
        told.contains("tollgate.db") || told.contains("data"),
        "it names what is in use: {told}"
    );
    assert!(
        told.to_lowercase().contains("another") || told.contains("in use") || told.contains("lock"),
        "{told}"
    );
    gateway.get("/health/ready").send().await.expect(200);
    gateway.key(&["links"]).await;
}

pub async fn broken_settings_are_named_by_file_line_and_key(host: Host) {
    assert_eq!(host, Host::Native);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let file = directory.path().join("broken.toml");
    for (text, line, key) in [
        ("[server]\nlisten = 5\n", 2, "server.listen"),
        ("[links]\n\ncode_length = 99\n", 3, "links.code_length"),
        ("[links]\ncolour = \"red\"\n", 2, "links.colour"),
        (
            "[[limits]]\nname = \"a\"\ncapacity = 0\nrefill = 1\n",
            3,
            "limits[0].capacity",
        ),
        ("[clients]\nheader = \n", 2, ""),
        (
            "[[forward]]\npath = \"nowhere\"\ntopic = \"t\"\n",
            2,
            "forward[0].path",
        ),
    ] {
        fs::write(&file, text).expect("the file is ours");
        for command in ["check", "serve"] {
            let mut program = Command::new(binary());
            program
                .arg(command)
                .arg("--config")
                .arg(&file)
                .current_dir(directory.path());
            if command == "serve" {
                program
                    .arg("--data")
                    .arg(directory.path().join("data"))
                    .args(["--listen", "127.0.0.1:0"]);
            }
            let output = program.output().expect("the binary runs");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{command}: {text}");
            assert!(
                told.contains(&format!("broken.toml:{line}")),
                "{command}: {text}\n{told}"
            );
            assert!(told.contains(key), "{command}: {text}\n{told}");
        }
    }
    assert!(
        !directory.path().join("data").exists(),
        "nothing is made before the settings are sound"
    );
}

pub async fn check_prints_what_is_in_force(host: Host) {
    assert_eq!(host, Host::Native);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
    let file = directory.path().join("good.toml");
    fs::write(&file, "[links]\ncode_length = 9\n").expect("the file is ours");
    let output = Command::new(binary())
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .expect("the binary runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.contains("code_length = 9") && printed.contains("redirect = 302"),
        "{printed}"
    );
    // What it prints can be used as a configuration.
    fs::write(&file, &printed).expect("the file is ours");
    let again = Command::new(binary())
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .expect("the binary runs");
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}
