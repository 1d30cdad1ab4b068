//! Uploads that are refused while they still come: the sender gets to read the refusal (RFC 9112, section
//! 9.6).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::http2::{DATA, END_HEADERS, HEADERS, PREFACE, RESET, SETTINGS, frame, frames, literal};
use super::{assert_bounded, serves_others};
use crate::harness::{Connection, Gateway, Host};

/// What is uploaded: far more than sockets buffer.
const UPLOAD: usize = 5 << 20;
const TRIES: usize = 50;
/// How long an answer may take, or a connection after it.
const PATIENCE: Duration = Duration::from_secs(15);
/// The address is limited to a few requests in an hour.
const LIMITED: &str = "/api/bounded/address";

/// Sends all of `head` and a body of [`UPLOAD`] bytes before it reads anything; the answer, and how it ended.
fn upload(address: &str, head: &str, chunked: bool) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    let wait = Some(PATIENCE);
    stream
        .set_write_timeout(wait)
        .and_then(|()| stream.set_read_timeout(wait))
        .expect("not zero");
    let piece = vec![b'x'; 64 << 10];
    let send = |stream: &mut TcpStream| {
        stream.write_all(head.as_bytes())?;
        for _ in 0..UPLOAD / piece.len() {
            if chunked {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            stream.write_all(&piece)?;
            if chunked {
                stream.write_all(b"\r\n")?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    send(&mut stream).map_err(|error| format!("sending: {error}"))?;
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .map_err(|error| format!("reading: {error}"))?;
    Ok(String::from_utf8_lossy(&received).into_owned())
}

pub async fn refused_uploads_get_their_answer(host: Host) {
    let gateway = Gateway::start(host, "").await;
    for _ in 0..4 {
        gateway.get(&format!("{LIMITED}/uploads")).send().await;
    }
    let (before, address) = (gateway.memory(), gateway.address());
    let sized = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n");
    let chunked = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nhost: a\r\n{fields}transfer-encoding: chunked\r\n\r\n")
    };
    let limited = format!("POST {LIMITED}/uploads");
    let cases = [
        (429, sized(&limited), false),
        (429, chunked(&limited, ""), true),
        (413, sized("POST /signup"), false),
        (413, chunked("POST /signup", "x-client-id: c\r\n"), true),
        (405, sized("POST /health/live"), false),
        (404, sized("GET /nobody-made-this"), false),
        (413, sized("POST /api/campaigns/none/claims"), false),
        (400, sized("POST /signup").replace("host: a\r\n", ""), false),
        (501, chunked("POST /signup", "transfer-encoding: gzip\r\n"), true),
        (
            431,
            format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}", "x".repeat(40 << 10)),
            false,
        ),
        (400, "no request\r\n\r\n".to_owned(), false),
    ];
    let uploads = tokio::task::spawn_blocking(move || {
        for (status, head, chunked) in &cases {
            let line = head.lines().next().unwrap_or_default();
            for n in 0..TRIES {
                let answer = upload(&address, head, *chunked);
                let answer = answer.unwrap_or_else(|error| panic!("{line}, try {n}: {error}"));
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} "))
                        && answer.contains("\r\nx-request-id: ")
                        && answer.ends_with('}')
                        && answer.contains(&format!("\"status\":{status}")),
                    "{line}, try {n}: {answer}"
                );
            }
        }
    });
    uploads.await.expect("each is answered");
    assert_bounded(&gateway, before);
    serves_others(&gateway).await;
}

/// The rest of an upload without end is not read for ever, and many at once do not keep others out.
pub async fn a_refused_upload_without_end_is_cut_off(host: Host) {
    const CLIENTS: usize = 20;
    let gateway = Gateway::start(host, "").await;
    let (before, address) = (gateway.memory(), gateway.address());
    let uploads = (0..CLIENTS).map(|client| {
        let address = address.clone();
        tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
            let head = "POST /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n";
            let began = Instant::now();
            let mut open = stream.write_all(head.as_bytes()).await.is_ok();
            let piece = vec![b'x'; 256 << 10];
            while open && began.elapsed() < PATIENCE {
                // As fast as it goes, or a little now and then.
                let some = if client % 2 == 0 { &piece[..] } else { &piece[..1] };
                open = stream.write_all(some).await.is_ok();
                if client % 2 == 1 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            open
        })
    });
    let uploads: Vec<_> = uploads.collect();
    serves_others(&gateway).await;
    for upload in uploads {
        assert!(!upload.await.expect("it does not panic"), "it was read on and on");
    }
    assert_bounded(&gateway, before);
}

pub async fn who_waits_to_be_told_to_send_is_answered_at_once(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let head = "HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5000000\r\n\r\n";
    for (line, status) in [
        ("POST /health/live", 405),
        ("POST /signup", 413),
        ("POST /signup", 413),
    ] {
        let began = Instant::now();
        let mut connection = Connection::open(&gateway.address()).await.expect("it listens");
        connection
            .send(format!("{line} {head}").as_bytes())
            .await
            .expect("it is open");
        let answer = connection.answer(line).await.expect("an answer");
        assert_eq!(answer.header("connection"), "close");
        answer.expect(status);
        assert!(began.elapsed() < Duration::from_secs(2), "{line}");
    }
    // A small one that has come already keeps its connection.
    let mut connection = Connection::open(&gateway.address()).await.expect("it listens");
    for _ in 0..3 {
        let small = "POST /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
        connection.send(small.as_bytes()).await.expect("it is open");
        let answer = connection.answer("POST /health/live").await.expect("an answer");
        assert_eq!(answer.maybe_header("connection"), None);
        answer.expect(405);
    }
}

/// HTTP/2 ends the one stream, without an error (RFC 9113, section 8.1), and goes on with the others.
pub async fn a_refused_upload_over_http_2_ends_its_stream_alone(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let stream = tokio::net::TcpStream::connect(gateway.address())
        .await
        .expect("it listens");
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        let mut buffer = [0; 16_384];
        while let Ok(Ok(read @ 1..)) =
            tokio::time::timeout(Duration::from_secs(2), reader.read(&mut buffer)).await
        {
            received.extend_from_slice(&buffer[..read]);
        }
        received
    });
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    for stream in [1, 3, 5] {
        // `POST http://a/health/live`
        let mut fields = vec![0x83, 0x86, 0x41, 1, b'a'];
        fields.extend(literal(4, b"/health/live"));
        sent.extend(frame(HEADERS, END_HEADERS, stream, &fields));
        // As much as the window of a stream allows, and that of the connection.
        for _ in 0..16 {
            sent.extend(frame(DATA, 0, stream, &[b'x'; 1_000]));
        }
    }
    writer.write_all(&sent).await.expect("it is open");
    let received = reading.await.expect("it does not panic");
    let frames = frames(&received);
    for stream in [1, 3, 5] {
        let of = |kind| {
            frames
                .iter()
                .filter(move |frame| frame.kind == kind && frame.stream == stream)
        };
        let body: Vec<u8> = of(DATA).flat_map(|frame| frame.payload.clone()).collect();
        assert!(
            String::from_utf8_lossy(&body).contains("\"status\":405"),
            "stream {stream}"
        );
        let resets: Vec<_> = of(RESET).map(|frame| frame.payload.clone()).collect();
        assert!(
            resets.iter().all(|code| code == &[0; 4]),
            "stream {stream}: {resets:?}"
        );
    }
    assert!(
        frames.iter().all(|frame| frame.kind != 7),
        "the connection goes on"
    );
}
