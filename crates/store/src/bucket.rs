//! Token buckets in exact integer arithmetic.
//!
//! A level is counted in *units* small enough that nothing is ever rounded. With `g = gcd(refill, interval)`,
//! a token is `interval / g` units, and every nanosecond adds `refill / g` of them. The units of a full
//! bucket are at most [`MAX_UNITS`], so that a signed 64-bit integer holds every number on the way and the
//! same arithmetic runs in SQL.
//!
//! What follows from it: over any window T a bucket admits at most `capacity + refill·T / interval` tokens. A
//! refusal changes no level. A clock that steps back stands still instead.
//!
//! A full bucket and one that was never seen are the same thing: an engine may forget a bucket that is full.

mod asked;
pub mod debt;
pub mod exact;
mod take;
#[cfg(test)]
mod tests;

pub use asked::Asked;
pub use take::{State, take_all, take_one};

/// The most units of a full bucket, units per nanosecond, and nanoseconds of an interval.
pub const MAX_UNITS: u64 = 1 << 62;
/// The most buckets of one take.
pub const MAX_BUCKETS: usize = 16;
/// The longest key of a bucket, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// A bucket to take from; see `bucket` in the WIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Which bucket.
    pub key: String,
    /// Tokens a full bucket holds.
    pub capacity: u64,
    /// Tokens gained every interval.
    pub refill: u64,
    /// The interval, nanoseconds.
    pub interval_ns: u64,
    /// Tokens to take; 0 reads the level.
    pub cost: u64,
}

/// A bucket's parameters in units, the fractions of a token in which levels are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Units of one token.
    pub token: u64,
    /// Units gained every nanosecond.
    pub rate: u64,
    /// Units of a full bucket.
    pub full: u64,
    /// Units of the cost.
    pub cost: u64,
}

impl Bucket {
    /// Its parameters in units, or [`TakeError::Invalid`] where a bound is broken. A cost above the capacity
    /// is invalid too: no waiting would ever help, so it must not look like a refusal that ends.
    pub fn check(&self) -> Result<Scale, TakeError> {
        let invalid = |why: &str| Err(TakeError::Invalid(why.to_owned()));
        if self.capacity == 0 || self.refill == 0 || self.interval_ns == 0 {
            return invalid("capacity, refill and interval must be at least 1");
        }
        if self.key.len() > MAX_KEY_BYTES {
            return invalid("the key is longer than 512 bytes");
        }
        if self.cost > self.capacity {
            return invalid("the cost exceeds the capacity, so it could never be taken");
        }
        let divisor = gcd(self.refill, self.interval_ns);
        let (token, rate) = (self.interval_ns / divisor, self.refill / divisor);
        match self.capacity.checked_mul(token) {
            Some(full) if full <= MAX_UNITS && rate <= MAX_UNITS => Ok(Scale {
                token,
                rate,
                full,
                cost: self.cost * token,
            }),
            _ => invalid("capacity · interval / gcd(refill, interval) and refill / gcd must be at most 2^62"),
        }
    }
}

pub(crate) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The level of a bucket; see `level` in the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whole tokens left.
    pub remaining: u64,
    /// Nanoseconds until `cost` tokens are there.
    pub next_ns: u64,
    /// Nanoseconds until the bucket is full.
    pub full_ns: u64,
}

impl Level {
    /// That of a bucket which was not asked, since another of the take was refused before. No bucket has so many tokens.
    pub const UNKNOWN: Self = Self {
        remaining: u64::MAX,
        next_ns: 0,
        full_ns: 0,
    };

    /// Whether the bucket was asked.
    pub fn is_known(&self) -> bool {
        self.remaining != Self::UNKNOWN.remaining
    }
}

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// A bucket lacked its cost; nothing was taken from any.
    #[error("bucket {index} lacks its cost")]
    Refused {
        /// The first bucket that lacked its cost.
        index: u32,
        /// Of every bucket.
        levels: Vec<Level>,
    },
    /// The engine could not be asked.
    #[error("the buckets are unavailable: {0}")]
    Unavailable(String),
    /// The engine works, but others held it for as long as a take may wait. That is never a reason to admit.
    #[error("the buckets are busy: {0}")]
    Busy(String),
    /// A bucket is out of bounds.
    #[error("not a valid bucket: {0}")]
    Invalid(String),
}
