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

/// Where the versions of a group go on from: the greatest number that has the residue of its first lane and is not above what its
/// lanes have given, `revision`. Versions of a lane have its residue, so that no two lanes ever give the same one.
pub fn before_first(revision: u64, first: u32, lanes: u32) -> u64 {
    let (lanes, residue) = (u64::from(lanes.max(1)), u64::from(first));
    revision - (revision + lanes - residue) % lanes
}
