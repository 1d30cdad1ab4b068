//! The places of connections: how many one address may hold, how long without a request, and which newcomers
//! get one while all are taken.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::http2::{END_HEADERS, END_STREAM, GET, HEADERS, PREFACE, SETTINGS, frame};
use crate::harness::{ADMIN_KEY, Connection, Gateway, Host};

const PING: u8 = 6;
const ACK: u8 = 1;
/// Connections of one address, beside its share, in which it is told the gateway's health.
const SPARE_OF_ADDRESS: usize = 4;
/// How long a health check may take, whatever else goes on.
const PROMPT: Duration = Duration::from_secs(6);
/// The longest that a connection may idle.
const IDLE: Duration = Duration::from_secs(27);

fn settings(max: usize, per_address: usize, more: &str) -> String {
    format!(
        "[server]\npublic_url = \"http://short.test\"\nmax_connections = {max}\n\
         max_connections_per_address = {per_address}\n{more}\n"
    )
}

/// Makes a request over HTTP/2, and then does nothing but send pings and answer those of the gateway. Ends when the gateway
/// ends the connection.
async fn ping_for_ever(address: String) {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok(1..) = reader.read(&mut buffer).await {}
    });
    let mut start = PREFACE.to_vec();
    start.extend(frame(SETTINGS, 0, 0, &[]));
    start.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    let mut open = writer.write_all(&start).await.is_ok();
    while open && !reading.is_finished() {
        sleep(Duration::from_millis(500)).await;
        let mut pings = frame(PING, 0, 0, b"12345678");
        // Whatever was asked, it is answered.
        pings.extend(frame(PING, ACK, 0, b"87654321"));
        open = writer.write_all(&pings).await.is_ok();
    }
}

/// Asks on a connection of its own, from this address of our own; the status, if there is an answer in time. Once more
/// where the place of the question before was not free again yet.
async fn ask(from: &str, gateway: &Gateway, path: &str, fields: &str) -> Option<u16> {
    let first = ask_once(from, gateway, path, fields).await;
    if first.is_some() {
        return first;
    }
    sleep(Duration::from_millis(200)).await;
    ask_once(from, gateway, path, fields).await
}

async fn ask_once(from: &str, gateway: &Gateway, path: &str, fields: &str) -> Option<u16> {
    let talk = async {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(SocketAddr::new(from.parse().ok()?, 0)).ok()?;
        let mut stream = socket.connect(gateway.address().parse().ok()?).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: short.test\r\n{fields}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut received = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..read]);
        }
        super::framing::statuses(&received).first().copied()
    };
    timeout(PROMPT, talk).await.ok().flatten()
}

fn ended(connections: &[JoinHandle<()>]) -> usize {
    connections.iter().filter(|one| one.is_finished()).count()
}

pub async fn connections_that_only_answer_pings_keep_nobody_out(host: Host) {
    const PLACES: usize = 40;
    let gateway = Gateway::start(host, &settings(PLACES, PLACES, "")).await;
    let took = Instant::now();
    let hold = || {
        (0..PLACES)
            .map(|_| tokio::spawn(ping_for_ever(gateway.address())))
            .collect()
    };
    let connections: Vec<JoinHandle<()>> = hold();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ended(&connections), 0, "each has its place");
    // From the first moment on.
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(ask("127.0.0.1", &gateway, path, "").await, Some(200), "{path}");
    }
    // As soon as those idle.
    while ask("127.0.0.1", &gateway, "/robots.txt", "").await != Some(200) {
        assert!(took.elapsed() < Duration::from_secs(15), "they hold all places");
        sleep(Duration::from_millis(200)).await;
    }
    while ended(&connections) < PLACES {
        assert!(took.elapsed() < IDLE, "pings are taken for activity");
        sleep(Duration::from_millis(200)).await;
    }
}

pub async fn one_address_holds_its_share_of_connections_and_no_more(host: Host) {
    const SHARE: usize = 10;
    const MANY: usize = 60;
    let gateway = Gateway::start(host, &settings(1_000, SHARE, "")).await;
    let connections: Vec<_> = (0..MANY)
        .map(|_| tokio::spawn(ping_for_ever(gateway.address())))
        .collect();
    sleep(Duration::from_secs(7)).await;
    assert_eq!(ended(&connections), MANY - SHARE, "the others were closed");
    assert_eq!(ask("127.0.0.1", &gateway, "/health/live", "").await, Some(200));
    assert_eq!(ask("127.0.0.1", &gateway, "/robots.txt", "").await, Some(503));
    assert_eq!(
        ask("127.0.0.2", &gateway, "/robots.txt", "").await,
        Some(200),
        "another address"
    );
    connections.iter().for_each(JoinHandle::abort);
    drop(connections);
    sleep(Duration::from_secs(1)).await;
    for _ in 0..5 * SHARE {
        assert_eq!(ask("127.0.0.1", &gateway, "/robots.txt", "").await, Some(200));
    }
    gateway.says("closed at once").await;
    let told = gateway.stderr().matches("closed at once").count();
    assert!((1..=2).contains(&told), "{told} lines for {MANY} connections");

    let proxied = Gateway::start(host, &settings(1_000, SHARE, "trusted_proxies = [\"127.0.0.1\"]")).await;
    let connections: Vec<_> = (0..MANY)
        .map(|_| tokio::spawn(ping_for_ever(proxied.address())))
        .collect();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ended(&connections), 0, "a trusted proxy speaks for many");
    assert_eq!(ask("127.0.0.1", &proxied, "/robots.txt", "").await, Some(200));
    connections.iter().for_each(JoinHandle::abort);
}

pub async fn health_and_operators_get_through_while_all_places_are_busy(host: Host) {
    const PLACES: usize = 8;
    let gateway = Gateway::start(host, &settings(PLACES, PLACES, "")).await;
    let mut busy = Vec::new();
    for _ in 0..PLACES {
        let mut connection = Connection::open(&gateway.address()).await.expect("it listens");
        let half =
            b"POST /signup HTTP/1.1\r\nhost: short.test\r\nx-client-id: c\r\ncontent-length: 10\r\n\r\n12345";
        connection.send(half).await.expect("it is open");
        busy.push(connection);
    }
    sleep(Duration::from_millis(500)).await;
    let operator = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    for _ in 0..3 * SPARE_OF_ADDRESS {
        assert_eq!(ask("127.0.0.1", &gateway, "/health/live", "").await, Some(200));
        assert_eq!(ask("127.0.0.2", &gateway, "/health/ready", "").await, Some(200));
        assert_eq!(
            ask("127.0.0.1", &gateway, "/api/keys", &operator).await,
            Some(200)
        );
        assert_eq!(ask("127.0.0.1", &gateway, "/robots.txt", "").await, Some(503));
    }
    for connection in &mut busy {
        connection.send(b"67890").await.expect("it is open");
        let answer = connection.answer("POST /signup").await.expect("an answer");
        answer.expect(202);
    }
    drop(busy);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ask("127.0.0.1", &gateway, "/robots.txt", "").await, Some(200));
}

/// A client that asks and asks, and takes no answer.
pub async fn answers_that_nobody_takes_end_their_connection(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let socket = TcpSocket::new_v4().expect("the system gives sockets");
    socket.set_recv_buffer_size(4_096).expect("it is new");
    let address = gateway.address().parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("it listens");
    let asks = "GET /robots.txt HTTP/1.1\r\nhost: short.test\r\n\r\n".repeat(100);
    let flood = async { while stream.write_all(asks.as_bytes()).await.is_ok() {} };
    let cut_off = timeout(Duration::from_secs(45), flood).await;
    assert!(cut_off.is_ok(), "it waits for a client that takes nothing");
    super::serves_others(&gateway).await;
}

pub async fn as_many_files_are_opened_as_the_system_allows(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.process_id())).expect("it runs");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a limit");
    let numbers: Vec<&str> = files
        .split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers.first(), numbers.last(), "{files}");
}
