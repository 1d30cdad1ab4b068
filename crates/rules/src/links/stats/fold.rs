//! Notes become tallies. Each commit is about one link: it removes some of its notes, and writes the tallies that they belong
//! to, on the condition that notes and tallies are as they were read. The notes too: another fold may have counted them
//! before the tallies were read.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_store::commit::{
    Commit, Condition, Entry, Item, MAX_PAGE_BYTES, MAX_STEPS, Mutation, Outcome, StoreError, literal,
};
use tollgate_store::plan::coalescer::noted;
use tollgate_store::ports::Store;

use super::log::{self, Head};
use super::seen::Seen;
use super::tally::Tally;
use super::{HOUR, HOURS_KEPT, LOST, NOTES, all_key, tallies_of};

/// Notes that are looked at together.
pub(super) const PAGE: u32 = 1_000;
/// Links whose tallies are written together, each in a commit of its own.
const AT_ONCE: usize = 64;
/// Hours that one commit is about.
const MAX_HOURS: usize = 8;
const HOURS_OF_DAY: u64 = 24;

/// The key of an hour's tally.
pub(super) fn hour_key(id: &str, hour: u64) -> String {
    format!("{}h{hour:08}", tallies_of(id))
}

/// The key of a day's tally.
pub(super) fn day_key(id: &str, day: u64) -> String {
    format!("{}d{day:06}", tallies_of(id))
}

/// The notes of a link that wait to be folded.
struct Waiting {
    id: String,
    items: std::vec::IntoIter<Item>,
}

/// A part of them, which fits into a commit: the keys of notes with their versions, and what they say.
#[derive(Default)]
struct Part {
    notes: Vec<(String, u64)>,
    seen: Vec<(Seen, u64)>,
    hours: BTreeSet<u64>,
}

impl Part {
    /// Tallies that are written: of hours, their days, and all.
    fn tallies(&self) -> usize {
        let days: BTreeSet<_> = self.hours.iter().map(|hour| hour / HOURS_OF_DAY).collect();
        self.hours.len() + days.len() + 1
    }

    /// Whether another note of these hours, with so many rows, fits. The first one does.
    fn takes(&self, hours: &BTreeSet<u64>, rows: usize) -> bool {
        if self.notes.is_empty() {
            return true;
        }
        let together = Self {
            hours: self.hours.union(hours).copied().collect(),
            ..Self::default()
        };
        let log = log::steps(self.seen.len() + rows);
        together.hours.len() <= MAX_HOURS && together.tallies() + self.notes.len() + log < MAX_STEPS
    }
}

impl Waiting {
    /// The next part; `None` where there is none any more.
    fn next(&mut self) -> Option<Part> {
        let mut part = Part::default();
        while let Some(item) = self.items.as_slice().first() {
            // What cannot be read tells of no visit, and goes.
            let rows = noted(&item.entry.value).unwrap_or_default();
            let seen = rows
                .iter()
                .filter_map(|noted| Some((Seen::from_bytes(&noted.row)?, u64::from(noted.times))));
            let seen: Vec<_> = seen.collect();
            let hours: BTreeSet<_> = seen.iter().map(|(seen, _)| seen.hour()).collect();
            if !part.takes(&hours, seen.len()) {
                break;
            }
            part.hours.extend(hours);
            part.seen.extend(seen);
            let next = self.items.next();
            part.notes.extend(next.map(|item| (item.key, item.entry.version)));
        }
        Some(part).filter(|part| !part.notes.is_empty())
    }
}

/// The commit that folds a part of a link's notes. The log has the newest `keep` visits.
async fn commit<S: Store>(store: &S, id: &str, mut part: Part, keep: u32) -> Result<Commit, StoreError> {
    let partition = tallies_of(id);
    let mut tallies: BTreeMap<String, (Tally, Option<u64>)> = BTreeMap::new();
    for (seen, times) in &part.seen {
        let hour = seen.hour();
        let expires = (hour + 1 + HOURS_KEPT).saturating_mul(HOUR);
        let keys = [
            (hour_key(id, hour), Some(expires)),
            (day_key(id, hour / HOURS_OF_DAY), None),
            (all_key(id), None),
        ];
        for (key, expires) in keys {
            let (tally, _) = tallies.entry(key).or_insert_with(|| (Tally::default(), expires));
            tally.add(seen, *times);
        }
    }
    let logs = keep > 0 && !part.seen.is_empty();
    let mut keys: Vec<_> = tallies.keys().cloned().collect();
    keys.extend(logs.then(|| log::head_key(id)));
    let mut found = match keys.is_empty() {
        true => Vec::new(),
        false => store.get(&partition, &keys).await?,
    };
    let mut conditions = Vec::with_capacity(keys.len() + part.notes.len());
    let mut mutations = Vec::with_capacity(keys.len() + part.notes.len());
    if logs {
        let head = found.pop().flatten();
        conditions.push(as_read(log::head_key(id), head.as_ref()));
        // Notes of several threads are not in the order of time.
        part.seen.sort_by_key(|(seen, _)| seen.at);
        if id == LOST {
            // Those of a moment are told by a sample, and all counted.
            part.seen.iter_mut().for_each(|(_, times)| *times = 1);
        }
        mutations = Head::of(head.as_ref()).append(id, keep, &part.seen);
    }
    for ((key, (new, expires)), found) in tallies.into_iter().zip(found) {
        conditions.push(as_read(key.clone(), found.as_ref()));
        // A tally that cannot be read is begun anew: it would hold up all that come after it.
        let read = found.and_then(|entry| Tally::from_bytes(&entry.value));
        let mut tally = read.unwrap_or_default();
        tally.merge(&new);
        mutations.push(Mutation::Set {
            key,
            value: literal(tally.into_bytes()),
            expires,
        });
    }
    for (key, version) in part.notes {
        mutations.push(Mutation::Delete { key: key.clone() });
        conditions.push(Condition::Version { key, version });
    }
    Ok(Commit {
        partition,
        conditions,
        mutations,
        ..Commit::default()
    })
}

/// That an entry is as it was read.
fn as_read(key: String, found: Option<&Entry>) -> Condition {
    Condition::unchanged(key, found.map(|entry| entry.version))
}

/// Folds some of the notes whose keys begin so; logs keep so many visits. `true`: there may be more, or somebody else folds them just now.
///
/// # Errors
/// Those of the store; what was folded stays folded.
pub async fn fold<S: Store>(store: &S, prefix: &str, keep: u32) -> Result<bool, StoreError> {
    let notes = store.scan(prefix, None, PAGE).await?;
    let more = is_page(&notes);
    Ok(items(store, notes, keep).await? || more)
}

/// Whether a scan of [`PAGE`] may have left some out: pages are bounded in bytes too, and an entry of notes may be large.
pub(super) fn is_page(notes: &[Item]) -> bool {
    notes.len() == PAGE as usize || bytes(notes) > MAX_PAGE_BYTES / 4
}

/// What they take in the store.
pub(super) fn bytes(notes: &[Item]) -> usize {
    let of_note = |item: &Item| item.key.len() + item.entry.value.len();
    notes.iter().map(of_note).sum()
}

/// Folds these notes. `true`: somebody else folds some of them just now.
pub(super) async fn items<S: Store>(store: &S, notes: Vec<Item>, keep: u32) -> Result<bool, StoreError> {
    let mut refused = false;
    let mut of_links: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for item in notes {
        let id = item.key.strip_prefix(NOTES).and_then(|rest| rest.split_once('/'));
        if let Some((id, _)) = id {
            of_links.entry(id.to_owned()).or_default().push(item);
        }
    }
    let of_link = |(id, items): (String, Vec<Item>)| Waiting {
        id,
        items: items.into_iter(),
    };
    let mut waiting: Vec<_> = of_links.into_iter().map(of_link).collect();
    while !waiting.is_empty() {
        let mut commits = Vec::new();
        let mut asked = Vec::new();
        for mut link in waiting.split_off(waiting.len().saturating_sub(AT_ONCE)) {
            if let Some(part) = link.next() {
                commits.push(commit(store, &link.id, part, keep).await?);
                asked.push(link);
            }
        }
        if commits.is_empty() {
            continue;
        }
        for (outcome, link) in store.commit_each(commits).await.into_iter().zip(asked) {
            // Refused: somebody else folds them. What is left of them is looked at the next time.
            match outcome? {
                Outcome::Committed(_) => waiting.push(link),
                _ => refused = true,
            }
        }
    }
    Ok(refused)
}
