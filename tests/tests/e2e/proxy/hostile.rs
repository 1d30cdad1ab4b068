//! Origins and clients that mean harm: the client sees a broken answer as broken, and the origin one request as one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::upstream::{Scripted, Upstream, head};
use super::{metric, shop};
use crate::harness::{Gateway, Host, eventually};

const QUICK: &str =
    "retries = 0\ntimeout = \"1s\"\nidle_timeout = \"1s\"\nbreaker = { failures = 1000, results = 1000 }";

/// The raw answer to one request, until the connection closes or nothing comes for a while.
async fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut all = Vec::new();
    let mut buffer = [0; 8_192];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_secs(4), stream.read(&mut buffer)).await
    {
        all.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub async fn an_answer_that_is_none_is_never_passed_on(_: Host) {
    let long = "x".repeat(100_000);
    let flood = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(50);
    for (what, answer) in [
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("nothing", String::new()),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!".to_owned()),
        ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: 2x\r\n\r\nhi".to_owned()),
        ("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi".to_owned()),
        ("both", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("another coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("a coding of two lines", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("a long header", format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n")),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(300))),
        ("a header with a space", "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nhi".to_owned()),
        ("a flood of interim answers", flood),
    ] {
        let origin = Scripted::says(answer).await;
        let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], QUICK, "")).await;
        let answer = gateway.get("/shop/x").outside_contract().send().await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.shown());
        answer.problem(502, "origin-failed");
        gateway.get("/health/ready").send().await.expect(200);
    }
    // Interim answers before a real one are none of the client's concern.
    let origin = Scripted::says(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], QUICK, "")).await;
    assert_eq!(
        gateway
            .get("/shop/x")
            .outside_contract()
            .send()
            .await
            .expect(200)
            .text(),
        "hi"
    );
}

pub async fn an_answer_without_end_is_cut_off(_: Host) {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (what, bytes) in [
        (
            "a body that is too short",
            "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\npart of it".to_owned(),
        ),
        ("chunks without the last", format!("{chunked}4\r\npart\r\n")),
        ("half a chunk", format!("{chunked}20\r\npart")),
        ("a chunk that is none", format!("{chunked}4\r\npart\r\nzz\r\n")),
        (
            "trailers without end",
            format!("{chunked}4\r\npart\r\n0\r\nx-a: 1"),
        ),
    ] {
        let origin = Scripted::says(bytes).await;
        let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], QUICK, "")).await;
        let url = format!("http://{}/shop/x", gateway.address());
        match reqwest::get(&url).await {
            Ok(answer) if answer.status() == 502 => {}
            Ok(answer) => assert!(answer.bytes().await.is_err(), "{what} seems whole"),
            Err(_) => {}
        }
        // Nor may the bytes seem whole to who reads them.
        let text = raw(&gateway, "GET /shop/x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let is_refused = text.starts_with("HTTP/1.1 502");
        assert!(
            is_refused || (!text.ends_with("0\r\n\r\n") && !text.contains("content-length: 4\r\n")),
            "{what}: {text}"
        );
    }
    // One that trickles a head, and one that falls silent in a body, have a time each.
    let origin = Scripted::start(|mut stream, _| async move {
        while head(&mut stream).await.is_some() {
            for byte in b"HTTP/1.1 200 OK\r\nx-slow: 1111111111111111111111\r\n\r\n" {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], QUICK, "")).await;
    let began = Instant::now();
    gateway
        .get("/shop/x")
        .outside_contract()
        .send()
        .await
        .problem(504, "timeout");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let flood = Scripted::start(|mut stream, _| async move {
        if head(&mut stream).await.is_some() {
            while stream
                .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                .await
                .is_ok()
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[flood.url()], QUICK, "")).await;
    gateway
        .get("/shop/x")
        .outside_contract()
        .send()
        .await
        .problem(504, "timeout");
    let silent = Scripted::start(|mut stream, _| async move {
        if head(&mut stream).await.is_some() {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\npart")
                .await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[silent.url()], QUICK, "")).await;
    let began = Instant::now();
    let answer = reqwest::get(format!("http://{}/shop/x", gateway.address()))
        .await
        .expect("a head");
    assert!(answer.bytes().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(
        metric(&gateway, &["tollgate_origin_answers_cut_total", "shop"]).await,
        1.0
    );
    assert_eq!(
        metric(&gateway, &["tollgate_origin_requests_under_way", "shop"]).await,
        0.0
    );
}

pub async fn a_request_means_one_request_to_the_origin(_: Host) {
    let heads = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = Arc::clone(&heads);
    let origin = Scripted::start(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            // All bytes, as an origin would read them.
            let mut all = Vec::new();
            let mut buffer = [0; 4_096];
            while let Ok(Ok(count @ 1..)) =
                tokio::time::timeout(Duration::from_millis(300), stream.read(&mut buffer)).await
            {
                all.extend_from_slice(&buffer[..count]);
            }
            seen.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&all).into_owned());
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                .await;
        }
    })
    .await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], QUICK, "")).await;
    let smuggled = "GET /shop/admin HTTP/1.1\r\nhost: evil\r\n\r\n";
    let length = smuggled.len() + 5;
    for (what, request, reaches) in [
        (
            "a length and chunks",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            true,
        ),
        (
            "chunks and a length",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            true,
        ),
        (
            "two lengths",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: {length}\r\n\r\n{smuggled}"
            ),
            false,
        ),
        (
            "a coding in disguise",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            false,
        ),
        (
            "a coding with a space",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            false,
        ),
        (
            "a folded line",
            format!(
                "POST /shop/a HTTP/1.1\r\nhost: a\r\nx: 1\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            false,
        ),
        (
            "a length that Connection names",
            "POST /shop/a HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: 3\r\n\r\nabc"
                .to_owned(),
            true,
        ),
        (
            "a look-alike",
            "POST /shop/a HTTP/1.1\r\nhost: a\r\ncontent_length: 9\r\ncontent-length: 3\r\n\r\nabc"
                .to_owned(),
            true,
        ),
    ] {
        heads.lock().unwrap().clear();
        raw(&gateway, &request).await;
        let seen = heads.lock().unwrap().clone();
        let framed = |text: &String| {
            let lower = text.to_ascii_lowercase();
            let lengths = lower.matches("\ncontent-length:").count();
            let codings = lower.matches("\ntransfer-encoding:").count();
            lengths + codings == 1 && lower.matches(" http/1.1\r\n").count() == 1
        };
        match reaches {
            false => assert!(seen.is_empty(), "{what}: {seen:?}"),
            true => assert!(
                seen.len() == 1
                    && seen.iter().all(framed)
                    && !seen[0].contains("admin")
                    && !seen[0].contains("content_length"),
                "{what}: {seen:?}"
            ),
        }
    }
}

pub async fn a_client_that_breaks_off_or_dawdles_holds_nothing(_: Host) {
    let origin = Upstream::start().await;
    let gateway = Gateway::start(Host::Native, &shop(&[origin.url()], "", "")).await;
    let under_way = async || metric(&gateway, &["tollgate_origin_requests_under_way", "shop"]).await;
    // Gone while the origin thinks, in the middle of a body either way, or reading nothing.
    let mut open = Vec::new();
    for request in [
        "GET /shop/sleep/20000 HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /shop/count/x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\npart",
        "GET /shop/bytes/100000000 HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        open.push(stream);
    }
    eventually("they are under way", async || {
        (under_way().await == 3.0).then_some(())
    })
    .await;
    let reads_nothing = open.pop();
    drop(open);
    eventually("who has gone holds nothing", async || {
        (under_way().await == 1.0).then_some(())
    })
    .await;
    gateway.get("/shop/x").outside_contract().send().await.expect(200);
    // Who takes nothing of an answer for a while is closed.
    eventually("who reads nothing holds nothing", async || {
        (under_way().await == 0.0).then_some(())
    })
    .await;
    drop(reads_nothing);
    let gone = metric(&gateway, &["tollgate_origin_requests_total", "shop", "gone"]).await;
    assert!(gone >= 1.0, "{gone}");
}
