//! What follows an upgrade: bytes, both ways, until either side has ended or nothing moves.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};

/// The bytes of either direction that may be under way.
const BUFFER: usize = 16 << 10;

/// Notes when something was read.
struct Noted<S> {
    stream: S,
    moved: Rc<Cell<Instant>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.moved.set(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Copies both ways until both have ended, one fails, or neither has sent anything for `silence`.
pub async fn run<A, B>(client: A, origin: B, silence: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Rc::new(Cell::new(Instant::now()));
    let noted = |moved: &Rc<Cell<Instant>>| Rc::clone(moved);
    let mut client = Noted {
        stream: client,
        moved: noted(&moved),
    };
    let mut origin = Noted {
        stream: origin,
        moved: noted(&moved),
    };
    let mut copying = pin!(copy_bidirectional_with_sizes(
        &mut client,
        &mut origin,
        BUFFER,
        BUFFER
    ));
    loop {
        tokio::select! {
            _ = &mut copying => return,
            () = sleep_until(moved.get() + silence) => {
                if moved.get().elapsed() >= silence {
                    return;
                }
            }
        }
    }
}

/// A tunnel of a connection, which goes on when HTTP has ended there.
pub type Tunnel = Pin<Box<dyn Future<Output = ()>>>;
