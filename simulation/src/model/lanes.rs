//! Where gateways share a store: what each lane has given, and who may write what a lease is about.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Checked, ensure, read};
use crate::disk::GroupWrites;

/// What is durable of lanes and leases.
#[derive(Debug, Default)]
pub struct Lanes {
    /// The revision and the time of each.
    last: BTreeMap<u32, (u64, u64)>,
    given: BTreeSet<u64>,
    /// Who has each lease, by what its keys begin with.
    holders: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Lease {
    owner: String,
}

impl Lanes {
    /// A group is durable: it follows all of its lanes.
    pub fn written(&mut self, writes: &GroupWrites) -> Checked {
        for lane in &writes.lanes {
            let last = self.last.entry(*lane).or_default();
            ensure(writes.revision > last.0, || {
                format!("revision {} of lane {lane} follows {}", writes.revision, last.0)
            })?;
            ensure(writes.now >= last.1, || {
                format!(
                    "the time of lane {lane} ran back from {} to {}",
                    last.1, writes.now
                )
            })?;
            *last = (writes.revision, writes.now);
        }
        ensure(self.given.insert(writes.revision), || {
            format!("the revision {} was given twice", writes.revision)
        })
    }

    /// A lease was taken, renewed or given back.
    pub fn leased(&mut self, key: &str, value: Option<&[u8]>) -> Checked {
        let base = key.trim_end_matches("/lease");
        match value {
            Some(value) => drop(
                self.holders
                    .insert(base.to_owned(), read::<Lease>(key, value)?.owner),
            ),
            None => drop(self.holders.remove(base)),
        }
        Ok(())
    }

    /// A gateway has written this, which only the holder of the lease may.
    pub fn wrote(&self, key: &str, by: &str) -> Checked {
        let holder = self.holders.get(key.trim_end_matches("/progress"));
        ensure(by.is_empty() || holder.is_some_and(|holder| holder == by), || {
            format!("{by} wrote {key}, and {holder:?} has the lease")
        })
    }
}
