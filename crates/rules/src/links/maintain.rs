//! The work of links in the background beside their statistics: the sweep and the repair, a bounded part at a time.

use super::{repair, sweep};
use crate::config::Config;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// Does a bounded part of the work in the background. Removes links that have ended, and what deleted links
/// left. Once per store, enters links in the indexes where an earlier version has not. `true`: there is more.
/// To be called again after an error.
///
/// # Errors
/// Those of the store.
pub async fn maintain<S: Store>(store: &S, config: &Config, now: u64) -> Result<bool, StoreError> {
    let swept = sweep::step(store, config, now).await?;
    Ok(repair::step(store, config, now).await? || swept)
}
