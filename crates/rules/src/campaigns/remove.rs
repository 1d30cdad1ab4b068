//! Removing a campaign.
//!
//! One that has admitted nobody is gone at once, and its name is free. Any other must be closed, without open holds, and its topic
//! must be empty: then no message tells of a claim that is not there any more. Its claims may be many, so they are removed in
//! batches. Until that is done, and stored answers of its claims are forgotten, its record keeps the name taken.

use super::record::{self, Campaign, Codes};
use super::unknown;
use crate::idempotency;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Item, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// How often a removal is tried against concurrent changes of the same campaign.
const ATTEMPTS: usize = 8;
/// Entries that one commit removes.
const BATCH: u32 = 60;
/// Such commits of one step.
const COMMITS: usize = 16;
/// Campaigns that one step looks at.
const CAMPAIGNS: u32 = 64;
/// The prefix of the names of campaigns whose claims are being removed.
const PREFIX: &str = "removed-campaign/";

/// `DELETE /api/campaigns/{id}`: 204, also where it is repeated while claims are still being removed.
pub(super) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let mut lost = false;
    for _ in 0..ATTEMPTS {
        let found = record::load_record(world.store, id).await?;
        if lost && found.is_none() {
            return Ok(Response::empty(204));
        }
        let (campaign, version) = found.ok_or_else(|| unknown(id))?;
        if campaign.removed_at.is_some() {
            purge_one(world.store, id, world.now).await?;
            return Ok(Response::empty(204));
        }
        let lists = world
            .store
            .scan(&Campaign::left_over_key(id, ""), None, 1)
            .await?;
        let has_lists = campaign.eligible.is_some()
            || !lists.is_empty()
            || campaign.codes == Codes::Import
            || campaign.waitlist;
        let unused = match has_lists {
            false => unused(id, version),
            true => unused_with_lists(&campaign, version, world.now),
        };
        match world.store.commit(unused).await {
            Ok(Outcome::Committed(_)) => return Ok(Response::empty(204)),
            Ok(Outcome::Refused(Refusal::Condition(1))) => {}
            // It has changed in between.
            Ok(_) => continue,
            Err(StoreError::Unknown(_)) => {
                lost = true;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        if !campaign.closed {
            return Err(conflict("Claims were admitted: close it first."));
        }
        match world.store.commit(used(&campaign, version, world.now)).await {
            Ok(Outcome::Refused(Refusal::Condition(1))) => {
                let topic = &campaign.topic;
                let detail = format!("The topic {topic} still has messages: they may tell of its claims.");
                return Err(conflict(&detail));
            }
            Ok(Outcome::Refused(Refusal::Mutation(_))) => {
                return Err(conflict(
                    "Claims are held: they must be confirmed or come back first.",
                ));
            }
            // Looked at again: it is removed now, or has changed.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new(
        Kind::Conflict,
        "The campaign is being changed by others; try again.",
    ))
}

fn conflict(detail: &str) -> Problem {
    Problem::new(Kind::Conflict, detail)
}

fn as_it_was_read(id: &str, version: u64) -> Condition {
    Condition::Version {
        key: Campaign::partition(id),
        version,
    }
}

/// Removes a campaign that has admitted nobody. Condition 1: it has.
fn unused(id: &str, version: u64) -> Commit {
    Commit {
        partition: Campaign::partition(id),
        conditions: vec![
            as_it_was_read(id, version),
            Condition::Absent(Campaign::sequence_key(id)),
        ],
        mutations: singles(id),
        ..Commit::default()
    }
}

/// Marks a campaign as removed that has admitted nobody, and had lists of who may claim. Condition 1: it has.
fn unused_with_lists(campaign: &Campaign, version: u64, now: u64) -> Commit {
    let mut commit = used(campaign, version, now);
    if let Some(condition) = commit.conditions.get_mut(1) {
        *condition = Condition::Absent(Campaign::sequence_key(&campaign.id));
    }
    commit
}

/// Removes what a campaign has one of.
fn singles(id: &str) -> Vec<Mutation> {
    let keys = [
        Campaign::partition(id),
        Campaign::remaining_key(id),
        Campaign::held_key(id),
        Campaign::released_key(id),
        Campaign::burnt_key(id),
        Campaign::codes_key(id),
        Campaign::waiting_key(id),
        Campaign::sequence_key(id),
    ];
    keys.into_iter().map(|key| Mutation::Delete { key }).collect()
}

/// Marks a campaign as removed. Condition 1: messages tell of its claims; a mutation is refused: claims are held.
fn used(campaign: &Campaign, version: u64, now: u64) -> Commit {
    let id = campaign.id.as_str();
    let mut after = campaign.clone();
    after.removed_at = Some(now);
    let none_held = Mutation::Add {
        key: Campaign::held_key(id),
        delta: 0,
        min: None,
        max: Some(0),
    };
    let to_be_purged = Mutation::Set {
        key: [PREFIX, id].concat(),
        value: literal(""),
        expires: None,
    };
    Commit {
        partition: Campaign::partition(id),
        conditions: vec![
            as_it_was_read(id, version),
            Condition::TopicBelow {
                topic: campaign.topic.clone(),
                bytes: 1,
            },
        ],
        mutations: vec![record::set(&after), none_held, to_be_purged],
        ..Commit::default()
    }
}

/// From when on the name of a campaign that was removed then is free, Unix milliseconds, if nothing is left of it: stored answers
/// of its claims would be replayed to those of a new one.
pub(super) fn free_from(removed_at: u64) -> u64 {
    removed_at.saturating_add(idempotency::TTL_MS)
}

/// Removes a bounded part of what is left of campaigns that were removed. `true`: there is more. To be called again after an error.
///
/// # Errors
/// Those of the store.
pub async fn purge<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let mut has_more = false;
    for item in store.scan(LEFT_OVER, None, CAMPAIGNS).await? {
        has_more |= purge_list(store, &item, now).await?;
    }
    for item in store.scan(PREFIX, None, CAMPAIGNS).await? {
        let id = item.key.strip_prefix(PREFIX).unwrap_or_default();
        has_more |= purge_one(store, id, now).await?;
    }
    Ok(has_more)
}

/// What begins the keys of lists that no record names.
const LEFT_OVER: &str = "left-over/";

/// Removes a bounded part of a list of who may claim, if it is left over by now.
async fn purge_list<S: Store>(store: &S, item: &Item, now: u64) -> Result<bool, StoreError> {
    let named = item
        .key
        .strip_prefix(LEFT_OVER)
        .and_then(|rest| rest.split_once('/'));
    let Some((id, list)) = named else { return Ok(false) };
    if stored::count("time of a list", Some(&item.entry))? > now {
        return Ok(false);
    }
    let found = record::load_record(store, id).await?;
    if found.is_some_and(|(campaign, _)| campaign.eligible.as_deref() == Some(list)) {
        return Ok(false);
    }
    if purge_prefix(store, id, &Campaign::eligible_key(id, list, ""), &mut 0).await? {
        return Ok(true);
    }
    let mark = Mutation::Delete {
        key: item.key.clone(),
    };
    store.commit(deleting(id, vec![mark])).await?;
    Ok(false)
}

fn deleting(id: &str, mutations: Vec<Mutation>) -> Commit {
    Commit {
        partition: Campaign::partition(id),
        mutations,
        ..Commit::default()
    }
}

/// Removes the entries below a prefix, with at most [`COMMITS`] commits, those that `commits` counts included. `true`: there is more.
async fn purge_prefix<S: Store>(
    store: &S,
    id: &str,
    prefix: &str,
    commits: &mut usize,
) -> Result<bool, StoreError> {
    loop {
        let items = store.scan(prefix, None, BATCH).await?;
        if items.is_empty() {
            return Ok(false);
        }
        if *commits == COMMITS {
            return Ok(true);
        }
        *commits += 1;
        let delete = |item: Item| Mutation::Delete { key: item.key };
        let some = items.into_iter().map(delete).collect();
        store.commit(deleting(id, some)).await?;
    }
}

async fn purge_one<S: Store>(store: &S, id: &str, now: u64) -> Result<bool, StoreError> {
    let found = record::load_record(store, id).await?;
    let Some((removed_at, version)) =
        found.and_then(|(campaign, version)| Some((campaign.removed_at?, version)))
    else {
        return Ok(false);
    };
    let mut commits = 0;
    for prefix in Campaign::purged_prefixes(id) {
        if purge_prefix(store, id, &prefix, &mut commits).await? {
            return Ok(true);
        }
    }
    if free_from(removed_at) <= now {
        let mut mutations = singles(id);
        mutations.push(Mutation::Delete {
            key: [PREFIX, id].concat(),
        });
        let rest = Commit {
            partition: Campaign::partition(id),
            conditions: vec![as_it_was_read(id, version)],
            mutations,
            ..Commit::default()
        };
        store.commit(rest).await?;
    }
    Ok(false)
}
