//! One subscription: events in, actions out.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::attributes;
use crate::breaker::Change;
use crate::relay::record::{Keys, PauseReason};
use crate::relay::restore;
use crate::relay::{Action, Delivered, DeliveryPolicy, Event, Machine, Note};
use crate::subscriptions::{self, Defined, Standing, standing};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until};
use tollgate_store::commit::{Commit, MAX_WAIT_MS, Message, Outcome, StoreError};
use tollgate_store::ports::Store;

use super::observer::{Attempt, Observer};
use super::status::{Board, SubscriptionStatus};
use super::tenure::{Ended, Tenure};
use crate::clock::{Clock, random};
use crate::sinks::{AnySink, Report, Sink as _};

/// How long to wait after the store has failed.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long an empty read takes at least, also where the store does not wait.
const IDLE: Duration = Duration::from_millis(200);
/// How often the board is written while nothing but time passes.
const BOARD_INTERVAL: Duration = Duration::from_millis(100);

/// A command to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    /// See through what is under way, make it durable, end.
    Drain,
    /// End at once and write nothing: the subscription was removed.
    Abandon,
}

pub(crate) struct Worker<S> {
    pub store: Arc<S>,
    pub sink: AnySink,
    pub defined: Defined,
    pub board: Arc<Board>,
    /// See [`super::Intervals::poll`].
    pub poll: Duration,
    pub observer: Option<Arc<dyn Observer>>,
    pub orders: watch::Receiver<Order>,
    /// Whether others share the store.
    pub shared: bool,
}

type Jobs<'a> = FuturesUnordered<LocalBoxFuture<'a, Option<Event>>>;

impl<S: Store> Worker<S> {
    /// Until it is told to end, or the subscription was removed. On a store that others share, whenever nobody else serves it.
    pub async fn run(self) {
        let Self {
            store,
            sink,
            defined,
            board,
            poll,
            observer,
            mut orders,
            shared,
        } = self;
        let clock = Clock::new();
        let keys = defined.keys();
        let (topic, name) = (defined.topic.clone(), defined.settings.name.clone());
        let tenure = shared.then(|| Tenure::new(clock, keys.clone(), defined.settings.timeout.into()));
        let driver = Driver {
            store,
            sink,
            defined,
            topic,
            name,
            keys,
            observer,
            tenure,
            clock,
        };
        loop {
            if let Some(tenure) = &driver.tenure
                && tenure.begin(&*driver.store, &mut orders).await.is_err()
            {
                return;
            }
            match driver.serve(&mut orders, poll, &board).await {
                Ended::Told => return,
                Ended::Lost => driver.log_lost(),
            }
        }
    }
}

impl<S: Store> Driver<S> {
    /// Serves the subscription, for as long as the lease is ours where there is one.
    async fn serve(&self, orders: &mut watch::Receiver<Order>, poll: Duration, board: &Board) -> Ended {
        let settings = DeliveryPolicy::new(&self.topic, self.keys.clone(), &self.defined.settings);
        let mut machine = Machine::new(settings);
        let mut jobs: Jobs<'_> = FuturesUnordered::new();
        let mut poll = tokio::time::interval(poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let polling = Rc::new(RefCell::new(false));
        let mut tally = Tally::new(&self.topic, &self.name, &machine);
        let (mut wake, mut event) = (None::<Instant>, Some(Event::Tick));
        loop {
            if self.tenure.as_ref().is_some_and(Tenure::is_lost) {
                return Ended::Lost;
            }
            if let Some(event) = event.take() {
                wake = None;
                tally.count(&event);
                for action in machine.handle(self.clock.now(), random(), event) {
                    match action {
                        Action::Wake { at } => wake = Some(self.clock.instant(at)),
                        Action::Note(note) => tally.note(&note),
                        Action::Halt => {
                            self.log_removed();
                            return Ended::Told;
                        }
                        action => jobs.push(self.carry_out(action)),
                    }
                }
                tally.publish(&machine, board);
                let order = *orders.borrow();
                if order == Order::Drain && machine.is_drained() {
                    if let Some(tenure) = &self.tenure {
                        tenure.end(&*self.store).await;
                    }
                    return Ended::Told;
                }
            }
            event = tokio::select! {
                Some(done) = jobs.next() => done,
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Some(Event::Tick),
                _ = poll.tick() => {
                    if !polling.replace(true) {
                        jobs.push(self.poll(Rc::clone(&polling)));
                    }
                    if let Some(tenure) = self.tenure.as_ref().filter(|tenure| tenure.is_due()) {
                        jobs.push(Box::pin(async move { tenure.renew(&*self.store).await; None }));
                    }
                    tally.publish(&machine, board);
                    None
                }
                changed = orders.changed() => match (changed, *orders.borrow()) {
                    (Ok(()), Order::Drain) => Some(Event::Stop),
                    (Ok(()), Order::Abandon) | (Err(_), _) => return Ended::Told,
                    (Ok(()), Order::Run) => None,
                },
            };
        }
    }
}

/// Carries actions out.
struct Driver<S> {
    store: Arc<S>,
    sink: AnySink,
    defined: Defined,
    topic: String,
    name: String,
    keys: Keys,
    observer: Option<Arc<dyn Observer>>,
    /// Where others share the store.
    tenure: Option<Tenure>,
    clock: Clock,
}

impl<S: Store> Driver<S> {
    fn carry_out(&self, action: Action) -> LocalBoxFuture<'_, Option<Event>> {
        Box::pin(async move {
            match action {
                Action::Restore => Some(self.restore().await),
                Action::Load { after, limit } => Some(self.load(after, limit).await),
                Action::Fetch { sequences } => Some(self.fetch(&sequences).await),
                Action::Send { message, attempt } => Some(self.send(message, attempt).await),
                Action::SendBatch { number, messages } => Some(self.send_batch(number, &messages).await),
                Action::Persist(commit) => Some(self.persist(commit).await),
                Action::Wake { .. } | Action::Note(_) | Action::Halt => None,
            }
        })
    }

    async fn restore(&self) -> Event {
        match subscriptions::restored(&*self.store, &self.defined).await {
            Ok(restored) => Event::Restored(Box::new(restored)),
            Err(error) => {
                self.store_failed("read the progress", &error).await;
                Event::RestoreFailed
            }
        }
    }

    async fn load(&self, after: u64, limit: u32) -> Event {
        let began = Instant::now();
        match self.store.read(&self.topic, after, limit, MAX_WAIT_MS).await {
            Ok(messages) => {
                if messages.is_empty() {
                    sleep(IDLE.saturating_sub(began.elapsed())).await;
                }
                Event::Loaded(messages)
            }
            Err(error) => {
                self.store_failed("read messages", &error).await;
                Event::LoadFailed
            }
        }
    }

    async fn fetch(&self, sequences: &[u64]) -> Event {
        match restore::fetch(&*self.store, &self.topic, &self.keys, sequences).await {
            Ok(found) => Event::Fetched(found),
            Err(error) => {
                self.store_failed("read messages that wait", &error).await;
                Event::FetchFailed
            }
        }
    }

    async fn persist(&self, mut commit: Commit) -> Event {
        if let Some(tenure) = &self.tenure {
            tenure.fence(&mut commit);
        }
        let outcome = self.store.commit(commit).await;
        if let (Some(tenure), Ok(outcome)) = (&self.tenure, &outcome) {
            tenure.heard(outcome);
        }
        match outcome {
            Ok(Outcome::Committed(done)) => Event::Persisted {
                version: done.version,
            },
            Ok(Outcome::Refused(_) | Outcome::Replayed(_) | Outcome::Conflict) => {
                let Self { topic, name, .. } = self;
                tracing::warn!(
                    topic,
                    subscription = name,
                    "another relay has made progress; looking again"
                );
                Event::PersistFailed
            }
            Err(error) => {
                self.store_failed("make the progress durable", &error).await;
                Event::PersistFailed
            }
        }
    }

    async fn send(&self, message: Arc<Message>, attempt: u32) -> Event {
        let sequence = message.sequence;
        if self.is_not_covered().await {
            return Event::Withheld {
                sequence,
                polled: None,
            };
        }
        match standing(&*self.store, &self.defined).await {
            Ok(Standing { in_force: false, .. }) => return Event::Superseded { sequence },
            Ok(Standing { polled, .. }) if polled.control.0.paused => {
                let polled = Some(polled);
                return Event::Withheld { sequence, polled };
            }
            Ok(_) => {}
            Err(error) => {
                self.store_failed("see whether it is in force", &error).await;
                return Event::Withheld {
                    sequence,
                    polled: None,
                };
            }
        }
        let Report { delivered, answered } = self.observed(message, attempt).await;
        let ms = answered.ms;
        let Self { topic, name, .. } = self;
        tracing::debug!(topic, subscription = name, sequence, attempt, ms, outcome = ?delivered, "attempt");
        Event::Attempted {
            sequence,
            delivered,
            answered,
        }
    }

    async fn send_batch(&self, number: u64, messages: &[(Arc<Message>, u32)]) -> Event {
        if self.is_not_covered().await {
            return Event::BatchWithheld { number, polled: None };
        }
        match standing(&*self.store, &self.defined).await {
            Ok(Standing { in_force: false, .. }) => return Event::BatchSuperseded { number },
            Ok(Standing { polled, .. }) if polled.control.0.paused => {
                let polled = Some(polled);
                return Event::BatchWithheld { number, polled };
            }
            Ok(_) => {}
            Err(error) => {
                self.store_failed("see whether it is in force", &error).await;
                return Event::BatchWithheld { number, polled: None };
            }
        }
        let Report { delivered, answered } = self.sink.deliver_together(messages).await;
        let (count, ms) = (messages.len(), answered.ms);
        let Self { topic, name, .. } = self;
        tracing::debug!(topic, subscription = name, count, ms, outcome = ?delivered, "attempt of a batch");
        Event::BatchAttempted {
            number,
            delivered,
            answered,
        }
    }

    /// Whether an attempt could outlast the lease; if so, it has waited a little for the renewal.
    async fn is_not_covered(&self) -> bool {
        let not_covered = self.tenure.as_ref().is_some_and(|tenure| !tenure.covers());
        if not_covered {
            sleep(IDLE).await;
        }
        not_covered
    }

    /// One delivery; whoever observes it hears how it ended.
    async fn observed(&self, message: Arc<Message>, number: u32) -> Report {
        let Some(observer) = &self.observer else {
            return self.sink.deliver(message, None).await;
        };
        let of_message = attributes::traceparent(&message);
        let places = of_message.and_then(|of_message| Some((of_message, observer.place(of_message)?)));
        let Some((of_message, place)) = places else {
            return self.sink.deliver(message, None).await;
        };
        let began = SystemTime::now();
        let report = self.sink.deliver(Arc::clone(&message), Some(place)).await;
        observer.ended(&Attempt {
            message: &message,
            subscription: &self.name,
            number,
            began,
            of_message,
            place,
            delivered: &report.delivered,
        });
        report
    }

    fn poll(&self, polling: Rc<RefCell<bool>>) -> LocalBoxFuture<'_, Option<Event>> {
        Box::pin(async move {
            // A failure is told by the calls that matter more.
            let polled = restore::poll(&*self.store, &self.keys).await.ok();
            polling.replace(false);
            polled.map(Event::Polled)
        })
    }

    async fn store_failed(&self, what: &str, error: &StoreError) {
        let Self { topic, name, .. } = self;
        tracing::warn!(topic, subscription = name, %error, "could not {what}; trying again");
        sleep(STORE_RETRY).await;
    }

    fn log_lost(&self) {
        let Self { topic, name, .. } = self;
        tracing::warn!(
            topic,
            subscription = name,
            "another process serves the subscription now"
        );
    }

    fn log_removed(&self) {
        tracing::info!(
            topic = self.topic,
            subscription = self.name,
            "the subscription was removed"
        );
    }
}

/// Counts and tells what happens.
struct Tally {
    status: SubscriptionStatus,
    published: Instant,
}

impl Tally {
    fn new(topic: &str, name: &str, machine: &Machine) -> Self {
        let status = SubscriptionStatus {
            topic: topic.to_owned(),
            name: name.to_owned(),
            attempts: 0,
            delivered: 0,
            unwanted: 0,
            dead: 0,
            machine: machine.snapshot(),
        };
        let published = Instant::now() - BOARD_INTERVAL;
        Self { status, published }
    }

    fn count(&mut self, event: &Event) {
        if let Event::Attempted { delivered, .. } | Event::BatchAttempted { delivered, .. } = event {
            self.status.attempts += 1;
            self.status.delivered += u64::from(*delivered == Delivered::Accepted);
            self.status.unwanted += u64::from(*delivered == Delivered::Unwanted);
        }
    }

    fn note(&mut self, note: &Note) {
        let SubscriptionStatus { topic, name, .. } = &self.status;
        match note {
            Note::Breaker(Change::Opened { until }) => {
                let until = tollgate_api::time::format(*until);
                tracing::warn!(
                    topic,
                    subscription = name,
                    until,
                    "the origin fails; the circuit breaker is open"
                );
            }
            Note::Breaker(Change::Closed) => {
                tracing::info!(
                    topic,
                    subscription = name,
                    "the origin works again; the circuit breaker is closed"
                );
            }
            Note::Dead {
                sequence,
                id,
                attempts,
                error,
            } => {
                tracing::warn!(
                    topic,
                    subscription = name,
                    sequence,
                    id,
                    attempts,
                    error,
                    "a dead letter"
                );
                self.status.dead += 1;
            }
            Note::Paused(PauseReason::Failing) => {
                tracing::warn!(
                    topic,
                    subscription = name,
                    "paused: the origin has failed for too long"
                );
            }
            Note::Paused(_) => {
                tracing::warn!(
                    topic,
                    subscription = name,
                    "paused: the origin wants no more messages"
                );
            }
            Note::Skipped { start, end } => {
                tracing::warn!(
                    topic,
                    subscription = name,
                    start,
                    end,
                    "retention had removed these messages"
                );
            }
            Note::Lost { sequence } => {
                tracing::warn!(
                    topic,
                    subscription = name,
                    sequence,
                    "a message that waited is no longer there"
                );
            }
        }
    }

    fn publish(&mut self, machine: &Machine, board: &Board) {
        if self.published.elapsed() >= BOARD_INTERVAL {
            self.published = Instant::now();
            self.status.machine = machine.snapshot();
            board.set(&self.status);
        }
    }
}
