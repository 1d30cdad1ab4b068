//! How long the host waits for the store on its own account, where no rule runs whose time is bounded.

use super::service::BUSY_RETRY_SECONDS;
use std::time::Duration;
use tokio::time::timeout;
use tollgate_api::problem::{Kind, Problem};

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the store answers, if it does so in time.
///
/// # Errors
/// Those of the work; [`busy`] where it takes too long.
pub async fn in_time<T, E: Into<Problem>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Problem> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(busy()),
    }
}

/// The 503 of a store that is too slow.
pub fn busy() -> Problem {
    Problem::new(Kind::Unavailable, "The store does not answer in time.").with_retry_after(BUSY_RETRY_SECONDS)
}
