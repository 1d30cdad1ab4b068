//! Time and chance for the machine.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Unix milliseconds that never jump: the wall clock at the start, and what has passed since. A wall clock that is set
/// forward and back again would otherwise stop the relay for the difference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            start_ms: wall_ms(),
        }
    }

    pub fn now(&self) -> u64 {
        self.start_ms.saturating_add(millis(self.start.elapsed()))
    }

    /// The instant of a time; a time that has passed is now.
    pub fn instant(&self, at: u64) -> Instant {
        Instant::now() + Duration::from_millis(at.saturating_sub(self.now()))
    }
}

/// The wall clock, Unix milliseconds: what receivers compare with.
pub(crate) fn wall_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// For jitter; not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
