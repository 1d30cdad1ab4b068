//! The work of links in the background beside their statistics: the sweep and the repair, a bounded part at a time.

use super::{repair, sweep};
use crate::config::Config;
use crate::world::World;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// One creation in this many does a batch, so that links are removed also where no host does it in the
/// background.
const EVERY: u8 = 16;

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

/// Runs [`maintain`] after some creations. The caller that created a link does not hear of a failure.
pub(super) async fn now_and_then<S: Store>(world: &World<'_, S>) {
    if (world.fresh)()[15].is_multiple_of(EVERY) {
        let _ = maintain(world.store, &world.settings.config, world.now).await;
    }
}
