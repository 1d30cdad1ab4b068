//! Trials: one sample, sent at once to where a subscription leads. Neither its progress nor its breaker hears of it.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tollgate_store::commit::Message;

use crate::sinks::{Report, Sink as _, Sinks};
use crate::subscription::Subscription;

/// The most trials under way.
pub const MAX_TRIALS: usize = 8;

/// What a trial is to send, and where to.
pub(super) struct Trial {
    settings: Subscription,
    source: String,
    sample: Arc<Message>,
    report: oneshot::Sender<Result<Report, String>>,
}

impl Trial {
    /// To be called on the relay's thread, with its connections: under the same rules as every delivery.
    pub fn begin(self, sinks: &Sinks) {
        let Self {
            settings,
            source,
            sample,
            report,
        } = self;
        match sinks.open(&settings, source) {
            Err(fault) => _ = report.send(Err(fault)),
            Ok(sink) => drop(tokio::task::spawn_local(async move {
                let ended = match settings.batch {
                    None => sink.deliver(sample, None).await,
                    Some(_) => sink.deliver_together(&[(sample, 1)]).await,
                };
                // Whoever asked may have gone.
                let _ = report.send(Ok(ended));
            })),
        }
    }
}

/// Why there was no trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTrial {
    /// [`MAX_TRIALS`] are under way, or the relay has ended.
    Busy,
    /// Which setting is at fault; no secret is quoted.
    Faulty(String),
}

/// Sends samples.
#[derive(Clone, Debug)]
pub struct Trials {
    places: Arc<Semaphore>,
    relay: mpsc::Sender<Trial>,
}

impl Trials {
    pub(super) fn new() -> (Self, mpsc::Receiver<Trial>) {
        let (relay, trials) = mpsc::channel(MAX_TRIALS);
        let places = Arc::new(Semaphore::new(MAX_TRIALS));
        (Self { places, relay }, trials)
    }

    /// Delivers a sample once, within the time that the settings allow. `source`: what CloudEvents call the source, a URI.
    ///
    /// # Errors
    /// See [`NoTrial`].
    pub async fn deliver(
        &self,
        settings: Subscription,
        source: String,
        sample: Message,
    ) -> Result<Report, NoTrial> {
        let _place = self.places.try_acquire().map_err(|_| NoTrial::Busy)?;
        let (report, ended) = oneshot::channel();
        let trial = Trial {
            settings,
            source,
            sample: Arc::new(sample),
            report,
        };
        self.relay.try_send(trial).map_err(|_| NoTrial::Busy)?;
        ended.await.map_err(|_| NoTrial::Busy)?.map_err(NoTrial::Faulty)
    }
}
