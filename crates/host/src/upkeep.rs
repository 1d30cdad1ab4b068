//! Background work of the rules, for as long as the gateway runs. Links that have ended are removed, and work
//! that earlier versions left undone is done. In small batches, one commit after the other.

use crate::clock::now;
use std::time::Duration;
use tollgate_engines::AnyEngine;
use tollgate_rules::config::Config;
use tollgate_rules::links;

/// How often it is looked whether there is anything to do.
const EVERY: Duration = Duration::from_secs(10);
/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, config: Config) {
    loop {
        let pause = match links::maintain(&store, &config, now()).await {
            Ok(true) => BREATH,
            Ok(false) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "links that have ended were not removed; it is tried again");
                EVERY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
