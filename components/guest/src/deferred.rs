//! What is deferred on an instance: kept for a moment after the response, and combined, so that many clicks on a link are one
//! write. What is kept when Spin ends is lost, as the contract of `clicks` has it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use spin_sdk::wasip3;
use tollgate_store::commit::Commit;
use tollgate_store::plan::coalescer::{Coalescer, Note};

use crate::bindings::tollgate::edge::{store as wit, upkeep as wit_upkeep};

/// How long changes wait for others, milliseconds. Shorter than what a store gives other instances when it settles.
const WINDOW_MS: u64 = 50;

thread_local! {
    static KEPT: RefCell<Coalescer> = RefCell::default();
    /// Somebody of this instance will hand on what is kept.
    static WAITS: Cell<bool> = const { Cell::new(false) };
    /// Somebody of this instance carries out what the store could not do at once.
    static CATCHES_UP: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a commit, with its mark and its note if it has them; see [`Coalescer::add`].
pub fn add(commit: Commit, mark: Option<u64>, note: Option<Note>) {
    hand_on(KEPT.with_borrow_mut(|kept| kept.add(commit, mark, note)));
    if !WAITS.replace(true) {
        wasip3::spawn(async {
            spin_sdk::time::sleep(Duration::from_millis(WINDOW_MS)).await;
            // What comes from now on waits for a turn of its own.
            WAITS.set(false);
            flush();
            if wit_upkeep::is_behind() && !CATCHES_UP.replace(true) {
                wit_upkeep::catch_up().await;
                CATCHES_UP.set(false);
            }
        });
    }
}

/// Keeps a commit once more; see [`Coalescer::again`].
pub fn again(partition: &str, mark: u64) -> bool {
    KEPT.with_borrow_mut(|kept| kept.again(partition, mark))
}

/// Hands all of it to the store.
pub fn flush() {
    hand_on(KEPT.with_borrow_mut(Coalescer::take));
}

fn hand_on(commits: Vec<Commit>) {
    for commit in commits {
        wit::defer(&commit.into());
    }
}
