//! What shadow policies would have refused, counted for the log. Counting costs an addition; a report is one line now and
//! then, however many requests there were, so that nobody writes the log by asking often.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::policies::Policies;

/// The least time between two reports, milliseconds.
pub const REPORT_MS: u64 = 10_000;

/// How many requests a policy would have refused since the last report.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    /// One more.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Policies {
    /// What shadow policies would have refused since the last report, in one line: at most one every [`REPORT_MS`], or as
    /// soon as there are `enough` of them, for an instance that does not live that long. `now`: Unix milliseconds.
    pub fn shadow_report(&self, now: u64, enough: u64) -> Option<String> {
        let counts = self
            .shadow_counts()
            .map(|(_, count)| count.0.load(Ordering::Relaxed));
        let total: u64 = counts.sum();
        let due = now.saturating_sub(self.reported.load(Ordering::Relaxed)) >= REPORT_MS;
        if total == 0 || !(due || total >= enough) {
            return None;
        }
        self.reported.store(now, Ordering::Relaxed);
        let mut line = "limits in shadow would have refused requests:".to_owned();
        for (name, count) in self.shadow_counts() {
            let count = count.0.swap(0, Ordering::Relaxed);
            if count > 0 {
                // Writing to a text does not fail.
                let _ = write!(line, " {name} {count}");
            }
        }
        Some(line)
    }
}
