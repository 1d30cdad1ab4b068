//! The counters of the quota by outcome: each is what was answered as it counts, and what is reserved yet.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_store::plan;

use super::{Checked, ensure, read};

/// The statuses that the quota counts.
const COUNTED: std::ops::RangeInclusive<u16> = 200..=299;

/// What is known of the quota.
#[derive(Debug, Default)]
pub struct Quota {
    /// The durable reservations, and the counters of each.
    held: BTreeMap<String, Vec<String>>,
    counters: BTreeMap<String, Counter>,
    /// What requests with a reservation were answered.
    answered: BTreeMap<String, Outcome>,
    /// Counters that the group which is being looked at concerns.
    touched: Vec<String>,
    /// Requests of a window.
    pub limit: i64,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Known(bool),
    /// Whether its end became durable is not known: by its status, or by a sweep.
    InDoubt,
}

#[derive(Debug, Default)]
struct Counter {
    value: i64,
    /// Reservations that ended and stay counted, at least and at most.
    least: i64,
    most: i64,
}

#[derive(Deserialize)]
struct Record {
    counters: Vec<Held>,
}

#[derive(Deserialize)]
struct Held {
    key: String,
}

impl Quota {
    /// A request with this reservation is answered so.
    pub fn answered(&mut self, key: &str, status: u16) {
        self.answered
            .insert(key.to_owned(), Outcome::Known(COUNTED.contains(&status)));
    }

    /// Its reservation could not be ended, as far as is known.
    pub fn not_ended(&mut self, key: &str) {
        self.answered.insert(key.to_owned(), Outcome::InDoubt);
    }

    /// The process has ended, and what it was doing with it.
    pub fn forget(&mut self) {
        self.answered
            .values_mut()
            .for_each(|outcome| *outcome = Outcome::InDoubt);
    }

    /// A reservation is durable, or its end. `now`: the store's time.
    pub fn reserved(&mut self, key: &str, value: Option<&[u8]>, now: u64) -> Checked {
        if let Some(value) = value {
            let record: Record = read(key, value)?;
            let counters: Vec<String> = record.counters.into_iter().map(|held| held.key).collect();
            self.touched.extend(counters.iter().cloned());
            self.held.insert(key.to_owned(), counters);
            return Ok(());
        }
        let counters = self
            .held
            .remove(key)
            .ok_or_else(|| format!("{key} ended, and was none"))?;
        // Without an answer it ended by itself.
        // One whose time is over may have been swept first, while its request was still answered.
        let until = key.split('/').nth(1).and_then(|until| until.parse().ok());
        let is_over = until.is_some_and(|until: u64| until <= now);
        let (least, most) = match self.answered.remove(key) {
            Some(Outcome::Known(true)) => (u64::from(!is_over).cast_signed(), 1),
            Some(Outcome::Known(false)) | None => (0, 0),
            Some(Outcome::InDoubt) => (0, 1),
        };
        for key in counters {
            let counter = self.counters.entry(key.clone()).or_default();
            counter.least += least;
            counter.most += most;
            self.touched.push(key);
        }
        Ok(())
    }

    /// A counter is durable, or its end.
    pub fn counted(&mut self, key: &str, value: Option<&[u8]>) {
        // How many names an address has brought.
        if key.contains("/ ") {
            return;
        }
        match value {
            None => drop(self.counters.remove(key)),
            Some(value) => {
                self.counters.entry(key.to_owned()).or_default().value = plan::counter(value).unwrap_or(-1);
                self.touched.push(key.to_owned());
            }
        }
    }

    /// The counters of a reservation.
    pub fn counters_of(&self, key: &str) -> Vec<String> {
        self.held.get(key).cloned().unwrap_or_default()
    }

    /// After a group.
    pub fn check(&mut self) -> Checked {
        for key in std::mem::take(&mut self.touched) {
            let Some(Counter { value, least, most }) = self.counters.get(&key) else {
                continue;
            };
            let held = self.held.values().flatten().filter(|one| **one == key).count() as i64;
            ensure((held + least..=held + most).contains(value), || {
                format!("{key} is {value}, with {held} reserved and {least} to {most} that stay")
            })?;
            ensure((0..=self.limit).contains(value), || {
                format!("{key} is {value}, of {}", self.limit)
            })?;
        }
        Ok(())
    }
}
