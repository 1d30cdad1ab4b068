//! The disk: a log of records, as a write-ahead log is one. What was written is in the operating system's memory until it
//! is synced. A killed process loses nothing of it; a power failure loses any sectors of it, so that records are lost,
//! torn or there without the ones before them. A record is valid only if all of its sectors are (that is what a checksum
//! tells), and recovery ends at the first that is not. A failed sync leaves any part on disk, and the rest marked as
//! written: a later sync does not write it again (Linux).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tollgate_store::commit::{Entry, Message};
use tollgate_store::plan::Record as Idempotence;

/// All that a group changes.
#[derive(Debug)]
pub struct GroupWrites {
    pub entries: Vec<(Arc<str>, Option<Arc<Entry>>)>,
    pub messages: Vec<Arc<Message>>,
    pub records: Vec<Arc<Idempotence>>,
    pub revision: u64,
    pub now: u64,
    /// Where gateways share a store: the lanes that the group is in, and who wrote it.
    pub lanes: Vec<u32>,
    pub by: String,
}

impl GroupWrites {
    fn sectors(&self) -> u32 {
        let entries = self.entries.len() + 2 * self.messages.len() + self.records.len();
        u32::try_from(1 + entries / 4).unwrap_or(8).min(8)
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub entries: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Sequences are dense from 1: nothing is removed in a simulated run.
    pub topics: BTreeMap<String, Vec<Arc<Message>>>,
    pub records: BTreeMap<String, Arc<Idempotence>>,
    pub revision: u64,
    pub now: u64,
}

impl State {
    pub fn apply(&mut self, writes: &GroupWrites) {
        self.apply_entries(&writes.entries);
        for message in &writes.messages {
            match self.topics.get_mut(&message.topic) {
                Some(log) => log.push(Arc::clone(message)),
                None => drop(
                    self.topics
                        .insert(message.topic.clone(), vec![Arc::clone(message)]),
                ),
            }
        }
        for record in &writes.records {
            self.records.insert(record.id.clone(), Arc::clone(record));
        }
        (self.revision, self.now) = (writes.revision, writes.now);
    }

    fn apply_entries(&mut self, entries: &[(Arc<str>, Option<Arc<Entry>>)]) {
        for (key, entry) in entries {
            match entry {
                Some(entry) => self.entries.insert(Arc::clone(key), Arc::clone(entry)),
                None => self.entries.remove(key),
            };
        }
    }

    pub fn last_sequence(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |log| log.len() as u64)
    }
}

struct Record {
    writes: Rc<GroupWrites>,
    sectors: u32,
    /// Which sectors are on disk.
    on_disk: u8,
    /// To be written by the next sync.
    dirty: bool,
}

impl Record {
    fn is_whole(&self) -> bool {
        u32::from(self.on_disk).count_ones() >= self.sectors
    }

    /// Any part of it reaches the disk.
    fn write_some(&mut self, draw: &mut dyn FnMut() -> u8) {
        let all = ((1u16 << self.sectors) - 1) as u8;
        self.on_disk |= all
            & match draw() % 4 {
                0 => 0,
                1 => all,
                _ => draw(),
            };
    }
}

/// What a power failure did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub lost: u64,
    pub torn: u64,
    pub reordered: u64,
}

/// The simulated disk: a write-ahead log whose writes may be lost, torn or out of order until a sync.
#[derive(Default)]
pub struct Disk {
    durable: State,
    tail: Vec<Record>,
}

impl Disk {
    pub fn write(&mut self, writes: Rc<GroupWrites>) {
        self.tail.push(Record {
            sectors: writes.sectors(),
            writes,
            on_disk: 0,
            dirty: true,
        });
    }

    pub fn sync(&mut self) {
        for record in self.tail.iter_mut().filter(|record| record.dirty) {
            (record.on_disk, record.dirty) = (u8::MAX, false);
        }
        // What lies behind a hole is not to be reached after a power failure.
        let reached = self.tail.iter().take_while(|record| record.is_whole()).count();
        for record in self.tail.drain(..reached) {
            self.durable.apply(&record.writes);
        }
    }

    pub fn fail_to_sync(&mut self, draw: &mut dyn FnMut() -> u8) {
        for record in self.tail.iter_mut().filter(|record| record.dirty) {
            record.write_some(draw);
            record.dirty = false;
        }
    }

    /// Whether something was written and not synced.
    pub fn is_dirty(&self) -> bool {
        self.tail.iter().any(|record| record.dirty)
    }

    /// The power fails: what was in memory is gone, up to what had been written by the way.
    pub fn lose_power(&mut self, accept_torn: bool, draw: &mut dyn FnMut() -> u8) -> Damage {
        let mut damage = Damage::default();
        for record in &mut self.tail {
            if std::mem::take(&mut record.dirty) {
                record.write_some(draw);
            }
        }
        let reached = self.tail.iter().take_while(|record| record.is_whole()).count();
        for record in &self.tail[reached..] {
            let in_order = record.on_disk & record.on_disk.wrapping_add(1) == 0;
            match record.on_disk {
                0 => damage.lost += 1,
                _ if in_order && !record.is_whole() => damage.torn += 1,
                _ => damage.reordered += 1,
            }
        }
        if accept_torn
            && let Some(torn) = self.tail.get(reached)
            && torn.on_disk != 0
        {
            let entries = &torn.writes.entries;
            self.durable.apply_entries(&entries[..entries.len() / 2]);
            self.durable.revision = torn.writes.revision;
        }
        self.tail.truncate(reached);
        damage
    }

    /// What a process reads that opens the log: all that is valid, on disk or in memory.
    pub fn read(&self) -> State {
        let mut state = self.durable.clone();
        for record in &self.tail {
            state.apply(&record.writes);
        }
        state
    }

    /// Writes anew what was read, so that a sync makes it durable even where an earlier one failed: what a checkpoint of
    /// the whole log does.
    pub fn rewrite(&mut self) {
        for record in &mut self.tail {
            record.dirty = true;
        }
    }
}
