//! What a consumer says of the messages that it has leased: `…/ack`, `…/nack`, `…/extend`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::give_up::{Done, give_up};
use super::{MAX_CHANGED, MAX_TRIES, MS_PER_SECOND, SECONDS, busy, find};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::{json, time};
use tollgate_delivery::groups::{self, Defined, window_of};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome};
use tollgate_store::ports::Store;

/// The most lease ids of one call.
pub(super) const MAX_IDS: usize = 1_000;
/// Commits that a call makes for messages that are given up by it; leases go on with the rest.
const MAX_GIVEN_UP: usize = 64;

/// The id of a lease of a message.
pub(super) fn lease_id(sequence: u64, lease: u64) -> String {
    format!("{sequence}-{lease:016x}")
}

/// The sequence and the lease of such an id.
pub(super) fn parsed(id: &str) -> Option<(u64, u64)> {
    let (sequence, lease) = id.split_once('-')?;
    let (sequence, lease) = (sequence.parse().ok()?, u64::from_str_radix(lease, 16).ok()?);
    // One id, one text: no signs, no zeros in front.
    (lease_id(sequence, lease) == id).then_some((sequence, lease))
}

/// Which messages are done.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Ack"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AckBody {
    /// Of their leases.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_IDS)))]
    lease_ids: Vec<String>,
}

/// Which messages are given back.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Nack"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NackBody {
    /// Of their leases.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_IDS)))]
    lease_ids: Vec<String>,
    /// Seconds until they may be leased again; 0 unless given.
    #[cfg_attr(feature = "schema", schemars(range(max = 43200)))]
    delay_seconds: Option<u64>,
}

/// Which messages are kept for longer.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Extend"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ExtendBody {
    /// Of their leases.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_IDS)))]
    lease_ids: Vec<String>,
    /// Seconds from now until they may be leased to somebody else.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 43200)))]
    lease_seconds: u64,
}

/// What was acknowledged.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Acked"))]
pub(super) struct Acked {
    /// How many messages are done.
    acked: usize,
    /// The leases that hold no more: they ran out, or were acknowledged or given back before. Nothing became of them here.
    expired: Vec<String>,
}

/// What was given back.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Nacked"))]
pub(super) struct Nacked {
    /// How many messages are given back; those that were leased as often as they may be are dead letters.
    nacked: usize,
    /// The leases that hold no more, as in the answer to `ack`.
    expired: Vec<String>,
}

/// What is kept for longer.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Extended")
)]
pub(super) struct Extended {
    /// How many leases are longer now.
    extended: usize,
    /// Until when; null for none.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    deadline: Option<u64>,
    /// The leases that hold no more, as in the answer to `ack`.
    expired: Vec<String>,
}

/// The messages are done. A lease that holds no more is told, and nothing became of it.
pub(super) async fn ack<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let AckBody { lease_ids } = json::body(request)?;
    check(&lease_ids)?;
    let defined = find(world, topic, name).await?;
    let settled = settle(world, &defined, lease_ids, Act::Ack).await?;
    let answer = Acked {
        acked: settled.count,
        expired: settled.expired,
    };
    Ok(Response::json(200, &answer))
}

/// The messages may be leased again, at once or after a delay.
pub(super) async fn nack<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let NackBody {
        lease_ids,
        delay_seconds,
    } = json::body(request)?;
    check(&lease_ids)?;
    let (_, most) = SECONDS;
    let delay = delay_seconds.unwrap_or(0);
    if delay > most {
        let detail = format!("must be from 0 to {most}");
        return Err(Problem::field("#/delaySeconds", detail));
    }
    let defined = find(world, topic, name).await?;
    let settled = give_back(world, &defined, lease_ids, delay).await?;
    let answer = Nacked {
        nacked: settled.count,
        expired: settled.expired,
    };
    Ok(Response::json(200, &answer))
}

/// Gives leased messages back for so many seconds; those that were leased as often as they may be are dead letters.
pub(super) async fn give_back<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    ids: Vec<String>,
    seconds: u64,
) -> Result<Settled, Problem> {
    let act = Act::Nack {
        delay: seconds * MS_PER_SECOND,
        max_attempts: defined.stored.max_attempts,
    };
    let settled = settle(world, defined, ids, act).await?;
    if settled.any_spent {
        give_up_spent(world, defined, settled.at).await?;
    }
    Ok(settled)
}

/// The leases hold for `leaseSeconds` from now on.
pub(super) async fn extend<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let ExtendBody {
        lease_ids,
        lease_seconds,
    } = json::body(request)?;
    check(&lease_ids)?;
    let (least, most) = SECONDS;
    if !(least..=most).contains(&lease_seconds) {
        let detail = format!("must be from {least} to {most}");
        return Err(Problem::field("#/leaseSeconds", detail));
    }
    let defined = find(world, topic, name).await?;
    let wait = lease_seconds * MS_PER_SECOND;
    let settled = settle(world, &defined, lease_ids, Act::Extend(wait)).await?;
    let answer = Extended {
        extended: settled.count,
        // The earliest, where it took several commits.
        deadline: (settled.count > 0).then(|| settled.first_at.saturating_add(wait)),
        expired: settled.expired,
    };
    Ok(Response::json(200, &answer))
}

fn check(ids: &[String]) -> Result<(), Problem> {
    if (1..=MAX_IDS).contains(&ids.len()) {
        return Ok(());
    }
    let detail = format!("must hold 1 to {MAX_IDS} ids of leases");
    Err(Problem::field("#/leaseIds", detail))
}

/// What becomes of leased messages.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// They are done.
    Ack,
    /// For so many milliseconds.
    Nack { delay: u64, max_attempts: u32 },
    /// By so many milliseconds from now.
    Extend(u64),
}

/// What became of them.
#[derive(Default)]
pub(super) struct Settled {
    count: usize,
    /// The leases that hold no more.
    pub(super) expired: Vec<String>,
    any_spent: bool,
    /// The times of the first and the last commit.
    first_at: u64,
    at: u64,
}

/// Acts on the leases that hold, by the store's clock; in one commit, unless they lie too far apart.
pub(super) async fn settle<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    ids: Vec<String>,
    act: Act,
) -> Result<Settled, Problem> {
    let keys = defined.keys();
    let mut settled = Settled::default();
    let mut left = BTreeSet::new();
    for id in ids {
        match parsed(&id) {
            Some(lease) => _ = left.insert(lease),
            None => settled.expired.push(id),
        }
    }
    let (mut now, mut tries) = (world.now, 0);
    while !left.is_empty() {
        if tries == MAX_TRIES {
            return Err(busy());
        }
        tries += 1;
        let mut numbers: Vec<u64> = left.iter().map(|(sequence, _)| window_of(*sequence)).collect();
        numbers.dedup();
        numbers.truncate(MAX_CHANGED / 2);
        let mut windows = groups::windows(world.store, &keys, &numbers).await?;
        let reach = numbers.last().copied().unwrap_or(0);
        let here: Vec<_> = left
            .iter()
            .copied()
            .take_while(|(sequence, _)| window_of(*sequence) <= reach)
            .collect();
        let (mut acted, mut lost, mut carried) = (Vec::new(), Vec::new(), Vec::new());
        let (mut end, mut any_spent) = (u64::MAX, false);
        for (sequence, lease) in here {
            let held = windows.get(sequence).copied();
            let Some(held) = held.filter(|held| held.lease == lease && held.due() > now) else {
                lost.push((sequence, lease));
                continue;
            };
            if carried.len() >= MAX_CHANGED / 2 {
                // The rest comes with the next commit.
                break;
            }
            end = end.min(held.due());
            match act {
                Act::Ack => {
                    windows.remove(sequence);
                    if held.carried {
                        carried.push(keys.retry(sequence));
                    }
                }
                Act::Nack { delay, max_attempts } => {
                    let is_spent = held.attempts >= max_attempts;
                    any_spent |= is_spent;
                    windows.set(sequence, held.returned(if is_spent { 0 } else { delay }));
                }
                Act::Extend(wait) => windows.set(sequence, held.extended(wait)),
            }
            acted.push((sequence, lease));
        }
        if !acted.is_empty() || !lost.is_empty() {
            let mut commit = Commit {
                partition: keys.partition().to_owned(),
                conditions: vec![Condition::NowIn {
                    start: None,
                    end: (!acted.is_empty()).then_some(end),
                }],
                ..Commit::default()
            };
            windows.write(&keys, &mut commit);
            // What was read may be older than a lease that another gateway has just given.
            let doubtful: BTreeSet<u64> = lost.iter().map(|(sequence, _)| window_of(*sequence)).collect();
            commit.conditions.extend(windows.unchanged(&keys, doubtful));
            let deletes = carried.into_iter().map(|key| Mutation::Delete { key });
            commit.mutations.extend(deletes);
            let done = match world.store.commit(commit).await? {
                Outcome::Committed(_) if acted.is_empty() => Done::Committed,
                Outcome::Committed(done) => {
                    settled.first_at = if settled.count == 0 {
                        done.time
                    } else {
                        settled.first_at
                    };
                    settled.at = done.time;
                    Done::Committed
                }
                Outcome::Refused(refusal) => Done::refused(refusal, 0),
                Outcome::Replayed(_) | Outcome::Conflict => Done::Conflict,
            };
            match done {
                Done::Committed => {}
                Done::Conflict => continue,
                // It is later than was thought: some of them have run out.
                Done::NotNow => {
                    now = now.max(end);
                    continue;
                }
            }
            (tries, settled.any_spent) = (0, settled.any_spent || any_spent);
        }
        settled.count += acted.len();
        for lease in acted {
            left.remove(&lease);
        }
        for (sequence, lease) in lost {
            left.remove(&(sequence, lease));
            settled.expired.push(lease_id(sequence, lease));
        }
    }
    Ok(settled)
}

/// Makes dead letters of what was leased as often as it may be. What others get in the way of is left to the next lease.
async fn give_up_spent<S: Store>(world: &World<'_, S>, defined: &Defined, at: u64) -> Result<(), Problem> {
    let keys = defined.keys();
    let (ordered, max_attempts) = (defined.stored.ordered, defined.stored.max_attempts);
    for _ in 0..MAX_GIVEN_UP {
        let Some(state) = groups::state(world.store, &keys).await? else {
            return Ok(());
        };
        let choice = state.windows.choose(ordered, max_attempts, at, 0);
        if choice.spent.is_empty() {
            return Ok(());
        }
        give_up(world, &defined.topic, &keys, state, &choice.spent).await?;
    }
    Ok(())
}
