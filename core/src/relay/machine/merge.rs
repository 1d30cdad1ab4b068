//! What the store says, set against what the machine remembers.

use std::collections::BTreeSet;

use super::super::journal::{Batch, Change};
use super::super::record::{Control, Waiting};
use super::super::restore::{Polled, Restored};
use super::super::{Action, Note};
use super::Machine;
use crate::commit::Message;

impl Machine {
    pub(super) fn restore(&mut self, actions: &mut Vec<Action>) {
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

    pub(super) fn restored(&mut self, mut restored: Restored, actions: &mut Vec<Action>) {
        self.restoring = false;
        self.bring_near(&mut restored);
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

    /// The clock that wrote these times may have been set back since, by any amount: no message waits longer than its
    /// schedule says, counted from now.
    fn bring_near(&self, restored: &mut Restored) {
        let latest = self.now.saturating_add(self.settings.schedule.longest_wait_ms());
        let redriven = restored.redriven.iter_mut().map(|(_, waiting, _)| waiting);
        for waiting in restored.waiting.values_mut().chain(redriven) {
            waiting.next_at = waiting.next_at.min(latest);
        }
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

    pub(super) fn polled(&mut self, polled: Polled) {
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
}
