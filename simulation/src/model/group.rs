//! The consumer group of a topic: what was leased, acknowledged or given up, by what became durable.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_delivery::groups::window::{Held, Record, WIDTH};
use tollgate_delivery::groups::{Head, window_of};
use tollgate_delivery::relay::record::Keys;
use tollgate_store::commit::Entry;

use super::{Checked, Ledger, ensure, read};

/// Leases of a message before it is a dead letter.
pub const MAX_ATTEMPTS: u32 = 3;

/// What is known of a group.
#[derive(Debug, Default)]
pub struct Group {
    next: u64,
    held: BTreeMap<u64, Held>,
    /// Sequences that are done.
    pub acked: BTreeSet<u64>,
    /// Those that are dead letters, and those that ever were.
    pub dead: BTreeSet<u64>,
    ever_dead: BTreeSet<u64>,
    /// Sequence and lease.
    granted: BTreeSet<(u64, u64)>,
    done_by: BTreeSet<(u64, u64)>,
    /// Leases of messages that were leased before.
    pub again: u64,
}

impl Group {
    /// Whether nothing is left but dead letters, where the topic's newest message has this sequence.
    pub fn is_drained(&self, last: u64) -> bool {
        self.held.is_empty() && self.next == last + 1
    }

    /// Entries of the group are durable, by a commit of this time. They come in the order of their keys: dead letters first.
    pub fn changed(&mut self, changes: &[(&str, Option<&Entry>)], ledger: &Ledger, now: u64) -> Checked {
        let mut newly_dead = BTreeSet::new();
        let mut next = self.next.max(1);
        for (key, entry) in changes {
            let (sequence, value) = (
                Keys::sequence_of(key).unwrap_or(0),
                entry.map(|entry| &*entry.value),
            );
            if key.contains("/dead/") {
                match value {
                    Some(_) => {
                        newly_dead.insert(sequence);
                        self.ever_dead.insert(sequence);
                        self.dead.insert(sequence)
                    }
                    None => self.dead.remove(&sequence),
                };
            } else if key.ends_with("/progress")
                && let Some(value) = value
            {
                next = read::<Head>(key, value)?.next;
            } else if key.contains("/window/") {
                let after = match value {
                    Some(value) => read::<Record>(key, value)?.held(),
                    None => BTreeMap::new(),
                };
                self.window_changed(sequence, after, &newly_dead, ledger, now)?;
            }
        }
        ensure(next >= self.next, || {
            format!("a group went back from {} to {next}", self.next)
        })?;
        let passed = self.next.max(1)..next;
        let lost = passed
            .into_iter()
            .find(|sequence| !self.held.contains_key(sequence));
        ensure(lost.is_none(), || {
            format!("a group passed message {lost:?}, which was not leased")
        })?;
        self.next = next;
        Ok(())
    }

    fn window_changed(
        &mut self,
        number: u64,
        after: BTreeMap<u64, Held>,
        newly_dead: &BTreeSet<u64>,
        ledger: &Ledger,
        now: u64,
    ) -> Checked {
        let before: BTreeMap<u64, Held> = self
            .held
            .range(number * WIDTH..(number + 1) * WIDTH)
            .map(|(sequence, held)| (*sequence, *held))
            .collect();
        let sequences: BTreeSet<u64> = before.keys().chain(after.keys()).copied().collect();
        for sequence in sequences {
            ensure(window_of(sequence) == number, || {
                format!("{sequence} is in the window {number}")
            })?;
            let (was, is) = (before.get(&sequence), after.get(&sequence));
            match (was, is) {
                (Some(was), Some(is)) if was == is => {}
                (Some(was), Some(is)) if is.lease == 0 || is.lease == was.lease => {
                    ensure(was.lease != 0 && was.due() > now, || {
                        format!("a lease of {sequence} that ran out was given back or extended")
                    })?;
                }
                (was, Some(is)) if is.lease != 0 => self.leased(sequence, was, is, ledger, now)?,
                (Some(was), None) if newly_dead.contains(&sequence) => {
                    ensure(was.attempts >= MAX_ATTEMPTS && was.due() <= now, || {
                        format!("{sequence} was given up after {} leases", was.attempts)
                    })?;
                }
                (Some(was), None) => {
                    ensure(was.lease != 0 && was.due() > now, || {
                        format!(
                            "{sequence} was acknowledged at {now}, late: its lease ended at {}",
                            was.due()
                        )
                    })?;
                    self.acked.insert(sequence);
                    self.done_by.insert((sequence, was.lease));
                }
                (None, _) => {}
                // What stands behind another of its key is not leased.
                (Some(_), Some(_)) => {}
            }
            match is {
                Some(is) => self.held.insert(sequence, *is),
                None => self.held.remove(&sequence),
            };
        }
        Ok(())
    }

    fn leased(&mut self, sequence: u64, was: Option<&Held>, is: &Held, ledger: &Ledger, now: u64) -> Checked {
        ensure(!self.acked.contains(&sequence), || {
            format!("{sequence} was leased, and was acknowledged before")
        })?;
        ensure(was.is_some() || sequence >= self.next || is.carried, || {
            format!("{sequence} came back to a group")
        })?;
        let (due, attempts) = was.map_or((0, 0), |was| (was.due(), was.attempts));
        ensure(due <= now, || {
            format!("{sequence} was leased twice: at {now}, and until {due}")
        })?;
        ensure(is.attempts == attempts + 1 && is.attempts <= MAX_ATTEMPTS, || {
            format!("lease {} of {sequence} follows lease {attempts}", is.attempts)
        })?;
        self.again += u64::from(attempts > 0);
        let of_its_key = ledger
            .lanes
            .iter()
            .find(|(key, lane)| !key.is_empty() && lane.sequences.contains(&sequence));
        let earlier = of_its_key.into_iter().flat_map(|(_, lane)| &lane.sequences);
        let open = earlier
            .take_while(|other| **other < sequence)
            .find(|other| !self.acked.contains(other) && !self.ever_dead.contains(other));
        ensure(open.is_none() || self.ever_dead.contains(&sequence), || {
            format!("{sequence} was leased before {open:?} of its key was done")
        })?;
        self.granted.insert((sequence, is.lease));
        Ok(())
    }

    /// A consumer was told that it holds these, by sequence and lease.
    pub fn told(&self, leases: &[(u64, u64)]) -> Checked {
        let unknown = leases.iter().find(|lease| !self.granted.contains(lease));
        ensure(unknown.is_none(), || {
            format!("the lease {unknown:?} is not durable")
        })
    }

    /// A consumer was told that so many of these are done.
    pub fn acknowledged(&self, leases: &[(u64, u64)], count: u64) -> Checked {
        let done = leases.iter().filter(|lease| self.done_by.contains(lease)).count() as u64;
        ensure(done >= count, || {
            format!("{count} acknowledgements were answered, and {done} are durable")
        })
    }
}
