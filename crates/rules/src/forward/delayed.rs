//! Messages that are posted to come later. Until its time such a message is an entry of its own and in no topic, so that whatever
//! reads, pulls or is pushed finds it when it is due and not before, and no retention takes it. Then it is put at the end of its
//! topic, by the commit that removes the entry: once, whoever does it and however often.
//!
//! So a delayed message takes its place in the order of its key when it is due. Those of one caller come in the order of their times,
//! and of one time in the order in which they were posted, to the millisecond.
//!
//! | entry | holds |
//! |---|---|
//! | `delayed/<due>/<posted>/<id>` | [`Stored`]: the message; times in 20 digits, so that keys sort as they do |
//! | `delayed-size/<topic>/<partition>` | what those of the topic take, bytes, by partition of their records |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::record::{self, Record};
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_store::commit::{
    Append, Commit, Item, MAX_PAGE, MESSAGE_OVERHEAD, Message, Mutation, StoreError, key_part,
};
use tollgate_store::deleted;
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template;

mod release;

pub use release::release;

/// When a message is to come, RFC 3339.
const DELIVER_AT: &str = "x-deliver-at";
/// In how many seconds it is to come.
const DELAY: &str = "x-delay";
/// The longest delay: 30 days.
const MAX_DELAY_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The largest body of a message that is to come later, bytes: its entry is part of one commit.
const MAX_BODY_BYTES: usize = 512 << 10;
const PREFIX: &str = "delayed/";
const SIZES: &str = "delayed-size/";
/// Entries that are looked at together.
const MAX_LOOKED: u32 = 256;
/// Pages of counters that are read to tell what is to come: each topic has 256 counters at most.
const MAX_SIZES: usize = 16;

/// A message that is to come, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    record: Record,
    key: String,
    #[serde(rename = "type")]
    kind: String,
    content_type: String,
    attributes_base64: String,
    data_base64: String,
    /// Of the topic that it was posted to; see [`generation`].
    #[serde(default)]
    generation: u64,
}

/// When the request's message is to come, Unix milliseconds; `None`: at once.
///
/// # Errors
/// 400 that names the header.
pub(super) fn due(request: &Request, now: u64) -> Result<Option<u64>, Problem> {
    let text = |name| {
        Ok::<_, Problem>(
            request
                .single(name)?
                .map(|value| std::str::from_utf8(value).unwrap_or("")),
        )
    };
    let due = match (text(DELIVER_AT)?, text(DELAY)?) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let detail = "stands alone: a message comes at a time, or after a delay";
            return Err(Problem::field(format!("header:{DELAY}"), detail));
        }
        (Some(at), None) => {
            let due = time::parse(at).filter(|due| *due <= now.saturating_add(MAX_DELAY_MS));
            due.ok_or_else(|| {
                let detail = "must be an RFC 3339 time, at most 30 days ahead";
                Problem::field(format!("header:{DELIVER_AT}"), detail)
            })?
        }
        (None, Some(delay)) => {
            let digits = (1..=7).contains(&delay.len()) && delay.bytes().all(|byte| byte.is_ascii_digit());
            let ms = delay
                .parse::<u64>()
                .ok()
                .filter(|_| digits)
                .map(|seconds| seconds * 1_000);
            let ms = ms.filter(|ms| *ms <= MAX_DELAY_MS).ok_or_else(|| {
                let detail = "must be whole seconds, 0 to 2592000 (30 days)";
                Problem::field(format!("header:{DELAY}"), detail)
            })?;
            now.saturating_add(ms)
        }
    };
    if due > now && request.body.len() > MAX_BODY_BYTES {
        let detail = format!("A message that comes later takes at most {MAX_BODY_BYTES} bytes.");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    Ok(Some(due).filter(|due| *due > now))
}

/// Which of the topics that had this name one after the other is there now: what is posted to one does not come into the next.
pub(super) async fn generation<S: Store>(store: &S, topic: &str) -> Result<u64, StoreError> {
    let found = store.get(deleted::PARTITION, &[deleted::key(topic)]).await?;
    Ok(found
        .into_iter()
        .flatten()
        .next()
        .map_or(0, |entry| entry.version))
}

/// Whether messages are to come into a topic.
pub(crate) async fn any<S: Store>(store: &S, topic: &str) -> Result<bool, StoreError> {
    let prefix = format!("{SIZES}{}/", key_part(topic));
    let sizes = store.scan(&prefix, None, MAX_PAGE).await?;
    for size in &sizes {
        if stored::count("size of messages to come", Some(&size.entry))? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key(due: u64, posted: u64, id: &str) -> String {
    format!("{PREFIX}{due:020}/{posted:020}/{id}")
}

fn due_of(item: &Item) -> Option<u64> {
    item.key.strip_prefix(PREFIX)?.split('/').next()?.parse().ok()
}

/// The counter of what a topic's messages to come take, of those whose records share a partition with this one.
fn size_key(topic: &str, id: &str) -> String {
    format!(
        "{SIZES}{}/{}",
        key_part(topic),
        record::partition(id).replace('/', "-")
    )
}

/// What a message to come takes, as those in topics are counted.
fn weight(append: &Append, payload: usize) -> u64 {
    MESSAGE_OVERHEAD + (append.attributes.len() + payload + append.key.len()) as u64
}

/// Whether there is room for one more: those of a topic that are to come may take as much as its backlog.
pub(super) async fn has_room<S: Store>(world: &World<'_, S>, topic: &str) -> Result<bool, StoreError> {
    let prefix = format!("{SIZES}{}/", key_part(topic));
    let sizes = world.store.scan(&prefix, None, MAX_PAGE).await?;
    let mut taken = 0_u64;
    for size in &sizes {
        taken = taken.saturating_add(stored::count("size of messages to come", Some(&size.entry))?);
    }
    Ok(taken < world.settings.config.topic(topic).backlog())
}

/// What is to come into topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToCome {
    /// Topics, by name, with what their messages to come take, bytes. One that had such messages stays, with 0.
    pub topics: Vec<(String, u64)>,
    /// For how long the oldest of them is due that has not come; 0 where none is. Milliseconds.
    pub overdue_ms: u64,
}

/// What is to come, as far as [`MAX_SIZES`] pages of counters tell. `now`: Unix milliseconds.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn to_come<S: Store>(store: &S, now: u64) -> Result<ToCome, StoreError> {
    let mut found = ToCome::default();
    let mut after: Option<String> = None;
    for _ in 0..MAX_SIZES {
        let sizes = store.scan(SIZES, after.as_deref(), MAX_PAGE).await?;
        for size in &sizes {
            let bytes = stored::count("size of messages to come", Some(&size.entry))?;
            let topic = size
                .key
                .strip_prefix(SIZES)
                .and_then(|rest| rest.split('/').next());
            let topic = topic.unwrap_or_default();
            match found.topics.last_mut() {
                Some((name, sum)) if name == topic => *sum = sum.saturating_add(bytes),
                _ => found.topics.push((topic.to_owned(), bytes)),
            }
        }
        after = sizes.into_iter().next_back().map(|size| size.key);
        if after.is_none() {
            break;
        }
    }
    let first = store.scan(PREFIX, None, 1).await?;
    let due = first.first().and_then(due_of);
    found.overdue_ms = due.map_or(0, |due| now.saturating_sub(due));
    Ok(found)
}

/// What a commit does that keeps a message until it is due, in the place of its `append`. The record says when that is.
pub(super) fn keep(commit: &mut Commit, record: &Record, append: &Append, payload: &[u8], generation: u64) {
    let (Some(due), Some(posted)) = (record.deliver_at, record.posted) else {
        return;
    };
    let stored = Stored {
        record: record.clone(),
        key: append.key.clone(),
        kind: append.kind.clone(),
        content_type: append.content_type.clone(),
        attributes_base64: STANDARD.encode(&append.attributes),
        data_base64: STANDARD.encode(payload),
        generation,
    };
    commit.mutations.push(Mutation::Set {
        key: key(due, posted, &append.id),
        value: template::json(&stored),
        expires: None,
    });
    commit.mutations.push(add(
        &append.topic,
        &append.id,
        weight(append, payload.len()) as i64,
    ));
}

fn add(topic: &str, id: &str, delta: i64) -> Mutation {
    Mutation::Add {
        key: size_key(topic, id),
        delta,
        min: None,
        max: None,
    }
}

/// The message that the record is of, as long as it is to come.
pub(super) async fn find<S: Store>(
    store: &S,
    id: &str,
    record: &Record,
) -> Result<Option<Message>, StoreError> {
    let (Some(due), Some(posted)) = (record.deliver_at, record.posted) else {
        return Ok(None);
    };
    let found = store.get(&record::partition(id), &[key(due, posted, id)]).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Ok(None);
    };
    let stored: Stored = stored::decode("message to come", &entry)?;
    if stored.generation != generation(store, &stored.record.topic).await? {
        return Ok(None);
    }
    Ok(Some(Message {
        topic: stored.record.topic.clone(),
        id: id.to_owned(),
        key: stored.key,
        kind: stored.kind,
        content_type: stored.content_type,
        attributes: STANDARD.decode(&stored.attributes_base64).unwrap_or_default(),
        ..Message::default()
    }))
}
