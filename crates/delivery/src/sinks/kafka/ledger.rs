//! What is known of one partition: which sequence comes next, and the batch whose outcome is not known yet. Pure.
//!
//! At most one batch of a partition is under way. Until its outcome is known, nothing else is sent there: it is sent again as it is, with
//! its sequence, by which the partition's leader knows it. So what a lost answer leaves in doubt is told by the next one.

use std::sync::Arc;

use super::code::Meaning;
use super::record::{self, Identity, Record};

/// Of one partition.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Whose sequence `next` is of.
    identity: Option<Identity>,
    next: i32,
    open: Option<Batch>,
    /// How many there were.
    begun: u64,
}

/// A batch whose outcome is not known.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Different for each of a partition.
    pub number: u64,
    /// Of its messages.
    pub ids: Arc<[String]>,
    /// As it is sent, each time.
    pub bytes: Arc<[u8]>,
    /// How often it was sent.
    sent: u32,
    /// What follows it.
    next: i32,
}

impl Ledger {
    /// The batch that has to be settled before there is another.
    pub fn open(&self) -> Option<&Batch> {
        self.open.as_ref()
    }

    /// Makes a batch of these records, which is open from now on. None was.
    pub fn begin(&mut self, identity: Identity, records: &[Arc<Record>]) -> Batch {
        debug_assert!(self.open.is_none());
        if self.identity != Some(identity) {
            (self.identity, self.next) = (Some(identity), 0);
        }
        self.begun += 1;
        let batch = Batch {
            number: self.begun,
            ids: records.iter().map(|record| record.id.clone()).collect(),
            bytes: record::batch(records, identity, self.next).into(),
            sent: 0,
            next: after(self.next, records.len()),
        };
        self.open.insert(batch).clone()
    }

    /// The open batch is about to be sent, perhaps again.
    pub fn sends(&mut self) {
        if let Some(open) = &mut self.open {
            open.sent = open.sent.saturating_add(1);
        }
    }

    /// An answer to this batch; one to another than the open one says nothing any more. Whether the producer has to begin anew, with
    /// another identity: a sequence that may have been taken is never given to other records.
    pub fn settle(&mut self, number: u64, meaning: Meaning) -> bool {
        let Some(open) = self.open.take_if(|open| open.number == number) else {
            return false;
        };
        match meaning {
            Meaning::Taken => self.next = open.next,
            // What refuses it now may have taken it before.
            Meaning::Elsewhere | Meaning::Refused if open.sent > 1 => self.open = Some(open),
            Meaning::Elsewhere | Meaning::Refused => {}
            Meaning::Unknown => self.open = Some(open),
            Meaning::Unfit if open.sent <= 1 => {}
            // It is not there, or nothing will ever tell.
            Meaning::Unfit | Meaning::Anew => {
                self.identity = None;
                return true;
            }
        }
        false
    }
}

/// The sequence after so many records from this one on: after the largest comes 0.
fn after(sequence: i32, count: usize) -> i32 {
    let sum = u64::from(sequence.unsigned_abs()) + count as u64;
    (sum & 0x7fff_ffff) as i32
}

#[cfg(test)]
mod tests;
