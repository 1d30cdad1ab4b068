//! A connection to an origin that remembers whether it was answered on: one that was, and fails before the next answer,
//! was most likely closed while it was idle.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Whether an answer came over this connection.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<AtomicBool>);

/// A connection to an origin.
#[derive(Debug)]
pub(super) struct Stream {
    inner: TokioIo<TcpStream>,
    answered: Answered,
}

impl Stream {
    pub fn new(inner: TokioIo<TcpStream>) -> Self {
        Self {
            inner,
            answered: Answered::default(),
        }
    }
}

/// An answer came over the connection that its extensions tell of.
pub(super) fn answered(extensions: &Extensions) {
    if let Some(Answered(answered)) = extensions.get() {
        answered.store(true, Ordering::Relaxed);
    }
}

/// Whether the connection had been answered on before.
pub(super) fn was_reused(connection: &Connected) -> bool {
    let mut extensions = Extensions::new();
    connection.get_extras(&mut extensions);
    let answered = extensions.get::<Answered>();
    answered.is_some_and(|Answered(answered)| answered.load(Ordering::Relaxed))
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.answered.clone())
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }
}
