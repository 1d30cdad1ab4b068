//! A circuit breaker as a pure state machine: closed, open after failures, half-open to probe, closed again.
//!
//! A caller of the origin takes a [`Permit`] and gives it back with a result. While the breaker is open there
//! are no permits, so nothing is attempted and nothing is counted against a message. Results of calls that
//! began before the last change of state say nothing about the present and are ignored.

use crate::retry::jitter;

/// Failures in a row that open the breaker.
pub const CONSECUTIVE_FAILURES: u32 = 10;
/// The window over which the failure ratio is taken, milliseconds.
pub const WINDOW_MS: u64 = 10_000;
/// Results in the window before the ratio is looked at.
pub const MIN_RESULTS: u32 = 20;
/// The failures among them, percent, that open the breaker.
pub const FAILURE_PERCENT: u32 = 50;
/// How long it stays open the first time, milliseconds; doubled each time a probe fails.
pub const OPEN_INITIAL_MS: u64 = 1_000;
/// The longest it stays open by itself, milliseconds.
pub const OPEN_CAP_MS: u64 = 60_000;
/// The longest it stays open because the origin asked for it (`Retry-After`), milliseconds: after that a probe finds out.
pub const OPEN_ASKED_MS: u64 = 300_000;
/// Calls under way at once while half-open, and successes in a row that close it.
pub const PROBES: u32 = 1;

/// Its bounds. The default is the constants of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// See [`CONSECUTIVE_FAILURES`].
    pub consecutive_failures: u32,
    /// See [`WINDOW_MS`].
    pub window_ms: u64,
    /// See [`MIN_RESULTS`].
    pub min_results: u32,
    /// See [`FAILURE_PERCENT`].
    pub failure_percent: u32,
    /// See [`OPEN_INITIAL_MS`].
    pub open_initial_ms: u64,
    /// See [`OPEN_CAP_MS`].
    pub open_cap_ms: u64,
    /// See [`PROBES`].
    pub probes: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            consecutive_failures: CONSECUTIVE_FAILURES,
            window_ms: WINDOW_MS,
            min_results: MIN_RESULTS,
            failure_percent: FAILURE_PERCENT,
            open_initial_ms: OPEN_INITIAL_MS,
            open_cap_ms: OPEN_CAP_MS,
            probes: PROBES,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed {
        consecutive: u32,
        since: u64,
        results: u32,
        failures: u32,
    },
    Open {
        until: u64,
    },
    HalfOpen {
        under_way: u32,
        successes: u32,
    },
}

/// The right to make one call; to be given back through [`Breaker::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a permit that is not given back keeps a half-open breaker from probing again"]
pub struct Permit {
    generation: u64,
    /// Whether the call decides if the breaker closes.
    pub probe: bool,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The origin works (it may still have refused this one call).
    Success,
    /// The origin does not work; it may have said how long, in milliseconds.
    Failure {
        /// What a `Retry-After` asked for; at most [`OPEN_ASKED_MS`] is granted.
        retry_after_ms: Option<u64>,
    },
    /// Says nothing about the origin.
    Neither,
}

/// A change worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No calls until then, Unix milliseconds.
    Opened {
        /// Unix milliseconds.
        until: u64,
    },
    /// Calls go through again.
    Closed,
}

/// The breaker. Times are Unix milliseconds and need not be monotonic: an earlier one counts as the latest seen.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Thresholds,
    state: State,
    /// Counts changes of state, so that late results can be told apart.
    generation: u64,
    /// How often it opened since it was last closed.
    openings: u32,
    latest: u64,
}

impl Breaker {
    /// Closed.
    pub fn new(settings: Thresholds) -> Self {
        let state = State::Closed {
            consecutive: 0,
            since: 0,
            results: 0,
            failures: 0,
        };
        Self {
            settings,
            state,
            generation: 0,
            openings: 0,
            latest: 0,
        }
    }

    /// A permit for one call, or `None` while it is open (or half-open with its probes under way).
    pub fn begin(&mut self, now: u64) -> Option<Permit> {
        let now = self.tick(now);
        if let State::Open { until } = self.state
            && now >= until
        {
            self.enter(State::HalfOpen {
                under_way: 0,
                successes: 0,
            });
        }
        match &mut self.state {
            State::Closed { .. } => Some(Permit {
                generation: self.generation,
                probe: false,
            }),
            State::Open { .. } => None,
            State::HalfOpen { under_way, .. } if *under_way >= self.settings.probes => None,
            State::HalfOpen { under_way, .. } => {
                *under_way += 1;
                Some(Permit {
                    generation: self.generation,
                    probe: true,
                })
            }
        }
    }

    /// Gives a permit back. `random`: 64 unpredictable bits, for the jitter of the open time.
    pub fn record(&mut self, permit: Permit, result: CallResult, now: u64, random: u64) -> Option<Change> {
        let now = self.tick(now);
        if permit.generation != self.generation {
            return None;
        }
        match (&mut self.state, result) {
            (
                State::Closed {
                    consecutive,
                    since,
                    results,
                    failures,
                },
                CallResult::Success | CallResult::Failure { .. },
            ) => {
                if now.saturating_sub(*since) >= self.settings.window_ms {
                    (*since, *results, *failures) = (now, 0, 0);
                }
                *results = results.saturating_add(1);
                let CallResult::Failure { retry_after_ms } = result else {
                    *consecutive = 0;
                    return None;
                };
                *failures = failures.saturating_add(1);
                *consecutive = consecutive.saturating_add(1);
                let ratio_reached = *results >= self.settings.min_results
                    && u64::from(*failures) * 100
                        >= u64::from(*results) * u64::from(self.settings.failure_percent);
                let reached = *consecutive >= self.settings.consecutive_failures || ratio_reached;
                reached.then(|| self.open(now, random, retry_after_ms))
            }
            (State::HalfOpen { .. }, CallResult::Failure { retry_after_ms }) => {
                Some(self.open(now, random, retry_after_ms))
            }
            (State::HalfOpen { under_way, successes }, CallResult::Success) => {
                *under_way = under_way.saturating_sub(1);
                *successes += 1;
                if *successes < self.settings.probes {
                    return None;
                }
                self.openings = 0;
                self.enter(State::Closed {
                    consecutive: 0,
                    since: now,
                    results: 0,
                    failures: 0,
                });
                Some(Change::Closed)
            }
            (State::HalfOpen { under_way, .. }, CallResult::Neither) => {
                *under_way = under_way.saturating_sub(1);
                None
            }
            (State::Closed { .. }, CallResult::Neither) | (State::Open { .. }, _) => None,
        }
    }

    /// Closed, whatever was before: calls go through again. Results of those under way do not count.
    pub fn reset(&mut self) -> Option<Change> {
        let closed = matches!(self.state, State::Closed { .. });
        self.openings = 0;
        self.enter(State::Closed {
            consecutive: 0,
            since: self.latest,
            results: 0,
            failures: 0,
        });
        (!closed).then_some(Change::Closed)
    }

    /// When the next probe may go, if it is open.
    pub fn open_until(&self) -> Option<u64> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// `closed`, `open` or `half-open`.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    fn open(&mut self, now: u64, random: u64, retry_after_ms: Option<u64>) -> Change {
        let doublings = self.openings.min(32);
        let full = self
            .settings
            .open_initial_ms
            .saturating_mul(1 << doublings)
            .min(self.settings.open_cap_ms);
        let asked = retry_after_ms.unwrap_or(0).min(OPEN_ASKED_MS);
        let until = now.saturating_add(jitter(full, random).max(asked));
        self.openings = self.openings.saturating_add(1);
        self.enter(State::Open { until });
        Change::Opened { until }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    fn tick(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILURE: CallResult = CallResult::Failure { retry_after_ms: None };
    const FULL: u64 = u64::MAX;

    fn fail_until_open(breaker: &mut Breaker, now: u64) -> u64 {
        for _ in 0..CONSECUTIVE_FAILURES {
            let permit = breaker.begin(now).expect("closed");
            if let Some(Change::Opened { until }) = breaker.record(permit, FAILURE, now, FULL) {
                return until;
            }
        }
        panic!("did not open");
    }

    #[test]
    fn failures_in_a_row_open_it_and_nothing_passes_until_then() {
        let mut breaker = Breaker::new(Thresholds::default());
        let until = fail_until_open(&mut breaker, 1_000);
        assert!((500..=1_000).contains(&(until - 1_000)));
        assert_eq!(breaker.begin(until - 1), None);
        assert!(breaker.begin(until).is_some_and(|p| p.probe));
        assert_eq!(breaker.begin(until), None, "one probe at a time");
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut breaker = Breaker::new(Thresholds {
            min_results: u32::MAX,
            ..Thresholds::default()
        });
        for round in 0..100 {
            for n in 0..CONSECUTIVE_FAILURES {
                let permit = breaker.begin(round).expect("closed");
                let result = if n == 0 { CallResult::Success } else { FAILURE };
                assert_eq!(breaker.record(permit, result, round, 0), None);
            }
        }
    }

    #[test]
    fn half_of_the_results_failing_opens_it_a_third_does_not() {
        for (every, opens) in [(2, true), (3, false)] {
            let mut breaker = Breaker::new(Thresholds::default());
            let opened = (0..200u32).any(|n| {
                let permit = breaker.begin(5).expect("closed");
                let result = if n % every == 0 {
                    FAILURE
                } else {
                    CallResult::Success
                };
                breaker.record(permit, result, 5, 0).is_some()
            });
            assert_eq!(opened, opens, "one in {every}");
        }
    }

    #[test]
    fn failed_probes_lengthen_the_open_time_up_to_the_cap_and_a_good_one_closes_it() {
        let mut breaker = Breaker::new(Thresholds::default());
        let mut until = fail_until_open(&mut breaker, 0);
        let mut longest = 0;
        for _ in 0..12 {
            let now = until;
            let probe = breaker.begin(now).expect("half-open");
            let Some(Change::Opened { until: next }) = breaker.record(probe, FAILURE, now, FULL) else {
                panic!("a failed probe opens it again")
            };
            longest = longest.max(next - now);
            assert!(next - now <= OPEN_CAP_MS);
            until = next;
        }
        assert!(longest >= OPEN_CAP_MS / 2);
        let probe = breaker.begin(until).expect("half-open");
        assert_eq!(
            breaker.record(probe, CallResult::Success, until, 0),
            Some(Change::Closed)
        );
        let again = fail_until_open(&mut breaker, until);
        assert!(again - until <= OPEN_INITIAL_MS, "closing forgets the backoff");
    }

    #[test]
    fn late_results_of_calls_from_before_do_not_count() {
        let mut breaker = Breaker::new(Thresholds::default());
        let late = breaker.begin(0).expect("closed");
        let until = fail_until_open(&mut breaker, 0);
        assert_eq!(breaker.record(late, CallResult::Success, 1, 0), None);
        assert_eq!(breaker.begin(1), None);
        let probe = breaker.begin(until).expect("half-open");
        assert_eq!(breaker.record(late, FAILURE, until, 0), None);
        assert_eq!(
            breaker.record(probe, CallResult::Success, until, 0),
            Some(Change::Closed)
        );
    }

    #[test]
    fn an_origin_that_says_how_long_is_left_alone_for_as_long() {
        let mut breaker = Breaker::new(Thresholds {
            consecutive_failures: 1,
            ..Thresholds::default()
        });
        let permit = breaker.begin(0).expect("closed");
        let asked = CallResult::Failure {
            retry_after_ms: Some(90_000),
        };
        assert_eq!(
            breaker.record(permit, asked, 0, 0),
            Some(Change::Opened { until: 90_000 })
        );
    }

    #[test]
    fn what_an_origin_asks_for_is_bounded_and_a_reset_ends_it() {
        let mut breaker = Breaker::new(Thresholds::default());
        let asked = CallResult::Failure {
            retry_after_ms: Some(3_600_000),
        };
        let permits: Vec<_> = (0..CONSECUTIVE_FAILURES)
            .map(|_| breaker.begin(5).expect("closed"))
            .collect();
        let changes: Vec<_> = permits
            .into_iter()
            .filter_map(|permit| breaker.record(permit, asked, 5, 0))
            .collect();
        let until = 5 + OPEN_ASKED_MS;
        assert_eq!(changes, [Change::Opened { until }]);
        assert_eq!(breaker.begin(until - 1), None);
        assert_eq!(breaker.reset(), Some(Change::Closed));
        assert!(breaker.begin(6).is_some_and(|permit| !permit.probe));
        assert_eq!(breaker.reset(), None);
    }

    #[test]
    fn a_probe_without_a_result_makes_room_for_the_next() {
        let mut breaker = Breaker::new(Thresholds::default());
        let until = fail_until_open(&mut breaker, 0);
        let probe = breaker.begin(until).expect("half-open");
        assert_eq!(breaker.record(probe, CallResult::Neither, until, 0), None);
        assert!(breaker.begin(until).is_some());
    }

    proptest! {
        #[test]
        fn it_never_permits_while_open_and_always_permits_again(
            steps in prop::collection::vec((0u64..5_000, 0u8..3, any::<u64>()), 1..300)
        ) {
            let mut breaker = Breaker::new(Thresholds::default());
            let mut now = 0;
            for (pass, result, random) in steps {
                now += pass;
                let open_until = breaker.open_until();
                let permit = breaker.begin(now);
                if let Some(until) = open_until {
                    prop_assert_eq!(permit.is_some(), now >= until);
                    prop_assert!(until <= now + OPEN_CAP_MS);
                }
                if let Some(permit) = permit {
                    let result = [CallResult::Success, FAILURE, CallResult::Neither][result as usize];
                    let _ = breaker.record(permit, result, now, random);
                }
            }
            let later = breaker.open_until().unwrap_or(now);
            prop_assert!(breaker.begin(later).is_some());
        }
    }
}
