//! The draw: its entries, its close and its outcome, by what became durable.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tollgate_api::ids;
use tollgate_store::commit::Message;

use super::{Checked, ensure, read};

/// What is known of the draw.
#[derive(Debug, Default)]
pub struct Draw {
    /// By id: sequence and user.
    entries: BTreeMap<String, (u64, String)>,
    /// Ids of entries that messages told of.
    told: BTreeSet<String>,
    per_user: usize,
    seed: String,
    /// When it closed, and with how many entries.
    closed: Option<Closed>,
    /// The durable outcome.
    pub outcome: Option<Value>,
    /// Messages that told of it.
    ends: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    per_user: usize,
    closed: Option<Closed>,
    outcome: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Closed {
    time: u64,
    entries: u64,
}

#[derive(Deserialize)]
struct Entry {
    sequence: u64,
    id: String,
    user: String,
}

impl Draw {
    /// The record is durable.
    pub fn changed(&mut self, key: &str, value: &[u8]) -> Checked {
        let record: Record = read(key, value)?;
        let closed = record.closed;
        ensure(self.closed.is_none() || self.closed == closed, || {
            format!("{key} closed twice: {:?}, and then {closed:?}", self.closed)
        })?;
        ensure(self.outcome.is_none() || self.outcome == record.outcome, || {
            format!("{key} has another outcome")
        })?;
        (self.per_user, self.closed, self.outcome) = (record.per_user, closed, record.outcome);
        Ok(())
    }

    /// The seed was made.
    pub fn seeded(&mut self, seed: &[u8]) {
        self.seed = ids::hex(seed);
    }

    /// An entry is durable.
    pub fn entered(&mut self, key: &str, value: &[u8]) -> Checked {
        let entry: Entry = read(key, value)?;
        let before = self.entries.insert(entry.id, (entry.sequence, entry.user));
        ensure(before.is_none(), || format!("{key} was written twice"))
    }

    /// A message of its topic is durable.
    pub fn told(&mut self, message: &Message) -> Checked {
        if message.kind == "draw.entered" {
            self.told.insert(message.id.clone());
        } else {
            self.ends += 1;
        }
        Ok(())
    }

    /// What holds after every group.
    pub fn check(&self) -> Checked {
        let sequences: BTreeSet<u64> = self.entries.values().map(|(sequence, _)| *sequence).collect();
        let count = self.entries.len() as u64;
        ensure(sequences.iter().copied().eq(1..=count), || {
            format!("{count} entries have the sequences {sequences:?}")
        })?;
        ensure(self.told.iter().eq(self.entries.keys()), || {
            "entries and messages of the draw do not agree".into()
        })?;
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, user) in self.entries.values() {
            *users.entry(user).or_default() += 1;
        }
        ensure(users.values().all(|count| *count <= self.per_user), || {
            format!("a user has too many entries: {users:?}")
        })?;
        ensure(self.closed.is_none_or(|closed| closed.entries == count), || {
            format!("the draw closed with {:?} entries, and has {count}", self.closed)
        })?;
        let ends = u32::from(self.outcome.is_some());
        ensure(self.ends == ends, || {
            format!("{} messages tell of {ends} outcomes", self.ends)
        })?;
        let Some(outcome) = &self.outcome else {
            return Ok(());
        };
        ensure(self.closed.is_some(), || "it was drawn before it closed".into())?;
        ensure(outcome["seed"] == *self.seed, || {
            "the seed is not the one that was committed to".into()
        })?;
        let winner = outcome["winner"]["id"].as_str();
        ensure(winner.is_some() == (count > 0), || {
            format!("{count} entries, winner {winner:?}")
        })?;
        ensure(winner.is_none_or(|id| self.entries.contains_key(id)), || {
            format!("nobody entered with {winner:?}")
        })
    }

    /// An entry was answered with 201.
    pub fn admitted(&self, id: &str, sequence: u64) -> Checked {
        ensure(
            self.entries.get(id).is_some_and(|(known, _)| *known == sequence),
            || format!("the entry {id} was told, which is not durable"),
        )
    }

    /// The draw was shown: an outcome only if there is one, and that one.
    pub fn shown(&self, view: &Value) -> Checked {
        let outcome = self.outcome.as_ref();
        ensure(
            view["seed"].is_null() || outcome.is_some_and(|outcome| outcome["seed"] == view["seed"]),
            || "a seed was shown that is not durably drawn".into(),
        )?;
        let winner = outcome.map_or(&Value::Null, |outcome| &outcome["winner"]["sequence"]);
        let shown = &view["winner"]["sequence"];
        ensure(shown.is_null() || shown == winner, || {
            format!("the winner {shown} was shown, and {winner} is durable")
        })
    }
}
