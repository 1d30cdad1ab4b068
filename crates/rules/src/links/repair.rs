//! Once per store: what earlier versions left undone, in two parts, one after the other. Links that are missing
//! from their owner's list are entered there, and all links are entered under their URLs; anonymous links are
//! counted, and links that end by time get their entry for the sweep. Then the tokens of anonymous links are made
//! to lead to them.
//!
//! Links are gone through by code, a batch at a time; how far it has come is in the store, and so is that it is done.
//! A batch may be done twice; what it counts is committed together with how far it has come.

use super::record::{Link, Record, link_key};
use super::{index, strangers, sweep};
use crate::config::{Config, MAX_IDLE_SECONDS};
use tollgate_store::commit::{Commit, Condition, Entry, Item, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

/// The most links of one batch.
const BATCH: u32 = 64;
/// How far the parts have come: the key of the last link, or [`DONE`].
const PARTS: [(Part, &str); 2] = [
    (Part::Indexes, "links/repair/1"),
    (Part::Tokens, "links/repair/2"),
];
const DONE: &str = "done";

#[derive(Clone, Copy)]
enum Part {
    Indexes,
    Tokens,
}

/// Does a batch. `true`: there is more.
pub(super) async fn step<S: Store>(store: &S, config: &Config, now: u64) -> Result<bool, StoreError> {
    let keys = PARTS.map(|(_, key)| key.to_owned());
    let found = store.get(strangers::PARTITION, &keys).await?;
    for ((part, key), progress) in PARTS.into_iter().zip(found) {
        let come = progress
            .as_ref()
            .map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        if come.as_deref() != Some(DONE) {
            let more = batch(store, config, now, part, key, (progress, come)).await?;
            return Ok(more || matches!(part, Part::Indexes));
        }
    }
    Ok(false)
}

/// Does a batch of one part: the links after `come`, which `progress` holds under `key`. `true`: there is more.
async fn batch<S: Store>(
    store: &S,
    config: &Config,
    now: u64,
    part: Part,
    key: &str,
    (progress, come): (Option<Entry>, Option<String>),
) -> Result<bool, StoreError> {
    let items = store.scan(&link_key(""), come.as_deref(), BATCH).await?;
    let mut anonymous = 0;
    for item in &items {
        let mended = match part {
            Part::Indexes => mend(store, config, item, now).await,
            Part::Tokens => name(store, item).await.map(|()| false),
        };
        match mended {
            Ok(counted) => anonymous += i64::from(counted),
            // What cannot be read cannot be repaired.
            Err(StoreError::Invalid(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let last = items.last().map_or(DONE, |item| item.key.as_str());
    let condition = Condition::unchanged(key, progress.as_ref().map(|entry| entry.version));
    let mut mutations = vec![Mutation::Set {
        key: key.to_owned(),
        value: literal(last),
        expires: None,
    }];
    if anonymous > 0 {
        mutations.push(strangers::add(anonymous));
    }
    let commit = Commit {
        partition: strangers::PARTITION.to_owned(),
        conditions: vec![condition],
        mutations,
        ..Commit::default()
    };
    // Refused: another is at it.
    store.commit(commit).await?;
    Ok(last != DONE)
}

/// Makes the token of a link lead to it.
async fn name<S: Store>(store: &S, item: &Item) -> Result<(), StoreError> {
    let code = item.key.strip_prefix("link/").unwrap_or_default();
    match Record::of(&item.entry)?.manage {
        Some(digest) => strangers::name(store, &digest, code).await,
        None => Ok(()),
    }
}

/// Repairs one link. Whether it is to be counted as an anonymous one.
async fn mend<S: Store>(store: &S, config: &Config, item: &Item, now: u64) -> Result<bool, StoreError> {
    let code = item.key.strip_prefix("link/").unwrap_or_default();
    if Record::of(&item.entry)?.by_id {
        return Ok(false);
    }
    let Some(mut link) = Link::counted(store, code, item.entry.clone()).await? else {
        return Ok(false);
    };
    if link.record.by_id {
        return Ok(false);
    }
    index::mend(store, &link.record, code).await?;
    let before = link.record.clone();
    let record = &mut link.record;
    if before.is_anonymous() && before.limits.expire_after_idle.is_none() {
        // Its time begins now.
        let unused = now.saturating_sub(before.created_at.max(link.visited_at.unwrap_or(0)));
        let seconds = unused / 1_000 + config.links.anonymous_idle.as_millis() / 1_000;
        record.limits.expire_after_idle = Some(seconds.min(MAX_IDLE_SECONDS));
    }
    if before.due.is_none() {
        record.due = sweep::due(config, record, link.visited_at);
    }
    if *record != before {
        let key = link_key(code);
        let mut mutations = vec![Mutation::Set {
            key: key.clone(),
            value: literal(record.to_bytes()),
            expires: None,
        }];
        mutations.extend(sweep::moved(&before, record, code));
        let commit = Commit {
            conditions: vec![Condition::Version {
                key: key.clone(),
                version: link.version,
            }],
            mutations,
            partition: key,
            ..Commit::default()
        };
        if !matches!(store.commit(commit).await?, Outcome::Committed(_)) {
            return Err(StoreError::Unavailable(
                "a link was changed during its repair".into(),
            ));
        }
    }
    Ok(before.is_anonymous())
}
