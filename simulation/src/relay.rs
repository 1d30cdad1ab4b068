//! Drives `tollgate_delivery::relay` as `crates/delivery/src/driver/worker.rs` does: events in, actions out, each action a task of its own.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tollgate_delivery::breaker::Change;
use tollgate_delivery::relay::attempt::Answered;
use tollgate_delivery::relay::record::Keys;
use tollgate_delivery::relay::{Action, Delivered, DeliveryPolicy, Event, Machine, Note, restore};
use tollgate_delivery::retry::Schedule;
use tollgate_store::commit::{Commit, MAX_WAIT_MS, Message, Mutation, Outcome, Part, StoreError};
use tollgate_store::ports::Store as _;

use crate::bug::Bug;
use crate::coverage::Seen;
use crate::executor::TaskId;
use crate::origin;
use crate::server::Server;
use crate::tenure::Tenure;
use crate::world::{SUBSCRIPTION, Sim, TOPICS};

/// How often the small entries are looked at, microseconds.
const POLL: u64 = 1_000_000;
/// How long to wait after the store has failed, microseconds.
const STORE_RETRY: u64 = 60_000;
/// The longest that an attempt takes, milliseconds.
const ATTEMPT_MS: u64 = 400;
/// How long an empty read takes at least, microseconds.
const IDLE: u64 = 200_000;

#[derive(Default)]
struct Mailbox {
    events: RefCell<VecDeque<Event>>,
    driver: Cell<Option<TaskId>>,
}

/// What must hold of what the machine does in one life of the process.
#[derive(Default)]
struct Watch {
    under_way: BTreeMap<u64, String>,
    open_until: u64,
}

struct Driver {
    server: Rc<Server>,
    sim: Rc<Sim>,
    index: usize,
    keys: Keys,
    mailbox: Mailbox,
    /// Unix milliseconds and microseconds at the start: the machine's clock does not jump.
    start: (u64, u64),
    tenure: Tenure,
    /// Whether it serves no more.
    is_over: Cell<bool>,
}

/// The relay of the topic at `index`, until the process ends. Where gateways share a store, whenever no other serves the
/// subscription.
pub async fn run(server: Rc<Server>, index: usize) {
    let keys = Keys::new(TOPICS[index], SUBSCRIPTION);
    loop {
        let tenure = Tenure::new(&server, keys.clone(), ATTEMPT_MS);
        tenure.begin().await;
        serve(&server, index, tenure).await;
        server.sim.saw(Seen::RelaysOvertaken);
    }
}

/// Serves the subscription until somebody else does.
async fn serve(server: &Rc<Server>, index: usize, tenure: Tenure) {
    let sim = Rc::clone(&server.sim);
    let driver = Rc::new(Driver {
        keys: Keys::new(TOPICS[index], SUBSCRIPTION),
        mailbox: Mailbox::default(),
        start: (server.wall_ms(), sim.executor.now()),
        index,
        server: Rc::clone(server),
        sim,
        tenure,
        is_over: Cell::new(false),
    });
    let poller = Rc::clone(&driver);
    driver.server.spawn(async move {
        while !poller.is_over.get() {
            poller.sim.executor.sleep(POLL).await;
            if !poller.is_over.get() {
                poller.tenure.renew_if_due().await;
            }
            if let Ok(polled) = restore::poll(&poller.server.store, &poller.keys).await {
                poller.tell(Event::Polled(polled));
            }
        }
    });
    Rc::clone(&driver).drive().await;
    driver.is_over.set(true);
}

impl Driver {
    fn now(&self) -> u64 {
        self.start.0 + (self.sim.executor.now() - self.start.1) / 1_000
    }

    fn tell(&self, event: Event) {
        self.mailbox.events.borrow_mut().push_back(event);
        if let Some(driver) = self.mailbox.driver.take() {
            self.sim.executor.wake(driver);
        }
    }

    /// The settings under test; with a bug, others than those that are expected.
    fn settings(&self) -> DeliveryPolicy {
        let mut settings = self.sim.setup.relays[self.index].clone();
        match self.sim.bug {
            Some(Bug::IgnoreOrder) => settings.ordered = false,
            Some(Bug::GiveUpEarly) => match &mut settings.schedule {
                Schedule::Exponential { max_attempts, .. } => *max_attempts -= 1,
                Schedule::Fixed(waits) => drop(waits.pop()),
            },
            _ => {}
        }
        settings
    }

    async fn drive(self: Rc<Self>) {
        let mut machine = Machine::new(self.settings());
        let mut watch = Watch::default();
        let (mut wake, mut event) = (u64::MAX, Event::Tick);
        loop {
            if self.tenure.is_lost() {
                return;
            }
            if let Event::Attempted { sequence, .. } | Event::Withheld { sequence, .. } = &event {
                watch.under_way.remove(sequence);
            }
            wake = if wake <= self.now() { u64::MAX } else { wake };
            for action in machine.handle(self.now(), self.sim.bits(), event) {
                match action {
                    Action::Wake { at } => {
                        wake = at;
                        let wait = at.saturating_sub(self.now()) * 1_000;
                        self.sim.executor.wake_at(self.sim.executor.now() + wait);
                    }
                    Action::Note(note) => self.noted(&note, &mut watch),
                    Action::Halt => self.sim.violated(|| "the relay ended by itself".into()),
                    action => {
                        if let Action::Send { message, attempt } = &action {
                            self.sending(message, *attempt, &mut watch);
                        }
                        let driver = Rc::clone(&self);
                        self.server.spawn(async move { driver.carry_out(action).await });
                    }
                }
            }
            event = poll_fn(|_| {
                if let Some(event) = self.mailbox.events.borrow_mut().pop_front() {
                    return Poll::Ready(event);
                }
                if wake <= self.now() {
                    return Poll::Ready(Event::Tick);
                }
                self.mailbox.driver.set(Some(self.sim.executor.current()));
                Poll::Pending
            })
            .await;
        }
    }

    async fn carry_out(&self, action: Action) {
        let engine = &self.server.store;
        let event = match action {
            Action::Restore => match restore::restore(engine, TOPICS[self.index], &self.keys).await {
                Ok(restored) => Event::Restored(Box::new(restored)),
                Err(_) => self.later(Event::RestoreFailed).await,
            },
            Action::Load { after, limit } => {
                match engine.read(TOPICS[self.index], after, limit, MAX_WAIT_MS).await {
                    Ok(messages) => {
                        if messages.is_empty() {
                            self.sim.executor.sleep(IDLE).await;
                        }
                        Event::Loaded(messages)
                    }
                    Err(_) => self.later(Event::LoadFailed).await,
                }
            }
            Action::Fetch { sequences } => {
                match restore::fetch(engine, TOPICS[self.index], &self.keys, &sequences).await {
                    Ok(found) => {
                        self.sim.saw_times(Seen::Parked, found.len() as u64);
                        Event::Fetched(found)
                    }
                    Err(_) => self.later(Event::FetchFailed).await,
                }
            }
            Action::Persist(commit) => match engine.commit(self.persisted(commit)).await {
                Ok(Outcome::Committed(done)) => Event::Persisted {
                    version: done.version,
                },
                Ok(outcome) => {
                    self.tenure.heard(&outcome);
                    Event::PersistFailed
                }
                Err(error) => {
                    if matches!(error, StoreError::Unknown(_)) {
                        self.sim.saw(Seen::ProgressLost);
                    }
                    self.later(Event::PersistFailed).await
                }
            },
            Action::Send { message, .. } => return self.send(&message).await,
            // What they do to the machine is in its own simulation.
            Action::SendBatch { .. } => {
                return self.sim.violated(|| "a batch where none is asked for".into());
            }
            Action::Wake { .. } | Action::Note(_) | Action::Halt => return,
        };
        self.tell(event);
    }

    /// What is committed; with a bug, less.
    fn persisted(&self, mut commit: Commit) -> Commit {
        if self.sim.has(Bug::ForgetParked) {
            let parks = |value: &[Part]| matches!(value, [Part::Bytes(value)] if String::from_utf8_lossy(value).contains("\"parked\":true"));
            commit
                .mutations
                .retain(|change| !matches!(change, Mutation::Set { value, .. } if parks(value)));
        }
        self.tenure.fence(&mut commit);
        commit
    }

    async fn later(&self, event: Event) -> Event {
        self.sim.executor.sleep(STORE_RETRY).await;
        event
    }

    async fn send(&self, message: &Arc<Message>) {
        let sequence = message.sequence;
        if !self.tenure.covers() {
            self.sim.saw(Seen::AttemptsWithheld);
            self.sim.executor.sleep(IDLE).await;
            let polled = None;
            return self.tell(Event::Withheld { sequence, polled });
        }
        if self.sim.has(Bug::AdvanceBeforeDelivery) {
            let delivered = Delivered::Accepted;
            self.tell(attempted(sequence, delivered));
            origin::attempt(&self.sim, self.index, message).await;
            return;
        }
        let delivered = origin::attempt(&self.sim, self.index, message).await;
        self.sim.note(|| {
            format!(
                "{} {sequence} ({}): {delivered:?}",
                TOPICS[self.index], message.key
            )
        });
        if self.sim.fault(10) {
            self.sim.saw(Seen::OriginTwice);
            let delivered = delivered.clone();
            self.tell(attempted(sequence, delivered));
        }
        self.tell(attempted(sequence, delivered));
    }

    fn sending(&self, message: &Arc<Message>, attempt: u32, watch: &mut Watch) {
        let (sim, expected) = (&self.sim, &self.sim.setup.relays[self.index]);
        let sequence = message.sequence;
        sim.ensure(self.now() >= watch.open_until, || {
            "sent while the breaker is open".into()
        });
        sim.ensure(attempt <= expected.schedule.max_attempts(), || {
            format!("attempt {attempt} of {sequence}")
        });
        sim.ensure(!watch.under_way.values().any(|key| *key == message.key), || {
            format!("two messages of {} at a time", message.key)
        });
        let earlier = watch.under_way.insert(sequence, message.key.clone());
        sim.ensure(
            earlier.is_none() && watch.under_way.len() <= expected.concurrency as usize,
            || format!("{} deliveries are under way", watch.under_way.len()),
        );
        let mut model = sim.model.borrow_mut();
        sim.check(model.sent(message));
        sim.check(model.ledgers[self.index].begin(message));
    }

    fn noted(&self, note: &Note, watch: &mut Watch) {
        let sim = &self.sim;
        sim.note(|| format!("{}: {note:?}", TOPICS[self.index]));
        match note {
            Note::Breaker(Change::Opened { until }) => {
                watch.open_until = *until;
                sim.saw(Seen::BreakerOpened);
            }
            Note::Breaker(Change::Closed) => {
                watch.open_until = 0;
                sim.saw(Seen::BreakerClosed);
            }
            Note::Dead {
                sequence, attempts, ..
            } => {
                sim.saw(Seen::DeadLetters);
                let most = sim.setup.relays[self.index].schedule.max_attempts();
                let ledger = &mut sim.model.borrow_mut().ledgers[self.index];
                ledger.dead.insert(*sequence);
                let failed = ledger.failures.get(sequence).copied().unwrap_or(0);
                sim.ensure(*attempts == most && failed >= most, || {
                    format!("message {sequence} was given up after {attempts} attempts ({failed} failed), not {most}")
                });
            }
            Note::Paused(_) => sim.saw(Seen::Paused),
            Note::Skipped { .. } | Note::Lost { .. } => {
                sim.violated(|| format!("nothing is removed here: {note:?}"))
            }
        }
    }
}

fn attempted(sequence: u64, delivered: Delivered) -> Event {
    Event::Attempted {
        sequence,
        delivered,
        answered: Answered::default(),
    }
}
