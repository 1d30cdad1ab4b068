//! Waiting for what must come true, and doing many things at once.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

/// By when what must come true has come true. Generous: a machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Runs `job` on every item, at most `width` at once; results come in the order of the items.
pub async fn crowd<I, T, F>(
    width: usize,
    items: impl IntoIterator<Item = I>,
    job: impl Fn(I) -> F + Send + Sync,
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks = futures::stream::iter(items).map(|item| {
        let future = job(item);
        async {
            match tokio::spawn(future).await {
                Ok(done) => done,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    });
    tasks.buffered(width).collect().await
}

/// Now, moved by seconds, as RFC 3339.
pub fn in_seconds(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}
