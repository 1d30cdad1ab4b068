//! The gateway's own events ([`tollgate_rules::events`]) that no commit of a rule appends: what is found by looking at
//! campaigns, deliveries and limits once a second, and what alerts tell. With `[events] topic`, they are appended there; without,
//! they are told live, together with what answers tell of calls. Nobody looks where no topic is set and nobody listens.

mod changes;

use crate::clock::now;
use crate::metrics::count::Counted;
use bytes::Bytes;
use changes::{Deliveries, Groups, Limits, Phases};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tollgate_api::calls::Call;
use tollgate_delivery::driver::Statuses;
use tollgate_engines::AnyEngine;
use tollgate_rules::events::{Event, Kind, Told};
use tollgate_rules::{campaigns, groups, heads};
use tollgate_store::commit::{Commit, Condition, Idempotence, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store as _;

/// Streams of `GET /api/events` at once.
pub const MAX_STREAMS: usize = 64;
/// Live events that a listener may be behind; beyond, it is told how many it missed.
const MAX_BEHIND: usize = 1_024;
/// Events that wait for the store; beyond, the newest are dropped, and counted.
const MAX_WAITING: usize = 1_024;
/// How often it is looked for changes.
const EVERY: Duration = Duration::from_secs(1);
/// What is read from the store, campaigns and groups, is looked at every so many times.
const STORED_EVERY: u32 = 5;
/// Groups that are looked at.
const MAX_GROUPS: usize = 500;
/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it remembers that events were appended, in milliseconds: an append whose outcome is not known is tried again.
const REMEMBERED_MS: u64 = 3_600_000;
/// Where it is kept what was told of campaigns; the entry is a partition of its own.
const CAMPAIGNS: &str = "events/campaigns";

/// The events, and who listens.
pub struct Events {
    topic: Option<String>,
    store: AnyEngine,
    live: broadcast::Sender<Bytes>,
    waiting: Mutex<VecDeque<Event>>,
    dropped: AtomicU64,
    streams: Arc<Semaphore>,
}

/// What is looked at, besides the store.
pub struct Sources {
    /// How subscriptions stand.
    pub subscriptions: Statuses,
    /// What the limits have refused.
    pub counted: Counted,
}

impl Events {
    /// Events that are kept in this topic, or nowhere.
    pub fn new(topic: Option<String>, store: AnyEngine) -> Arc<Self> {
        Arc::new(Self {
            topic,
            store,
            live: broadcast::Sender::new(MAX_BEHIND),
            waiting: Mutex::default(),
            dropped: AtomicU64::new(0),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        })
    }

    /// The topic that they are kept in.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// A place for one more stream, until it is dropped; `None` where there are as many as may be.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        MAX_STREAMS - self.streams.available_permits()
    }

    /// Events that were dropped, since the store did not take them for too long.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What is told from now on, as server-sent events. For a gateway whose events are kept nowhere.
    pub fn listen(&self) -> broadcast::Receiver<Bytes> {
        self.live.subscribe()
    }

    fn is_wanted(&self) -> bool {
        self.topic.is_some() || self.live.receiver_count() > 0
    }

    /// Tells an event: now, or with the next look where it is to be kept.
    pub fn tell(&self, event: Event) {
        if self.topic.is_none() {
            // Where nobody listens, it is nobody's.
            let _ = self
                .live
                .send(frame(None, event.kind.name(), &Told::now(&event, now())));
            return;
        }
        let mut waiting = self.waiting();
        match waiting.len() < MAX_WAITING {
            true => waiting.push_back(event),
            false => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Tells what an answer says that a call has changed; see [`Event::told_by`]. A comparison where nobody listens. What is kept
    /// is in the topic already.
    pub fn answered(&self, call: Option<Call>, path: &str, answer: &heads::Response) {
        // What an earlier request has changed was told then.
        if self.topic.is_some() || self.live.receiver_count() == 0 || answer.is_replay() {
            return;
        }
        let told = call.map(|call| Event::told_by(call, path, answer.status, &answer.body, fresh));
        for event in told.into_iter().flatten() {
            self.tell(event);
        }
    }

    /// Looks for changes, and appends what waits. Never returns; may be given up at any moment.
    pub async fn run(self: Arc<Self>, sources: Sources) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut found, mut look) = (Found::default(), 0_u32);
        loop {
            ticks.tick().await;
            if !self.is_wanted() {
                (found, look) = (Found::default(), 0);
                continue;
            }
            let changes = found
                .deliveries
                .compare(&sources.subscriptions.all(), self.topic());
            let refusing = found.limits.compare(sources.counted.refusals(), now());
            for event in changes.into_iter().chain(refusing) {
                self.tell(event);
            }
            if look % STORED_EVERY == 0
                && let Err(error) = self.look_at_store(&mut found).await
            {
                tracing::debug!(%error, "campaigns or groups were not looked at for events; it is tried again");
            }
            look = look.wrapping_add(1);
            self.write().await;
        }
    }

    /// Appends what waits, in order, each once. What the store does not take waits on.
    pub async fn write(&self) {
        let Some(topic) = &self.topic else { return };
        loop {
            let Some(event) = self.waiting().front().cloned() else {
                return;
            };
            let commit = Commit {
                partition: topic.clone(),
                // Tried again after an outcome that is not known, it is not appended twice.
                idempotence: Some(Idempotence {
                    id: ["events/", &event.id].concat(),
                    fingerprint: Vec::new(),
                    answer: Vec::new(),
                    ttl: REMEMBERED_MS,
                }),
                appends: vec![event.append(topic)],
                ..Commit::default()
            };
            if self.commit(commit).await.is_err() {
                return;
            }
            drop(self.waiting().pop_front());
        }
    }

    async fn look_at_store(&self, found: &mut Found) -> Result<(), StoreError> {
        let deaths = groups::deaths(&self.store, MAX_GROUPS).await?;
        let events = found.groups.compare(&deaths, self.topic());
        events.into_iter().for_each(|event| self.tell(event));
        self.look_at_campaigns(&mut found.campaigns).await
    }

    /// What has changed with campaigns. Where events are kept, what was told is kept with them, so that each is told once, also
    /// across a restart.
    async fn look_at_campaigns(&self, found: &mut Option<Phases>) -> Result<(), StoreError> {
        let standings = campaigns::standings(&self.store, now()).await?;
        let Some(topic) = &self.topic else {
            let (phases, events) = changes::campaigns(found.as_ref(), &standings);
            *found = Some(phases);
            events.into_iter().for_each(|event| self.tell(event));
            return Ok(());
        };
        let entry = self.store.get(CAMPAIGNS, &[CAMPAIGNS.to_owned()]).await?;
        let entry = entry.into_iter().next().flatten();
        let before: Option<Phases> = entry
            .as_ref()
            .and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let (phases, events) = changes::campaigns(before.as_ref(), &standings);
        if before.as_ref() == Some(&phases) {
            return Ok(());
        }
        let key = CAMPAIGNS.to_owned();
        let condition = match &entry {
            None => Condition::Absent(key.clone()),
            Some(entry) => Condition::Version {
                key: key.clone(),
                version: entry.version,
            },
        };
        let commit = Commit {
            partition: key.clone(),
            conditions: vec![condition],
            mutations: vec![Mutation::Set {
                key,
                value: literal(serde_json::to_vec(&phases).unwrap_or_default()),
                expires: None,
            }],
            appends: events.iter().map(|event| event.append(topic)).collect(),
            ..Commit::default()
        };
        // Refused: another gateway on this store has told it.
        self.commit(commit).await.map(drop)
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let done = timeout(PATIENCE, self.store.commit(commit)).await;
        done.unwrap_or_else(|_| Err(StoreError::Unknown("it takes long".into())))
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // No code that runs under the lock panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found with the last look.
#[derive(Default)]
struct Found {
    deliveries: Deliveries,
    groups: Groups,
    limits: Limits,
    /// Where events are not kept.
    campaigns: Option<Phases>,
}

/// An event under a new id. Ids tell events apart, and are no secret.
pub fn event(kind: Kind, subject: String, data: serde_json::Value) -> Event {
    Event::new(kind, subject, data, fresh())
}

fn fresh() -> [u8; 16] {
    fastrand::u128(..).to_le_bytes()
}

/// A server-sent event of a JSON document, which has no line break. `kind` is told as the event's name if it is one of ours.
pub fn frame(id: Option<u64>, kind: &str, told: &impl serde::Serialize) -> Bytes {
    let mut frame = Vec::new();
    if let Some(id) = id {
        frame.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if Kind::ALL.iter().any(|one| one.name() == kind) {
        frame.extend_from_slice(format!("event: {kind}\n").as_bytes());
    }
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(&serde_json::to_vec(told).unwrap_or_default());
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// What a listener is told that could not be told everything.
pub fn missed(count: u64) -> Bytes {
    format!("event: missed\ndata: {{\"missed\":{count}}}\n\n").into()
}
