//! Paces deliveries: a token bucket that is spread evenly, in the form of the generic cell rate algorithm.

/// Deliveries that may be begun early, in milliseconds of the rate: what a timer may be late by.
pub const BURST_MS: u64 = 10;
/// The highest rate, per second.
pub const MAX_RATE: f64 = 1_000_000.0;
/// The lowest rate, per second.
pub const MIN_RATE: f64 = 0.01;

const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_SECOND: f64 = 1e9;

/// Begins at most `rate * t + rate * BURST_MS + 1` deliveries in any `t`.
#[derive(Clone, Debug)]
pub struct Pacer {
    interval_ns: u64,
    /// When the bucket would be full again, Unix nanoseconds.
    full_at: u64,
}

impl Pacer {
    /// `rate_per_second` is brought to [`MIN_RATE`] at least and [`MAX_RATE`] at most.
    pub fn new(rate_per_second: f64) -> Self {
        Self {
            interval_ns: (NANOS_PER_SECOND / rate_per_second.clamp(MIN_RATE, MAX_RATE)) as u64,
            full_at: 0,
        }
    }

    /// When the next delivery may begin, Unix milliseconds (rounded up).
    pub fn next_at(&self) -> u64 {
        self.full_at
            .saturating_sub(BURST_MS * NANOS_PER_MS)
            .div_ceil(NANOS_PER_MS)
    }

    /// Counts a delivery that begins at `now`, Unix milliseconds; [`Self::next_at`] has been reached.
    pub fn take(&mut self, now: u64) {
        let now = now.saturating_mul(NANOS_PER_MS);
        self.full_at = self.full_at.max(now).saturating_add(self.interval_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_rate_and_its_burst(
            rate in 1u32..3_000, steps in prop::collection::vec(0u64..50, 1..60),
        ) {
            let mut pacer = Pacer::new(f64::from(rate));
            let (mut now, mut begun) = (1_800_000_000_000, Vec::new());
            for step in steps {
                now += step;
                while pacer.next_at() <= now && begun.len() < 400 {
                    pacer.take(now);
                    begun.push(now);
                }
            }
            for (i, start) in begun.iter().enumerate() {
                for (j, end) in begun.iter().enumerate().skip(i) {
                    let most = (end - start + BURST_MS) * u64::from(rate) / 1_000 + 2;
                    prop_assert!((j - i + 1) as u64 <= most, "{} in {} ms", j - i + 1, end - start);
                }
            }
        }
    }

    #[test]
    fn a_backlog_is_worked_off_at_the_full_rate() {
        let mut pacer = Pacer::new(500.0);
        let begun = (0..10_000u64)
            .filter(|now| {
                let due = pacer.next_at() <= *now;
                if due {
                    pacer.take(*now);
                }
                due
            })
            .count();
        assert!((5_000..=5_010).contains(&begun), "{begun}");
    }

    #[test]
    fn a_rate_may_be_far_below_one_a_second() {
        for (rate, wait) in [(0.01, 100_000), (0.5, 2_000), (0.0, 100_000)] {
            let mut pacer = Pacer::new(rate);
            pacer.take(1_800_000_000_000);
            let next = pacer.next_at() - 1_800_000_000_000;
            assert_eq!(next + BURST_MS, wait, "{rate}");
        }
    }
}
