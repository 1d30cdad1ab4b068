//! `[[origins]]` and `[[proxy]]`: what reaches an origin and what comes back, on real sockets, with origins that are sound, slow,
//! gone or hostile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Answer, Gateway, Host, eventually, free_port};

mod cached;
mod hostile;
mod upstream;

pub use cached::{
    answers_are_kept_as_they_say, answers_are_kept_by_the_place_that_was_asked, large_answers_are_passed_on,
    the_last_good_answer_is_given_while_the_origin_fails,
};
pub use hostile::{
    a_client_that_breaks_off_or_dawdles_holds_nothing, a_request_means_one_request_to_the_origin,
    an_answer_that_is_none_is_never_passed_on, an_answer_without_end_is_cut_off,
};
pub use upstream::Scripted;
use upstream::{Upstream, head};

/// One origin, and everything below `/shop` leads to it.
fn shop(urls: &[String], more_of_origin: &str, more_of_route: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
    format!(
        "[[origins]]\nname = \"shop\"\nurls = [{}]\n{more_of_origin}\n[[proxy]]\npath = \"/shop/...\"\norigin = \"shop\"\n{more_of_route}\n",
        urls.join(", ")
    )
}

async fn before(origin: &Upstream, more_of_origin: &str, more_of_route: &str) -> Gateway {
    Gateway::start(
        Host::Native,
        &shop(&[origin.url()], more_of_origin, more_of_route),
    )
    .await
}

/// The values of a header that the origin was sent.
fn sent(told: &Value, name: &str) -> Vec<String> {
    let headers = told["headers"].as_array().expect("it tells them").iter();
    let named = headers.filter(|header| header[0] == name);
    named
        .map(|header| header[1].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The value of a metric whose line has these words.
async fn metric(gateway: &Gateway, words: &[&str]) -> f64 {
    let text = gateway.scrape().await;
    let line = text
        .lines()
        .find(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    let line = line.unwrap_or_else(|| panic!("no {words:?} in\n{text}"));
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

pub async fn requests_reach_the_origin_behind_the_limiter(host: Host) {
    let origin = Upstream::start().await;
    let limit = "[[limits]]\nname = \"few\"\npath = \"/shop/limited/...\"\ncapacity = 2\nrefill = 1\ninterval = \"1h\"\n";
    let route = "strip_prefix = \"/shop\"\nheaders = { x-key = \"k-1\" }";
    let gateway = Gateway::start(host, &format!("{limit}{}", shop(&[origin.url()], "", route))).await;
    let told = gateway
        .call(Method::PATCH, "/shop/a%20b/c?q=1&r")
        .header("x-request-id", "mine-1")
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .header("x-forwarded-for", "9.9.9.9")
        .header("x-forwarded-prefix", "/admin")
        .header("connection", "x-secret-hop")
        .header("x-secret-hop", "1")
        .body("text")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!(told.header("x-request-id"), "mine-1");
    assert_eq!(told.header("via"), "1.1 tollgate");
    assert!(told.maybe_header("x-hop").is_none(), "{}", told.shown());
    let told = told.json();
    assert_eq!(
        (&told["method"], &told["uri"]),
        (&json!("PATCH"), &json!("/a%20b/c?q=1&r"))
    );
    for (name, value) in [
        ("x-request-id", "mine-1"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-key", "k-1"),
        ("via", "1.1 tollgate"),
        ("content-length", "4"),
        ("host", &origin.address.to_string()),
        ("x-forwarded-host", &gateway.address()),
    ] {
        assert_eq!(sent(&told, name), [value], "{name}: {told}");
    }
    assert!(
        sent(&told, "forwarded")[0].starts_with("for=127.0.0.1;host="),
        "{told}"
    );
    for name in [
        "x-secret-hop",
        "x-forwarded-prefix",
        "connection",
        "transfer-encoding",
    ] {
        assert!(sent(&told, name).is_empty(), "{name}: {told}");
    }
    // The limits decide first: what they refuse reaches nobody.
    for _ in 0..2 {
        let answer = gateway
            .get("/shop/limited/x")
            .outside_contract()
            .send()
            .await
            .expect(200);
        assert!(answer.header("ratelimit").contains("few"), "{}", answer.shown());
    }
    let hits = origin.hits();
    for _ in 0..5 {
        gateway
            .get("/shop/limited/x")
            .outside_contract()
            .send()
            .await
            .expect(429);
    }
    assert_eq!(origin.hits(), hits);
    // Nor does a path that is not what it seems.
    for path in [
        "/shop/limited/../x",
        "/shop/%2e%2e/limited/x",
        "/shop//limited/x",
        "/shop/limited/..%2fx",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        gateway.raw(request).await.problem(400, "invalid-request");
    }
    assert_eq!(origin.hits(), hits);
    // Its answers are its own.
    let answer = gateway
        .get("/shop/status/418")
        .outside_contract()
        .send()
        .await
        .expect(418);
    assert_eq!(answer.text(), "the origin's own 418");
    let head = gateway
        .head("/shop/bytes/100000")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert!(head.body.is_empty());
    // Its first segment is no code, and links go on.
    let link = |code: &str| json!({ "url": "https://example.com/", "code": code });
    gateway
        .post("/api/links")
        .key(ADMIN_KEY)
        .json(&link("shop"))
        .send()
        .await
        .names("#/code");
    gateway.link("hallo").await;
    gateway.get("/hallo").send().await.expect(302);
    let answered = metric(&gateway, &["tollgate_origin_requests_total", "shop", "answered"]).await;
    assert!(answered >= 5.0, "{answered}");
    assert!(metric(&gateway, &["tollgate_http_requests_total", "\"proxy\"", "200"]).await >= 3.0);
}

pub async fn methods_and_patterns_choose_the_origin(host: Host) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let settings = format!(
        "[[origins]]\nname = \"one\"\nurls = [\"{}\"]\n[[origins]]\nname = \"two\"\nurls = [\"{}\"]\n\
         [[proxy]]\npath = \"/...\"\norigin = \"one\"\npreserve_host = true\n\
         [[proxy]]\npath = \"/shop/:item\"\nmethods = [\"GET\"]\norigin = \"two\"\n\
         [[forward]]\npath = \"/signup\"\ntopic = \"signup\"\n",
        one.url(),
        two.url()
    );
    let gateway = Gateway::start(host, &settings).await;
    let told = gateway
        .get("/")
        .header("host", "a.example")
        .outside_contract()
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(sent(&told, "host"), ["a.example"]);
    gateway
        .get("/any/thing")
        .outside_contract()
        .send()
        .await
        .expect(200);
    gateway
        .get("/one-segment")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!((one.hits(), two.hits()), (3, 0));
    gateway.get("/shop/7").outside_contract().send().await.expect(200);
    gateway
        .head("/shop/7")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!((one.hits(), two.hits()), (3, 2));
    // The route of all methods takes what the other does not.
    gateway
        .post("/shop/7")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!((one.hits(), two.hits()), (4, 2));
    // What is the gateway's own stays so.
    gateway.get("/health/ready").send().await.expect(200);
    gateway.get("/api/limits").key(ADMIN_KEY).send().await.expect(200);
    gateway
        .post("/signup")
        .client("ann")
        .body("x")
        .outside_contract()
        .send()
        .await
        .expect(202);
    gateway
        .call(Method::TRACE, "/any")
        .outside_contract()
        .send()
        .await
        .problem(405, "method-not-allowed");
    assert_eq!(one.hits(), 4);
}

pub async fn bodies_stream_both_ways_within_bounds(_: Host) {
    const SIZE: usize = 48 << 20;
    let origin = Upstream::start().await;
    let gateway = before(&origin, "", "max_body = \"64MiB\"").await;
    gateway
        .get("/shop/bytes/1000")
        .outside_contract()
        .send()
        .await
        .expect(200);
    let memory = gateway.memory();
    let mut most = memory;
    let mut answer = reqwest::get(format!("http://{}/shop/bytes/{SIZE}", gateway.address()))
        .await
        .expect("an answer");
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.expect("all of it comes") {
        if length / (8 << 20) != (length + piece.len()) / (8 << 20) {
            // A reader that is slower than the origin: what it has not read waits there.
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(gateway.memory());
        }
        length += piece.len();
    }
    assert_eq!(length, SIZE);
    let sent = gateway
        .post("/shop/count/x")
        .body(vec![7; SIZE])
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!(sent.text(), SIZE.to_string());
    most = most.max(gateway.memory());
    assert!(most < memory + (32 << 20), "{memory} grew to {most}");
    let echo: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let back = gateway
        .post("/shop/echo/x")
        .body(echo.clone())
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert!(back.body == echo);
    // More than it may have is told before it is sent, or when it is reached.
    let hits = origin.hits();
    let line = "POST /shop/count/x HTTP/1.1\r\nhost: a\r\n";
    gateway
        .raw(format!("{line}content-length: 99999999\r\n\r\n"))
        .await
        .problem(413, "content-too-large");
    assert_eq!(origin.hits(), hits);
    // Trailers come through to who takes them.
    let answer = "GET /shop/trailers/x HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let text = talk(&gateway, answer.as_bytes()).await;
    assert!(text.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{text}");
}

/// Everything that is answered to these bytes until the connection closes.
async fn talk(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    stream.write_all(bytes).await.expect("it reads");
    let mut text = Vec::new();
    let reading = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("it closes");
    String::from_utf8_lossy(&text).into_owned()
}

pub async fn events_come_as_they_are_sent(_: Host) {
    let origin = Upstream::start().await;
    let gateway = before(&origin, "", "").await;
    let began = Instant::now();
    let mut answer = reqwest::get(format!("http://{}/shop/events/4", gateway.address()))
        .await
        .expect("an answer");
    let first = answer.chunk().await.expect("a piece").expect("of events");
    assert_eq!(first, "data: 0\n\n");
    assert!(
        began.elapsed() < Duration::from_millis(700),
        "{:?}",
        began.elapsed()
    );
    let mut rest = Vec::new();
    while let Some(piece) = answer.chunk().await.expect("all of it comes") {
        rest.extend_from_slice(&piece);
    }
    assert_eq!(
        String::from_utf8_lossy(&rest),
        "data: 1\n\ndata: 2\n\ndata: 3\n\n"
    );
}

pub async fn a_client_is_asked_for_its_body_when_it_is_admitted(_: Host) {
    let origin = Upstream::start().await;
    let limit = "[[limits]]\nname = \"few\"\npath = \"/shop/...\"\nmethods = [\"POST\"]\ncapacity = 1\nrefill = 1\ninterval = \"1h\"\n";
    let gateway = Gateway::start(Host::Native, &format!("{limit}{}", shop(&[origin.url()], "", ""))).await;
    let line = "POST /shop/count/x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    stream.write_all(line.as_bytes()).await.expect("it reads");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an interim answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"12345").await.expect("it reads");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 200");
    drop(stream);
    let refused = talk(&gateway, line.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert_eq!(origin.hits(), 1);
}

/// Switches to a WebSocket, and says everything back.
async fn parrot(mut stream: TcpStream, _: usize) {
    let Some(head) = head(&mut stream).await else {
        return;
    };
    assert!(head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("sec-websocket-key: abc"), "{head}");
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: xyz\r\n\r\n";
    let _ = stream.write_all([answer, "hello"].concat().as_bytes()).await;
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn websocket(gateway: &Gateway, protocol: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    let request = format!(
        "GET /shop/ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\nsec-websocket-key: abc\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let head = head(&mut stream).await.unwrap_or_default();
    (head, stream)
}

pub async fn a_websocket_passes_both_ways(_: Host) {
    let origin = Scripted::start(parrot).await;
    let settings = shop(&[origin.url()], "idle_timeout = \"1s\"", "");
    let gateway = Gateway::start(Host::Native, &settings).await;
    let (head, mut stream) = websocket(&gateway, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: xyz",
        "x-request-id: ",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    let mut hello = [0; 5];
    stream
        .read_exact(&mut hello)
        .await
        .expect("what the origin said first");
    assert_eq!(&hello, b"hello");
    for round in 0..20_u32 {
        let piece = vec![round as u8; 50_000];
        let mut back = vec![0; piece.len()];
        let (mut reader, mut writer) = stream.split();
        let (wrote, read) = tokio::join!(writer.write_all(&piece), reader.read_exact(&mut back));
        wrote.and(read.map(drop)).expect("it passes");
        assert!(back == piece);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        metric(&gateway, &["tollgate_origin_websockets", "shop"]).await,
        1.0
    );
    // Silence ends it.
    let began = Instant::now();
    assert_eq!(stream.read(&mut hello).await.unwrap_or(0), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the socket is closed", async || {
        (metric(&gateway, &["tollgate_origin_websockets", "shop"]).await == 0.0).then_some(())
    })
    .await;
    // An open one holds up the end of the gateway only for a while.
    let (head, _open) = websocket(&gateway, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let began = Instant::now();
    assert!(gateway.stop().await.success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

pub async fn a_websocket_has_its_places_until_it_ends(_: Host) {
    let origin = Scripted::start(|stream, number| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        parrot(stream, number).await;
    })
    .await;
    let one = "[[concurrency]]\nname = \"sockets\"\npath = \"/shop/...\"\nper = [\"ip\"]\nmax = 1\n";
    let settings = shop(&[origin.url()], "max_concurrent = 2\nmax_queue = 1", "");
    let gateway = Gateway::start(Host::Native, &format!("{one}{settings}")).await;
    let (head, open) = websocket(&gateway, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (head, _) = websocket(&gateway, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    drop(open);
    let is_free = async || {
        let (head, _) = websocket(&gateway, "websocket").await;
        head.starts_with("HTTP/1.1 101").then_some(())
    };
    eventually("its place is free", is_free).await;
    // Whose client is gone when the origin says yes never begins, and holds nothing.
    for _ in 0..4 {
        eventually("nothing is under way", async || {
            let told = metric(&gateway, &["tollgate_concurrency_requests_under_way", "sockets"]).await;
            (told == 0.0).then_some(())
        })
        .await;
        let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
        // With more behind it, nobody reads, and so learns, that the client has gone.
        let request = "GET /shop/ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\nx";
        stream.write_all(request.as_bytes()).await.expect("it reads");
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.set_zero_linger().expect("the system knows it");
        drop(stream);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    eventually("the origin has places", is_free).await;
}

pub async fn nothing_but_a_websocket_takes_a_connection_over(_: Host) {
    let origin = Upstream::start().await;
    let gateway = before(&origin, "", "").await;
    let (head, _stream) = websocket(&gateway, "h2c").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // An origin that switches by itself is broken.
    let odd =
        Scripted::says("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI")
            .await;
    let gateway = Gateway::start(Host::Native, &shop(&[odd.url()], "retries = 0", "")).await;
    gateway
        .get("/shop/x")
        .outside_contract()
        .send()
        .await
        .problem(502, "origin-failed");
    let (head, _stream) = websocket(&gateway, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}

pub async fn an_origin_that_is_slow_or_gone_is_told_in_time(_: Host) {
    let origin = Upstream::start().await;
    let gone = format!("http://127.0.0.1:{}", free_port());
    let settings = format!(
        "{}[[origins]]\nname = \"gone\"\nurls = [\"{gone}\"]\nretries = 0\n[[proxy]]\npath = \"/gone/...\"\norigin = \"gone\"\n",
        shop(
            &[origin.url()],
            "timeout = \"300ms\"\nmax_concurrent = 2\nmax_queue = 1",
            ""
        )
    );
    let gateway = Gateway::start(Host::Native, &settings).await;
    let began = Instant::now();
    gateway
        .get("/shop/sleep/5000")
        .outside_contract()
        .send()
        .await
        .problem(504, "timeout");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    gateway
        .get("/shop/sleep/10")
        .outside_contract()
        .send()
        .await
        .expect(200);
    let answer = gateway.get("/gone/x").outside_contract().send().await;
    answer.problem(503, "unavailable");
    answer.header("retry-after");
    // Two at once, one waits, others are told at once.
    let crowd = (0..12).map(|_| gateway.get("/shop/sleep/200").outside_contract().send());
    let answers: Vec<Answer> = futures::future::join_all(crowd).await;
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    // Some may come when others have ended, where the machine is busy.
    let (answered, told) = (of(200), of(503));
    assert!(
        answered >= 3 && told >= 1 && answered + told == 12,
        "{answered} {told}"
    );
    let refused = metric(&gateway, &["tollgate_origin_requests_total", "shop", "refused"]).await;
    assert_eq!(refused, told as f64);
    assert_eq!(
        metric(&gateway, &["tollgate_origin_requests_under_way", "shop"]).await,
        0.0
    );
}

pub async fn an_origin_that_fails_is_left_alone_for_a_while(_: Host) {
    let is_broken = Arc::new(AtomicUsize::new(1));
    let hits = Arc::new(AtomicUsize::new(0));
    let (broken, counted) = (Arc::clone(&is_broken), Arc::clone(&hits));
    let origin = Scripted::start(move |mut stream, _| {
        let (broken, counted) = (Arc::clone(&broken), Arc::clone(&counted));
        async move {
            while head(&mut stream).await.is_some() {
                counted.fetch_add(1, Ordering::Relaxed);
                let status = ["200 OK", "500 Oops"][broken.load(Ordering::Relaxed)];
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nhi");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let more = "breaker = { failures = 3, open = \"1s\" }";
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], more, "")).await;
    for _ in 0..3 {
        gateway.get("/shop/x").outside_contract().send().await.expect(500);
    }
    for _ in 0..5 {
        let answer = gateway.get("/shop/x").outside_contract().send().await;
        answer.problem(503, "unavailable");
        let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=2).contains(&seconds), "{seconds}");
    }
    assert_eq!(hits.load(Ordering::Relaxed), 3);
    assert_eq!(
        metric(&gateway, &["tollgate_origin_circuit_state", "shop"]).await,
        2.0
    );
    is_broken.store(0, Ordering::Relaxed);
    eventually("the breaker closes", async || {
        let answer = gateway.get("/shop/x").outside_contract().send().await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        metric(&gateway, &["tollgate_origin_circuit_state", "shop"]).await,
        0.0
    );
}

pub async fn one_address_that_is_gone_is_not_noticed(_: Host) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let gone = format!("http://127.0.0.1:{}", free_port());
    let more = "health = { path = \"/status/200\", every = \"500ms\", timeout = \"400ms\" }\nbreaker = { failures = 1000, results = 1000 }";
    let gateway = Gateway::start(Host::Native, &shop(&[one.url(), gone, two.url()], more, "")).await;
    for _ in 0..40 {
        gateway.get("/shop/x").outside_contract().send().await.expect(200);
        // Nothing of a POST has been sent where no connection is made.
        gateway
            .post("/shop/count/x")
            .body("12")
            .outside_contract()
            .send()
            .await
            .expect(200);
    }
    assert!(
        one.hits() > 10 && two.hits() > 10,
        "{} {}",
        one.hits(),
        two.hits()
    );
    eventually("the checks have found it", async || {
        let text = gateway.scrape().await;
        let healthy = |value: &str| {
            let lines = text
                .lines()
                .filter(|line| line.starts_with("tollgate_origin_healthy{"));
            lines.filter(|line| line.ends_with(value)).count()
        };
        ((healthy(" 0.0"), healthy(" 1.0")) == (1, 2)).then_some(())
    })
    .await;
    let retries = metric(&gateway, &["tollgate_origin_retries_total", "shop"]).await;
    for _ in 0..20 {
        gateway.get("/shop/x").outside_contract().send().await.expect(200);
    }
    assert_eq!(
        metric(&gateway, &["tollgate_origin_retries_total", "shop"]).await,
        retries
    );
}

pub async fn a_kept_connection_that_has_closed_costs_nothing(_: Host) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // Answers one request on each connection, and closes it when it idles, without a word.
    let origin = Scripted::start(move |mut stream, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if head(&mut stream).await.is_some() {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                    .await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], "retries = 0", "")).await;
    for round in 0..60 {
        gateway.get("/shop/x").outside_contract().send().await.expect(200);
        // Around the moment when it closes.
        tokio::time::sleep(Duration::from_millis(25 + round % 10)).await;
    }
    assert!(connections.load(Ordering::Relaxed) > 30);
    // One that closes in place of an answer, on a new connection, is broken: nothing is sent again without end.
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let origin = Scripted::start(move |mut stream, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { drop(head(&mut stream).await) }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], "retries = 2", "")).await;
    gateway
        .get("/shop/x")
        .outside_contract()
        .send()
        .await
        .problem(502, "origin-failed");
    assert_eq!(connections.load(Ordering::Relaxed), 3);
    // What may have had an effect is sent once.
    gateway
        .post("/shop/x")
        .body("1")
        .outside_contract()
        .send()
        .await
        .problem(502, "origin-failed");
    gateway
        .post("/shop/x")
        .outside_contract()
        .send()
        .await
        .problem(502, "origin-failed");
    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

pub async fn an_origin_may_speak_http2(_: Host) {
    let origin = Upstream::start().await;
    let gateway = before(&origin, "http2 = \"always\"", "").await;
    let told = gateway
        .get("/shop/x?y=1")
        .outside_contract()
        .send()
        .await
        .expect(200);
    assert_eq!(told.header("via"), "2.0 tollgate");
    let told = told.json();
    assert_eq!(told["version"], "HTTP/2.0");
    assert_eq!(told["uri"], format!("{}/shop/x?y=1", origin.url()));
    let echo = vec![5; 1_000_000];
    let crowd = (0..20).map(|_| {
        gateway
            .post("/shop/echo/x")
            .body(echo.clone())
            .outside_contract()
            .send()
    });
    for back in futures::future::join_all(crowd).await {
        assert!(back.expect(200).body == echo);
    }
    // Few connections for many requests: one for each worker, and one that came first.
    let opened = metric(&gateway, &["tollgate_origin_connections_total", "shop"]).await;
    assert!(opened <= 20.0, "{opened}");
}

/// As browsers send them (RFC 9113, section 8.2.3).
pub async fn cookies_of_http2_reach_the_origin_in_one_field(_: Host) {
    let origin = Upstream::start().await;
    let gateway = before(&origin, "", "").await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
    let client = client.build().expect("a client");
    let request = client.get(format!("http://{}/shop/x", gateway.address()));
    let request = request.header("cookie", "a=1").header("cookie", "b=2; c=3");
    let told = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["version"], "HTTP/1.1");
    assert_eq!(sent(&told, "cookie"), ["a=1; b=2; c=3"]);
}

pub async fn origins_change_while_it_runs(_: Host) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let first = shop(&[one.url()], "", "");
    let gateway = Gateway::start(Host::Native, &format!("[reload]\nevery = \"0s\"\n{first}")).await;
    gateway.get("/shop/x").outside_contract().send().await.expect(200);
    let slow = gateway.get("/shop/sleep/1500").outside_contract().send();
    let file = gateway.directory().join("tollgate.toml");
    let text = std::fs::read_to_string(&file).expect("it is ours");
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::write(&file, text.replace(&one.url(), &two.url())).expect("it is ours");
        gateway.signal(Signal::HUP);
        eventually("the new origin answers", async || {
            gateway.get("/shop/x").outside_contract().send().await.expect(200);
            (two.hits() > 0).then_some(())
        })
        .await;
    };
    // What was under way ends as it began.
    let (slow, ()) = tokio::join!(slow, change);
    assert_eq!(slow.expect(200).text(), "slept");
    // One that cannot be is refused, and nothing changes.
    let bad = text.replace("origin = \"shop\"", "origin = \"shops\"");
    std::fs::write(&file, bad).expect("it is ours");
    gateway.signal(Signal::HUP);
    gateway.says("there is no \\\"shops\\\"").await;
    gateway.get("/shop/x").outside_contract().send().await.expect(200);
}
