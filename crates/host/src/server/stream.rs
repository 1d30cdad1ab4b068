//! What a connection is read from and written to: a socket, or TLS on a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// A socket, or TLS on one; the latter in a box: most of it is the state of the session.
pub type Stream = Either<TcpStream, Box<TlsStream<Bounded>>>;

/// A socket from which so many bytes are read and no more: a handshake has a bound.
#[derive(Debug)]
pub struct Bounded {
    socket: TcpStream,
    left: usize,
}

impl Bounded {
    /// At most `bytes`.
    pub fn new(socket: TcpStream, bytes: usize) -> Self {
        Self { socket, left: bytes }
    }

    /// From now on without a bound.
    pub fn unbound(&mut self) {
        self.left = usize::MAX;
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == usize::MAX {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the handshake is larger than it may be")));
        }
        // What rustls has room for is read at a time, and the bound kept to as much: so nothing need be copied.
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        self.left = self.left.saturating_sub(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }
}
