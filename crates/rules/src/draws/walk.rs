//! All entries of a draw in the order of their sequences, in bounded memory.
//!
//! An entry's sequence is known only once it is admitted, so it cannot be a part of its key. In its place the key has a hint: how
//! many entries there were when it was made. Its commit is refused if more than [`LAG`] came in between. So an entry of sequence
//! `s` has a hint from `s - LAG` to `s - 1`, and whoever reads them in the order of their keys puts at most [`LAG`] and a page of
//! them aside.

use std::collections::BTreeMap;

use super::record::Entry;
use tollgate_store::commit::{MAX_PAGE, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// Entries that may come in while one is made.
pub const LAG: u64 = 4_096;

/// The key of an entry that was made when there were `hint` others.
pub fn key(draw: &str, hint: u64, entry: &str) -> String {
    format!("entry/{draw}/{hint:06x}/{entry}")
}

/// A place among a draw's entries.
pub struct Walk<'a, S> {
    store: &'a S,
    prefix: String,
    /// The key after which entries were not read yet.
    after: String,
    /// The sequence that is next.
    next: u64,
    aside: BTreeMap<u64, Entry>,
}

impl<'a, S: Store> Walk<'a, S> {
    /// From the entry with this sequence on.
    pub fn from(store: &'a S, draw: &str, sequence: u64) -> Self {
        Self {
            store,
            prefix: format!("entry/{draw}/"),
            after: key(draw, sequence.saturating_sub(LAG), ""),
            next: sequence,
            aside: BTreeMap::new(),
        }
    }

    /// The next `count` entries, which must have been admitted before.
    ///
    /// # Errors
    /// Those of the store; one of them is missing.
    pub async fn take(&mut self, count: u64) -> Result<Vec<Entry>, StoreError> {
        let mut taken = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        while (taken.len() as u64) < count {
            if let Some(entry) = self.aside.remove(&self.next) {
                taken.push(entry);
                self.next += 1;
                continue;
            }
            let items = self.store.scan(&self.prefix, Some(&self.after), MAX_PAGE).await?;
            let Some(last) = items.last() else {
                return Err(StoreError::Invalid(format!("entry {} is missing", self.next)));
            };
            self.after.clone_from(&last.key);
            for item in &items {
                let entry: Entry = stored::decode("entry", &item.entry)?;
                let sequence = entry.sequence.known().unwrap_or_default();
                if sequence >= self.next {
                    self.aside.insert(sequence, entry);
                }
            }
        }
        Ok(taken)
    }
}
