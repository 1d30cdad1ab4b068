//! The stream below hyper, for two things that hyper does not do. An answer of hyper's parser becomes a
//! problem document. A connection that closes before all was read is closed so that its last answer arrives.

use super::head;
use super::stream::Stream;
use super::traffic::Traffic;
use super::watch::{Heads, Watched};
use crate::access_log::entry::Unparsed;
use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use send_wrapper::SendWrapper;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncRead as _;
use tokio::time::Sleep;

/// How long the rest of what a client sends is read and dropped after the last answer, while it does not close. If it were
/// not read, the kernel would answer it with a reset, and the client would throw the answer away (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(5);
/// The most bytes that are dropped so.
const LINGER_BYTES: usize = 16 << 20;
/// The most connections of a worker that linger at once; beyond it they close at once.
const MAX_LINGERING: u32 = 256;
/// The bytes that are read and dropped at a time.
const PIECE: usize = 8 << 10;

/// A stream in the form that hyper takes.
pub struct Wire {
    io: TokioIo<Stream>,
    heads: Heads,
    traffic: Rc<Traffic>,
    lingering: Rc<Cell<u32>>,
    /// The last write took less than it was given: what is written next begins with the rest.
    behind: bool,
    /// What is left of an answer that is sent in place of the parser's.
    instead: Option<Bytes>,
    /// Counts such answers, and tells the access log.
    unparsed: Unparsed,
    rest: Option<Rest>,
}

/// The bytes that are read and dropped after the last answer.
#[derive(Debug)]
struct Rest {
    until: Pin<Box<Sleep>>,
    bytes: usize,
    counted: Rc<Cell<u32>>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.counted.set(self.counted.get().saturating_sub(1));
    }
}

impl Wire {
    /// The wire of a connection that is watched.
    pub fn new(stream: Stream, watched: &Watched, unparsed: Unparsed) -> Self {
        Self {
            io: TokioIo::new(stream),
            heads: watched.heads(),
            traffic: Rc::clone(watched.traffic()),
            lingering: watched.lingering(),
            behind: false,
            instead: None,
            unparsed,
            rest: None,
        }
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>, given: usize) {
        self.behind = !matches!(written, Poll::Ready(Ok(count)) if *count == given);
        // A client of HTTP/2 makes us write by a mere ping.
        if matches!(written, Poll::Ready(Ok(1..))) && !self.traffic.is_http2() {
            self.heads.moved();
        }
    }

    /// Reads and drops what the client still sends, until it closes or a bound is reached.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.rest.is_none() {
            let lingering = self.lingering.get();
            if lingering >= MAX_LINGERING {
                return Poll::Ready(());
            }
            self.lingering.set(lingering + 1);
            self.rest = Some(Rest {
                until: Box::pin(tokio::time::sleep(LINGER)),
                bytes: LINGER_BYTES,
                counted: Rc::clone(&self.lingering),
            });
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(());
        };
        if rest.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; PIECE];
        loop {
            let mut piece = tokio::io::ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(self.io.inner_mut()).poll_read(context, &mut piece));
            let count = piece.filled().len();
            rest.bytes = rest.bytes.saturating_sub(count);
            if read.is_err() || count == 0 || rest.bytes == 0 {
                return Poll::Ready(());
            }
        }
    }
}

/// A wire that stays on the thread of its worker. hyper lets go of a connection that switches protocols only where it could go to
/// another thread; this one does not.
pub struct Here(SendWrapper<Wire>);

impl Here {
    /// On this thread.
    pub fn new(wire: Wire) -> Self {
        Self(SendWrapper::new(wire))
    }
}

impl Read for Here {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl Write for Here {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, pieces)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // While hyper waits for a head and has written all that it had, nothing but its parser answers.
        if this.heads.is_waiting() && !this.behind && this.instead.is_none() {
            this.instead = head::instead_of(bytes, &this.unparsed.cors()).map(|instead| {
                this.unparsed
                    .refused(instead.status, &instead.request_id, instead.body);
                instead.bytes
            });
        }
        if let Some(instead) = &mut this.instead {
            while instead.has_remaining() {
                match ready!(Pin::new(&mut this.io).poll_write(context, instead))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => instead.advance(count),
                }
            }
            this.instead = None;
            // What follows a head that could not be read is not read.
            this.traffic.set_unread(true);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.wrote(&written, bytes.len());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.traffic.is_over() {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.traffic.set_over();
        }
        if self.traffic.is_unread() && !self.traffic.is_http2() {
            ready!(self.poll_rest(context));
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // HTTP/2 only; see `writev` in `super::connection`.
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}
