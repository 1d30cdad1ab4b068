//! The body of an origin's answer on its way to a client: piece by piece, as fast as the client takes it.

use super::fields;
use super::origin::Attempt;
use super::pool::Pools;
use super::upload::Progress;
use crate::server::traffic::{Traffic, UnderWay};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::upload::Outgoing;

/// What an answer holds until its body has ended.
pub struct Held {
    /// Its address has one more under way.
    pub attempt: Attempt,
    /// Its place among the origin's requests.
    pub place: OwnedSemaphorePermit,
    /// The connection, to be used again.
    pub sender: Option<http1::SendRequest<Outgoing>>,
    /// Where it is given back to.
    pub pools: Rc<Pools>,
}

/// The body of an answer.
pub struct Download {
    /// What was read of it before.
    begin: Bytes,
    incoming: Incoming,
    /// Of the request's body, which may still be under way.
    upload: Rc<Progress>,
    silence: Duration,
    time: Option<Pin<Box<Sleep>>>,
    held: Option<Held>,
    traffic: Rc<Traffic>,
    /// While the origin is waited for: the client is not late meanwhile. It is where it does not take what is here.
    waits: Option<UnderWay>,
}

/// Why a body did not end as it should.
type Broken = Box<dyn Error + Send + Sync>;

impl Download {
    /// A body that neither side is silent in for longer than `silence`.
    pub fn new(
        incoming: Incoming,
        upload: Rc<Progress>,
        silence: Duration,
        traffic: Rc<Traffic>,
        held: Held,
    ) -> Self {
        let mut download = Self {
            begin: Bytes::new(),
            incoming,
            upload,
            silence,
            time: None,
            held: Some(held),
            traffic,
            waits: None,
        };
        if download.incoming.is_end_stream() {
            download.ended();
        }
        download
    }

    /// The same for this client, after the beginning that was read already.
    pub fn for_client(self, begin: Bytes, traffic: &Rc<Traffic>) -> Self {
        Self {
            begin,
            traffic: Rc::clone(traffic),
            waits: None,
            ..self
        }
    }

    /// All of it is here: what it held is free for the next.
    fn ended(&mut self) {
        (self.time, self.waits) = (None, None);
        let Some(held) = self.held.take() else { return };
        if let Some(sender) = held.sender.filter(|_| self.upload.is_done()) {
            let index = held.attempt.index();
            held.pools.give_back(held.attempt.origin(), index, sender);
        }
        drop(held.place);
    }

    fn cut(&mut self, why: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        (self.time, self.waits) = (None, None);
        if let Some(held) = self.held.take() {
            held.attempt.origin().counts.cut.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Some(Err(why)))
    }

    fn waits(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.waits.is_none() {
            self.waits = Some(self.traffic.under_way());
        }
        let silence = self.silence;
        let time = self
            .time
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + silence)));
        while time.as_mut().poll(context).is_ready() {
            let until = self.upload.moved() + silence;
            if self.upload.is_done() || until <= Instant::now() {
                return self.cut("the origin was silent for too long".into());
            }
            time.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if !this.begin.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.begin)))));
        }
        let frame = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Pending => return this.waits(context),
            Poll::Ready(None) => {
                this.ended();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => return this.cut(error.into()),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        (this.time, this.waits) = (None, None);
        if this.incoming.is_end_stream() {
            this.ended();
        }
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                fields::trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.begin.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.begin.is_empty() {
            true => self.incoming.size_hint(),
            false => SizeHint::new(),
        }
    }
}
