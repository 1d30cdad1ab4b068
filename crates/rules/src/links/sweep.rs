//! The sweep of links: removes links that have ended, and what deleted links leave behind.
//!
//! The entry `due/<time>/<code>/<id>` is in the link's partition, and is written in the same commit as the
//! link. Its time is when the link will have been over for `links.keep_expired`, as far as that is known. The
//! sweep then removes the link, or moves the entry on (a link that ends by idleness was visited meanwhile). A
//! deletion leaves such an entry with the link's record, for a time by which no click on the link can be
//! under way any more. Then its counters are removed, late clicks included. A claim leaves such an entry too,
//! with the link as it was: its former owner's index is cleared, and its counters stay.
//!
//! Everything is done by entries that stay until it is done, in an order that may be repeated. A batch is bounded, and its
//! commits follow one another, so that the writer is never busy with them alone.

use super::record::{Link, Record, link_key};
use super::{index, stats, strangers};
use crate::codes;
use crate::config::Config;
use crate::events;
use tollgate_store::commit::{Append, Commit, Condition, Item, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

/// The most entries that one batch looks at.
const BATCH: u32 = 64;
/// How long a deleted link's counters are kept, in milliseconds: longer than a click may take to be counted.
const LEFTOVERS_MS: u64 = 3_600_000;
/// An entry whose link cannot be read is looked at again after this long, in milliseconds.
const PUT_OFF_MS: u64 = 86_400_000;
const PREFIX: &str = "due/";
const TIME_DIGITS: usize = 12;
const LAST_TIME: u64 = (1 << 48) - 1;

/// An entry's key, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Due<'a> {
    at: u64,
    code: &'a str,
    id: &'a str,
}

impl<'a> Due<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let (time, named) = key.strip_prefix(PREFIX)?.split_once('/')?;
        let (code, id) = named.split_once('/')?;
        let at = u64::from_str_radix(time, 16).ok()?;
        codes::is_name(code).then_some(Self { at, code, id })
    }
}

fn key(at: u64, code: &str, id: &str) -> String {
    format!("{PREFIX}{:0TIME_DIGITS$x}/{code}/{id}", at.min(LAST_TIME))
}

/// When a link is to be looked at, Unix milliseconds; never, if it ends neither by time nor by being archived. That is when its end is
/// to be told, and then when it is to be removed.
pub(super) fn due(config: &Config, record: &Record, visited_at: Option<u64>) -> Option<u64> {
    let end = record.limits.end(record.created_at, visited_at);
    let removed = end.map(|end| end.saturating_add(config.links.keep_expired.as_millis()));
    let told = end.and_then(|end| notice_at(record, end));
    let archived = config.links.keep_archived.filter(|_| record.limits.archived);
    let archived = archived.map(|kept| record.updated_at.saturating_add(kept.as_millis()));
    let all = [removed, told, archived].into_iter().flatten();
    all.min().map(|due| due.min(LAST_TIME))
}

/// When this end is to be told, if it was not told yet.
fn notice_at(record: &Record, end: u64) -> Option<u64> {
    let seconds = record.notify_before.filter(|_| record.told_end != Some(end))?;
    Some(end.saturating_sub(seconds.saturating_mul(1_000)))
}

fn set(key: String, value: Vec<u8>) -> Mutation {
    let value = literal(value);
    Mutation::Set {
        key,
        value,
        expires: None,
    }
}

/// The entry of a link, to be written with it.
pub(super) fn entry(record: &Record, code: &str) -> Option<Mutation> {
    record.due.map(|at| set(key(at, code, &record.id), Vec::new()))
}

/// The mutations that bring the entry of a changed link up to date.
pub(super) fn moved(before: &Record, after: &Record, code: &str) -> Vec<Mutation> {
    if before.due == after.due {
        return Vec::new();
    }
    let old = before.due.map(|at| Mutation::Delete {
        key: key(at, code, &before.id),
    });
    old.into_iter().chain(entry(after, code)).collect()
}

/// The mutations that bring the entry of a link under another code up to date.
pub(super) fn renamed((before, from): (&Record, &str), (after, to): (&Record, &str)) -> Vec<Mutation> {
    let old = before.due.map(|at| Mutation::Delete {
        key: key(at, from, &before.id),
    });
    old.into_iter().chain(entry(after, to)).collect()
}

/// Deletes a link with its counters, if it is still the one that was read. `appends`: what that tells.
pub(super) async fn remove<S: Store>(
    store: &S,
    link: &Link,
    now: u64,
    appends: Vec<Append>,
) -> Result<bool, StoreError> {
    let removed = remove_if(store, link, now, None, appends).await?;
    if removed {
        // The link is gone for good, whatever becomes of its entries in the index: they are skipped, and the sweep
        // removes what is left of them.
        let _ = index::leave(store, link).await;
    }
    Ok(removed)
}

async fn remove_if<S: Store>(
    store: &S,
    link: &Link,
    now: u64,
    condition: Option<Condition>,
    appends: Vec<Append>,
) -> Result<bool, StoreError> {
    let Link { code, record, .. } = link;
    let partition = link_key(code);
    let later = key(now.saturating_add(LEFTOVERS_MS), code, &record.id);
    let due = record.due.map(|at| key(at, code, &record.id));
    let keys = [partition.clone()]
        .into_iter()
        .chain(record.counter_keys(code))
        .chain(due.filter(|due| *due != later));
    let mut mutations: Vec<_> = keys.map(|key| Mutation::Delete { key }).collect();
    mutations.push(set(later, record.to_bytes()));
    mutations.push(stats::gone(&record.id, now));
    let version = Condition::Version {
        key: partition.clone(),
        version: link.version,
    };
    let commit = Commit {
        conditions: [version].into_iter().chain(condition).collect(),
        mutations,
        appends,
        partition,
        ..Commit::default()
    };
    Ok(matches!(store.commit(commit).await?, Outcome::Committed(_)))
}

/// The entry by which the sweep takes away what a link leaves behind: `before` is the link as it was.
pub(super) fn leftovers(before: &Record, code: &str, now: u64) -> Mutation {
    let later = key(now.saturating_add(LEFTOVERS_MS), code, &before.id);
    let left = Record {
        goes_on: true,
        ..before.clone()
    };
    set(later, left.to_bytes())
}

/// Does a batch. `true`: there is more.
pub(super) async fn step<S: Store>(store: &S, config: &Config, now: u64) -> Result<bool, StoreError> {
    let items = store.scan(PREFIX, None, BATCH).await?;
    let full = items.len() == BATCH as usize;
    for item in items {
        let Some(due) = Due::of(&item.key) else {
            continue;
        };
        if due.at > now {
            return Ok(false);
        }
        match look(store, config, &due, &item, now).await {
            Err(StoreError::Invalid(_)) => put_off(store, &due, &item, now).await?,
            done => done?,
        }
    }
    Ok(full)
}

/// Does what an entry is for.
async fn look<S: Store>(
    store: &S,
    config: &Config,
    due: &Due<'_>,
    item: &Item,
    now: u64,
) -> Result<(), StoreError> {
    if !item.entry.value.is_empty() {
        let record = Record::of(&item.entry)?;
        return clear(store, due, item, record).await;
    }
    let link = Link::read(store, due.code).await?;
    let Some(mut link) = link.filter(|link| link.record.id == due.id && link.record.due == Some(due.at))
    else {
        return forget(store, due, &item.key, Vec::new()).await;
    };
    let before = link.record.clone();
    let end = link.record.limits.end(link.record.created_at, link.visited_at);
    let is_told_now = end.is_some_and(|end| notice_at(&link.record, end).is_some_and(|at| at <= now));
    if is_told_now {
        link.record.told_end = end;
    }
    let next = self::due(config, &link.record, link.visited_at);
    if next.is_some_and(|next| next <= now) {
        // The store's clock has the last word.
        let late = Condition::NowIn {
            start: Some(due.at),
            end: None,
        };
        if remove_if(store, &link, now, Some(late), Vec::new()).await? {
            index::leave(store, &link).await?;
        }
        return Ok(());
    }
    link.record.due = next;
    let is_told_now = is_told_now && !before.limits.archived && end.is_some_and(|end| now < end);
    let partition = link_key(due.code);
    let mut mutations = vec![set(partition.clone(), link.record.to_bytes())];
    mutations.extend(moved(&before, &link.record, due.code));
    let commit = Commit {
        conditions: vec![Condition::Version {
            key: partition.clone(),
            version: link.version,
        }],
        mutations,
        // With what says that it was told, so that it is told once.
        appends: match end.filter(|_| is_told_now) {
            Some(end) => {
                let of = (&*link.record.id, &*link.record.owner);
                events::link_expiring(config, &link.code, of, end)
            }
            None => Vec::new(),
        },
        partition,
        ..Commit::default()
    };
    // Refused: it has changed, and the entry with it.
    store.commit(commit).await.map(drop)
}

/// Removes what a deleted link left behind.
async fn clear<S: Store>(store: &S, due: &Due<'_>, item: &Item, record: Record) -> Result<(), StoreError> {
    let keys = record.counter_keys(due.code);
    // A link that became somebody else's goes on, and so do its counters.
    let there = Link::read(store, due.code).await?;
    let goes_on = record.goes_on || there.is_some_and(|there| there.record.id == record.id);
    let link = Link {
        code: due.code.to_owned(),
        record,
        version: 0,
        visits: 0,
        visited_at: None,
        unique_visitors: 0,
        bots: 0,
    };
    index::leave(store, &link).await?;
    if link.record.is_anonymous() {
        strangers::release(store, &link.record).await?;
    }
    let counters = keys.into_iter().filter(|_| !goes_on);
    let counters = counters.map(|key| Mutation::Delete { key });
    forget(store, due, &item.key, counters.collect()).await
}

/// Removes an entry, and what else there is to remove.
async fn forget<S: Store>(
    store: &S,
    due: &Due<'_>,
    key: &str,
    mut mutations: Vec<Mutation>,
) -> Result<(), StoreError> {
    mutations.push(Mutation::Delete { key: key.to_owned() });
    let commit = Commit {
        partition: link_key(due.code),
        mutations,
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

/// Moves an entry on that cannot be handled now, so that it does not hold up others.
async fn put_off<S: Store>(store: &S, due: &Due<'_>, item: &Item, now: u64) -> Result<(), StoreError> {
    let later = key(now.saturating_add(PUT_OFF_MS), due.code, due.id);
    forget(store, due, &item.key, vec![set(later, item.entry.value.clone())]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_their_time_and_read_back() {
        let first = key(9, "abc", "id");
        assert!(first < key(10, "abc", "id") && key(10, "abc", "id") < key(LAST_TIME, "abc", "id"));
        let due = Due {
            at: 9,
            code: "abc",
            id: "id",
        };
        assert_eq!(Due::of(&first), Some(due));
        assert_eq!(Due::of("due/x/abc/id"), None);
        assert_eq!(Due::of("due/9/abc"), None);
    }
}
