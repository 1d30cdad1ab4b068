//! Background work of the rules ([`Work`]), for as long as the gateway runs: each kind for itself, in small batches, one commit after
//! the other.

use crate::clock::now;
use crate::memory;
use crate::server::generation::Current;
use futures::future::join_all;
use std::time::Duration;
use tollgate_engines::AnyEngine;
use tollgate_rules::upkeep::Work;
use tollgate_store::commit::StoreError;

/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, current: Current) {
    let (store, current) = (&store, &current);
    join_all(Work::ALL.map(|work| again_and_again(work, store, current))).await;
}

/// Takes steps for ever, each of which says whether there is more to do.
async fn again_and_again(work: Work, store: &AnyEngine, current: &Current) {
    let mut has_much = false;
    loop {
        // Removed links are what leaves much memory to be given back.
        has_much = has_much || work == Work::Links && memory::look();
        let generation = current.get();
        let done = work.step(store, &generation.settings.config, now()).await;
        tokio::time::sleep(pause(done, work)).await;
    }
}

/// How long to wait after a step.
fn pause(done: Result<bool, StoreError>, work: Work) -> Duration {
    match done {
        Ok(true) => BREATH,
        Ok(false) => work.every(),
        Err(error) => {
            tracing::debug!(%error, "{} were left as they are; it is tried again", work.subject());
            work.every()
        }
    }
}
