//! What must be there after a restart, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use tollgate_delivery::relay::record::{Control, Keys};
use tollgate_rules::links;

use super::{Checked, Model, ensure, read};
use crate::disk::State;
use crate::world::{SUBSCRIPTION, TOPICS};

/// The fate of the groups that were in doubt when the process ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovered {
    /// Groups that nobody was told of, and that are there.
    pub kept: u64,
    /// Deferred clicks that are not.
    pub clicks_lost: u64,
}

impl Model {
    /// A process has read what is on the disk: all that was durable, and at most what was in doubt.
    pub fn recovered(&mut self, state: &State, now: u64) -> Result<Recovered, String> {
        let mut recovered = Recovered::default();
        for group in std::mem::take(&mut self.in_doubt) {
            if group.revision > self.mirror.revision && group.revision <= state.revision {
                self.published(&group, now)?;
                recovered.kept += 1;
            }
        }
        for link in self.links.values_mut() {
            let expected = link.base + link.deferred;
            link.lost += std::mem::take(&mut link.pending);
            if !link.exact && !link.deleted {
                recovered.clicks_lost += expected.saturating_sub(link.visits);
            }
            (link.base, link.deferred) = (link.visits, 0);
        }
        ensure(state.revision == self.mirror.revision, || {
            format!(
                "revision {} was durable, and {} is there",
                self.mirror.revision, state.revision
            )
        })?;
        self.same_as(state)?;
        self.quota.forget();
        Ok(recovered)
    }

    /// Compares the store's state with the model's, entry by entry.
    pub fn same_as(&self, state: &State) -> Checked {
        ensure(state.entries.len() == self.mirror.entries.len(), || {
            "entries are missing, or too many".into()
        })?;
        for ((key, there), (wanted, entry)) in state.entries.iter().zip(&self.mirror.entries) {
            let same = key == wanted && (Arc::ptr_eq(there, entry) || there == entry);
            ensure(same, || format!("{wanted} is not what was durable"))?;
        }
        let lengths = |state: &State| state.topics.values().map(Vec::len).collect::<Vec<_>>();
        ensure(lengths(state) == lengths(&self.mirror), || {
            "messages are missing, or too many".into()
        })?;
        let messages = state
            .topics
            .values()
            .flatten()
            .zip(self.mirror.topics.values().flatten());
        for (there, message) in messages {
            let same = Arc::ptr_eq(there, message) || there == message;
            ensure(same, || {
                format!("the message {} is not what was durable", message.id)
            })?;
        }
        ensure(state.records == self.mirror.records, || {
            "idempotence records differ".into()
        })
    }

    pub fn dead_letters(&self, index: usize) -> BTreeSet<u64> {
        let prefix = Keys::new(TOPICS[index], SUBSCRIPTION).dead_prefix();
        let from = self
            .mirror
            .entries
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let keys = from
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&prefix));
        keys.filter_map(|key| Keys::sequence_of(key)).collect()
    }

    /// Whether the subscription of the topic at `index` is paused, durably.
    pub fn is_paused(&self, index: usize) -> bool {
        let key = Keys::new(TOPICS[index], SUBSCRIPTION).control();
        let entry = self.mirror.entries.get(key.as_str());
        entry.is_some_and(|entry| read(&key, &entry.value).is_ok_and(|control: Control| control.paused))
    }

    /// Whether every click that was taken is durable.
    pub fn clicks_are_counted(&self) -> bool {
        let mut links = self.links.values().filter(|link| !link.exact && !link.deleted);
        self.is_lossy || links.all(|link| link.visits == link.base + link.deferred)
    }

    /// Statistics have every visit that a link's counter has, once: noted, or counted.
    fn check_statistics(&self) -> Checked {
        let mut visits = BTreeMap::<&str, u64>::new();
        for (key, entry) in &self.mirror.entries {
            if let Some((id, more)) = links::stats::visits_of(key, &entry.value) {
                *visits.entry(id).or_default() += more;
            }
        }
        let mut counted = BTreeMap::<&str, [u64; 2]>::new();
        for (key, entry) in &self.mirror.entries {
            if let Some((id, [tallied, logged])) = links::stats::counted_of(key, &entry.value) {
                let sums = counted.entry(id).or_default();
                *sums = [sums[0] + tallied, sums[1] + logged];
            }
        }
        let is_there = |id: &str| self.links.get(id).is_some_and(|link| !link.deleted);
        for (id, [tallied, logged]) in counted.into_iter().filter(|(id, _)| is_there(id)) {
            ensure(tallied == logged, || {
                format!("{tallied} visits of {id} were counted, and {logged} logged")
            })?;
        }
        for (id, link) in self.links.iter().filter(|(_, link)| !link.deleted) {
            let told = visits.get(id.as_str()).copied().unwrap_or(0);
            ensure(told == link.visits, || {
                format!(
                    "statistics of {id} tell {told} visits, its counter {}",
                    link.visits
                )
            })?;
        }
        Ok(())
    }

    /// Nothing is under way any more: each message was delivered, or is a dead letter; every click was counted.
    pub fn check_end(&self) -> Checked {
        for (index, ledger) in self.ledgers.iter().enumerate() {
            let (last, dead) = (self.mirror.last_sequence(TOPICS[index]), self.dead_letters(index));
            ensure(ledger.watermark == last, || {
                format!(
                    "{}: the progress stands at {} of {last}",
                    TOPICS[index], ledger.watermark
                )
            })?;
            let lost = (1..=last).find(|s| !ledger.acknowledged.contains(s) && !dead.contains(s));
            ensure(lost.is_none(), || format!("{} {lost:?} was lost", TOPICS[index]))?;
        }
        self.check_statistics()?;
        for (id, link) in &self.links {
            let expected = link.base + link.deferred;
            let simple = !link.exact && !link.deleted;
            let right = link.visits == expected || self.is_lossy && link.visits < expected;
            ensure(!simple || right, || {
                format!("{} clicks on {id} are counted, not {expected}", link.visits)
            })?;
        }
        let doubled = self
            .sign_ups
            .iter()
            .find(|(body, count)| body.contains("with-key") && **count > 1);
        ensure(doubled.is_none(), || {
            format!("one key, several messages: {doubled:?}")
        })
    }
}
