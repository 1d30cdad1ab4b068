//! The drain of one subscription.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

use super::{BEAT_MS, Outside, Report, STAY_MS, Until};
use crate::lease::{self, Held, Terms, Trust};
use crate::relay::record::Keys;
use crate::relay::restore::{self, Polled};
use crate::relay::{Action, Delivered, DeliveryPolicy, Event, MAX_CONCURRENCY, Machine};
use crate::subscriptions::{self, Defined, Standing, standing};
use tollgate_store::commit::{Commit, Message, Outcome, StoreError};
use tollgate_store::extent::extent;
use tollgate_store::ports::Store;

/// How long to wait after the store has failed, milliseconds.
const STORE_RETRY_MS: u64 = 1_000;
/// How long to wait before an empty topic is read again, milliseconds.
const IDLE_MS: u64 = 200;
/// How long what is under way may take to end beyond an attempt, milliseconds; then it is given up.
const GRACE_MS: u64 = 5_000;
/// The most deliveries under way of one drain: fewer sockets than a process of our own may have.
const MAX_UNDER_WAY: u32 = 16;
const _: () = assert!(MAX_UNDER_WAY <= MAX_CONCURRENCY);

/// What a drain of one subscription did, and how far it saw.
pub(super) struct Drained {
    pub report: Report,
    /// The highest sequence that was loaded, and the small entries as they were seen last, or when the lease ends that another
    /// process has, Unix milliseconds.
    seen: Result<(u64, Polled), u64>,
    /// The subscription is not what it was: whoever looks again finds what it is now.
    is_superseded: bool,
}

impl Drained {
    fn elsewhere(ends: u64) -> Self {
        let report = Report {
            elsewhere: 1,
            ..Report::default()
        };
        Self {
            report,
            seen: Err(ends),
            is_superseded: false,
        }
    }

    /// When the lease ends that another process has, Unix milliseconds.
    pub fn is_elsewhere_until(&self) -> Option<u64> {
        self.seen.as_ref().err().copied()
    }

    /// Whether something was appended or asked for that the drain has not seen. To be asked after the lease was given back.
    pub async fn is_behind<S: Store>(&self, store: &S, defined: &Defined) -> Result<bool, StoreError> {
        let Ok((loaded, polled)) = &self.seen else {
            return Ok(false);
        };
        if self.is_superseded {
            return Ok(true);
        }
        let (now, progress) = restore::state(store, &defined.keys()).await?;
        if now.control.0.paused {
            return Ok(false);
        }
        let last = extent(store, &defined.topic).await?.map_or(0, |topic| topic.last);
        let asked = |polled: &Polled| {
            (
                polled.redrives,
                polled.resets,
                polled.hurries,
                polled.control.0.paused,
            )
        };
        Ok(last > (*loaded).max(progress.watermark()) || asked(&now) != asked(polled))
    }
}

/// What a job ended with.
enum Done {
    Event(Event),
    /// A timer that was set for this time.
    Due(u64),
    /// Time to look around.
    Beat(Option<Polled>),
}

struct Run<'a, S, O> {
    store: &'a S,
    outside: &'a O,
    defined: &'a Defined,
    keys: Keys,
    terms: Terms,
    owner: String,
    held: Held,
    trust: Cell<Trust>,
    lost: Cell<bool>,
    superseded: Cell<bool>,
    /// Jobs that wait for the store or the receiver, and not for time to pass.
    working: Cell<u32>,
    /// Messages that were accepted, and attempts that failed.
    attempts: Cell<(u64, u64)>,
    /// See [`Drained`].
    loaded: Cell<u64>,
    /// The last look at the topic found nothing more.
    caught_up: Cell<bool>,
    renewed_at: Cell<u64>,
    polled: RefCell<Polled>,
}

/// Drains one subscription, if its lease is to be had.
pub(super) async fn one<S: Store, O: Outside>(
    store: &S,
    outside: &O,
    defined: &Defined,
    until: Until,
    began: u64,
) -> Result<Drained, StoreError> {
    let keys = defined.keys();
    let found = lease::look(store, &keys).await?;
    let asked_at = outside.now();
    // Spares a commit; the store decides. Its clock is seldom behind ours.
    if found.ends > asked_at.saturating_add(lease::SLACK_MS) {
        return Ok(Drained::elsewhere(found.ends));
    }
    let terms = Terms {
        attempt_ms: defined.settings.timeout.as_millis(),
    };
    let owner = format!("{:016x}", outside.random());
    let Some(held) = lease::take(store, &keys, &owner, terms, &found).await? else {
        return Ok(Drained::elsewhere(found.ends));
    };
    let run = Run {
        store,
        outside,
        defined,
        keys,
        terms,
        owner,
        held,
        trust: Cell::new(Trust::new(terms, asked_at)),
        lost: Cell::new(false),
        superseded: Cell::new(false),
        working: Cell::new(0),
        attempts: Cell::default(),
        loaded: Cell::new(0),
        caught_up: Cell::new(false),
        renewed_at: Cell::new(asked_at),
        polled: RefCell::default(),
    };
    let report = run.serve(until, began).await;
    if !run.is_lost() {
        // One that cannot be given back ends by itself.
        let _ = run.held.clone().release(store, &run.keys).await;
    }
    // One that ended for another reason than that the topic was empty is behind, and knows when it goes on.
    let loaded = if run.caught_up.get() {
        run.loaded.get()
    } else {
        u64::MAX
    };
    let seen = Ok((loaded, run.polled.take()));
    Ok(Drained {
        report,
        seen,
        is_superseded: run.superseded.get(),
    })
}

type Jobs<'a> = FuturesUnordered<LocalBoxFuture<'a, Option<Done>>>;

impl<S: Store, O: Outside> Run<'_, S, O> {
    async fn serve(&self, until: Until, began: u64) -> Report {
        let mut policy = DeliveryPolicy::new(&self.defined.topic, self.keys.clone(), &self.defined.settings);
        policy.concurrency = policy.concurrency.min(MAX_UNDER_WAY);
        let mut machine = Machine::new(policy);
        let mut jobs: Jobs<'_> = FuturesUnordered::new();
        jobs.push(Box::pin(self.beat()));
        let (mut timers, mut wake) = (BTreeSet::new(), None);
        let (mut active_at, mut stopped_at) = (self.outside.now(), None);
        let mut event = Some(Event::Tick);
        loop {
            if let Some(event) = event.take() {
                if is_activity(&event) {
                    active_at = self.outside.now();
                }
                wake = None;
                for action in machine.handle(self.outside.now(), self.outside.random(), event) {
                    match action {
                        Action::Wake { at } => wake = Some(at),
                        Action::Note(note) => self.outside.note(self.defined, &note),
                        Action::Halt => return self.report(&machine),
                        action => {
                            // Counted before it is polled: what has just been asked for is under way.
                            self.working.set(self.working.get() + 1);
                            jobs.push(Box::pin(self.carry_out(action)));
                        }
                    }
                }
            }
            let now = self.outside.now();
            if self.is_lost() || stopped_at.is_some() && machine.is_drained() {
                return self.report(&machine);
            }
            match stopped_at {
                Some(at) if now.saturating_sub(at) > self.terms.attempt_ms.saturating_add(GRACE_MS) => {
                    return self.report(&machine);
                }
                None if self.superseded.get() || self.is_over(until, began, now, active_at, wake) => {
                    stopped_at = Some(now);
                    event = Some(Event::Stop);
                    continue;
                }
                _ => {}
            }
            if let Some(at) = wake.filter(|at| timers.first().is_none_or(|first| at < first)) {
                timers.insert(at);
                jobs.push(Box::pin(async move {
                    self.outside.sleep(at.saturating_sub(now)).await;
                    Some(Done::Due(at))
                }));
            }
            event = match jobs.next().await.flatten() {
                Some(Done::Event(event)) => Some(event),
                Some(Done::Due(at)) => {
                    timers.remove(&at);
                    Some(Event::Tick)
                }
                Some(Done::Beat(polled)) => {
                    jobs.push(Box::pin(self.beat()));
                    polled.map(Event::Polled)
                }
                None => None,
            };
        }
    }

    fn report(&self, machine: &Machine) -> Report {
        let (delivered, failed) = self.attempts.get();
        // What was not even read is due, unless nothing is to be sent.
        let unread = (!self.caught_up.get() && !machine.snapshot().paused).then(|| self.outside.now());
        let next_due_at = [machine.next_due(), unread].into_iter().flatten().min();
        Report {
            delivered,
            failed,
            next_due_at,
            elsewhere: 0,
        }
    }

    fn tally(&self, delivered: &Delivered, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        let (accepted, failed) = self.attempts.get();
        self.attempts.set(match delivered {
            Delivered::Accepted => (accepted.saturating_add(messages), failed),
            Delivered::Refused { .. } | Delivered::Unwanted => (accepted, failed.saturating_add(messages)),
        });
    }

    /// Whether to begin nothing more: the budget is used up, or nothing is under way and nothing is due for long.
    fn is_over(&self, until: Until, began: u64, now: u64, active_at: u64, wake: Option<u64>) -> bool {
        let horizon = match until {
            Until::Budget(ms) => began.saturating_add(ms),
            Until::Empty => now.saturating_add(STAY_MS),
        };
        let is_quiet = self.working.get() == 0 && now.saturating_sub(active_at) >= until.quiet_ms();
        matches!(until, Until::Budget(_)) && now >= horizon || is_quiet && wake.is_none_or(|at| at > horizon)
    }

    fn is_lost(&self) -> bool {
        self.lost.get() || self.trust.get().is_over(self.outside.now())
    }

    /// Waits a little, keeps the lease, and looks at the small entries now and then.
    async fn beat(&self) -> Option<Done> {
        self.outside.sleep(BEAT_MS).await;
        let asked_at = self.outside.now();
        let since = asked_at.saturating_sub(self.renewed_at.get());
        if since.saturating_mul(4) >= self.terms.renewal_ms().saturating_mul(3) {
            match self
                .held
                .renew(self.store, &self.keys, &self.owner, self.terms)
                .await
            {
                Ok(true) => {
                    let mut trust = self.trust.get();
                    trust.renewed(asked_at);
                    self.trust.set(trust);
                    self.renewed_at.set(asked_at);
                }
                Ok(false) => self.lost.set(true),
                // It may be renewed next time.
                Err(_) => {}
            }
        }
        let polled = restore::poll(self.store, &self.keys).await.ok();
        if let Some(polled) = &polled {
            self.polled.replace(polled.clone());
        }
        Some(Done::Beat(polled))
    }

    async fn carry_out(&self, action: Action) -> Option<Done> {
        let event = match action {
            Action::Load { after, limit } => {
                let loaded = self.load(after, limit).await;
                self.working.set(self.working.get() - 1);
                if matches!(&loaded, Event::Loaded(messages) if messages.is_empty()) {
                    self.outside.sleep(IDLE_MS).await;
                }
                return Some(Done::Event(loaded));
            }
            Action::Restore => Some(self.restore().await),
            Action::Fetch { sequences } => Some(self.fetch(&sequences).await),
            Action::Send { message, attempt: _ } => Some(self.send(message).await),
            Action::SendBatch { number, messages } => Some(self.send_batch(number, &messages).await),
            Action::Persist(commit) => Some(self.persist(commit).await),
            Action::Wake { .. } | Action::Note(_) | Action::Halt => None,
        };
        self.working.set(self.working.get() - 1);
        event.map(Done::Event)
    }

    async fn restore(&self) -> Event {
        match subscriptions::restored(self.store, self.defined).await {
            Ok(restored) => {
                self.polled.replace(restored.polled.clone());
                Event::Restored(Box::new(restored))
            }
            Err(_) => self.failed(Event::RestoreFailed).await,
        }
    }

    async fn load(&self, after: u64, limit: u32) -> Event {
        match self.store.read(&self.defined.topic, after, limit, 0).await {
            Ok(messages) => {
                let last = messages.last().map_or(after, |last| last.sequence);
                self.loaded.set(last.max(self.loaded.get()));
                self.caught_up.set(messages.is_empty());
                Event::Loaded(messages)
            }
            Err(_) => self.failed(Event::LoadFailed).await,
        }
    }

    async fn fetch(&self, sequences: &[u64]) -> Event {
        match restore::fetch(self.store, &self.defined.topic, &self.keys, sequences).await {
            Ok(found) => Event::Fetched(found),
            Err(_) => self.failed(Event::FetchFailed).await,
        }
    }

    async fn persist(&self, mut commit: Commit) -> Event {
        self.held.fence(&self.keys, &mut commit);
        match self.store.commit(commit).await {
            Ok(Outcome::Committed(done)) => Event::Persisted {
                version: done.version,
            },
            Ok(outcome) => {
                if Held::is_lost_by(&outcome) {
                    self.lost.set(true);
                }
                Event::PersistFailed
            }
            Err(_) => self.failed(Event::PersistFailed).await,
        }
    }

    async fn send(&self, message: Arc<Message>) -> Event {
        let sequence = message.sequence;
        match self.may_send().await {
            MaySend::Yes => {
                let (delivered, answered) = self.outside.deliver(self.defined, message).await;
                self.tally(&delivered, 1);
                Event::Attempted {
                    sequence,
                    delivered,
                    answered,
                }
            }
            MaySend::No(polled) => Event::Withheld { sequence, polled },
            MaySend::Never => Event::Superseded { sequence },
        }
    }

    async fn send_batch(&self, number: u64, messages: &[(Arc<Message>, u32)]) -> Event {
        match self.may_send().await {
            MaySend::Yes => {
                let (delivered, answered) = self.outside.deliver_together(self.defined, messages).await;
                self.tally(&delivered, messages.len());
                Event::BatchAttempted {
                    number,
                    delivered,
                    answered,
                }
            }
            MaySend::No(polled) => Event::BatchWithheld { number, polled },
            MaySend::Never => Event::BatchSuperseded { number },
        }
    }

    /// Asked before each attempt: the lease covers it, and the subscription is as it was.
    async fn may_send(&self) -> MaySend {
        if !self.trust.get().covers(self.outside.now()) {
            self.outside.sleep(IDLE_MS).await;
            return MaySend::No(None);
        }
        match standing(self.store, self.defined).await {
            Ok(Standing { in_force: false, .. }) => {
                self.superseded.set(true);
                MaySend::Never
            }
            Ok(Standing { polled, .. }) if polled.control.0.paused => MaySend::No(Some(polled)),
            Ok(_) => MaySend::Yes,
            Err(_) => {
                self.outside.sleep(STORE_RETRY_MS).await;
                MaySend::No(None)
            }
        }
    }

    async fn failed(&self, event: Event) -> Event {
        self.outside.sleep(STORE_RETRY_MS).await;
        event
    }
}

enum MaySend {
    Yes,
    /// Not now; the small entries, if they say why.
    No(Option<Polled>),
    /// The subscription was changed or removed.
    Never,
}

/// Whether it shows that the queue is not empty.
fn is_activity(event: &Event) -> bool {
    match event {
        Event::Loaded(messages) => !messages.is_empty(),
        Event::Attempted { .. }
        | Event::BatchAttempted { .. }
        | Event::Restored(_)
        | Event::Fetched(_)
        | Event::Persisted { .. } => true,
        _ => false,
    }
}
