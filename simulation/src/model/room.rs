//! The waiting room: whose number is whose, and that nobody comes in before their turn, by what became durable and what was told.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use tollgate_store::memory::START;
use tollgate_store::plan;

use super::{Checked, ensure, read};

/// When the room opens, Unix milliseconds.
pub const OPENS: u64 = START + 1_200;
/// The fastest pace that anybody sets, turns in a second.
pub const FASTEST: u64 = 40;

/// What is known of the room.
#[derive(Debug, Default)]
pub struct Room {
    /// The lots that have the first turns, once it has opened.
    lots: Option<u64>,
    /// The durable counter of turns.
    turns: u64,
    /// Lots and turns that were told.
    told: [BTreeSet<u64>; 2],
    /// The latest that any request was answered by, by the machine's clock.
    pub latest: u64,
}

#[derive(Deserialize)]
struct Record {
    opens: u64,
    opened: Option<Opened>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Opened {
    lots: u64,
}

/// What a ticket says in the open: whether it is a turn, and its number.
fn number_of(ticket: &Value) -> Option<(usize, u64)> {
    let bytes = URL_SAFE_NO_PAD.decode(ticket.as_str()?).ok()?;
    let (kind, rest) = bytes.split_first()?;
    let number = u64::from_be_bytes(*rest.first_chunk()?);
    Some((usize::from(kind.checked_sub(1)?), number))
}

impl Room {
    /// The record is durable. `now`: the store's time.
    pub fn changed(&mut self, key: &str, value: &[u8], now: u64) -> Checked {
        let record: Record = read(key, value)?;
        let lots = record.opened.map(|opened| opened.lots);
        ensure(lots.is_none() || now >= record.opens, || {
            format!("{key} opened at {now}, before {}", record.opens)
        })?;
        ensure(self.lots.is_none() || self.lots == lots, || {
            format!("{key} opened twice: {:?}, and then {lots:?}", self.lots)
        })?;
        self.lots = lots;
        Ok(())
    }

    /// The counter of turns is durable.
    pub fn counted(&mut self, key: &str, value: &[u8]) -> Checked {
        let turns = plan::counter(value)
            .and_then(|turns| u64::try_from(turns).ok())
            .unwrap_or(0);
        let before = std::mem::replace(&mut self.turns, turns);
        ensure(before <= turns, || format!("{key} went from {before} to {turns}"))
    }

    /// A ticket was told.
    pub fn drawn(&mut self, answer: &Value) -> Checked {
        let (kind, number) = number_of(&answer["ticket"]).ok_or_else(|| format!("no ticket: {answer}"))?;
        let told = self
            .told
            .get_mut(kind)
            .ok_or_else(|| format!("no ticket: {answer}"))?;
        ensure(told.insert(number), || {
            format!("the {} {number} was given twice", ["lot", "turn"][kind])
        })?;
        let Some(lots) = self.lots else {
            return ensure(kind == 0, || format!("turn {number} was told before the opening"));
        };
        match kind {
            0 => ensure(number <= lots, || {
                format!("lot {number} was given after {lots} had their places")
            }),
            _ => ensure((lots + 1..=self.turns).contains(&number), || {
                format!(
                    "turn {number} was told, and turns from {lots} to {} are durable",
                    self.turns
                )
            }),
        }
    }

    /// A ticket was looked at.
    pub fn looked(&self, ticket: &Value, answer: &Value) -> Checked {
        let (kind, number) = number_of(ticket).ok_or_else(|| format!("no ticket: {ticket}"))?;
        let most = if kind == 0 { self.lots.unwrap_or(0) } else { number };
        if let Some(position) = answer["position"].as_u64() {
            ensure(position <= most, || {
                format!("{position} wait before number {number} of {most}")
            })?;
        }
        if answer["state"] == "waiting" {
            return Ok(());
        }
        let earliest = match kind {
            0 => 1,
            _ => number,
        };
        let turn = OPENS + earliest * 1_000 / FASTEST;
        ensure(self.latest >= turn, || {
            format!(
                "number {number} was admitted by {}, and its turn comes at {turn}",
                self.latest
            )
        })
    }

    /// What holds after every group.
    pub fn check(&self) -> Checked {
        let Some(lots) = self.lots else { return Ok(()) };
        let late = self.told[0].range(lots + 1..).next();
        ensure(late.is_none(), || {
            format!("lot {late:?} was given, and {lots} have places")
        })
    }
}
