//! HTTP/2, frame by frame (RFC 9113, section 4.1), by a client that does not play fair.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{assert_bounded, serves_others};
use crate::harness::{Gateway, Host, crowd};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// `GET http://a/`, in fields of HPACK's static table (RFC 7541, appendix A).
pub const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
const CLIENTS: usize = 8;
/// Frames that a client may send at most; each case ends far before it.
const ENOUGH: u32 = 200_000;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Sends what `next` makes, for as long as the gateway keeps the connection; whether it ended it, and the error that it
/// gave (RFC 9113, section 7).
async fn flood(address: String, next: impl Fn(u32) -> Vec<u8>) -> (bool, Option<u32>) {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        let mut buffer = [0; 16_384];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..read]);
        }
        goaway(&received)
    });
    let mut start = PREFACE.to_vec();
    start.extend(frame(SETTINGS, 0, 0, &[]));
    let mut ended = writer.write_all(&start).await.is_err();
    let mut number = 0;
    while !ended && number < ENOUGH {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(next(number));
            number += 1;
        }
        ended = writer.write_all(&batch).await.is_err() || reading.is_finished();
    }
    drop(writer);
    (ended, reading.await.expect("it does not panic"))
}

/// A field that is not indexed, with a name of the static table.
pub fn literal(name: u8, value: &[u8]) -> Vec<u8> {
    // A prefix of four bits (RFC 7541, section 5.1).
    let mut field = if name < 15 {
        vec![name]
    } else {
        vec![15, name - 15]
    };
    field.push(u8::try_from(value.len()).expect("it is short"));
    field.extend_from_slice(value);
    field
}

/// A frame that was received.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The whole frames of what was received.
pub fn frames(mut received: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = received.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = rest.get(..length) else {
            break;
        };
        frames.push(Frame {
            kind: head[3],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: payload.to_vec(),
        });
        received = &rest[length..];
    }
    frames
}

/// The error code of the last GOAWAY.
fn goaway(received: &[u8]) -> Option<u32> {
    let frames = frames(received);
    let last = frames.iter().rfind(|frame| frame.kind == GOAWAY)?;
    let code = last.payload.get(4..8)?;
    Some(u32::from_be_bytes([code[0], code[1], code[2], code[3]]))
}

/// CVE-2023-44487: streams that are reset as soon as they are opened.
pub async fn rapid_resets_end_the_connection(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let (before, address) = (gateway.memory(), gateway.address());
    let attack = crowd(CLIENTS, 0..CLIENTS, |_| {
        flood(address.clone(), |number| {
            let stream = 2 * number + 1;
            let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
            pair.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
            pair
        })
    });
    let (ended, ()) = tokio::join!(attack, serves_others(&gateway));
    for (ended, code) in ended {
        assert!(ended, "the gateway took {ENOUGH} resets, and went on ({code:?})");
    }
    assert_bounded(&gateway, before);
    serves_others(&gateway).await;
}

/// VU#421644: a head that goes on in CONTINUATION frames without end.
pub async fn continuation_without_end_ends_the_connection(host: Host) {
    let gateway = Gateway::start(host, "").await;
    let (before, address) = (gateway.memory(), gateway.address());
    // A literal field that is not indexed: its name `x`, and 100 bytes.
    let mut field = vec![0, 1, b'x', 100];
    field.extend([b'y'; 100]);
    let fields = field.repeat(100);
    let attack = crowd(CLIENTS, 0..CLIENTS, |client| {
        let fields = fields.clone();
        flood(address.clone(), move |number| match (number, client % 2) {
            (0, _) => frame(HEADERS, END_STREAM, 1, GET),
            // Also without any field, so that the list of fields does not grow.
            (_, 0) => frame(CONTINUATION, 0, 1, &fields),
            (_, _) => frame(CONTINUATION, 0, 1, &[]),
        })
    });
    let (ended, ()) = tokio::join!(attack, serves_others(&gateway));
    for (client, (ended, code)) in ended.into_iter().enumerate() {
        assert!(
            ended,
            "client {client}: the gateway read {ENOUGH} frames of a head, and went on ({code:?})"
        );
    }
    assert_bounded(&gateway, before);
    serves_others(&gateway).await;
}

/// One request's fault is answered on its own stream: a `CONNECT` that has a body, more fields than are taken, a head that
/// is too large.
pub async fn one_bad_stream_ends_alone(host: Host) {
    const METHOD: u8 = 2;
    const AUTHORITY: u8 = 1;
    const CONTENT_LENGTH: u8 = 28;
    let gateway = Gateway::start(host, "").await;
    let connect = [
        literal(METHOD, b"CONNECT"),
        literal(AUTHORITY, b"a:1"),
        literal(CONTENT_LENGTH, b"5"),
    ]
    .concat();
    let field = |length| [&[0, 1, b'x', length][..], &vec![b'y'; length.into()]].concat();
    let many = [GET, &field(1).repeat(101)].concat();
    let most = [GET, &field(1).repeat(100)].concat();
    let large = [GET, &field(120).repeat(300)].concat();
    for bad_first in [true, false] {
        let stream = TcpStream::connect(gateway.address())
            .await
            .expect("the gateway listens");
        let (mut reader, mut writer) = stream.into_split();
        let mut sent = PREFACE.to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        let mut next = if bad_first { 1 } else { 3 };
        if !bad_first {
            sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
        }
        let mut bad = Vec::new();
        let mut good = Vec::new();
        for _ in 0..20 {
            for (fields, is_good, flags) in [
                (&connect, false, END_HEADERS),
                (&most, true, END_HEADERS | END_STREAM),
                (&many, false, END_HEADERS | END_STREAM),
                (&GET.to_vec(), true, END_HEADERS | END_STREAM),
                (&large, false, END_STREAM),
            ] {
                let mut pieces = fields.chunks(16_000);
                let first = pieces.next().unwrap_or_default();
                sent.extend(frame(HEADERS, flags, next, first));
                for piece in pieces {
                    sent.extend(frame(CONTINUATION, 0, next, piece));
                }
                if flags & END_HEADERS == 0 {
                    sent.extend(frame(CONTINUATION, END_HEADERS, next, &[]));
                }
                if is_good { &mut good } else { &mut bad }.push(next);
                next += 2;
            }
        }
        writer.write_all(&sent).await.expect("it is open");
        let mut received = Vec::new();
        let mut buffer = [0; 16_384];
        let patience = std::time::Duration::from_secs(2);
        while let Ok(Ok(read @ 1..)) = tokio::time::timeout(patience, reader.read(&mut buffer)).await {
            received.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(goaway(&received), None, "the connection goes on");
        let frames = frames(&received);
        let told = |stream, text: &str| {
            let body = frames
                .iter()
                .filter(|frame| frame.kind == DATA && frame.stream == stream);
            let body: Vec<u8> = body.flat_map(|frame| frame.payload.clone()).collect();
            String::from_utf8_lossy(&body).contains(text)
        };
        for stream in good {
            assert!(told(stream, "\"status\":404"), "stream {stream} is answered");
        }
        for stream in bad {
            let ended = frames
                .iter()
                .any(|frame| frame.kind == RESET && frame.stream == stream);
            assert!(
                ended || told(stream, "\"status\":431"),
                "stream {stream} is refused"
            );
        }
    }
    serves_others(&gateway).await;
}
