//! What operators set over the API (overrides of limits): read from the store, and put in force on every thread. A call that changes it is
//! answered when every request that begins from then on is judged by it; one whose caller has gone is found by looking.

use crate::server::Switch;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tollgate_engines::AnyEngine;
use tollgate_rules::run_time;
use tollgate_store::commit::StoreError;

/// How often it is looked whether the record has changed: a read of one entry, from memory as a rule.
const EVERY: Duration = Duration::from_secs(1);

/// Those who wait until what they have changed is in force.
type Waiting = oneshot::Sender<()>;

/// The way to whoever puts changes in force.
pub struct Changed {
    sender: mpsc::UnboundedSender<Waiting>,
    /// Taken by [`run`].
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Waiting>>>,
}

impl Default for Changed {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Changed {
    /// Returns when what is stored by now is in force.
    pub async fn in_force(&self) {
        let (done, answer) = oneshot::channel();
        if self.sender.send(done).is_ok() {
            // One that has ended puts nothing in force any more.
            let _ = answer.await;
        }
    }

    fn take(&self) -> Option<mpsc::UnboundedReceiver<Waiting>> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.take()
    }
}

/// The record that is stored; empty for none.
///
/// # Errors
/// The store cannot be asked.
pub async fn record(store: &AnyEngine) -> Result<Vec<u8>, StoreError> {
    let entry = run_time::entry(store).await?;
    Ok(entry.map(|entry| entry.value).unwrap_or_default())
}

/// Never returns; may be given up at any moment.
pub async fn run(store: AnyEngine, switch: Switch, changed: &Changed) {
    let Some(mut asked) = changed.take() else {
        return;
    };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(first) = asked.recv() => waiting.push(first),
        }
        // Whoever asks later has changed it later.
        while let Ok(next) = asked.try_recv() {
            waiting.push(next);
        }
        if let Err(error) = look(&store, &switch).await {
            tracing::warn!(
                error,
                "what is set over the API stays as it was; it is tried again"
            );
        }
        for waiting in waiting.drain(..) {
            let _ = waiting.send(());
        }
    }
}

async fn look(store: &AnyEngine, switch: &Switch) -> Result<(), String> {
    let record = record(store).await.map_err(|error| error.to_string())?;
    if *switch.current().run_time == *record {
        return Ok(());
    }
    switch.change(|current| current.with_run_time(&record)).await
}
