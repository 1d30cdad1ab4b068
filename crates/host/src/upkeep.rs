//! Background work of the rules, for as long as the gateway runs. Links that have ended are removed, what is noted of visits is
//! counted, holds that have ended are given back, draws that have closed are drawn, messages that were posted to come later come, what is left of removed campaigns goes, and work that
//! earlier versions left undone is done. In small batches, one commit after the other.

use crate::clock::now;
use crate::memory;
use crate::server::generation::Current;
use std::time::Duration;
use tollgate_engines::AnyEngine;
use tollgate_rules::forward::delayed;
use tollgate_rules::{campaigns, draws, links, quotas};
use tollgate_store::commit::StoreError;

/// How often it is looked whether links or campaigns are to be removed.
const EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether holds have ended: so much later their units are seen, unless a claim needs them.
const EVERY_HOLD: Duration = Duration::from_secs(1);
/// How often it is looked whether visits were noted: so much later lists of links know how many visitors they had.
const EVERY_FOLD: Duration = Duration::from_secs(2);
/// How often it is looked whether draws have closed, or have pages of entries to be hashed.
const EVERY_DRAW: Duration = Duration::from_secs(1);
/// How often it is looked whether messages are due that were posted to come later: so much later they come.
const EVERY_DUE: Duration = Duration::from_millis(200);
/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, current: Current) {
    let (store, current) = (&store, &current);
    let mut has_much = false;
    let links = || {
        has_much = has_much || memory::look();
        let generation = current.get();
        async move { links::maintain(store, &generation.settings.config, now()).await }
    };
    tokio::join!(
        again_and_again("links that have ended", EVERY, links),
        again_and_again("holds that have ended", EVERY_HOLD, || {
            campaigns::maintain(store, now())
        }),
        again_and_again("the notes of visits", EVERY_FOLD, || {
            let generation = current.get();
            async move { links::stats::step(store, &generation.settings.config.links, now()).await }
        }),
        again_and_again("messages that are due", EVERY_DUE, || {
            let generation = current.get();
            async move { delayed::release(store, &generation.settings.config, now()).await }
        }),
        again_and_again("draws", EVERY_DRAW, || draws::maintain(store, now())),
        again_and_again("campaigns", EVERY, || campaigns::purge(store, now())),
        again_and_again("counters of quotas", EVERY, || quotas::maintain(store, now())),
    );
}

/// Takes steps for ever, each of which says whether there is more to do. `what` they are about.
async fn again_and_again<S>(what: &str, every: Duration, mut step: impl FnMut() -> S)
where
    S: Future<Output = Result<bool, StoreError>>,
{
    loop {
        let done = step().await;
        tokio::time::sleep(pause(done, what, every)).await;
    }
}

/// How long to wait after a step. `what` it was about.
fn pause(done: Result<bool, StoreError>, what: &str, every: Duration) -> Duration {
    match done {
        Ok(true) => BREATH,
        Ok(false) => every,
        Err(error) => {
            tracing::debug!(%error, "{what} were left as they are; it is tried again");
            every
        }
    }
}
