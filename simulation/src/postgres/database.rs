//! A Postgres that gateways share, as far as they lean on it: rows, locks, transactions in READ COMMITTED, one statement after the
//! other. A COMMIT is durable, here and on a synchronous standby, before it is shown or answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tollgate_store::commit;
use tollgate_store::plan::asked::Wanted;
use tollgate_store::plan::{Extent, Record};

use super::debts::Accounts;
use super::locks::{Locks, Row};
use super::transaction::{Answer, Looked, Session, Transaction, Writes};
use super::{LANES, history::History};
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::disk::{GroupWrites, State};
use crate::engine::saw_messages;
use crate::executor::Home;
use crate::world::Sim;

/// `idle_in_transaction_session_timeout` of the gateways' sessions, microseconds.
const IDLE_IN_TRANSACTION: u64 = 1_000_000;

/// A lane's row.
#[derive(Clone, Copy, Default)]
struct Lane {
    revision: u64,
    now: u64,
}

/// All that is durable.
#[derive(Clone, Default)]
struct Rows {
    state: State,
    lanes: Vec<Lane>,
    /// The time of each topic that has a row.
    topics: BTreeMap<String, u64>,
    writers: BTreeMap<u64, u64>,
}

/// The modelled database.
#[derive(Default)]
pub struct Database {
    rows: RefCell<Rows>,
    /// With a bug: what the standby has, which lags.
    standby: RefCell<Option<Rows>>,
    locks: Locks,
    open: RefCell<Vec<Rc<Transaction>>>,
    pub(super) sessions: RefCell<Vec<Weak<Session>>>,
    /// Times that it was started.
    pub(super) life: Cell<u64>,
    /// From when on it answers.
    pub(super) up_at: Cell<u64>,
    /// Until when nothing gets through to it and from it.
    pub(super) silent_until: Cell<u64>,
    /// Until when a gateway by its place hears nothing of it.
    pub(super) apart: Cell<(u8, u64)>,
    /// Its clock, milliseconds ahead.
    pub(super) clock_ms: Cell<i64>,
    numbers: Cell<u64>,
    pub history: History,
    /// Of limits that are shared.
    pub accounts: Accounts,
}

impl Database {
    /// Makes the tables.
    pub fn make(&self) {
        self.rows.borrow_mut().lanes = (0..LANES)
            .map(|lane| Lane {
                revision: u64::from(LANES + lane),
                now: 0,
            })
            .collect();
    }

    /// A number that nothing else has.
    pub fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Looks at what is committed, at one moment.
    pub fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.rows.borrow().state)
    }

    /// Its clock, Unix milliseconds; it may step back.
    pub fn clock(&self, sim: &Sim) -> u64 {
        sim.wall_ms().saturating_add_signed(self.clock_ms.get())
    }

    /// Whether a message comes through between a gateway and the database.
    pub fn is_reached(&self, sim: &Sim, place: u8) -> bool {
        let now = sim.executor.now();
        let (apart, until) = self.apart.get();
        let is_apart = apart == place && now < until;
        sim.calm.get() || now >= self.up_at.get() && now >= self.silent_until.get() && !is_apart
    }

    fn is_of(&self, session: &Session) -> bool {
        session.life == self.life.get() && !session.is_ended.get()
    }

    /// The first flight of a group.
    pub async fn look(
        &self,
        sim: &Rc<Sim>,
        session: &Rc<Session>,
        own: (u64, u64),
        wanted: &Wanted,
    ) -> Answer {
        if !self.is_of(session) {
            return Answer::Cut;
        }
        let transaction = Rc::new(Transaction {
            number: self.number(),
            own,
            over: Cell::new(false),
            flights: Cell::new(1),
            commits: RefCell::default(),
        });
        self.open.borrow_mut().push(Rc::clone(&transaction));
        *session.transaction.borrow_mut() = Some(Rc::clone(&transaction));
        let looked = self.looked(sim, &transaction, wanted).await;
        match looked {
            Err(why) => {
                self.end(sim, &transaction);
                Answer::Refused(why)
            }
            Ok(looked) => {
                let (sim, session) = (Rc::clone(sim), Rc::clone(session));
                let executor = &Rc::clone(&sim).executor;
                executor.spawn(Home::World, async move {
                    sim.executor.sleep(IDLE_IN_TRANSACTION).await;
                    if transaction.flights.get() == 1 && !transaction.is_over() {
                        sim.saw(Seen::IdleInTransaction);
                        sim.note(|| format!("transaction {} stood still: ended", transaction.number));
                        sim.database.end(&sim, &transaction);
                        session.is_ended.set(true);
                    }
                });
                Answer::Looked(Box::new(looked))
            }
        }
    }

    async fn looked(&self, sim: &Sim, own: &Transaction, wanted: &Wanted) -> Result<Looked, &'static str> {
        self.locks.lock(sim, own, Row::Writer(own.own.0)).await?;
        // A database whose locks are weaker, or that gave them away: the comparisons must hold by themselves.
        let are_lost = sim.fault(60);
        if are_lost {
            sim.saw(Seen::LocksLost);
        }
        let (mut seen, mut now) = (Vec::new(), 0);
        for &lane in &wanted.lanes {
            if !are_lost {
                self.locks.lock(sim, own, Row::Lane(lane)).await?;
            }
            let row = self
                .rows
                .borrow()
                .lanes
                .get(lane as usize)
                .copied()
                .unwrap_or_default();
            seen.push(row.revision);
            now = now.max(row.now);
        }
        sim.executor.sleep(sim.between(10, 150)).await;
        let mut topics = Vec::new();
        for topic in &wanted.topics {
            if !self.rows.borrow().topics.contains_key(topic) {
                return Err("a topic is new");
            }
            if !are_lost {
                self.locks.lock(sim, own, Row::Topic(topic.clone())).await?;
            }
            let rows = self.rows.borrow();
            let log = rows.state.topics.get(topic).map_or(&[][..], Vec::as_slice);
            let extent = Extent {
                last: log.len() as u64,
                bytes: log.iter().map(|message| commit::weight(message)).sum(),
            };
            topics.push((topic.clone(), extent));
            now = now.max(rows.topics.get(topic).copied().unwrap_or(0));
        }
        now = now.max(self.clock(sim));
        sim.executor.sleep(sim.between(10, 150)).await;
        if sim.fault(12) {
            sim.saw(Seen::Serialisation);
            return Err("could not serialize access");
        }
        if own.is_over() {
            return Err("the transaction has ended");
        }
        let rows = self.rows.borrow();
        let entry = |key: &String| (key.clone(), rows.state.entries.get(key.as_str()).cloned());
        let records = wanted.ids.iter().filter_map(|id| rows.state.records.get(id));
        Ok(Looked {
            entries: wanted.keys.iter().map(entry).collect(),
            topics,
            records: records.map(|record| Record::clone(record)).collect(),
            seen,
            now,
        })
    }

    /// Makes the rows of topics, in a transaction of its own.
    pub fn make_topics(&self, topics: &[String]) {
        let mut rows = self.rows.borrow_mut();
        for topic in topics {
            rows.topics.entry(topic.clone()).or_default();
        }
    }

    /// The second flight of a group, with COMMIT at its end.
    pub async fn write(&self, sim: &Rc<Sim>, session: &Session, writes: &Writes) -> Answer {
        let transaction = session.transaction.borrow().clone();
        let Some(transaction) = transaction.filter(|one| self.is_of(session) && !one.is_over()) else {
            // What ended the session may be told, or not.
            return match sim.one_of(500) {
                true => Answer::Refused("terminating connection due to idle-in-transaction timeout"),
                false => Answer::Cut,
            };
        };
        transaction.flights.set(2);
        let refused = match self.lock_all(sim, &transaction, writes).await {
            Err(why) => Some(why),
            Ok(()) if sim.fault(8) => {
                sim.saw(Seen::Serialisation);
                Some("could not serialize access")
            }
            Ok(()) => self.differs(sim, writes),
        };
        if let Some(why) = refused {
            self.end(sim, &transaction);
            return Answer::Refused(why);
        }
        *transaction.commits.borrow_mut() = Some(Rc::clone(&writes.group));
        let slow = sim.is_on(&sim.weather.slow_until);
        if slow {
            sim.saw(Seen::SlowSyncs);
        }
        let micros = match slow {
            // Others wait for its locks until they give up.
            true if sim.one_of(100) => sim.between(1_000_000, 7_000_000),
            true => sim.between(20_000, 400_000),
            false => sim.between(250, 4_000),
        };
        sim.executor.sleep(micros).await;
        if transaction.is_over() {
            return Answer::Cut;
        }
        self.commit(sim, &transaction);
        Answer::Done
    }

    /// What its statements change is locked by them, whatever was locked before.
    async fn lock_all(&self, sim: &Sim, own: &Transaction, writes: &Writes) -> Result<(), &'static str> {
        let group = &writes.group;
        for &lane in &group.lanes {
            self.locks.lock(sim, own, Row::Lane(lane)).await?;
        }
        for (key, _) in &group.entries {
            self.locks.lock(sim, own, Row::Entry(key.to_string())).await?;
        }
        for (topic, _) in &writes.topics {
            self.locks.lock(sim, own, Row::Topic(topic.clone())).await?;
        }
        for record in &group.records {
            self.locks.lock(sim, own, Row::Record(record.id.clone())).await?;
        }
        Ok(())
    }

    /// Whether something is not as it was read.
    fn differs(&self, sim: &Sim, writes: &Writes) -> Option<&'static str> {
        let rows = self.rows.borrow();
        // The primary key of messages.
        let last = |topic: &str| rows.state.last_sequence(topic);
        if writes.topics.iter().any(|(topic, seen)| last(topic) != *seen) {
            sim.saw(Seen::Fenced);
            return Some("a sequence is taken");
        }
        if sim.has(Bug::SkipFence) {
            return None;
        }
        let lanes = writes.group.lanes.iter().zip(&writes.seen);
        let version = |key: &str| rows.state.entries.get(key).map_or(0, |entry| entry.version);
        let is_taken = |record: &Arc<Record>| {
            let there = rows.state.records.get(&record.id);
            there.is_some_and(|there| there.expires > writes.group.now)
        };
        let same = lanes.into_iter().all(|(lane, seen)| {
            rows.lanes
                .get(*lane as usize)
                .is_some_and(|row| row.revision == *seen)
        }) && writes.versions.iter().all(|(key, seen)| version(key) == *seen)
            && !writes.group.records.iter().any(is_taken);
        if same {
            return None;
        }
        sim.saw(Seen::Fenced);
        Some("division by zero")
    }

    fn commit(&self, sim: &Sim, transaction: &Transaction) {
        let Some(group) = transaction.commits.take() else {
            return;
        };
        let now = sim.executor.now();
        if sim.has(Bug::AsynchronousStandby) {
            *self.standby.borrow_mut() = Some(self.rows.borrow().clone());
        }
        {
            let mut rows = self.rows.borrow_mut();
            rows.writers.insert(transaction.own.0, transaction.own.1);
            for &lane in &group.lanes {
                if let Some(lane) = rows.lanes.get_mut(lane as usize) {
                    (lane.revision, lane.now) = (group.revision, group.now);
                }
            }
            for message in &group.messages {
                rows.topics.insert(message.topic.clone(), group.now);
            }
            rows.state.apply(&group);
        }
        for (key, entry) in &group.entries {
            let version = entry.as_ref().map_or(0, |entry| entry.version);
            self.history.changed(key, version, now);
        }
        sim.saw(Seen::Groups);
        sim.note(|| {
            let keys: Vec<&str> = group.entries.iter().map(|(key, _)| &**key).collect();
            format!(
                "durable, by {}: revision {} of lanes {:?} {keys:?}",
                group.by, group.revision, group.lanes
            )
        });
        saw_messages(sim, &group);
        let published = sim.model.borrow_mut().published(&group, now);
        sim.check(published);
        self.end(sim, transaction);
    }

    fn end(&self, sim: &Sim, transaction: &Transaction) {
        transaction.over.set(true);
        self.open
            .borrow_mut()
            .retain(|one| one.number != transaction.number);
        self.locks.release(sim, transaction.number);
    }

    /// The group of this session is undone, if it has not come to COMMIT.
    pub fn undo(&self, sim: &Sim, session: &Session) {
        let transaction = session.transaction.take();
        if let Some(transaction) = transaction.filter(|one| one.commits.borrow().is_none()) {
            self.end(sim, &transaction);
        }
    }

    /// A row for a writer.
    pub fn make_writer(&self) -> u64 {
        let id = self.number();
        self.rows.borrow_mut().writers.insert(id, 0);
        id
    }

    /// What a writer's row says, once nobody holds it.
    pub async fn own(&self, sim: &Rc<Sim>, session: &Session, id: u64) -> Answer {
        if !self.is_of(session) {
            return Answer::Cut;
        }
        let transaction = Rc::new(Transaction {
            number: self.number(),
            own: (id, 0),
            over: Cell::new(false),
            flights: Cell::new(2),
            commits: RefCell::default(),
        });
        self.open.borrow_mut().push(Rc::clone(&transaction));
        if !sim.has(Bug::ReadOwnUnlocked)
            && let Err(why) = self.locks.lock(sim, &transaction, Row::Writer(id)).await
        {
            self.end(sim, &transaction);
            return Answer::Refused(why);
        }
        let number = self.rows.borrow().writers.get(&id).copied();
        self.end(sim, &transaction);
        Answer::Number(number)
    }

    /// It ends where it stands; what was being committed is there, or is not. With `failover`, the standby goes on.
    pub fn crash(&self, sim: &Sim, failover: bool) {
        self.life.set(self.life.get() + 1);
        self.accounts.lost(sim);
        let open = self.open.borrow().clone();
        for transaction in open {
            let is_committing = transaction.commits.borrow().is_some();
            if is_committing && sim.one_of(500) {
                sim.saw(Seen::CommitsInDoubt);
                self.commit(sim, &transaction);
            } else {
                self.end(sim, &transaction);
            }
        }
        if failover {
            let ahead = i64::try_from(sim.below(80)).unwrap_or(0) - 40;
            self.clock_ms.set(ahead);
            if let Some(standby) = self.standby.take() {
                *self.rows.borrow_mut() = standby;
            }
        }
        let same = self.with(|state| sim.model.borrow().same_as(state));
        sim.check(same);
    }

    /// What it has committed is what was durable.
    pub fn is_as_told(&self, sim: &Sim) -> Result<(), String> {
        self.with(|state| sim.model.borrow().same_as(state))
    }
}

/// What a group changes, and what it replaces.
pub fn writes(group: GroupWrites, looked: &Looked) -> Writes {
    let entries: BTreeMap<&str, u64> = looked
        .entries
        .iter()
        .filter_map(|(key, found)| Some((key.as_str(), found.as_ref()?.version)))
        .collect();
    let versions = group
        .entries
        .iter()
        .map(|(key, _)| (Arc::clone(key), entries.get(&**key).copied().unwrap_or(0)));
    let appends = |topic: &str| group.messages.iter().any(|message| message.topic == topic);
    let topics = looked.topics.iter().filter(|(topic, _)| appends(topic));
    Writes {
        versions: versions.collect(),
        topics: topics
            .map(|(topic, extent)| (topic.clone(), extent.last))
            .collect(),
        seen: looked.seen.clone(),
        group: Rc::new(group),
    }
}
