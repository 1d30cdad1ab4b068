//! The body of an answer: whole, as the rules give it, as it comes from a component of the operator's own, or events without end.

use super::traffic::UnderWay;
use super::under_way as places;
use crate::access_log::entry::Ending;
use crate::proxy::download::Download;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tollgate_api::problem::Problem;
use wasmtime_wasi_http::WasiBody;

/// The body of an answer.
pub enum AnswerBody {
    /// All of it is here.
    Whole(Full<Bytes>),
    /// It comes in pieces.
    Streamed(Box<Streamed>),
    /// It comes from an origin.
    Proxied(Box<Download>),
    /// Server-sent events.
    Events(Events),
    /// One of the latter three, of which the access log tells at its end.
    Told(Box<Told>),
    /// One of a request that holds places of concurrency limits until its answer has ended.
    Holding(Box<Holding>),
}

/// A body, and the places that its request holds.
pub struct Holding {
    body: AnswerBody,
    _held: places::Held,
}

/// A body, and what is told when it ends.
pub struct Told {
    body: AnswerBody,
    ending: Ending,
}

impl AnswerBody {
    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// The same, and these places are free when it ends, or is dropped.
    pub fn holding(self, held: places::Held) -> Self {
        Self::Holding(Box::new(Holding {
            body: self,
            _held: held,
        }))
    }

    /// The same, and the access log is told when it ends.
    pub fn told_at_its_end(self, ending: Ending) -> Self {
        Self::Told(Box::new(Told { body: self, ending }))
    }
}

/// Events, as somebody sends them; it ends when they have gone.
pub struct Events {
    events: mpsc::Receiver<Bytes>,
    /// The connection does not idle meanwhile.
    _under_way: UnderWay,
}

impl Events {
    /// What comes here.
    pub fn new(events: mpsc::Receiver<Bytes>, under_way: UnderWay) -> Self {
        Self {
            events,
            _under_way: under_way,
        }
    }
}

/// The task that brings a request's body to its component; it ends when this is dropped.
pub type Sending = AbortOnDropHandle<Result<(), Problem>>;

/// A body that is still being produced, and the resources that it holds until it has ended.
pub struct Streamed {
    body: WasiBody,
    /// When the request's time is up.
    time: Pin<Box<Sleep>>,
    _held: Held,
}

/// The resources of an answer, given back when it has ended.
pub struct Held {
    /// Its place among the component's requests.
    pub _place: OwnedSemaphorePermit,
    /// The upload of the request's body, which may still go on.
    pub _upload: Option<Sending>,
    /// Marks the connection as not idle meanwhile.
    pub _under_way: UnderWay,
}

/// Why a body did not end as it should; the connection ends with it, so that nobody takes a part for the whole.
type Broken = Box<dyn Error + Send + Sync>;

impl From<Vec<u8>> for AnswerBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Full::new(Bytes::from(bytes)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(streamed) => streamed.poll_frame(context),
            Self::Proxied(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Events(Events { events, .. }) => events
                .poll_recv(context)
                .map(|event| event.map(|event| Ok(Frame::data(event)))),
            Self::Told(told) => {
                let frame = Pin::new(&mut told.body).poll_frame(context);
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    told.ending.count(frame.data_ref().map_or(0, Bytes::len));
                }
                frame
            }
            Self::Holding(holding) => Pin::new(&mut holding.body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
            Self::Proxied(body) => body.is_end_stream(),
            Self::Events(_) => false,
            Self::Told(told) => told.body.is_end_stream(),
            Self::Holding(holding) => holding.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
            Self::Proxied(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Told(told) => told.body.size_hint(),
            Self::Holding(holding) => holding.body.size_hint(),
        }
    }
}

impl Streamed {
    /// A body that must have ended by the deadline.
    pub fn new(body: WasiBody, deadline: Instant, held: Held) -> Self {
        Self {
            body,
            time: Box::pin(sleep_until(deadline)),
            _held: held,
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.time.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the answer took longer than it may".into())));
        }
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map_err(|error| error.to_string().into())
    }
}
