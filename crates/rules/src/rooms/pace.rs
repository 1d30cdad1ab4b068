//! The counter of a room: whose turn it is, as a function of the time. It moves without anybody who moves it, so a restart changes
//! nothing, and to admit somebody writes nothing.
//!
//! Turns are numbered from 1. While the pace stays the same, turn `n` comes a fixed time after turn `n - 1`. A change of pace, and a pause, begin
//! a new stretch where the last one had come to: to the millionth of a turn, so that nobody's place moves.

use serde::{Deserialize, Serialize};

/// Millionths of a turn.
const PARTS: u64 = 1_000_000;
/// Stretches that are kept: what came before them counts as if it had come when the first of them began.
const MAX_STRETCHES: usize = 32;
/// The slowest and the fastest pace, in thousandths of a turn in a second. The fastest reaches the end of 64 bits after 29 years.
pub const SLOWEST: u64 = 10;
/// See [`SLOWEST`].
pub const FASTEST: u64 = 10_000_000;

/// A time of one pace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    /// When it began, Unix milliseconds.
    start: u64,
    /// What had come by then, in millionths of a turn.
    base: u64,
    /// Thousandths of a turn in a second, which are millionths in a millisecond; 0 for a pause.
    pace: u64,
}

impl Stretch {
    /// What has come, in millionths of a turn. Before its start, as much as at it: a clock that was set back takes nobody's turn.
    fn at(&self, now: u64) -> u64 {
        let since = now.saturating_sub(self.start);
        self.base.saturating_add(self.pace.saturating_mul(since))
    }

    /// When so many millionths have come; `None`: never.
    fn reaches(&self, parts: u64) -> Option<u64> {
        let missing = parts.saturating_sub(self.base);
        match (missing, self.pace) {
            (0, _) => Some(self.start),
            (_, 0) => None,
            (missing, pace) => Some(self.start.saturating_add(missing.div_ceil(pace))),
        }
    }
}

/// The paces of a room, by time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timeline {
    /// The first, and then those that follow.
    stretches: Vec<Stretch>,
}

impl Timeline {
    /// From `start` on, at this pace: no turn has come before.
    pub(super) fn new(start: u64, pace: u64) -> Self {
        let first = Stretch { start, base: 0, pace };
        Self {
            stretches: vec![first],
        }
    }

    /// Goes on at another pace from now on.
    pub(super) fn change(&mut self, now: u64, pace: u64) {
        let Some(last) = self.stretches.last_mut() else {
            *self = Self::new(now, pace);
            return;
        };
        let start = now.max(last.start);
        let base = last.at(start);
        if start == last.start {
            last.pace = pace;
            return;
        }
        self.stretches.push(Stretch { start, base, pace });
        let gone = self.stretches.len().saturating_sub(MAX_STRETCHES);
        self.stretches.drain(..gone);
    }

    /// The turns that have come.
    pub(super) fn come(&self, now: u64) -> u64 {
        self.stretches.last().map_or(0, |last| last.at(now) / PARTS)
    }

    /// When this turn comes or came, Unix milliseconds; `None`: while it stays as it is, never.
    pub(super) fn turn(&self, number: u64) -> Option<u64> {
        let parts = number.saturating_mul(PARTS);
        let nexts = self.stretches.iter().skip(1).map(Some).chain([None]);
        for (stretch, next) in self.stretches.iter().zip(nexts) {
            match next {
                Some(next) if next.base < parts => {}
                _ => return stretch.reaches(parts),
            }
        }
        None
    }
}

/// A number as it is set (turns in a second) in thousandths; `None`: it is out of bounds.
pub(super) fn thousandths(per_second: f64) -> Option<u64> {
    let scaled = (per_second * 1_000.0).round();
    let (slowest, fastest) = (SLOWEST as f64, FASTEST as f64);
    // Not a number is in no range.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in bounds"
    )]
    (slowest..=fastest).contains(&scaled).then_some(scaled as u64)
}

/// The rule of [`thousandths`], in words.
pub(super) const RULE: &str = "must be a number from 0.01 to 10000";

/// Thousandths as a number that is told.
pub(super) fn per_second(pace: u64) -> serde_json::Number {
    match pace % 1_000 {
        0 => (pace / 1_000).into(),
        _ => serde_json::Number::from_f64(pace as f64 / 1_000.0).unwrap_or_else(|| 0.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_come_at_the_pace() {
        let line = Timeline::new(1_000, 3_000);
        assert_eq!([line.come(0), line.come(1_333), line.come(1_334)], [0, 0, 1]);
        assert_eq!((line.come(2_000), line.come(11_000)), (3, 30));
        assert_eq!((line.turn(1), line.turn(3)), (Some(1_334), Some(2_000)));
        assert_eq!(Timeline::new(0, SLOWEST).turn(1), Some(100_000));
    }

    #[test]
    fn a_pause_keeps_what_has_come_to_the_part() {
        let mut line = Timeline::new(0, 1_000);
        line.change(1_500, 0);
        assert_eq!(
            (line.come(9_000), line.turn(1), line.turn(2)),
            (1, Some(1_000), None)
        );
        line.change(10_000, 1_000);
        assert_eq!((line.come(10_499), line.come(10_500)), (1, 2));
        assert_eq!(line.turn(2), Some(10_500));
    }

    #[test]
    fn a_clock_that_was_set_back_takes_nobodys_turn() {
        let mut line = Timeline::new(10_000, 1_000);
        line.change(20_000, 2_000);
        assert_eq!(line.come(15_000), 10);
        // A change at such a time begins where the last one did.
        line.change(12_000, 4_000);
        assert_eq!((line.come(20_000), line.come(21_000)), (10, 14));
    }

    proptest! {
        #[test]
        fn a_turn_has_come_from_its_time_on(
            changes in proptest::collection::vec((0..50_000_u64, 0..20_000_u64), 0..60),
            number in 1..2_000_u64,
        ) {
            let mut line = Timeline::new(1_000, 1_500);
            let mut now = 1_000;
            for (after, pace) in changes {
                let before = line.clone();
                now += after;
                line.change(now, if pace < SLOWEST { 0 } else { pace });
                // No change moves what has come.
                prop_assert_eq!(line.come(now), before.come(now));
            }
            prop_assert!(line.stretches.len() <= MAX_STRETCHES);
            match line.turn(number) {
                None => prop_assert!(line.come(u64::MAX / 4) < number),
                Some(turn) => {
                    let last = line.stretches.last().unwrap().start;
                    if turn >= last && number * PARTS > line.stretches.last().unwrap().base {
                        prop_assert!(line.come(turn) >= number && line.come(turn - 1) < number);
                    } else {
                        prop_assert!(line.come(last) >= number);
                    }
                }
            }
            // Of two turns the second never comes before the first.
            if let Some(next) = line.turn(number + 1) {
                prop_assert!(line.turn(number).is_some_and(|turn| turn <= next));
            }
        }
    }
}
