//! Background work of the rules, for as long as the gateway runs. Links that have ended are removed, what is noted of visits is
//! counted, holds that have ended are given back, draws that have closed are drawn, what is left of removed campaigns goes, and work that
//! earlier versions left undone is done. In small batches, one commit after the other.

use crate::clock::now;
use crate::memory;
use crate::server::generation::Current;
use std::time::Duration;
use tollgate_engines::AnyEngine;
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
/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, current: Current) {
    tokio::join!(
        remove_links(&store, &current),
        give_holds_back(&store),
        fold_visits(&store),
        draw(&store),
        purge_campaigns(&store),
        forget_quotas(&store),
    );
}

async fn remove_links(store: &AnyEngine, current: &Current) {
    let mut has_much = false;
    loop {
        has_much = has_much || memory::look();
        let generation = current.get();
        let done = links::maintain(store, &generation.settings.config, now()).await;
        tokio::time::sleep(pause(done, "links that have ended", EVERY)).await;
    }
}

async fn fold_visits(store: &AnyEngine) {
    loop {
        let done = links::stats::step(store, now()).await;
        tokio::time::sleep(pause(done, "the notes of visits", EVERY_FOLD)).await;
    }
}

async fn give_holds_back(store: &AnyEngine) {
    loop {
        let done = campaigns::maintain(store, now()).await;
        tokio::time::sleep(pause(done, "holds that have ended", EVERY_HOLD)).await;
    }
}

async fn draw(store: &AnyEngine) {
    loop {
        let done = draws::maintain(store, now()).await;
        tokio::time::sleep(pause(done, "draws", EVERY_DRAW)).await;
    }
}

async fn purge_campaigns(store: &AnyEngine) {
    loop {
        let done = campaigns::purge(store, now()).await;
        tokio::time::sleep(pause(done, "campaigns", EVERY)).await;
    }
}

async fn forget_quotas(store: &AnyEngine) {
    loop {
        let done = quotas::maintain(store, now()).await;
        tokio::time::sleep(pause(done, "counters of quotas", EVERY)).await;
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
