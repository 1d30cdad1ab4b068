//! A topic that is posted to, read and deleted by several at once.

use serde_json::Value;

use super::{Checked, ensure};

/// What is known of it. Times are microseconds since the beginning.
#[derive(Default)]
pub struct Scratch {
    /// The newest sequence that is durable.
    pub last: u64,
    /// When messages were answered to be accepted, with their sequences.
    accepted: Vec<(u64, u64)>,
    /// When the entry became durable that says up to which sequence messages went, with that sequence.
    gone: Vec<(u64, u64)>,
    pub deletions: u64,
}

impl Scratch {
    /// The sequence up to which messages had gone at a time.
    fn gone_at(&self, time: u64) -> u64 {
        let before = self.gone.iter().rev().find(|(at, _)| *at <= time);
        before.map_or(0, |(_, through)| *through)
    }

    /// The messages that were accepted before a time.
    fn accepted_before(&self, time: u64) -> impl Iterator<Item = u64> {
        let before = self.accepted.iter().filter(move |(at, _)| *at < time);
        before.map(|(_, sequence)| *sequence)
    }

    /// The entry became durable: what went never comes back, and nothing goes that was never there.
    pub fn changed(&mut self, key: &str, value: &[u8], now: u64) -> Checked {
        let through: u64 = super::read(key, value)?;
        let before = self.gone_at(u64::MAX);
        ensure((before..=self.last).contains(&through), || {
            format!("{key} went from {before} to {through}, of {}", self.last)
        })?;
        self.gone.push((now, through));
        Ok(())
    }

    /// A message was answered to be accepted.
    pub fn posted(&mut self, sequence: u64, now: u64) -> Checked {
        ensure((1..=self.last).contains(&sequence), || {
            format!("{sequence} was accepted, and {} are there", self.last)
        })?;
        self.accepted.push((now, sequence));
        Ok(())
    }

    /// It was answered to be deleted: all that was accepted before that was asked for has gone.
    pub fn deleted(&mut self, began: u64) -> Checked {
        self.deletions += 1;
        let gone = self.gone_at(u64::MAX);
        let left = self.accepted_before(began).find(|sequence| *sequence > gone);
        ensure(left.is_none(), || {
            format!("it was deleted up to {gone}, and {left:?} was there before")
        })
    }

    /// A page from the beginning, as long as it may be: nothing that had gone when it was asked for, and all that was accepted by then
    /// and has not gone since.
    pub fn seen(&self, page: &Value, began: u64) -> Checked {
        let messages = page["messages"].as_array();
        let seen: Vec<u64> = messages
            .into_iter()
            .flatten()
            .filter_map(|message| message["sequence"].as_u64())
            .collect();
        ensure(seen.is_sorted_by(|a, b| a < b), || {
            format!("{seen:?} is out of order")
        })?;
        let gone = self.gone_at(began);
        let back = seen.iter().find(|sequence| **sequence <= gone);
        ensure(back.is_none(), || format!("{back:?} is seen after it has gone"))?;
        let now = self.gone_at(u64::MAX);
        let lost = self
            .accepted_before(began)
            .find(|sequence| *sequence > now && !seen.contains(sequence));
        ensure(lost.is_none(), || {
            format!("{lost:?} was accepted, and is not seen")
        })
    }
}
