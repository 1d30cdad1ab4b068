//! A group of commits: each is decided on top of those before it, and all are written in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tollgate_core::commit::{Commit, Entry, Message, Outcome, StoreError};
use tollgate_core::plan::{self, Lookup, Plan, Record, Writes};

use super::cache::{Cache, Found};
use super::query::{self, integer};
use super::tails::Tails;

/// What the group knows of a key.
struct Slot {
    found: Found,
    dirty: bool,
}

/// What the group knows of a topic.
struct Topic {
    last: u64,
    added_bytes: u64,
    dirty: bool,
}

/// See the module. Its reads go to its own writes first, then to the cache (which holds nothing older than what is
/// committed), then to the writer's connection, inside the group's transaction.
pub struct Group<'a> {
    connection: &'a Connection,
    cache: &'a Cache,
    now: u64,
    revision: u64,
    first_revision: u64,
    entries: HashMap<String, Slot>,
    topics: HashMap<String, Topic>,
    records: HashMap<String, Record>,
    messages: Vec<Message>,
    failure: Option<rusqlite::Error>,
}

impl<'a> Group<'a> {
    /// An empty group, at the revision of the last commit before it.
    pub fn new(connection: &'a Connection, cache: &'a Cache, now: u64, revision: u64) -> Self {
        Self {
            connection,
            cache,
            now,
            revision,
            first_revision: revision,
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
    /// The database could not be read: the whole group is to be given up.
    pub fn decide(&mut self, commit: Commit) -> rusqlite::Result<Result<Outcome, StoreError>> {
        let planned = plan::plan(commit, self.now, self.revision + 1, self);
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
        self.revision += 1;
        for (key, entry) in writes.entries {
            self.entries.insert(
                key,
                Slot {
                    found: entry.map(Arc::new),
                    dirty: true,
                },
            );
        }
        for message in &writes.messages {
            // The planner has just asked for its last sequence.
            if let Some(topic) = self.topics.get_mut(&message.topic) {
                topic.last = message.sequence;
                topic.added_bytes += message.payload.len() as u64;
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

    /// Writes all of it, each key once, into the open transaction.
    pub fn write(&mut self) -> rusqlite::Result<()> {
        self.write_entries()?;
        self.write_messages()?;
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO idempotence (id, fingerprint, answer, expires) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET fingerprint = ?2, answer = ?3, expires = ?4",
        )?;
        for record in self.records.values() {
            upsert.execute(params![
                record.id,
                record.fingerprint,
                record.answer,
                integer(record.expires)
            ])?;
        }
        let mut meta = self
            .connection
            .prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
        meta.execute(params!["revision", integer(self.revision)])?;
        meta.execute(params!["now", integer(self.now)])?;
        Ok(())
    }

    fn write_entries(&self) -> rusqlite::Result<()> {
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO entries (key, value, version, expires) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET value = ?2, version = ?3, expires = ?4",
        )?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM entries WHERE key = ?1")?;
        let mut dirty: Vec<_> = self.entries.iter().filter(|(_, slot)| slot.dirty).collect();
        // Neighbours in the tree share pages.
        dirty.sort_unstable_by_key(|(key, _)| *key);
        for (key, slot) in dirty {
            match slot.found.as_deref() {
                Some(Entry {
                    value,
                    version,
                    expires,
                }) => upsert.execute(params![key, value, integer(*version), expires.map(integer)])?,
                None => delete.execute([key])?,
            };
        }
        Ok(())
    }

    fn write_messages(&self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO messages (topic, sequence, id, key, type, content_type, time, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for m in &self.messages {
            let (sequence, time) = (integer(m.sequence), integer(m.time));
            insert.execute(params![
                m.topic,
                sequence,
                m.id,
                m.key,
                m.kind,
                m.content_type,
                time,
                m.payload
            ])?;
        }
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO topics (name, last, bytes) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET last = ?2, bytes = bytes + ?3",
        )?;
        for (name, topic) in self.topics.iter().filter(|(_, topic)| topic.dirty) {
            upsert.execute(params![name, integer(topic.last), integer(topic.added_bytes)])?;
        }
        Ok(())
    }

    /// Before COMMIT: from here on the database may show what the cache does not yet.
    pub fn announce(&self) {
        for (key, _) in self.entries.iter().filter(|(_, slot)| slot.dirty) {
            self.cache.announce(key);
        }
    }

    /// Shows what is now durable to all readers, and wakes those who wait for it.
    pub fn publish(self, tails: &Tails) {
        for (key, slot) in self.entries {
            if slot.dirty {
                self.cache.publish(key, slot.found);
            } else if let Err(generation) = self.cache.get(&key) {
                // Read from the database by this group: nobody but us could have changed it since.
                self.cache.fill(&key, slot.found, generation);
            }
        }
        for (name, topic) in self.topics.iter().filter(|(_, topic)| topic.dirty) {
            tails.publish(name, topic.last);
        }
    }

    /// Keeps the database's error, which the planner has no place for.
    fn readable<T>(&mut self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let told = StoreError::Unavailable(error.to_string());
            self.failure = Some(error);
            told
        })
    }
}

impl Lookup for Group<'_> {
    type Found = Arc<Entry>;

    fn entry(&mut self, key: &str) -> Result<Found, StoreError> {
        if let Some(slot) = self.entries.get(key) {
            return Ok(slot.found.clone());
        }
        if let Ok(found) = self.cache.get(key) {
            return Ok(found);
        }
        let found = query::entry(self.connection, key);
        let found = self.readable(found)?.map(Arc::new);
        self.entries.insert(
            key.to_owned(),
            Slot {
                found: found.clone(),
                dirty: false,
            },
        );
        Ok(found)
    }

    fn last_sequence(&mut self, topic: &str) -> Result<u64, StoreError> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(known.last);
        }
        let last = query::last_sequence(self.connection, topic);
        let last = self.readable(last)?;
        self.topics.insert(
            topic.to_owned(),
            Topic {
                last,
                added_bytes: 0,
                dirty: false,
            },
        );
        Ok(last)
    }

    fn idempotence(&mut self, id: &str) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.records.get(id) {
            return Ok(Some(record.clone()));
        }
        let record = query::record(self.connection, id);
        self.readable(record)
    }
}
