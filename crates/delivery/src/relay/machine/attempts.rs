//! The end of attempts: what becomes of the message, of the breaker, and of the subscription.

use super::super::attempt::{Answered, Attempt};
use super::super::journal::Change;
use super::super::record::{BreakerRecord, Control, DeadLetter, PauseReason, StoredMessage, bounded_error};
use super::super::restore::Polled;
use super::super::{Action, Blame, Delivered, Note};
use super::Machine;
use crate::breaker::{self, CallResult, Permit};

impl Machine {
    pub(super) fn attempted(
        &mut self,
        sequence: u64,
        delivered: Delivered,
        answered: &Answered,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(permit) = self.under_way.remove(&sequence) else {
            return;
        };
        self.breaker_hears(permit, &delivered, random, actions);
        self.write_down(sequence, &delivered, answered);
        let accepted = delivered == Delivered::Accepted;
        self.settle(sequence, delivered, permit.probe, random, actions);
        self.health_hears(accepted, actions);
    }

    /// Before it is settled, when its number is known.
    pub(super) fn write_down(&mut self, sequence: u64, delivered: &Delivered, answered: &Answered) {
        if let Some(slot) = self.window.slot_mut(sequence) {
            let number = slot.attempts.saturating_add(1);
            let attempt = Attempt::ended(self.now, (sequence, number), answered, delivered);
            self.journal.push(Change::Attempt(attempt));
        }
    }

    /// A delivery has ended. One that the receiver did not want has paused the subscription already.
    pub(super) fn health_hears(&mut self, accepted: bool, actions: &mut Vec<Action>) {
        self.health.note(self.now, !accepted, self.control.resumed_at());
        self.journal.push(Change::Health(self.health.clone()));
        let limit = self.settings.pause_after_ms;
        if limit.is_some_and(|ms| self.health.has_failed_for(self.now, ms)) {
            self.pause(PauseReason::Failing, actions);
        }
    }

    fn pause(&mut self, reason: PauseReason, actions: &mut Vec<Action>) {
        if !self.control.paused {
            self.control = Control::paused(reason, self.now);
            self.journal.push(Change::Control(self.control.clone()));
            actions.push(Action::Note(Note::Paused(reason)));
        }
    }

    pub(super) fn breaker_hears(
        &mut self,
        permit: Permit,
        delivered: &Delivered,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let change = self
            .breaker
            .record(permit, call_result(delivered), self.now, random);
        if let Some(change) = change {
            self.breaker_changed(change, delivered, actions);
        }
    }

    /// Finished by somebody else while it was under way here.
    pub(super) fn is_overtaken(&mut self, sequence: u64) -> bool {
        let overtaken = self.window.slot_mut(sequence).is_none_or(|slot| slot.obsolete);
        if overtaken {
            // What it is now is looked up.
            self.restore_wanted |= self.window.finish(sequence).is_some();
        }
        overtaken
    }

    /// What becomes of a message whose attempt has ended. `was_probe`: it was sent to find out whether the origin works again.
    pub(super) fn settle(
        &mut self,
        sequence: u64,
        delivered: Delivered,
        was_probe: bool,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        if self.is_overtaken(sequence) {
            return;
        }
        match delivered {
            Delivered::Accepted => {
                let slot = self.window.finish(sequence);
                let entry = slot.as_ref().is_none_or(|slot| slot.entry);
                let parked = slot.is_some_and(|slot| slot.is_parked());
                self.journal.push(Change::Delivered {
                    sequence,
                    entry,
                    parked,
                });
            }
            Delivered::Unwanted => {
                self.window.release(sequence);
                self.pause(PauseReason::Gone, actions);
            }
            // An outage, however long, makes no dead letters once the breaker has opened.
            Delivered::Refused {
                blame: Blame::Unreachable,
                ..
            } if was_probe => self.window.release(sequence),
            Delivered::Refused {
                why, is_final: true, ..
            } => self.given_up(sequence, &why, actions),
            Delivered::Refused {
                why, retry_after_ms, ..
            } => self.failed(sequence, &why, retry_after_ms, random, actions),
        }
    }

    /// Reports a change of the breaker and makes it durable: one small entry for each change.
    fn breaker_changed(&mut self, change: breaker::Change, delivered: &Delivered, actions: &mut Vec<Action>) {
        let record = match change {
            breaker::Change::Opened { until } => BreakerRecord {
                until: Some(until),
                why: Some(bounded_error(&reason(delivered))),
            },
            breaker::Change::Closed => BreakerRecord::default(),
        };
        self.journal.push(Change::Breaker(record));
        actions.push(Action::Note(Note::Breaker(change)));
    }

    /// A start was refused: the subscription is paused, or others take over. See [`Event::Withheld`].
    pub(super) fn withheld(
        &mut self,
        sequence: u64,
        polled: Option<Polled>,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(permit) = self.under_way.remove(&sequence) else {
            return;
        };
        _ = self.breaker.record(permit, CallResult::Neither, self.now, random);
        self.hold_back(sequence);
        if let Some(polled) = polled {
            self.polled(polled, actions);
        }
    }

    /// What was under way was not sent.
    pub(super) fn hold_back(&mut self, sequence: u64) {
        match self.window.slot_mut(sequence) {
            Some(slot) if !slot.obsolete => self.window.release(sequence),
            _ => _ = self.window.finish(sequence),
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
        let Some(wait) = self
            .settings
            .schedule
            .wait_ms(slot.attempts.saturating_add(1), random, asked)
        else {
            return self.given_up(sequence, error, actions);
        };
        slot.attempts = slot.attempts.saturating_add(1);
        slot.last_error = Some(bounded_error(error));
        slot.next_at = self.now.saturating_add(wait);
        (slot.entry, slot.saved) = (true, false);
        let waiting = slot.waiting();
        self.window.wait(sequence);
        self.journal.push(Change::Retry {
            sequence,
            waiting,
            parks: false,
        });
    }

    /// The last attempt has failed.
    fn given_up(&mut self, sequence: u64, error: &str, actions: &mut Vec<Action>) {
        if let Some(slot) = self.window.slot_mut(sequence) {
            slot.attempts = slot.attempts.saturating_add(1);
            slot.last_error = Some(bounded_error(error));
        }
        self.bury(sequence, None, actions);
    }

    /// Makes a dead letter; `early`: why, if not for its attempts.
    pub(super) fn bury(&mut self, sequence: u64, early: Option<&str>, actions: &mut Vec<Action>) {
        let Some(slot) = self.window.finish(sequence) else {
            return;
        };
        let parked = slot.is_parked();
        let mut last_error = slot.last_error.unwrap_or_default();
        if let Some(early) = early {
            let separator = if last_error.is_empty() { "" } else { "; " };
            last_error = format!("{last_error}{separator}{early}");
        }
        let message = slot.message.as_deref();
        let letter = DeadLetter {
            id: message.map(|message| message.id.clone()).unwrap_or_default(),
            sequence,
            attempts: slot.attempts,
            last_error,
            first_at: slot.first_at.unwrap_or(self.now),
            died_at: self.now,
            message: message.and_then(StoredMessage::of),
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
            parked,
        });
    }
}

/// The result of an attempt for the circuit breaker: about the origin, as distinct from the message.
fn call_result(delivered: &Delivered) -> CallResult {
    match delivered {
        Delivered::Accepted => CallResult::Success,
        Delivered::Unwanted => CallResult::Neither,
        Delivered::Refused {
            blame,
            retry_after_ms,
            ..
        } => match blame {
            Blame::Message => CallResult::Success,
            Blame::Origin | Blame::Unreachable => CallResult::Failure {
                retry_after_ms: *retry_after_ms,
            },
        },
    }
}

/// The refusal that opened the breaker, for people.
fn reason(delivered: &Delivered) -> String {
    match delivered {
        Delivered::Refused {
            why,
            retry_after_ms: Some(asked),
            ..
        } => format!("{why} with Retry-After {} s", asked / 1_000),
        Delivered::Refused { why, .. } => why.clone(),
        Delivered::Accepted | Delivered::Unwanted => String::new(),
    }
}
