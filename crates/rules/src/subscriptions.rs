//! Push subscriptions: `/api/topics/{topic}/subscriptions…`. Scope `topics`.
//!
//! Those of `tollgate.toml` are read-only here, except for pause, resume, reset-breaker and redrive. Those made here are the entries
//! `subscription/<topic>/<name>`. Their secret is stored as it is, because signing needs it; it is shown once, when it is
//! made up, and is in no answer and no log after that.

mod body;
#[cfg(feature = "schema")]
pub(crate) mod describe;
mod replay;
mod status;
#[cfg(test)]
mod tests;
pub mod trial;
mod view;
mod write;

pub(crate) use write::delete;

pub use status::{Backlog, Lag, MessageDelivery, backlogs, dead_letter_counts, deliveries, lags};

use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::dead_letters;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Call;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_delivery::relay::record::{Control, Keys, PauseReason};
use tollgate_delivery::relay::restore;
use tollgate_delivery::subscriptions::{Defined, of_topic};
use tollgate_store::commit::{Commit, Mutation, StoreError, literal};
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;
use view::View;

/// Answers a call that is about subscriptions; 404 for any other. `topic` is a valid name; `name` is what stands in the
/// path, `""` for the list. Checks the caller's key itself.
pub async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let caller = keys::require(world.store, request, world.now, Scope::Topics).await?;
    if !name.is_empty() && !is_topic_name(name) {
        return Err(Problem::field("path:name", TOPIC_NAME_RULE));
    }
    let found = async || {
        Ok(find(world, topic, name)
            .await?
            .ok_or_else(Problem::not_found)?
            .keys())
    };
    match call {
        Call::ListSubscriptions => list(world, topic).await,
        Call::ReadSubscription => read(world, topic, name).await,
        Call::PutSubscription => write::put(world, request, &caller, topic, name).await,
        Call::DeleteSubscription => write::delete(world, topic, name).await,
        Call::PauseSubscription => pause(world, topic, name, true).await,
        Call::ResumeSubscription => pause(world, topic, name, false).await,
        Call::RetryNow => replay::retry_now(world, topic, name).await,
        Call::Replay => replay::replay(world, request, topic, name).await,
        Call::ResetBreaker => reset_breaker(world, topic, name).await,
        Call::ListDeadLetters => dead_letters::list(world, request, topic, found).await,
        Call::Redrive => dead_letters::redrive(world, request, found).await,
        Call::DeleteDeadLetters => dead_letters::remove(world, request, found).await,
        _ => Err(Problem::not_found()),
    }
}

/// The push subscriptions of a topic.
#[derive(serde::Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Subscriptions")
)]
struct Page {
    /// By name.
    subscriptions: Vec<View>,
}

/// All of a topic, by name: they are few enough for one answer (`MAX_STORED` and those of the file).
async fn list<S: Store>(world: &World<'_, S>, topic: &str) -> Result<Response, Problem> {
    let extent = extent(world.store, topic).await?;
    let mut subscriptions = Vec::new();
    for defined in of_topic(world.store, world.settings.config.subscriptions(), topic).await? {
        subscriptions.push(View::of(world.store, &defined, extent.as_ref(), world.now).await?);
    }
    Ok(Response::json(200, &Page { subscriptions }))
}

async fn read<S: Store>(world: &World<'_, S>, topic: &str, name: &str) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    answer(world, &defined, 200, None).await
}

/// The subscription of this topic and name.
async fn find<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
) -> Result<Option<Defined>, StoreError> {
    let file = world.settings.config.subscriptions();
    tollgate_delivery::subscriptions::find(world.store, file, topic, name).await
}

/// The subscription as an answer; `secret` is shown once, when it was made up.
async fn answer<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    status: u16,
    secret: Option<String>,
) -> Result<Response, Problem> {
    let extent = extent(world.store, &defined.topic).await?;
    let mut view = View::of(world.store, defined, extent.as_ref(), world.now).await?;
    if secret.is_some() {
        view.secret = secret;
    }
    Ok(Response::json(status, &view))
}

/// Pauses or resumes, also a subscription of the file. Both are idempotent. After the answer to a pause no delivery begins:
/// the relay looks before each. A resume also resets the circuit breaker.
async fn pause<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
    pause: bool,
) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let keys = defined.keys();
    let (control, _) = restore::poll(world.store, &keys).await?.control;
    let mut mutations = if pause { Vec::new() } else { reset(&keys) };
    if control.paused != pause {
        let control = if pause {
            Control::paused(PauseReason::Requested, world.now)
        } else {
            Control::resumed(world.now)
        };
        // Unconditional: of a pause and a resume at the same moment, the last one wins, as for two people at a switch.
        let value = serde_json::to_vec(&control).expect("a struct of plain fields serialises");
        mutations.push(Mutation::Set {
            key: keys.control(),
            value: literal(value),
            expires: None,
        });
    }
    change(world, &keys, mutations).await?;
    answer(world, &defined, 200, None).await
}

/// Closes the circuit breaker, also of a subscription of the file: the relay follows within a second.
async fn reset_breaker<S: Store>(world: &World<'_, S>, topic: &str, name: &str) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let keys = defined.keys();
    change(world, &keys, reset(&keys)).await?;
    answer(world, &defined, 200, None).await
}

/// The mutations that make the relay reset its breaker, and show it at once.
fn reset(keys: &Keys) -> Vec<Mutation> {
    let counted = Mutation::Add {
        key: keys.resets(),
        delta: 1,
        min: None,
        max: None,
    };
    let closed = Mutation::Delete { key: keys.breaker() };
    vec![counted, closed]
}

async fn change<S: Store>(
    world: &World<'_, S>,
    keys: &Keys,
    mutations: Vec<Mutation>,
) -> Result<(), StoreError> {
    if mutations.is_empty() {
        return Ok(());
    }
    let commit = Commit {
        partition: keys.partition().to_owned(),
        mutations,
        ..Commit::default()
    };
    world.store.commit(commit).await.map(drop)
}
