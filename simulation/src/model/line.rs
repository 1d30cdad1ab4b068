//! The line of a campaign that is sold out: whoever was told a place keeps it until it is a claim, or is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Deserialize;
use tollgate_store::plan;

use super::{Checked, Model, ensure, read};
use crate::disk::State;

/// Who is in line, and was.
#[derive(Debug, Default)]
pub struct Line {
    /// By key.
    places: BTreeMap<String, Place>,
    /// Everybody who ever had a place.
    had: BTreeSet<String>,
    /// Places that became claims.
    served: u64,
    /// Who has asked to leave, ever.
    leaving: BTreeSet<String>,
    /// Places that went with the group that is being looked at, and how many there were before it.
    gone: Vec<Place>,
    stood: usize,
}

/// A place as it is stored.
#[derive(Clone, Debug, Deserialize)]
struct Place {
    user: String,
    claim: String,
}

fn campaign_of(key: &str) -> &str {
    key.split('/').nth(1).unwrap_or("")
}

fn count(mirror: &State, prefix: &str) -> usize {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let entries = mirror.entries.range::<str, _>(from);
    entries.take_while(|(key, _)| key.starts_with(prefix)).count()
}

impl Line {
    /// How many are in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many users ever had a place, and places that became claims.
    pub fn seen(&self) -> (u64, u64) {
        (self.had.len() as u64, self.served)
    }

    /// A user is about to give up its place.
    pub fn may_leave(&mut self, user: &str) {
        self.leaving.insert(user.to_owned());
    }

    /// The line, what leads to it and its counter agree.
    pub(super) fn check(&self, mirror: &State, id: &str) -> Checked {
        let (line, waiters) = (
            count(mirror, &format!("line/{id}/")),
            count(mirror, &format!("waiter/{id}/")),
        );
        let counter = mirror.entries.get(format!("waiting/{id}").as_str());
        let counter = counter.map_or(Some(0), |entry| plan::counter(&entry.value));
        let same = line == waiters && counter == i64::try_from(line).ok() && line == self.len();
        ensure(same, || {
            format!("{line} places in the line of {id}, {waiters} waiters, {counter:?} counted")
        })
    }
}

impl Model {
    /// A place came, or went.
    pub(super) fn line_changed(&mut self, key: &str, value: Option<&[u8]>) -> Checked {
        let campaign = self.campaigns.entry(campaign_of(key).to_owned()).or_default();
        let line = campaign.line.get_or_insert_default();
        match value {
            Some(value) => {
                let place: Place = read(key, value)?;
                line.had.insert(place.user.clone());
                line.places.insert(key.to_owned(), place);
            }
            None => line.gone.extend(line.places.remove(key)),
        }
        Ok(())
    }

    /// Of a group: who left a line has a claim, wanted to go, or may have no more; and nobody overtook. `told`: claims of which
    /// messages tell, and their campaigns.
    pub(super) fn check_lines(&mut self, told: &BTreeMap<String, String>) -> Checked {
        for (id, campaign) in &mut self.campaigns {
            let Some(line) = &mut campaign.line else { continue };
            let gone = std::mem::take(&mut line.gone);
            for place in &gone {
                let has_all = campaign.by_user.get(&place.user).copied().unwrap_or(0) >= campaign.per_user;
                let is_served = campaign.fates.contains_key(&place.claim);
                line.served += u64::from(is_served);
                let left = is_served || line.leaving.contains(&place.user) || has_all;
                ensure(left, || {
                    format!("{} lost its place in the line of {id}", place.user)
                })?;
            }
            let stood = std::mem::replace(&mut line.stood, line.places.len());
            let still = stood > gone.len();
            for claim in told.iter().filter(|(_, of)| *of == id).map(|(claim, _)| claim) {
                let is_new = campaign
                    .fates
                    .get(claim)
                    .is_some_and(|fate| fate.history.len() == 1);
                let is_ours = gone.iter().any(|place| place.claim == *claim);
                // Somebody stood there all the time.
                ensure(!still || !is_new || is_ours, || {
                    format!("{claim} of {id} has overtaken a line")
                })?;
            }
        }
        Ok(())
    }

    /// A user was told that it has a place.
    pub fn told_a_place(&self, id: &str, user: &str) -> Checked {
        let line = self.campaigns.get(id).and_then(|known| known.line.as_ref());
        ensure(line.is_some_and(|line| line.had.contains(user)), || {
            format!("{user} was told a place in the line of {id}, which is not durable")
        })
    }
}
