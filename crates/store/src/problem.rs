//! The problem documents for a store that fails.

use crate::commit::StoreError;
use tollgate_api::problem::{Kind, Problem};

/// Seconds a client is told to wait when the store cannot be reached.
const STORE_RETRY_SECONDS: u64 = 1;

impl From<StoreError> for Problem {
    /// A store that fails closes the door (invariant 8); a call that breaks the port is our own defect.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(_) => Problem::new(Kind::Internal, "The request could not be carried out."),
            StoreError::Unavailable(_) => Problem::new(
                Kind::Unavailable,
                "The store cannot be reached; nothing was changed.",
            )
            .with_retry_after(STORE_RETRY_SECONDS),
            StoreError::Unknown(_) => Problem::new(
                Kind::Unavailable,
                "The store did not answer in time; repeat the request with the same Idempotency-Key.",
            )
            .with_retry_after(STORE_RETRY_SECONDS),
        }
    }
}
