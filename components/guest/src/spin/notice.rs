//! Lines for the operator. Spin keeps what a component writes to stderr for ever, and there are many
//! instances. So a line is written at most once a minute, however many instances ask and how often. The store
//! keeps count for all instances.

use crate::turn;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// How long a line is not repeated, milliseconds.
const QUIET_MS: u64 = 60_000;
/// Entries that say which lines were written belong to this partition, and begin with its name.
const PARTITION: &str = "notice";

/// Seconds after which who waits for the operator may try again.
pub const OPERATOR_SECONDS: u64 = 60;

thread_local! {
    /// Until when this instance need not ask the store, Unix milliseconds. An instance has at most one thing to say.
    static QUIET_UNTIL: Cell<u64> = const { Cell::new(0) };
}

/// Writes a line, unless it was written a moment ago.
pub async fn tell(line: &str) {
    tell_at(crate::now(), line).await;
}

/// As [`tell`], `now` in Unix milliseconds.
pub async fn tell_at(now: u64, line: &str) {
    if now < QUIET_UNTIL.get() {
        return;
    }
    QUIET_UNTIL.set(now.saturating_add(QUIET_MS));
    // The same in every instance: not seeded.
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    let key = format!("{PARTITION}/{:016x}", hasher.finish());
    match turn::take(PARTITION, key, now, QUIET_MS).await {
        Ok(true) => eprintln!("tollgate: {line}"),
        Ok(false) => {}
        // Not told yet: at the next request.
        Err(_) => QUIET_UNTIL.set(0),
    }
}
