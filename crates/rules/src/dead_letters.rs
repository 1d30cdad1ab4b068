//! The dead letters of a subscription or of a consumer group: listed with their messages, given back, or removed.

#[cfg(feature = "schema")]
pub(crate) mod describe;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

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
pub(crate) const PAGE: (u64, u64) = (100, 50);
/// The most ids of one call.
const MAX_IDS: usize = 100;
/// The most dead letters that one call moves.
const MAX_REDRIVEN: usize = 500;
/// The most pages that one call looks through for ids.
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
pub(crate) struct Page<'a> {
    /// By sequence.
    dead_letters: Vec<View<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET …/dead-letters?limit=&cursor=`, by sequence.
pub(crate) async fn list<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    find: impl AsyncFnOnce() -> Result<Keys, Problem>,
) -> Result<Response, Problem> {
    let query = Query::of(request, &["limit", "cursor"])?;
    let (most, default) = PAGE;
    let limit = u32::try_from(query.number("limit", 1..=most, default)?).unwrap_or(MAX_PAGE);
    let after = cursor(&query)?;
    let keys = find().await?;
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
pub(crate) struct Body {
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
pub(crate) struct Redriven {
    /// How many.
    redriven: usize,
    /// Not all were reached: repeat the call.
    more: bool,
}

/// `POST …/dead-letters/redrive` with `{ids}` (of messages) or `{all: true}`: they are delivered again, with fresh
/// attempts. Idempotent: what was redriven is no dead letter any more. Ids without a dead letter are passed over.
pub(crate) async fn redrive<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    find: impl AsyncFnOnce() -> Result<Keys, Problem>,
) -> Result<Response, Problem> {
    let body: Body = json::body(request)?;
    let wanted = Wanted::of(body.ids, body.all, None, "give ids, or all")?;
    let (redriven, more) = walk(world.store, &find().await?, wanted, Fate::Redriven).await?;
    Ok(Response::json(200, &Redriven { redriven, more }))
}

/// What is removed: `ids`, or `all`, or what is `olderThan`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "DeadLetterRemoval", extend("oneOf" = [{ "required": ["ids"] }, { "required": ["all"] }, { "required": ["olderThan"] }])))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Removal {
    /// Of their messages.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_IDS)))]
    ids: Option<Vec<String>>,
    /// All of them.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    all: Option<bool>,
    /// Those whose last attempt is longer ago: than so many seconds, or than a time.
    older_than: Option<Age>,
}

/// Seconds before now, or a time.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "must be seconds, or an RFC 3339 time with an offset")]
enum Age {
    Seconds(u64),
    Time(String),
}

/// How many are removed.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "DeadLettersRemoved")
)]
pub(crate) struct Removed {
    /// How many.
    removed: usize,
    /// Not all were reached: repeat the call.
    more: bool,
}

/// `DELETE …/dead-letters` with `{ids}`, `{all: true}` or `{olderThan}`: they are gone for good.
pub(crate) async fn remove<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    find: impl AsyncFnOnce() -> Result<Keys, Problem>,
) -> Result<Response, Problem> {
    let Removal { ids, all, older_than } = json::body(request)?;
    let before = match older_than {
        None => None,
        Some(Age::Seconds(seconds)) => Some(world.now.saturating_sub(seconds.saturating_mul(1_000))),
        Some(Age::Time(text)) => {
            let refused = || {
                Problem::field(
                    "#/olderThan",
                    "must be seconds, or an RFC 3339 time with an offset",
                )
            };
            Some(time::parse(&text).ok_or_else(refused)?)
        }
    };
    let wanted = Wanted::of(ids, all, before, "give ids, or all, or olderThan")?;
    let (removed, more) = walk(world.store, &find().await?, wanted, Fate::Removed).await?;
    Ok(Response::json(200, &Removed { removed, more }))
}

/// What becomes of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Redriven,
    Removed,
}

/// Applies the fate to the letters that are wanted, in bounds; how many, and whether there may be more.
async fn walk<S: Store>(
    store: &S,
    keys: &Keys,
    mut wanted: Wanted,
    fate: Fate,
) -> Result<(usize, bool), StoreError> {
    let prefix = keys.dead_prefix();
    let (mut after, mut moved) = (None::<String>, 0);
    for _ in 0..MAX_PAGES {
        let page = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        if page.is_empty() || wanted.is_satisfied() {
            return Ok((moved, false));
        }
        after = page.last().map(|last| last.key.clone());
        let mut chosen = Vec::new();
        for item in page {
            let letter = read(&item)?;
            if wanted.takes(&letter) {
                chosen.push((item, letter));
            }
        }
        let room = MAX_REDRIVEN - moved;
        let cut = chosen.len() > room;
        chosen.truncate(room);
        moved += move_all(store, keys, chosen, fate).await?;
        if cut {
            break;
        }
    }
    Ok((moved, true))
}

/// Which letters are meant.
enum Wanted {
    Ids(BTreeSet<String>),
    All,
    /// Died before then, Unix milliseconds.
    Before(u64),
}

impl Wanted {
    /// `choices`: what the error says where nothing is chosen.
    fn of(
        ids: Option<Vec<String>>,
        all: Option<bool>,
        before: Option<u64>,
        choices: &str,
    ) -> Result<Self, Problem> {
        match (ids, all, before) {
            (Some(ids), None, None) if (1..=MAX_IDS).contains(&ids.len()) => {
                Ok(Self::Ids(ids.into_iter().collect()))
            }
            (Some(_), None, None) => Err(Problem::field(
                "#/ids",
                format!("must hold 1 to {MAX_IDS} ids of messages"),
            )),
            (None, Some(true), None) => Ok(Self::All),
            (None, Some(false), None) => Err(Problem::field("#/all", "must be true, or ids must be given")),
            (None, None, Some(before)) => Ok(Self::Before(before)),
            (None, None, None) => Err(Problem::field("#/ids", format!("is missing: {choices}"))),
            (_, _, Some(_)) => Err(Problem::field("#/olderThan", "must be given alone")),
            (Some(_), Some(_), None) => Err(Problem::field("#/all", "must not be given together with ids")),
        }
    }

    fn is_satisfied(&self) -> bool {
        matches!(self, Self::Ids(ids) if ids.is_empty())
    }

    fn takes(&mut self, letter: &DeadLetter) -> bool {
        match self {
            Self::Ids(ids) => ids.remove(&letter.id),
            Self::All => true,
            Self::Before(before) => letter.died_at < *before,
        }
    }
}

/// Moves dead letters, in commits of a bounded size; how many were moved.
async fn move_all<S: Store>(
    store: &S,
    keys: &Keys,
    chosen: Vec<(Item, DeadLetter)>,
    fate: Fate,
) -> Result<usize, StoreError> {
    let (most, most_bytes) = BATCH;
    let (mut moved, mut bytes, mut batch) = (0, 0, Vec::new());
    for (item, letter) in chosen {
        let size = item.entry.value.len();
        if !batch.is_empty() && (batch.len() >= most || bytes + size > most_bytes) {
            moved += commit(store, keys, std::mem::take(&mut batch), fate).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push((item, letter));
    }
    if !batch.is_empty() {
        moved += commit(store, keys, batch, fate).await?;
    }
    Ok(moved)
}

/// 0 if somebody else was at it: what they did holds, or the rest comes with the next call.
async fn commit<S: Store>(
    store: &S,
    keys: &Keys,
    batch: Vec<(Item, DeadLetter)>,
    fate: Fate,
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
        if fate == Fate::Removed {
            continue;
        }
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
    if fate == Fate::Redriven {
        // What makes the relay, or the next lease, look again.
        commit.mutations.push(Mutation::Add {
            key: keys.redrives(),
            delta: 1,
            min: None,
            max: None,
        });
    }
    match store.commit(commit).await? {
        Outcome::Committed(_) => Ok(count),
        Outcome::Refused(_) | Outcome::Replayed(_) | Outcome::Conflict => Ok(0),
    }
}

/// The sequence of a cursor of the dead letters: digits only.
fn cursor(query: &Query) -> Result<Option<u64>, Problem> {
    let Some(text) = query.text("cursor") else {
        return Ok(None);
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let refused = || Problem::field("query:cursor", "is not a cursor of this list");
    text.parse().ok().filter(|_| digits).map(Some).ok_or_else(refused)
}
