//! One request on a connection of its own: to set up a server, and to see that it answers what is going to be counted.

use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Connects to a port of the loopback.
pub fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends bytes, and gives the status and everything that came back. `head` is the request line and headers without
/// `host`, `connection` and `content-length`, each line with its end.
pub fn exchange(port: u16, head: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = connect(port)?;
    let length = body.len();
    let request = format!(
        "{head}host: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("no answer in HTTP/1.1")?, answer))
}

/// The status of a GET, if there is an answer.
pub fn status(port: u16, path: &str) -> Option<u16> {
    let head = format!("GET {path} HTTP/1.1\r\nx-client-id: probe\r\n");
    exchange(port, &head, "").ok().map(|(status, _)| status)
}

/// Fails unless a GET is answered with this status.
pub fn expect(port: u16, path: &str, wanted: u16) -> Result<()> {
    match status(port, path) {
        Some(status) if status == wanted => Ok(()),
        Some(status) => {
            bail!("GET {path} is answered {status}, not {wanted}: it would not measure what it says")
        }
        None => bail!("GET {path} is not answered"),
    }
}
