//! When to try again: exponential waits with jitter, or fixed ones, until the message becomes a dead letter.

use crate::subscription::Retry;

/// The longest `Retry-After` that is honoured, milliseconds: an origin cannot park a message for longer.
pub const MAX_RETRY_AFTER_MS: u64 = 3_600_000;
/// The most attempts a schedule may allow (100 fixed waits, and one more).
pub const MAX_ATTEMPTS: u32 = 101;
/// The longest wait a schedule may hold, milliseconds (30 days).
pub const MAX_WAIT_MS: u64 = 30 * 24 * 3_600_000;
/// The shortest wait, milliseconds: a schedule cannot become a busy loop.
pub const MIN_WAIT_MS: u64 = 10;

const NANOS_PER_MS: u64 = 1_000_000;

/// The waits between the attempts to deliver one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// The nth wait is drawn from `[d/2, d]`, where `d = min(cap, initial * factor^(n-1))`.
    Exponential {
        /// The first wait, milliseconds.
        initial_ms: u64,
        /// What each wait is multiplied by; at least 1.
        factor: f64,
        /// The longest wait, milliseconds.
        cap_ms: u64,
        /// Attempts before the message becomes a dead letter.
        max_attempts: u32,
    },
    /// Exactly these waits, milliseconds; one attempt more than there are waits.
    Fixed(Vec<u64>),
}

impl Schedule {
    /// The schedule that a configuration describes, brought within the bounds of this module.
    pub fn from_config(retry: &Retry) -> Self {
        match &retry.schedule {
            Some(waits) => {
                let most = (MAX_ATTEMPTS - 1) as usize;
                Self::Fixed(
                    waits
                        .iter()
                        .take(most)
                        .map(|wait| bounded(wait.0 / NANOS_PER_MS))
                        .collect(),
                )
            }
            None => Self::Exponential {
                initial_ms: bounded(retry.initial.0 / NANOS_PER_MS),
                factor: if retry.factor.is_finite() {
                    retry.factor.max(1.0)
                } else {
                    1.0
                },
                cap_ms: bounded(retry.cap.0 / NANOS_PER_MS),
                max_attempts: retry.max_attempts.clamp(1, MAX_ATTEMPTS),
            },
        }
    }

    /// Attempts before the message becomes a dead letter.
    pub fn max_attempts(&self) -> u32 {
        match self {
            Self::Exponential { max_attempts, .. } => *max_attempts,
            Self::Fixed(waits) => u32::try_from(waits.len())
                .unwrap_or(MAX_ATTEMPTS)
                .saturating_add(1),
        }
    }

    /// The longest wait that [`Self::wait_ms`] gives, milliseconds: a stored time further ahead was made by a clock
    /// that has been set back since.
    pub fn longest_wait_ms(&self) -> u64 {
        let scheduled = match self {
            Self::Fixed(waits) => waits.iter().copied().max().unwrap_or(0),
            Self::Exponential { cap_ms, .. } => *cap_ms,
        };
        scheduled.max(MAX_RETRY_AFTER_MS).max(MIN_WAIT_MS)
    }

    /// Milliseconds to wait after `failed` attempts have failed (1 after the first); `None` when the attempts are used
    /// up. `random` is any 64 unpredictable bits. `retry_after` is what the origin asked for ([`retry_after_ms`]): the
    /// wait is never shorter than it, up to [`MAX_RETRY_AFTER_MS`].
    pub fn wait_ms(&self, failed: u32, random: u64, retry_after: Option<u64>) -> Option<u64> {
        if failed >= self.max_attempts() {
            return None;
        }
        let scheduled = match self {
            Self::Fixed(waits) => *waits.get(failed.saturating_sub(1) as usize)?,
            Self::Exponential {
                initial_ms,
                factor,
                cap_ms,
                ..
            } => {
                let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
                // Beyond u64 the cast saturates, and the cap applies.
                let grown = (*initial_ms as f64 * factor.powi(exponent)) as u64;
                jitter(grown.min(*cap_ms), random)
            }
        };
        let asked = retry_after.unwrap_or(0).min(MAX_RETRY_AFTER_MS);
        Some(scheduled.max(asked).max(MIN_WAIT_MS))
    }
}

/// A value in `[d/2, d]`: clients that failed together then do not return together.
pub fn jitter(d: u64, random: u64) -> u64 {
    let half = d.div_ceil(2);
    half + random % (d - half + 1)
}

fn bounded(ms: u64) -> u64 {
    ms.clamp(MIN_WAIT_MS, MAX_WAIT_MS)
}

/// Milliseconds from `now` (Unix milliseconds) that a `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or one
/// of the three forms of an HTTP-date (section 5.6.7). `None` if it is neither; 0 for a date that has passed.
pub fn retry_after_ms(value: &str, now: u64) -> Option<u64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds are a long wait, not a mistake.
        return Some(value.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000));
    }
    http_date_ms(value).map(|at| at.saturating_sub(now))
}

fn http_date_ms(value: &str) -> Option<u64> {
    const IMF_FIXDATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
    const RFC_850: &str = "%A, %d-%b-%y %H:%M:%S GMT";
    const ASCTIME: &str = "%a %b %e %H:%M:%S %Y";
    let parsed = [IMF_FIXDATE, RFC_850, ASCTIME].iter().find_map(|form| {
        let broken_down = jiff::fmt::strtime::parse(form, value).ok()?;
        broken_down
            .to_datetime()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    })?;
    u64::try_from(parsed.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT

    fn exponential(max_attempts: u32) -> Schedule {
        Schedule::Exponential {
            initial_ms: 1_000,
            factor: 2.0,
            cap_ms: 60_000,
            max_attempts,
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_end_in_a_dead_letter() {
        let schedule = exponential(10);
        assert!((1..=9).all(|failed| schedule.wait_ms(failed, 7, None).is_some()));
        assert_eq!(schedule.wait_ms(10, 7, None), None);
        assert!((500..=1_000).contains(&schedule.wait_ms(1, 7, None).unwrap()));
        assert!((2_000..=4_000).contains(&schedule.wait_ms(3, 7, None).unwrap()));
        assert!((30_000..=60_000).contains(&schedule.wait_ms(9, 7, None).unwrap()));
    }

    #[test]
    fn a_fixed_schedule_is_followed_to_the_letter() {
        let schedule = Schedule::Fixed(vec![5_000, 300_000]);
        assert_eq!(schedule.max_attempts(), 3);
        assert_eq!(schedule.wait_ms(1, 99, None), Some(5_000));
        assert_eq!(schedule.wait_ms(2, 99, None), Some(300_000));
        assert_eq!(schedule.wait_ms(3, 99, None), None);
    }

    #[test]
    fn the_origin_may_lengthen_a_wait_but_not_for_ever_nor_add_attempts() {
        let schedule = exponential(3);
        assert_eq!(schedule.wait_ms(1, 0, Some(9_000)), Some(9_000));
        assert_eq!(schedule.wait_ms(1, 0, Some(u64::MAX)), Some(MAX_RETRY_AFTER_MS));
        assert_eq!(schedule.wait_ms(1, 0, Some(0)), Some(500));
        assert_eq!(schedule.wait_ms(3, 0, Some(9_000)), None);
    }

    #[test]
    fn retry_after_takes_seconds_and_every_form_of_http_date() {
        assert_eq!(retry_after_ms("120", NOW), Some(120_000));
        assert_eq!(retry_after_ms(" 0 ", NOW), Some(0));
        assert_eq!(retry_after_ms("99999999999999999999999", NOW), Some(u64::MAX));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:47 GMT", NOW), Some(10_000));
        assert_eq!(
            retry_after_ms("Sunday, 06-Nov-94 08:49:47 GMT", NOW),
            Some(10_000)
        );
        assert_eq!(retry_after_ms("Sun Nov  6 08:49:47 1994", NOW), Some(10_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:07 GMT", NOW), Some(0));
        for bad in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(retry_after_ms(bad, NOW), None, "{bad}");
        }
    }

    #[test]
    fn the_configured_bounds_hold_for_absurd_settings() {
        let retry = Retry {
            initial: tollgate_api::units::Span(0),
            factor: f64::NAN,
            cap: tollgate_api::units::Span(u64::MAX),
            max_attempts: 0,
            schedule: None,
            finals: Vec::new(),
        };
        let schedule = Schedule::from_config(&retry);
        assert_eq!(schedule.max_attempts(), 1);
        assert_eq!(schedule.wait_ms(1, 0, None), None);
    }

    proptest! {
        #[test]
        fn every_wait_lies_in_its_bounds(
            initial in 1u64..10_000_000, factor in 1.0f64..1e6, cap in 1u64..MAX_WAIT_MS,
            attempts in 2u32..=MAX_ATTEMPTS, failed in 1u32..200, random: u64,
        ) {
            let schedule = Schedule::Exponential { initial_ms: initial, factor, cap_ms: cap, max_attempts: attempts };
            match schedule.wait_ms(failed, random, None) {
                None => prop_assert!(failed >= attempts),
                Some(wait) => {
                    let full = ((initial as f64 * factor.powi(failed as i32 - 1)) as u64).min(cap);
                    prop_assert!(failed < attempts);
                    prop_assert!(wait <= full.max(MIN_WAIT_MS) && wait >= full / 2);
                }
            }
        }

        #[test]
        fn jitter_reaches_from_half_to_all(d in 0u64..1_000_000_000, random: u64) {
            let waited = jitter(d, random);
            prop_assert!(waited <= d && waited >= d / 2);
        }

        #[test]
        fn any_retry_after_is_read_without_a_panic(value in "\\PC{0,40}", now in 0u64..tollgate_api::time::MAX_TIME) {
            let _ = retry_after_ms(&value, now);
        }
    }
}
