//! HTTP/2, frame by frame (RFC 9113, section 4.1), by a client that does not play fair.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{assert_bounded, serves_others};
use crate::harness::{Gateway, Host, crowd};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http://a/`, in fields of HPACK's static table (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
const CLIENTS: usize = 8;
/// Frames that a client may send at most; each case ends far before it.
const ENOUGH: u32 = 200_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
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

/// The error code of the last GOAWAY.
fn goaway(mut received: &[u8]) -> Option<u32> {
    let mut code = None;
    while let Some((head, rest)) = received.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(..length)?;
        if head[3] == GOAWAY {
            code = payload
                .get(4..8)
                .map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
        received = &rest[length..];
    }
    code
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
