//! The durable record of a forwarded request: `message/<id>`.
//!
//! An id begins with two hexadecimal digits that spread clients over 256 partitions, `messages/<digits>`: a record is
//! found by its id alone, and all requests of a client share a partition, so that a store which shards by partition
//! finds their idempotency keys.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::commit::StoreError;
use crate::config::Config;
use crate::http::{Request, Response};
use crate::identity::{self, ClientId, Proxies};
use crate::ids;
use crate::keys::{self, Scope};
use crate::ports::{Store, World};
use crate::problem::{Kind, Problem};
use crate::subscriptions;
use crate::template::Number;
use crate::time;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long messages are kept where the configuration does not say, in milliseconds.
const DEFAULT_RETENTION_MS: u64 = 7 * DAY_MS;
/// A record outlives its message's retention by this, in milliseconds: one that a subscription still needs is kept
/// longer, and its sender may ask what became of it.
const GRACE_MS: u64 = 7 * DAY_MS;
const NS_PER_MS: u64 = 1_000_000;
const SHARD_DIGITS: usize = 2;

/// As it is stored. `time` is Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) sequence: Number,
    pub(super) key: String,
    pub(super) client: String,
    pub(super) content_type: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) time: Number,
}

/// A message's id: the client's partition, then a fresh token.
pub(super) fn id(client: &str, token: &str) -> String {
    format!("{:02x}{token}", Sha256::digest(client)[0])
}

fn is_id(text: &str) -> bool {
    text.len() == SHARD_DIGITS + ids::ID_LENGTH
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .take(SHARD_DIGITS)
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The partition of an id's record.
pub(super) fn partition(id: &str) -> String {
    format!("messages/{}", id.get(..SHARD_DIGITS).unwrap_or_default())
}

/// The key of an id's record.
pub(super) fn entry_key(id: &str) -> String {
    ["message/", id].concat()
}

/// When a record made now may go, Unix milliseconds.
pub(super) fn expiry(config: &Config, topic: &str, now: u64) -> u64 {
    let configured = config.topics.get(topic).and_then(|settings| settings.retention);
    let retention = configured.map_or(DEFAULT_RETENTION_MS, |span| span.0 / NS_PER_MS);
    now.saturating_add(retention)
        .saturating_add(GRACE_MS)
        .min(time::MAX_TIME)
}

/// The record of a message, if it is there.
pub(super) async fn load<S: Store>(store: &S, id: &str) -> Result<Option<Record>, StoreError> {
    if !is_id(id) {
        return Ok(None);
    }
    let found = store.get(&partition(id), &[entry_key(id)]).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Ok(None);
    };
    let decoded = serde_json::from_slice(&entry.value);
    decoded
        .map(Some)
        .map_err(|error| StoreError::Invalid(format!("a record cannot be read: {error}")))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    id: &'a str,
    topic: &'a str,
    sequence: Number,
    key: &'a str,
    content_type: &'a str,
    method: &'a str,
    path: &'a str,
    #[serde(with = "time::rfc3339_option")]
    time: Option<u64>,
    client: &'a str,
    /// At each subscription of the topic.
    deliveries: Vec<subscriptions::MessageDelivery>,
}

/// `GET /api/messages/{id}`: for the client that posted it, and for the scope `topics`.
pub(super) async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let record = load(world.store, id).await?.ok_or_else(Problem::not_found)?;
    let key = keys::shown(world.store, request, world.now).await?;
    let caller = match &key {
        Some(key) => ClientId::of_key(&key.id),
        None => ClientId::without_key(world.config, &Proxies::of(world.config), request),
    };
    if caller.as_str() != record.client {
        if key.is_none() && identity::named_client(world.config, request).is_some() {
            return Err(Problem::new(
                Kind::Forbidden,
                "This message was posted by another client.",
            ));
        }
        keys::require(world.store, request, world.now, Scope::Topics).await?;
    }
    let deliveries = match record.sequence.known() {
        Some(sequence) => subscriptions::deliveries(world, &record.topic, sequence).await?,
        None => Vec::new(),
    };
    let view = View {
        id,
        topic: &record.topic,
        sequence: record.sequence,
        key: &record.key,
        content_type: &record.content_type,
        method: &record.method,
        path: &record.path,
        time: record.time.known(),
        client: &record.client,
        deliveries,
    };
    Ok(Response::json(200, &view))
}
