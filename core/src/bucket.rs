//! Token buckets in exact integer arithmetic.

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

/// What a bucket holds; see `level` in the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whole tokens left.
    pub remaining: u64,
    /// Nanoseconds until `cost` tokens are there.
    pub next_ns: u64,
    /// Nanoseconds until the bucket is full.
    pub full_ns: u64,
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
    /// A bucket is out of bounds.
    #[error("not a valid bucket: {0}")]
    Invalid(String),
}
