//! The body of a request: read within bounds, or left unread by an early answer.

use super::traffic::Traffic;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use std::rc::Rc;
use std::time::Duration;
use tollgate_api::problem::{Kind, Problem};

/// How long a request's body may take to arrive.
pub const TIMEOUT: Duration = Duration::from_secs(15);
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

    /// The unread body, and the requests of its connection.
    pub fn into_parts(self) -> (Incoming, Rc<Traffic>) {
        (self.body, self.traffic)
    }

    /// Reads all of it: at most `max` bytes.
    pub async fn read(self, max: usize) -> Result<Vec<u8>, Problem> {
        if self.body.size_hint().lower() > max as u64 {
            return Err(too_large(max));
        }
        match tokio::time::timeout(TIMEOUT, Limited::new(self.body, max).collect()).await {
            Ok(Ok(body)) => {
                self.traffic.set_unread(false);
                Ok(body.to_bytes().into())
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(max)),
            Ok(Err(_)) => Err(not_whole()),
            Err(_) => Err(too_slow()),
        }
    }
}

/// The problem for a body with more bytes than it may have.
pub fn too_large(max: usize) -> Problem {
    let detail = format!("A request body may have at most {max} bytes.");
    Problem::new(Kind::TooLarge, detail).with_header("connection", "close")
}

/// The problem for a body that broke off.
pub fn not_whole() -> Problem {
    Problem::field("#", "the body did not arrive whole")
}

/// The problem for a body that did not arrive in time.
pub fn too_slow() -> Problem {
    Problem::new(Kind::Timeout, "The body took too long to arrive.").with_header("connection", "close")
}

/// Whether the connection ends with an answer that comes before the body was read. It does where the client
/// waits to be told to send the body, or where the body is too large to be passed over. Such an answer says
/// that the connection closes (RFC 9110, section 10.1.1).
pub fn ends_if_unread(request: &hyper::Request<Incoming>) -> bool {
    !request.body().is_end_stream()
        && (request.body().size_hint().lower() > PASSED_OVER
            || request.headers().contains_key(http::header::EXPECT))
}
