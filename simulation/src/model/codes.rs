//! The codes that a campaign imports: each is given to one claim.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sha2::{Digest as _, Sha256};
use tollgate_api::ids::hex;
use tollgate_rules::campaigns::{Campaign, Claim};

use super::{Checked, Model, ensure};
use crate::disk::State;

/// Bytes of a code's hash by which it is known.
const HASH: usize = 16;

/// A claim has its code, and no other claim has it, or ever had.
pub(super) fn given(given: &mut BTreeMap<String, String>, claim: &Claim) -> Checked {
    let Some(code) = &claim.code else {
        return Err(format!("{} has no code", claim.id));
    };
    let before = given.insert(code.clone(), claim.id.clone());
    ensure(before.as_ref().is_none_or(|before| *before == claim.id), || {
        format!("{code} was given to {before:?} and to {}", claim.id)
    })
}

/// What is free was given to nobody, and is enough for what is left.
pub(super) fn check(mirror: &State, id: &str, given: &BTreeMap<String, String>, left: u64) -> Checked {
    let free = values(mirror, &Campaign::pool_prefix(id));
    let distinct: BTreeSet<&String> = free.iter().collect();
    ensure(distinct.len() == free.len(), || {
        format!("a code of {id} is free twice")
    })?;
    let both = free.iter().find(|code| given.contains_key(*code));
    ensure(both.is_none(), || format!("{both:?} was given out, and is free"))?;
    ensure(free.len() as u64 >= left, || {
        format!("{left} units of {id} are left, and {} codes", free.len())
    })
}

fn values(mirror: &State, prefix: &str) -> Vec<String> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let entries = mirror.entries.range::<str, _>(from);
    let entries = entries.take_while(|(key, _)| key.starts_with(prefix));
    let text = entries.map(|(_, entry)| String::from_utf8_lossy(&entry.value).into_owned());
    text.collect()
}

impl Model {
    /// An import was answered: every code of it is there, free or given out.
    pub fn imported<'a>(
        &self,
        id: &str,
        codes: impl Iterator<Item = &'a str>,
        quantity: Option<u64>,
    ) -> Checked {
        let Some(campaign) = self.campaigns.get(id) else {
            return Err(format!("codes of {id}, which does not exist"));
        };
        let free = values(&self.mirror, &Campaign::pool_prefix(id));
        let given = campaign.codes.iter().flat_map(BTreeMap::keys);
        let all: BTreeSet<&str> = free.iter().chain(given).map(String::as_str).collect();
        for code in codes {
            let hash = hex(&Sha256::digest(code)[..HASH]);
            let known = self
                .mirror
                .entries
                .contains_key(&*Campaign::imported_key(id, &hash));
            ensure(known && all.contains(code), || {
                format!("{code} was imported, and is not there")
            })?;
        }
        ensure(quantity.is_some_and(|told| told <= campaign.quantity), || {
            format!("{quantity:?} codes of {id} were told, of {}", campaign.quantity)
        })
    }
}
