//! Reads a relay's durable form back.

use std::collections::BTreeMap;

use super::MAX_REDRIVEN;
use super::progress::Progress;
use super::record::{Control, Keys, Waiting};
use crate::commit::{Entry, MAX_PAGE, Message, StoreError};
use crate::ports::Store;

/// The most attempt counters that are taken over; those of messages beyond start anew.
const MAX_COUNTERS: usize = 4 * super::WINDOW;
/// Redriven messages that are held at once, bytes.
const MAX_REDRIVEN_BYTES: usize = super::WINDOW_BYTES / 2;

/// A small part of the durable form, cheap enough to be looked at often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polled {
    /// The version of the progress; `None` if there is none.
    pub progress: Option<u64>,
    /// The control entry and its version; the default if there is none.
    pub control: (Control, u64),
    /// Grows with each redrive.
    pub redrives: u64,
}

/// The durable form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// The small entries.
    pub polled: Polled,
    /// What is finished.
    pub progress: Progress,
    /// Attempts of messages that are not finished.
    pub waiting: BTreeMap<u64, Waiting>,
    /// Messages that were dead letters; `None` where retention has taken the message.
    pub redriven: Vec<(u64, Waiting, Option<Message>)>,
    /// There are more of those.
    pub more: bool,
}

/// Reads the small entries. [`StoreError::Invalid`] if one is damaged.
pub async fn poll<S: Store>(store: &S, keys: &Keys) -> Result<Polled, StoreError> {
    Ok(state(store, keys).await?.0)
}

/// The same, and the progress.
pub async fn state<S: Store>(store: &S, keys: &Keys) -> Result<(Polled, Progress), StoreError> {
    let wanted = [keys.progress(), keys.control(), keys.redrives()];
    let found = store.get(keys.partition(), &wanted).await?;
    let [progress, control, redrives] = [0, 1, 2].map(|i| found.get(i).and_then(Option::as_ref));
    let polled = Polled {
        progress: progress.map(|entry| entry.version),
        control: (decoded(control)?, control.map_or(0, |entry| entry.version)),
        redrives: decoded(redrives)?,
    };
    Ok((polled, decoded(progress)?))
}

fn decoded<T: serde::de::DeserializeOwned + Default>(entry: Option<&Entry>) -> Result<T, StoreError> {
    let Some(entry) = entry else {
        return Ok(T::default());
    };
    serde_json::from_slice(&entry.value)
        .map_err(|e| StoreError::Invalid(format!("a damaged entry of the relay: {e}")))
}

/// Reads everything. Bounded: beyond [`MAX_REDRIVEN`] redriven messages it says that there are more.
pub async fn restore<S: Store>(store: &S, topic: &str, keys: &Keys) -> Result<Restored, StoreError> {
    // The counter of redrives is read before the entries: a redrive in between is seen by the next poll.
    let (polled, progress) = state(store, keys).await?;
    let mut restored = Restored {
        polled,
        progress,
        ..Restored::default()
    };
    let prefix = keys.retry_prefix();
    let (mut after, mut bytes) = (None::<String>, 0);
    loop {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(restored);
        };
        after = Some(last.key.clone());
        for item in &page {
            let (Some(sequence), Ok(waiting)) = (
                Keys::sequence_of(&item.key),
                serde_json::from_slice::<Waiting>(&item.entry.value),
            ) else {
                continue; // a damaged counter: the message starts anew
            };
            if !waiting.redriven {
                if restored.waiting.len() < MAX_COUNTERS {
                    restored.waiting.insert(sequence, waiting);
                }
                continue;
            }
            if restored.redriven.len() >= MAX_REDRIVEN || bytes >= MAX_REDRIVEN_BYTES {
                restored.more = true;
                continue;
            }
            let message = message_of(store, topic, sequence, &waiting).await?;
            bytes += message.as_ref().map_or(0, |m| m.payload.len());
            restored.redriven.push((
                sequence,
                Waiting {
                    message: None,
                    ..waiting
                },
                message,
            ));
        }
    }
}

async fn message_of<S: Store>(
    store: &S,
    topic: &str,
    sequence: u64,
    waiting: &Waiting,
) -> Result<Option<Message>, StoreError> {
    if let Some(message) = waiting.message.as_ref().and_then(|m| m.restore(topic, sequence)) {
        return Ok(Some(message));
    }
    let found = store.read(topic, sequence.saturating_sub(1), 1, 0).await?;
    Ok(found.into_iter().find(|m| m.sequence == sequence))
}
