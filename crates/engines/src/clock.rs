//! The clock that engines are given.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock: Unix milliseconds. It may step back; the store's own time does not follow it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's.
pub fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
