//! The relay where nothing runs for long: a drain takes the [lease](crate::lease) of a subscription, delivers what is due over
//! the same [machine](crate::relay::Machine) as [`driver`](crate::relay), and gives the lease back. Spin runs drains after
//! responses, and when it is asked to. Nothing here knows a clock, a socket or a runtime: see [`Outside`].
//!
//! * A drain may be killed at any moment. What was acknowledged since the last commit is delivered again.
//! * No message is left between two drains. Whoever appends looks at the lease after its commit. Whoever ends looks at the
//!   topic after it gave the lease back. Whoever finds the lease taken looks again when it ends, and leaves it to a holder that renewed it.

mod one;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

use crate::relay::attempt::Answered;
use crate::relay::record::Keys;
use crate::relay::{Delivered, Note, restore};
use crate::subscriptions::{self, Defined, OfFile};
use one::{Drained, one};
use tollgate_store::commit::{Message, StoreError, Topic};
use tollgate_store::ports::Store;

/// How long a drain stays once its queue is empty, milliseconds: what comes meanwhile is delivered at once.
pub const LINGER_MS: u64 = 30_000;
/// A drain stays for what is due within so many milliseconds. What is due later takes a tick, or a request.
pub const STAY_MS: u64 = 600_000;
/// How often a drain looks around while nothing happens, milliseconds.
const BEAT_MS: u64 = 250;
/// How long a queue must be quiet to be taken for empty, milliseconds: longer than a look at it takes.
const QUIET_MS: u64 = 300;
/// The most subscriptions that are drained at a time; the others follow.
const MAX_AT_A_TIME: usize = 32;

/// What a drain needs besides a store.
#[allow(
    async_fn_in_trait,
    reason = "callers are generic and single-threaded; nothing needs Send"
)]
pub trait Outside {
    /// Unix milliseconds of a clock that never jumps.
    fn now(&self) -> u64;
    /// 64 bits that nobody foresees.
    fn random(&self) -> u64;
    /// Whether this host can deliver to it. What it cannot is left to another host on the same store.
    fn serves(&self, of: &Defined) -> bool;
    /// Waits for so many milliseconds.
    async fn sleep(&self, ms: u64);
    /// Delivers once, within the subscription's timeout, and judges the answer.
    async fn deliver(&self, to: &Defined, message: Arc<Message>) -> (Delivered, Answered);
    /// Delivers several at once, which are accepted or refused together.
    async fn deliver_together(&self, to: &Defined, messages: &[(Arc<Message>, u32)])
    -> (Delivered, Answered);
    /// Something worth telling.
    fn note(&self, of: &Defined, note: &Note);
}

/// How long drains last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Begin attempts for so many milliseconds at most, and end before if nothing is due by then.
    Budget(u64),
    /// Until the queue was empty for [`LINGER_MS`], and nothing is due within [`STAY_MS`].
    Empty,
}

impl Until {
    /// How long it stays while nothing happens.
    fn quiet_ms(self) -> u64 {
        match self {
            Self::Budget(_) => QUIET_MS,
            Self::Empty => LINGER_MS,
        }
    }
}

/// What drains did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that receivers accepted.
    pub delivered: u64,
    /// Attempts that failed; of a batch, one for each message.
    pub failed: u64,
    /// When something is due again, Unix milliseconds; `None`: nothing waits.
    pub next_due_at: Option<u64>,
    /// Subscriptions with something to deliver that another process serves.
    pub elsewhere: u64,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.elsewhere += other.elsewhere;
        self.next_due_at = match (self.next_due_at, other.next_due_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

type Name = (String, String);

enum Done {
    Beat,
    Drained(Box<(Defined, Result<Drained, StoreError>)>),
}

/// Drains every subscription that has something to deliver and that nobody else serves. `file`: those of the file. `again`: somebody has appended, or
/// changed something, since the last look.
///
/// # Errors
/// The subscriptions, or what they have to deliver, cannot be read.
pub async fn drain<'f, S: Store, O: Outside, F: OfFile<'f>>(
    store: &S,
    outside: &O,
    file: impl Fn() -> F,
    until: Until,
    again: &Cell<bool>,
) -> Result<Report, StoreError> {
    let began = outside.now();
    let mut report = Report::default();
    let mut running = BTreeSet::<Name>::new();
    let mut due_at = BTreeMap::<Name, Option<u64>>::new();
    let mut awaited = BTreeMap::<Name, u64>::new();
    let mut jobs: FuturesUnordered<LocalBoxFuture<'_, Done>> = FuturesUnordered::new();
    let (mut is_beating, mut looks) = (false, true);
    again.set(false);
    loop {
        let now = outside.now();
        if looks || again.take() || awaited.values().any(|ends| now >= *ends) {
            looks = false;
            let all = waiting(store, outside, file(), &running).await?;
            awaited.retain(|awaited, _| all.iter().any(|found| name(found) == *awaited));
            for defined in all {
                if running.len() >= MAX_AT_A_TIME {
                    looks = true;
                    break;
                }
                running.insert(name(&defined));
                jobs.push(Box::pin(async move {
                    let drained = one(store, outside, &defined, until, began).await;
                    Done::Drained(Box::new((defined, drained)))
                }));
            }
        }
        if running.is_empty() && awaited.is_empty() {
            for due in due_at.into_values() {
                report.add(Report {
                    next_due_at: due,
                    ..Report::default()
                });
            }
            return Ok(report);
        }
        if !is_beating {
            is_beating = true;
            jobs.push(Box::pin(async move {
                outside.sleep(BEAT_MS).await;
                Done::Beat
            }));
        }
        match jobs.next().await {
            Some(Done::Drained(done)) => {
                let (defined, drained) = *done;
                let name = name(&defined);
                running.remove(&name);
                // One that failed is left to the next drain.
                let Ok(drained) = drained else {
                    awaited.remove(&name);
                    continue;
                };
                if let (Some(ends), Until::Empty) = (drained.is_elsewhere_until(), until) {
                    await_end(&mut awaited, name, ends, outside.now());
                    continue;
                }
                awaited.remove(&name);
                due_at.insert(name, drained.report.next_due_at);
                report.add(Report {
                    next_due_at: None,
                    ..drained.report
                });
                let has_time = match until {
                    Until::Budget(ms) => outside.now() < began.saturating_add(ms),
                    Until::Empty => true,
                };
                looks |= has_time && drained.is_behind(store, &defined).await?;
            }
            Some(Done::Beat) | None => is_beating = false,
        }
    }
}

/// Whose lease another process has is looked at again when that lease ends: a process that is dead wakes nobody. One that renews it lives,
/// and looks at the topic itself before it goes.
fn await_end(awaited: &mut BTreeMap<Name, u64>, name: Name, ends: u64, now: u64) {
    match awaited.get(&name) {
        Some(before) if ends > *before || now > before.saturating_add(LINGER_MS) => awaited.remove(&name),
        _ => awaited.insert(name, ends),
    };
}

fn name(defined: &Defined) -> Name {
    (defined.topic.clone(), defined.settings.name.clone())
}

/// The subscriptions that are served here, have something to deliver and are not in `but`.
async fn waiting<'f, S: Store>(
    store: &S,
    outside: &impl Outside,
    file: impl OfFile<'f>,
    but: &BTreeSet<Name>,
) -> Result<Vec<Defined>, StoreError> {
    let mut found = Vec::new();
    let mut topics = BTreeMap::<String, Option<Topic>>::new();
    for defined in subscriptions::all(store, file).await? {
        if but.contains(&name(&defined)) || !outside.serves(&defined) {
            continue;
        }
        let keys = defined.keys();
        let (polled, progress) = restore::state(store, &keys).await?;
        if polled.control.0.paused {
            continue;
        }
        if !topics.contains_key(&defined.topic) {
            let extent = tollgate_store::extent::extent(store, &defined.topic).await?;
            topics.insert(defined.topic.clone(), extent);
        }
        let last = topics
            .get(&defined.topic)
            .and_then(Option::as_ref)
            .map_or(0, |topic| topic.last);
        if last > progress.watermark() || has_waiting(store, &keys).await? {
            found.push(defined);
        }
    }
    Ok(found)
}

/// Whether a message waits apart, or for another attempt.
async fn has_waiting<S: Store>(store: &S, keys: &Keys) -> Result<bool, StoreError> {
    Ok(!store.scan(&keys.retry_prefix(), None, 1).await?.is_empty())
}
