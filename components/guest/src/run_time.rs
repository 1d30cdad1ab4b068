//! What operators set over the API (overrides of limits), as an instance knows it. While nothing is set, the store is asked at most once
//! a second; once something is, with every request, so that a change is in force with the next one.

use crate::port::Port;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tollgate_rules::run_time;
use tollgate_rules::settings::Settings;

/// How long nothing is taken to be set after it was so, milliseconds.
const QUIET_MS: u64 = 1_000;

thread_local! {
    /// When a request came whose question the store has answered last, Unix milliseconds.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    /// The settings with what is set, and the version of the record.
    static SET: RefCell<Option<(u64, Rc<Settings>)>> = const { RefCell::new(None) };
}

/// The settings of one request.
pub enum InForce {
    /// Nothing is set over the API.
    Configured(&'static Settings),
    /// With what is set.
    Set(Rc<Settings>),
}

impl std::ops::Deref for InForce {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        match self {
            Self::Configured(settings) => settings,
            Self::Set(settings) => settings,
        }
    }
}

/// The settings of a request: those of the configuration, with what is set over the API. A store that does not answer, or a record
/// that cannot be read, leaves what was in force.
pub async fn settings(configured: &'static Settings, now: u64) -> InForce {
    let before = SET.with_borrow(Clone::clone);
    if before.is_none() && now.abs_diff(ASKED.get()) < QUIET_MS {
        return InForce::Configured(configured);
    }
    let found = run_time::entry(&Port).await;
    // Not before the answer: requests beside this one would take it for "nothing is set".
    ASKED.set(now);
    let set = match found {
        Err(_) => before,
        Ok(None) => None,
        Ok(Some(entry)) => match before {
            Some((version, settings)) if version == entry.version => Some((version, settings)),
            before => {
                let mut settings = configured.clone();
                match settings.set_run_time(&entry.value) {
                    Ok(()) => Some((entry.version, Rc::new(settings))),
                    Err(_) => before,
                }
            }
        },
    };
    SET.set(set.clone());
    match set {
        None => InForce::Configured(configured),
        Some((_, settings)) => InForce::Set(settings),
    }
}
