//! The machine itself: takes events, and decides which actions may be taken now.

mod attempts;
mod batches;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use batches::Batches;

use super::attempt::Health;
use super::journal::{Batch, Change, Journal};
use super::pacer::Pacer;
use super::progress::Progress;
use super::record::{Control, Keys, Waiting};
use super::window::Window;
use super::{
    Action, DeliveryPolicy, Event, LOW_WATER, MAX_FETCH, MAX_LOAD, Note, PERSIST_INTERVAL_MS, Snapshot,
    WINDOW_BYTES,
};
use crate::breaker::{Breaker, Permit};
use tollgate_store::commit::Message;

/// The state machine of one subscription: its unfinished messages, and what is under way. [`crate::relay`]
/// states its rules.
#[derive(Debug)]
pub struct Machine {
    settings: DeliveryPolicy,
    keys: Keys,
    now: u64,
    window: Window,
    journal: Journal,
    pacer: Pacer,
    breaker: Breaker,
    under_way: BTreeMap<u64, Permit>,
    batches: Batches,
    /// As it is in the store.
    durable: Progress,
    version: Option<u64>,
    control: Control,
    control_version: u64,
    health: Health,
    redrives: u64,
    resets: u64,
    hurries: u64,
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
    fetching: bool,
    persisting: Option<Batch>,
    persisted_at: u64,
    stopping: bool,
    halted: bool,
}

impl Machine {
    /// Before anything is read. The first event, [`Event::Tick`], makes it begin.
    pub fn new(settings: DeliveryPolicy) -> Self {
        Self {
            keys: settings.keys.clone(),
            now: 0,
            window: Window::new(settings.ordered),
            journal: Journal::default(),
            pacer: Pacer::new(settings.rate_per_second),
            breaker: Breaker::new(settings.breaker.clone()),
            under_way: BTreeMap::new(),
            batches: Batches::default(),
            durable: Progress::default(),
            version: None,
            control: Control::default(),
            control_version: 0,
            health: Health::default(),
            redrives: 0,
            resets: 0,
            hurries: 0,
            counters: BTreeMap::new(),
            position: 0,
            more_redriven_below: None,
            started: false,
            restoring: false,
            restore_wanted: true,
            loading: false,
            fetching: false,
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
            Event::Polled(polled) => self.polled(polled, &mut actions),
            Event::Loaded(messages) => self.loaded(messages, &mut actions),
            Event::LoadFailed => self.loading = false,
            Event::Fetched(found) => self.fetched(found, &mut actions),
            Event::FetchFailed => {
                self.fetching = false;
                self.window.not_fetched();
            }
            Event::Attempted {
                sequence,
                delivered,
                answered,
            } => self.attempted(sequence, delivered, &answered, random, &mut actions),
            Event::Withheld { sequence, polled } => self.withheld(sequence, polled, random, &mut actions),
            Event::Superseded { sequence } => {
                self.stopping = true;
                self.withheld(sequence, None, random, &mut actions);
            }
            Event::BatchAttempted {
                number,
                delivered,
                answered,
            } => self.batch_attempted(number, &delivered, &answered, random, &mut actions),
            Event::BatchWithheld { number, polled } => {
                self.batch_withheld(number, polled, random, &mut actions)
            }
            Event::BatchSuperseded { number } => {
                self.stopping = true;
                self.batch_withheld(number, None, random, &mut actions);
            }
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
        self.halted || (self.is_idle() && self.journal.is_empty() && self.persisting.is_none())
    }

    /// How things stand.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            under_way: self.under_way.len() + self.batches.len(),
            window: self.window.loaded(),
            held: self.window.len(),
            watermark: self.durable.watermark(),
            paused: self.control.paused,
            pause_reason: self.control.reason.filter(|_| self.control.paused),
            breaker: self.breaker.name(),
        }
    }

    fn advance(&mut self, actions: &mut Vec<Action>) {
        self.restore(actions);
        if self.started {
            self.window.wake(self.now);
            self.relieve(actions);
            match self.settings.batch {
                None => self.send(actions),
                Some(batching) => self.send_batches(batching, actions),
            }
            self.fetch(actions);
            self.load(actions);
        }
        self.persist(actions);
        actions.extend(self.next_wake().map(|at| Action::Wake { at }));
    }

    /// Makes room for messages that can be sent. Waiting messages leave memory and, beyond a bound, become
    /// dead letters.
    fn relieve(&mut self, actions: &mut Vec<Action>) {
        let spilled = self.window.spill(self.settings.window / 2, WINDOW_BYTES / 2);
        for (sequence, waiting) in spilled {
            let parks = waiting.parked;
            self.journal.push(Change::Retry {
                sequence,
                waiting,
                parks,
            });
        }
        self.window.give_up_beyond(self.settings.held);
        while let Some(sequence) = self.window.next_given_up() {
            self.bury(sequence, Some("given up early, since too many wait"), actions);
        }
    }

    fn low_water(&self) -> usize {
        let concurrency = self.settings.concurrency as usize;
        let batches = self
            .settings
            .batch
            .map_or(0, |batch| 2 * batch.most * concurrency);
        LOW_WATER
            .max(4 * concurrency)
            .max(batches.min(self.settings.window / 2))
    }

    fn fetch(&mut self, actions: &mut Vec<Action>) {
        let enough = self.window.ready() >= 2 * self.low_water();
        if self.fetching || enough || !self.may_send() {
            return;
        }
        // One also where there is no room: what is in memory may stand behind it.
        let limit = if self.room() == 0 { 1 } else { MAX_FETCH };
        let sequences = self.window.take_due(limit);
        if !sequences.is_empty() {
            self.fetching = true;
            actions.push(Action::Fetch { sequences });
        }
    }

    fn load(&mut self, actions: &mut Vec<Action>) {
        let limit = self.room().min(MAX_LOAD);
        let idle = self.loading || self.stopping || self.control.paused;
        let crowded = self.window.len() > self.settings.held;
        if idle || crowded || limit == 0 || self.window.fresh() >= self.low_water() {
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
            self.settings.window.saturating_sub(self.window.loaded())
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
            if self.durable.unfinished(start, end) > 0 {
                self.journal.push(Change::Skipped { start, end });
                actions.push(Action::Note(Note::Skipped { start, end }));
            }
            self.position = sequence;
            if self.durable.contains(sequence) || self.window.contains(sequence) {
                continue;
            }
            let counter = self.counters.remove(&sequence);
            if self.settings.wants(&message) {
                self.window.insert(message, counter);
            } else {
                self.journal.pass_over(sequence, counter.is_some());
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
            let Some(message) = slot.message.as_ref().map(Arc::clone) else {
                return;
            };
            let attempt = slot.attempts.saturating_add(1);
            self.pacer.take(self.now);
            self.under_way.insert(sequence, permit);
            actions.push(Action::Send { message, attempt });
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.batches.len() == 0
    }

    fn may_send(&self) -> bool {
        self.started && !self.stopping && !self.control.paused
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
        if self.stopping || self.journal.is_long() {
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
        for (sequence, waiting) in batch.waiting() {
            self.window.saved(sequence, waiting);
        }
        self.durable = batch.progress;
        self.version = Some(version);
    }

    /// When something of what is known is to be sent again, whatever ended meanwhile; `None`: nothing is left, or it is paused.
    pub fn next_due(&self) -> Option<u64> {
        let ready = (self.window.ready() > 0).then_some(self.now);
        let next = [ready, self.window.next_waiting()].into_iter().flatten().min()?;
        let open = self.breaker.open_until().unwrap_or(0);
        (self.started && !self.control.paused).then_some(next.max(open))
    }

    /// The next time at which something can be done that no event will announce.
    fn next_wake(&self) -> Option<u64> {
        let persist = self.may_persist().then(|| self.persist_at());
        let (mut send, mut waiting) = (None, None);
        if self.may_send() {
            waiting = self.window.next_waiting();
            let under_way = self.under_way.len() + self.batches.len();
            if self.window.ready() > 0 && under_way < self.settings.concurrency as usize {
                let open = self.pacer.next_at().max(self.breaker.open_until().unwrap_or(0));
                send = Some(open.max(self.batches_at()));
            }
        }
        [persist, send, waiting]
            .into_iter()
            .flatten()
            .filter(|&at| at > self.now)
            .min()
    }
}
