//! When an alert holds: the text in `when`, and what it is judged by.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use super::{MAX_SUBJECTS, Subject};
use tollgate_api::units::Span;

/// The longest time over which server errors are counted.
pub const MAX_WINDOW: Span = Span::from_secs(3_600);
/// The shortest.
pub const MIN_WINDOW: Span = Span::from_secs(1);

/// The condition of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `server_errors > 10 per 1m`: answers with a status of 500 and above, in so long.
    ServerErrors {
        /// This many are none too many.
        above: u64,
        /// Over which they are counted.
        per: Span,
    },
    /// `dead_letters > 0`: dead letters that a subscription or a group holds.
    DeadLetters {
        /// This many are none too many.
        above: u64,
    },
    /// `lag > 1000`: messages that a subscription has not delivered, or a group not finished.
    Lag {
        /// This many are none too many.
        above: u64,
    },
    /// `breaker_open`: nothing is sent to an origin that fails.
    BreakerOpen,
    /// `origin_down`: no address of one of the `[[origins]]` can be used.
    OriginDown,
    /// `stock < 10`: units that are left of a campaign that can still admit.
    Stock {
        /// This many are enough.
        below: u64,
    },
    /// `store_unavailable`: nothing can be written.
    StoreUnavailable,
}

/// Why a text is no condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of: server_errors > 10 per 1m (up to 1h), dead_letters > 0, lag > 1000, breaker_open, origin_down, stock < 10, store_unavailable"
)]
pub struct ConditionError;

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().map_err(|_| ConditionError),
            false => Err(ConditionError),
        };
        Ok(match *words.as_slice() {
            ["server_errors", ">", above, "per", per] => {
                let per: Span = per.parse().map_err(|_| ConditionError)?;
                if !(MIN_WINDOW..=MAX_WINDOW).contains(&per) {
                    return Err(ConditionError);
                }
                let above = number(above)?;
                Self::ServerErrors { above, per }
            }
            ["dead_letters", ">", above] => Self::DeadLetters {
                above: number(above)?,
            },
            ["lag", ">", above] => Self::Lag {
                above: number(above)?,
            },
            ["breaker_open"] => Self::BreakerOpen,
            ["origin_down"] => Self::OriginDown,
            ["stock", "<", below] => Self::Stock {
                below: number(below)?,
            },
            ["store_unavailable"] => Self::StoreUnavailable,
            _ => return Err(ConditionError),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerErrors { above, per } => write!(f, "server_errors > {above} per {per}"),
            Self::DeadLetters { above } => write!(f, "dead_letters > {above}"),
            Self::Lag { above } => write!(f, "lag > {above}"),
            Self::BreakerOpen => f.write_str("breaker_open"),
            Self::OriginDown => f.write_str("origin_down"),
            Self::Stock { below } => write!(f, "stock < {below}"),
            Self::StoreUnavailable => f.write_str("store_unavailable"),
        }
    }
}

/// What an alert may ask the store for; see [`Condition::reported`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// How many dead letters each subscription and group holds; more than `enough` need not be counted.
    DeadLetters {
        /// The count that decides, and one more.
        enough: u64,
    },
    /// How far behind each subscription and group is.
    Lag,
    /// How much is left of each campaign that can still admit.
    Stock,
}

/// The state of the gateway, as far as a condition asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Answers with 500 and above since the process started.
    pub server_errors: u64,
    /// `<topic>/<subscription>` of each breaker that is open or half-open.
    pub open_breakers: Vec<String>,
    /// Each of the `[[origins]]` of whose addresses none is well with its breaker closed.
    pub down_origins: Vec<String>,
    /// Whether the store takes commits.
    pub store_is_up: bool,
    /// What [`Condition::reported`] asked for; `None` where the store did not say.
    pub reported: Option<Vec<Subject>>,
}

/// What a condition found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub holds: bool,
    /// The number that decided: the greatest, of stock the least, of breakers how many.
    pub value: u64,
    /// What it holds of, the worst first; at most [`MAX_SUBJECTS`].
    pub subjects: Vec<Subject>,
}

/// Counts of the recent past, by which an increase is told.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Time (Unix milliseconds) and count; the first is the newest that is at least as old as the window, if there is one.
    counts: VecDeque<(u64, u64)>,
}

impl Window {
    /// The increase over `span_ms` up to `now`, and whether so much time is known of. At most one count a second is kept.
    fn increase(&mut self, now: u64, count: u64, span_ms: u64) -> (u64, bool) {
        const LEAST_MS: u64 = 1_000;
        if self.counts.back().is_none_or(|(last, _)| now >= last + LEAST_MS) {
            self.counts.push_back((now, count));
        }
        let start = now.saturating_sub(span_ms);
        while self.counts.get(1).is_some_and(|(second, _)| *second <= start) {
            self.counts.pop_front();
        }
        let (oldest, least) = self.counts.front().copied().unwrap_or((now, count));
        (count.saturating_sub(least), oldest <= start)
    }
}

impl Condition {
    /// What of the store it is about.
    pub fn reported(&self) -> Option<Reported> {
        match self {
            Self::DeadLetters { above } => Some(Reported::DeadLetters {
                enough: above.saturating_add(1),
            }),
            Self::Lag { .. } => Some(Reported::Lag),
            Self::Stock { .. } => Some(Reported::Stock),
            Self::ServerErrors { .. } | Self::BreakerOpen | Self::OriginDown | Self::StoreUnavailable => None,
        }
    }

    /// Whether it holds; `None` where that cannot be told now, and whatever was true before remains so. `now`: Unix
    /// milliseconds.
    pub fn judge(&self, readings: &Readings, window: &mut Window, now: u64) -> Option<Finding> {
        let (holds, value, mut subjects) = match *self {
            Self::ServerErrors { above, per } => {
                let (value, is_whole) = window.increase(now, readings.server_errors, per.as_millis());
                if value <= above && !is_whole {
                    return None;
                }
                (value > above, value, Vec::new())
            }
            Self::DeadLetters { above } | Self::Lag { above } => {
                readings.worst(|value| value > above, |one| Reverse(one.value))?
            }
            Self::Stock { below } => readings.worst(|value| value < below, |one| one.value)?,
            Self::BreakerOpen => each(&readings.open_breakers),
            Self::OriginDown => each(&readings.down_origins),
            Self::StoreUnavailable => (
                !readings.store_is_up,
                u64::from(!readings.store_is_up),
                Vec::new(),
            ),
        };
        subjects.truncate(MAX_SUBJECTS);
        Some(Finding {
            holds,
            value,
            subjects,
        })
    }
}

/// Whether there are any, how many, and each of them.
fn each(names: &[String]) -> (bool, u64, Vec<Subject>) {
    let named = names.iter().cloned();
    let subjects: Vec<_> = named.map(|name| Subject { name, value: 1 }).collect();
    (!subjects.is_empty(), subjects.len() as u64, subjects)
}

impl Readings {
    /// Whether some value is wrong, the worst value, and the subjects with a wrong one, the worst first: in the order of `rank`.
    fn worst<K: Ord>(
        &self,
        is_wrong: impl Fn(u64) -> bool,
        rank: impl Fn(&Subject) -> K,
    ) -> Option<(bool, u64, Vec<Subject>)> {
        let mut subjects = self.reported.clone()?;
        subjects.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        let value = subjects.first().map_or(0, |worst| worst.value);
        subjects.retain(|subject| is_wrong(subject.value));
        Some((!subjects.is_empty(), value, subjects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(values: &[(&str, u64)]) -> Vec<Subject> {
        let subject = |(name, value): &(&str, u64)| Subject {
            name: (*name).to_owned(),
            value: *value,
        };
        values.iter().map(subject).collect()
    }

    fn judged(when: &str, readings: &Readings) -> Option<Finding> {
        let condition: Condition = when.parse().unwrap();
        condition.judge(readings, &mut Window::default(), 1_000_000)
    }

    #[test]
    fn conditions_read_as_they_are_written() {
        for text in [
            "server_errors > 10 per 1m",
            "dead_letters > 0",
            "lag > 1000",
            "breaker_open",
            "origin_down",
            "stock < 10",
            "store_unavailable",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!(
            "  lag   >  7 ".parse::<Condition>(),
            Ok(Condition::Lag { above: 7 })
        );
        for bad in [
            "",
            "lag",
            "lag > ",
            "lag < 3",
            "lag > -1",
            "lag > +1",
            "lag > 1e3",
            "lag > 99999999999999999999",
            "stock > 3",
            "server_errors > 10",
            "server_errors > 10 per",
            "server_errors > 10 per 0s",
            "server_errors > 10 per 2h",
            "server_errors > 10 per minute",
            "breaker_open > 1",
            "origin_down > 1",
            "cpu > 3",
        ] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_above_the_bound_holds_and_names_the_worst_first() {
        let readings = Readings {
            reported: Some(subjects(&[("a/x", 10), ("b/x", 12), ("c/x", 11)])),
            ..Readings::default()
        };
        let found = judged("lag > 10", &readings).unwrap();
        assert!(found.holds);
        assert_eq!(found.value, 12);
        assert_eq!(found.subjects, subjects(&[("b/x", 12), ("c/x", 11)]));
        let found = judged("lag > 12", &readings).unwrap();
        assert!(!found.holds && found.subjects.is_empty());
        assert_eq!(found.value, 12);
    }

    #[test]
    fn stock_below_the_bound_holds() {
        let readings = Readings {
            reported: Some(subjects(&[("spring", 10), ("autumn", 0), ("winter", 9)])),
            ..Readings::default()
        };
        let found = judged("stock < 10", &readings).unwrap();
        assert_eq!(found.subjects, subjects(&[("autumn", 0), ("winter", 9)]));
        assert_eq!((found.holds, found.value), (true, 0));
        assert!(!judged("stock < 0", &readings).unwrap().holds);
    }

    #[test]
    fn breakers_and_origins_are_named_each_for_its_own_condition() {
        let readings = Readings {
            open_breakers: vec!["signup/crm".into()],
            down_origins: vec!["cart".into(), "shop".into()],
            ..Readings::default()
        };
        let found = judged("breaker_open", &readings).unwrap();
        assert_eq!(
            (found.holds, found.subjects),
            (true, subjects(&[("signup/crm", 1)]))
        );
        let found = judged("origin_down", &readings).unwrap();
        assert_eq!((found.holds, found.value), (true, 2));
        assert_eq!(found.subjects, subjects(&[("cart", 1), ("shop", 1)]));
        let well = judged("origin_down", &Readings::default()).unwrap();
        assert_eq!((well.holds, well.value), (false, 0));
    }

    #[test]
    fn what_the_store_does_not_say_is_not_known() {
        let silent = Readings::default();
        for when in ["lag > 1", "dead_letters > 0", "stock < 1"] {
            assert_eq!(judged(when, &silent), None, "{when}");
        }
        assert!(judged("store_unavailable", &silent).unwrap().holds);
    }

    #[test]
    fn a_message_names_so_many_subjects() {
        let many: Vec<Subject> = (0..100)
            .map(|n| Subject {
                name: format!("t/{n}"),
                value: n + 1,
            })
            .collect();
        let readings = Readings {
            reported: Some(many),
            ..Readings::default()
        };
        let found = judged("lag > 0", &readings).unwrap();
        assert_eq!(found.subjects.len(), MAX_SUBJECTS);
        assert_eq!(found.subjects[0].value, 100);
    }

    #[test]
    fn errors_are_counted_over_their_window_only() {
        let condition: Condition = "server_errors > 10 per 1m".parse().unwrap();
        let mut window = Window::default();
        let mut holds = |at_s: u64, server_errors: u64| {
            let readings = Readings {
                server_errors,
                ..Readings::default()
            };
            let found = condition.judge(&readings, &mut window, at_s * 1_000);
            found.map(|found| found.holds)
        };
        assert_eq!(holds(100, 5), None, "nothing is known of the minute before");
        assert_eq!(holds(130, 15), None, "ten are none too many, so far");
        assert_eq!(holds(140, 16), Some(true));
        assert_eq!(holds(160, 16), Some(true));
        assert_eq!(holds(191, 16), Some(false), "one of them, since 130");
        assert_eq!(holds(250, 16), Some(false));
        assert_eq!(holds(251, 40), Some(true));
        assert_eq!(holds(310, 40), Some(true));
        assert_eq!(holds(312, 40), Some(false));
        assert!(window.counts.len() < 10);
    }

    #[test]
    fn a_window_holds_a_count_a_second() {
        let mut window = Window::default();
        for ms in 0..200_000 {
            window.increase(ms * 10, ms, 60_000);
        }
        assert!(window.counts.len() <= 62, "{}", window.counts.len());
    }
}
