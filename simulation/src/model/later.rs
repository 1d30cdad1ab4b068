//! Messages that are to come: each comes once, not before its time, and none is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checked, ensure};

/// What is durable of them.
#[derive(Debug, Default)]
pub struct Later {
    /// When each is due, Unix milliseconds, until it has come.
    to_come: BTreeMap<String, u64>,
    came: BTreeSet<String>,
}

/// The time and the message that a key of an entry names.
fn parts(rest: &str) -> Result<(u64, &str), String> {
    let mut parts = rest.split('/');
    let due = parts.next().and_then(|due| due.parse().ok());
    let id = parts.next_back();
    due.zip(id)
        .ok_or_else(|| format!("delayed/{rest} names no message"))
}

impl Later {
    /// The entry of one was written, or removed by a group of the time `now` with these messages.
    pub fn changed(&mut self, rest: &str, is_there: bool, now: u64, came: &BTreeSet<&str>) -> Checked {
        let (due, id) = parts(rest)?;
        if is_there {
            ensure(!self.came.contains(id), || {
                format!("{id} has come, and is to come")
            })?;
            self.to_come.insert(id.to_owned(), due);
            return Ok(());
        }
        ensure(came.contains(id), || {
            format!("{id} is forgotten, and has not come")
        })?;
        ensure(now >= due, || format!("{id} came at {now}, and is due at {due}"))?;
        self.to_come.remove(id);
        self.came.insert(id.to_owned());
        Ok(())
    }

    /// A message came: if it was to come, its entry is gone.
    pub fn came(&self, id: &str) -> Checked {
        ensure(!self.to_come.contains_key(id), || {
            format!("{id} came, and is still to come")
        })
    }

    /// Whether it is known.
    pub fn knows(&self, id: &str) -> bool {
        self.to_come.contains_key(id) || self.came.contains(id)
    }

    /// Those that have not come.
    pub fn waiting(&self) -> usize {
        self.to_come.len()
    }

    /// Those that have.
    pub fn arrived(&self) -> usize {
        self.came.len()
    }
}
