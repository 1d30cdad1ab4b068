//! Deferred commits, combined: a thousand clicks on one link are one addition. A caller that defers often
//! keeps them here for a moment, and then hands on the combined commits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::commit::{Commit, MAX_STEPS, Mutation, literal};
use crate::packed;

/// The most partitions whose changes are kept.
pub const MAX_PARTITIONS: usize = 1_024;
/// The most notes that are kept.
pub const MAX_NOTES: usize = 1_024;
/// The longest row of a note, in bytes.
pub const MAX_ROW: usize = 768;
/// Room for a list of one row of the usual size, bytes.
const USUAL_ROW: usize = 96;

/// What is written down beside a deferred commit. The notes of one place, of commits that are combined, become one entry, a list
/// of [`Noted`], which is set in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about, and the beginning of the entry's key. A partition may have several: a link, and the one that had its
    /// code before.
    pub place: String,
    /// The rest of the key: unique, so that no entry replaces another. That of the first note counts.
    pub unique: String,
    /// What is noted, at most [`MAX_ROW`] bytes.
    pub row: Vec<u8>,
}

impl Note {
    /// The entry of this note alone.
    pub fn alone(self) -> Mutation {
        let rows = [Noted {
            times: 1,
            row: self.row,
        }];
        set([self.place, self.unique].concat(), &rows)
    }
}

/// A row, and how often it was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// How often.
    pub times: u32,
    /// [`Note::row`].
    #[serde(with = "serde_bytes")]
    pub row: Vec<u8>,
}

/// The rows of an entry that notes became; `None` for any other bytes.
pub fn noted(value: &[u8]) -> Option<Vec<Noted>> {
    packed::unpack(value)
}

fn set(key: String, rows: &[Noted]) -> Mutation {
    Mutation::Set {
        key,
        value: literal(packed::pack(&rows, rows.len() * USUAL_ROW)),
        expires: None,
    }
}

/// Deferred commits that were not handed on yet, by partition.
#[derive(Debug, Default)]
pub struct Coalescer {
    partitions: BTreeMap<String, Kept>,
    /// How many notes they have together.
    notes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    commit: Commit,
    /// Commits that may be deferred again, by their marks. Each is in `commit` once.
    repeated: BTreeMap<u64, Repeated>,
    /// The entries of their notes, one for each place.
    entries: Vec<NotedAt>,
}

/// The entry that the notes of a place become.
#[derive(Debug)]
struct NotedAt {
    place: String,
    unique: String,
    /// Those that no mark leads to any more.
    rows: Vec<Noted>,
}

#[derive(Debug)]
struct Repeated {
    /// How often it was deferred.
    times: u32,
    /// What it adds to, by index in the commit.
    adds: Vec<(usize, i64)>,
    /// Its note, with the index of its entry.
    row: Option<(usize, Vec<u8>)>,
}

impl Kept {
    /// Puts what was repeated into the commit: no mark leads to it any more.
    fn settle(&mut self) {
        for repeated in std::mem::take(&mut self.repeated).into_values() {
            self.put(repeated);
        }
    }

    /// Puts one of them into the commit and its entry.
    fn put(&mut self, Repeated { times, adds, row }: Repeated) {
        for (index, by) in adds {
            if let Some(Mutation::Add { delta, .. }) = self.commit.mutations.get_mut(index) {
                *delta = delta.saturating_add(by.saturating_mul(i64::from(times) - 1));
            }
        }
        if let Some((entry, row)) = row
            && let Some(entry) = self.entries.get_mut(entry)
        {
            entry.rows.push(Noted { times, row });
        }
    }

    /// The index of the entry of a place.
    fn entry(&mut self, place: String, unique: String) -> usize {
        let there = self.entries.iter().position(|entry| entry.place == place);
        there.unwrap_or_else(|| {
            let rows = Vec::new();
            self.entries.push(NotedAt { place, unique, rows });
            self.entries.len() - 1
        })
    }

    /// The commits that all of it amounts to: its notes are a commit of their own where they have no room.
    fn handed_on(mut self) -> impl Iterator<Item = Commit> {
        self.settle();
        let mut commit = self.commit;
        let mut more = Vec::new();
        for NotedAt { place, unique, rows } in self.entries {
            let entry = set([place, unique].concat(), &rows);
            match commit.mutations.len() < MAX_STEPS {
                true => commit.mutations.push(entry),
                false => more.push(Commit {
                    partition: commit.partition.clone(),
                    mutations: vec![entry],
                    ..Commit::default()
                }),
            }
        }
        [commit].into_iter().chain(more)
    }

    /// Adds a commit that has no condition, or gives it back. `true`: something was replaced by something else.
    fn combine(&mut self, mutations: Vec<Mutation>) -> Result<bool, Vec<Mutation>> {
        combine(&mut self.commit.mutations, mutations)
    }

    /// Remembers what was just added under its mark, and its note.
    fn remember(&mut self, adds: Vec<(usize, i64)>, mark: Option<u64>, note: Option<Note>) {
        let row = note.map(|Note { place, unique, row }| (self.entry(place, unique), row));
        let new = Repeated { times: 1, adds, row };
        match mark {
            Some(mark) => {
                // One that is not new was not looked for.
                if let Some(before) = self.repeated.insert(mark, new) {
                    self.put(before);
                }
            }
            None => self.put(new),
        }
    }

    /// Where the additions of these mutations are in the commit, with what they add.
    fn adds(&self, added: &[(String, i64)]) -> Vec<(usize, i64)> {
        let index = |key: &str| self.commit.mutations.iter().position(|there| there.key() == key);
        let found = added.iter().map(|(key, by)| Some((index(key)?, *by)));
        found.flatten().collect()
    }
}

impl Coalescer {
    /// Adds once more the commit that was deferred for the partition with this mark, and its note. `false` if that is not
    /// known (any more): then nothing was done. The thousandth click on a link in a moment costs a search and
    /// no allocation.
    pub fn again(&mut self, partition: &str, mark: u64) -> bool {
        let kept = self.partitions.get_mut(partition);
        match kept.and_then(|kept| kept.repeated.get_mut(&mark)) {
            Some(repeated) if repeated.times < u32::MAX => {
                repeated.times += 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a commit with what is noted beside it, and returns the commits that are to be handed on now, in order. That is everything so
    /// far where there is no room or where the two do not combine, then the commit itself where it cannot be
    /// coalesced. `mark`: see [`Coalescer::again`].
    pub fn add(&mut self, mut commit: Commit, mark: Option<u64>, note: Option<Note>) -> Vec<Commit> {
        let plain = commit.idempotence.is_none() && commit.conditions.is_empty() && commit.appends.is_empty();
        if !plain {
            commit.mutations.extend(note.map(Note::alone));
            let mut handed_on = self.take();
            handed_on.push(commit);
            return handed_on;
        }
        let mut handed_on = Vec::new();
        let is_new = !self.partitions.contains_key(&commit.partition);
        if is_new && self.partitions.len() >= MAX_PARTITIONS || note.is_some() && self.notes >= MAX_NOTES {
            handed_on = self.take();
        }
        let added: Vec<_> = commit.mutations.iter().filter_map(addition).collect();
        let kept = self.partitions.entry(commit.partition.clone()).or_default();
        let mutations = match kept.combine(commit.mutations) {
            Ok(replaced) => {
                if replaced {
                    kept.settle();
                }
                None
            }
            Err(mutations) => Some(mutations),
        };
        if let Some(mutations) = mutations {
            handed_on.extend(self.take());
            let kept = self.partitions.entry(commit.partition.clone()).or_default();
            kept.commit.mutations = mutations;
        }
        self.notes += usize::from(note.is_some());
        if let Some(kept) = self.partitions.get_mut(&commit.partition) {
            kept.commit.partition = commit.partition;
            let adds = kept.adds(&added);
            kept.remember(adds, mark, note);
        }
        handed_on
    }

    /// Whether there are notes among what it keeps.
    pub fn has_notes(&self) -> bool {
        self.notes > 0
    }

    /// Gives everything out.
    pub fn take(&mut self) -> Vec<Commit> {
        self.notes = 0;
        let all = std::mem::take(&mut self.partitions).into_values();
        all.flat_map(Kept::handed_on).collect()
    }
}

fn addition(mutation: &Mutation) -> Option<(String, i64)> {
    match mutation {
        Mutation::Add { key, delta, .. } => Some((key.clone(), *delta)),
        Mutation::Set { .. } | Mutation::Delete { .. } => None,
    }
}

/// Combines `new` with the kept commit, or gives it back. A number cannot be added to a value that is set,
/// and a commit has room for a bounded number of changes. `true`: something was replaced by something else.
fn combine(there: &mut Vec<Mutation>, new: Vec<Mutation>) -> Result<bool, Vec<Mutation>> {
    let fits = |mutation: &Mutation| match there.iter().find(|old| old.key() == mutation.key()) {
        None => true,
        Some(Mutation::Add { .. }) => matches!(
            mutation,
            Mutation::Add {
                min: None,
                max: None,
                ..
            }
        ),
        Some(Mutation::Set { .. } | Mutation::Delete { .. }) => !matches!(mutation, Mutation::Add { .. }),
    };
    if there.len() + new.len() > MAX_STEPS || !new.iter().all(fits) {
        return Err(new);
    }
    let mut replaced = false;
    for mutation in new {
        match (there.iter_mut().find(|old| old.key() == mutation.key()), mutation) {
            (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => {
                *delta = delta.saturating_add(more);
            }
            (Some(old), mutation) => {
                replaced |= *old != mutation;
                *old = mutation;
            }
            (None, mutation) => there.push(mutation),
        }
    }
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Condition, literal};

    fn add(key: &str, delta: i64) -> Mutation {
        Mutation::Add {
            key: key.into(),
            delta,
            min: None,
            max: None,
        }
    }

    fn set(key: &str, value: &str) -> Mutation {
        Mutation::Set {
            key: key.into(),
            value: literal(value),
            expires: None,
        }
    }

    fn commit(partition: &str, mutations: Vec<Mutation>) -> Commit {
        Commit {
            partition: partition.into(),
            mutations,
            ..Commit::default()
        }
    }

    #[test]
    fn additions_are_summed_and_the_last_value_counts() {
        let mut coalescer = Coalescer::default();
        for n in 1..=1_000 {
            let click = vec![add("visits/a", 1), set("visited/a", &n.to_string())];
            assert!(coalescer.add(commit("link/a", click), Some(7), None).is_empty());
        }
        assert!(
            coalescer
                .add(commit("link/b", vec![add("visits/b", 1)]), Some(7), None)
                .is_empty()
        );
        let a = commit("link/a", vec![add("visits/a", 1_000), set("visited/a", "1000")]);
        assert_eq!(coalescer.take(), [a, commit("link/b", vec![add("visits/b", 1)])]);
        assert!(coalescer.take().is_empty());
    }

    fn note(key: &str, row: &str) -> Option<Note> {
        Some(Note {
            place: "place/".into(),
            unique: key.into(),
            row: row.into(),
        })
    }

    fn rows(rows: &[(u32, &str)]) -> Vec<Noted> {
        let noted = |(times, row): &(u32, &str)| Noted {
            times: *times,
            row: (*row).into(),
        };
        rows.iter().map(noted).collect()
    }

    #[test]
    fn what_is_repeated_counts_as_often_as_it_was_said() {
        let mut coalescer = Coalescer::default();
        assert!(!coalescer.again("link/a", 7), "nothing is known of it");
        let click = || commit("link/a", vec![add("visits/a", 2), set("visited/a", "now")]);
        assert!(coalescer.add(click(), Some(7), None).is_empty());
        for _ in 0..4 {
            assert!(coalescer.again("link/a", 7));
        }
        assert!(!coalescer.again("link/b", 7));
        assert!(!coalescer.again("link/a", 8), "another link has the code");
        assert!(coalescer.add(click(), Some(8), None).is_empty());
        assert!(coalescer.again("link/a", 8) && coalescer.again("link/a", 7));
        assert!(coalescer.add(click(), Some(7), None).is_empty());
        assert!(coalescer.again("link/a", 7));
        let more = commit("link/a", vec![add("visits/a", 1)]);
        assert!(coalescer.add(more, None, None).is_empty());
        let all = commit("link/a", vec![add("visits/a", 21), set("visited/a", "now")]);
        assert_eq!(coalescer.take(), [all]);
        assert!(!coalescer.again("link/a", 7), "it was handed on");
    }

    #[test]
    fn what_was_replaced_is_not_repeated() {
        let mut coalescer = Coalescer::default();
        let click = |at| commit("p", vec![add("n", 1), set("k", at)]);
        assert!(coalescer.add(click("1"), Some(7), None).is_empty());
        assert!(coalescer.again("p", 7));
        assert!(coalescer.add(click("2"), Some(8), None).is_empty());
        assert!(!coalescer.again("p", 7), "it would set what was replaced");
        assert!(coalescer.again("p", 8));
        assert_eq!(coalescer.take(), [commit("p", vec![add("n", 4), set("k", "2")])]);
    }

    #[test]
    fn notes_become_one_entry_beside_what_they_are_about() {
        let mut coalescer = Coalescer::default();
        let click = || commit("p", vec![add("n", 1)]);
        assert!(coalescer.add(click(), Some(7), note("first", "a")).is_empty());
        assert!(coalescer.again("p", 7) && coalescer.again("p", 7));
        assert!(coalescer.add(click(), Some(8), note("second", "b")).is_empty());
        let nothing = commit("p", Vec::new());
        assert!(coalescer.add(nothing, Some(9), note("third", "bot")).is_empty());
        assert!(coalescer.again("p", 9));
        let taken = coalescer.take();
        let [Mutation::Add { delta: 4, .. }, Mutation::Set { key, value, .. }] = &*taken[0].mutations else {
            panic!("{taken:?}");
        };
        let [crate::commit::Part::Bytes(value)] = &**value else {
            panic!("{value:?}");
        };
        assert_eq!(key, "place/first");
        assert_eq!(noted(value), Some(rows(&[(3, "a"), (1, "b"), (2, "bot")])));
        assert_eq!(noted(&value[1..]), None);
    }

    /// A link's code may be another link's a moment later.
    #[test]
    fn notes_of_two_places_are_two_entries() {
        let mut coalescer = Coalescer::default();
        for (mark, place) in [(7, "old/"), (8, "new/"), (9, "old/")] {
            let note = Note {
                place: place.into(),
                unique: mark.to_string(),
                row: vec![mark as u8],
            };
            assert!(
                coalescer
                    .add(commit("p", vec![add("n", 1)]), Some(mark), Some(note))
                    .is_empty()
            );
        }
        assert!(coalescer.again("p", 8));
        let entry = |key: &str, rows: &[(u32, u8)]| {
            let noted = |(times, row): &(u32, u8)| Noted {
                times: *times,
                row: vec![*row],
            };
            super::set(key.into(), &rows.iter().map(noted).collect::<Vec<_>>())
        };
        let expected = vec![
            add("n", 4),
            entry("old/7", &[(1, 7), (1, 9)]),
            entry("new/8", &[(2, 8)]),
        ];
        assert_eq!(coalescer.take(), [commit("p", expected)]);
    }

    #[test]
    fn notes_are_bounded_together_and_none_is_lost() {
        let mut coalescer = Coalescer::default();
        let mut taken = Vec::new();
        for n in 0..=MAX_NOTES as u64 {
            let partition = format!("p{}", n % 3);
            let click = commit(&partition, vec![add("n", 1)]);
            taken.extend(coalescer.add(click, Some(n), note("k", "row")));
        }
        assert_eq!(taken.len(), 3, "it was full once");
        taken.extend(coalescer.take());
        let values = taken.iter().flat_map(|commit| &commit.mutations);
        let count = |mutation: &Mutation| match mutation {
            Mutation::Set { value, .. } => match &**value {
                [crate::commit::Part::Bytes(value)] => noted(value).unwrap().len(),
                _ => 0,
            },
            _ => 0,
        };
        assert_eq!(values.map(count).sum::<usize>(), MAX_NOTES + 1);
    }

    #[test]
    fn notes_that_have_no_room_are_handed_on_by_themselves() {
        let mut coalescer = Coalescer::default();
        let full = (0..MAX_STEPS).map(|n| add(&n.to_string(), 1)).collect();
        assert!(
            coalescer
                .add(commit("p", full), None, note("k", "row"))
                .is_empty()
        );
        let taken = coalescer.take();
        assert_eq!(
            taken
                .iter()
                .map(|commit| commit.mutations.len())
                .collect::<Vec<_>>(),
            [MAX_STEPS, 1]
        );
    }

    #[test]
    fn what_does_not_combine_goes_after_what_was_there() {
        let mut coalescer = Coalescer::default();
        let first = commit("p", vec![set("k", "1")]);
        assert!(coalescer.add(first.clone(), None, None).is_empty());
        let second = commit("p", vec![add("k", 1)]);
        assert_eq!(coalescer.add(second.clone(), None, None), [first]);
        let conditional = Commit {
            conditions: vec![Condition::Absent("k".into())],
            ..commit("p", vec![set("k", "2")])
        };
        assert_eq!(
            coalescer.add(conditional.clone(), None, None),
            [second, conditional]
        );
        assert!(coalescer.take().is_empty());
    }

    #[test]
    fn it_is_bounded_by_partitions_and_by_changes() {
        let mut coalescer = Coalescer::default();
        for n in 0..MAX_PARTITIONS {
            assert!(
                coalescer
                    .add(commit(&n.to_string(), vec![add("k", 1)]), None, None)
                    .is_empty()
            );
        }
        assert_eq!(
            coalescer.add(commit("more", vec![add("k", 1)]), None, None).len(),
            MAX_PARTITIONS
        );
        assert_eq!(coalescer.take().len(), 1);
        for n in 0..MAX_STEPS {
            assert!(
                coalescer
                    .add(commit("p", vec![add(&n.to_string(), 1)]), None, None)
                    .is_empty()
            );
        }
        assert_eq!(
            coalescer.add(commit("p", vec![add("more", 1)]), None, None).len(),
            1
        );
    }
}
