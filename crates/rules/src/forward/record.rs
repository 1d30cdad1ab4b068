//! The durable record of a forwarded request: `message/<id>`. It goes with its message, which tells the rest.
//!
//! An id begins with two hexadecimal digits that spread clients over 256 partitions, `messages/<digits>`. So
//! a record is found by its id alone. All requests of a client share a partition, so that a store which
//! shards by partition finds their idempotency keys.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::delayed;
use crate::config::Config;
use crate::identity::{self, ClientId};
use crate::keys;
use crate::subscriptions;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::time;
use tollgate_delivery::attributes::Attributes;
use tollgate_store::commit::{Message, StoreError, record_key};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::Number;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// A record goes with its message, and at the latest this many milliseconds after its retention. A message
/// that a subscription still needs is kept longer than its retention, and its sender may ask what became of
/// it.
const GRACE_MS: u64 = 7 * DAY_MS;
const NS_PER_MS: u64 = 1_000_000;
const SHARD_DIGITS: usize = 2;

/// As it is stored. `time` is Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) sequence: Number,
    pub(super) client: String,
    pub(super) time: Number,
    /// The fingerprint that a repetition with the same idempotency key must match, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<String>,
    /// When the message comes, or came, if that is later than it was posted; Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deliver_at: Option<u64>,
    /// With it: when it was posted, by the clock of whoever answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) posted: Option<u64>,
    /// Fields that only records of the version before hold themselves.
    #[serde(flatten, skip_serializing)]
    pub(super) before: Option<Before>,
}

impl Record {
    /// Whether its message is in no topic yet.
    pub(super) fn is_to_come(&self) -> bool {
        self.sequence == TO_COME
    }
}

/// The sequence of a message that is to come; those of others begin with 1.
pub(super) const TO_COME: Number = Number::Known(0);

/// Of the message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Before {
    key: String,
    content_type: String,
    method: String,
    path: String,
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

/// When a record made now may go, Unix milliseconds.
pub(super) fn expiry(config: &Config, topic: &str, now: u64) -> u64 {
    let retention = config.topic(topic).retention.0 / NS_PER_MS;
    now.saturating_add(retention)
        .saturating_add(GRACE_MS)
        .min(time::MAX_TIME)
}

/// The record of a message, if it is there.
pub(super) async fn load<S: Store>(store: &S, id: &str) -> Result<Option<Record>, StoreError> {
    if !is_id(id) {
        return Ok(None);
    }
    let found = store.get(&partition(id), &[record_key(id)]).await?;
    let Some(entry) = found.into_iter().flatten().next() else {
        return Ok(None);
    };
    stored::decode("record of a message", &entry).map(Some)
}

/// A request that is a message, and what became of it.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MessageRecord")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// Unique.
    id: &'a str,
    /// Where it is.
    topic: &'a str,
    /// Its place there; null for one that is to come later.
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1)))]
    sequence: Option<Number>,
    /// When it comes, or came, if it was posted to come later.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    deliver_at: Option<u64>,
    /// Its ordering key; null for none.
    key: Option<&'a str>,
    /// Of the body.
    content_type: &'a str,
    /// Of the request.
    method: &'a str,
    /// Of the request.
    path: &'a str,
    /// When it was posted.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    time: Option<u64>,
    /// Who posted it: `key:<id>`, `id:<name>` or `ip:<address>`.
    client: &'a str,
    /// Null for a message that was sent to the version before.
    request: Option<&'a Attributes>,
    /// At each subscription of the topic.
    deliveries: Vec<subscriptions::MessageDelivery>,
}

/// The record's message, if it is still kept.
async fn message<S: Store>(store: &S, id: &str, record: &Record) -> Result<Option<Message>, StoreError> {
    let Some(sequence) = record.sequence.known().filter(|_| !record.is_to_come()) else {
        return Ok(None);
    };
    let found = store
        .read(&record.topic, sequence.saturating_sub(1), 1, 0)
        .await?;
    Ok(found.into_iter().next().filter(|message| message.id == id))
}

/// `GET /api/messages/{id}`: for the client that posted it, and for the scope `topics`.
pub(super) async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let mut record = load(world.store, id).await?.ok_or_else(Problem::not_found)?;
    let key = keys::shown(world.store, world.settings, request, world.now).await?;
    let caller = match &key {
        Some(key) => ClientId::of_key(&key.id),
        None => ClientId::without_key(&world.settings.config, &world.settings.proxies, request),
    };
    if caller.as_str() != record.client {
        if key.is_none() && identity::named_client(&world.settings.config, request).is_some() {
            return Err(Problem::new(
                Kind::Forbidden,
                "This message was posted by another client.",
            ));
        }
        keys::require(world.store, request, world.now, Scope::Topics).await?;
    }
    let mut found = None;
    if record.is_to_come() {
        found = delayed::find(world.store, id, &record).await?;
        if found.is_none() {
            // It came meanwhile.
            record = load(world.store, id).await?.ok_or_else(Problem::not_found)?;
        }
    }
    let message = match found {
        Some(message) => Some(message),
        None => message(world.store, id, &record).await?,
    };
    let deliveries = match record.sequence.known().filter(|_| !record.is_to_come()) {
        Some(sequence) => {
            // What an origin says is for its operators.
            let answers = key.as_ref().is_some_and(|key| key.allows(Scope::Topics));
            let message = message.as_ref();
            subscriptions::deliveries(world, &record.topic, sequence, message, answers).await?
        }
        None => Vec::new(),
    };
    let request = message.as_ref().and_then(Attributes::read);
    let (key, content_type, method, path) = match (&message, &request, &record.before) {
        (Some(message), Some(request), _) => (
            message.key.as_str(),
            message.content_type.as_str(),
            request.method.as_str(),
            request.path.as_str(),
        ),
        (
            _,
            _,
            Some(Before {
                key,
                content_type,
                method,
                path,
            }),
        ) => (
            key.as_str(),
            content_type.as_str(),
            method.as_str(),
            path.as_str(),
        ),
        // It has gone since, and its record with it.
        _ => return Err(Problem::not_found()),
    };
    let view = View {
        id,
        topic: &record.topic,
        sequence: Some(record.sequence).filter(|_| !record.is_to_come()),
        deliver_at: record.deliver_at,
        key: Some(key).filter(|key| !key.is_empty()),
        content_type,
        method,
        path,
        time: record.time.known(),
        client: &record.client,
        request: request.as_ref(),
        deliveries,
    };
    Ok(Response::json(200, &view))
}
