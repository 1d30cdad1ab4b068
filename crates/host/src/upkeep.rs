//! Background work of the rules, for as long as the gateway runs. Links that have ended are removed, holds that have ended are
//! given back, and work that earlier versions left undone is done. In small batches, one commit after the other.

use crate::clock::now;
use std::time::Duration;
use tollgate_engines::AnyEngine;
use tollgate_rules::config::Config;
use tollgate_rules::{campaigns, links};
use tollgate_store::commit::StoreError;

/// How often it is looked whether links are to be removed.
const EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether holds have ended: so much later their units are seen, unless a claim needs them.
const EVERY_HOLD: Duration = Duration::from_secs(1);
/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, config: Config) {
    let links = repeat("links that have ended", EVERY, async || {
        links::maintain(&store, &config, now()).await
    });
    let holds = repeat("holds that have ended", EVERY_HOLD, async || {
        campaigns::maintain(&store, now()).await
    });
    tokio::join!(links, holds);
}

async fn repeat(what: &str, every: Duration, mut step: impl AsyncFnMut() -> Result<bool, StoreError>) {
    loop {
        let pause = match step().await {
            Ok(true) => BREATH,
            Ok(false) => every,
            Err(error) => {
                tracing::debug!(%error, "{what} were not removed; it is tried again");
                every
            }
        };
        tokio::time::sleep(pause).await;
    }
}
