//! The system's clock, as the rules take it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds, now.
pub fn now() -> u64 {
    millis(SystemTime::now())
}

/// Unix milliseconds of a time; 0 for one before 1970.
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
