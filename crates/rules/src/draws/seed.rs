//! The seed of a draw: what is told of it before, and whom it chooses.

use sha2::{Digest as _, Sha256};

use super::merkle::Hash;
use super::pool;
use super::record::Draw;
use tollgate_api::ids;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The seed, which must be the one that was committed to.
pub async fn read<S: Store>(store: &S, draw: &Draw) -> Result<Hash, StoreError> {
    let found = store
        .get(&Draw::partition(&draw.id), &[Draw::seed_key(&draw.id)])
        .await?;
    let seed: Option<Hash> = found
        .into_iter()
        .flatten()
        .next()
        .and_then(|entry| entry.value.try_into().ok());
    seed.filter(|seed| commitment(seed) == draw.commitment)
        .ok_or_else(|| stored::damaged("seed"))
}

/// What is told of a seed before the draw.
pub fn commitment(seed: &Hash) -> String {
    ids::hex(&Sha256::digest(seed))
}

/// The index of the entry that a seed chooses: SHA-256(seed ‖ root ‖ beacon), the first eight bytes of it, modulo the number of
/// entries. A hash that would favour some is hashed again.
pub fn winner(seed: &Hash, root: &Hash, beacon: Option<&str>, entries: u64) -> u64 {
    let hash = Sha256::new().chain_update(seed).chain_update(root);
    let mut hash: Hash = hash.chain_update(beacon.unwrap_or_default()).finalize().into();
    loop {
        if let Some(index) = pool::below(&hash, entries.max(1)) {
            return index;
        }
        hash = Sha256::digest(hash).into();
    }
}
