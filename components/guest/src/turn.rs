//! What is done once in a while, however many instances there are: the store keeps whose turn it was.

use crate::port::Port;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store as _;

/// Whether this call is the first with the key (of this partition) within `ms` milliseconds, over all instances. `now`: Unix milliseconds.
pub async fn take(partition: &str, key: String, now: u64, ms: u64) -> Result<bool, StoreError> {
    // Mostly it is another's: looking is cheaper than trying.
    let known = Port.get(partition, std::slice::from_ref(&key)).await;
    if known.is_ok_and(|entries| entries.iter().any(Option::is_some)) {
        return Ok(false);
    }
    let taken = Commit {
        partition: partition.to_owned(),
        conditions: vec![Condition::Absent(key.clone())],
        mutations: vec![Mutation::Set {
            key,
            value: literal("1"),
            expires: Some(now.saturating_add(ms)),
        }],
        ..Commit::default()
    };
    Ok(matches!(Port.commit(taken).await?, Outcome::Committed(_)))
}
