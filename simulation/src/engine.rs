//! The store of a simulated gateway: `tollgate_store::plan` decides, with the very `Group` of the native
//! engine. The rest follows `crates/engines/src/sqlite`: a bounded queue, one writer, one sync per group.
//! Nothing is shown or answered before the sync, and nothing is written any more once it has failed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tollgate_store::commit::{
    self, Commit, Condition, Entry, MAX_STEPS, Mutation, Outcome, Part, StoreError,
};
use tollgate_store::deleted;
use tollgate_store::plan::group::{Base, Found, Group};
use tollgate_store::plan::{self, Extent, Record};

use crate::bug::Bug;
use crate::coverage::Seen;
use crate::disk::{GroupWrites, State};
use crate::executor::{Home, Parcel, TaskId};
use crate::front::Front;
use crate::world::Sim;

mod port;

/// The most commits that wait. Small, so that it happens.
const QUEUE: usize = 10;
/// The most commits that somebody waits for in one group.
const GROUP: usize = 6;
/// How long a deferred change may wait for company, microseconds.
const DEFER_PATIENCE: u64 = 100_000;

type Reply = Rc<Parcel<Result<Outcome, StoreError>>>;

struct Job {
    commit: Commit,
    reply: Option<Reply>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Deferred changes, combined by key.
    deferred: BTreeMap<String, Mutation>,
    since: Option<u64>,
}

/// The store of a simulated gateway, with a bounded queue and one writer.
pub struct Engine {
    sim: Rc<Sim>,
    /// What readers see.
    state: RefCell<State>,
    queue: RefCell<Queue>,
    pub front: Front,
    writer: Cell<Option<TaskId>>,
    tails: RefCell<Vec<TaskId>>,
    poisoned: Cell<bool>,
    /// The store's time, Unix milliseconds.
    latest: Cell<u64>,
}

/// What is durable, for a group.
struct Durable<'a>(&'a Engine);

impl Base for Durable<'_> {
    type Error = Infallible;

    fn cached(&mut self, key: &str) -> Option<Found> {
        // Some keys are in the cache and some are not; the answer is the same.
        key.len()
            .is_multiple_of(2)
            .then(|| self.0.state.borrow().entries.get(key).cloned())
    }
    fn entry(&mut self, key: &str) -> Result<Found, Infallible> {
        Ok(self.0.state.borrow().entries.get(key).cloned())
    }
    fn topic(&mut self, topic: &str) -> Result<Extent, Infallible> {
        let state = self.0.state.borrow();
        let log = state.topics.get(topic).map_or(&[][..], Vec::as_slice);
        Ok(Extent {
            last: log.len() as u64,
            bytes: log.iter().map(|message| commit::weight(message)).sum(),
        })
    }
    fn record(&mut self, id: &str) -> Result<Option<Record>, Infallible> {
        Ok(self
            .0
            .state
            .borrow()
            .records
            .get(id)
            .map(|record| Record::clone(record)))
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

impl Engine {
    /// Over what recovery has read.
    pub fn new(sim: Rc<Sim>, state: State) -> Self {
        Self {
            sim,
            latest: Cell::new(state.now),
            state: RefCell::new(state),
            queue: RefCell::default(),
            front: Front::default(),
            writer: Cell::new(None),
            tails: RefCell::default(),
            poisoned: Cell::new(false),
        }
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned.get()
    }

    /// The store's time: never backwards, across restarts too.
    fn now(&self) -> u64 {
        let wall = self.sim.wall_ms();
        if self.sim.has(Bug::TimeRunsBack) {
            return wall;
        }
        self.latest.set(self.latest.get().max(wall));
        self.latest.get()
    }

    /// Writes groups until a sync fails.
    pub async fn write(&self) {
        loop {
            let jobs = poll_fn(|_| self.take()).await;
            if let Err(()) = self.write_group(jobs).await {
                self.poisoned.set(true);
                let waiting = std::mem::take(&mut self.queue.borrow_mut().jobs);
                for reply in waiting.into_iter().filter_map(|job| job.reply) {
                    reply.send(&self.sim.executor, Err(unavailable("the store has stopped")));
                }
                return;
            }
        }
    }

    fn take(&self) -> Poll<Vec<Job>> {
        let mut queue = self.queue.borrow_mut();
        let due = queue
            .since
            .is_some_and(|since| self.sim.executor.now() >= since + DEFER_PATIENCE);
        if queue.jobs.is_empty() && !due {
            self.writer.set(Some(self.sim.executor.current()));
            if let Some(since) = queue.since {
                self.sim.executor.wake_at(since + DEFER_PATIENCE);
            }
            return Poll::Pending;
        }
        queue.since = None;
        let mut jobs = Vec::new();
        let mut changes = std::mem::take(&mut queue.deferred).into_values();
        loop {
            let mutations: Vec<Mutation> = changes.by_ref().take(MAX_STEPS).collect();
            if mutations.is_empty() {
                break;
            }
            let commit = Commit {
                partition: "submitted".into(),
                mutations,
                ..Commit::default()
            };
            jobs.push(Job { commit, reply: None });
        }
        let waited_for = queue.jobs.len().min(GROUP);
        jobs.extend(queue.jobs.drain(..waited_for));
        Poll::Ready(jobs)
    }

    async fn write_group(&self, jobs: Vec<Job>) -> Result<(), ()> {
        let sim = &self.sim;
        let (now, revision) = (self.now(), self.state.borrow().revision);
        let mut group = Group::new(Durable(self), now, revision);
        let several = jobs.len() > 1;
        let mut replies = Vec::with_capacity(jobs.len());
        let mut deferred = Vec::new();
        for Job { mut commit, reply } in jobs {
            if reply.is_none() {
                deferred.extend(commit.mutations.iter().cloned());
                self.count_by_code(&mut commit);
            }
            let Ok(outcome) = group.decide(commit);
            replies.push((reply, outcome));
        }
        if group.is_dirty() {
            let writes = Rc::new(writes_of(&group));
            drop(group);
            match self.make_durable(&writes).await {
                Ok(()) => {}
                Err(error) => {
                    let failed = matches!(error, StoreError::Unknown(_));
                    // Nobody waits for them, and nobody is told.
                    sim.saw_times(Seen::ClicksDropped, deferred.len() as u64);
                    sim.model.borrow_mut().dropped(&deferred);
                    for reply in replies.into_iter().filter_map(|(reply, _)| reply) {
                        reply.send(&sim.executor, Err(error.clone()));
                    }
                    return if failed { Err(()) } else { Ok(()) };
                }
            }
            sim.model.borrow_mut().counted(&deferred);
            if several {
                sim.saw(Seen::GroupsOfSeveral);
            }
        }
        for (reply, outcome) in replies {
            if let Some(reply) = reply {
                reply.send(&sim.executor, outcome);
            }
        }
        Ok(())
    }

    /// Writes, syncs, shows. `Unavailable`: nothing was done. `Unknown`: the sync has failed.
    async fn make_durable(&self, writes: &Rc<GroupWrites>) -> Result<(), StoreError> {
        let sim = &self.sim;
        if sim.bug == Some(Bug::SplitCommit) && !writes.messages.is_empty() {
            let entries_only = GroupWrites {
                entries: writes.entries.clone(),
                messages: Vec::new(),
                records: writes.records.clone(),
                lanes: Vec::new(),
                by: String::new(),
                ..**writes
            };
            sim.model.borrow_mut().in_doubt(Rc::clone(writes));
            sim.disk.borrow_mut().write(Rc::new(entries_only));
            sim.disk.borrow_mut().sync();
            sim.executor.sleep(sim.between(200, 3_000)).await;
            let messages_only = GroupWrites {
                entries: Vec::new(),
                messages: writes.messages.clone(),
                records: Vec::new(),
                lanes: Vec::new(),
                by: String::new(),
                ..**writes
            };
            sim.disk.borrow_mut().write(Rc::new(messages_only));
            sim.disk.borrow_mut().sync();
            self.publish(writes);
            return Ok(());
        }
        if sim.is_on(&sim.weather.full_until) {
            sim.saw(Seen::DiskFull);
            sim.note(|| "disk full: the group is undone".into());
            return Err(unavailable("the disk is full"));
        }
        sim.model.borrow_mut().in_doubt(Rc::clone(writes));
        sim.disk.borrow_mut().write(Rc::clone(writes));
        let early = sim.has(Bug::AcknowledgeBeforeSync);
        if early {
            self.publish(writes);
        }
        let slow = sim.is_on(&sim.weather.slow_until);
        if slow {
            sim.saw(Seen::SlowSyncs);
        }
        let micros = if slow {
            sim.between(20_000, 400_000)
        } else {
            sim.between(250, 4_000)
        };
        if early {
            // The bug: callers that wait are answered before this is over.
            let late = Rc::clone(sim);
            sim.executor.spawn(Home::Process(0), async move {
                late.executor.sleep(micros).await;
                late.disk.borrow_mut().sync();
            });
            return Ok(());
        }
        sim.executor.sleep(micros).await;
        if !sim.calm.get() && sim.weather.sync_fails.take() {
            sim.saw(Seen::FailedSyncs);
            sim.note(|| format!("sync of revision {} FAILED", writes.revision));
            sim.disk.borrow_mut().fail_to_sync(&mut || sim.bits() as u8);
            if !sim.has(Bug::IgnoreFailedSync) {
                return Err(StoreError::Unknown("the sync has failed".into()));
            }
        }
        sim.disk.borrow_mut().sync();
        self.publish(writes);
        Ok(())
    }

    fn publish(&self, writes: &Rc<GroupWrites>) {
        let sim = &self.sim;
        sim.saw(Seen::Groups);
        sim.note(|| {
            let keys: Vec<&str> = writes.entries.iter().map(|(key, _)| &**key).collect();
            format!("durable: revision {} {keys:?}", writes.revision)
        });
        saw_messages(sim, writes);
        self.state.borrow_mut().apply(writes);
        let published = sim.model.borrow_mut().published(writes, sim.executor.now());
        sim.check(published);
        if !writes.messages.is_empty() {
            for task in self.tails.take() {
                sim.executor.wake(task);
            }
        }
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.writer.take() {
            self.sim.executor.wake(writer);
        }
    }

    fn is_full(&self) -> bool {
        let queue = self.queue.borrow();
        queue.jobs.len() + queue.deferred.len() >= QUEUE
    }

    /// The newest message stays where a topic is deleted.
    fn delete_less(&self, commit: &mut Commit) {
        for mutation in &mut commit.mutations {
            if let Mutation::Set { key, value, .. } = mutation
                && let Some(topic) = key.strip_prefix(deleted::PREFIX)
            {
                let last = self.state.borrow().topics.get(topic).map_or(0, Vec::len);
                *value = commit::literal(last.saturating_sub(1).to_string());
            }
        }
    }

    /// A commit as a deliberate bug distorts it.
    fn distorted(&self, mut commit: Commit) -> Commit {
        match self.sim.bug {
            Some(Bug::DropAbsent) => commit.conditions.retain(|c| !matches!(c, Condition::Absent(_))),
            Some(Bug::DropVersion) => commit
                .conditions
                .retain(|c| !matches!(c, Condition::Version { .. })),
            Some(Bug::ReleaseUnchecked) => without_check(&mut commit, "coupon.released"),
            Some(Bug::ExpireUnchecked) => without_check(&mut commit, "coupon.expired"),
            Some(Bug::ConfirmUnchecked) => without_check(&mut commit, "coupon.confirmed"),
            Some(Bug::ConfirmLate) => without_time(&mut commit, "coupon.confirmed"),
            Some(Bug::ExpireEarly) => without_time(&mut commit, "coupon.expired"),
            Some(Bug::ComeEarly) if releases(&commit) => commit
                .conditions
                .retain(|c| !matches!(c, Condition::NowIn { .. })),
            Some(Bug::ForgetToCome) if releases(&commit) => {
                commit.appends.clear();
                commit.mutations.retain(|m| !m.key().starts_with("message/"));
            }
            Some(Bug::ComeTwice) if releases(&commit) => commit.mutations.retain(|m| !is_release(m)),
            Some(Bug::DeleteTooLittle) => self.delete_less(&mut commit),
            Some(Bug::EnterLate) if is_about(&commit, "draw.entered") => commit.conditions.truncate(1),
            Some(Bug::CloseAgain) if closes_draw(&commit) => commit.conditions.clear(),
            Some(Bug::DrawTwice) if is_about(&commit, "draw.drawn") => commit.conditions.clear(),
            Some(Bug::OpenEarly) if commit.partition.starts_with("room/") => {
                commit
                    .conditions
                    .retain(|c| !matches!(c, Condition::NowIn { .. }));
            }
            Some(Bug::DrawLotLate) if commit.partition.starts_with("room/") => {
                commit.conditions.clear();
            }
            Some(Bug::AdmitEarly) if commit.partition.starts_with("room/") => goes_fast(&mut commit),
            Some(Bug::DropIdempotence) => commit.idempotence = None,
            Some(Bug::DropBounds | Bug::ReturnStockTwice) => {
                for mutation in &mut commit.mutations {
                    let Mutation::Add { key, delta, min, max } = mutation else {
                        continue;
                    };
                    if self.sim.has(Bug::DropBounds) {
                        (*min, *max) = (None, None);
                    } else if key.starts_with("remaining/") && *delta > 0 {
                        *delta *= 2;
                    }
                }
            }
            Some(Bug::TakeOneUnit | Bug::ReturnUnitsTwice) => {
                let twice = self.sim.has(Bug::ReturnUnitsTwice);
                let of_claim = commit
                    .appends
                    .iter()
                    .any(|append| append.kind.starts_with("coupon."));
                for mutation in commit.mutations.iter_mut().filter(|_| of_claim) {
                    match mutation {
                        Mutation::Add { key, delta, .. } if key.starts_with("remaining/") => match *delta {
                            ..-1 if !twice => *delta = -1,
                            2.. if twice => *delta *= 2,
                            _ => {}
                        },
                        _ => {}
                    }
                }
            }
            Some(Bug::GiveBackTwice | Bug::LoseGiveBack) if commit.partition == "quota" => {
                let twice = self.sim.has(Bug::GiveBackTwice);
                for mutation in &mut commit.mutations {
                    if let Mutation::Add { delta, min, .. } = mutation
                        && *delta < 0
                    {
                        (*delta, *min) = (if twice { -2 } else { 0 }, None);
                    }
                }
            }
            Some(Bug::GiveBackSuccess) if commit.partition == "quota" => self.give_back_all(&mut commit),
            Some(Bug::LeaseTwice) if commit.partition.starts_with("groups/") => {
                commit
                    .conditions
                    .retain(|c| !matches!(c, Condition::Version { .. }));
            }
            Some(Bug::LoseAck | Bug::AckLate) if commit.partition.starts_with("groups/") => {
                // A lease has no end, and what is given up has none either.
                let ends = |c: &Condition| matches!(c, Condition::NowIn { end: Some(_), .. });
                if self.sim.has(Bug::AckLate) {
                    commit.conditions.retain(|c| !ends(c));
                } else if commit.conditions.iter().any(ends) {
                    commit.mutations.clear();
                }
            }
            Some(Bug::FoldTwice) if commit.partition.starts_with("stats/") => {
                commit
                    .mutations
                    .retain(|mutation| !matches!(mutation, Mutation::Delete { .. }));
            }
            Some(Bug::KeepCode) => commit.mutations.retain(|mutation| {
                let is_code = mutation.key().starts_with("pool/");
                !is_code || !matches!(mutation, Mutation::Delete { .. })
            }),
            Some(Bug::JumpLine) => {
                for mutation in &mut commit.mutations {
                    if let Mutation::Add {
                        key, delta: 0, max, ..
                    } = mutation
                        && key.starts_with("waiting/")
                    {
                        *max = None;
                    }
                }
            }
            Some(Bug::LosePlace) => commit.mutations.retain(|mutation| {
                let is_place = mutation.key().starts_with("line/");
                !is_place || !matches!(mutation, Mutation::Set { .. })
            }),
            Some(Bug::ListByCode) => {
                for mutation in &mut commit.mutations {
                    let (Mutation::Set { key, .. } | Mutation::Delete { key }) = mutation else {
                        continue;
                    };
                    if key.starts_with("owner/") && key.contains("/t/") {
                        key.truncate(key.rfind('/').unwrap_or(0));
                    }
                }
            }
            _ => {}
        }
        commit
    }

    /// Where a reservation ends and its counter keeps what it has, it gives that back.
    fn give_back_all(&self, commit: &mut Commit) {
        let [Mutation::Delete { key }] = &commit.mutations[..] else {
            return;
        };
        let counters = self.sim.model.borrow().quota.counters_of(key);
        commit
            .mutations
            .extend(counters.into_iter().map(|key| Mutation::Add {
                key,
                delta: -1,
                min: None,
                max: None,
            }));
    }

    /// Where that is the bug, clicks on a link go to the one that has its code by now.
    fn count_by_code(&self, commit: &mut Commit) {
        if !self.sim.has(Bug::CountByCode) {
            return;
        }
        #[derive(serde::Deserialize)]
        struct Named {
            id: String,
        }
        for mutation in &mut commit.mutations {
            let Mutation::Add { key, .. } = mutation else {
                continue;
            };
            let code = key.strip_prefix("visits/").and_then(|rest| rest.split_once('/'));
            let Some((code, _)) = code else { continue };
            let entry = self
                .state
                .borrow()
                .entries
                .get(format!("link/{code}").as_str())
                .cloned();
            let named = entry.and_then(|entry| serde_json::from_slice::<Named>(&entry.value).ok());
            if let Some(Named { id }) = named {
                *key = format!("visits/{code}/{id}");
            }
        }
    }

    /// Hands on what was combined.
    fn flush(&self) {
        self.hand_on(self.front.take());
    }

    fn hand_on(&self, commits: Vec<Commit>) {
        for commit in commits {
            if self.poisoned.get() || self.is_full() {
                self.sim.model.borrow_mut().dropped(&commit.mutations);
                continue;
            }
            let mut queue = self.queue.borrow_mut();
            for new in commit.mutations {
                match (queue.deferred.get_mut(new.key()), &new) {
                    (Some(Mutation::Add { delta, .. }), Mutation::Add { delta: more, .. }) => *delta += more,
                    _ => drop(queue.deferred.insert(new.key().to_owned(), new)),
                }
            }
            if queue.since.is_none() {
                queue.since = Some(self.sim.executor.now());
                drop(queue);
                self.wake_writer();
            }
        }
    }

    fn live(&self, key: &str) -> Option<Arc<Entry>> {
        let now = self.now();
        let found = self.state.borrow().entries.get(key).cloned();
        found.filter(|entry| plan::is_live(entry, now))
    }

    /// A read gives way now and then, and may fail.
    async fn reading(&self) -> Result<(), StoreError> {
        if self.sim.one_of(150) {
            self.sim.executor.sleep(self.sim.between(20, 2_000)).await;
        }
        if self.sim.is_on(&self.sim.weather.reads_until) && self.sim.one_of(300) {
            self.sim.saw(Seen::StoreReadsFailed);
            return Err(unavailable("the read failed"));
        }
        Ok(())
    }
}

/// What the messages of a group tell of.
pub fn saw_messages(sim: &Sim, writes: &GroupWrites) {
    for message in &writes.messages {
        match message.kind.as_str() {
            "coupon.claimed" if message.payload.ends_with(b"\"held\"}") => sim.saw(Seen::Held),
            "coupon.confirmed" => sim.saw(Seen::HoldsConfirmed),
            "coupon.released" => sim.saw(Seen::HoldsReleased),
            "coupon.expired" => sim.saw(Seen::HoldsExpired),
            "coupon.revoked" => sim.saw(Seen::ClaimsRevoked),
            "draw.entered" => sim.saw(Seen::Entered),
            "draw.drawn" => sim.saw(Seen::Drawn),
            "draw.void" => sim.saw(Seen::DrawnVoid),
            _ => {}
        }
    }
}

/// Whether a commit appends a message of this type.
fn is_about(commit: &Commit, kind: &str) -> bool {
    commit.appends.iter().any(|append| append.kind == kind)
}

/// Whether a commit closes a draw: it counts the entries, and makes none.
fn closes_draw(commit: &Commit) -> bool {
    let counts = |mutation: &Mutation| matches!(mutation, Mutation::Add { key, delta: 0, .. } if key.starts_with("entries/"));
    commit.mutations.iter().any(counts)
}

/// A change of a claim that does not ask whether the claim is still the one that was read, nor how many are held.
fn without_check(commit: &mut Commit, kind: &str) {
    if commit.appends.first().is_some_and(|append| append.kind == kind) {
        commit
            .conditions
            .retain(|c| !matches!(c, Condition::Version { .. }));
        for mutation in &mut commit.mutations {
            if let Mutation::Add { min, .. } = mutation {
                *min = None;
            }
        }
    }
}

/// A change of a claim that does not ask for the time.
fn without_time(commit: &mut Commit, kind: &str) {
    if commit.appends.first().is_some_and(|append| append.kind == kind) {
        for condition in &mut commit.conditions {
            if let Condition::NowIn { start, end } = condition {
                (*start, *end) = (None, None);
            }
        }
    }
}

/// All that a group changes.
pub fn writes_of<B: Base>(group: &Group<B>) -> GroupWrites {
    let entries = group.entries().into_iter();
    GroupWrites {
        entries: entries.map(|(key, found)| (key.into(), found.cloned())).collect(),
        messages: group.messages().iter().cloned().map(Arc::new).collect(),
        records: group.records().into_iter().cloned().map(Arc::new).collect(),
        revision: group.revision(),
        now: group.now(),
        lanes: Vec::new(),
        by: String::new(),
    }
}

/// Every stretch of a room at ten times its pace.
fn goes_fast(commit: &mut Commit) {
    for mutation in &mut commit.mutations {
        let Mutation::Set { value, .. } = mutation else {
            continue;
        };
        for part in value {
            let Part::Bytes(bytes) = part else { continue };
            let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(bytes) else {
                continue;
            };
            let Some(stretches) = record
                .pointer_mut("/line/stretches")
                .and_then(|all| all.as_array_mut())
            else {
                continue;
            };
            for stretch in stretches {
                stretch["pace"] = (stretch["pace"].as_u64().unwrap_or(0) * 10).into();
            }
            *bytes = record.to_string().into_bytes();
        }
    }
}

/// Whether it takes away what kept a message that was to come.
fn is_release(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Delete { key } if key.starts_with("delayed/"))
}

/// Whether messages that were to come, come by it.
fn releases(commit: &Commit) -> bool {
    commit.mutations.iter().any(is_release)
}
