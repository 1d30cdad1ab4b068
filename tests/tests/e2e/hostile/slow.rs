//! Clients that take their time, or only sit there.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{assert_bounded, serves_others};
use crate::harness::{Gateway, Host, crowd};

/// Slow clients of each kind.
const SLOW: usize = 60;
/// How often each sends another byte.
const DRIP: Duration = Duration::from_millis(900);
/// Drips after which a client that is still heard fails the case: well beyond the 15 s that it is given.
const DRIPS: usize = 50;
/// Idle connections, if the limit of open files lets them be; the gateway has as many on its side.
const IDLE: u64 = 10_000;
/// The least that makes the case worth its name.
const LEAST_IDLE: u64 = 2_000;
/// Files that the tests need for everything else.
const SPARE: u64 = 1_000;

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &str = "\0\0\0\u{4}\0\0\0\0\0";

/// Sends `start`, then `drip` again and again; how often until the gateway closed the connection.
async fn drips(address: String, start: String, drip: &'static str) -> usize {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut reader, mut writer) = stream.into_split();
    let closed = tokio::spawn(async move {
        let mut buffer = [0; 1_024];
        while let Ok(1..) = reader.read(&mut buffer).await {}
    });
    let _ = writer.write_all(start.as_bytes()).await;
    for number in 0..DRIPS {
        if closed.is_finished() {
            return number;
        }
        tokio::time::sleep(DRIP).await;
        let _ = writer.write_all(drip.as_bytes()).await;
    }
    DRIPS
}

pub async fn slow_and_silent_clients_are_cut_off(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let (before, address) = (gateway.memory(), gateway.address());
    let post = "POST /signup HTTP/1.1\r\nhost: short.test\r\nx-client-id: slow\r\n";
    let kinds = [
        (
            "a head",
            "GET / HTTP/1.1\r\nhost: short.test\r\nx-slow: ".to_owned(),
            "x",
        ),
        ("a body", format!("{post}content-length: 1000\r\n\r\n"), "x"),
        (
            "chunks",
            format!("{post}transfer-encoding: chunked\r\n\r\n"),
            "1\r\nx\r\n",
        ),
        ("silence", String::new(), ""),
        ("half a preface of HTTP/2", PREFACE[..9].to_owned(), ""),
        ("HTTP/2 without a request", format!("{PREFACE}{SETTINGS}"), ""),
    ];
    let clients = (0..SLOW).flat_map(|_| kinds.clone());
    let attack = crowd(SLOW * kinds.len(), clients, |(what, start, drip)| {
        let ended = drips(address.clone(), start, drip);
        async move { (what, ended.await) }
    });
    let others = async {
        for _ in 0..10 {
            serves_others(&gateway).await;
            tokio::time::sleep(DRIP).await;
        }
    };
    let (ended, ()) = tokio::join!(attack, others);
    for (what, drips) in ended {
        assert!(
            drips < DRIPS,
            "a client that is slow with {what} was never cut off"
        );
    }
    assert_eq!(
        gateway
            .messages("signup")
            .await
            .iter()
            .filter(|message| message["key"] == "id:slow")
            .count(),
        0
    );
    assert_bounded(&gateway, before);
}

pub async fn idle_connections_keep_nobody_out(host: Host) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    // The gateway inherits it.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let count = IDLE.min(most.saturating_sub(SPARE));
    assert!(
        count >= LEAST_IDLE,
        "open files are limited to {most}: too few to test with"
    );
    let gateway = Gateway::start(
        host,
        &format!(
            "[server]\npublic_url = \"http://short.test\"\nmax_connections = {0}\nmax_connections_per_address = {0}\n",
            count + 100
        ),
    )
    .await;
    let (before, address) = (gateway.memory(), gateway.address());
    // Half of them have made a request before.
    let connections = crowd(64, 0..count, |number| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
            if number % 2 == 0 {
                let request = b"GET /health/live HTTP/1.1\r\nhost: short.test\r\n\r\n";
                stream.write_all(request).await.expect("it is open");
                let read = stream.read(&mut [0; 1_024]).await.expect("it is answered");
                assert!(read > 0, "an idle connection was closed at once");
            }
            stream
        }
    })
    .await;
    serves_others(&gateway).await;
    let open = connections.iter().rev().take(100).filter(|stream| {
        let nothing = stream.try_read(&mut [0; 1]);
        nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert_eq!(open.count(), 100, "the last ones are still open");
    assert_bounded(&gateway, before);
    drop(connections);
    serves_others(&gateway).await;
}
