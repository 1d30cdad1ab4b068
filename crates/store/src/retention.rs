//! How long topics are kept.

use std::collections::{BTreeMap, HashMap};

use crate::commit::{StoreError, Topic};
use crate::ports::{Store, Upkeep};

/// The most topics that one step trims.
const TOPICS_OF_A_STEP: usize = 64;
/// Topics of one page.
const PAGE: u32 = 256;

/// How long and how much of a topic is kept. Messages that a subscription still needs are kept unless `drop_beyond` says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds; for ever if missing.
    pub age_ms: Option<u64>,
    /// What messages may take, bytes ([`weight`](crate::commit::weight)); any number if missing.
    pub max_bytes: Option<u64>,
    /// What messages may take, bytes, before even those go that a subscription still needs; any number if missing.
    pub drop_beyond: Option<u64>,
}

impl Retention {
    /// Whether the oldest message goes: written at `time`, with `bytes` of all, the oldest included. `needed`: a subscription has not
    /// had it. Times are Unix milliseconds.
    pub fn lets_go(&self, needed: bool, time: u64, bytes: u64, now: u64) -> bool {
        if needed {
            return self.drop_beyond.is_some_and(|most| bytes > most);
        }
        let is_old = self.age_ms.is_some_and(|age| time <= now.saturating_sub(age));
        is_old || self.max_bytes.is_some_and(|max| bytes > max)
    }

    /// The sequence from which on no message goes, of a topic whose messages are needed from `low_water` on.
    pub fn end(&self, low_water: u64) -> u64 {
        match self.drop_beyond {
            Some(_) => u64::MAX,
            None => low_water,
        }
    }
}

/// A walk along the messages of one topic, from the oldest on, that says which of them go.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    retention: Retention,
    needed: u64,
    /// Messages up to this sequence went with their topic.
    gone: u64,
    bytes: u64,
    now: u64,
}

impl Cut {
    /// Of a topic whose messages take `bytes`, at `now` (Unix milliseconds). Those from the sequence `needed` on are needed.
    pub fn new(retention: Retention, needed: u64, bytes: u64, now: u64) -> Self {
        Self {
            retention,
            needed,
            gone: 0,
            bytes,
            now,
        }
    }

    /// The same where messages up to a sequence went with a topic of this name that was deleted: they go, whoever needs them.
    pub fn after(self, gone: u64) -> Self {
        Self { gone, ..self }
    }

    /// Whether the next message goes. After the first that stays, all stay.
    pub fn takes(&mut self, sequence: u64, time: u64, weight: u64) -> bool {
        let goes = sequence <= self.gone
            || self
                .retention
                .lets_go(sequence >= self.needed, time, self.bytes, self.now);
        if goes {
            self.bytes = self.bytes.saturating_sub(weight);
        }
        goes
    }

    /// What is left, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The retention of every topic, and what subscriptions still need.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// For topics that `retention` does not name; `None` keeps everything.
    pub default: Option<Retention>,
    /// Per topic.
    pub retention: BTreeMap<String, Retention>,
    /// Per topic, the oldest sequence that a subscription still needs.
    pub low_water: HashMap<String, u64>,
}

impl Keeping {
    /// The retention of a topic, and the sequence from which on its messages are needed; `None` keeps
    /// everything.
    pub fn of(&self, topic: &str) -> Option<(Retention, u64)> {
        let retention = self.retention.get(topic).copied().or(self.default);
        let retention = self.default.and(retention)?;
        Some((retention, self.low_water.get(topic).copied().unwrap_or(u64::MAX)))
    }
}

/// Where [`step`] goes on.
#[derive(Clone, Debug, Default)]
pub struct Cursor(Option<String>);

/// Trims topics of a store that nobody trims in the background: a bounded number, after those of the step before. `now`: Unix milliseconds.
/// `true`: there may be more. The cursor is to be kept for the next step.
///
/// # Errors
/// Those of the store.
pub async fn step<S: Store + Upkeep>(
    store: &S,
    keeping: &Keeping,
    now: u64,
    cursor: &mut Cursor,
) -> Result<bool, StoreError> {
    let (mut trimmed, mut more) = (0, false);
    loop {
        let page = store.topics(cursor.0.as_deref(), PAGE).await?;
        for topic in page {
            if let Some((retention, needed)) = due(keeping, &topic, now) {
                more |= store.trim(&topic.name, retention, needed).await?;
                trimmed += 1;
            }
            cursor.0 = Some(topic.name);
            if trimmed == TOPICS_OF_A_STEP {
                return Ok(true);
            }
        }
        if store.topics(cursor.0.as_deref(), 1).await?.is_empty() {
            *cursor = Cursor::default();
            return Ok(more);
        }
    }
}

/// The retention of a topic whose oldest message goes, and from where on its messages are needed.
fn due(keeping: &Keeping, topic: &Topic, now: u64) -> Option<(Retention, u64)> {
    let (retention, needed) = keeping.of(&topic.name)?;
    let oldest = topic.first_time?;
    let goes = retention.lets_go(topic.first >= needed, oldest, topic.bytes, now);
    goes.then_some((retention, needed))
}
