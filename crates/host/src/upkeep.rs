//! Background work of the rules ([`Work`]), for as long as the gateway runs: each kind for itself, in small batches, one commit after
//! the other. Where gateways share a store, one of them does it, and the sweep of the engine too; it would be right if all did, and so many times the work.

use crate::clock::now;
use crate::memory;
use crate::serve::is_shared;
use crate::server::generation::Current;
use crate::tenure::Tenure;
use futures::future::join_all;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tollgate_engines::{AnyEngine, Engine as _};
use tollgate_rules::links::stats::{ROUND, Round};
use tollgate_rules::upkeep::Work;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store as _;

/// Between two batches, so that others have their turn.
const BREATH: Duration = Duration::from_millis(20);
/// The lease of whoever does it.
const KEY: &str = "upkeep";
/// What it outlasts. A step that takes longer may meet another gateway's, which changes nothing: each commit has its conditions.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often it is looked at how much memory is in use, until it is much.
const MEMORY_LOOK: Duration = Duration::from_secs(10);

/// See [`notes_waiting`]; of this process, like its memory.
static NOTES_WAITING: AtomicU64 = AtomicU64::new(0);

/// The background work of this gateway.
pub struct Upkeep {
    store: AnyEngine,
    current: Current,
    tenure: Option<Tenure>,
}

impl Upkeep {
    /// On this store, by the settings that are in force.
    pub fn new(store: AnyEngine, current: Current) -> Self {
        let tenure = is_shared(&store).then(|| Tenure::new(store.clone(), KEY, ATTEMPT));
        store.set_sweeps(tenure.is_none());
        Self {
            store,
            current,
            tenure,
        }
    }

    /// Never returns; may be given up at any moment, and then wants [`Upkeep::end`].
    pub async fn run(&self) {
        tokio::join!(self.work(), look_at_memory(), look_at_notes(&self.store));
    }

    async fn work(&self) {
        let all = || join_all(Work::ALL.map(|work| again_and_again(work, &self.store, &self.current)));
        let Some(tenure) = &self.tenure else {
            all().await;
            return;
        };
        loop {
            tenure.begin(async || ()).await;
            self.store.set_sweeps(true);
            tokio::select! {
                _ = all() => {}
                () = tenure.keep(|| false) => {}
            }
            self.store.set_sweeps(false);
        }
    }

    /// Another gateway need not wait.
    pub async fn end(&self) {
        if let Some(tenure) = &self.tenure {
            tenure.end().await;
        }
    }
}

/// Until this process has so much in memory that huge pages pay.
async fn look_at_memory() {
    while !memory::look() {
        tokio::time::sleep(MEMORY_LOOK).await;
    }
}

/// How many notes of visits wait, as [`notes_waiting`] tells it. Every gateway looks, for its memory to know: by it the rules leave
/// notes out.
async fn look_at_notes(store: &AnyEngine) {
    let mut was_full = false;
    loop {
        // While the store is away, no visit is noted anyhow.
        if let Ok(found) = store.get(ROUND, &[ROUND.to_owned()]).await {
            let round = Round::of(found.first().and_then(Option::as_ref));
            NOTES_WAITING.store(round.waiting(), Ordering::Relaxed);
            if round.is_full() && !was_full {
                tracing::warn!(
                    bytes = round.waiting(),
                    "too many notes of visits wait to be counted by hour and day: until most are, visits only count in the number of their link"
                );
            }
            was_full = round.is_full();
        }
        tokio::time::sleep(Work::Visits.every()).await;
    }
}

/// Bytes of notes of visits that wait to be folded into statistics; 0 as long as it takes one step.
pub fn notes_waiting() -> u64 {
    NOTES_WAITING.load(Ordering::Relaxed)
}

/// Takes steps for ever, each of which says whether there is more to do.
async fn again_and_again(work: Work, store: &AnyEngine, current: &Current) {
    loop {
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
