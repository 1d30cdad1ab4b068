//! SQS's JSON protocol, for clients that were written for it: `/sqs`
//! (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>). A thin mapping onto the rules of consumer groups; see
//! docs/sqs.md.
//!
//! A queue is a group, `<topic>/<group>`; a receipt handle is the id of a lease. Requests are signed as AWS' clients do, with the key
//! as secret and as session token, or carry the key in `Authorization: Bearer`.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod fault;
mod message_attributes;
mod queues;
mod receive;
mod send;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::keys::{self, ApiKey};
use crate::sigv4::Signature;
use crate::world::World;
use fault::Fault;
use md5::{Digest as _, Md5};
use queues::Queue;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::ids::hex;
use tollgate_api::json as body;
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// The media type of requests and answers.
pub(crate) const MEDIA: &str = "application/x-amz-json-1.0";
/// The header that says what is asked for, and what its value begins with.
pub const TARGET: (&str, &str) = ("x-amz-target", "AmazonSQS.");
/// The query by which a host that does the waiting itself asks for an answer at once.
pub(crate) const AT_ONCE: &str = "at-once";
/// The answer of a call that was asked for messages where there are none.
pub(super) const NOTHING: &[u8] = b"{}";
/// The most entries of a batch.
const MAX_ENTRIES: usize = 10;
/// The longest id of an entry.
const MAX_ENTRY_ID: usize = 80;

/// Whether a request with this header asks for messages.
pub fn asks_for_messages(target: Option<&[u8]>) -> bool {
    let action = target.and_then(|target| target.strip_prefix(TARGET.1.as_bytes()));
    action == Some(b"ReceiveMessage")
}

/// The topic of a request for messages that waits for them, and for how long, milliseconds; `None` for any other, and for one that
/// its rule refuses.
pub(crate) fn waits(sent: &[u8]) -> Option<(String, u64)> {
    receive::waits(&serde_json::from_slice(sent).ok()?)
}

/// Answers a call of `/sqs…`.
pub(crate) async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    match answer(world, request).await {
        Ok(document) => {
            let body = serde_json::to_vec(&document).unwrap_or_default();
            let headers = vec![Header::new("content-type", MEDIA)];
            Response {
                status: 200,
                headers,
                body,
            }
        }
        Err(fault) => fault.into_response(),
    }
}

async fn answer<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Value, Fault> {
    let key = authenticated(world, request).await?;
    let at_once = match request.query.as_deref() {
        None | Some("") => false,
        Some(AT_ONCE) => true,
        Some(_) => return Err(Fault::invalid("Requests have no query.")),
    };
    let (name, prefix) = TARGET;
    let target = request.header(name).unwrap_or_default();
    match target.strip_prefix(prefix).unwrap_or_default() {
        "ReceiveMessage" => receive::receive(world, decode(request)?, at_once).await,
        "DeleteMessage" => settle::delete(world, decode(request)?).await,
        "DeleteMessageBatch" => settle::delete_all(world, decode(request)?).await,
        "ChangeMessageVisibility" => settle::change(world, decode(request)?).await,
        "ChangeMessageVisibilityBatch" => settle::change_all(world, decode(request)?).await,
        "SendMessage" => send::send(world, request, &key, decode(request)?).await,
        "SendMessageBatch" => send::send_all(world, request, &key, decode(request)?).await,
        "GetQueueUrl" => queues::url(world, decode(request)?).await,
        "GetQueueAttributes" => queues::attributes(world, decode(request)?).await,
        "ListQueues" => queues::list(world, decode(request)?).await,
        action if UNSUPPORTED.contains(&action) => Err(Fault::unsupported(action)),
        _ => Err(Fault::unknown_action()),
    }
}

/// What SQS has, and the gateway does by other calls or not at all.
const UNSUPPORTED: [&str; 13] = [
    "AddPermission",
    "CancelMessageMoveTask",
    "CreateQueue",
    "DeleteQueue",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "PurgeQueue",
    "RemovePermission",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

/// Whose request it is: by its key, and by its signature where it has one.
async fn authenticated<S: Store>(world: &World<'_, S>, request: &Request) -> Result<ApiKey, Fault> {
    let signature = Signature::of(request)?;
    let secret = keys::bearer(request);
    if signature.is_some() && secret.is_none() {
        return Err(Fault::no_token());
    }
    let key = keys::require(world.store, request, world.now, Scope::Topics).await?;
    if let (Some(signature), Some(secret)) = (signature, secret) {
        if signature.id != key.id {
            return Err(Fault::other_key());
        }
        signature.check(request, secret, world.now)?;
    }
    Ok(key)
}

/// The members of a request; those that nobody knows are left alone, as there.
fn decode<T: DeserializeOwned>(request: &Request) -> Result<T, Fault> {
    let decoded: Result<T, Problem> = body::decode(&request.body);
    decoded.map_err(Fault::of_body)
}

/// A member that has to be there.
fn needed<T>(value: Option<T>, name: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::missing(name))
}

/// A number within bounds.
fn within(value: u64, (least, most): (u64, u64), name: &str) -> Result<u64, Fault> {
    let fault = || {
        let detail = format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {least} and {most}, if provided."
        );
        Fault::invalid(&detail)
    };
    (least..=most).contains(&value).then_some(value).ok_or_else(fault)
}

/// A batch, as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<T> {
    queue_url: Option<String>,
    entries: Option<Vec<T>>,
}

/// An entry of a batch.
trait Entry {
    fn id(&self) -> Option<&str>;
}

impl<T: Entry> Batch<T> {
    /// Its queue and its entries, each with its id.
    ///
    /// # Errors
    /// There are none or too many of them, or their ids are none, or not distinct.
    fn parts(self) -> Result<(Queue, Vec<(String, T)>), Fault> {
        let queue = Queue::of(self.queue_url)?;
        let entries = needed(self.entries, "Entries")?;
        if entries.is_empty() {
            return Err(Fault::empty_batch());
        }
        if entries.len() > MAX_ENTRIES {
            return Err(Fault::too_many_entries());
        }
        let mut ids = BTreeSet::new();
        let mut parts = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = needed(entry.id().map(str::to_owned), "Id")?;
            let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if id.is_empty() || id.len() > MAX_ENTRY_ID || !id.bytes().all(part) {
                return Err(Fault::entry_id());
            }
            if !ids.insert(id.clone()) {
                return Err(Fault::same_entry_ids());
            }
            parts.push((id, entry));
        }
        Ok((queue, parts))
    }
}

/// The answer to a batch, of what became of each entry: the members of the answer to a single call.
fn batch_answer(results: Vec<(String, Result<Value, Fault>)>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in results {
        match result {
            Ok(mut document) => {
                if let Some(document) = document.as_object_mut() {
                    document.insert("Id".to_owned(), id.into());
                }
                successful.push(document);
            }
            Err(fault) => failed.push(fault.entry(&id)),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

/// MD5 in hexadecimal: clients compare it, so that they notice what was changed on the way. It protects from nobody.
fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}
