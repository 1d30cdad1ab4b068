//! `SendMessage` and `SendMessageBatch`: a message in the topic of the queue, so that every group and subscription of it gets it.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::fault::Fault;
use super::message_attributes::{self, Attributes};
use super::queues::Queue;
use super::{Batch, Entry, batch_answer, md5, needed, within};
use crate::forward;
use crate::keys::ApiKey;
use crate::together;
use crate::world::World;
use tollgate_api::http::{Header, Request};
use tollgate_api::ids::hex;
use tollgate_api::traceparent;
use tollgate_store::ports::Store;

/// Seconds of a delay.
const DELAY: (u64, u64) = (0, 900);
/// The longest `MessageGroupId` and `MessageDeduplicationId`.
const MAX_ID: usize = 128;
/// How long a `MessageDeduplicationId` counts, at most; milliseconds. As there.
const WINDOW_MS: u64 = 5 * 60 * 1_000;

/// A message, as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sent {
    /// Of an entry of a batch.
    id: Option<String>,
    /// Of a single one.
    queue_url: Option<String>,
    message_body: Option<String>,
    delay_seconds: Option<u64>,
    #[serde(default)]
    message_attributes: Option<Attributes>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

impl Entry for Sent {
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// What the gateway says of a message that it took.
#[derive(Deserialize)]
struct Accepted {
    id: String,
    /// Null for one that comes later.
    sequence: Option<u64>,
}

/// `SendMessage`.
pub(super) async fn send<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    mut sent: Sent,
) -> Result<Value, Fault> {
    let queue = Queue::of(sent.queue_url.take())?;
    queue.find(world).await?;
    put(world, request, key, &queue, sent).await
}

/// `SendMessageBatch`: each as if alone, with their commits made together.
pub(super) async fn send_all<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    batch: Batch<Sent>,
) -> Result<Value, Fault> {
    let (queue, entries) = batch.parts()?;
    queue.find(world).await?;
    let (ids, messages): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let ports = together::ports(world.store, messages.len());
    let worlds: Vec<_> = ports.iter().map(|port| world.on(port)).collect();
    let rules = worlds.iter().zip(messages);
    let rules = rules.map(|(world, sent)| put(world, request, key, &queue, sent));
    let results = together::run(&ports, rules).await;
    Ok(batch_answer(ids.into_iter().zip(results).collect()))
}

async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    key: &ApiKey,
    queue: &Queue,
    sent: Sent,
) -> Result<Value, Fault> {
    let text = needed(sent.message_body, "MessageBody")?;
    if text.is_empty() {
        let detail = "One or more parameters are invalid. Reason: Message must be at least one character.";
        return Err(Fault::invalid(detail));
    }
    let mut headers = vec![Header::new("content-type", "text/plain; charset=utf-8")];
    headers.extend(
        request
            .headers
            .iter()
            .filter(|header| header.name == traceparent::HEADER)
            .cloned(),
    );
    if let Some(group) = sent.message_group_id {
        headers.push(Header::new("x-partition-key", id(group, "MessageGroupId")?));
    }
    match within(sent.delay_seconds.unwrap_or(0), DELAY, "DelaySeconds")? {
        0 => {}
        seconds => headers.push(Header::new("x-delay", seconds.to_string())),
    }
    if let Some(once) = sent.message_deduplication_id {
        let once = id(once, "MessageDeduplicationId")?;
        headers.push(Header::new(
            "idempotency-key",
            idempotency_key(queue, &once, world.now),
        ));
    }
    let attributes = sent.message_attributes.unwrap_or_default();
    message_attributes::check(&attributes)?;
    if !attributes.is_empty() {
        let value = message_attributes::header(&attributes);
        headers.push(Header::new(message_attributes::HEADER, value));
    }
    let mut answer = json!({ "MD5OfMessageBody": md5(text.as_bytes()) });
    let ours = Request {
        method: "POST".into(),
        path: queue.path(),
        query: None,
        headers,
        body: text.into_bytes(),
        peer: request.peer.clone(),
    };
    let kept = [message_attributes::HEADER.to_owned()];
    let response = forward::by_key(world, &ours, &queue.topic, key, &kept).await?;
    let accepted: Accepted = serde_json::from_slice(&response.body).map_err(|_| Fault::internal())?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("MessageId".to_owned(), accepted.id.into());
        if let Some(sequence) = accepted.sequence {
            answer.insert("SequenceNumber".to_owned(), sequence.to_string().into());
        }
        if !attributes.is_empty() {
            let digest = message_attributes::digest(&attributes);
            answer.insert("MD5OfMessageAttributes".to_owned(), digest.into());
        }
    }
    Ok(answer)
}

/// An id of letters, digits and punctuation.
fn id(text: String, name: &str) -> Result<String, Fault> {
    let is_id = (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let detail = || {
        format!(
            "Value for parameter {name} is invalid. Reason: it can only include alphanumeric and punctuation characters, 1 to {MAX_ID} in length."
        )
    };
    is_id.then_some(text).ok_or_else(|| Fault::invalid(&detail()))
}

/// A key of idempotence that counts within five minutes of the clock: it begins anew with each of them.
fn idempotency_key(queue: &Queue, id: &str, now: u64) -> String {
    let Queue { topic, group } = queue;
    let text = format!("{topic} {group} {} {id}", now / WINDOW_MS);
    hex(&Sha256::digest(text))
}
