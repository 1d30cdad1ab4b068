//! What rules and store do in the background of our own host. Here ticks ask for it, and some requests after their response.

use spin_sdk::wasip3;
use std::cell::Cell;
use std::thread::LocalKey;
use tollgate_rules::config::Config;
use tollgate_rules::links::stats::{ROUND, Round};
use tollgate_rules::upkeep::{Work, keeping};
use tollgate_store::commit::StoreError;
use tollgate_store::ports::{Store as _, Upkeep as _};
use tollgate_store::retention::{self, Cursor};

use super::uptime_ms;
use crate::port::Port;
use crate::{settings, turn};

/// How long one kind of work may take of a turn, milliseconds, before the next begins.
const WORK_MS: u64 = 1_000;
/// Whose turn it was is in this partition.
const PARTITION: &str = "upkeep";

/// What is done after responses: of all instances, by one, at most so often.
struct Turn {
    /// The entry that says that somebody had it.
    key: &'static str,
    /// Milliseconds.
    every_ms: u64,
}

const ALL: Turn = Turn {
    key: "upkeep/turn",
    every_ms: 10_000,
};
/// Visits come by the thousand, and readers of statistics would wait for them.
const VISITS: Turn = Turn {
    key: "upkeep/visits",
    every_ms: 2_000,
};
/// Topics that are full.
const FULL: Turn = Turn {
    key: "upkeep/full",
    every_ms: 500,
};

thread_local! {
    /// When this instance asks for a turn again, Unix milliseconds.
    static ASKS_AT: Cell<u64> = const { Cell::new(0) };
    /// The same, of visits.
    static ASKS_FOR_VISITS_AT: Cell<u64> = const { Cell::new(0) };
    /// Whether there is room for notes of visits, as of the last look.
    static TAKES_NOTES: Cell<bool> = const { Cell::new(true) };
}

/// After a response that refused a message because its topic is full: topics whose oldest messages may go are trimmed at once.
/// `now`: Unix milliseconds.
pub fn after_full(now: u64) {
    wasip3::spawn(FULL.take(now, async |config| {
        // A topic that was deleted may have left it full.
        again(async || Port.expire().await).await;
        trim(config).await;
    }));
}

/// After a response: does what nobody has done lately. `now`: Unix milliseconds.
pub fn after_response(now: u64) {
    if ALL.is_due(&ASKS_AT, now) {
        wasip3::spawn(ALL.take(now, async |config| {
            run(config).await;
            super::after_appends();
        }));
    }
    if VISITS.is_due(&ASKS_FOR_VISITS_AT, now) {
        wasip3::spawn(async move {
            let folds = async |config: &Config| {
                again(async || Work::Visits.step(&Port, config, crate::now()).await).await
            };
            VISITS.take(now, folds).await;
            if let Ok(found) = Port.get(ROUND, &[ROUND.to_owned()]).await {
                let round = Round::of(found.first().and_then(Option::as_ref));
                TAKES_NOTES.set(!round.is_full());
            }
        });
    }
}

/// Whether visits are noted on this instance; see [`Round::is_full`].
pub fn takes_notes() -> bool {
    TAKES_NOTES.get()
}

impl Turn {
    /// Whether this instance asks for it, which it then does not do again for a while.
    fn is_due(&self, asks_at: &'static LocalKey<Cell<u64>>, now: u64) -> bool {
        let at = asks_at.get();
        // A clock that was set back does not keep it from asking.
        let is_due = now >= at || at - now > self.every_ms;
        if is_due {
            asks_at.set(now.saturating_add(self.every_ms));
        }
        is_due
    }

    /// Does the work, unless another instance has had the turn.
    async fn take(&self, now: u64, work: impl AsyncFnOnce(&Config)) {
        if let (Ok(true), Ok(in_force)) = (
            turn::take(PARTITION, self.key.to_owned(), now, self.every_ms).await,
            settings::load(),
        ) {
            work(&in_force.settings.config).await;
        }
    }
}

/// Messages that were posted to come later, and are due.
pub async fn release(config: &Config) {
    again(async || Work::Due.step(&Port, config, crate::now()).await).await;
}

/// Each kind of work, for a while. What fails, or is not done in time, is left to the next turn.
pub async fn run(config: &Config) {
    for work in Work::ALL {
        again(async || work.step(&Port, config, crate::now()).await).await;
    }
    again(async || Port.expire().await).await;
    trim(config).await;
}

/// Messages past the retention of their topics.
async fn trim(config: &Config) {
    // What is needed is not known: then nothing may go.
    let Ok(keeping) = keeping(&Port, config).await else {
        return;
    };
    let mut cursor = Cursor::default();
    again(async || retention::step(&Port, &keeping, crate::now(), &mut cursor).await).await;
}

/// Takes steps while there is more to do and time for it.
async fn again(mut step: impl AsyncFnMut() -> Result<bool, StoreError>) {
    let began = uptime_ms();
    while let Ok(true) = step().await {
        if uptime_ms().saturating_sub(began) >= WORK_MS {
            return;
        }
    }
}
