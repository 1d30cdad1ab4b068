//! The journal of changes that are not yet durable, in the order in which they happened. Commits take it from
//! the front: as much as fits, one commit at a time, so that whatever finished meanwhile goes with the next.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::attempt::{Attempt, Health};
use super::progress::Progress;
use super::record::{BreakerRecord, Control, DeadLetter, Keys, Waiting};
use tollgate_store::commit::{Commit, Condition, MAX_STEPS, Mutation, literal};

/// Values that one commit may hold before it is full, bytes: the largest single one and the progress fit as well.
const MAX_BATCH_BYTES: usize = 768 << 10;
/// Mutations kept free for the progress, the control entry, the breaker's and that of the health.
const OWN_MUTATIONS: usize = 4;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Acknowledged. `entry`: a retry entry may exist; `parked`: one that counts in [`Progress::parked`].
    Delivered {
        sequence: u64,
        entry: bool,
        parked: bool,
    },
    /// Failed, and waits; or waits behind one that has. `parks`: it is the first change that parks it.
    Retry {
        sequence: u64,
        waiting: Waiting,
        parks: bool,
    },
    /// Given up. `redriven`: once more; `parked`: as above.
    Dead {
        letter: DeadLetter,
        redriven: bool,
        parked: bool,
    },
    /// Removed by retention before it was delivered, finished elsewhere, or not for this subscription.
    Skipped { start: u64, end: u64 },
    /// Paused.
    Control(Control),
    /// The circuit breaker opened or closed.
    Breaker(BreakerRecord),
    /// An attempt has ended.
    Attempt(Attempt),
    /// How deliveries went of late.
    Health(Health),
}

impl Change {
    /// Mutations of its own; the progress comes with every commit.
    fn steps(&self) -> usize {
        match self {
            // A dead letter also deletes its retry entry.
            Self::Dead { .. } => 2,
            Self::Delivered { entry: true, .. } | Self::Retry { .. } | Self::Attempt(_) => 1,
            Self::Delivered { .. }
            | Self::Skipped { .. }
            | Self::Control(_)
            | Self::Breaker(_)
            | Self::Health(_) => 0,
        }
    }

    fn sequence(&self) -> Option<u64> {
        match self {
            Self::Delivered { sequence, .. } | Self::Retry { sequence, .. } => Some(*sequence),
            Self::Dead { letter, .. } => Some(letter.sequence),
            // An attempt was made, whatever becomes of its message.
            Self::Skipped { .. }
            | Self::Control(_)
            | Self::Breaker(_)
            | Self::Attempt(_)
            | Self::Health(_) => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    changes: VecDeque<Change>,
    /// Mutations that they take.
    steps: usize,
}

/// A batch: changes on their way into the store.
#[derive(Debug)]
pub(super) struct Batch {
    changes: Vec<Change>,
    /// What is finished once the commit is done.
    pub progress: Progress,
}

impl Batch {
    /// The entries of messages that wait, as they are once the commit is done; several of one message in order.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, &Waiting)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Retry {
                sequence, waiting, ..
            } => Some((*sequence, waiting)),
            _ => None,
        })
    }

    pub fn sets_control(&self) -> bool {
        self.changes.iter().any(|c| matches!(c, Change::Control(_)))
    }
}

/// The effect of a batch on the entries of one sequence; the last change wins.
#[derive(Default)]
struct Effect {
    /// `Some(None)` deletes.
    retry: Option<Option<Vec<u8>>>,
    dead: Option<Vec<u8>>,
}

impl Journal {
    /// Whether there is more than one commit takes.
    pub fn is_long(&self) -> bool {
        self.steps > MAX_STEPS
    }

    pub fn push(&mut self, change: Change) {
        self.steps += change.steps();
        self.changes.push_back(change);
    }

    /// A message that is not for this subscription; `entry`: a retry entry exists. Neighbours are one change.
    pub fn pass_over(&mut self, sequence: u64, entry: bool) {
        if entry {
            return self.push(Change::Delivered {
                sequence,
                entry,
                parked: false,
            });
        }
        match self.changes.back_mut() {
            Some(Change::Skipped { end, .. }) if end.saturating_add(1) == sequence => *end = sequence,
            _ => self.push(Change::Skipped {
                start: sequence,
                end: sequence,
            }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn sets_control(&self) -> bool {
        self.changes.iter().any(|c| matches!(c, Change::Control(_)))
    }

    pub fn sequences(&self) -> HashSet<u64> {
        self.changes.iter().filter_map(Change::sequence).collect()
    }

    /// Drops outdated changes after the store was read again. Another relay, or a commit of ours whose answer
    /// was lost, has overtaken them: they would bring back the entry of a finished message. `finished`:
    /// whether a message, redriven or not, is; `entry`: whether there is a retry entry, and whether it parks
    /// its message.
    pub fn reconcile(&mut self, finished: impl Fn(u64, bool) -> bool, entry: impl Fn(u64) -> Option<bool>) {
        // Whether the message is parked once the changes so far are made.
        let mut now_parked = HashMap::new();
        self.changes.retain_mut(|change| {
            let Some(sequence) = change.sequence() else {
                return true;
            };
            let found = entry(sequence);
            let is_parked = now_parked.entry(sequence).or_insert(found == Some(true));
            match change {
                Change::Retry { waiting, parks, .. } => {
                    // Another relay may have parked it.
                    waiting.parked |= *is_parked;
                    *parks = waiting.parked && !*is_parked;
                    *is_parked |= waiting.parked;
                    !finished(sequence, waiting.redriven)
                }
                Change::Dead { redriven, parked, .. } => {
                    *parked = std::mem::take(is_parked);
                    !finished(sequence, *redriven)
                }
                Change::Delivered { entry, parked, .. } => {
                    *entry |= found.is_some();
                    *parked = std::mem::take(is_parked);
                    true
                }
                Change::Skipped { .. }
                | Change::Control(_)
                | Change::Breaker(_)
                | Change::Attempt(_)
                | Change::Health(_) => true,
            }
        });
        self.steps = self.changes.iter().map(Change::steps).sum();
    }

    /// A commit that failed: its changes are to be made again, before the others. All of them are idempotent.
    pub fn put_back(&mut self, batch: Batch) {
        for change in batch.changes.into_iter().rev() {
            self.steps += change.steps();
            self.changes.push_front(change);
        }
    }

    /// The next commit, on top of `durable`, on condition that the progress still has `version`.
    pub fn take(&mut self, keys: &Keys, durable: &Progress, version: Option<u64>) -> (Batch, Commit) {
        let mut batch = Batch {
            changes: Vec::new(),
            progress: durable.clone(),
        };
        let mut effects: BTreeMap<u64, Effect> = BTreeMap::new();
        let mut attempts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let (mut control, mut breaker, mut health) = (None, None, None);
        let (mut mutations, mut bytes, mut parked_now) = (OWN_MUTATIONS, 0, 0_i64);
        while let Some(change) = self.changes.pop_front() {
            let value = value_of(&change);
            let more = change.steps();
            let full = mutations + more > MAX_STEPS || bytes + value.len() > MAX_BATCH_BYTES;
            if full && !batch.changes.is_empty() {
                self.changes.push_front(change);
                break;
            }
            self.steps = self.steps.saturating_sub(more);
            mutations += more;
            bytes += value.len();
            match &change {
                Change::Delivered {
                    sequence,
                    entry,
                    parked,
                } => {
                    batch.progress.finish(*sequence, *sequence);
                    parked_now -= i64::from(*parked);
                    if *entry {
                        effects.entry(*sequence).or_default().retry = Some(None);
                    }
                }
                Change::Retry {
                    sequence,
                    waiting,
                    parks,
                } => {
                    if waiting.parked {
                        batch.progress.finish(*sequence, *sequence);
                    }
                    parked_now += i64::from(*parks);
                    effects.entry(*sequence).or_default().retry = Some(Some(value));
                }
                Change::Dead { letter, parked, .. } => {
                    parked_now -= i64::from(*parked);
                    batch.progress.finish(letter.sequence, letter.sequence);
                    let effect = effects.entry(letter.sequence).or_default();
                    (effect.retry, effect.dead) = (Some(None), Some(value));
                }
                Change::Skipped { start, end } => batch.progress.finish(*start, *end),
                Change::Control(_) => control = Some(value),
                Change::Breaker(_) => breaker = Some(value),
                Change::Health(_) => health = Some(value),
                Change::Attempt(attempt) => _ = attempts.insert(attempt.key(keys), value),
            }
            batch.changes.push(change);
        }
        let parked = batch.progress.parked().saturating_add_signed(parked_now);
        batch.progress.set_parked(parked);
        let own = [
            (keys.control(), control),
            (keys.breaker(), breaker),
            (keys.health(), health),
        ];
        let own = own.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let commit = commit(keys, &batch.progress, version, own.chain(attempts), effects);
        (batch, commit)
    }
}

fn value_of(change: &Change) -> Vec<u8> {
    match change {
        Change::Delivered { .. } | Change::Skipped { .. } => Vec::new(),
        Change::Retry { waiting, .. } => json(waiting),
        Change::Dead { letter, .. } => json(letter),
        Change::Control(control) => json(control),
        Change::Breaker(breaker) => json(breaker),
        Change::Attempt(attempt) => json(attempt),
        Change::Health(health) => json(health),
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types hold string keys only, so they serialise")
}

fn commit(
    keys: &Keys,
    progress: &Progress,
    version: Option<u64>,
    own: impl Iterator<Item = (String, Vec<u8>)>,
    effects: BTreeMap<u64, Effect>,
) -> Commit {
    let key = keys.progress();
    // Two relays on one store: the second to commit is refused and looks again.
    let condition = Condition::unchanged(key.clone(), version);
    let set = |key: String, value: Vec<u8>| Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    };
    let mut mutations = vec![set(key, json(progress))];
    mutations.extend(own.map(|(key, value)| set(key, value)));
    for (sequence, effect) in effects {
        match effect.retry {
            Some(Some(value)) => mutations.push(set(keys.retry(sequence), value)),
            Some(None) => mutations.push(Mutation::Delete {
                key: keys.retry(sequence),
            }),
            None => {}
        }
        mutations.extend(effect.dead.map(|value| set(keys.dead(sequence), value)));
    }
    Commit {
        partition: keys.partition().to_owned(),
        conditions: vec![condition],
        mutations,
        ..Commit::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_store::plan;

    fn dead(sequence: u64, error: &str) -> Change {
        let letter = DeadLetter {
            id: format!("m{sequence}"),
            sequence,
            attempts: 1,
            last_error: error.into(),
            first_at: 1,
            died_at: 2,
            message: None,
        };
        Change::Dead {
            letter,
            redriven: false,
            parked: false,
        }
    }

    #[test]
    fn commits_stay_within_the_bounds_of_the_port_and_keep_the_order() {
        let keys = Keys::new("t", "s");
        let mut journal = Journal::default();
        for sequence in 1..=100 {
            journal.push(Change::Retry {
                sequence,
                waiting: Waiting::default(),
                parks: false,
            });
            journal.push(dead(sequence, &"x".repeat(100_000)));
            journal.push(Change::Delivered {
                sequence: sequence + 1_000,
                entry: false,
                parked: false,
            });
        }
        let (mut durable, mut commits) = (Progress::default(), 0);
        while !journal.is_empty() {
            let (batch, commit) = journal.take(&keys, &durable, Some(1));
            plan::validate(&commit).unwrap();
            let finished = batch.progress.watermark();
            assert!(batch.progress.contains(1_000 + finished) || finished < 100 || journal.is_empty());
            durable = batch.progress;
            commits += 1;
        }
        assert_eq!(
            (durable.watermark(), durable.ranges()),
            (100, &[(1_001, 1_100)][..])
        );
        assert!(commits >= 13, "{commits}");
    }

    #[test]
    fn acknowledgements_of_first_attempts_cost_one_mutation_together() {
        let mut journal = Journal::default();
        for sequence in 1..=5_000 {
            journal.push(Change::Delivered {
                sequence,
                entry: false,
                parked: false,
            });
        }
        let (batch, commit) = journal.take(&Keys::new("t", "s"), &Progress::default(), None);
        assert!(journal.is_empty());
        assert_eq!(batch.progress, Progress::up_to(5_000));
        assert_eq!(commit.mutations.len(), 1);
    }

    #[test]
    fn a_failed_batch_comes_back_in_front() {
        let mut journal = Journal::default();
        journal.push(Change::Retry {
            sequence: 1,
            waiting: Waiting {
                attempts: 1,
                ..Waiting::default()
            },
            parks: false,
        });
        let (batch, _) = journal.take(&Keys::new("t", "s"), &Progress::default(), None);
        journal.push(Change::Delivered {
            sequence: 1,
            entry: true,
            parked: false,
        });
        journal.put_back(batch);
        let (batch, commit) = journal.take(&Keys::new("t", "s"), &Progress::default(), None);
        assert_eq!(batch.progress, Progress::up_to(1));
        assert!(matches!(&commit.mutations[1], Mutation::Delete { key } if key.contains("/retry/")));
        assert_eq!(commit.mutations.len(), 2);
    }
}
