//! `ReceiveMessage`: messages are leased to the caller.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::message_attributes::{self, Attribute};
use super::queues::Queue;
use super::{md5, within};
use crate::groups::lease::{self, DEFAULT_SECONDS, Taken};
use crate::groups::settle::lease_id;
use crate::groups::{MS_PER_SECOND, SECONDS};
use crate::world::World;
use tollgate_delivery::attributes::Attributes;
use tollgate_delivery::groups::window::Held;
use tollgate_store::commit::Message;
use tollgate_store::ports::Store;

/// The most messages of a call.
const LIMIT: (u64, u64) = (1, 10);
/// Seconds that a call may wait.
const WAIT: (u64, u64) = (0, 20);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    queue_url: Option<String>,
    max_number_of_messages: Option<u64>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
    /// The older name of the next one.
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

/// See [`super::waits`].
pub(super) fn waits(asked: &Asked) -> Option<(String, u64)> {
    let queue = Queue::parse(asked.queue_url.as_deref()?)?;
    let (least, most) = WAIT;
    let seconds = asked
        .wait_time_seconds
        .filter(|seconds| (least + 1..=most).contains(seconds))?;
    Some((queue.topic, seconds * MS_PER_SECOND))
}

/// Oldest first. `at_once`: somebody else does the waiting.
pub(super) async fn receive<S: Store>(
    world: &World<'_, S>,
    asked: Asked,
    at_once: bool,
) -> Result<Value, Fault> {
    let limit = within(
        asked.max_number_of_messages.unwrap_or(1),
        LIMIT,
        "MaxNumberOfMessages",
    )?;
    let (_, most) = SECONDS;
    let seconds = asked.visibility_timeout.unwrap_or(DEFAULT_SECONDS);
    let seconds = within(seconds, (0, most), "VisibilityTimeout")?;
    let wait = within(asked.wait_time_seconds.unwrap_or(0), WAIT, "WaitTimeSeconds")?;
    let queue = Queue::of(asked.queue_url)?;
    let wanted = lease::Asked {
        topic: &queue.topic,
        limit: limit as usize,
        lease_ms: seconds * MS_PER_SECOND,
    };
    let wait_ms = if at_once { 0 } else { wait * MS_PER_SECOND };
    let Some(taken) = lease::wait_for(world, &queue.group, &wanted, wait_ms).await? else {
        return Ok(json!({}));
    };
    let system = [asked.attribute_names, asked.message_system_attribute_names].concat();
    let named = asked.message_attribute_names;
    let messages = taken.leases.iter();
    let messages = messages.map(|(message, held)| shown(&taken, message, held, &system, &named));
    Ok(json!({ "Messages": messages.collect::<Vec<_>>() }))
}

fn shown(taken: &Taken, message: &Message, held: &Held, system: &[String], named: &[String]) -> Value {
    let request = Attributes::read(message);
    let (text, is_base64) = match std::str::from_utf8(&message.payload) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(&message.payload), true),
    };
    let attributes = match request.as_ref().and_then(message_attributes::sent_with) {
        Some(attributes) => attributes,
        None => told(message, is_base64),
    };
    let attributes = message_attributes::chosen(attributes, named);
    let mut shown = json!({
        "MessageId": message.id,
        "ReceiptHandle": lease_id(message.sequence, taken.lease),
        "MD5OfBody": md5(text.as_bytes()),
        "Body": text,
    });
    let Some(members) = shown.as_object_mut() else {
        return shown;
    };
    let system = of_system(taken, message, held, system);
    if !system.is_empty() {
        members.insert("Attributes".to_owned(), system.into());
    }
    if !attributes.is_empty() {
        let digest = message_attributes::digest(&attributes);
        members.insert("MD5OfMessageAttributes".to_owned(), digest.into());
        members.insert("MessageAttributes".to_owned(), json!(attributes));
    }
    shown
}

/// What the gateway tells of a message that did not come from a client of SQS.
fn told(message: &Message, is_base64: bool) -> message_attributes::Attributes {
    let mut told = message_attributes::Attributes::new();
    let mut tell = |name: &str, value: &str| {
        if !value.is_empty() {
            let name = format!("{}{name}", message_attributes::OURS);
            told.insert(name, Attribute::text(value));
        }
    };
    tell("type", &message.kind);
    tell("contentType", &message.content_type);
    if is_base64 {
        tell("encoding", "base64");
    }
    told
}

/// The attributes of the system that are asked for.
fn of_system(taken: &Taken, message: &Message, held: &Held, names: &[String]) -> Map<String, Value> {
    let is_asked = |wanted: &str| names.iter().any(|name| name == wanted || name == "All");
    let first = held.first.known().unwrap_or(taken.at);
    let mut known = Map::new();
    for (name, value) in [
        ("ApproximateReceiveCount", held.attempts.to_string()),
        ("ApproximateFirstReceiveTimestamp", first.to_string()),
        ("SentTimestamp", message.time.to_string()),
        ("SequenceNumber", message.sequence.to_string()),
        ("MessageGroupId", message.key.clone()),
    ] {
        if is_asked(name) && !value.is_empty() {
            known.insert(name.to_owned(), value.into());
        }
    }
    known
}
