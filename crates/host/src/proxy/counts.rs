//! What is counted of an origin. All workers count here: a request to an origin costs so much more that nobody sees it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request that was for an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with a status below 500.
    Answered,
    /// It answered with a status from 500 on.
    Failed,
    /// No connection could be made.
    Unreachable,
    /// It took longer than it may.
    TimedOut,
    /// It broke off, or answered with what is no answer.
    Broken,
    /// Nothing was sent: too many were under way, or its breaker was open.
    Refused,
    /// The client had gone, or sent a body that is none.
    Gone,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::Failed,
        Self::Unreachable,
        Self::TimedOut,
        Self::Broken,
        Self::Refused,
        Self::Gone,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }
}

/// The counters of one origin.
#[derive(Debug, Default)]
pub struct Counts {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Requests that were sent again.
    pub retries: AtomicU64,
    /// Answers whose body broke off.
    pub cut: AtomicU64,
    /// Connections that were opened.
    pub connections: AtomicU64,
    /// WebSockets that are open.
    pub tunnels: AtomicU64,
}

impl Counts {
    /// A request has ended so.
    pub fn ended(&self, outcome: Outcome) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        let count = self.outcomes.get(outcome as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
