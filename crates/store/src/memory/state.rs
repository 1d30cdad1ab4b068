//! The contents of a store in memory, and their weight.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::commit::{self, Commit, Entry, Message, Outcome, StoreError};
use crate::deleted;
use crate::plan::{self, Extent, Lookup, Plan, Record, Writes};
use crate::retention::{Cut, Keeping, Retention};

/// What an entry, an id or a topic takes besides its texts, bytes, about: its places in the trees.
const OVERHEAD: u64 = 192;
/// The most of one kind (per topic, for messages) that one sweep removes.
pub(super) const MAX_SWEPT: usize = 8_192;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub now: u64,
    pub revision: u64,
    pub entries: BTreeMap<String, Arc<Entry>>,
    pub topics: BTreeMap<String, Log>,
    records: BTreeMap<String, Record>,
    /// Entries and ids that expire, soonest first.
    expiring: BTreeSet<(u64, Expiring)>,
    /// The weight of all of it, bytes.
    pub bytes: u64,
    pub max_bytes: u64,
    /// By how much the last commit that found no room would have grown it.
    lacking: Option<u64>,
    pub next_failure: Option<StoreError>,
    /// What the next call of `Outbound::post` answers, and what was posted by those before.
    pub next_answer: Option<Result<Vec<u8>, String>>,
    pub posted: Vec<(String, String)>,
    pub refuses: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub last: u64,
    pub bytes: u64,
    pub messages: BTreeMap<u64, Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expiring {
    Entry(String),
    Id(String),
}

impl State {
    pub fn new(now: u64, max_bytes: u64) -> Self {
        Self {
            now,
            revision: 0,
            entries: BTreeMap::new(),
            topics: BTreeMap::new(),
            records: BTreeMap::new(),
            expiring: BTreeSet::new(),
            bytes: 0,
            max_bytes,
            lacking: None,
            next_failure: None,
            next_answer: None,
            posted: Vec::new(),
            refuses: false,
        }
    }

    pub fn commit(&mut self, commit: Commit) -> Result<Outcome, StoreError> {
        if self.refuses {
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        plan::validate(&commit)?;
        let Plan { outcome, writes } = plan::plan(commit, self.now, self.revision + 1, self)?;
        if let Some(writes) = writes {
            let (more, less) = self.growth(&writes);
            let grown = more.saturating_sub(less);
            // What takes no more room than before is always taken, so that there is a way out.
            if grown > 0 && self.bytes.saturating_add(grown) > self.max_bytes {
                self.lacking = Some(grown);
                return Err(StoreError::Unavailable("the store in memory is full".into()));
            }
            // What takes no more room than before says nothing about room.
            if grown > 0 {
                self.lacking = None;
            }
            self.apply(writes);
        }
        Ok(outcome)
    }

    /// Whether a commit was refused for want of room, and still would be.
    pub fn is_full(&self) -> bool {
        self.lacking
            .is_some_and(|lacking| self.bytes.saturating_add(lacking) > self.max_bytes)
    }

    /// The entry, unless it has expired.
    pub fn live(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries
            .get(key)
            .filter(|entry| plan::is_live(entry, self.now))
    }

    /// See [`deleted::through`].
    pub fn deleted_through(&self, topic: &str) -> u64 {
        deleted::through(self.live(&deleted::key(topic)).map(|entry| &**entry))
    }

    /// The weight that these writes add, and the weight that they remove.
    fn growth(&self, writes: &Writes) -> (u64, u64) {
        let (mut more, mut less) = (0, 0);
        for (key, entry) in &writes.entries {
            more += entry.as_ref().map_or(0, |entry| entry_weight(key, entry));
            less += self.entries.get(key).map_or(0, |old| entry_weight(key, old));
        }
        for message in &writes.messages {
            more += commit::weight(message);
            if !self.topics.contains_key(&message.topic) {
                more += topic_weight(&message.topic);
            }
        }
        if let Some(record) = &writes.record {
            more += record_weight(record);
            less += self.records.get(&record.id).map_or(0, record_weight);
        }
        (more, less)
    }

    fn apply(&mut self, writes: Writes) {
        self.revision += 1;
        for (key, entry) in writes.entries {
            self.remove(&key);
            if let Some(entry) = entry {
                self.bytes += entry_weight(&key, &entry);
                if let Some(expires) = entry.expires {
                    self.expiring.insert((expires, Expiring::Entry(key.clone())));
                }
                self.entries.insert(key, Arc::new(entry));
            }
        }
        for message in writes.messages {
            if !self.topics.contains_key(&message.topic) {
                self.bytes += topic_weight(&message.topic);
            }
            let log = self.topics.entry(message.topic.clone()).or_default();
            let weight = commit::weight(&message);
            log.last = message.sequence;
            log.bytes += weight;
            self.bytes += weight;
            log.messages.insert(message.sequence, message);
        }
        if let Some(record) = writes.record {
            self.forget(&record.id);
            self.bytes += record_weight(&record);
            self.expiring
                .insert((record.expires, Expiring::Id(record.id.clone())));
            self.records.insert(record.id.clone(), record);
        }
    }

    fn remove(&mut self, key: &str) {
        let Some((key, entry)) = self.entries.remove_entry(key) else {
            return;
        };
        self.bytes -= entry_weight(&key, &entry);
        if let Some(expires) = entry.expires {
            self.expiring.remove(&(expires, Expiring::Entry(key)));
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some((id, record)) = self.records.remove_entry(id) {
            self.bytes -= record_weight(&record);
            self.expiring.remove(&(record.expires, Expiring::Id(id)));
        }
    }

    /// Removes what has expired, and messages past their retention with the entries that go with them; how many.
    pub fn sweep(&mut self, keeping: &Keeping) -> u64 {
        let mut swept = self.expire();
        let names: Vec<String> = self.topics.keys().cloned().collect();
        for name in names {
            if let Some((retention, low_water)) = keeping.of(&name) {
                swept += self.trim(&name, retention, low_water);
            }
        }
        swept as u64
    }

    /// Removes some of what has expired; how many.
    pub fn expire(&mut self) -> usize {
        let mut swept = 0;
        while swept < MAX_SWEPT
            && self
                .expiring
                .first()
                .is_some_and(|(expires, _)| *expires <= self.now)
            && let Some((_, expired)) = self.expiring.pop_first()
        {
            match expired {
                Expiring::Entry(key) => self.remove(&key),
                Expiring::Id(id) => self.forget(&id),
            }
            swept += 1;
        }
        swept
    }

    /// Removes some of the messages of topics that were deleted; how many of one at most.
    pub fn forget_deleted(&mut self) -> usize {
        let keys = self
            .entries
            .range::<str, _>((Bound::Included(deleted::PREFIX), Bound::Unbounded));
        let names: Vec<String> = keys
            .map_while(|(key, _)| key.strip_prefix(deleted::PREFIX))
            .map(str::to_owned)
            .collect();
        let all = Retention::default();
        let swept = names.iter().map(|name| self.trim(name, all, u64::MAX));
        swept.max().unwrap_or(0)
    }

    /// Removes some of the topic's oldest messages, with the entries that go with them; how many. Those from `needed` on are needed.
    pub fn trim(&mut self, topic: &str, retention: Retention, needed: u64) -> usize {
        let gone = self.deleted_through(topic);
        let Some(log) = self.topics.get_mut(topic) else {
            return 0;
        };
        let before = log.bytes;
        let removed = log.trim(Cut::new(retention, needed, before, self.now).after(gone));
        self.bytes -= before - log.bytes;
        for message in &removed {
            self.remove(&commit::record_key(&message.id));
        }
        removed.len()
    }
}

impl Log {
    /// Takes out its oldest messages, as far as they may go.
    fn trim(&mut self, mut cut: Cut) -> Vec<Message> {
        let mut removed = Vec::new();
        while removed.len() < MAX_SWEPT
            && let Some(oldest) = self.messages.first_entry()
        {
            let message = oldest.get();
            if !cut.takes(message.sequence, message.time, commit::weight(message)) {
                break;
            }
            removed.push(oldest.remove());
        }
        self.bytes = cut.bytes();
        removed
    }
}

impl Lookup for State {
    type Found = Arc<Entry>;

    fn entry(&mut self, key: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn topic(&mut self, topic: &str) -> Result<Extent, StoreError> {
        Ok(self.topics.get(topic).map_or_else(Extent::default, |log| Extent {
            last: log.last,
            bytes: log.bytes,
        }))
    }

    fn idempotence(&mut self, id: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(id).cloned())
    }
}

fn entry_weight(key: &str, entry: &Entry) -> u64 {
    // A key that expires is there twice.
    let keys = if entry.expires.is_some() { 2 } else { 1 };
    OVERHEAD + (keys * key.len() + entry.value.len()) as u64
}

fn record_weight(record: &Record) -> u64 {
    OVERHEAD + (3 * record.id.len() + record.fingerprint.len() + record.answer.len()) as u64
}

fn topic_weight(topic: &str) -> u64 {
    OVERHEAD + topic.len() as u64
}
