//! For tests: a store that holds keys, randomness that is the same in every run, and requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::PARTITION;
use tollgate_api::http::{Header, Request};
use tollgate_store::commit::{
    Commit, Committed, Condition, Entry, Item, Message, Mutation, Outcome, Part, Refusal, StoreError, Topic,
};
use tollgate_store::ports::{Outbound, Store};

/// Keys only, in memory; counts its calls, and fails them on demand.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) entries: RefCell<BTreeMap<String, Entry>>,
    pub(crate) gets: Cell<u32>,
    pub(crate) commits: Cell<u32>,
    pub(crate) down: Cell<bool>,
    /// How many commits are carried out with their answer lost.
    pub(crate) lose_answers: Cell<u32>,
    repeats: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Shelf {
    fn check(&self) -> Result<(), StoreError> {
        if self.down.get() {
            Err(StoreError::Unavailable("down".into()))
        } else {
            Ok(())
        }
    }

    pub(crate) fn apply(&self, commit: Commit) -> Outcome {
        if let Some(repeat) = &commit.idempotence {
            match self.repeats.borrow().get(&repeat.id) {
                Some(before) if *before == repeat.fingerprint => return Outcome::Replayed(Vec::new()),
                Some(_) => return Outcome::Conflict,
                None => {}
            }
        }
        let mut entries = self.entries.borrow_mut();
        for (index, condition) in (0..).zip(&commit.conditions) {
            match condition {
                Condition::Absent(key) if !entries.contains_key(key) => {}
                Condition::Version { key, version }
                    if entries.get(key).is_some_and(|entry| entry.version == *version) => {}
                Condition::Absent(_) | Condition::Version { .. } => {
                    return Outcome::Refused(Refusal::Condition(index));
                }
                other => panic!("keys do not use {other:?}"),
            }
        }
        for mutation in commit.mutations {
            match mutation {
                Mutation::Set { key, value, expires } => {
                    let bytes = |part| {
                        if let Part::Bytes(bytes) = part {
                            bytes
                        } else {
                            panic!("keys bind nothing")
                        }
                    };
                    let value = value.into_iter().flat_map(bytes).collect();
                    entries.insert(
                        key,
                        Entry {
                            value,
                            version: 1,
                            expires,
                        },
                    );
                }
                Mutation::Delete { key } => drop(entries.remove(&key)),
                Mutation::Add { .. } => panic!("keys count nothing"),
            }
        }
        if let Some(repeat) = commit.idempotence {
            self.repeats.borrow_mut().insert(repeat.id, repeat.fingerprint);
        }
        Outcome::Committed(Committed::default())
    }
}

/// Nobody is asked.
impl Outbound for Shelf {}

impl Store for Shelf {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.commits.set(self.commits.get() + 1);
        self.check()?;
        let outcome = self.apply(commit);
        if let Some(left) = self.lose_answers.get().checked_sub(1) {
            self.lose_answers.set(left);
            return Err(StoreError::Unknown("lost".into()));
        }
        Ok(outcome)
    }
    fn defer(&self, _: Commit) {}
    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.gets.set(self.gets.get() + 1);
        self.check()?;
        assert_eq!(partition, PARTITION);
        Ok(keys
            .iter()
            .map(|key| self.entries.borrow().get(key).cloned())
            .collect())
    }
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.check()?;
        let entries = self.entries.borrow();
        let found = entries
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a));
        Ok(found
            .take(limit as usize)
            .map(|(key, e)| Item {
                key: key.clone(),
                entry: e.clone(),
            })
            .collect())
    }
    async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
        Ok(Vec::new())
    }
    async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
        Ok(Vec::new())
    }
}

thread_local!(static COUNTER: Cell<u64> = const { Cell::new(1) });

/// Different on every call, and the same in every run.
pub(crate) fn fresh() -> [u8; 16] {
    let count = COUNTER.replace(COUNTER.get() + 1);
    let hash = Sha256::digest(count.to_be_bytes());
    std::array::from_fn(|i| hash[i])
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query,
        headers: headers
            .iter()
            .map(|(name, value)| Header::new((*name).to_owned(), *value))
            .collect(),
        body: Vec::new(),
        peer: "192.0.2.1".into(),
    }
}
