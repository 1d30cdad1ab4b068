//! The body of a request: bounded, whole, and in time.

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use spin_sdk::http::HeaderMap;
use spin_sdk::wasip3::http_compat::IncomingRequestBody;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tollgate_api::problem::{Kind, Problem};

/// The longest a body may take to arrive. The same as in our own host.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 for a longer one, also one that only says that it is longer; 400 where it ends early; 504 where it does not come.
pub async fn read(headers: &HeaderMap, body: IncomingRequestBody, limit: u64) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let detail = format!("A request body may have at most {limit} bytes.");
        Problem::new(Kind::TooLarge, detail)
    };
    let announced = headers
        .get("content-length")
        .and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let bound = usize::try_from(limit).unwrap_or(usize::MAX);
    match within(TIMEOUT, Limited::new(body, bound).collect()).await {
        Some(Ok(body)) => Ok(body.to_bytes().into()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Some(Err(_)) => Err(Problem::field("#", "the body did not arrive whole")),
        None => Err(Problem::new(Kind::Timeout, "The body took too long to arrive.")),
    }
}

/// What `future` gives, or `None` when it takes longer. A clock is only asked where there is anything to wait for.
pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(spin_sdk::time::sleep(time)));
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
