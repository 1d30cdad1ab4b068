//! What is kept of attempts, for people: the last ones of each of the last messages, and how the last hour went. Nothing is decided
//! by them but when a subscription that has failed for long is paused.

use serde::{Deserialize, Serialize};

use super::Delivered;
use super::record::{Keys, bounded_error};

/// The most bytes of an answer's body that are kept.
pub const MAX_EXCERPT_BYTES: usize = 256;
/// Of how many messages attempts are kept, per subscription: a message takes the place of the one so many sequences before it.
pub const KEPT_MESSAGES: u64 = 10_000;
/// How many attempts of a message are kept: the newest.
pub const KEPT_ATTEMPTS: u32 = 10;
/// A subscription is paused for having failed for long only after so many failures in a row: one message that fails now and then
/// says little.
pub const MIN_FAILURES: u64 = 10;
/// The last hour is counted in steps of so many milliseconds.
const STEP_MS: u64 = 5 * 60_000;
const HOUR_MS: u64 = 60 * 60_000;

/// What the receiver answered, as it is shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// How long it took, milliseconds.
    pub ms: u64,
    /// The status of an answer over HTTP; `None` where there was none.
    pub status: Option<u16>,
    /// How the answer began, at most [`MAX_EXCERPT_BYTES`]; what is no UTF-8 is replaced.
    pub text: String,
}

/// One attempt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Of the message; another message may have had its place before.
    pub sequence: u64,
    /// From 1; it begins anew when a dead letter is delivered again.
    pub number: u32,
    /// When it began, Unix milliseconds.
    pub at: u64,
    /// How long it took, milliseconds.
    pub ms: u64,
    /// See [`Answered::status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// See [`Answered::text`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// Why it failed; `None` if the message was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Attempt {
    /// One that ended at `now`.
    pub fn ended(
        now: u64,
        (sequence, number): (u64, u32),
        answered: &Answered,
        delivered: &Delivered,
    ) -> Self {
        let error = match delivered {
            Delivered::Accepted => None,
            Delivered::Unwanted => Some("the receiver wants no more messages".to_owned()),
            Delivered::Refused { why, .. } => Some(bounded_error(why)),
        };
        Self {
            sequence,
            number,
            at: now.saturating_sub(answered.ms),
            ms: answered.ms,
            status: answered.status,
            answer: answered.text.clone(),
            error,
        }
    }

    /// Where it is kept.
    pub fn key(&self, keys: &Keys) -> String {
        keys.attempt(
            self.sequence % KEPT_MESSAGES,
            self.number.saturating_sub(1) % KEPT_ATTEMPTS,
        )
    }

    /// Every place where an attempt of this message may be kept.
    pub fn places(keys: &Keys, sequence: u64) -> Vec<String> {
        let of = |number| keys.attempt(sequence % KEPT_MESSAGES, number);
        (0..KEPT_ATTEMPTS).map(of).collect()
    }
}

/// The attempts of a few minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step(u64, u64, u64);

/// How deliveries went of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// Beginning, attempts and failures of each step of the last hour, oldest first.
    steps: Vec<Step>,
    /// When the first of the failures in a row ended, Unix milliseconds; `None` where the last attempt did not fail.
    failing_since: Option<u64>,
    /// How many they are.
    failures_in_a_row: u64,
    /// When something was delivered last, Unix milliseconds.
    delivered_at: Option<u64>,
}

impl Health {
    /// An attempt has ended at `now`. `resumed`: since when nothing pauses the subscription, if it was paused.
    pub fn note(&mut self, now: u64, failed: bool, resumed: Option<u64>) {
        let begins = now - now % STEP_MS;
        // A clock that was set back does not bring back what was counted ahead of it.
        self.steps
            .retain(|step| step.0 <= begins && step.0.saturating_add(HOUR_MS) > now);
        match self.steps.last_mut() {
            Some(step) if step.0 == begins => (step.1, step.2) = (step.1 + 1, step.2 + u64::from(failed)),
            _ => self.steps.push(Step(begins, 1, u64::from(failed))),
        }
        if !failed {
            (self.failing_since, self.failures_in_a_row) = (None, 0);
            self.delivered_at = Some(now);
            return;
        }
        let counts = |since: u64| since <= now && resumed.is_none_or(|resumed| since >= resumed);
        if !self.failing_since.is_some_and(counts) {
            (self.failing_since, self.failures_in_a_row) = (Some(now), 0);
        }
        self.failures_in_a_row += 1;
    }

    /// Whether there was nothing but failure for so many milliseconds.
    pub fn has_failed_for(&self, now: u64, ms: u64) -> bool {
        let since = self.failing_since.unwrap_or(now);
        self.failures_in_a_row >= MIN_FAILURES && now.saturating_sub(since) >= ms
    }

    /// Attempts of the last hour, and how many of them failed; counted by steps of five minutes.
    pub fn last_hour(&self, now: u64) -> (u64, u64) {
        let steps = self
            .steps
            .iter()
            .filter(|step| step.0.saturating_add(HOUR_MS) > now);
        steps.fold((0, 0), |(all, failed), step| (all + step.1, failed + step.2))
    }

    /// Since when there is nothing but failure, Unix milliseconds.
    pub fn failing_since(&self) -> Option<u64> {
        self.failing_since
    }

    /// When something was delivered last, Unix milliseconds.
    pub fn delivered_at(&self) -> Option<u64> {
        self.delivered_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn the_last_hour_is_counted_and_what_is_older_is_forgotten() {
        let mut health = Health::default();
        for minute in 0..120 {
            health.note(NOW + minute * 60_000, minute % 3 == 0, None);
        }
        let now = NOW + 119 * 60_000;
        assert_eq!(health.last_hour(now), (60, 20));
        assert_eq!(health.last_hour(now + HOUR_MS), (0, 0));
        assert!(serde_json::to_vec(&health).unwrap().len() < 512);
        // The clock is set back by a year.
        health.note(NOW / 2, false, None);
        assert_eq!(health.last_hour(NOW / 2), (1, 0));
    }

    #[test]
    fn nothing_but_failure_for_long_is_told_from_a_few_failures() {
        let (mut health, long) = (Health::default(), 5 * 24 * HOUR_MS);
        health.note(NOW, true, None);
        health.note(NOW + long, true, None);
        assert!(
            !health.has_failed_for(NOW + long, long),
            "two failures say little"
        );
        for failure in 2..MIN_FAILURES {
            assert!(!health.has_failed_for(NOW + long, long), "{failure}");
            health.note(NOW + long, true, None);
        }
        assert!(health.has_failed_for(NOW + long, long));
        assert!(!health.has_failed_for(NOW + long - 1, long));
        let mut resumed = health.clone();
        resumed.note(NOW + long + 1, true, Some(NOW + long + 1));
        assert!(!resumed.has_failed_for(NOW + long + 1, long), "it begins anew");
        assert_eq!(resumed.failing_since(), Some(NOW + long + 1));
        health.note(NOW + long, false, None);
        assert!(!health.has_failed_for(NOW + 2 * long, long));
        assert_eq!(health.delivered_at(), Some(NOW + long));
    }

    #[test]
    fn a_message_has_so_many_places_and_gives_them_to_a_later_one() {
        let keys = Keys::new("t", "s");
        let attempt = |sequence, number| {
            let answered = Answered {
                ms: 7,
                status: Some(500),
                text: "no".into(),
            };
            let delivered = Delivered::refused(super::super::Blame::Origin, "the origin answered 500");
            Attempt::ended(NOW, (sequence, number), &answered, &delivered)
        };
        let places = Attempt::places(&keys, 3);
        assert_eq!(places.len(), KEPT_ATTEMPTS as usize);
        for number in [1, 2, KEPT_ATTEMPTS, KEPT_ATTEMPTS + 1, 1_000] {
            assert!(places.contains(&attempt(3, number).key(&keys)));
            assert!(places.contains(&attempt(3 + KEPT_MESSAGES, number).key(&keys)));
            assert!(!places.contains(&attempt(4, number).key(&keys)));
        }
        assert_eq!(attempt(3, 1).at, NOW - 7);
        let old = br#"{"sequence":3,"number":1,"at":5,"ms":2}"#;
        assert_eq!(serde_json::from_slice::<Attempt>(old).unwrap().error, None);
    }
}
