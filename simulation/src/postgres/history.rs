//! Which version each key had when: what a gateway answers from memory must have been true within the bound.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// The versions of keys, 0: absent, and when they became durable, microseconds since the beginning.
#[derive(Default)]
pub struct History(RefCell<BTreeMap<String, Vec<(u64, u64)>>>);

impl History {
    /// A key has another version.
    pub fn changed(&self, key: &str, version: u64, now: u64) {
        let mut all = self.0.borrow_mut();
        all.entry(key.to_owned()).or_default().push((now, version));
    }

    /// When the key last got this version, if it ever did.
    pub fn since(&self, key: &str, version: u64) -> Option<u64> {
        let all = self.0.borrow();
        let changes = all.get(key)?;
        changes
            .iter()
            .rev()
            .find(|(_, known)| *known == version)
            .map(|(at, _)| *at)
    }

    /// Whether the key had this version at `since`, or at any time after it.
    pub fn was_so(&self, key: &str, version: u64, since: u64) -> bool {
        let all = self.0.borrow();
        let changes = all.get(key).map_or(&[][..], Vec::as_slice);
        for (at, known) in changes.iter().rev() {
            if *known == version {
                return true;
            }
            if *at < since {
                return false;
            }
        }
        version == 0
    }
}
