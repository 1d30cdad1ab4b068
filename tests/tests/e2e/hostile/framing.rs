//! Requests that a proxy in front and the gateway could take for different ones (request smuggling, RFC 9112,
//! section 11.2). Each gets one answer. Where its end is in doubt, the bytes after it are never taken for a
//! request.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::serves_others;
use crate::harness::{Gateway, Host};

const TO_SIGN_UP: &str = "POST /signup HTTP/1.1\r\nhost: short.test\r\nx-client-id: c\r\n";
/// What follows every case on its connection, and ends it where it is answered.
const NEXT: &str = "GET /robots.txt HTTP/1.1\r\nhost: short.test\r\nconnection: close\r\n\r\n";

/// Where the request's end is in doubt, or its syntax broken: answered 400 once, and closed.
const REFUSED: &[(&str, &str)] = &[
    (
        "two lengths",
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ),
    ("a list of lengths", "content-length: 5, 6\r\n\r\nhello"),
    ("a list of one length", "content-length: 5, 5\r\n\r\nhello"),
    ("a length with a sign", "content-length: +5\r\n\r\nhello"),
    ("a negative length", "content-length: -5\r\n\r\nhello"),
    ("a hexadecimal length", "content-length: 0x5\r\n\r\nhello"),
    ("an empty length", "content-length: \r\n\r\n"),
    (
        "a length beyond 64 bits",
        "content-length: 99999999999999999999999\r\n\r\nhello",
    ),
    (
        "two codings",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "an unknown coding",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked is not last",
        "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    ("a vertical tab", "transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    (
        "a space before the colon",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a space before another colon", "content-length : 5\r\n\r\nhello"),
    ("a bare CR in a field", "x-a: b\rcontent-length: 5\r\n\r\n"),
    ("a NUL in a field", "x-a: b\0c\r\ncontent-length: 0\r\n\r\n"),
    ("a folded field", "content-length: 0\r\nx-a: b\r\n folded\r\n\r\n"),
    (
        "a folded coding",
        "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a second host",
        "host: other.test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ),
    (
        "a chunk size beyond 64 bits",
        "transfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "a negative chunk size",
        "transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "a chunk size with a prefix",
        "transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "a chunk size ended by LF",
        "transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    ),
    (
        "a chunk longer than its size",
        "transfer-encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ),
    (
        "an LF in a chunk extension",
        "transfer-encoding: chunked\r\n\r\n5;a=\nb\r\nhello\r\n0\r\n\r\n",
    ),
];

/// Whole but unusual requests, and the statuses that are answered on their connection.
const HANDLED: &[(&str, &str, &[u16])] = &[
    (
        "the same length twice",
        "content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        &[202, 200],
    ),
    (
        "chunks",
        "transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        &[202, 200],
    ),
    (
        "a trailer",
        "transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 5\r\n\r\n",
        &[202, 200],
    ),
    // RFC 9112, section 6.3: the coding counts, and the connection closes.
    (
        "a length, then a coding",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[202],
    ),
    (
        "a coding, then a length",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        &[202],
    ),
];

/// Chunks around what is coded once more: answered 501 once, and closed (RFC 9112, section 6.1).
const CODED: &[(&str, &str)] = &[
    (
        "a coding beneath chunks",
        "transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "a coding in a field of its own",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "an unknown coding beneath chunks, and no body",
        "transfer-encoding: made-up , chunked\r\n\r\n0\r\n\r\n",
    ),
];

/// The statuses of the whole answers in `received`, one after the other.
pub fn statuses(mut received: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        found.push(status.unwrap_or_else(|| panic!("no answer: {head}")));
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length
            .and_then(|length| length.parse::<usize>().ok())
            .unwrap_or(0);
        let rest = received.get(end + 4 + length..);
        received = rest.unwrap_or_else(|| panic!("a cut off answer: {head}"));
    }
    assert!(
        received.is_empty(),
        "not an answer: {:?}",
        String::from_utf8_lossy(received)
    );
    found
}

/// What is answered until the connection closes.
async fn answers(gateway: &Gateway, request: &str, half_close: bool) -> Vec<u16> {
    let mut stream = TcpStream::connect(gateway.address())
        .await
        .expect("the gateway listens");
    stream.write_all(request.as_bytes()).await.expect("it is short");
    if half_close {
        stream.shutdown().await.expect("it is open");
    }
    let mut received = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        received.extend_from_slice(&buffer[..read]);
    }
    statuses(&received)
}

pub async fn one_request_never_gets_two_answers(host: Host) {
    let gateway = Gateway::start(host, "").await;
    for (what, rest) in REFUSED {
        let found = answers(&gateway, &format!("{TO_SIGN_UP}{rest}{NEXT}"), false).await;
        assert_eq!(found, [400], "{what}");
    }
    assert_eq!(
        gateway.messages("signup").await.len(),
        0,
        "nothing of it was taken"
    );
    let mut taken = 0;
    for (what, rest, expected) in HANDLED {
        let found = answers(&gateway, &format!("{TO_SIGN_UP}{rest}{NEXT}"), false).await;
        assert_eq!(found, *expected, "{what}");
        taken += 1;
    }
    assert_eq!(gateway.messages("signup").await.len(), taken);
    // A request in the body of another one is a body.
    let hidden = NEXT.replace("robots.txt", "health/live");
    for method_and_path in [
        "GET /robots.txt",
        "GET /health/live",
        "POST /health/live",
        "DELETE /robots.txt",
    ] {
        let length = hidden.len();
        let plain = format!(
            "{method_and_path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{hidden}{NEXT}"
        );
        let chunked = format!(
            "{method_and_path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n{NEXT}"
        );
        for request in [plain, chunked] {
            let found = answers(&gateway, &request, false).await;
            assert!(
                found.len() <= 2,
                "{method_and_path} answered its own body: {found:?}"
            );
        }
    }
    // The largest chunk size there is: its end never comes, and nothing behind it is a request.
    let endless =
        format!("{TO_SIGN_UP}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n{NEXT}");
    let found = answers(&gateway, &endless, true).await;
    assert!(found.is_empty() || found == [400], "{found:?}");
    for start in [
        "GET /robots.txt HTTP/1.1\rhost: a\r\n\r\n",
        "GET /robots.txt HTTP/1.1\r\n host: a\r\n\r\n",
        "GET /robots.txt HTTP/1.1\r\n\r\n",
        "GET /robots.txt\r\n\r\n",
        "GET  /robots.txt HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /robots.txt HTTP/1.1 \r\nhost: a\r\n\r\n",
        "G\u{0}T /robots.txt HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /signup HTTP/1.0\r\nhost: a\r\nx-client-id: c\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let found = answers(&gateway, &format!("{start}{NEXT}"), false).await;
        assert_eq!(found.first(), Some(&400), "{start:?}");
        // Only a missing host leaves no doubt about where the request ends.
        assert!(
            found.len() == 1 || start == "GET /robots.txt HTTP/1.1\r\n\r\n",
            "{start:?} {found:?}"
        );
    }
    assert_eq!(gateway.messages("signup").await.len(), taken);
    serves_others(&gateway).await;
}

pub async fn transfer_codings_that_are_not_understood_are_told(host: Host) {
    let gateway = Gateway::start(host, "").await;
    for (what, rest) in CODED {
        let request = format!("{TO_SIGN_UP}{rest}");
        gateway.raw(&request).await.problem(501, "not-implemented");
        let found = answers(&gateway, &format!("{request}{NEXT}"), false).await;
        assert_eq!(found, [501], "{what}");
    }
    let capitals = format!("{TO_SIGN_UP}transfer-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}");
    assert_eq!(answers(&gateway, &capitals, false).await, [202, 200]);
    assert_eq!(
        gateway.messages("signup").await.len(),
        1,
        "nothing else was taken"
    );
}

/// What hyper's parser answers by itself, before a request is one.
pub async fn the_parsers_refusals_are_problems_like_all_others(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let host_line = "host: a\r\n";
    let mut ids = std::collections::BTreeSet::new();
    for (start, status, slug) in [
        ("no request\r\n\r\n".to_owned(), 400, "invalid-request"),
        (
            format!("GET / HTTP/9.9\r\n{host_line}\r\n"),
            400,
            "invalid-request",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host_line}a b: c\r\n\r\n"),
            400,
            "invalid-request",
        ),
        (
            format!("G\u{0}T / HTTP/1.1\r\n{host_line}\r\n"),
            400,
            "invalid-request",
        ),
        (
            format!("{TO_SIGN_UP}content-length: 5, 6\r\n\r\nhello"),
            400,
            "invalid-request",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host_line}{}\r\n", "x: y\r\n".repeat(200)),
            431,
            "header-fields-too-large",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n{host_line}\r\n", "x".repeat(100_000)),
            431,
            "header-fields-too-large",
        ),
    ] {
        let answer = gateway.raw(&start).await;
        answer.problem(status, slug);
        assert_eq!(answer.header("connection"), "close");
        answer.header("date");
        assert!(
            ids.insert(answer.header("x-request-id").to_owned()),
            "each has its own"
        );
        // Behind others on the same connection: these are as they were.
        let good = "GET /robots.txt HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
        let found = answers(&gateway, &format!("{good}{post}{good}{start}{NEXT}"), false).await;
        assert_eq!(found, [200, 405, 200, status], "{start:.60}");
    }
    serves_others(&gateway).await;
}
