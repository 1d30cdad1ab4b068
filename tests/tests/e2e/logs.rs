//! The log: it holds up nothing, and strangers do not write it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{ADMIN_KEY, Gateway, Host, Serve, address, binary, crowd, eventually};

/// The preface and an empty SETTINGS frame (RFC 9113, section 3.4).
const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A PING frame with ACK set, which nobody asked for (section 6.7).
const PING_ACK: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0unasked!";
const CONNECTIONS: usize = 2;
/// How many of them each connection sends.
const PINGS: usize = 500_000;
/// How much the log may grow by them, bytes.
const MOST_LOGGED: usize = 32 << 10;
const END: Duration = Duration::from_secs(30);
/// An answer comes at once, on a busy machine too.
const SOON: Duration = Duration::from_secs(10);

/// Sends so many of them, or fewer if the gateway ends the connection.
async fn flood(address: String, pings: usize) {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok(1..) = reader.read(&mut buffer).await {}
    });
    let batch = PING_ACK.repeat(1_000);
    let mut open = writer.write_all(START).await.is_ok();
    for _ in 0..pings / 1_000 {
        open = open && writer.write_all(&batch).await.is_ok();
    }
    drop(writer);
    let _ = timeout(END, reading).await;
}

pub async fn strangers_do_not_fill_the_log(host: Host) {
    // By default libraries log errors only; who asks for more gets a line, and how often it came.
    for (log, is_told) in [("", false), ("info", true)] {
        let serve = Serve {
            log: log.into(),
            ..Serve::with_key(ADMIN_KEY)
        };
        let gateway = Gateway::start_as(host, serve, "").await;
        let before = gateway.stderr().len();
        crowd(CONNECTIONS, 0..CONNECTIONS, |_| flood(gateway.address(), PINGS)).await;
        gateway.get("/health/ready").send().await.expect(200);
        if is_told {
            eventually("what was left out is counted", async || {
                gateway.stderr().contains("more times within").then_some(())
            })
            .await;
        }
        let log = gateway.stderr();
        let grown = log.len() - before;
        assert!(
            grown < MOST_LOGGED,
            "{grown} bytes:\n{}",
            &log[log.len() - 2_000..]
        );
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
        }
    }
}

pub async fn a_reader_of_the_log_that_is_stuck_holds_up_nothing(host: Host) {
    // With nothing to clean up.
    let gateway = Gateway::start(host, "").await;
    assert!(gateway.stop().await.success());
    let directory = gateway.directory();
    let mut child = Command::new(binary())
        .args(["serve", "--config"])
        .arg(directory.join("tollgate.toml"))
        .arg("--data")
        .arg(directory.join("data"))
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(directory)
        .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
        // A line for each frame.
        .env("RUST_LOG", "info,h2=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Held, and never read.
    let stderr = child.stderr.take().expect("it is a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let line = lines.next().expect("it starts").expect("it is text");
    let base = address(&line).expect("it says where it listens");
    let address = base.trim_start_matches("http://").to_owned();
    // A megabyte waits at most: this is thirty.
    crowd(CONNECTIONS, 0..CONNECTIONS, |_| flood(address.clone(), PINGS / 5)).await;
    let asked = Instant::now();
    for path in ["/health/ready", "/nothing", "/api/campaigns/nothing"] {
        let answer = timeout(SOON, reqwest::get(format!("{base}{path}"))).await;
        let answer = answer.unwrap_or_else(|_| panic!("{path}: no answer"));
        answer.expect("an answer");
    }
    assert!(asked.elapsed() < SOON);
    let id = Pid::from_child(&child);
    kill_process(id, Signal::TERM).expect("it runs");
    let deadline = Instant::now() + END;
    let status = loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                panic!("it runs {END:?} after SIGTERM");
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(status.code(), Some(0));
    drop(stderr);
}
