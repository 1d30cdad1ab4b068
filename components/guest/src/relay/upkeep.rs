//! What rules and store do in the background of our own host. Here ticks ask for it, and some requests after their response.

use spin_sdk::wasip3;
use std::cell::Cell;
use tollgate_rules::config::Config;
use tollgate_rules::upkeep::{Work, keeping};
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Upkeep as _;
use tollgate_store::retention::{self, Cursor};

use super::uptime_ms;
use crate::port::Port;
use crate::{settings, turn};

/// How long one kind of work may take of a turn, milliseconds, before the next begins.
const WORK_MS: u64 = 1_000;
/// Of all instances, one does it after a response, at most so often, milliseconds.
const EVERY_MS: u64 = 10_000;
/// Whose turn it was is in this partition.
const PARTITION: &str = "upkeep";
/// The entry that says that somebody had a turn.
const KEY: &str = "upkeep/turn";

/// The same, for topics that are full.
const EVERY_FULL_MS: u64 = 500;
/// The entry that says so of them.
const FULL_KEY: &str = "upkeep/full";

thread_local! {
    /// When this instance asks for a turn again, Unix milliseconds.
    static ASKS_AT: Cell<u64> = const { Cell::new(0) };
}

/// After a response that refused a message because its topic is full: topics whose oldest messages may go are trimmed at once.
/// `now`: Unix milliseconds.
pub fn after_full(now: u64) {
    wasip3::spawn(async move {
        if let (Ok(true), Ok(in_force)) = (
            turn::take(PARTITION, FULL_KEY.to_owned(), now, EVERY_FULL_MS).await,
            settings::load(),
        ) {
            // A topic that was deleted may have left it full.
            again(async || Port.expire().await).await;
            trim(&in_force.settings.config).await;
        }
    });
}

/// After a response: does it if nobody has, lately. `now`: Unix milliseconds.
pub fn after_response(now: u64) {
    let asks_at = ASKS_AT.get();
    // A clock that was set back does not keep it from asking.
    if now < asks_at && asks_at - now <= EVERY_MS {
        return;
    }
    ASKS_AT.set(now.saturating_add(EVERY_MS));
    wasip3::spawn(async move {
        if let (Ok(true), Ok(in_force)) = (
            turn::take(PARTITION, KEY.to_owned(), now, EVERY_MS).await,
            settings::load(),
        ) {
            run(&in_force.settings.config).await;
            super::after_appends();
        }
    });
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
