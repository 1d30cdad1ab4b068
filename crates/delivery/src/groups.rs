//! Consumer groups: a topic's messages, leased to whoever asks. What is kept of a group, and its decisions, are here and pure;
//! the calls are in the rules.
//!
//! | entry, in the partition `groups/<topic>` | holds |
//! |---|---|
//! | `group/<topic>/<name>` | [`Stored`]: what was asked for, and the id of what follows |
//! | `group-count/<topic>` | how many groups the topic has |
//! | `groups/<topic>/~<id>/progress` | [`Head`]: what was never leased begins here, and which windows there are |
//! | `…/window/<number>` | [`window::Window`]: the messages of [`WIDTH`] sequences that were passed and are not finished |
//! | `…/retry/<sequence>` | [`Waiting`](crate::relay::record::Waiting): a dead letter that was redriven, with its message |
//! | `…/redrives` | grows with each redrive |
//! | `…/dead/<sequence>` | [`DeadLetter`](crate::relay::record::DeadLetter) |
//!
//! A message before the head's `next` that is in no window is finished. Leases are ordered by the version of the head: of two
//! at once, one is refused and looks again. Acknowledgements touch their windows alone, so they do not get in the way of leases.

pub mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::relay::record::{Keys, Waiting};
use crate::relay::restore;
use tollgate_store::commit::{Entry, MAX_PAGE, StoreError, Topic, key_part};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use window::{Record, WIDTH, Windows};

/// The most groups of a topic.
pub const MAX_GROUPS: i64 = 64;
/// The most messages of a group that are leased, or wait, or stand behind another of their key.
pub const MAX_OUT: usize = 10_000;
/// The most windows of a group: they are read in one step.
pub const MAX_WINDOWS: usize = 512;
/// What the keys of groups begin with.
pub const PREFIX: &str = "group/";

/// The record of a group. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Different for each group, also for one that takes the name of a removed one.
    pub id: String,
    /// Leases of a message before it is a dead letter.
    pub max_attempts: u32,
    /// Of the messages of an ordering key, one is out at a time, in order.
    pub ordered: bool,
    /// When it was made.
    pub created_at: u64,
    /// When it was changed last.
    pub updated_at: u64,
}

/// A group that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// Its record.
    pub stored: Stored,
    /// Of its record's entry.
    pub version: u64,
}

impl Defined {
    /// Where its state is.
    pub fn keys(&self) -> Keys {
        Keys::of_group(&self.topic, &self.stored.id)
    }
}

/// How far a group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The first sequence that was never looked at.
    pub next: u64,
    /// The numbers of the windows that there may be, ascending. Those that became empty meanwhile are gone.
    pub windows: Vec<u64>,
    /// The redrives that were taken in.
    #[serde(default)]
    pub redrives: u64,
}

/// A group's state, as it was read. What a lease commits, it commits on the condition that the head is still this one.
#[derive(Clone, Debug)]
pub struct State {
    /// How far it is.
    pub head: Head,
    /// Of its entry.
    pub version: u64,
    /// The redrives that there were.
    pub redrives: u64,
    /// What was passed and is not finished.
    pub windows: Windows,
}

/// The partition of all groups of a topic.
pub fn partition(topic: &str) -> String {
    format!("groups/{}", key_part(topic))
}

/// The key of the group of this topic and name.
pub fn key(topic: &str, name: &str) -> String {
    format!("{PREFIX}{topic}/{name}")
}

/// The counter of a topic's groups.
pub fn count_key(topic: &str) -> String {
    format!("group-count/{topic}")
}

fn of_entry(topic: &str, name: &str, entry: &Entry) -> Result<Defined, StoreError> {
    Ok(Defined {
        topic: topic.to_owned(),
        name: name.to_owned(),
        stored: stored::decode("consumer group", entry)?,
        version: entry.version,
    })
}

/// One group.
///
/// # Errors
/// The store does not answer, or the record is damaged.
pub async fn find<S: Store>(store: &S, topic: &str, name: &str) -> Result<Option<Defined>, StoreError> {
    let found = store.get(&partition(topic), &[key(topic, name)]).await?;
    let entry = found.into_iter().next().flatten();
    entry.map(|entry| of_entry(topic, name, &entry)).transpose()
}

/// The groups of one topic, by name; with `None` those of all topics.
///
/// # Errors
/// As [`find`].
pub async fn all<S: Store>(store: &S, topic: Option<&str>) -> Result<Vec<Defined>, StoreError> {
    let prefix = topic.map_or_else(|| PREFIX.to_owned(), |topic| key(topic, ""));
    let (mut after, mut found) = (None::<String>, Vec::new());
    loop {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.key.clone());
        for item in &page {
            let names = item
                .key
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split_once('/'));
            if let Some((topic, name)) = names {
                found.push(of_entry(topic, name, &item.entry)?);
            }
        }
    }
}

/// The state of a group; `None` if it was removed. The head is read before the windows: a lease in between changes the head, so
/// that what is decided by this is refused.
///
/// # Errors
/// As [`find`].
pub async fn state<S: Store>(store: &S, keys: &Keys) -> Result<Option<State>, StoreError> {
    let found = store
        .get(keys.partition(), &[keys.progress(), keys.redrives()])
        .await?;
    let [head, redrives] = [0, 1].map(|index| found.get(index).and_then(Option::as_ref));
    let Some(entry) = head else { return Ok(None) };
    let head: Head = stored::decode("progress of a group", entry)?;
    let windows = windows(store, keys, &head.windows).await?;
    Ok(Some(State {
        version: entry.version,
        redrives: stored::count("counter of redrives", redrives)?,
        windows,
        head,
    }))
}

/// Some windows of a group, at one moment; at most [`MAX_WINDOWS`] numbers.
///
/// # Errors
/// As [`find`].
pub async fn windows<S: Store>(store: &S, keys: &Keys, numbers: &[u64]) -> Result<Windows, StoreError> {
    if numbers.is_empty() {
        return Ok(Windows::default());
    }
    let wanted: Vec<String> = numbers.iter().map(|number| keys.window(*number)).collect();
    let found = store.get(keys.partition(), &wanted).await?;
    let mut windows = BTreeMap::new();
    for (number, entry) in numbers.iter().zip(found) {
        let read = match entry {
            Some(entry) => {
                let record: Record = stored::decode("window of a group", &entry)?;
                (record, Some(entry.version))
            }
            None => (Record::default(), None),
        };
        windows.insert(*number, read);
    }
    Ok(Windows::of(windows))
}

impl State {
    /// The oldest sequence whose message is still needed in the topic.
    pub fn oldest_needed(&self) -> u64 {
        let held = self.windows.iter().find(|(_, message)| !message.carried);
        held.map_or(self.head.next, |(sequence, _)| sequence.min(self.head.next))
    }

    /// Messages that are kept and not finished, but for dead letters that were redriven and no lease has taken in: see [`lag`].
    pub fn kept(&self, topic: Option<&Topic>) -> u64 {
        let (first, last) = topic.map_or((1, 0), |topic| (topic.first, topic.last));
        (last + 1).saturating_sub(self.head.next.max(first)) + self.windows.len() as u64
    }

    /// The head with `next` moved, and without the windows that are empty now.
    pub fn moved_to(&self, next: u64, redrives: u64) -> Head {
        Head {
            next,
            windows: self.windows.numbers(),
            redrives,
        }
    }
}

/// Messages that are kept and not finished. Of dead letters that were redriven and that no lease has taken in, at most
/// [`restore::MAX_COUNTED`] are counted; once a lease has come, the store is asked nothing. `topic`: the group's, as far as it has
/// messages.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn lag<S: Store>(
    store: &S,
    keys: &Keys,
    state: &State,
    topic: Option<&Topic>,
) -> Result<u64, StoreError> {
    let kept = state.kept(topic);
    if state.redrives == state.head.redrives {
        return Ok(kept);
    }
    let is_apart = |sequence, _: &Waiting| state.windows.get(sequence).is_none();
    Ok(kept + restore::count_waiting(store, keys, is_apart).await?)
}

/// The window that a sequence belongs to.
pub fn window_of(sequence: u64) -> u64 {
    sequence / WIDTH
}

/// Per topic with a group, the oldest sequence that one of them still needs.
///
/// # Errors
/// As [`find`].
pub async fn low_water<S: Store>(store: &S) -> Result<Vec<(String, u64)>, StoreError> {
    let mut needed = Vec::new();
    for defined in all(store, None).await? {
        if let Some(state) = state(store, &defined.keys()).await? {
            needed.push((defined.topic, state.oldest_needed()));
        }
    }
    Ok(needed)
}
