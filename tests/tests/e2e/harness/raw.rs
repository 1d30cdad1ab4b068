//! Requests that no sound client sends, byte by byte.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Answer;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Header fields of an answer that are looked at.
const MAX_HEADERS: usize = 64;

/// Sends bytes on a connection of their own and reads what is answered until the connection closes, or the answer is
/// complete by its `Content-Length`.
pub async fn exchange(address: &str, request: &[u8]) -> Answer {
    let line =
        String::from_utf8_lossy(request.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    let talk = async {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        let (mut reader, mut writer) = stream.into_split();
        // The gateway may answer, and close, before it has read everything.
        let request = request.to_vec();
        let sending = tokio::spawn(async move {
            let _ = writer.write_all(&request).await;
            writer
        });
        let mut received = Vec::new();
        let mut buffer = [0; 8_192];
        while parse(&received, &line, false).is_none() {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => received.extend_from_slice(&buffer[..read]),
            }
        }
        sending.abort();
        received
    };
    let received = tokio::time::timeout(TIMEOUT, talk)
        .await
        .expect("an answer in time");
    parse(&received, &line, true)
        .unwrap_or_else(|| panic!("{line}: no whole answer:\n{}", String::from_utf8_lossy(&received)))
}

/// A connection that is kept, and on which it is known how far a request came.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects, if somebody listens.
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self { stream })
    }

    /// Sends a request. Once this is done, the system has all of it.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await
    }

    /// The answer, or what came of it before the connection ended.
    pub async fn answer(&mut self, line: &str) -> Result<Answer, Vec<u8>> {
        let mut received = Vec::new();
        let mut buffer = [0; 8_192];
        loop {
            if let Some(answer) = parse(&received, line, false) {
                return Ok(answer);
            }
            match tokio::time::timeout(TIMEOUT, self.stream.read(&mut buffer)).await {
                Ok(Ok(read @ 1..)) => received.extend_from_slice(&buffer[..read]),
                Ok(Ok(0) | Err(_)) | Err(_) => return Err(received),
            }
        }
    }
}

/// The answer in `received`, if all of it is there. Spin closes some connections whose request it did not
/// read to the end. It may do so before it has sent the last, empty chunk of the answer. So once the
/// connection has `ended`, that chunk may be missing.
fn parse(received: &[u8], line: &str, ended: bool) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = http::HeaderMap::with_capacity(MAX_HEADERS);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = http::HeaderName::try_from(name).ok()?;
        headers.append(name, http::HeaderValue::try_from(value.trim()).ok()?);
    }
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let body = match value("transfer-encoding") {
        Some("chunked") => unchunk(&received[end..], ended)?,
        // HTTP/1.0 ends a body of unknown length with the connection.
        _ if ended && value("content-length").is_none() && status == 200 => received[end..].to_vec(),
        _ => {
            let length = value("content-length")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            received.get(end..end + length)?.to_vec()
        }
    };
    Some(Answer {
        line: line.to_owned(),
        status,
        headers,
        body: Bytes::from(body),
    })
}

/// The body in chunks (RFC 9112, section 7.1), if the last one is there, or need not be.
fn unchunk(mut rest: &[u8], ended: bool) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        if rest.is_empty() && ended && !body.is_empty() {
            return Some(body);
        }
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let chunk = rest.get(end + 2..end + 2 + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}
