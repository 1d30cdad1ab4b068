//! Dead letters: listed with their messages, and given back to the relay.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{cursor, find};
use crate::messages::MessageView;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_api::{json, time};
use tollgate_delivery::relay::record::{DeadLetter, Keys, StoredMessage, Waiting};
use tollgate_store::commit::{
    Commit, Condition, Item, MAX_PAGE, Message, Mutation, Outcome, StoreError, literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The most dead letters of a page, and how many there are unless the caller says otherwise.
pub(super) const PAGE: (u64, u64) = (100, 50);
/// The most ids of one redrive.
const MAX_IDS: usize = 100;
/// The most dead letters that one redrive moves.
const MAX_REDRIVEN: usize = 500;
/// The most pages that one redrive looks through for ids.
const MAX_PAGES: usize = 64;
/// Dead letters moved by one commit, and their bytes.
const BATCH: (usize, usize) = (20, 700 << 10);

/// A message that an origin did not take.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DeadLetter")
)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    /// Of its message.
    id: &'a str,
    /// Its place in the topic.
    sequence: u64,
    /// How often it was sent.
    attempts: u32,
    /// What it was refused with last.
    last_error: &'a str,
    /// When it was sent first.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    first_attempt_at: u64,
    /// When it was sent last.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    last_attempt_at: u64,
    /// Null where it was too large to be kept here and retention has taken it.
    message: Option<MessageView<'a>>,
}

/// Some dead letters.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DeadLetterPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    /// By sequence.
    dead_letters: Vec<View<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET …/dead-letters?limit=&cursor=`, by sequence.
pub(super) async fn list<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let query = Query::of(request, &["limit", "cursor"])?;
    let (most, default) = PAGE;
    let limit = u32::try_from(query.number("limit", 1..=most, default)?).unwrap_or(MAX_PAGE);
    let after = cursor(&query)?;
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let keys = defined.keys();
    let (prefix, after) = (keys.dead_prefix(), after.map(|sequence| keys.dead(sequence)));
    let found = world.store.scan(&prefix, after.as_deref(), limit).await?;
    // A page may also end where it has bytes enough: whether there is more is asked for.
    let more = match found.last() {
        Some(last) => !world.store.scan(&prefix, Some(&last.key), 1).await?.is_empty(),
        None => false,
    };
    let letters = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut messages = Vec::with_capacity(letters.len());
    for letter in &letters {
        messages.push(message_of(world.store, topic, letter).await?);
    }
    let views = letters.iter().zip(&messages).map(|(letter, message)| View {
        id: &letter.id,
        sequence: letter.sequence,
        attempts: letter.attempts,
        last_error: &letter.last_error,
        first_attempt_at: letter.first_at,
        last_attempt_at: letter.died_at,
        message: message.as_ref().map(MessageView::new),
    });
    let next_cursor = found
        .last()
        .filter(|_| more)
        .and_then(|last| Keys::sequence_of(&last.key));
    let page = Page {
        dead_letters: views.collect(),
        next_cursor: next_cursor.map(|sequence| sequence.to_string()),
    };
    Ok(Response::json(200, &page))
}

fn read(item: &Item) -> Result<DeadLetter, StoreError> {
    stored::decode("dead letter", &item.entry)
}

async fn message_of<S: Store>(
    store: &S,
    topic: &str,
    letter: &DeadLetter,
) -> Result<Option<Message>, StoreError> {
    if let Some(message) = letter
        .message
        .as_ref()
        .and_then(|m| m.restore(topic, letter.sequence))
    {
        return Ok(Some(message));
    }
    let found = store.read(topic, letter.sequence.saturating_sub(1), 1, 0).await?;
    Ok(found
        .into_iter()
        .find(|message| message.sequence == letter.sequence))
}

/// What is delivered again: `ids`, or `all`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Redrive", extend("oneOf" = [{ "required": ["ids"] }, { "required": ["all"] }])))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// Of their messages.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_IDS)))]
    ids: Option<Vec<String>>,
    /// All of them.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    all: Option<bool>,
}

/// How many are delivered again.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Redriven")
)]
pub(super) struct Redriven {
    /// How many.
    redriven: usize,
    /// Not all were reached: repeat the call.
    more: bool,
}

/// `POST …/dead-letters/redrive` with `{ids}` (of messages) or `{all: true}`: they are delivered again, with fresh
/// attempts. Idempotent: what was redriven is no dead letter any more. Ids without a dead letter are passed over.
pub(super) async fn redrive<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body(request)?;
    let mut wanted = wanted(body)?;
    let defined = find(world, topic, name).await?.ok_or_else(Problem::not_found)?;
    let keys = defined.keys();
    let prefix = keys.dead_prefix();
    let (mut after, mut redriven) = (None::<String>, 0);
    for _ in 0..MAX_PAGES {
        let page = world.store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let exhausted = page.last().is_none() || wanted.as_ref().is_some_and(BTreeSet::is_empty);
        if exhausted {
            return Ok(Response::json(
                200,
                &Redriven {
                    redriven,
                    more: false,
                },
            ));
        }
        after = page.last().map(|last| last.key.clone());
        let mut chosen = Vec::new();
        for item in page {
            let letter = read(&item)?;
            if wanted.as_mut().is_none_or(|ids| ids.remove(&letter.id)) {
                chosen.push((item, letter));
            }
        }
        let room = MAX_REDRIVEN - redriven;
        let cut = chosen.len() > room;
        chosen.truncate(room);
        redriven += take_back(world.store, &keys, chosen).await?;
        if cut {
            break;
        }
    }
    Ok(Response::json(200, &Redriven { redriven, more: true }))
}

/// `None` for all.
fn wanted(body: Body) -> Result<Option<BTreeSet<String>>, Problem> {
    match (body.ids, body.all) {
        (Some(ids), None) if (1..=MAX_IDS).contains(&ids.len()) => Ok(Some(ids.into_iter().collect())),
        (Some(_), None) => Err(Problem::field(
            "#/ids",
            format!("must hold 1 to {MAX_IDS} ids of messages"),
        )),
        (None, Some(true)) => Ok(None),
        (None, Some(false)) => Err(Problem::field("#/all", "must be true, or ids must be given")),
        (None, None) => Err(Problem::field("#/ids", "is missing: give ids, or all")),
        (Some(_), Some(_)) => Err(Problem::field("#/all", "must not be given together with ids")),
    }
}

/// Moves dead letters back, in commits of a bounded size; how many were moved.
async fn take_back<S: Store>(
    store: &S,
    keys: &Keys,
    chosen: Vec<(Item, DeadLetter)>,
) -> Result<usize, StoreError> {
    let (most, most_bytes) = BATCH;
    let (mut moved, mut bytes, mut batch) = (0, 0, Vec::new());
    for (item, letter) in chosen {
        let size = item.entry.value.len();
        if !batch.is_empty() && (batch.len() >= most || bytes + size > most_bytes) {
            moved += commit(store, keys, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push((item, letter));
    }
    if !batch.is_empty() {
        moved += commit(store, keys, batch).await?;
    }
    Ok(moved)
}

/// 0 if somebody else was at it: their redrive holds, or the rest comes with the next call.
async fn commit<S: Store>(
    store: &S,
    keys: &Keys,
    batch: Vec<(Item, DeadLetter)>,
) -> Result<usize, StoreError> {
    let count = batch.len();
    let mut commit = Commit {
        partition: keys.partition().to_owned(),
        ..Commit::default()
    };
    for (item, letter) in batch {
        commit.conditions.push(Condition::Version {
            key: item.key.clone(),
            version: item.entry.version,
        });
        commit.mutations.push(Mutation::Delete { key: item.key });
        let waiting = Waiting {
            redriven: true,
            lane: letter.message.as_ref().map_or(0, StoredMessage::lane),
            message: letter.message,
            ..Waiting::default()
        };
        let value = serde_json::to_vec(&waiting).expect("a struct of plain fields serialises");
        let key = keys.retry(letter.sequence);
        commit.mutations.push(Mutation::Set {
            key,
            value: literal(value),
            expires: None,
        });
    }
    // What makes the relay look again.
    commit.mutations.push(Mutation::Add {
        key: keys.redrives(),
        delta: 1,
        min: None,
        max: None,
    });
    match store.commit(commit).await? {
        Outcome::Committed(_) => Ok(count),
        Outcome::Refused(_) | Outcome::Replayed(_) | Outcome::Conflict => Ok(0),
    }
}
