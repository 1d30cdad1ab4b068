//! Messages that are due come into their topics, some of one partition together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

use super::{MAX_LOOKED, PREFIX, Stored, due_of, generation, size_key, weight};
use crate::config::Config;
use crate::forward::record;
use tollgate_store::commit::{Append, Commit, Condition, Item, Mutation, StoreError, literal, record_key};
use tollgate_store::deleted;
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::{self, Number};

/// Commits of one call, each of messages of one partition.
const MAX_COMMITS: usize = 16;
/// Messages of one commit, and their bytes beyond which it takes no more.
const MAX_TOGETHER: (usize, usize) = (16, 256 << 10);

/// Messages of one partition that come together.
#[derive(Default)]
struct Together {
    commit: Commit,
    due: u64,
    count: usize,
    bytes: usize,
    sizes: BTreeMap<String, i64>,
    is_full: bool,
}

impl Together {
    /// Puts a message in, unless there is no room: then those that are due later wait as well. One whose topic was deleted since, so
    /// that another `generation` has the name, goes without coming.
    fn take(&mut self, config: &Config, item: &Item, stored: Stored, generation: u64, now: u64) {
        let (most, most_bytes) = MAX_TOGETHER;
        self.is_full |=
            self.count >= most || self.bytes > 0 && self.bytes + item.entry.value.len() > most_bytes;
        if self.is_full {
            return;
        }
        let (Ok(attributes), Ok(payload), Some(id)) = (
            STANDARD.decode(&stored.attributes_base64),
            STANDARD.decode(&stored.data_base64),
            item.key.rsplit('/').next(),
        ) else {
            return;
        };
        self.count += 1;
        self.bytes += item.entry.value.len();
        self.due = self.due.max(due_of(item).unwrap_or(0));
        let append = Append {
            topic: stored.record.topic.clone(),
            id: id.to_owned(),
            key: stored.key,
            kind: stored.kind,
            content_type: stored.content_type,
            attributes,
            payload: literal(payload.as_slice()),
        };
        let weight = weight(&append, payload.len()) as i64;
        *self.sizes.entry(size_key(&append.topic, id)).or_default() -= weight;
        self.commit.conditions.push(Condition::Version {
            key: item.key.clone(),
            version: item.entry.version,
        });
        self.commit.mutations.push(Mutation::Delete {
            key: item.key.clone(),
        });
        if stored.generation != generation {
            self.commit
                .mutations
                .push(Mutation::Delete { key: record_key(id) });
            return;
        }
        // Deleted at this moment, it is not the topic that the message is meant for.
        let key = deleted::key(&append.topic);
        if !self
            .commit
            .appends
            .iter()
            .any(|other| other.topic == append.topic)
        {
            self.commit.conditions.push(match generation {
                0 => Condition::Absent(key),
                version => Condition::Version { key, version },
            });
        }
        let mut record = stored.record;
        record.sequence = Number::Sequence(self.commit.appends.len() as u32);
        let expires = Some(record::expiry(config, &record.topic, now));
        self.commit.mutations.push(Mutation::Set {
            key: record_key(id),
            value: template::json(&record),
            expires,
        });
        self.commit.appends.push(append);
    }

    fn finish(mut self, partition: String) -> Commit {
        self.commit.partition = partition;
        // By the store's clock, whatever that of the caller says.
        self.commit.conditions.push(Condition::NowIn {
            start: Some(self.due),
            end: None,
        });
        let sizes = self.sizes.into_iter().map(|(key, delta)| Mutation::Add {
            key,
            delta,
            min: None,
            max: None,
        });
        self.commit.mutations.extend(sizes);
        self.commit
    }
}

/// Puts messages that are due at `now`, Unix milliseconds, into their topics; some at a time. `true`: there were some, and there may
/// be more.
///
/// # Errors
/// The store does not answer; what was not done is done by the next call.
pub async fn release<S: Store>(store: &S, config: &Config, now: u64) -> Result<bool, StoreError> {
    let page = store.scan(PREFIX, None, MAX_LOOKED).await?;
    let mut groups: Vec<(String, Together)> = Vec::new();
    let mut generations: BTreeMap<String, u64> = BTreeMap::new();
    for item in &page {
        if due_of(item).is_none_or(|due| due > now) {
            break;
        }
        // One that cannot be read holds up no other.
        let Ok(stored) = stored::decode::<Stored>("message to come", &item.entry) else {
            continue;
        };
        let topic = &stored.record.topic;
        let current = match generations.get(topic) {
            Some(known) => *known,
            None => {
                let current = generation(store, topic).await?;
                generations.insert(topic.clone(), current);
                current
            }
        };
        let partition = record::partition(item.key.rsplit('/').next().unwrap_or_default());
        let at = groups.iter().position(|(of, _)| *of == partition);
        let at = match at {
            Some(at) => at,
            None if groups.len() < MAX_COMMITS => {
                groups.push((partition, Together::default()));
                groups.len() - 1
            }
            None => continue,
        };
        if let Some((_, group)) = groups.get_mut(at) {
            group.take(config, item, stored, current, now);
        }
    }
    groups.retain(|(_, group)| group.count > 0);
    let any = !groups.is_empty();
    for (partition, group) in groups {
        // Refused, it was done by somebody else, or comes a little later by the store's clock.
        store.commit(group.finish(partition)).await?;
    }
    Ok(any)
}
