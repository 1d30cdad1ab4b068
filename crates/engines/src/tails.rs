//! Callers that wait for new messages at the end of a topic.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tollgate_store::commit::{MAX_WAIT_MS, Message, StoreError};

/// Beyond this many topics, those that nobody waits for any more are forgotten on the next subscription.
const KEPT_TOPICS: usize = 1_024;

/// Per topic that somebody waits for, its newest sequence.
#[derive(Debug, Default)]
pub struct Tails {
    topics: Mutex<HashMap<String, watch::Sender<u64>>>,
}

/// The end of a topic. It moves when messages are appended, once they are durable and can be read.
#[derive(Debug)]
pub struct Tail {
    newest: watch::Receiver<u64>,
}

impl Tail {
    /// Waits until messages were appended after the subscription, or after the last call. `false` when the store is
    /// gone. Safe to cancel.
    pub async fn moved(&mut self) -> bool {
        self.newest.changed().await.is_ok()
    }
}

/// Reads, and again whenever the topic has moved, until there is something, or `wait` milliseconds have passed. Must run on
/// Tokio.
pub async fn first_messages<R>(
    mut tail: Tail,
    wait: u32,
    read: impl Fn() -> R,
) -> Result<Vec<Message>, StoreError>
where
    R: Future<Output = Result<Vec<Message>, StoreError>>,
{
    let first = async {
        loop {
            let messages = read().await?;
            if !messages.is_empty() || !tail.moved().await {
                return Ok(messages);
            }
        }
    };
    let patience = Duration::from_millis(wait.min(MAX_WAIT_MS).into());
    tokio::time::timeout(patience, first)
        .await
        .unwrap_or_else(|_| Ok(Vec::new()))
}

impl Tails {
    /// Waits for the topic from now on. Subscribe first and read afterwards: so no message falls between the two.
    pub fn subscribe(&self, topic: &str) -> Tail {
        let mut topics = self.topics();
        if let Some(sender) = topics.get(topic) {
            return Tail {
                newest: sender.subscribe(),
            };
        }
        if topics.len() >= KEPT_TOPICS {
            topics.retain(|_, sender| sender.receiver_count() > 0);
        }
        let (sender, newest) = watch::channel(0);
        topics.insert(topic.to_owned(), sender);
        Tail { newest }
    }

    /// Wakes the callers that wait for the topic.
    pub fn publish(&self, topic: &str, newest: u64) {
        let mut topics = self.topics();
        if let Some(sender) = topics.get(topic)
            && sender.send(newest).is_err()
        {
            topics.remove(topic);
        }
    }

    /// The topics that somebody waits for.
    pub fn waited(&self) -> Vec<String> {
        let topics = self.topics();
        let waited = topics.iter().filter(|(_, sender)| sender.receiver_count() > 0);
        waited.map(|(name, _)| name.clone()).collect()
    }

    /// The same as [`Tails::publish`], unless nothing is new.
    pub fn publish_newer(&self, topic: &str, newest: u64) {
        if let Some(sender) = self.topics().get(topic) {
            sender.send_if_modified(|known| {
                let is_newer = *known < newest;
                *known = newest.max(*known);
                is_newer
            });
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        // No code that runs under the lock panics.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
