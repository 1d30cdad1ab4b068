//! What a group looks at in a database that is asked for all of it at once, before anything is decided.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use super::group::{Base, Found};
use super::{Extent, Record};
use crate::commit::{Commit, Condition};

/// What commits look at: lanes, keys, topics and ids of idempotence, each once and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// See [`crate::lane`].
    pub lanes: Vec<u32>,
    /// Of conditions and mutations.
    pub keys: Vec<String>,
    /// Of conditions and appends.
    pub topics: Vec<String>,
    /// Of repetitions.
    pub ids: Vec<String>,
}

impl Wanted {
    /// Of commits, each with its lane.
    pub fn of<'a>(commits: impl IntoIterator<Item = (u32, &'a Commit)>) -> Self {
        let (mut lanes, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let (mut topics, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for (lane, commit) in commits {
            lanes.insert(lane);
            for condition in &commit.conditions {
                match condition {
                    Condition::Absent(key) | Condition::Version { key, .. } => _ = keys.insert(key.clone()),
                    Condition::TopicBelow { topic, .. } => _ = topics.insert(topic.clone()),
                    Condition::NowIn { .. } => {}
                }
            }
            keys.extend(commit.mutations.iter().map(|mutation| mutation.key().to_owned()));
            topics.extend(commit.appends.iter().map(|append| append.topic.clone()));
            ids.extend(commit.idempotence.iter().map(|wanted| wanted.id.clone()));
        }
        Self {
            lanes: lanes.into_iter().collect(),
            keys: keys.into_iter().collect(),
            topics: topics.into_iter().collect(),
            ids: ids.into_iter().collect(),
        }
    }
}

/// What was found of it: the [`Base`] of a group that reads nothing more. What is missing is absent.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// By key.
    pub entries: HashMap<String, Found>,
    /// By name.
    pub topics: HashMap<String, Extent>,
    /// By id.
    pub records: HashMap<String, Record>,
}

impl Base for Looked {
    type Error = Infallible;

    fn cached(&mut self, _: &str) -> Option<Found> {
        None
    }
    fn entry(&mut self, key: &str) -> Result<Found, Infallible> {
        Ok(self.entries.get(key).cloned().flatten())
    }
    fn topic(&mut self, topic: &str) -> Result<Extent, Infallible> {
        Ok(self.topics.get(topic).copied().unwrap_or_default())
    }
    fn record(&mut self, id: &str) -> Result<Option<Record>, Infallible> {
        Ok(self.records.get(id).cloned())
    }
}
