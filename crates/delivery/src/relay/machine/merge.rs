//! Merges what the store says with what the machine remembers.

use super::super::journal::{Batch, Change};
use super::super::record::{BreakerRecord, Control};
use super::super::restore::{Found, Polled, Restored};
use super::super::{Action, Note};
use super::Machine;

impl Machine {
    pub(super) fn restore(&mut self, actions: &mut Vec<Action>) {
        if let Some(below) = self.more_redriven_below
            && self.window.redriven() < below
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

    pub(super) fn restored(&mut self, mut restored: Restored, actions: &mut Vec<Action>) {
        self.restoring = false;
        self.bring_near(&mut restored);
        if restored.polled.progress.is_none() && self.version.is_some() {
            self.halted = true;
            actions.push(Action::Halt);
            return;
        }
        self.version = restored.polled.progress;
        if let Some(before) = restored.begins_after
            && self.version.is_none()
            && !self.started
        {
            self.journal.push(Change::Skipped {
                start: 1,
                end: before,
            });
            restored.progress.finish(1, before);
        }
        self.durable.merge(&restored.progress);
        self.durable.set_parked(restored.progress.parked());
        self.position = self.position.max(self.durable.watermark());
        self.redrives = restored.polled.redrives;
        if !self.started {
            self.health = std::mem::take(&mut restored.health);
            self.resets = restored.polled.resets;
            self.hurries = restored.polled.hurries;
            if restored.polled.breaker != BreakerRecord::default() {
                // Another process has left it open; ours begins closed.
                self.journal.push(Change::Breaker(BreakerRecord::default()));
            }
        }
        self.reset_breaker(restored.polled.resets, actions);
        self.take_control(restored.polled.control.clone());
        self.reconcile(&restored);
        self.take_waiting(&restored);
        self.hurry(restored.polled.hurries);
        self.started = true;
    }

    /// The clock that wrote these times may have been set back since, by any amount: no message waits longer than its
    /// schedule says, counted from now.
    fn bring_near(&self, restored: &mut Restored) {
        let latest = self.now.saturating_add(self.settings.schedule.longest_wait_ms());
        for waiting in restored.waiting.values_mut() {
            waiting.next_at = waiting.next_at.min(latest);
        }
    }

    /// Drops messages that were finished by another relay, or by a commit of ours whose answer was lost.
    fn reconcile(&mut self, restored: &Restored) {
        self.journal.reconcile(
            |sequence, redriven| restored.is_finished(sequence, redriven),
            |sequence| restored.waiting.get(&sequence).map(|waiting| waiting.parked),
        );
        // One that somebody else gave up and a caller has redriven begins anew.
        let anew = |sequence: u64, redriven: bool| {
            !redriven
                && restored
                    .waiting
                    .get(&sequence)
                    .is_some_and(|waiting| waiting.redriven)
        };
        let overtaken: Vec<u64> = self
            .window
            .sequences()
            .filter(|&(sequence, redriven)| {
                restored.is_finished(sequence, redriven) || anew(sequence, redriven)
            })
            .map(|(sequence, _)| sequence)
            .collect();
        overtaken
            .into_iter()
            .for_each(|sequence| self.window.forget(sequence));
    }

    /// Takes over waiting messages that are not known here.
    fn take_waiting(&mut self, restored: &Restored) {
        let pending = self.journal.sequences();
        self.counters.clear();
        for (&sequence, waiting) in &restored.waiting {
            if let Some(slot) = self.window.slot_mut(sequence) {
                slot.entry = true;
                slot.apart |= waiting.is_apart();
            } else if pending.contains(&sequence) {
                // Finished here, and not yet durable.
            } else if waiting.is_apart() {
                self.window.insert_parked(sequence, waiting);
            } else if self.durable.contains(sequence) {
                // Left over; its message is finished.
                self.journal.push(Change::Delivered {
                    sequence,
                    entry: true,
                    parked: false,
                });
            } else if sequence > self.position {
                self.counters.insert(sequence, waiting.clone());
            }
        }
        self.more_redriven_below = restored.more.then(|| self.window.redriven() / 2 + 1);
    }

    /// Messages whose turn has come.
    pub(super) fn fetched(&mut self, found: Vec<Found>, actions: &mut Vec<Action>) {
        self.fetching = false;
        for Found {
            sequence,
            message,
            last_error,
        } in found
        {
            let is_redriven = self.window.slot_mut(sequence).is_some_and(|slot| slot.redriven);
            let found = message.is_some();
            if let Some(message) = message.filter(|message| is_redriven || self.settings.wants(message)) {
                self.window.fetched(message, last_error);
            } else if self.window.is_fetching(sequence)
                && let Some(slot) = self.window.finish(sequence)
            {
                if !found {
                    actions.push(Action::Note(Note::Lost { sequence }));
                }
                self.journal.push(Change::Delivered {
                    sequence,
                    entry: true,
                    parked: slot.is_parked(),
                });
            }
        }
    }

    /// Resets the breaker, if somebody has asked for it since the last look.
    fn reset_breaker(&mut self, resets: u64, actions: &mut Vec<Action>) {
        if resets == self.resets {
            return;
        }
        self.resets = resets;
        if let Some(change) = self.breaker.reset() {
            self.journal.push(Change::Breaker(BreakerRecord::default()));
            actions.push(Action::Note(Note::Breaker(change)));
        }
    }

    pub(super) fn polled(&mut self, polled: Polled, actions: &mut Vec<Action>) {
        if !self.started {
            return;
        }
        self.reset_breaker(polled.resets, actions);
        self.hurry(polled.hurries);
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

    /// Where somebody asked for it since, whatever waits may be sent now.
    fn hurry(&mut self, hurries: u64) {
        if hurries > self.hurries {
            self.hurries = hurries;
            self.window.hurry(self.now);
        }
    }

    /// Takes the paused state from the store, unless a later change of our own is on its way there.
    fn take_control(&mut self, (control, version): (Control, u64)) {
        let ours_pending =
            self.journal.sets_control() || self.persisting.as_ref().is_some_and(Batch::sets_control);
        if !ours_pending && version >= self.control_version {
            (self.control, self.control_version) = (control, version);
        }
    }
}
