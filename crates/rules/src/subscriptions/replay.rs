//! `POST …/replay`: messages of the past are delivered again, and `POST …/retry-now`: what waits is tried at once.

use serde::{Deserialize, Serialize};

use super::{answer, change, find, reset};
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::{json, time};
use tollgate_delivery::relay::record::{Keys, Waiting, lane_of};
use tollgate_store::commit::{Commit, Condition, MAX_STEPS, Message, Mutation, Outcome, StoreError, literal};
use tollgate_store::extent::{extent, sequence_at};
use tollgate_store::ports::Store;

/// The most messages that one call makes ready; the next one goes on where it ended.
const MAX_REPLAYED: u64 = 5_000;
/// Messages of one commit: an entry each, and the counter.
const BATCH: u32 = MAX_STEPS as u32 - 1;
/// How often a batch is tried where others changed the same messages.
const MAX_TRIES: usize = 8;

/// From where on: `fromSequence`, or `fromTime`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Replay", extend("oneOf" = [{ "required": ["fromSequence"] }, { "required": ["fromTime"] }])))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// The first sequence.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    from_sequence: Option<u64>,
    /// The first message that was written then or later.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    from_time: Option<String>,
}

/// What is delivered again.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Replayed")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replayed {
    /// How many messages.
    replayed: u64,
    /// Where to go on, as `fromSequence`; null if all are reached.
    next_sequence: Option<u64>,
}

/// Every message that is kept and that its filter passes, from there to the newest, is delivered again with fresh attempts. Messages that wait already go on
/// waiting, and are not counted.
pub(super) async fn replay<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body(request)?;
    let from = match (body.from_sequence, body.from_time) {
        (Some(0), None) => return Err(Problem::field("#/fromSequence", "must be 1 or more")),
        (Some(sequence), None) => Ok(sequence),
        (None, Some(text)) => {
            let refused = || Problem::field("#/fromTime", "must be an RFC 3339 time with an offset");
            Err(time::parse(&text).ok_or_else(refused)?)
        }
        (Some(_), Some(_)) => {
            let detail = "must not be given together with fromSequence";
            return Err(Problem::field("#/fromTime", detail));
        }
        (None, None) => {
            let detail = "is missing: give fromSequence, or fromTime";
            return Err(Problem::field("#/fromSequence", detail));
        }
    };
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let mut answer = Replayed {
        replayed: 0,
        next_sequence: None,
    };
    let Some(topic) = extent(world.store, topic).await? else {
        return Ok(Response::json(200, &answer));
    };
    let mut next = match from {
        Ok(sequence) => sequence,
        Err(time) => sequence_at(world.store, &topic.name, &topic, time).await?,
    };
    // Those that come while this runs are delivered anyway.
    let last = topic.last;
    while next <= last {
        if answer.replayed >= MAX_REPLAYED {
            answer.next_sequence = Some(next);
            break;
        }
        let page = world.store.read(&topic.name, next - 1, BATCH, 0).await?;
        let page: Vec<Message> = page
            .into_iter()
            .take_while(|message| message.sequence <= last)
            .collect();
        let Some(end) = page.last() else { break };
        next = end.sequence + 1;
        let mut wanted = page;
        if let Some(filter) = &defined.settings.filter {
            wanted.retain(|message| filter.passes(message));
        }
        answer.replayed += again(world.store, &defined.keys(), &wanted).await?;
    }
    Ok(Response::json(200, &answer))
}

/// Writes the entries by which the relay delivers these messages again; how many.
async fn again<S: Store>(store: &S, keys: &Keys, page: &[Message]) -> Result<u64, Problem> {
    for _ in 0..MAX_TRIES {
        let wanted: Vec<String> = page.iter().map(|message| keys.retry(message.sequence)).collect();
        let found = store.get(keys.partition(), &wanted).await?;
        let mut commit = Commit {
            partition: keys.partition().to_owned(),
            ..Commit::default()
        };
        let missing = page
            .iter()
            .zip(wanted)
            .zip(found)
            .filter(|(_, found)| found.is_none());
        for ((message, key), _) in missing {
            let waiting = Waiting {
                redriven: true,
                lane: lane_of(&message.key),
                ..Waiting::default()
            };
            let value = serde_json::to_vec(&waiting).expect("a struct of plain fields serialises");
            commit.conditions.push(Condition::Absent(key.clone()));
            commit.mutations.push(Mutation::Set {
                key,
                value: literal(value),
                expires: None,
            });
        }
        let count = commit.mutations.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        // What makes the relay look again.
        commit.mutations.push(Mutation::Add {
            key: keys.redrives(),
            delta: 1,
            min: None,
            max: None,
        });
        if let Outcome::Committed(_) = store.commit(commit).await? {
            return Ok(count);
        }
    }
    Err(StoreError::Unavailable("the relay writes the same messages".to_owned()).into())
}

/// Whatever waits for its next attempt is tried within a second, by a closed circuit breaker.
pub(super) async fn retry_now<S: Store>(
    world: &World<'_, S>,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let keys = defined.keys();
    let mut mutations = reset(&keys);
    mutations.push(Mutation::Add {
        key: keys.hurries(),
        delta: 1,
        min: None,
        max: None,
    });
    change(world, &keys, mutations).await?;
    answer(world, &defined, 200, None).await
}
