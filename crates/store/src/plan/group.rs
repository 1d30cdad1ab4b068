//! A group of commits that become durable together: each is decided on top of those before it, and each changed key is
//! written once. Pure, so that the native engine and the simulation share it; what lies beneath is a [`Base`].

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as MapEntry;

use super::{Extent, Lookup, Plan, Record, Writes, plan};
use crate::commit::{self, Commit, Entry, Message, Outcome, StoreError};

/// A key's entry (expired or not), or `None` for an absent key. Shared, since a cache keeps it as well.
pub type Found = Option<Arc<Entry>>;

/// A key, and what it then holds.
pub type Change<'a> = (&'a str, Option<&'a Arc<Entry>>);

/// The durable state, as the group's own transaction sees it.
pub trait Base {
    /// Why it could not be read.
    type Error: std::fmt::Display;

    /// The key's entry, if it is known without a read: never older than the durable one.
    fn cached(&mut self, key: &str) -> Option<Found>;
    /// The key's entry.
    fn entry(&mut self, key: &str) -> Result<Found, Self::Error>;
    /// How far the topic goes.
    fn topic(&mut self, topic: &str) -> Result<Extent, Self::Error>;
    /// The record kept for an idempotence id.
    fn record(&mut self, id: &str) -> Result<Option<Record>, Self::Error>;
}

/// The group's knowledge of a key.
struct Slot {
    found: Found,
    dirty: bool,
    /// Whether the base had an entry for it, as far as it was asked.
    in_base: bool,
}

/// The group's changes to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The newest sequence given out.
    pub last: u64,
    /// The weight of the messages that were there before.
    base_bytes: u64,
    /// The weight of the messages that it appends.
    pub added_bytes: u64,
    dirty: bool,
}

/// What the group learned about a key, to be shown to readers once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it holds.
    pub found: Found,
    /// Whether the group wrote it; otherwise it was read from the base.
    pub written: bool,
    /// Whether the base was asked for it and had an entry.
    pub in_base: bool,
}

/// Commits that become durable together, each decided on top of those before it. It reads its own writes
/// first, then what is cached, then the base.
pub struct Group<B: Base> {
    base: B,
    now: u64,
    revision: u64,
    first_revision: u64,
    step: u64,
    entries: HashMap<String, Slot>,
    topics: HashMap<String, Tail>,
    records: HashMap<String, Record>,
    messages: Vec<Message>,
    failure: Option<B::Error>,
}

impl<B: Base> Group<B> {
    /// An empty group at the store's time `now`, Unix milliseconds, and at the revision of the last commit before it.
    pub fn new(base: B, now: u64, revision: u64) -> Self {
        Self::spaced(base, now, revision, 1)
    }

    /// The same, with revisions that are so far apart: an engine with several counters gives each its own residue, so that no
    /// two of them ever give the same version.
    pub fn spaced(base: B, now: u64, revision: u64, step: u64) -> Self {
        Self {
            base,
            now,
            revision,
            first_revision: revision,
            step,
            entries: HashMap::new(),
            topics: HashMap::new(),
            records: HashMap::new(),
            messages: Vec::new(),
            failure: None,
        }
    }

    /// Decides a commit that was validated. The answer holds only once the group is durable.
    ///
    /// # Errors
    /// The base could not be read: the whole group is to be given up.
    pub fn decide(&mut self, commit: Commit) -> Result<Result<Outcome, StoreError>, B::Error> {
        let planned = plan(commit, self.now, self.revision + self.step, self);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        Ok(planned.map(|Plan { outcome, writes }| {
            if let Some(writes) = writes {
                self.keep(writes);
            }
            outcome
        }))
    }

    fn keep(&mut self, writes: Writes) {
        self.revision += self.step;
        for (key, entry) in writes.entries {
            let found = entry.map(Arc::new);
            match self.entries.entry(key) {
                MapEntry::Occupied(mut known) => {
                    let slot = known.get_mut();
                    (slot.found, slot.dirty) = (found, true);
                }
                MapEntry::Vacant(unknown) => {
                    unknown.insert(Slot {
                        found,
                        dirty: true,
                        in_base: false,
                    });
                }
            }
        }
        for message in &writes.messages {
            // The planner has just asked for its last sequence.
            if let Some(topic) = self.topics.get_mut(&message.topic) {
                topic.last = message.sequence;
                topic.added_bytes += commit::weight(message);
                topic.dirty = true;
            }
        }
        self.messages.extend(writes.messages);
        if let Some(record) = writes.record {
            self.records.insert(record.id.clone(), record);
        }
    }

    /// Whether there is anything to write.
    pub fn is_dirty(&self) -> bool {
        self.revision > self.first_revision
    }

    /// The revision of its last commit.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The store's time at which it is decided.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The keys to write with what they then hold, in order: neighbours in a tree share pages.
    pub fn entries(&self) -> Vec<Change<'_>> {
        let dirty = self.entries.iter().filter(|(_, slot)| slot.dirty);
        let mut entries: Vec<_> = dirty
            .map(|(key, slot)| (key.as_str(), slot.found.as_ref()))
            .collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }

    /// The messages to append, in the order of their commits.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The topics that it appends to, by name.
    pub fn topics(&self) -> Vec<(&str, Tail)> {
        let dirty = self.topics.iter().filter(|(_, tail)| tail.dirty);
        let mut topics: Vec<_> = dirty.map(|(name, tail)| (name.as_str(), *tail)).collect();
        topics.sort_unstable_by_key(|(name, _)| *name);
        topics
    }

    /// The idempotence records to write, by id.
    pub fn records(&self) -> Vec<&Record> {
        let mut records: Vec<_> = self.records.values().collect();
        records.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        records
    }

    /// All that it knows of keys, once it is durable; in no order.
    pub fn into_known(self) -> impl Iterator<Item = (String, Known)> {
        self.entries.into_iter().map(|(key, slot)| {
            let Slot {
                found,
                dirty,
                in_base,
            } = slot;
            let written = dirty;
            (
                key,
                Known {
                    found,
                    written,
                    in_base,
                },
            )
        })
    }

    /// Keeps the base's error, which the planner has no place for.
    fn readable<T>(&mut self, result: Result<T, B::Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let told = StoreError::Unavailable(error.to_string());
            self.failure = Some(error);
            told
        })
    }
}

impl<B: Base> Lookup for Group<B> {
    type Found = Arc<Entry>;

    fn entry(&mut self, key: &str) -> Result<Found, StoreError> {
        if let Some(slot) = self.entries.get(key) {
            return Ok(slot.found.clone());
        }
        if let Some(found) = self.base.cached(key) {
            return Ok(found);
        }
        let found = self.base.entry(key);
        let found = self.readable(found)?;
        let slot = Slot {
            found: found.clone(),
            dirty: false,
            in_base: found.is_some(),
        };
        self.entries.insert(key.to_owned(), slot);
        Ok(found)
    }

    fn topic(&mut self, topic: &str) -> Result<Extent, StoreError> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(Extent {
                last: known.last,
                bytes: known.base_bytes + known.added_bytes,
            });
        }
        let found = self.base.topic(topic);
        let extent = self.readable(found)?;
        let tail = Tail {
            last: extent.last,
            base_bytes: extent.bytes,
            added_bytes: 0,
            dirty: false,
        };
        self.topics.insert(topic.to_owned(), tail);
        Ok(extent)
    }

    fn idempotence(&mut self, id: &str) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.records.get(id) {
            return Ok(Some(record.clone()));
        }
        let record = self.base.record(id);
        self.readable(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Append, Idempotence, Mutation, Part, literal};

    /// Nothing durable; fails on the key `bad`.
    struct Nothing;

    impl Base for Nothing {
        type Error = String;

        fn cached(&mut self, key: &str) -> Option<Found> {
            (key == "cached").then(|| {
                Some(Arc::new(Entry {
                    value: b"7".into(),
                    version: 1,
                    expires: None,
                }))
            })
        }
        fn entry(&mut self, key: &str) -> Result<Found, String> {
            if key == "bad" {
                Err("torn".into())
            } else {
                Ok(None)
            }
        }
        fn topic(&mut self, _: &str) -> Result<Extent, String> {
            Ok(Extent { last: 4, bytes: 7 })
        }
        fn record(&mut self, _: &str) -> Result<Option<Record>, String> {
            Ok(None)
        }
    }

    fn add(key: &str) -> Mutation {
        Mutation::Add {
            key: key.into(),
            delta: 1,
            min: None,
            max: Some(8),
        }
    }

    fn commit(key: &str, id: Option<&str>) -> Commit {
        let append = Append {
            topic: "t".into(),
            id: "m".into(),
            key: String::new(),
            kind: String::new(),
            content_type: String::new(),
            attributes: Vec::new(),
            payload: vec![Part::Sum(0)],
        };
        let idempotence = id.map(|id| Idempotence {
            id: id.into(),
            fingerprint: Vec::new(),
            answer: literal("done"),
            ttl: 1_000,
        });
        Commit {
            idempotence,
            mutations: vec![add(key)],
            appends: vec![append],
            ..Commit::default()
        }
    }

    fn sums(outcome: Result<Outcome, StoreError>) -> (Vec<i64>, Vec<u64>) {
        match outcome {
            Ok(Outcome::Committed(done)) => (done.sums, done.sequences),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_commit_sees_those_before_it_and_a_key_is_written_once() {
        let mut group = Group::new(Nothing, 10, 20);
        assert!(!group.is_dirty());
        assert_eq!(sums(group.decide(commit("a", None)).unwrap()), (vec![1], vec![5]));
        assert_eq!(
            sums(group.decide(commit("a", Some("i"))).unwrap()),
            (vec![2], vec![6])
        );
        assert_eq!(
            sums(group.decide(commit("cached", None)).unwrap()),
            (vec![8], vec![7])
        );
        let again = group.decide(commit("a", Some("i"))).unwrap();
        assert_eq!(again, Ok(Outcome::Replayed(b"done".into())));
        let refused = group.decide(commit("cached", None)).unwrap();
        assert!(matches!(refused, Ok(Outcome::Refused(_))));
        assert_eq!((group.is_dirty(), group.revision()), (true, 23));
        let keys: Vec<_> = group.entries().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["a", "cached"]);
        let [("t", tail)] = group.topics()[..] else {
            panic!("one topic")
        };
        let each = commit::MESSAGE_OVERHEAD + 2 + 1;
        assert_eq!((tail.last, tail.added_bytes), (7, 3 * each));
        assert_eq!((group.messages().len(), group.records().len()), (3, 1));
        assert!(group.into_known().all(|(_, known)| known.written));
    }

    #[test]
    fn a_base_that_cannot_be_read_ends_the_group() {
        let mut group = Group::new(Nothing, 10, 20);
        assert_eq!(group.decide(commit("bad", None)), Err("torn".into()));
        assert!(!group.is_dirty());
    }
}
