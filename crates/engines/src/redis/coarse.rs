//! A bucket's parameters in the numbers of `decide.lua`.

use tollgate_store::bucket::Scale;

/// The most units of a full bucket: the script counts in doubles.
const MAX_FULL: u128 = 1 << 52;

/// A bucket's parameters as the script counts: by microseconds, and no number above 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coarse {
    pub(super) token: u64,
    pub(super) rate: u64,
    pub(super) full: u64,
}

impl Coarse {
    pub(super) fn of(scale: &Scale) -> Self {
        let token = u128::from(scale.token.max(1));
        let rate = u128::from(scale.rate) * 1_000;
        let (mut one, mut other) = (token, rate);
        while other != 0 {
            (one, other) = (other, one % other);
        }
        let capacity = u128::from(scale.full) / token;
        let (token, rate) = (token / one, rate / one);
        // One that takes more than a century to fill holds what a century fills: less, never more.
        let full = (capacity.min(MAX_FULL / token.min(MAX_FULL)).max(1) * token).min(MAX_FULL);
        let short = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            token: short(token),
            rate: short(rate.min(full)),
            full: short(full),
        }
    }

    /// A level of the script in units of the scale.
    pub(super) fn level(&self, scale: &Scale, units: i64) -> i64 {
        let exact = i128::from(units) * i128::from(scale.token);
        i64::try_from(exact.div_euclid(i128::from(self.token.max(1)))).unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_store::bucket::Bucket;

    fn scale(capacity: u64, refill: u64, interval_ns: u64) -> Scale {
        let bucket = Bucket {
            key: String::new(),
            capacity,
            refill,
            interval_ns,
            cost: 1,
        };
        bucket.check().unwrap()
    }

    #[test]
    fn parameters_are_the_same_by_microseconds() {
        const SECOND: u64 = 1_000_000_000;
        for (capacity, refill, interval) in [
            (60, 40, SECOND),
            (1_000_000, 1_000_000, 3_600 * SECOND),
            (5, 1, 30 * 86_400 * SECOND),
            (10_000, 10_000_000, SECOND),
            (3, 7, SECOND / 3),
        ] {
            let scale = scale(capacity, refill, interval);
            let coarse = Coarse::of(&scale);
            assert_eq!(coarse.full / coarse.token, capacity);
            // Tokens of a year, both ways.
            let year = 365 * 86_400 * 1_000_000_u128;
            let by_ns = year * 1_000 * u128::from(scale.rate) / u128::from(scale.token);
            let by_us = year * u128::from(coarse.rate) / u128::from(coarse.token);
            assert_eq!(by_ns, by_us);
            let all = i64::try_from(coarse.full).unwrap();
            assert_eq!(coarse.level(&scale, all), i64::try_from(scale.full).unwrap());
        }
        // One that an operator fills gains all that it holds.
        let filled = scale(101, 101, 1);
        let coarse = Coarse::of(&filled);
        assert_eq!((coarse.rate, coarse.full / coarse.token), (101, 101));
        // 146 years.
        let centuries = scale(1_280_000, 1, 3_600 * SECOND);
        assert!(Coarse::of(&centuries).full < centuries.full / 1_000);
        assert!(Coarse::of(&centuries).full <= 1 << 52);
    }
}
