//! Consumer groups: `/api/topics/{topic}/groups…`, for consumers that fetch messages themselves. Scope `topics`.
//!
//! A message is leased to one consumer at a time, by the store's clock: it is leased again only by a commit whose time is not
//! before the deadline, and acknowledged only by one whose time is. So neither a step of a clock nor a restart leases it twice.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod give_up;
mod lease;
mod manage;
mod settle;
pub mod sqs;
#[cfg(test)]
mod tests;

pub use lease::{LeaseWish, MAX_LEASED, is_empty_answer, join_leases, split_leases, without_wait};
pub(crate) use manage::{delete, first_sequence};

use serde::Serialize;

use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::dead_letters;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::{Call, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_delivery::groups::{self, Defined};
use tollgate_store::commit::{StoreError, Topic};
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// How often a call begins anew where others changed what it had read.
const MAX_TRIES: usize = 64;
/// The most windows that one commit changes, leaving room for its other steps.
const MAX_CHANGED: usize = 48;
/// Seconds of a lease, of a delay, and of an extension.
const SECONDS: (u64, u64) = (1, 43_200);
const MS_PER_SECOND: u64 = 1_000;

/// Whether the call is about groups.
pub fn answers(call: Call) -> bool {
    use Call::*;
    matches!(
        call,
        ListGroups
            | ReadGroup
            | PutGroup
            | DeleteGroup
            | LeaseMessages
            | AckMessages
            | NackMessages
            | ExtendLeases
            | ListGroupDeadLetters
            | DeleteGroupDeadLetters
            | RedriveGroup
    )
}

/// Answers a call that [`answers`] names. `topic` is a valid name; `name` is what stands in the path, `""` for the list. Checks
/// the caller's key itself.
pub async fn handle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Topics).await?;
    if !name.is_empty() && !is_topic_name(name) {
        return Err(Problem::field("path:group", TOPIC_NAME_RULE));
    }
    let found = async || Ok(find(world, topic, name).await?.keys());
    match call {
        Call::ListGroups => list(world, topic).await,
        Call::ReadGroup => answer(world, &find(world, topic, name).await?, 200).await,
        Call::PutGroup => manage::put(world, request, topic, name).await,
        Call::DeleteGroup => manage::delete(world, topic, name).await,
        Call::LeaseMessages => lease::lease(world, request, topic, name).await,
        Call::AckMessages => settle::ack(world, request, topic, name).await,
        Call::NackMessages => settle::nack(world, request, topic, name).await,
        Call::ExtendLeases => settle::extend(world, request, topic, name).await,
        Call::ListGroupDeadLetters => dead_letters::list(world, request, topic, found).await,
        Call::DeleteGroupDeadLetters => dead_letters::remove(world, request, found).await,
        Call::RedriveGroup => dead_letters::redrive(world, request, found).await,
        _ => Err(Problem::not_found()),
    }
}

async fn find<S: Store>(world: &World<'_, S>, topic: &str, name: &str) -> Result<Defined, Problem> {
    let found = groups::find(world.store, topic, name).await?;
    found.ok_or_else(Problem::not_found)
}

/// Too many others changed what this call had read.
fn busy() -> Problem {
    let detail = "Too many consumers of this group ask at once.";
    Problem::new(Kind::Unavailable, detail).with_retry_after(1)
}

/// A consumer group.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Group"))]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Its topic.
    topic: String,
    /// Its name.
    name: String,
    /// Leases of a message before it is a dead letter.
    max_attempts: u32,
    /// Whether one message of an ordering key is out at a time, in order.
    ordered: bool,
    /// The first sequence that was never looked at.
    next: u64,
    /// Messages that are not finished.
    lag: u64,
    /// Of these, leased now.
    leased: u64,
    /// Of these, looked at and not leased: they wait, or stand behind another one of their key.
    waiting: u64,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    created_at: u64,
    /// When it was changed last.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    updated_at: u64,
}

impl View {
    async fn of<S: Store>(
        world: &World<'_, S>,
        defined: &Defined,
        extent: Option<&Topic>,
    ) -> Result<Self, Problem> {
        let state = groups::state(world.store, &defined.keys()).await?;
        let state = state.ok_or_else(Problem::not_found)?;
        let lag = groups::lag(world.store, &defined.keys(), &state, extent).await?;
        let leased = leased(&state, world.now);
        Ok(Self {
            topic: defined.topic.clone(),
            name: defined.name.clone(),
            max_attempts: defined.stored.max_attempts,
            ordered: defined.stored.ordered,
            next: state.head.next,
            lag,
            leased,
            waiting: state.windows.len() as u64 - leased + (lag - state.kept(extent)),
            created_at: defined.stored.created_at,
            updated_at: defined.stored.updated_at,
        })
    }
}

/// The consumer groups of a topic.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Groups"))]
pub(super) struct Page {
    /// By name.
    groups: Vec<View>,
}

/// How far behind a consumer group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "GroupLag")
)]
pub struct Lag {
    /// Its name.
    pub name: String,
    /// Messages that are kept and not finished.
    pub lag: u64,
}

/// Messages that a group has not finished; `None` if it was removed meanwhile. `extent`: its topic's.
async fn lag<S: Store>(
    store: &S,
    defined: &Defined,
    extent: Option<&Topic>,
) -> Result<Option<u64>, StoreError> {
    let Some(state) = groups::state(store, &defined.keys()).await? else {
        return Ok(None);
    };
    groups::lag(store, &defined.keys(), &state, extent)
        .await
        .map(Some)
}

/// How far behind each group of a topic is, in the order of `all`, which may be of other topics too.
pub(crate) async fn lags_of<S: Store>(
    store: &S,
    topic: &Topic,
    all: &[Defined],
) -> Result<Vec<Lag>, StoreError> {
    let mut lags = Vec::new();
    for defined in all.iter().filter(|defined| defined.topic == topic.name) {
        if let Some(lag) = lag(store, defined, Some(topic)).await? {
            let name = defined.name.clone();
            lags.push(Lag { name, lag });
        }
    }
    Ok(lags)
}

/// What a group has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// Messages that are kept and not finished.
    pub lag: u64,
    /// Of these, leased now.
    pub leased: u64,
}

/// The backlogs of at most `limit` groups; `topics`: their extents. `now`: Unix milliseconds.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn backlogs<S: Store>(
    store: &S,
    topics: &[Topic],
    limit: usize,
    now: u64,
) -> Result<Vec<Backlog>, StoreError> {
    let mut backlogs = Vec::new();
    for defined in groups::all(store, None).await?.into_iter().take(limit) {
        let topic = topics.iter().find(|topic| topic.name == defined.topic);
        if let Some(state) = groups::state(store, &defined.keys()).await? {
            backlogs.push(Backlog {
                lag: groups::lag(store, &defined.keys(), &state, topic).await?,
                leased: leased(&state, now),
                topic: defined.topic,
                name: defined.name,
            });
        }
    }
    Ok(backlogs)
}

/// Messages that are leased at `now`, Unix milliseconds.
fn leased(state: &groups::State, now: u64) -> u64 {
    let held = state.windows.iter();
    held.filter(|(_, held)| held.lease != 0 && held.due() > now)
        .count() as u64
}

/// How many dead letters each of at most `limit` groups holds, by topic and name; `most` are counted of one.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn dead_letter_counts<S: Store>(
    store: &S,
    limit: usize,
    most: u32,
) -> Result<Vec<(String, String, u64)>, StoreError> {
    let mut counts = Vec::new();
    for defined in groups::all(store, None).await?.into_iter().take(limit) {
        let found = store.scan(&defined.keys().dead_prefix(), None, most).await?;
        counts.push((defined.topic, defined.name, found.len() as u64));
    }
    Ok(counts)
}

/// How many dead letters a group ever had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths {
    /// Of the group; no other has it, also after this one was removed.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// How many. It never falls, whatever becomes of them.
    pub count: u64,
}

/// The dead letters of at most `limit` groups.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn deaths<S: Store>(store: &S, limit: usize) -> Result<Vec<Deaths>, StoreError> {
    let mut deaths = Vec::new();
    for defined in groups::all(store, None).await?.into_iter().take(limit) {
        let keys = defined.keys();
        let found = store.get(keys.partition(), &[keys.deaths()]).await?;
        let entry = found.first().and_then(Option::as_ref);
        deaths.push(Deaths {
            count: stored::count("counter of dead letters", entry)?,
            id: defined.stored.id,
            topic: defined.topic,
            name: defined.name,
        });
    }
    Ok(deaths)
}

/// All of a topic, by name: they are few enough for one answer ([`groups::MAX_GROUPS`]).
async fn list<S: Store>(world: &World<'_, S>, topic: &str) -> Result<Response, Problem> {
    let extent = extent(world.store, topic).await?;
    let mut views = Vec::new();
    for defined in groups::all(world.store, Some(topic)).await? {
        views.push(View::of(world, &defined, extent.as_ref()).await?);
    }
    Ok(Response::json(200, &Page { groups: views }))
}

async fn answer<S: Store>(world: &World<'_, S>, defined: &Defined, status: u16) -> Result<Response, Problem> {
    let extent = extent(world.store, &defined.topic).await?;
    let view = View::of(world, defined, extent.as_ref()).await?;
    Ok(Response::json(status, &view))
}
