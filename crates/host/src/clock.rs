//! The system's clock, as the rules take it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds, now.
pub fn now() -> u64 {
    millis(SystemTime::now())
}

/// Unix milliseconds of a time; 0 for one before 1970.
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago that was; zero where the clock was set back meanwhile.
pub fn since(began: SystemTime) -> Duration {
    SystemTime::now().duration_since(began).unwrap_or_default()
}
