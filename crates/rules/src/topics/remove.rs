//! Deleting a topic, with its messages and whoever gets them.
//!
//! First its consumers go, each by a commit of its own with what is kept of it; then one commit says up to which sequence its
//! messages went ([`tollgate_store::deleted`]). What comes at the same time is either among those, or the first of the topic that
//! has the name next: sequences go on. Messages that are to come later know which topic of the name they were posted to, and
//! come on the condition that it is that one still.

use super::{Consumers, found, is_configured};
use crate::forward::delayed;
use crate::keys;
use crate::world::World;
use crate::{groups, subscriptions};
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::query::Query;
use tollgate_delivery::subscriptions::Source;
use tollgate_store::commit::{Append, Commit, Mutation, Outcome, Part, StoreError, literal};
use tollgate_store::deleted;
use tollgate_store::ports::Store;

/// How often a deletion is tried against concurrent changes of the same topic.
const ATTEMPTS: usize = 8;

/// `DELETE /api/topics/{topic}?force=`: 204. 409 where it has subscriptions or groups, unless `force=true` has them go with it;
/// those of the file never go. A topic of the configuration is there afterwards, and empty.
///
/// # Errors
/// 404 for a topic that is not there, and those of the store; what was done stays done.
pub async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Topics).await?;
    let query = Query::of(request, &["force"])?;
    let force = match query.text("force") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::field("query:force", "must be true or false")),
    };
    let consumers = Consumers::of_topic(world, name).await?;
    if let Some(one) = consumers
        .subscriptions
        .iter()
        .find(|one| one.source == Source::File)
    {
        let name = &one.settings.name;
        let detail = format!("Its subscription {name} is defined in tollgate.toml; take it out there first.");
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let (pushed, pulled) = (consumers.subscriptions.len(), consumers.groups.len());
    let is_there = pushed + pulled > 0
        || is_configured(&world.settings.config, name)
        || found(world.store, name).await?.is_some()
        || delayed::any(world.store, name).await?;
    if !is_there {
        return Err(Problem::not_found());
    }
    if pushed + pulled > 0 && !force {
        let detail = format!(
            "It has subscriptions ({pushed}) and groups ({pulled}): with force=true they go with it."
        );
        return Err(Problem::new(Kind::Conflict, detail));
    }
    remove_consumers(world, name, consumers).await?;
    empty(world, name).await
}

/// Removes its subscriptions and groups. One that is changed meanwhile is looked at again.
async fn remove_consumers<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    mut consumers: Consumers,
) -> Result<(), Problem> {
    for _ in 0..ATTEMPTS {
        if consumers.is_empty() {
            return Ok(());
        }
        for one in &consumers.subscriptions {
            settled(subscriptions::delete(world, topic, &one.settings.name).await)?;
        }
        for one in &consumers.groups {
            settled(groups::delete(world, topic, &one.name).await)?;
        }
        consumers = Consumers::of_topic(world, topic).await?;
    }
    Err(busy())
}

/// Removed, gone already, or changed at the same time: the next look tells.
fn settled(removed: Result<Response, Problem>) -> Result<(), Problem> {
    match removed {
        Err(problem) if !matches!(problem.kind, Kind::NotFound | Kind::Conflict) => Err(problem),
        _ => Ok(()),
    }
}

/// Lets its messages go, in one commit: up to an ending of its own, which nobody sees, so that it need not be known how far the topic
/// reaches. Whatever is appended at the same moment is before it or after it, in every store.
async fn empty<S: Store>(world: &World<'_, S>, topic: &str) -> Result<Response, Problem> {
    for _ in 0..ATTEMPTS {
        let ending = Append {
            topic: topic.to_owned(),
            id: ids::token(&(world.fresh)(), ids::ID_LENGTH),
            key: String::new(),
            kind: deleted::ENDING.to_owned(),
            content_type: String::new(),
            attributes: Vec::new(),
            payload: literal(""),
        };
        let commit = Commit {
            partition: deleted::PARTITION.to_owned(),
            mutations: vec![Mutation::Set {
                key: deleted::key(topic),
                value: vec![Part::Sequence(0)],
                expires: None,
            }],
            appends: vec![ending],
            ..Commit::default()
        };
        match world.store.commit(commit).await {
            Ok(Outcome::Committed(_)) => return Ok(Response::empty(204)),
            // Perhaps it was done: once more is the same, a little later.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

fn busy() -> Problem {
    Problem::new(Kind::Conflict, "The topic is being changed by others; try again.")
}
