//! Lanes of a store on Postgres: partitions that share a lock, a clock and a counter of versions.

use siphasher::sip::SipHasher13;

/// What a partition's lane follows from: the same in every gateway and version.
pub fn hash(partition: &str) -> u64 {
    SipHasher13::new_with_keys(0, 0).hash(partition.as_bytes())
}

/// The lane of a partition.
pub fn lane(partition: &str, lanes: u32) -> u32 {
    u32::try_from(hash(partition) % u64::from(lanes.max(1))).unwrap_or(0)
}
