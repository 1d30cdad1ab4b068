//! The body of a request on its way to an origin: piece by piece, as fast as the origin takes it.

use crate::server::traffic::Traffic;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take for the next piece of a body.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has more bytes than it may.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It broke off.
    NotWhole,
}

/// How far a body has come.
#[derive(Debug)]
pub struct Progress {
    is_empty: bool,
    is_done: Cell<bool>,
    fault: Cell<Option<Fault>>,
    moved: Cell<Instant>,
}

impl Progress {
    /// Of a body that is still to come, or of none.
    pub fn new(is_empty: bool) -> Rc<Self> {
        Rc::new(Self {
            is_empty,
            is_done: Cell::new(is_empty),
            fault: Cell::new(None),
            moved: Cell::new(Instant::now()),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether all of it was handed on.
    pub fn is_done(&self) -> bool {
        self.is_done.get()
    }

    /// What is wrong with it, if anything is.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// When a piece of it was handed on last.
    pub fn moved(&self) -> Instant {
        self.moved.get()
    }
}

/// The body of a request as hyper sends it.
pub enum Outgoing {
    /// There is none.
    Empty,
    /// It comes from a client.
    Upload(Box<Upload>),
}

/// The body of a client's request.
pub struct Upload {
    incoming: Incoming,
    left: u64,
    traffic: Rc<Traffic>,
    progress: Rc<Progress>,
    time: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// At most `max` bytes.
    pub fn new(incoming: Incoming, traffic: Rc<Traffic>, max: u64, progress: Rc<Progress>) -> Self {
        Self {
            incoming,
            left: max,
            traffic,
            progress,
            time: None,
        }
    }

    fn fails(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err("the body of the request broke off".into())))
    }

    fn ends(&self) {
        self.progress.is_done.set(true);
        self.traffic.set_unread(false);
    }
}

type Cut = Box<dyn Error + Send + Sync>;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self::Upload(upload) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(&mut upload.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(_))) => return upload.fails(Fault::NotWhole),
            Poll::Ready(None) => {
                upload.ends();
                return Poll::Ready(None);
            }
            Poll::Pending => {
                let time = upload
                    .time
                    .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + TIMEOUT)));
                return match time.as_mut().poll(context) {
                    Poll::Ready(()) => upload.fails(Fault::TooSlow),
                    Poll::Pending => Poll::Pending,
                };
            }
        };
        upload.time = None;
        upload.progress.moved.set(Instant::now());
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        if length > upload.left {
            return upload.fails(Fault::TooLarge);
        }
        upload.left -= length;
        if upload.incoming.is_end_stream() {
            upload.ends();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}
