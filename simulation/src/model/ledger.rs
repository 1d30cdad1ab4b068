//! What the origin of a topic has seen, and what it must see next.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_store::commit::Message;

use super::{Checked, ensure};

/// The messages of one key, in order.
#[derive(Debug, Default)]
pub struct Lane {
    pub sequences: Vec<u64>,
    /// All before are finished.
    first: usize,
}

/// What the origin of a topic has seen.
#[derive(Debug, Default)]
pub struct Ledger {
    pub lanes: BTreeMap<String, Lane>,
    /// Answered with a 2xx.
    pub acknowledged: BTreeSet<u64>,
    /// Taken, whatever was answered.
    pub taken: BTreeSet<u64>,
    /// Reported as dead letters.
    pub dead: BTreeSet<u64>,
    /// Waiting in an entry of their own, durably.
    pub parked: BTreeSet<u64>,
    /// Attempts that did not end well.
    pub failures: BTreeMap<u64, u32>,
    /// How far the durable progress has come.
    pub watermark: u64,
}

impl Ledger {
    pub fn is_finished(&self, sequence: u64) -> bool {
        self.acknowledged.contains(&sequence) || self.dead.contains(&sequence)
    }

    /// A delivery begins: everything before it of its key must be finished.
    pub fn begin(&mut self, message: &Message) -> Checked {
        let Some(mut lane) = self.lanes.remove(&message.key) else {
            return Err(format!("{} was never appended", message.id));
        };
        while let Some(&first) = lane.sequences.get(lane.first)
            && self.is_finished(first)
        {
            lane.first += 1;
        }
        let ahead = lane.sequences.get(lane.first).copied().unwrap_or(u64::MAX);
        self.lanes.insert(message.key.clone(), lane);
        ensure(message.sequence <= ahead, || {
            format!("message {} overtook message {ahead} of its key", message.sequence)
        })
    }
}
