//! The relay of one subscription, as a pure state machine: it takes [`Event`]s with the time and gives [`Action`]s. A
//! driver carries the actions out against a store and an origin; a simulation does the same with neither.
//!
//! * At most `rate_per_second` deliveries are begun per second, evenly, and at most `concurrency` are under way.
//! * `ordered`: of the messages of one key, one is delivered at a time, in order; a failing message holds up its own
//!   key and no other. A message with an empty key has no order.
//! * A delivery is finished by a 2xx, or by a dead letter after its last attempt. 410 pauses the subscription and
//!   costs no attempt. Any other answer, a time-out or a failed connection is a failed attempt.
//! * Failed connections, time-outs, 5xx and 429 count against the circuit breaker. While it is open nothing is sent
//!   and no attempt is spent.
//! * At least once: the progress moves only over what was acknowledged or recorded as a dead letter, and a dead letter
//!   becomes durable in the same commit as the progress over it. Commits follow the order in which messages finished,
//!   so that after a crash a key is repeated from some point on and never out of order.
//! * Bounded: at most [`WINDOW`] messages (or [`WINDOW_BYTES`]) are loaded and unfinished. When messages of failing
//!   keys fill the window, loading stops until one of them is delivered or becomes a dead letter.
//! * Two relays of one subscription on one store both deliver, but their progress stays right: a commit is made on
//!   condition that the progress is the one last seen; whoever is refused looks again and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::breaker::{self, Breaker, Permit, Verdict};
use crate::commit::{Commit, Message};
use crate::config;
use crate::retry::Schedule;

pub mod address;
pub mod delivery;
mod journal;
mod pacer;
pub mod progress;
pub mod record;
pub mod restore;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod window;

pub use pacer::MAX_RATE;

use journal::{Batch, Change, Journal};
use pacer::Pacer;
use progress::Progress;
use record::{Control, DeadLetter, Keys, PauseReason, StoredMessage, Waiting, bounded_error};
use restore::{Polled, Restored};
use window::Window;

/// The most messages that are loaded and not finished.
pub const WINDOW: usize = 1_024;
/// The most bytes of their payloads; one load may exceed it.
pub const WINDOW_BYTES: usize = 16 << 20;
/// The most messages of one load.
pub const MAX_LOAD: usize = 256;
/// Messages are loaded while fewer than this are ready to be sent (or four times the concurrency, if that is more).
pub const LOW_WATER: usize = 64;
/// The most redriven messages that are worked on at a time.
pub const MAX_REDRIVEN: usize = 256;
/// The most deliveries under way.
pub const MAX_CONCURRENCY: u32 = 1_024;
/// Progress is made durable at most this often, milliseconds: a crash repeats what was delivered since.
pub const PERSIST_INTERVAL_MS: u64 = 20;

/// How one subscription is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The topic.
    pub topic: String,
    /// The subscription's name.
    pub name: String,
    /// The most deliveries begun per second.
    pub rate_per_second: u32,
    /// The most deliveries under way.
    pub concurrency: u32,
    /// One message of a key at a time, in order.
    pub ordered: bool,
    /// When to try again.
    pub schedule: Schedule,
    /// When to leave the origin alone.
    pub breaker: breaker::Settings,
}

impl Settings {
    /// Of a configured subscription.
    pub fn from_config(topic: &str, subscription: &config::Subscription) -> Self {
        Self {
            topic: topic.to_owned(),
            name: subscription.name.clone(),
            rate_per_second: subscription.rate_per_second.clamp(1, MAX_RATE),
            concurrency: subscription.concurrency.clamp(1, MAX_CONCURRENCY),
            ordered: subscription.ordered,
            schedule: Schedule::from_config(&subscription.retry),
            breaker: breaker::Settings::default(),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The origin answered. `retry_after_ms`: see [`crate::retry::retry_after_ms`].
    Status {
        /// The HTTP status code.
        status: u16,
        /// What a `Retry-After` asked for.
        retry_after_ms: Option<u64>,
    },
    /// It did not answer in time.
    Timeout,
    /// There was no connection, or it broke; why.
    Connect(String),
}

/// What the machine is told.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// [`Action::Restore`] was carried out.
    Restored(Box<Restored>),
    /// It could not be; the driver has waited a little.
    RestoreFailed,
    /// The small entries were read: to be done about every half second.
    Polled(Polled),
    /// [`Action::Load`] was carried out, with as many messages as there are.
    Loaded(Vec<Message>),
    /// It could not be; the driver has waited a little.
    LoadFailed,
    /// [`Action::Send`] was carried out.
    Attempted {
        /// Which message.
        sequence: u64,
        /// How it ended.
        answer: Answer,
    },
    /// [`Action::Persist`] was committed with this version.
    Persisted {
        /// Of the entries it set.
        version: u64,
    },
    /// It was refused, or failed, or its outcome is not known. The driver has waited a little unless it was refused.
    PersistFailed,
    /// Send and load no more; what is under way is seen through.
    Stop,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Action {
    /// Read the durable form ([`restore::restore`]).
    Restore,
    /// Read messages of the topic; wait for the first.
    Load {
        /// With a greater sequence than this.
        after: u64,
        /// At most so many.
        limit: u32,
    },
    /// Deliver a message.
    Send {
        /// The message.
        message: Arc<Message>,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// Commit; one at a time.
    Persist(Commit),
    /// Send [`Event::Tick`] at this time, Unix milliseconds. Takes the place of an earlier one.
    Wake {
        /// Unix milliseconds.
        at: u64,
    },
    /// Something worth telling.
    Note(Note),
    /// The subscription's durable form was removed: end, and persist nothing.
    Halt,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The breaker's state changed.
    Breaker(breaker::Change),
    /// A message was given up.
    Dead {
        /// Its sequence.
        sequence: u64,
        /// Its id.
        id: String,
        /// Attempts that failed.
        attempts: u32,
        /// The last failure.
        error: String,
    },
    /// The origin answered 410.
    Paused,
    /// Retention removed these before they were delivered.
    Skipped {
        /// The first.
        start: u64,
        /// The last.
        end: u64,
    },
    /// A redriven message is no longer there.
    Lost {
        /// Its sequence.
        sequence: u64,
    },
}

/// How things stand, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Deliveries under way.
    pub under_way: usize,
    /// Messages loaded and not finished.
    pub window: usize,
    /// Up to where all are finished and durable.
    pub watermark: u64,
    /// Nothing is sent.
    pub paused: bool,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    keys: Keys,
    now: u64,
    window: Window,
    journal: Journal,
    pacer: Pacer,
    breaker: Breaker,
    under_way: BTreeMap<u64, Permit>,
    /// As it is in the store.
    durable: Progress,
    version: Option<u64>,
    control: Control,
    control_version: u64,
    redrives: u64,
    /// Attempts of messages that are not loaded yet.
    counters: BTreeMap<u64, Waiting>,
    /// The highest sequence that was loaded.
    position: u64,
    /// More redriven messages are to be loaded once fewer than this are left.
    more_redriven_below: Option<usize>,
    /// The durable form has been read at least once.
    started: bool,
    restoring: bool,
    restore_wanted: bool,
    loading: bool,
    persisting: Option<Batch>,
    persisted_at: u64,
    stopping: bool,
    halted: bool,
}

impl Machine {
    /// Before anything is read. The first event, [`Event::Tick`], makes it begin.
    pub fn new(settings: Settings) -> Self {
        Self {
            keys: Keys::new(&settings.topic, &settings.name),
            now: 0,
            window: Window::new(settings.ordered),
            journal: Journal::default(),
            pacer: Pacer::new(settings.rate_per_second),
            breaker: Breaker::new(settings.breaker.clone()),
            under_way: BTreeMap::new(),
            durable: Progress::default(),
            version: None,
            control: Control::default(),
            control_version: 0,
            redrives: 0,
            counters: BTreeMap::new(),
            position: 0,
            more_redriven_below: None,
            started: false,
            restoring: false,
            restore_wanted: true,
            loading: false,
            persisting: None,
            persisted_at: 0,
            stopping: false,
            halted: false,
            settings,
        }
    }

    /// One step. `now`: Unix milliseconds; an earlier time counts as the latest seen. `random`: 64 unpredictable bits.
    pub fn handle(&mut self, now: u64, random: u64, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Restored(restored) => self.restored(*restored, &mut actions),
            Event::RestoreFailed => (self.restoring, self.restore_wanted) = (false, true),
            Event::Polled(polled) => self.polled(polled),
            Event::Loaded(messages) => self.loaded(messages, &mut actions),
            Event::LoadFailed => self.loading = false,
            Event::Attempted { sequence, answer } => self.attempted(sequence, answer, random, &mut actions),
            Event::Persisted { version } => self.persisted(version),
            Event::PersistFailed => {
                if let Some(batch) = self.persisting.take() {
                    self.journal.put_back(batch);
                }
                self.restore_wanted = true;
            }
            Event::Stop => self.stopping = true,
        }
        if !self.halted {
            self.advance(&mut actions);
        }
        actions
    }

    /// Whether everything that was under way is finished and durable, after [`Event::Stop`].
    pub fn is_drained(&self) -> bool {
        self.halted || (self.under_way.is_empty() && self.journal.is_empty() && self.persisting.is_none())
    }

    /// How things stand.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            under_way: self.under_way.len(),
            window: self.window.len(),
            watermark: self.durable.watermark(),
            paused: self.control.paused,
            breaker: self.breaker.name(),
        }
    }

    fn advance(&mut self, actions: &mut Vec<Action>) {
        self.restore(actions);
        if self.started {
            self.window.wake(self.now);
            self.send(actions);
            self.load(actions);
        }
        self.persist(actions);
        actions.extend(self.next_wake().map(|at| Action::Wake { at }));
    }

    fn restore(&mut self, actions: &mut Vec<Action>) {
        if let Some(below) = self.more_redriven_below
            && self.window.redriven() < below
            && self.room() > 0
            && self.journal.is_empty()
        {
            self.restore_wanted = true;
        }
        // Never while a commit is under way: what is read would be neither before nor after it.
        if self.restore_wanted && !self.restoring && self.persisting.is_none() {
            (self.restoring, self.restore_wanted) = (true, false);
            actions.push(Action::Restore);
        }
    }

    fn restored(&mut self, restored: Restored, actions: &mut Vec<Action>) {
        self.restoring = false;
        if restored.polled.progress.is_none() && self.version.is_some() {
            self.halted = true;
            actions.push(Action::Halt);
            return;
        }
        self.version = restored.polled.progress;
        self.durable.merge(&restored.progress);
        self.position = self.position.max(self.durable.watermark());
        self.redrives = restored.polled.redrives;
        self.take_control(restored.polled.control.clone());
        self.reconcile(&restored);
        self.take_redriven(restored.redriven, restored.more, actions);
        self.started = true;
    }

    /// Lets go of what was finished by another relay, or by a commit of ours whose answer was lost.
    fn reconcile(&mut self, restored: &Restored) {
        let redriven: BTreeSet<u64> = restored.redriven.iter().map(|(sequence, ..)| *sequence).collect();
        let still_redriven = |sequence: u64| restored.more || redriven.contains(&sequence);
        let durable = &self.durable;
        self.journal.reconcile(
            |sequence| durable.contains(sequence),
            still_redriven,
            |sequence| restored.waiting.contains_key(&sequence) || redriven.contains(&sequence),
        );
        let overtaken: Vec<u64> = self
            .window
            .sequences()
            .filter(|&(sequence, is_redriven)| {
                if is_redriven {
                    !still_redriven(sequence)
                } else {
                    durable.contains(sequence)
                }
            })
            .map(|(sequence, _)| sequence)
            .collect();
        overtaken
            .into_iter()
            .for_each(|sequence| self.window.forget(sequence));

        let pending = self.journal.sequences();
        self.counters.clear();
        for (&sequence, waiting) in &restored.waiting {
            if let Some(slot) = self.window.slot_mut(sequence) {
                slot.entry = true;
            } else if self.durable.contains(sequence) && !pending.contains(&sequence) {
                // Left over; its message is finished.
                self.journal.push(Change::Delivered {
                    sequence,
                    entry: true,
                });
            } else if sequence > self.position {
                self.counters.insert(sequence, waiting.clone());
            }
        }
    }

    fn take_redriven(
        &mut self,
        redriven: Vec<(u64, Waiting, Option<Message>)>,
        more: bool,
        actions: &mut Vec<Action>,
    ) {
        let pending = self.journal.sequences();
        let mut more = more;
        for (sequence, waiting, message) in redriven {
            if self.window.contains(sequence) || pending.contains(&sequence) {
                continue;
            }
            match message {
                Some(_) if self.room() == 0 => more = true,
                Some(message) => self.window.insert(message, Some(waiting)),
                None => {
                    actions.push(Action::Note(Note::Lost { sequence }));
                    self.journal.push(Change::Delivered {
                        sequence,
                        entry: true,
                    });
                }
            }
        }
        self.more_redriven_below = more.then(|| self.window.redriven() / 2 + 1);
    }

    fn polled(&mut self, polled: Polled) {
        if !self.started {
            return;
        }
        let moved = polled.redrives != self.redrives;
        // While a commit is under way, another version is most likely our own.
        let other_writer = self.persisting.is_none()
            && match (polled.progress, self.version) {
                (Some(theirs), Some(ours)) => theirs > ours,
                (None, Some(_)) => true,
                (_, None) => false,
            };
        self.restore_wanted |= moved || other_writer;
        self.take_control(polled.control);
    }

    /// The store's word on being paused, unless a later one of our own is on its way there.
    fn take_control(&mut self, (control, version): (Control, u64)) {
        let ours_pending =
            self.journal.sets_control() || self.persisting.as_ref().is_some_and(Batch::sets_control);
        if !ours_pending && version >= self.control_version {
            (self.control, self.control_version) = (control, version);
        }
    }

    fn load(&mut self, actions: &mut Vec<Action>) {
        let low = LOW_WATER.max(4 * self.settings.concurrency as usize);
        let limit = self.room().min(MAX_LOAD);
        let idle = self.loading || self.stopping || self.control.paused;
        if idle || limit == 0 || self.window.ready() >= low {
            return;
        }
        self.loading = true;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        actions.push(Action::Load {
            after: self.position,
            limit,
        });
    }

    /// How many more messages may be loaded.
    fn room(&self) -> usize {
        if self.window.bytes() >= WINDOW_BYTES {
            0
        } else {
            WINDOW.saturating_sub(self.window.len())
        }
    }

    fn loaded(&mut self, messages: Vec<Message>, actions: &mut Vec<Action>) {
        self.loading = false;
        for message in messages {
            let sequence = message.sequence;
            if sequence <= self.position {
                continue;
            }
            // Sequences are dense: what is missing was removed by retention.
            let (start, end) = (self.position + 1, sequence - 1);
            if self.durable.lag(start, end) > 0 {
                self.journal.push(Change::Skipped { start, end });
                actions.push(Action::Note(Note::Skipped { start, end }));
            }
            self.position = sequence;
            if !self.durable.contains(sequence) && !self.window.contains(sequence) {
                let counter = self.counters.remove(&sequence);
                self.window.insert(message, counter);
            }
        }
    }

    fn send(&mut self, actions: &mut Vec<Action>) {
        let concurrency = self.settings.concurrency as usize;
        while self.may_send() && self.under_way.len() < concurrency && self.pacer.next_at() <= self.now {
            if self.window.ready() == 0 {
                return;
            }
            let Some(permit) = self.breaker.begin(self.now) else {
                return;
            };
            let Some((sequence, slot)) = self.window.begin(permit.probe, self.now) else {
                return;
            };
            let (message, attempt) = (Arc::clone(&slot.message), slot.attempts.saturating_add(1));
            self.pacer.take(self.now);
            self.under_way.insert(sequence, permit);
            actions.push(Action::Send { message, attempt });
        }
    }

    fn may_send(&self) -> bool {
        self.started && !self.stopping && !self.control.paused
    }

    fn attempted(&mut self, sequence: u64, answer: Answer, random: u64, actions: &mut Vec<Action>) {
        let Some(permit) = self.under_way.remove(&sequence) else {
            return;
        };
        let change = self.breaker.record(permit, verdict(&answer), self.now, random);
        actions.extend(change.map(|change| Action::Note(Note::Breaker(change))));
        if self.window.slot_mut(sequence).is_none_or(|slot| slot.obsolete) {
            self.window.finish(sequence);
            return;
        }
        match answer {
            Answer::Status {
                status: 200..=299, ..
            } => {
                let entry = self.window.finish(sequence).is_none_or(|slot| slot.entry);
                self.journal.push(Change::Delivered { sequence, entry });
            }
            Answer::Status { status: 410, .. } => {
                self.window.release(sequence);
                if !self.control.paused {
                    self.control = Control::paused(PauseReason::Gone, self.now);
                    self.journal.push(Change::Control(self.control.clone()));
                    actions.push(Action::Note(Note::Paused));
                }
            }
            Answer::Status {
                status,
                retry_after_ms,
            } => {
                let asked = retry_after_ms.filter(|_| matches!(status, 429 | 503));
                self.failed(
                    sequence,
                    &format!("the origin answered {status}"),
                    asked,
                    random,
                    actions,
                );
            }
            Answer::Timeout => self.failed(
                sequence,
                "the origin did not answer in time",
                None,
                random,
                actions,
            ),
            Answer::Connect(why) => self.failed(sequence, &why, None, random, actions),
        }
    }

    fn failed(
        &mut self,
        sequence: u64,
        error: &str,
        asked: Option<u64>,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(slot) = self.window.slot_mut(sequence) else {
            return;
        };
        slot.attempts = slot.attempts.saturating_add(1);
        slot.last_error = Some(bounded_error(error));
        if let Some(wait) = self.settings.schedule.wait_ms(slot.attempts, random, asked) {
            slot.next_at = self.now.saturating_add(wait);
            slot.entry = true;
            let waiting = slot.waiting();
            self.window.wait(sequence);
            self.journal.push(Change::Retry { sequence, waiting });
            return;
        }
        let Some(slot) = self.window.finish(sequence) else {
            return;
        };
        let letter = DeadLetter {
            id: slot.message.id.clone(),
            sequence,
            attempts: slot.attempts,
            last_error: slot.last_error.unwrap_or_default(),
            first_at: slot.first_at.unwrap_or(self.now),
            died_at: self.now,
            message: StoredMessage::of(&slot.message),
        };
        actions.push(Action::Note(Note::Dead {
            sequence,
            id: letter.id.clone(),
            attempts: letter.attempts,
            error: letter.last_error.clone(),
        }));
        self.journal.push(Change::Dead {
            letter,
            redriven: slot.redriven,
        });
    }

    fn persist(&mut self, actions: &mut Vec<Action>) {
        if !self.may_persist() || self.now < self.persist_at() {
            return;
        }
        let (batch, commit) = self.journal.take(&self.keys, &self.durable, self.version);
        self.persisting = Some(batch);
        self.persisted_at = self.now;
        actions.push(Action::Persist(commit));
    }

    fn may_persist(&self) -> bool {
        self.started && !self.restoring && self.persisting.is_none() && !self.journal.is_empty()
    }

    fn persist_at(&self) -> u64 {
        if self.stopping {
            0
        } else {
            self.persisted_at.saturating_add(PERSIST_INTERVAL_MS)
        }
    }

    fn persisted(&mut self, version: u64) {
        let Some(batch) = self.persisting.take() else {
            return;
        };
        if batch.sets_control() {
            self.control_version = version;
        }
        self.durable = batch.progress;
        self.version = Some(version);
    }

    /// The next time at which something can be done that no event will announce.
    fn next_wake(&self) -> Option<u64> {
        let persist = self.may_persist().then(|| self.persist_at());
        let (mut send, mut waiting) = (None, None);
        if self.may_send() {
            waiting = self.window.next_waiting();
            if self.window.ready() > 0 && self.under_way.len() < self.settings.concurrency as usize {
                send = Some(self.pacer.next_at().max(self.breaker.open_until().unwrap_or(0)));
            }
        }
        [persist, send, waiting]
            .into_iter()
            .flatten()
            .filter(|&at| at > self.now)
            .min()
    }
}

/// What an answer says about the origin, as distinct from the message.
fn verdict(answer: &Answer) -> Verdict {
    match answer {
        Answer::Status { status: 410, .. } => Verdict::Neither,
        Answer::Status {
            status: 429 | 500..=599,
            retry_after_ms,
        } => Verdict::Failure {
            retry_after_ms: *retry_after_ms,
        },
        Answer::Status { .. } => Verdict::Success,
        Answer::Timeout | Answer::Connect(_) => Verdict::Failure { retry_after_ms: None },
    }
}
