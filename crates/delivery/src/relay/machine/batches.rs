//! Several messages as one delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::attempt::Answered;
use super::super::restore::Polled;
use super::super::{Action, Batching, Blame, Delivered, MAX_BATCH_BYTES};
use super::Machine;
use crate::breaker::{CallResult, Permit};
use tollgate_store::commit::Message;

/// The batches under way.
#[derive(Debug, Default)]
pub(super) struct Batches {
    under_way: BTreeMap<u64, (Permit, Vec<u64>)>,
    next_number: u64,
    /// Since when messages wait for more of them.
    since: Option<u64>,
}

impl Batches {
    pub fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Machine {
    pub(super) fn send_batches(&mut self, batching: Batching, actions: &mut Vec<Action>) {
        let concurrency = self.settings.concurrency as usize;
        loop {
            if self.window.ready() == 0 {
                self.batches.since = None;
                return;
            }
            self.batches.since.get_or_insert(self.now);
            let free = self.may_send() && self.batches.len() < concurrency;
            if !free || self.pacer.next_at() > self.now || self.batches_at() > self.now {
                return;
            }
            let Some(permit) = self.breaker.begin(self.now) else {
                return;
            };
            // One message finds out whether the origin works again.
            let most = if permit.probe { 1 } else { batching.most };
            let (messages, alone) = self.together(most, permit.probe);
            if messages.is_empty() {
                return;
            }
            let number = self.batches.next_number;
            self.batches.next_number += 1;
            // Those that go alone do not wait for more.
            self.batches.since = alone.then_some(0);
            self.pacer.take(self.now);
            let sequences = messages.iter().map(|(message, _)| message.sequence).collect();
            self.batches.under_way.insert(number, (permit, sequences));
            actions.push(Action::SendBatch { number, messages });
        }
    }

    /// When the next batch is full, or old enough, Unix milliseconds.
    pub(super) fn batches_at(&self) -> u64 {
        let Some(batching) = self.settings.batch else {
            return 0;
        };
        if self.window.ready() >= batching.most {
            return 0;
        }
        let since = self.batches.since.unwrap_or(self.now);
        since.saturating_add(batching.interval_ms)
    }

    /// Messages that may be sent, now under way: of a key there is one at most. And whether it is one that goes alone.
    fn together(&mut self, most: usize, probe: bool) -> (Vec<(Arc<Message>, u32)>, bool) {
        let (mut messages, mut bytes) = (Vec::new(), 0_usize);
        while messages.len() < most {
            let Some((sequence, slot)) = self.window.begin(probe, self.now) else {
                break;
            };
            let (alone, attempt) = (slot.alone, slot.attempts.saturating_add(1));
            let Some(message) = slot.message.as_ref().map(Arc::clone) else {
                break;
            };
            bytes = bytes.saturating_add(message.payload.len());
            if !messages.is_empty() && (alone || bytes > MAX_BATCH_BYTES) {
                self.window.release(sequence);
                break;
            }
            messages.push((message, attempt));
            if alone {
                return (messages, true);
            }
        }
        (messages, false)
    }

    pub(super) fn batch_attempted(
        &mut self,
        number: u64,
        delivered: &Delivered,
        answered: &Answered,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some((permit, sequences)) = self.batches.under_way.remove(&number) else {
            return;
        };
        self.breaker_hears(permit, delivered, random, actions);
        let of_messages = matches!(
            delivered,
            Delivered::Refused {
                blame: Blame::Message,
                ..
            }
        );
        let parts = sequences.len() > 1 && of_messages;
        if parts {
            self.batches.since = Some(0);
        }
        for sequence in sequences {
            self.write_down(sequence, delivered, answered);
            if !parts {
                self.settle(sequence, delivered.clone(), permit.probe, random, actions);
            } else if !self.is_overtaken(sequence) {
                if let Some(slot) = self.window.slot_mut(sequence) {
                    slot.alone = true;
                }
                self.window.release(sequence);
            }
        }
        self.health_hears(*delivered == Delivered::Accepted, actions);
    }

    pub(super) fn batch_withheld(
        &mut self,
        number: u64,
        polled: Option<Polled>,
        random: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some((permit, sequences)) = self.batches.under_way.remove(&number) else {
            return;
        };
        _ = self.breaker.record(permit, CallResult::Neither, self.now, random);
        sequences
            .into_iter()
            .for_each(|sequence| self.hold_back(sequence));
        if let Some(polled) = polled {
            self.polled(polled, actions);
        }
    }
}
