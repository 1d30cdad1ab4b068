//! The messages of a group that were passed and are not finished: leased, waiting, or behind another of their key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::window_of;
use crate::relay::record::Keys;
use tollgate_store::commit::{Commit, Condition, Mutation};
use tollgate_store::template::{self, Number};

/// Sequences of a window. A lease of 100 touches two at most, and two consumers seldom touch the same one.
pub const WIDTH: u64 = 128;

/// A message that was passed and is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// From when `wait` counts, by the store's clock: a lease or a return is as old as its commit. Unix milliseconds.
    pub since: Number,
    /// Milliseconds until it may be leased, again or at all.
    pub wait: u64,
    /// The lease that holds it; 0 for none.
    pub lease: u64,
    /// How often it was leased.
    pub attempts: u32,
    /// When it was leased first; 0 for never.
    pub first: Number,
    /// Of its ordering key, see [`lane_of`](crate::relay::record::lane_of); 0 for none.
    pub lane: u64,
    /// Its message is with it in an entry of its own, since it was a dead letter.
    pub carried: bool,
}

impl Held {
    /// Never leased: it stands behind another message of its key, or was redriven.
    pub fn waiting(lane: u64, carried: bool) -> Self {
        Self {
            since: Number::Known(0),
            wait: 0,
            lease: 0,
            attempts: 0,
            first: Number::Known(0),
            lane,
            carried,
        }
    }

    /// From when on it may be leased; what holds it holds until just before. For ever where the commit is still to come.
    pub fn due(&self) -> u64 {
        self.since
            .known()
            .map_or(u64::MAX, |since| since.saturating_add(self.wait))
    }

    /// Leased by this commit for so many milliseconds.
    pub fn leased(self, lease: u64, wait: u64) -> Self {
        Self {
            since: Number::Time,
            wait,
            lease,
            attempts: self.attempts.saturating_add(1),
            first: if self.attempts == 0 {
                Number::Time
            } else {
                self.first
            },
            ..self
        }
    }

    /// Given back by this commit, for so many milliseconds.
    pub fn returned(self, wait: u64) -> Self {
        Self {
            since: Number::Time,
            wait,
            lease: 0,
            ..self
        }
    }

    /// Leased for so many milliseconds from this commit on.
    pub fn extended(self, wait: u64) -> Self {
        Self {
            since: Number::Time,
            wait,
            ..self
        }
    }
}

/// Neighbours that are alike, as they are stored: the first sequence, their number, and what they have in common. A lease of
/// a hundred messages without keys is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run(u64, u64, Number, u64, u64, u32, Number, u64, bool);

/// A window as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Vec<Run>);

impl Record {
    fn of(held: &BTreeMap<u64, Held>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut before = None;
        for (&sequence, held) in held {
            match runs.last_mut() {
                Some(run) if before == Some(*held) && run.0 + run.1 == sequence => run.1 += 1,
                _ => runs.push(Run(
                    sequence,
                    1,
                    held.since,
                    held.wait,
                    held.lease,
                    held.attempts,
                    held.first,
                    held.lane,
                    held.carried,
                )),
            }
            before = Some(*held);
        }
        Self(runs)
    }

    /// By sequence.
    pub fn held(&self) -> BTreeMap<u64, Held> {
        let mut found = BTreeMap::new();
        for &Run(first, count, since, wait, lease, attempts, first_at, lane, carried) in &self.0 {
            let held = Held {
                since,
                wait,
                lease,
                attempts,
                first: first_at,
                lane,
                carried,
            };
            found.extend((first..first.saturating_add(count.min(WIDTH))).map(|sequence| (sequence, held)));
        }
        found
    }
}

#[derive(Clone, Debug, Default)]
struct Window {
    held: BTreeMap<u64, Held>,
    /// Of its entry; `None` where there is none.
    version: Option<u64>,
    changed: bool,
}

/// Windows that were read, and what is changed of them.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    windows: BTreeMap<u64, Window>,
    len: usize,
    changed: usize,
}

impl Windows {
    pub(super) fn of(read: BTreeMap<u64, (Record, Option<u64>)>) -> Self {
        // Those that are gone take no room.
        let there = read.into_iter().filter(|(_, (_, version))| version.is_some());
        let windows: BTreeMap<u64, Window> = there
            .map(|(number, (record, version))| {
                let held = record.held();
                let window = Window {
                    held,
                    version,
                    changed: false,
                };
                (number, window)
            })
            .collect();
        Self {
            len: windows.values().map(|window| window.held.len()).sum(),
            windows,
            changed: 0,
        }
    }

    /// How many messages they hold.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether they hold none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// How many windows are changed: each is a step of the commit.
    pub fn changed(&self) -> usize {
        self.changed
    }

    /// Whether a change of this sequence changes one more window, or adds one.
    pub fn costs(&self, sequence: u64) -> (bool, bool) {
        let window = self.windows.get(&window_of(sequence));
        (window.is_none_or(|window| !window.changed), window.is_none())
    }

    /// By sequence.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Held)> {
        let windows = self.windows.values();
        windows.flat_map(|window| window.held.iter().map(|(sequence, held)| (*sequence, held)))
    }

    /// The message with this sequence.
    pub fn get(&self, sequence: u64) -> Option<&Held> {
        self.windows.get(&window_of(sequence))?.held.get(&sequence)
    }

    /// Puts a message in, or changes it.
    pub fn set(&mut self, sequence: u64, held: Held) {
        let window = self.windows.entry(window_of(sequence)).or_default();
        self.len += usize::from(window.held.insert(sequence, held).is_none());
        self.changed += usize::from(!std::mem::replace(&mut window.changed, true));
    }

    /// The message is finished.
    pub fn remove(&mut self, sequence: u64) {
        if let Some(window) = self.windows.get_mut(&window_of(sequence))
            && window.held.remove(&sequence).is_some()
        {
            self.len -= 1;
            self.changed += usize::from(!std::mem::replace(&mut window.changed, true));
        }
    }

    /// The numbers of those that hold something.
    pub fn numbers(&self) -> Vec<u64> {
        let held = self.windows.iter().filter(|(_, window)| !window.held.is_empty());
        held.map(|(number, _)| *number).collect()
    }

    /// Adds the changes to a commit, each on the condition that its window is still what was read.
    pub fn write(&self, keys: &Keys, commit: &mut Commit) {
        for (number, window) in self.windows.iter().filter(|(_, window)| window.changed) {
            if window.version.is_none() && window.held.is_empty() {
                continue;
            }
            let key = keys.window(*number);
            commit
                .conditions
                .push(Condition::unchanged(key.clone(), window.version));
            commit.mutations.push(match window.held.is_empty() {
                true => Mutation::Delete { key },
                false => Mutation::Set {
                    key,
                    value: template::json(&Record::of(&window.held)),
                    expires: None,
                },
            });
        }
    }

    /// That these windows are still what was read, but for those that [`Windows::write`] says it of.
    pub fn unchanged(&self, keys: &Keys, numbers: impl IntoIterator<Item = u64>) -> Vec<Condition> {
        let conditions = numbers.into_iter().filter_map(|number| {
            let window = self.windows.get(&number);
            let is_written = window.is_some_and(|window| window.changed);
            let version = window.and_then(|window| window.version);
            (!is_written).then(|| Condition::unchanged(keys.window(number), version))
        });
        conditions.collect()
    }

    /// Which messages may be leased at `now`, at most `most`.
    pub fn choose(&self, ordered: bool, max_attempts: u32, now: u64, most: usize) -> Choice {
        let mut choice = Choice::default();
        for (sequence, held) in self.iter() {
            // The first of its key that is not finished holds up the others.
            if ordered && held.lane != 0 && !choice.lanes.insert(held.lane) {
                continue;
            }
            if held.due() > now {
                choice.next_due = choice.next_due.min(held.due());
            } else if held.attempts >= max_attempts {
                choice.spent.push(sequence);
            } else if choice.again.len() < most {
                choice.again.push(sequence);
            }
        }
        choice
    }

    /// The sequences among these that are here.
    pub fn known(&self, sequences: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        let known = sequences
            .into_iter()
            .filter(|sequence| self.get(*sequence).is_some());
        known.collect()
    }
}

/// What may be done at a moment.
#[derive(Clone, Debug)]
pub struct Choice {
    /// May be leased.
    pub again: Vec<u64>,
    /// Were leased as often as they may be.
    pub spent: Vec<u64>,
    /// The keys that have a message which is not finished.
    pub lanes: BTreeSet<u64>,
    /// When the next one may be leased; `u64::MAX` if none waits for a time.
    pub next_due: u64,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            again: Vec::new(),
            spent: Vec::new(),
            lanes: BTreeSet::new(),
            next_due: u64::MAX,
        }
    }
}
