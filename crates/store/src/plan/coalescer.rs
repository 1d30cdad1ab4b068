//! Deferred commits, combined: a thousand clicks on one link are one addition. A caller that defers often
//! keeps them here for a moment, and then hands on the combined commits.

use std::collections::BTreeMap;

use crate::commit::{Commit, MAX_STEPS, Mutation};

/// The most partitions whose changes are kept.
pub const MAX_PARTITIONS: usize = 1_024;

/// Deferred commits that were not handed on yet, by partition.
#[derive(Debug, Default)]
pub struct Coalescer(BTreeMap<String, Kept>);

#[derive(Debug)]
struct Kept {
    commit: Commit,
    /// Its mark, and how often exactly this commit was deferred. `None` for a commit that cannot be
    /// repeated, and once another one of its partition was combined with it.
    repeated: Option<(u64, u32)>,
}

impl Kept {
    /// The commit that all of it amounts to; from then on it cannot be repeated.
    fn settle(&mut self) -> &mut Commit {
        let times = self.repeated.take().map_or(1, |(_, times)| times);
        for mutation in &mut self.commit.mutations {
            if let Mutation::Add { delta, .. } = mutation {
                *delta = delta.saturating_mul(times.into());
            }
        }
        &mut self.commit
    }
}

impl Coalescer {
    /// Adds once more the commit that was deferred for the partition with this mark. `false` if that is not
    /// known (any more): then nothing was done. The thousandth click on a link in a moment costs a search and
    /// no allocation.
    pub fn again(&mut self, partition: &str, mark: u64) -> bool {
        let kept = self.0.get_mut(partition).and_then(|kept| kept.repeated.as_mut());
        match kept {
            Some((same, times)) if *same == mark && *times < u32::MAX => {
                *times += 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a commit, and returns the commits that are to be handed on now, in order. That is everything so
    /// far where there is no room or where the two do not combine, then the commit itself where it cannot be
    /// coalescer. `mark`: see [`Coalescer::again`].
    pub fn add(&mut self, commit: Commit, mark: Option<u64>) -> Vec<Commit> {
        let plain = commit.idempotence.is_none() && commit.conditions.is_empty() && commit.appends.is_empty();
        let there = self.0.get_mut(&commit.partition);
        if plain && let Some(there) = there {
            return match combine(&mut there.settle().mutations, commit.mutations) {
                Ok(()) => Vec::new(),
                Err(mutations) => {
                    let handed_on = self.take();
                    self.keep(Commit { mutations, ..commit }, mark);
                    handed_on
                }
            };
        }
        let mut handed_on = Vec::new();
        if !plain || self.0.len() >= MAX_PARTITIONS {
            handed_on = self.take();
        }
        match plain {
            true => self.keep(commit, mark),
            false => handed_on.push(commit),
        }
        handed_on
    }

    /// Gives everything out.
    pub fn take(&mut self) -> Vec<Commit> {
        let all = std::mem::take(&mut self.0).into_values();
        all.map(|mut kept| std::mem::take(kept.settle())).collect()
    }

    fn keep(&mut self, commit: Commit, mark: Option<u64>) {
        let repeated = mark.map(|mark| (mark, 1));
        let kept = Kept { commit, repeated };
        self.0.insert(kept.commit.partition.clone(), kept);
    }
}

/// Combines `new` with the kept commit, or gives it back. A number cannot be added to a value that is set,
/// and a commit has room for a bounded number of changes.
fn combine(there: &mut Vec<Mutation>, new: Vec<Mutation>) -> Result<(), Vec<Mutation>> {
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
    for mutation in new {
        match (there.iter_mut().find(|old| old.key() == mutation.key()), mutation) {
            (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => {
                *delta = delta.saturating_add(more);
            }
            (Some(old), mutation) => *old = mutation,
            (None, mutation) => there.push(mutation),
        }
    }
    Ok(())
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
            assert!(coalescer.add(commit("link/a", click), Some(7)).is_empty());
        }
        assert!(
            coalescer
                .add(commit("link/b", vec![add("visits/b", 1)]), Some(7))
                .is_empty()
        );
        let a = commit("link/a", vec![add("visits/a", 1_000), set("visited/a", "1000")]);
        assert_eq!(coalescer.take(), [a, commit("link/b", vec![add("visits/b", 1)])]);
        assert!(coalescer.take().is_empty());
    }

    #[test]
    fn what_is_repeated_counts_as_often_as_it_was_said() {
        let mut coalescer = Coalescer::default();
        assert!(!coalescer.again("link/a", 7), "nothing is known of it");
        let click = vec![add("visits/a", 2), set("visited/a", "now")];
        assert!(coalescer.add(commit("link/a", click), Some(7)).is_empty());
        for _ in 0..4 {
            assert!(coalescer.again("link/a", 7));
        }
        assert!(!coalescer.again("link/b", 7));
        assert!(!coalescer.again("link/a", 8), "another link has the code");
        assert!(
            coalescer
                .add(commit("link/a", vec![add("visits/a", 7)]), Some(7))
                .is_empty()
        );
        assert!(!coalescer.again("link/a", 7), "which of the two?");
        let all = commit("link/a", vec![add("visits/a", 17), set("visited/a", "now")]);
        assert_eq!(coalescer.take(), [all]);
        assert!(!coalescer.again("link/a", 7), "it was handed on");
    }

    #[test]
    fn what_does_not_combine_goes_after_what_was_there() {
        let mut coalescer = Coalescer::default();
        let first = commit("p", vec![set("k", "1")]);
        assert!(coalescer.add(first.clone(), None).is_empty());
        let second = commit("p", vec![add("k", 1)]);
        assert_eq!(coalescer.add(second.clone(), None), [first]);
        let conditional = Commit {
            conditions: vec![Condition::Absent("k".into())],
            ..commit("p", vec![set("k", "2")])
        };
        assert_eq!(coalescer.add(conditional.clone(), None), [second, conditional]);
        assert!(coalescer.take().is_empty());
    }

    #[test]
    fn it_is_bounded_by_partitions_and_by_changes() {
        let mut coalescer = Coalescer::default();
        for n in 0..MAX_PARTITIONS {
            assert!(
                coalescer
                    .add(commit(&n.to_string(), vec![add("k", 1)]), None)
                    .is_empty()
            );
        }
        assert_eq!(
            coalescer.add(commit("more", vec![add("k", 1)]), None).len(),
            MAX_PARTITIONS
        );
        assert_eq!(coalescer.take().len(), 1);
        for n in 0..MAX_STEPS {
            assert!(
                coalescer
                    .add(commit("p", vec![add(&n.to_string(), 1)]), None)
                    .is_empty()
            );
        }
        assert_eq!(coalescer.add(commit("p", vec![add("more", 1)]), None).len(), 1);
    }
}
