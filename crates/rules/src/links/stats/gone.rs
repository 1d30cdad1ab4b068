//! The statistics of deleted links are removed, once no visit can be on its way to them any more: by entries
//! `gone/<time>/<id>`, written in the commit that deletes the link.

use tollgate_store::commit::{Commit, MAX_STEPS, Mutation, StoreError, literal};
use tollgate_store::ports::Store;

use super::log::log_of;
use super::{notes_of, tallies_of};

const PREFIX: &str = "gone/";
const TIME_DIGITS: usize = 12;
/// How long after its deletion a link's statistics are removed, in milliseconds: longer than a visit may take to be noted.
const AFTER_MS: u64 = 600_000;
/// Deleted links that are looked at together.
const BATCH: u32 = 16;
/// Commits of one step.
const MAX_COMMITS: usize = 32;

/// The entry of a link that is deleted now (Unix milliseconds).
pub fn entry(id: &str, now: u64) -> Mutation {
    Mutation::Set {
        key: format!("{PREFIX}{:0TIME_DIGITS$x}/{id}", now.saturating_add(AFTER_MS)),
        value: literal(""),
        expires: None,
    }
}

/// Removes some of what deleted links left. `true`: there is more.
pub async fn step<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let mut left = MAX_COMMITS;
    let items = store.scan(PREFIX, None, BATCH).await?;
    let full = items.len() == BATCH as usize;
    for item in items {
        let named = item
            .key
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('/'));
        let named = named.and_then(|(time, id)| Some((u64::from_str_radix(time, 16).ok()?, id)));
        if let Some((at, id)) = named {
            if at > now {
                return Ok(false);
            }
            for prefix in [notes_of(id), tallies_of(id), log_of(id)] {
                if !clear(store, &prefix, &mut left).await? {
                    return Ok(true);
                }
            }
        }
        remove(store, PREFIX, vec![item.key.clone()]).await?;
    }
    Ok(full)
}

/// Removes the entries whose keys begin so; `false` if that takes more than `left` commits.
async fn clear<S: Store>(store: &S, prefix: &str, left: &mut usize) -> Result<bool, StoreError> {
    loop {
        let limit = u32::try_from(MAX_STEPS).unwrap_or(1);
        let items = store.scan(prefix, None, limit).await?;
        if items.is_empty() {
            return Ok(true);
        }
        let Some(fewer) = left.checked_sub(1) else {
            return Ok(false);
        };
        *left = fewer;
        remove(store, prefix, items.into_iter().map(|item| item.key).collect()).await?;
    }
}

async fn remove<S: Store>(store: &S, partition: &str, keys: Vec<String>) -> Result<(), StoreError> {
    let commit = Commit {
        partition: partition.to_owned(),
        mutations: keys.into_iter().map(|key| Mutation::Delete { key }).collect(),
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}
