//! Making, changing and removing groups.

use serde::Deserialize;

use super::{answer, find};
use crate::clearing::{self, Remains};
use crate::settings::ATTEMPTS_BOUNDS;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{ids, json};
use tollgate_delivery::groups::{self, Defined, Head, MAX_GROUPS, Stored};
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::start::StartFrom;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;

/// Leases of a message before it is a dead letter, unless the caller says otherwise.
pub(super) const DEFAULT_ATTEMPTS: u32 = 10;
/// Begins the keys that say which groups are to be cleared.
const REMOVED: &str = "group-removed/";

/// A consumer group to be. What is left out takes its default.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewGroup")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Body {
    /// Where a new group begins: `oldest` (the default), `newest`, a sequence, or a time. One that is there goes on where it is.
    start_from: Option<StartFrom>,
    /// Leases of a message before it is a dead letter.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    max_attempts: Option<u32>,
    /// Whether one message of an ordering key is out at a time, in order.
    ordered: Option<bool>,
}

/// `PUT`: 201 with a new one, 200 with a changed one. An empty body makes a group with all defaults.
pub(super) async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body_or_default(request)?;
    let max_attempts = body.max_attempts.unwrap_or(DEFAULT_ATTEMPTS);
    let (least, most) = ATTEMPTS_BOUNDS;
    if !(least..=most).contains(&max_attempts) {
        let detail = format!("must be from {least} to {most}");
        return Err(Problem::field("#/maxAttempts", detail));
    }
    // Also where it is not needed: what is not valid is not valid.
    let next = first_sequence(world, topic, body.start_from.unwrap_or_default()).await?;
    let earlier = groups::find(world.store, topic, name).await?;
    let status = if earlier.is_none() { 201 } else { 200 };
    let (id, created_at) = match &earlier {
        Some(earlier) => (earlier.stored.id.clone(), earlier.stored.created_at),
        None => (ids::token(&(world.fresh)(), ids::ID_LENGTH), world.now),
    };
    let stored = Stored {
        id,
        max_attempts,
        ordered: body.ordered.unwrap_or(true),
        created_at,
        updated_at: world.now,
    };
    let mut commit = Commit {
        partition: groups::partition(topic),
        ..Commit::default()
    };
    let key = groups::key(topic, name);
    commit.mutations.push(set(key.clone(), &stored));
    match earlier.map(|earlier| earlier.version) {
        Some(version) => commit.conditions.push(Condition::Version { key, version }),
        None => {
            let head = Head {
                next,
                windows: Vec::new(),
                redrives: 0,
            };
            let keys = Keys::of_group(topic, &stored.id);
            commit.conditions.push(Condition::Absent(key));
            commit.mutations.push(set(keys.progress(), &head));
            commit.mutations.push(count(topic, 1, Some(MAX_GROUPS)));
        }
    }
    let version = match world.store.commit(commit).await? {
        Outcome::Committed(done) => done.version,
        Outcome::Refused(Refusal::Mutation(_)) => {
            let detail = format!("The topic has {MAX_GROUPS} groups, which is as many as it may have.");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Outcome::Refused(Refusal::Condition(_)) | Outcome::Replayed(_) | Outcome::Conflict => {
            return Err(changed());
        }
    };
    let defined = Defined {
        topic: topic.to_owned(),
        name: name.to_owned(),
        stored,
        version,
    };
    answer(world, &defined, status).await
}

/// The sequence at which a new consumer begins; refused where it is beyond the next message's.
pub(crate) async fn first_sequence<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    start: StartFrom,
) -> Result<u64, Problem> {
    let extent = extent(world.store, topic).await?;
    let end = extent.as_ref().map_or(0, |extent| extent.last).saturating_add(1);
    let first = start.first(world.store, topic, extent.as_ref()).await?;
    if first > end {
        let detail = format!("must be from 1 to {end}, the sequence of the next message");
        return Err(Problem::field("#/startFrom", detail));
    }
    Ok(first)
}

fn set(key: String, value: &impl serde::Serialize) -> Mutation {
    let value = serde_json::to_vec(value).expect("a struct of plain fields serialises");
    Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    }
}

fn count(topic: &str, delta: i64, max: Option<i64>) -> Mutation {
    Mutation::Add {
        key: groups::count_key(topic),
        delta,
        min: None,
        max,
    }
}

fn changed() -> Problem {
    Problem::new(Kind::Conflict, "The group was changed at the same time.")
}

/// `DELETE`: 204. What is leased is leased no more; dead letters go with it.
pub(crate) async fn delete<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?;
    let (key, keys) = (groups::key(topic, name), defined.keys());
    let commit = Commit {
        partition: groups::partition(topic),
        conditions: vec![Condition::Version {
            key: key.clone(),
            version: defined.version,
        }],
        mutations: vec![
            Mutation::Delete { key },
            // Without it nothing is leased any more.
            Mutation::Delete { key: keys.progress() },
            count(topic, -1, None),
            // What is left to be cleared, whatever happens from here on.
            Mutation::Set {
                key: format!("{REMOVED}{}", keys.prefix()),
                value: literal(groups::partition(topic)),
                expires: None,
            },
        ],
        ..Commit::default()
    };
    let Outcome::Committed(_) = world.store.commit(commit).await? else {
        return Err(changed());
    };
    // It is removed. What cannot be cleared now is cleared when another one is removed.
    let _ = clear_removed(world.store).await;
    Ok(Response::empty(204))
}

/// Clears the state of groups that were removed.
async fn clear_removed<S: Store>(store: &S) -> Result<(), StoreError> {
    clearing::clear_removed(store, REMOVED, |item| {
        let partition = String::from_utf8_lossy(&item.entry.value).into_owned();
        Remains {
            noted_in: partition.clone(),
            prefix: item.key.strip_prefix(REMOVED).unwrap_or_default().to_owned(),
            first: None,
            partition,
        }
    })
    .await
}
