//! Concurrency limits: a place for each request under way, and none that leaks.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Gateway, Host, eventually};
use crate::hostile::http2::{PREFACE, RESET, SETTINGS, frame, literal};

const TOPIC: &str = "/api/topics/signup/messages";
const POLLS: &str = "[[concurrency]]\nname = \"polls\"\npath = \"/api/topics/...\"\nper = [\"ip\"]\nmax = 2\n\n\
    [[concurrency]]\nname = \"streams\"\npath = \"/api/events\"\nper = []\nmax = 1\nstatus = 503\n\n\
    [[limits]]\nname = \"calls\"\npath = \"/api/topics/...\"\ncapacity = 1000\nrefill = 1\ninterval = \"1h\"\n";

/// A request that waits for what does not come, on a connection of its own.
async fn poll(gateway: &Gateway, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: short.test\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    stream
}

async fn under_way(gateway: &Gateway, limit: &str) -> Option<f64> {
    let told = gateway.get("/metrics").key(ADMIN_KEY).send().await.expect(200);
    let text = String::from_utf8_lossy(&told.body).into_owned();
    let name = format!("tollgate_concurrency_requests_under_way{{limit=\"{limit}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

async fn have_begun(gateway: &Gateway, limit: &str, count: u32) {
    let what = format!("{count} under way of {limit}");
    eventually(&what, async || {
        (under_way(gateway, limit).await == Some(f64::from(count))).then_some(())
    })
    .await;
}

pub async fn one_too_many_is_refused_and_takes_nothing(host: Host) {
    let gateway = Gateway::start(host, POLLS).await;
    let waiting = format!("{TOPIC}?wait=20");
    let held = [poll(&gateway, &waiting).await, poll(&gateway, &waiting).await];
    have_begun(&gateway, "polls", 2).await;
    let ask = || gateway.get(TOPIC).key(ADMIN_KEY).send();
    for _ in 0..5 {
        let refused = ask().await;
        refused.problem(429, super::QUOTA_EXCEEDED);
        assert_eq!(refused.json()["violated-policies"], json!(["polls"]));
        assert_eq!(refused.header("retry-after"), "1");
    }
    // Other paths are no concern of it; the refused ones were not charged: this one, and those that wait, are.
    gateway.get("/api/limits").key(ADMIN_KEY).send().await.expect(200);
    drop(held);
    have_begun(&gateway, "polls", 0).await;
    let answer = ask().await.expect(200);
    assert!(
        answer.header("ratelimit").contains("\"calls\";r=997"),
        "{}",
        answer.shown()
    );
    let limits = gateway
        .get("/api/limits")
        .key(ADMIN_KEY)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(limits["concurrency"][0]["max"], 2);
    let refusals = || gateway.get("/api/limits/refusals");
    let told = refusals().key(ADMIN_KEY).send().await.expect(200).json();
    let expected = json!({ "limit": "polls", "underWay": 0, "refused": 5 });
    assert_eq!(told["concurrency"][0], expected, "{told}");
    refusals().send().await.problem(401, "unauthorized");
}

pub async fn a_place_is_free_however_the_request_ends(host: Host) {
    let gateway = Gateway::start(host, POLLS).await;
    let waiting = format!("{TOPIC}?wait=1");
    // Answered.
    for _ in 0..4 {
        gateway.get(&waiting).key(ADMIN_KEY).send().await.expect(200);
    }
    have_begun(&gateway, "polls", 0).await;
    // Gone, in the middle of the wait, and before the body was sent.
    for _ in 0..8 {
        let held = poll(&gateway, &format!("{TOPIC}?wait=20")).await;
        have_begun(&gateway, "polls", 1).await;
        drop(held);
        have_begun(&gateway, "polls", 0).await;
    }
    let head = format!(
        "POST {TOPIC} HTTP/1.1\r\nhost: short.test\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it is taken");
    have_begun(&gateway, "polls", 1).await;
    drop(stream);
    have_begun(&gateway, "polls", 0).await;
    // Refused, by the limiter's own rules and by the call's.
    gateway.get(TOPIC).send().await.problem(401, "unauthorized");
    gateway
        .post(&format!("{TOPIC}?nonsense=1"))
        .key(ADMIN_KEY)
        .json(&json!({}))
        .send()
        .await;
    have_begun(&gateway, "polls", 0).await;
    // A stream of events holds its place until it ends.
    let stream = poll(&gateway, "/api/events").await;
    have_begun(&gateway, "streams", 1).await;
    let refused = gateway.get("/api/events").key(ADMIN_KEY).send().await;
    refused.problem(503, "unavailable");
    drop(stream);
    have_begun(&gateway, "streams", 0).await;
}

pub async fn a_reset_stream_of_http_2_gives_its_place_back(host: Host) {
    let gateway = Gateway::start(host, POLLS).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    let path = format!("{TOPIC}?wait=20");
    // GET, http, :path, :authority a, authorization.
    let fields = [
        &[0x82, 0x86][..],
        &literal(4, path.as_bytes()),
        &[0x41, 1, b'a'],
        &literal(23, format!("Bearer {ADMIN_KEY}").as_bytes()),
    ]
    .concat();
    stream.write_all(PREFACE).await.expect("it is taken");
    stream
        .write_all(&frame(SETTINGS, 0, 0, &[]))
        .await
        .expect("it is taken");
    for number in 0..6_u32 {
        let id = 2 * number + 1;
        stream
            .write_all(&frame(1, 5, id, &fields))
            .await
            .expect("it is taken");
        have_begun(&gateway, "polls", 1).await;
        stream
            .write_all(&frame(RESET, 0, id, &[0, 0, 0, 8]))
            .await
            .expect("it is taken");
        have_begun(&gateway, "polls", 0).await;
    }
    let mut some = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut some)).await;
    assert!(
        read.is_ok_and(|read| read.is_ok_and(|read| read > 0)),
        "the connection goes on"
    );
}
