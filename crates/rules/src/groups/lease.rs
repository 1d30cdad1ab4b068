//! `POST …/groups/{group}/lease`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::give_up::{Done, carried_entries, give_up, message};
use super::{MAX_CHANGED, MAX_TRIES, MS_PER_SECOND, SECONDS, busy, find};
use crate::messages::MessageView;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::{json, time};
use tollgate_delivery::groups::window::Held;
use tollgate_delivery::groups::{self, Defined, MAX_OUT, MAX_WINDOWS, State};
use tollgate_delivery::relay::record::{Keys, Waiting, lane_of};
use tollgate_store::commit::{
    Commit, Condition, MAX_PAGE, MAX_PAGE_BYTES, MAX_WAIT_MS, Message, Mutation, Outcome, StoreError,
};
use tollgate_store::plan::page;
use tollgate_store::ports::Store;
use tollgate_store::{stored, template};

/// The most messages of one lease, and how many there are unless the caller says otherwise.
pub(super) const LIMIT: (u64, u64) = (MAX_PAGE as u64, 10);
/// Seconds of a lease unless the caller says otherwise.
pub(super) const DEFAULT_SECONDS: u64 = 30;
/// The most reads of messages that were leased before: neighbours are one read.
const MAX_RUNS: usize = 64;
/// The most messages of one lease that carry their message, each of which may be large.
const MAX_CARRIED: usize = 16;
/// The most pages of new messages that one lease looks at: those behind others of their key are passed over.
const MAX_PAGES: usize = 8;
/// Commits that one call makes for messages that are given up; the next one goes on.
const MAX_GIVEN_UP: usize = 4;
/// The longest that a call waits before it looks again, milliseconds: a lease may end, or a key may be free, unannounced.
const LOOK_EVERY_MS: u64 = 1_000;
/// What a look counts for at least, milliseconds, so that a call ends however often it is woken.
const LEAST_WAIT_MS: u64 = 100;

/// How many messages, for how long.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LeaseRequest")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Body {
    /// The most messages. Fewer where they are large: together about 1 MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Seconds until they may be leased to somebody else.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 43200)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_seconds: Option<u64>,
    /// Seconds to wait for the first message, if there is none.
    #[cfg_attr(feature = "schema", schemars(range(max = 30)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<u64>,
}

/// A leased message.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Lease"))]
#[serde(rename_all = "camelCase")]
struct LeaseView<'a> {
    /// The message.
    message: MessageView<'a>,
    /// What it is acknowledged by.
    lease_id: String,
    /// The number of this lease, from 1.
    attempt: u32,
    /// Until when it is the caller's.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    deadline: u64,
}

/// Leased messages.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Leases"))]
pub(super) struct Answer<'a> {
    /// In the order of their sequences; empty if there is none.
    leases: Vec<LeaseView<'a>>,
}

/// How long a request for leases waits, milliseconds, and its body without the wait; `None` for one that is refused.
pub fn without_wait(body: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut body: Body = json::decode(body).ok()?;
    let wait = body.wait.take()?.checked_mul(MS_PER_SECOND)?;
    Some((wait, serde_json::to_vec(&body).ok()?))
}

/// What a request for leases asks for that does not wait: a caller that has several puts them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseWish {
    /// The most messages.
    pub limit: usize,
    /// For how long, if it says so.
    pub seconds: Option<u64>,
}

/// The most messages of one lease.
pub const MAX_LEASED: usize = LIMIT.0 as usize;

impl LeaseWish {
    /// `None` for a body that is refused, or waits.
    pub fn of(body: &[u8]) -> Option<Self> {
        let (most, default) = LIMIT;
        let Body {
            limit,
            lease_seconds,
            wait,
        } = match body {
            [] => Body::default(),
            body => json::decode(body).ok()?,
        };
        let limit = limit.unwrap_or(default);
        let is_plain = (1..=most).contains(&limit) && wait.is_none();
        is_plain.then_some(Self {
            limit: limit as usize,
            seconds: lease_seconds,
        })
    }

    /// The body that asks for it.
    pub fn to_body(self) -> Vec<u8> {
        let body = Body {
            limit: Some(self.limit as u64),
            lease_seconds: self.seconds,
            wait: None,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// The body of an answer, by its leases as they are written.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    leases: Vec<&'a RawValue>,
}

/// The leases of an answer's body; none for a body that is something else.
pub fn split_leases(body: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(body).map_or_else(|_| Vec::new(), |written: Written<'_>| written.leases)
}

/// The body of an answer with these of them.
pub fn join_leases(leases: &[&RawValue]) -> Vec<u8> {
    let leases = leases.to_vec();
    serde_json::to_vec(&Written { leases }).unwrap_or_default()
}

/// Whether the body is an answer without leases, here or where SQS is spoken.
pub fn is_empty_answer(body: &[u8]) -> bool {
    body.starts_with(br#"{"leases":[]"#) || body == super::sqs::NOTHING
}

/// Messages that were leased at a time.
pub(super) struct Taken {
    /// Each as it is held now.
    pub(super) leases: Vec<(Message, Held)>,
    /// The number of the lease.
    pub(super) lease: u64,
    /// When they were leased, Unix milliseconds.
    pub(super) at: u64,
}

/// What came of a look.
enum Look {
    Taken(Taken),
    /// There is none; the next one may be leased then, Unix milliseconds.
    Nothing(u64),
}

/// Messages for the caller, oldest first: those whose lease ran out or which were given back, then new ones.
pub(super) async fn lease<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body_or_default(request)?;
    let within = |value: Option<u64>, (least, most): (u64, u64), default, field: &str| {
        let value = value.unwrap_or(default);
        let detail = || format!("must be from {least} to {most}");
        let ok = (least..=most).contains(&value);
        ok.then_some(value).ok_or_else(|| Problem::field(field, detail()))
    };
    let (most, default) = LIMIT;
    let limit = within(body.limit, (1, most), default, "#/limit")? as usize;
    let seconds = within(body.lease_seconds, SECONDS, DEFAULT_SECONDS, "#/leaseSeconds")?;
    let most_wait = u64::from(MAX_WAIT_MS) / MS_PER_SECOND;
    let wait = within(body.wait, (0, most_wait), 0, "#/wait")?;
    let asked = Asked {
        topic,
        limit,
        lease_ms: seconds * MS_PER_SECOND,
    };
    Ok(match wait_for(world, name, &asked, wait * MS_PER_SECOND).await? {
        Some(taken) => answer(&taken, asked.lease_ms),
        None => Response::json(200, &Answer { leases: Vec::new() }),
    })
}

/// Leases messages of the group of this name; waits up to so many milliseconds for the first. `None`: there is none.
pub(super) async fn wait_for<S: Store>(
    world: &World<'_, S>,
    name: &str,
    asked: &Asked<'_>,
    mut left: u64,
) -> Result<Option<Taken>, Problem> {
    let topic = asked.topic;
    let mut now = world.now;
    loop {
        // Each time anew: it may be changed, or removed, while this call waits.
        let defined = find(world, topic, name).await?;
        let next_due = match look(world, &defined, asked, now).await? {
            Look::Taken(taken) => return Ok(Some(taken)),
            Look::Nothing(_) if left == 0 => return Ok(None),
            Look::Nothing(next_due) => next_due,
        };
        let due_in = next_due.saturating_sub(now).max(LEAST_WAIT_MS);
        let pause = left.min(LOOK_EVERY_MS).min(due_in);
        let newest = newest(world.store, topic).await?;
        let woken = world.store.read(topic, newest, 1, pause as u32).await?;
        let waited = if woken.is_empty() {
            pause
        } else {
            LEAST_WAIT_MS.min(pause)
        };
        left -= waited;
        now = now.saturating_add(waited);
    }
}

async fn newest<S: Store>(store: &S, topic: &str) -> Result<u64, Problem> {
    let extent = tollgate_store::extent::extent(store, topic).await?;
    Ok(extent.map_or(0, |topic| topic.last))
}

fn answer(taken: &Taken, lease_ms: u64) -> Response {
    let leases = taken.leases.iter().map(|(message, held)| LeaseView {
        message: MessageView::new(message),
        lease_id: super::settle::lease_id(message.sequence, taken.lease),
        attempt: held.attempts,
        deadline: taken.at.saturating_add(lease_ms),
    });
    let leases = leases.collect();
    Response::json(200, &Answer { leases })
}

/// What is to be leased.
pub(super) struct Asked<'a> {
    /// Of this topic.
    pub(super) topic: &'a str,
    /// The most messages.
    pub(super) limit: usize,
    /// For how long, milliseconds.
    pub(super) lease_ms: u64,
}

async fn look<S: Store>(
    world: &World<'_, S>,
    defined: &Defined,
    asked: &Asked<'_>,
    mut now: u64,
) -> Result<Look, Problem> {
    let keys = defined.keys();
    let (ordered, max_attempts) = (defined.stored.ordered, defined.stored.max_attempts);
    let mut given_up = 0;
    for _ in 0..MAX_TRIES {
        let state = groups::state(world.store, &keys).await?;
        let state = state.ok_or_else(Problem::not_found)?;
        let choice = state.windows.choose(ordered, max_attempts, now, asked.limit);
        if !choice.spent.is_empty() && given_up < MAX_GIVEN_UP {
            match give_up(world, asked.topic, &keys, state, &choice.spent).await? {
                (Done::Committed, _) => given_up += 1,
                (Done::Conflict, _) => {}
                (Done::NotNow, due) => now = due.saturating_sub(1),
            }
            continue;
        }
        let mut lease = Leasing {
            world,
            asked,
            keys: &keys,
            redrives: state.head.redrives,
            next: state.head.next,
            windows_changed: false,
            lease: new_lease(world),
            state,
            taken: Vec::new(),
            bytes: 0,
            due: 0,
        };
        lease.take_in().await?;
        let mut choice = lease
            .state
            .windows
            .choose(ordered, max_attempts, now, asked.limit);
        lease.again(&choice.again).await?;
        lease.fresh(ordered, &mut choice.lanes).await?;
        if !lease.has_changes() {
            return Ok(Look::Nothing(choice.next_due));
        }
        match lease.commit().await? {
            (Done::Committed, at) if lease.taken.is_empty() => {
                // What was looked at is written down; what can be leased comes with the next look.
                now = now.max(at);
            }
            (Done::Committed, at) => {
                lease.taken.sort_by_key(|(message, _)| message.sequence);
                return Ok(Look::Taken(Taken {
                    leases: lease.taken,
                    lease: lease.lease,
                    at,
                }));
            }
            (Done::Conflict, _) => {}
            (Done::NotNow, _) => now = lease.due.saturating_sub(1),
        }
    }
    Err(busy())
}

/// Tells a lease from every other; never 0.
fn new_lease<S>(world: &World<'_, S>) -> u64 {
    let fresh = u128::from_le_bytes((world.fresh)());
    (fresh as u64 ^ (fresh >> 64) as u64).max(1)
}

/// A lease that is being put together.
struct Leasing<'a, S> {
    world: &'a World<'a, S>,
    asked: &'a Asked<'a>,
    keys: &'a Keys,
    state: State,
    /// What the head is to say.
    redrives: u64,
    next: u64,
    windows_changed: bool,
    lease: u64,
    taken: Vec<(Message, Held)>,
    bytes: usize,
    /// The latest time at which one of the messages that were leased before may be leased again.
    due: u64,
}

impl<S: Store> Leasing<'_, S> {
    fn has_changes(&self) -> bool {
        self.windows_changed
            || !self.taken.is_empty()
            || self.next != self.state.head.next
            || self.redrives != self.state.head.redrives
    }

    /// Whether one more message can be put into its window.
    fn has_room(&self, sequence: u64) -> bool {
        let windows = &self.state.windows;
        let (changes, adds) = windows.costs(sequence);
        windows.len() < MAX_OUT
            && !(changes && windows.changed() >= MAX_CHANGED)
            && !(adds && windows.count() >= MAX_WINDOWS)
    }

    fn set(&mut self, sequence: u64, held: Held) {
        self.state.windows.set(sequence, held);
        self.windows_changed = true;
    }

    /// Takes in dead letters that were redriven: each has an entry, and is in no window.
    async fn take_in(&mut self) -> Result<(), StoreError> {
        if self.state.redrives == self.state.head.redrives {
            return Ok(());
        }
        let (prefix, mut after) = (self.keys.retry_prefix(), None::<String>);
        loop {
            let page = self.world.store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for item in &page {
                let Some(sequence) = Keys::sequence_of(&item.key) else {
                    continue;
                };
                if self.state.windows.get(sequence).is_some() {
                    continue;
                }
                if !self.has_room(sequence) {
                    // The rest comes with another lease.
                    return Ok(());
                }
                let waiting: Waiting = stored::decode("message that was redriven", &item.entry)?;
                let mut lane = waiting.lane;
                if waiting.message.is_none() {
                    let found = message(self.world.store, self.asked.topic, sequence).await?;
                    lane = found.map_or(0, |message| lane_of(&message.key));
                }
                self.set(sequence, Held::waiting(lane, true));
            }
        }
        self.redrives = self.state.redrives;
        Ok(())
    }

    /// Leases a message, if it has room.
    fn take(&mut self, message: Message, held: Held) -> bool {
        let size = page::message_bytes(&message);
        if !self.taken.is_empty() && self.bytes + size > MAX_PAGE_BYTES {
            return false;
        }
        self.bytes += size;
        let leased = held.leased(self.lease, self.asked.lease_ms);
        self.set(message.sequence, leased);
        self.taken.push((message, leased));
        true
    }

    /// Leases messages that were looked at before.
    async fn again(&mut self, sequences: &[u64]) -> Result<(), StoreError> {
        let held = |lease: &Self, sequence| lease.state.windows.get(sequence).copied();
        let is_carried = |lease: &Self, sequence| held(lease, sequence).is_some_and(|held| held.carried);
        let mut carried = sequences
            .iter()
            .copied()
            .filter(|sequence| is_carried(self, *sequence));
        let carried: Vec<u64> = carried.by_ref().take(MAX_CARRIED).collect();
        for (sequence, waiting) in carried_entries(self.world.store, self.keys, &carried).await? {
            let embedded = waiting
                .message
                .and_then(|message| message.restore(self.asked.topic, sequence));
            let found = match embedded {
                Some(message) => Some(message),
                None => message(self.world.store, self.asked.topic, sequence).await?,
            };
            if !self.offer(sequence, found) {
                return Ok(());
            }
        }
        let others: Vec<u64> = sequences
            .iter()
            .copied()
            .filter(|sequence| !is_carried(self, *sequence))
            .collect();
        for run in others.chunk_by(|a, b| a + 1 == *b).take(MAX_RUNS) {
            let (Some(&first), count) = (run.first(), run.len() as u32) else {
                continue;
            };
            let before = first.saturating_sub(1);
            let found = self.world.store.read(self.asked.topic, before, count, 0).await?;
            // Retention removes the oldest: what lies before the first that is there is gone.
            let oldest = found.first().map_or(u64::MAX, |message| message.sequence);
            for &sequence in run.iter().take_while(|sequence| **sequence < oldest) {
                if !self.offer(sequence, None) {
                    return Ok(());
                }
            }
            for message in found {
                if message.sequence > first + u64::from(count) - 1 {
                    break;
                }
                if !self.offer(message.sequence, Some(message)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Leases a message that was looked at before, or forgets it where it is gone. `false` if there is no room.
    fn offer(&mut self, sequence: u64, message: Option<Message>) -> bool {
        let Some(held) = self.state.windows.get(sequence).copied() else {
            return true;
        };
        let (changes, _) = self.state.windows.costs(sequence);
        if changes && self.state.windows.changed() >= MAX_CHANGED || self.taken.len() >= self.asked.limit {
            return false;
        }
        let taken = match message {
            Some(message) => self.take(message, held),
            None => {
                self.state.windows.remove(sequence);
                self.windows_changed = true;
                true
            }
        };
        if taken {
            self.due = self.due.max(held.due());
        }
        taken
    }

    /// Leases new messages. One whose key has another that is not finished is passed over, and waits.
    async fn fresh(
        &mut self,
        ordered: bool,
        lanes: &mut std::collections::BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        for _ in 0..MAX_PAGES {
            let wanted = self.asked.limit - self.taken.len();
            if wanted == 0 || self.bytes >= MAX_PAGE_BYTES || self.state.windows.len() >= MAX_OUT {
                return Ok(());
            }
            let before = self.next.saturating_sub(1);
            let page = self
                .world
                .store
                .read(self.asked.topic, before, wanted as u32, 0)
                .await?;
            let is_last = page.len() < wanted;
            for message in page {
                let sequence = message.sequence;
                if !self.has_room(sequence) {
                    return Ok(());
                }
                let lane = lane_of(&message.key);
                if ordered && lane != 0 && lanes.contains(&lane) {
                    self.set(sequence, Held::waiting(lane, false));
                } else if self.take(message, Held::waiting(lane, false)) {
                    lanes.insert(lane);
                } else {
                    return Ok(());
                }
                self.next = sequence + 1;
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What became of it, and the time of the commit.
    async fn commit(&self) -> Result<(Done, u64), StoreError> {
        let key = self.keys.progress();
        let head = self.state.moved_to(self.next, self.redrives);
        let mut commit = Commit {
            partition: self.keys.partition().to_owned(),
            conditions: vec![
                Condition::Version {
                    key: key.clone(),
                    version: self.state.version,
                },
                Condition::NowIn {
                    start: Some(self.due),
                    end: None,
                },
            ],
            mutations: vec![Mutation::Set {
                key,
                value: template::json(&head),
                expires: None,
            }],
            ..Commit::default()
        };
        self.state.windows.write(self.keys, &mut commit);
        Ok(match self.world.store.commit(commit).await? {
            Outcome::Committed(done) => (Done::Committed, done.time),
            Outcome::Refused(refusal) => (Done::refused(refusal, 1), 0),
            Outcome::Replayed(_) | Outcome::Conflict => (Done::Conflict, 0),
        })
    }
}
