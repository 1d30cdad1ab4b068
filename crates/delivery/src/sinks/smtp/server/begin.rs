//! How a plain connection begins: with STARTTLS where the server offers it (RFC 3207), before anything of ours is said over it. What
//! comes before TLS is forgotten, so that nobody in between can put words in front of it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf,
};

use crate::sinks::reach::{Reach, Wire};

/// The most bytes of one answer.
const MAX_ANSWER: u64 = 8 << 10;
/// Stands for the greeting that was read here.
const GREETED: &[u8] = b"220 ready\r\n";

/// A connection whose greeting may have been read already.
#[derive(Debug)]
pub(super) struct Begun {
    wire: Box<dyn Wire>,
    /// What is still to be read before what comes over the wire.
    greeting: &'static [u8],
    is_encrypted: bool,
}

impl Begun {
    /// One that is TLS from its first byte on.
    pub fn encrypted(wire: Box<dyn Wire>) -> Self {
        Self {
            wire,
            greeting: b"",
            is_encrypted: true,
        }
    }

    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }
}

/// Reads the greeting, and turns to TLS where the server offers it.
pub(super) async fn begin(
    reach: &Reach,
    wire: Box<dyn Wire>,
    host: &str,
    name: &ClientId,
) -> Result<Begun, String> {
    let mut wire = BufReader::new(wire);
    expect(&mut wire, "220").await?;
    say(&mut wire, &format!("EHLO {name}")).await?;
    let offers = answer(&mut wire).await?;
    let is_offered = |line: &String| {
        line.get(4..)
            .is_some_and(|offer| offer.trim().eq_ignore_ascii_case("STARTTLS"))
    };
    if !offers.iter().any(is_offered) {
        return Ok(Begun {
            wire: wire.into_inner(),
            greeting: GREETED,
            is_encrypted: false,
        });
    }
    say(&mut wire, "STARTTLS").await?;
    expect(&mut wire, "220").await?;
    if !wire.buffer().is_empty() {
        return Err("the mail server spoke on before TLS".to_owned());
    }
    let secured = reach.secure(wire.into_inner(), host).await;
    Ok(Begun {
        wire: secured.map_err(|error| error.to_string())?,
        greeting: GREETED,
        is_encrypted: true,
    })
}

async fn say(wire: &mut BufReader<Box<dyn Wire>>, command: &str) -> Result<(), String> {
    let written = wire.write_all(format!("{command}\r\n").as_bytes()).await;
    written.map_err(|error| error.to_string())?;
    wire.flush().await.map_err(|error| error.to_string())
}

async fn expect(wire: &mut BufReader<Box<dyn Wire>>, code: &str) -> Result<(), String> {
    let lines = answer(wire).await?;
    match lines.first() {
        Some(line) if line.starts_with(code) => Ok(()),
        line => Err(format!(
            "the mail server answered {}",
            line.map_or("nothing", |line| line.trim())
        )),
    }
}

/// The lines of one answer, within bounds.
async fn answer(wire: &mut BufReader<Box<dyn Wire>>) -> Result<Vec<String>, String> {
    let (mut lines, mut left) = (Vec::new(), MAX_ANSWER);
    loop {
        let mut line = Vec::new();
        let read = (&mut *wire).take(left).read_until(b'\n', &mut line).await;
        left -= read.map_err(|error| error.to_string())? as u64;
        if line.pop() != Some(b'\n') {
            return Err("the mail server's answer ends early, or is too long".to_owned());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let goes_on = line.as_bytes().get(3) == Some(&b'-');
        lines.push(line);
        if !goes_on {
            return Ok(lines);
        }
    }
}

impl AsyncTokioStream for Begun {
    /// Nobody asks.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.wire).poll_read(cx, buffer);
        }
        let (now, later) = self
            .greeting
            .split_at(self.greeting.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.greeting = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
