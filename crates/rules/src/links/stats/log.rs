//! The log of a link's newest visits: `log/<id>/head`, and full pages of it `log/<id>/p<number>`.
//!
//! A fold appends what notes told to the page in the head. A page that is full is set beside it, for good, and the ones that
//! are older than the newest `keep` visits go in the same commit. So the log is a ring of pages: the number of a page and
//! the number of a visit say where it is, and neither changes. A row stands for visits that came together with the
//! same headers; each has a number.
//!
//! Bounds: a visit takes at most [`MAX_ROW`](tollgate_store::plan::coalescer::MAX_ROW) bytes, and some 60 where pages are full of
//! the same few user agents. A link has at most `keep` rows and two pages more.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tollgate_store::commit::{Commit, Condition, Entry, MAX_STEPS, Mutation, Outcome, StoreError, literal};
use tollgate_store::packed;
use tollgate_store::ports::Store;

use super::super::record::MAX_RACES;
use super::seen::Seen;
use super::tallies_of;

/// The form that logs are written in.
const FORM: u8 = 1;
/// Rows of a full page.
const PAGE_ROWS: usize = 64;
/// Pages that a commit removes, for each that it adds: those that have become too old, and of a log that may be shorter now.
const REMOVED_EACH: u64 = 2;
/// What is kept of a visit as words, by place in [`Row::words`]. The order is that of [`words`].
const WORDS: usize = 7;

fn prefix(id: &str) -> String {
    ["log/", id, "/"].concat()
}

/// The prefix of everything that is logged of a link.
pub(super) fn log_of(id: &str) -> String {
    prefix(id)
}

pub(super) fn head_key(id: &str) -> String {
    prefix(id) + "head"
}

/// The key of the secret that the names of a log's clients are made with.
fn secret_key(id: &str) -> String {
    prefix(id) + "key"
}

fn page_key(id: &str, number: u64) -> String {
    format!("{}p{number:016x}", prefix(id))
}

/// Visits that came together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    at: u64,
    times: u32,
    client: [u8; 8],
    is_bot: bool,
    /// Places in [`Page::words`], plus one; 0: not known.
    words: [u16; WORDS],
}

/// Some rows, and the words in them, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    /// The number of its first visit.
    first: u64,
    words: Vec<String>,
    rows: Vec<Row>,
}

/// What is told of a visit in words.
fn words(seen: &Seen) -> [&str; WORDS] {
    let [_, device, os, browser, country, _] = &seen.values;
    let told = &seen.told;
    [
        &told.referrer,
        &told.agent,
        device,
        os,
        browser,
        country,
        &told.target,
    ]
}

impl Page {
    fn word(&mut self, word: &str) -> u16 {
        if word.is_empty() {
            return 0;
        }
        let at = self.words.iter().position(|there| there == word);
        let at = at.unwrap_or_else(|| {
            self.words.push(word.to_owned());
            self.words.len() - 1
        });
        u16::try_from(at + 1).unwrap_or(0)
    }

    fn push(&mut self, seen: &Seen, times: u64) {
        let words = words(seen).map(|word| self.word(word));
        self.rows.push(Row {
            at: seen.at,
            times: u32::try_from(times).unwrap_or(u32::MAX),
            client: seen.client.to_be_bytes(),
            is_bot: seen.is_bot,
            words,
        });
    }

    /// The number of the first visit after it.
    fn end(&self) -> u64 {
        self.rows
            .iter()
            .fold(self.first, |sum, row| sum.saturating_add(u64::from(row.times)))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, page) = packed::unpack::<(u8, Self)>(bytes)?;
        (form == FORM).then_some(page)
    }
}

/// The entry that leads to the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number of the page in it.
    page: u64,
    /// The oldest page that there may be.
    oldest: u64,
    /// Visits with a smaller number were removed by somebody.
    from: u64,
    last: Page,
}

impl Head {
    /// Of an entry's value; one that cannot be read begins anew.
    pub(super) fn of(entry: Option<&Entry>) -> Self {
        entry
            .and_then(|entry| packed::unpack::<(u8, Self)>(&entry.value))
            .filter(|(form, _)| *form == FORM)
            .map_or_else(Self::default, |(_, head)| head)
    }

    /// How many visits were ever appended, by an entry's value.
    pub(super) fn logged(value: &[u8]) -> u64 {
        let head = packed::unpack::<(u8, Self)>(value);
        head.map_or(0, |(_, head)| head.last.end())
    }

    /// Appends what was seen, oldest first, each so often; of more rows than are kept, the newest. What is to be changed for it
    /// is at most [`steps`] mutations.
    pub(super) fn append(mut self, id: &str, keep: u32, seen: &[(Seen, u64)]) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        let skipped = seen.len().saturating_sub(keep as usize);
        for (seen, times) in seen.iter().skip(skipped) {
            self.last.push(seen, *times);
            if self.last.rows.len() >= PAGE_ROWS {
                let next = Page {
                    first: self.last.end(),
                    ..Page::default()
                };
                let full = std::mem::replace(&mut self.last, next);
                mutations.push(set(page_key(id, self.page), &full));
                self.page += 1;
                let kept = u64::from(keep).div_ceil(PAGE_ROWS as u64);
                for _ in 0..REMOVED_EACH {
                    if self.oldest + kept < self.page {
                        mutations.push(Mutation::Delete {
                            key: page_key(id, self.oldest),
                        });
                        self.oldest += 1;
                    }
                }
            }
        }
        mutations.push(set(head_key(id), &self));
        mutations
    }
}

/// The mutations that appending so many rows takes at most.
pub(super) const fn steps(rows: usize) -> usize {
    (rows / PAGE_ROWS + 1) * (1 + REMOVED_EACH as usize) + 1
}

fn set(key: String, value: &impl Serialize) -> Mutation {
    Mutation::Set {
        key,
        value: literal(packed::pack(&(FORM, value), 1_024)),
        expires: None,
    }
}

/// A visit as it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::links) struct Visit {
    /// Unix milliseconds.
    pub at: u64,
    /// Of a machine.
    pub is_bot: bool,
    /// [`Seen::client`].
    pub(super) client: [u8; 8],
    words: [String; WORDS],
}

impl Visit {
    fn of(page: &Page, row: &Row) -> Self {
        let word = |at: u16| usize::from(at).checked_sub(1).and_then(|at| page.words.get(at));
        Self {
            at: row.at,
            is_bot: row.is_bot,
            client: row.client,
            words: row.words.map(|at| word(at).cloned().unwrap_or_default()),
        }
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.words
            .get(at)
            .map(String::as_str)
            .filter(|word| !word.is_empty())
    }

    /// The page that the link was on.
    pub fn referrer(&self) -> Option<&str> {
        self.word(0)
    }
    /// The user agent.
    pub fn agent(&self) -> Option<&str> {
        self.word(1)
    }
    /// Device, system and browser.
    pub fn machine(&self) -> [Option<&str>; 3] {
        [2, 3, 4].map(|at| self.word(at))
    }
    /// ISO 3166-1 alpha-2.
    pub fn country(&self) -> Option<&str> {
        self.word(5)
    }
    /// Where it led; of one that led nowhere, the path.
    pub fn target(&self) -> Option<&str> {
        self.word(6)
    }
}

/// Where a page of answers goes on: with the visits before this number, on this page of the log or an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::links) struct Place {
    pub(super) page: u64,
    pub(super) before: u64,
}

/// The newest visits, newest first: at most `limit`, after `place` if there is one, of the newest `keep`.
pub(in crate::links) async fn read<S: Store>(
    store: &S,
    id: &str,
    keep: u32,
    limit: usize,
    place: Option<Place>,
) -> Result<(Vec<Visit>, Option<Place>), StoreError> {
    let mut visits = Vec::new();
    if keep == 0 {
        return Ok((visits, None));
    }
    let partition = tallies_of(id);
    let found = store.get(&partition, &[head_key(id)]).await?;
    let head = Head::of(found.first().and_then(Option::as_ref));
    let oldest = head.from.max(head.last.end().saturating_sub(u64::from(keep)));
    let before = place.map_or(u64::MAX, |place| place.before);
    let mut number = place.map_or(head.page, |place| place.page.min(head.page));
    let mut page = match number == head.page {
        true => Some(head.last),
        false => load(store, &partition, id, number).await?,
    };
    while let Some(this) = page {
        if let ControlFlow::Break(place) = take(&this, number, (oldest, before), limit, &mut visits) {
            return Ok((visits, place));
        }
        page = match number.checked_sub(1) {
            Some(older) if older >= head.oldest => {
                number = older;
                load(store, &partition, id, older).await?
            }
            _ => None,
        };
    }
    Ok((visits, None))
}

/// Takes the visits of a page, newest first. It ends with the oldest one (`None`), or where there are enough of them.
fn take(
    page: &Page,
    number: u64,
    (oldest, before): (u64, u64),
    limit: usize,
    visits: &mut Vec<Visit>,
) -> ControlFlow<Option<Place>> {
    let mut end = page.end();
    for row in page.rows.iter().rev() {
        let start = end.saturating_sub(u64::from(row.times));
        let (from, to) = (start.max(oldest), end.min(before));
        end = start;
        for taken in 0..to.saturating_sub(from) {
            if visits.len() == limit {
                let before = to - taken;
                return ControlFlow::Break(Some(Place { page: number, before }));
            }
            visits.push(Visit::of(page, row));
        }
        if start <= oldest {
            return ControlFlow::Break(None);
        }
    }
    ControlFlow::Continue(())
}

async fn load<S: Store>(
    store: &S,
    partition: &str,
    id: &str,
    number: u64,
) -> Result<Option<Page>, StoreError> {
    let found = store.get(partition, &[page_key(id, number)]).await?;
    let entry = found.into_iter().next().flatten();
    // One that is not there any more was removed as too old.
    Ok(entry.and_then(|entry| Page::from_bytes(&entry.value)))
}

/// Removes all visits of a log, and returns how many there were. The names of its clients are others afterwards.
///
/// # Errors
/// Those of the store: some may be removed then, and the rest by another call.
pub(in crate::links) async fn clear<S: Store>(store: &S, id: &str, keep: u32) -> Result<u64, StoreError> {
    let partition = tallies_of(id);
    for _ in 0..MAX_RACES {
        let found = store.get(&partition, &[head_key(id)]).await?;
        let Some(entry) = found.into_iter().next().flatten() else {
            return Ok(0);
        };
        let mut head = Head::of(Some(&entry));
        let end = head.last.end();
        let count = end - head.from.max(end.saturating_sub(u64::from(keep)));
        let pages: Vec<_> = (head.oldest..head.page)
            .map(|number| page_key(id, number))
            .collect();
        for pages in pages.chunks(MAX_STEPS) {
            let delete = |key: &String| Mutation::Delete { key: key.clone() };
            let commit = Commit {
                partition: partition.clone(),
                mutations: pages.iter().map(delete).collect(),
                ..Commit::default()
            };
            store.commit(commit).await?;
        }
        (head.oldest, head.from) = (head.page, end);
        head.last = Page {
            first: end,
            ..Page::default()
        };
        let commit = Commit {
            partition: partition.clone(),
            conditions: vec![Condition::Version {
                key: head_key(id),
                version: entry.version,
            }],
            mutations: vec![set(head_key(id), &head), Mutation::Delete { key: secret_key(id) }],
            ..Commit::default()
        };
        if let Outcome::Committed(_) = store.commit(commit).await? {
            return Ok(count);
        }
    }
    Err(StoreError::Unavailable(
        "visits come too fast to remove them".into(),
    ))
}

/// The secret of a log, made from `fresh` where there is none.
pub(super) async fn secret<S: Store>(store: &S, id: &str, fresh: [u8; 16]) -> Result<Vec<u8>, StoreError> {
    let partition = tallies_of(id);
    let key = secret_key(id);
    for _ in 0..MAX_RACES {
        let found = store.get(&partition, std::slice::from_ref(&key)).await?;
        if let Some(entry) = found.into_iter().next().flatten() {
            return Ok(entry.value.to_vec());
        }
        let commit = Commit {
            partition: partition.clone(),
            conditions: vec![Condition::Absent(key.clone())],
            mutations: vec![Mutation::Set {
                key: key.clone(),
                value: literal(fresh.to_vec()),
                expires: None,
            }],
            ..Commit::default()
        };
        store.commit(commit).await?;
    }
    Err(StoreError::Unavailable(
        "the secret of a log is being removed".into(),
    ))
}

#[cfg(test)]
mod tests;
