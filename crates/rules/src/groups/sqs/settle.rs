//! `DeleteMessage`, `ChangeMessageVisibility`, and the same of several messages.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::Fault;
use super::queues::Queue;
use super::{Batch, Entry, batch_answer, needed, within};
use crate::groups::settle::{self, Act};
use crate::groups::{MS_PER_SECOND, SECONDS};
use crate::world::World;
use tollgate_delivery::groups::{self, Defined};
use tollgate_store::ports::Store;

/// One message of a call.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct One {
    queue_url: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<u64>,
}

/// One message of many.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    id: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<u64>,
}

impl Entry for Listed {
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// `DeleteMessage`.
pub(super) async fn delete<S: Store>(world: &World<'_, S>, one: One) -> Result<Value, Fault> {
    let queue = Queue::of(one.queue_url)?;
    let handle = needed(one.receipt_handle, "ReceiptHandle")?;
    let defined = queue.find(world).await?;
    single(deleted(world, &defined, vec![handle]).await?)
}

/// `DeleteMessageBatch`.
pub(super) async fn delete_all<S: Store>(world: &World<'_, S>, batch: Batch<Listed>) -> Result<Value, Fault> {
    let (queue, entries) = batch.parts()?;
    let defined = queue.find(world).await?;
    let mut handles = Vec::with_capacity(entries.len());
    for (_, entry) in &entries {
        handles.push(needed(entry.receipt_handle.clone(), "ReceiptHandle")?);
    }
    let mut results = deleted(world, &defined, handles).await?;
    let results = entries.into_iter().map(|(id, entry)| {
        let result = entry.receipt_handle.and_then(|handle| results.remove(&handle));
        // A handle that is there twice is done by the first.
        (id, result.unwrap_or(Ok(())).map(|()| json!({})))
    });
    Ok(batch_answer(results.collect()))
}

/// `ChangeMessageVisibility`.
pub(super) async fn change<S: Store>(world: &World<'_, S>, one: One) -> Result<Value, Fault> {
    let queue = Queue::of(one.queue_url)?;
    let handle = needed(one.receipt_handle, "ReceiptHandle")?;
    let seconds = timeout(one.visibility_timeout)?;
    let defined = queue.find(world).await?;
    single(changed(world, &defined, vec![handle], seconds).await?)
}

/// `ChangeMessageVisibilityBatch`: those with the same time-out together.
pub(super) async fn change_all<S: Store>(world: &World<'_, S>, batch: Batch<Listed>) -> Result<Value, Fault> {
    let (queue, entries) = batch.parts()?;
    let defined = queue.find(world).await?;
    let mut by_timeout = BTreeMap::<u64, Vec<String>>::new();
    for (_, entry) in &entries {
        let handle = needed(entry.receipt_handle.clone(), "ReceiptHandle")?;
        let seconds = timeout(entry.visibility_timeout)?;
        by_timeout.entry(seconds).or_default().push(handle);
    }
    let mut results = BTreeMap::new();
    for (seconds, handles) in by_timeout {
        for (handle, result) in changed(world, &defined, handles, seconds).await? {
            results.insert((seconds, handle), result);
        }
    }
    let results = entries.into_iter().map(|(id, entry)| {
        let seconds = entry.visibility_timeout.unwrap_or_default();
        let result = entry
            .receipt_handle
            .and_then(|handle| results.remove(&(seconds, handle)));
        (id, result.unwrap_or(Ok(())).map(|()| json!({})))
    });
    Ok(batch_answer(results.collect()))
}

fn timeout(seconds: Option<u64>) -> Result<u64, Fault> {
    let (_, most) = SECONDS;
    within(
        needed(seconds, "VisibilityTimeout")?,
        (0, most),
        "VisibilityTimeout",
    )
}

/// What became of each message, by the handle it was named by.
type Results = BTreeMap<String, Result<(), Fault>>;

fn single(results: Results) -> Result<Value, Fault> {
    results.into_values().collect::<Result<(), Fault>>()?;
    Ok(json!({}))
}

/// The messages are done. One that was done before is done: clients ask again when an answer was lost.
async fn deleted<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    handles: Vec<String>,
) -> Result<Results, Fault> {
    let settled = settle::settle(world, defined, handles.clone(), Act::Ack).await?;
    let late = standings(world, defined, &settled.expired).await?;
    Ok(results(handles, late, |handle, standing| match standing {
        Standing::Unknown => Err(Fault::receipt(handle)),
        Standing::Finished => Ok(()),
        Standing::Held => Err(Fault::late(handle, "The receipt handle has expired.")),
    }))
}

/// The messages are the caller's for so many seconds from now on; with 0 they are anybody's.
async fn changed<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    handles: Vec<String>,
    seconds: u64,
) -> Result<Results, Fault> {
    let settled = match seconds {
        0 => settle::give_back(world, defined, handles.clone(), 0).await?,
        _ => {
            let act = Act::Extend(seconds * MS_PER_SECOND);
            settle::settle(world, defined, handles.clone(), act).await?
        }
    };
    let late = standings(world, defined, &settled.expired).await?;
    Ok(results(handles, late, |handle, standing| match standing {
        Standing::Unknown => Err(Fault::receipt(handle)),
        Standing::Finished => {
            let why = "Message does not exist or is not available for visibility timeout change.";
            Err(Fault::late(handle, why))
        }
        Standing::Held => Err(Fault::not_in_flight()),
    }))
}

fn results(
    handles: Vec<String>,
    mut late: BTreeMap<String, Standing>,
    judge: impl Fn(&str, Standing) -> Result<(), Fault>,
) -> Results {
    let judged = handles.into_iter().map(|handle| {
        let result = match late.remove(&handle) {
            None => Ok(()),
            Some(standing) => judge(&handle, standing),
        };
        (handle, result)
    });
    let mut results = Results::new();
    for (handle, result) in judged {
        results.entry(handle).or_insert(result);
    }
    results
}

/// How a message stands whose lease holds no more.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// There is no such lease, and never was.
    Unknown,
    /// It is done, or a dead letter.
    Finished,
    /// It waits, or is somebody else's.
    Held,
}

async fn standings<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    late: &[String],
) -> Result<BTreeMap<String, Standing>, Fault> {
    if late.is_empty() {
        return Ok(BTreeMap::new());
    }
    let state = groups::state(world.store, &defined.keys()).await?;
    let state = state.ok_or_else(Fault::no_queue)?;
    let standing = |handle: &String| {
        let sequence = settle::parsed(handle).map(|(sequence, _)| sequence);
        match sequence.filter(|sequence| (1..state.head.next).contains(sequence)) {
            None => Standing::Unknown,
            Some(sequence) if state.windows.get(sequence).is_some() => Standing::Held,
            Some(_) => Standing::Finished,
        }
    };
    Ok(late
        .iter()
        .map(|handle| (handle.clone(), standing(handle)))
        .collect())
}
