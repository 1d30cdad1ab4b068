//! Single messages that no topic holds, such as alerts: delivered as a subscription's are, but once; whoever sends them tries
//! again.

use std::sync::Arc;
use std::time::Duration;

use tollgate_store::commit::Message;

use crate::relay::Delivered;
use crate::sinks::http::OwnAddress;
use crate::sinks::{AnySink, Sink as _, Sinks};
use crate::subscription::Subscription;

/// How long a connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(4);

/// Opens recipients.
pub struct Messenger {
    sinks: Sinks,
}

impl Messenger {
    pub(crate) fn new(own: Arc<OwnAddress>) -> Self {
        Self {
            sinks: Sinks::new(IDLE, own),
        }
    }

    /// Whom these settings name, which are read as a subscription's. `source`: what CloudEvents call the source, a URI.
    ///
    /// # Errors
    /// Which setting is at fault; no secret is quoted.
    pub fn open(&self, settings: &Subscription, source: String) -> Result<Recipient, String> {
        self.sinks.open(settings, source).map(Recipient)
    }
}

/// Whom messages are sent to.
pub struct Recipient(AnySink);

impl Recipient {
    /// Delivers once, within the time that the settings allow. To be called on a [`tokio::task::LocalSet`].
    pub async fn deliver(&self, message: Arc<Message>) -> Delivered {
        self.0.deliver(message, None).await.delivered
    }
}
