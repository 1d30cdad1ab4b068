//! Whether a link redirects.

use serde::{Deserialize, Serialize};

/// The limits that decide whether a link redirects. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<u64>,
    /// Not from this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Seconds without a visit after which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_after_idle: Option<u64>,
    /// How many visits redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_visits: Option<u64>,
    /// Switched off by its owner.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// Every visit is counted before it is answered, as with `max_visits`: the step before a bound is turned on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

impl Limits {
    /// Whether the counters must be read to know the state.
    pub(in crate::links) fn need_counters(&self) -> bool {
        self.max_visits.is_some() || self.expire_after_idle.is_some()
    }

    /// Whether a visit must be durable before it is answered.
    pub(in crate::links) fn are_exact(&self) -> bool {
        self.max_visits.is_some() || self.exact
    }

    /// When the link ends by time, Unix milliseconds, as far as that is known now: it expires, or stays
    /// without a visit for too long.
    pub(in crate::links) fn end(&self, created_at: u64, visited_at: Option<u64>) -> Option<u64> {
        let idle = self.expire_after_idle.map(|seconds| {
            let begun = created_at.max(self.valid_from.unwrap_or(0));
            let begun = begun.max(visited_at.unwrap_or(0));
            begun.saturating_add(seconds.saturating_mul(1_000))
        });
        self.expires_at.into_iter().chain(idle).min()
    }

    /// Whether nothing but an edit can end the link.
    pub(in crate::links) fn are_none(&self) -> bool {
        !self.need_counters() && self.expires_at.is_none()
    }
}

/// The history of a link that its state depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When it was created, Unix milliseconds.
    pub created_at: u64,
    /// Visits that were counted.
    pub visits: u64,
    /// When it was visited last, Unix milliseconds.
    pub visited_at: Option<u64>,
}

/// Whether a link redirects, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It redirects.
    Live,
    /// It will.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// Nobody came for too long.
    Idle,
    /// All its visits are made.
    Exhausted,
    /// Its owner switched it off.
    Archived,
}

/// The state of a link at `now`, Unix milliseconds. Idleness counts from the last visit, or from when the
/// link first could be visited. Where several states apply, final ones come before those that may pass.
pub fn state(limits: &Limits, facts: &Facts, now: u64) -> State {
    if limits.archived {
        return State::Archived;
    }
    if limits.expires_at.is_some_and(|at| at <= now) {
        return State::Expired;
    }
    if limits.max_visits.is_some_and(|most| facts.visits >= most) {
        return State::Exhausted;
    }
    if limits.valid_from.is_some_and(|from| now < from) {
        return State::NotYetValid;
    }
    if limits.expire_after_idle.is_some() {
        // That it has not expired was seen above.
        let end = limits.end(facts.created_at, facts.visited_at);
        if end.is_some_and(|end| end <= now) {
            return State::Idle;
        }
    }
    State::Live
}
