//! The body of a request: read within bounds, or left unread by an early answer.

use super::traffic::Traffic;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use std::rc::Rc;
use std::time::Duration;
use tollgate_core::problem::{Kind, Problem};

/// How long a request's body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most bytes of an unread body that hyper may pass over, so that the connection can go on; in one read, and only what
/// has come already.
const PASSED_OVER: u64 = 8 << 10;

/// A body that is still to be read.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    traffic: Rc<Traffic>,
}

impl Upload {
    /// The body of a request, if it has one.
    pub fn new(body: Incoming, traffic: &Rc<Traffic>) -> Option<Self> {
        let traffic = Rc::clone(traffic);
        (!body.is_end_stream()).then_some(Self { body, traffic })
    }

    /// Reads all of it: at most `max` bytes.
    pub async fn read(self, max: usize) -> Result<Vec<u8>, Problem> {
        let too_large = || {
            let detail = format!("A request body may have at most {max} bytes.");
            Problem::new(Kind::TooLarge, detail).with_header("connection", "close")
        };
        if self.body.size_hint().lower() > max as u64 {
            return Err(too_large());
        }
        match tokio::time::timeout(TIMEOUT, Limited::new(self.body, max).collect()).await {
            Ok(Ok(body)) => {
                self.traffic.set_unread(false);
                Ok(body.to_bytes().into())
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::field("#", "the body did not arrive whole")),
            Err(_) => Err(Problem::new(Kind::Timeout, "The body took too long to arrive.")
                .with_header("connection", "close")),
        }
    }
}

/// Whether the connection ends with an answer that comes before the body was read: where the client waits to be told to send
/// it, or it is too large to be passed over (RFC 9110, section 10.1.1: who closes says so).
pub fn ends_if_unread(request: &hyper::Request<Incoming>) -> bool {
    !request.body().is_end_stream()
        && (request.body().size_hint().lower() > PASSED_OVER
            || request.headers().contains_key(http::header::EXPECT))
}
