//! Reads a relay's durable form back.

use std::collections::BTreeMap;

use super::MAX_REDRIVEN;
use super::attempt::{Attempt, Health};
use super::progress::Progress;
use super::record::{BreakerRecord, Control, Keys, StoredMessage, Waiting, lane_of};
use tollgate_store::commit::{Entry, MAX_PAGE, Message, StoreError, Topic};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The most attempt counters of messages that are not parked that are taken over; those of messages beyond start anew.
const MAX_COUNTERS: usize = 4 * super::WINDOW;

/// A small part of the durable form, cheap enough to be looked at often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polled {
    /// The version of the progress; `None` if there is none.
    pub progress: Option<u64>,
    /// The control entry and its version; the default if there is none.
    pub control: (Control, u64),
    /// Grows with each redrive.
    pub redrives: u64,
    /// Grows with each reset of the breaker.
    pub resets: u64,
    /// Grows each time that what waits is to be tried at once.
    pub hurries: u64,
    /// What was last made durable of the breaker.
    pub breaker: BreakerRecord,
}

/// The durable form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// The small entries.
    pub polled: Polled,
    /// What is finished.
    pub progress: Progress,
    /// The messages that are not finished: those that the progress has not passed over, those that are
    /// parked, and those that were dead letters. Without their last failure, and without the messages.
    pub waiting: BTreeMap<u64, Waiting>,
    /// Whether there are more redriven messages in the store.
    pub more: bool,
    /// How deliveries went of late.
    pub health: Health,
    /// Of a subscription without progress: what comes up to here is not for it, since it begins later.
    pub begins_after: Option<u64>,
}

impl Restored {
    /// Whether the message is finished, by what was read. `redriven`: it was a dead letter.
    pub(super) fn is_finished(&self, sequence: u64, redriven: bool) -> bool {
        let left = self.waiting.get(&sequence).is_some_and(Waiting::is_apart);
        self.progress.contains(sequence) && !left && !(redriven && self.more)
    }
}

/// Reads the small entries. [`StoreError::Invalid`] if one is damaged.
pub async fn poll<S: Store>(store: &S, keys: &Keys) -> Result<Polled, StoreError> {
    Ok(state(store, keys).await?.0)
}

/// The same, and the progress.
pub async fn state<S: Store>(store: &S, keys: &Keys) -> Result<(Polled, Progress), StoreError> {
    let wanted = [
        keys.progress(),
        keys.control(),
        keys.redrives(),
        keys.resets(),
        keys.breaker(),
        keys.hurries(),
    ];
    let found = store.get(keys.partition(), &wanted).await?;
    let [progress, control, redrives, resets, breaker, hurries] =
        [0, 1, 2, 3, 4, 5].map(|i| found.get(i).and_then(Option::as_ref));
    let polled = Polled {
        progress: progress.map(|entry| entry.version),
        control: (decoded(control)?, control.map_or(0, |entry| entry.version)),
        redrives: decoded(redrives)?,
        resets: decoded(resets)?,
        hurries: decoded(hurries)?,
        breaker: decoded(breaker)?,
    };
    Ok((polled, decoded(progress)?))
}

fn decoded<T: serde::de::DeserializeOwned + Default>(entry: Option<&Entry>) -> Result<T, StoreError> {
    let Some(entry) = entry else {
        return Ok(T::default());
    };
    stored::decode("entry of the relay", entry)
}

/// How deliveries went of late.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn health<S: Store>(store: &S, keys: &Keys) -> Result<Health, StoreError> {
    let found = store.get(keys.partition(), &[keys.health()]).await?;
    decoded(found.first().and_then(Option::as_ref))
}

/// What is kept of the attempts to deliver a message, oldest first.
///
/// # Errors
/// As [`health`].
pub async fn attempts<S: Store>(store: &S, keys: &Keys, sequence: u64) -> Result<Vec<Attempt>, StoreError> {
    let found = store
        .get(keys.partition(), &Attempt::places(keys, sequence))
        .await?;
    let mut attempts = Vec::new();
    for entry in found.iter().flatten() {
        let attempt: Attempt = stored::decode("attempt of a delivery", entry)?;
        if attempt.sequence == sequence {
            attempts.push(attempt);
        }
    }
    attempts.sort_by_key(|attempt| (attempt.at, attempt.number));
    Ok(attempts)
}

/// Reads everything. Bounded: beyond [`MAX_REDRIVEN`] redriven messages it says that there are more.
pub async fn restore<S: Store>(store: &S, topic: &str, keys: &Keys) -> Result<Restored, StoreError> {
    // The counter of redrives is read before the entries: a redrive in between is seen by the next poll.
    let (polled, progress) = state(store, keys).await?;
    let mut restored = Restored {
        polled,
        progress,
        health: health(store, keys).await?,
        ..Restored::default()
    };
    let prefix = keys.retry_prefix();
    let (mut after, mut counters, mut redriven, mut parked) = (None::<String>, 0, 0, 0);
    loop {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = page.last() else {
            restored.progress.set_parked(parked);
            return Ok(restored);
        };
        after = Some(last.key.clone());
        for item in &page {
            let Some(sequence) = Keys::sequence_of(&item.key) else {
                continue;
            };
            let mut waiting: Waiting = stored::decode("message that waits", &item.entry)?;
            if waiting.parked {
                parked += 1;
            } else if waiting.redriven && redriven >= MAX_REDRIVEN {
                restored.more = true;
                continue;
            } else if waiting.redriven {
                redriven += 1;
                if waiting.lane == 0 {
                    let message = message_of(store, topic, sequence, waiting.message.as_ref()).await?;
                    waiting.lane = message.map_or(0, |message| lane_of(&message.key));
                }
            } else if counters >= MAX_COUNTERS {
                continue;
            } else {
                counters += 1;
            }
            (waiting.message, waiting.last_error) = (None, None);
            restored.waiting.insert(sequence, waiting);
        }
    }
}

/// A message that waits, as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its sequence.
    pub sequence: u64,
    /// `None` where retention has taken it.
    pub message: Option<Message>,
    /// Why it failed last.
    pub last_error: Option<String>,
}

/// Reads messages that wait, in the order of `sequences` (at most [`tollgate_store::commit::MAX_GET_KEYS`]): from their entries, or
/// from the topic.
pub async fn fetch<S: Store>(
    store: &S,
    topic: &str,
    keys: &Keys,
    sequences: &[u64],
) -> Result<Vec<Found>, StoreError> {
    let wanted: Vec<String> = sequences.iter().map(|sequence| keys.retry(*sequence)).collect();
    let entries = store.get(keys.partition(), &wanted).await?;
    let mut found = Vec::with_capacity(sequences.len());
    for (&sequence, entry) in sequences.iter().zip(entries) {
        let waiting: Waiting = match &entry {
            Some(entry) => stored::decode("message that waits", entry)?,
            None => Waiting::default(),
        };
        found.push(Found {
            sequence,
            message: message_of(store, topic, sequence, waiting.message.as_ref()).await?,
            last_error: waiting.last_error,
        });
    }
    Ok(found)
}

async fn message_of<S: Store>(
    store: &S,
    topic: &str,
    sequence: u64,
    stored: Option<&StoredMessage>,
) -> Result<Option<Message>, StoreError> {
    if let Some(message) = stored.and_then(|m| m.restore(topic, sequence)) {
        return Ok(Some(message));
    }
    let found = store.read(topic, sequence.saturating_sub(1), 1, 0).await?;
    Ok(found.into_iter().find(|m| m.sequence == sequence))
}

/// The oldest sequence whose message is still needed in the topic; every earlier one is finished, or carried by its entry.
pub async fn oldest_needed<S: Store>(store: &S, keys: &Keys, progress: &Progress) -> Result<u64, StoreError> {
    let next = progress.watermark().saturating_add(1);
    let page = store.scan(&keys.retry_prefix(), None, MAX_PAGE).await?;
    let carried = |value: &[u8]| serde_json::from_slice::<Waiting>(value).is_ok_and(|w| w.message.is_some());
    let mut last = None;
    for item in &page {
        let Some(sequence) = Keys::sequence_of(&item.key) else {
            continue;
        };
        if !carried(&item.entry.value) {
            return Ok(next.min(sequence));
        }
        last = Some(sequence);
    }
    // There may be more than this page; they are newer than what it held.
    Ok(last.map_or(next, |last| next.min(last.saturating_add(1))))
}

/// The most entries that are looked at to count those that wait.
pub const MAX_COUNTED: usize = 1_000;

/// Messages that wait, or are under way: those of the topic that are not finished, and finished ones that are to be delivered again, as
/// dead letters that were redriven and what was replayed. Of the latter at most [`MAX_COUNTED`] entries are looked at. `topic`: its own,
/// as far as it has messages.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn lag<S: Store>(
    store: &S,
    keys: &Keys,
    (polled, progress): (&Polled, &Progress),
    topic: Option<&Topic>,
) -> Result<u64, StoreError> {
    let (first, last) = topic.map_or((1, 0), |topic| (topic.first, topic.last));
    let kept = progress.lag(first, last);
    if polled.redrives == 0 {
        return Ok(kept);
    }
    // What is parked, or not finished yet, is counted by the progress.
    let is_apart =
        |sequence, waiting: &Waiting| waiting.redriven && !waiting.parked && progress.contains(sequence);
    Ok(kept + count_waiting(store, keys, is_apart).await?)
}

/// How many of the entries of messages that wait are such; at most [`MAX_COUNTED`] are looked at.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn count_waiting<S: Store>(
    store: &S,
    keys: &Keys,
    is_such: impl Fn(u64, &Waiting) -> bool,
) -> Result<u64, StoreError> {
    let (prefix, mut after, mut seen, mut count) = (keys.retry_prefix(), None::<String>, 0, 0);
    while seen < MAX_COUNTED {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        seen += page.len();
        for item in &page {
            let Some(sequence) = Keys::sequence_of(&item.key) else {
                continue;
            };
            let waiting: Waiting = stored::decode("message that waits", &item.entry)?;
            count += u64::from(is_such(sequence, &waiting));
        }
    }
    Ok(count)
}

/// What the oldest message that waits apart, or for another attempt, failed with last; `None` if there is none, or it has not failed.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn last_error<S: Store>(store: &S, keys: &Keys) -> Result<Option<String>, StoreError> {
    let page = store.scan(&keys.retry_prefix(), None, 1).await?;
    let Some(item) = page.first() else { return Ok(None) };
    let waiting: Waiting = stored::decode("message that waits", &item.entry)?;
    Ok(waiting.last_error)
}

/// When the oldest message was committed that is not finished, Unix milliseconds; `None` if there is none. Of those that wait
/// apart, only the first is looked at.
pub async fn oldest_time<S: Store>(
    store: &S,
    topic: &str,
    keys: &Keys,
    progress: &Progress,
) -> Result<Option<u64>, StoreError> {
    let apart = store.scan(&keys.retry_prefix(), None, 1).await?;
    let apart = apart.first().and_then(|item| Keys::sequence_of(&item.key));
    if let Some(sequence) = apart {
        let found = fetch(store, topic, keys, &[sequence]).await?;
        if let Some(message) = found.into_iter().next().and_then(|found| found.message) {
            return Ok(Some(message.time));
        }
    }
    let next = store.read(topic, progress.watermark(), 1, 0).await?;
    Ok(next.first().map(|message| message.time))
}
