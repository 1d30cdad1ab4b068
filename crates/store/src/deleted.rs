//! Topics that were deleted. An entry of its own says up to which sequence a topic's messages went: no call of a store shows them
//! from then on, and its sweep removes them, some at a time. The topic's sequences go on, so that no two messages of a name ever
//! share one, and whoever reads on after a sequence misses nothing of the topic that has the name next.
//!
//! The last that goes is an ending, which the deletion itself appends: its sequence is the entry's value. So all who append to the
//! topic are before or after it, also where commits of several partitions are made at once, and what a commit does on the condition
//! of that entry is done to the topic that it means.
//!
//! What is left of a deleted topic is this entry and the topic's extent: some 200 bytes for each name.

use crate::commit::{Entry, StoreError, Topic};
use crate::plan;
use crate::ports::Store;

/// What the keys of such entries begin with; a topic's name follows.
pub const PREFIX: &str = "topic-deleted/";
/// All keys that begin so are before this one.
pub const END: &str = "topic-deleted0";
/// The type of the message that ends a topic.
pub const ENDING: &str = "topic.deleted";
/// The partition of all of them.
pub const PARTITION: &str = "topics-deleted";

/// The key of a topic's entry.
pub fn key(topic: &str) -> String {
    [PREFIX, topic].concat()
}

/// The newest sequence that went, by the topic's entry; 0 for a topic that was never deleted.
pub fn through(entry: Option<&Entry>) -> u64 {
    let sequence = entry.and_then(|entry| plan::counter(&entry.value));
    sequence
        .and_then(|sequence| u64::try_from(sequence).ok())
        .unwrap_or(0)
}

/// Whether a topic's extent is one that a deletion left behind. Asks the store only where no message is kept.
///
/// # Errors
/// Those of the store.
pub async fn is_deleted<S: Store>(store: &S, topic: &Topic) -> Result<bool, StoreError> {
    if topic.first <= topic.last {
        return Ok(false);
    }
    let found = store.get(PARTITION, &[key(&topic.name)]).await?;
    let went = through(found.into_iter().next().flatten().as_ref());
    Ok(topic.last > 0 && went >= topic.last)
}

/// The topics among these that no deletion left behind: of one page at most.
///
/// # Errors
/// Those of the store.
pub async fn without_deleted<S: Store>(store: &S, mut topics: Vec<Topic>) -> Result<Vec<Topic>, StoreError> {
    let empty: Vec<String> = topics
        .iter()
        .filter(|topic| topic.first > topic.last)
        .map(|topic| key(&topic.name))
        .collect();
    if empty.is_empty() {
        return Ok(topics);
    }
    let found = store.get(PARTITION, &empty).await?;
    let mut found = found.into_iter();
    topics.retain(|topic| {
        topic.first <= topic.last || through(found.next().flatten().as_ref()) < topic.last.max(1)
    });
    Ok(topics)
}

/// Takes what went out of a topic's extent. `true`: messages are left that came later, and whoever calls looks up when the first
/// of them was written; `bytes` then still counts what the sweep has not come to.
pub fn clamp(topic: &mut Topic, through: u64) -> bool {
    if through < topic.first {
        return false;
    }
    topic.first_time = None;
    if topic.last > through {
        topic.first = through.saturating_add(1);
        return true;
    }
    topic.first = topic.last.saturating_add(1);
    topic.last_time = None;
    topic.bytes = 0;
    false
}
