//! `POST …/groups/{group}/lease`.

mod leasing;
mod shared;

use serde::{Deserialize, Serialize};

use leasing::Leasing;
pub use shared::{LeaseWish, MAX_LEASED, is_empty_answer, join_leases, split_leases, without_wait};

use super::give_up::{Done, give_up};
use super::{MAX_TRIES, MS_PER_SECOND, SECONDS, busy, find};
use crate::messages::MessageView;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::{json, time};
use tollgate_delivery::groups::window::Held;
use tollgate_delivery::groups::{self, Defined};
use tollgate_store::commit::{MAX_PAGE, MAX_WAIT_MS, Message};
use tollgate_store::ports::Store;

/// The most messages of one lease, and how many there are unless the caller says otherwise.
pub(super) const LIMIT: (u64, u64) = (MAX_PAGE as u64, 10);
/// Seconds of a lease unless the caller says otherwise.
pub(super) const DEFAULT_SECONDS: u64 = 30;
/// Commits that one call makes for messages that are given up; the next one goes on.
const MAX_GIVEN_UP: usize = 4;
/// The longest that a call waits before it looks again, milliseconds: a lease may end, or a key may be free, unannounced.
const LOOK_EVERY_MS: u64 = 1_000;
/// What a look counts for at least, milliseconds, so that a call ends however often it is woken.
const LEAST_WAIT_MS: u64 = 100;

/// How many messages, for how long.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LeaseRequest")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Body {
    /// The most messages. Fewer where they are large: together about 1 MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Seconds until they may be leased to somebody else.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 43200)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_seconds: Option<u64>,
    /// Seconds to wait for the first message, if there is none.
    #[cfg_attr(feature = "schema", schemars(range(max = 30)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<u64>,
}

/// A leased message.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Lease"))]
#[serde(rename_all = "camelCase")]
struct LeaseView<'a> {
    /// The message.
    message: MessageView<'a>,
    /// What it is acknowledged by.
    lease_id: String,
    /// The number of this lease, from 1.
    attempt: u32,
    /// Until when it is the caller's.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    deadline: u64,
}

/// Leased messages.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Leases"))]
pub(super) struct Answer<'a> {
    /// In the order of their sequences; empty if there is none.
    leases: Vec<LeaseView<'a>>,
}

/// Messages that were leased at a time.
pub(super) struct Taken {
    /// Each as it is held now.
    pub(super) leases: Vec<(Message, Held)>,
    /// The number of the lease.
    pub(super) lease: u64,
    /// When they were leased, Unix milliseconds.
    pub(super) at: u64,
}

/// What came of a look.
enum Look {
    Taken(Taken),
    /// There is none; the next one may be leased then, Unix milliseconds.
    Nothing(u64),
}

/// Messages for the caller, oldest first: those whose lease ran out or which were given back, then new ones.
pub(super) async fn lease<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body_or_default(request)?;
    let within = |value: Option<u64>, (least, most): (u64, u64), default, field: &str| {
        let value = value.unwrap_or(default);
        let detail = || format!("must be from {least} to {most}");
        let ok = (least..=most).contains(&value);
        ok.then_some(value).ok_or_else(|| Problem::field(field, detail()))
    };
    let (most, default) = LIMIT;
    let limit = within(body.limit, (1, most), default, "#/limit")? as usize;
    let seconds = within(body.lease_seconds, SECONDS, DEFAULT_SECONDS, "#/leaseSeconds")?;
    let most_wait = u64::from(MAX_WAIT_MS) / MS_PER_SECOND;
    let wait = within(body.wait, (0, most_wait), 0, "#/wait")?;
    let asked = Asked {
        topic,
        limit,
        lease_ms: seconds * MS_PER_SECOND,
    };
    Ok(match wait_for(world, name, &asked, wait * MS_PER_SECOND).await? {
        Some(taken) => answer(&taken, asked.lease_ms),
        None => Response::json(200, &Answer { leases: Vec::new() }),
    })
}

/// Leases messages of the group of this name; waits up to so many milliseconds for the first. `None`: there is none.
pub(super) async fn wait_for<S: Store>(
    world: &World<'_, S>,
    name: &str,
    asked: &Asked<'_>,
    mut left: u64,
) -> Result<Option<Taken>, Problem> {
    let topic = asked.topic;
    let mut now = world.now;
    loop {
        // Each time anew: it may be changed, or removed, while this call waits.
        let defined = find(world, topic, name).await?;
        let next_due = match look(world, &defined, asked, now).await? {
            Look::Taken(taken) => return Ok(Some(taken)),
            Look::Nothing(_) if left == 0 => return Ok(None),
            Look::Nothing(next_due) => next_due,
        };
        let due_in = next_due.saturating_sub(now).max(LEAST_WAIT_MS);
        let pause = left.min(LOOK_EVERY_MS).min(due_in);
        let newest = newest(world.store, topic).await?;
        let woken = world.store.read(topic, newest, 1, pause as u32).await?;
        let waited = if woken.is_empty() {
            pause
        } else {
            LEAST_WAIT_MS.min(pause)
        };
        left -= waited;
        now = now.saturating_add(waited);
    }
}

async fn newest<S: Store>(store: &S, topic: &str) -> Result<u64, Problem> {
    let extent = tollgate_store::extent::extent(store, topic).await?;
    Ok(extent.map_or(0, |topic| topic.last))
}

fn answer(taken: &Taken, lease_ms: u64) -> Response {
    let leases = taken.leases.iter().map(|(message, held)| LeaseView {
        message: MessageView::new(message),
        lease_id: super::settle::lease_id(message.sequence, taken.lease),
        attempt: held.attempts,
        deadline: taken.at.saturating_add(lease_ms),
    });
    let leases = leases.collect();
    Response::json(200, &Answer { leases })
}

/// What is to be leased.
pub(super) struct Asked<'a> {
    /// Of this topic.
    pub(super) topic: &'a str,
    /// The most messages.
    pub(super) limit: usize,
    /// For how long, milliseconds.
    pub(super) lease_ms: u64,
}

async fn look<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    asked: &Asked<'_>,
    mut now: u64,
) -> Result<Look, Problem> {
    let keys = defined.keys();
    let (ordered, max_attempts) = (defined.stored.ordered, defined.stored.max_attempts);
    let mut given_up = 0;
    for _ in 0..MAX_TRIES {
        let state = groups::state(world.store, &keys).await?;
        let state = state.ok_or_else(Problem::not_found)?;
        let choice = state.windows.choose(ordered, max_attempts, now, asked.limit);
        if !choice.spent.is_empty() && given_up < MAX_GIVEN_UP {
            match give_up(world, asked.topic, &keys, state, &choice.spent).await? {
                (Done::Committed, _) => given_up += 1,
                (Done::Conflict, _) => {}
                (Done::NotNow, due) => now = due.saturating_sub(1),
            }
            continue;
        }
        let mut lease = Leasing::new(world, asked, &keys, state);
        lease.take_in().await?;
        let mut choice = lease
            .state
            .windows
            .choose(ordered, max_attempts, now, asked.limit);
        lease.again(&choice.again).await?;
        lease.fresh(ordered, &mut choice.lanes).await?;
        if !lease.has_changes() {
            return Ok(Look::Nothing(choice.next_due));
        }
        match lease.commit().await? {
            (Done::Committed, at) if lease.taken.is_empty() => {
                // What was looked at is written down; what can be leased comes with the next look.
                now = now.max(at);
            }
            (Done::Committed, at) => {
                lease.taken.sort_by_key(|(message, _)| message.sequence);
                return Ok(Look::Taken(Taken {
                    leases: lease.taken,
                    lease: lease.lease,
                    at,
                }));
            }
            (Done::Conflict, _) => {}
            (Done::NotNow, _) => now = lease.due.saturating_sub(1),
        }
    }
    Err(busy())
}
