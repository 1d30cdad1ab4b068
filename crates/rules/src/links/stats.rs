//! What is known of a link's visits, beside their number: when, from where, with what, and how many clients.
//!
//! A visit writes nothing of its own. What it has seen ([`seen`]) is a note beside the write that counts it: with
//! `clicks = "submitted"`, notes of a moment are combined with their clicks. Notes lie in the store as
//! `seen/<id>/<unique>` until they are folded ([`mod@fold`]) into the link's tallies ([`tally`]): `stats/<id>/h<hour>`
//! for [`HOURS_KEPT`], `stats/<id>/d<day>` for ever, and `stats/<id>/all`. A fold removes the notes in the commit
//! that writes their tallies, which must be those that it read. So a note is counted once, whoever folds, and however
//! often. The same commit appends it to the log of the newest visits ([`log`], [`visits`]). A crash loses of the statistics what it loses of the clicks, and nothing else.
//!
//! Our host folds in the background, link after link ([`mod@round`]), and so do the components after responses; who reads folds first
//! ([`read`]).
//!
//! Requests for codes that no link has are noted in the same way, under [`LOST`] in place of an id.
//!
//! Statistics belong to a link's id. A deleted link leaves an entry `gone/<time>/<id>`, by which they are removed
//! ([`mod@gone`]).
//!
//! Bounds: notes of [`MAX_WAITING`] bytes wait, then visits are counted alone. A note is at most [`MAX_ROW`](tollgate_store::plan::coalescer::MAX_ROW) bytes, a tally at most
//! [`MAX_BYTES`]. So the hours of a link that is visited in each of them take at most 17 MiB, if every
//! dimension is full in every hour; with ten visits an hour, under 1 MiB.

mod fold;
mod gone;
pub(super) mod log;
mod read;
pub(crate) mod round;
mod seen;
mod tally;
#[cfg(test)]
mod tests;
pub(super) mod visits;

use super::record::Named;
use super::visitor::{self, Visitor};
use crate::config::{Clicks, Links};
use crate::world::World;
use tollgate_api::http::Request;
use tollgate_store::commit::{Commit, StoreError};
use tollgate_store::plan::coalescer::{Note, Noted, noted};
use tollgate_store::ports::Store;

pub use fold::fold;
pub(super) use gone::entry as gone;
#[cfg(feature = "schema")]
pub(super) use read::{MAX_DAYS, MAX_LINKS, Stats};
pub(super) use read::{get, get_all, told};
pub use round::{MAX_BYTES as MAX_WAITING, ROUND, Round};
pub use seen::Dimension;
use seen::Seen;
pub use tally::MAX_BYTES;

/// How long hours are kept.
pub const HOURS_KEPT: u64 = 90 * 24;
/// Milliseconds.
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// In place of a link's id: visits to codes that no link has.
pub(super) const LOST: &str = "lost";
/// Lost visits of a moment that are told apart by what they asked for; all are counted.
const LOST_KINDS: u64 = 16;
const LOST_PARTITION: &str = "seen/lost/";

/// What the keys of notes begin with.
const NOTES: &str = "seen/";

/// Hexadecimal digits of the time that the last part of a note's key begins with.
const TIME_DIGITS: usize = 12;

fn notes_of(id: &str) -> String {
    [NOTES, id, "/"].concat()
}

fn tallies_of(id: &str) -> String {
    ["stats/", id, "/"].concat()
}

/// The entry of all of a link's visits together.
pub(super) fn all_key(id: &str) -> String {
    ["stats/", id, "/all"].concat()
}

/// Whether visits that are counted are noted too: as configured, and unless too many notes wait ([`round`]).
pub(super) fn is_on<S: Store>(world: &World<'_, S>) -> bool {
    world.settings.config.links.stats && world.store.takes_notes()
}

/// Identifies a visit among those of its link: with the same version of the link and the same mark, it is counted and noted as
/// the one before.
pub(super) fn mark(version: u64, request: &Request) -> u64 {
    seen::mark(version, request)
}

/// The note of a visit to the link with this id, which leads to `target`; `is_bot`: of a machine, which is not counted.
pub(super) fn note<S>(
    world: &World<'_, S>,
    request: &Request,
    (id, target): (&str, &str),
    is_bot: bool,
) -> Note {
    let seen = Seen::of(world, request, is_bot, target);
    // Of the same millisecond and link, half of the bits are enough.
    let unique = u128::from_be_bytes((world.fresh)()) as u64;
    Note {
        place: notes_of(id),
        unique: format!("{:0TIME_DIGITS$x}{unique:016x}", world.now),
        row: seen.to_bytes(),
    }
}

/// Notes that a machine came.
pub(super) fn saw_machine<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    partition: &str,
    (named, target): (&Named<'_>, &str),
    mark: u64,
) {
    let commit = Commit {
        partition: partition.to_owned(),
        ..Commit::default()
    };
    let note = note(world, request, (&named.id, target), true);
    world.store.defer_repeatable(commit, mark, Some(note));
}

/// Notes that somebody asked for a code that no link has. However many there are, few are written ([`LOST_KINDS`]).
pub(super) fn saw_lost<S: Store>(world: &World<'_, S>, request: &Request) {
    let links = &world.settings.config.links;
    if request.method != "GET" || !is_on(world) || links.visit_log == 0 || links.clicks == Clicks::Off {
        return;
    }
    let is_bot = visitor::of(request) == Visitor::Machine;
    let mark = 2 * seen::lost_mark(request, LOST_KINDS) + u64::from(is_bot);
    if world.store.defer_again(LOST_PARTITION, mark) {
        return;
    }
    let commit = Commit {
        partition: LOST_PARTITION.to_owned(),
        ..Commit::default()
    };
    let note = note(world, request, (LOST, &request.path), is_bot);
    world.store.defer_repeatable(commit, mark, Some(note));
}

/// The visits that an entry of a link's statistics stands for, with the link's id: a note, or the tally of all. Together they are as
/// many as the link's counter has.
pub fn visits_of<'k>(key: &'k str, value: &[u8]) -> Option<(&'k str, u64)> {
    if key.starts_with(LOST_PARTITION) || key == all_key(LOST) {
        return None;
    }
    if let Some((id, _)) = key.strip_prefix(NOTES).and_then(|rest| rest.split_once('/')) {
        let seen = |row: Noted| Some((Seen::from_bytes(&row.row)?, u64::from(row.times)));
        let seen = noted(value)?.into_iter().filter_map(seen);
        let visits = seen.filter(|(seen, _)| !seen.is_bot).map(|(_, times)| times);
        return Some((id, visits.sum()));
    }
    let id = key.strip_prefix("stats/")?.strip_suffix("/all")?;
    Some((id, tally::Tally::from_bytes(value)?.visits))
}

/// The visits that an entry of a link's statistics has, machines among them, with the link's id: how many were counted, and how many were
/// logged. Both are the same, where a log was kept all the time.
pub fn counted_of<'k>(key: &'k str, value: &[u8]) -> Option<(&'k str, [u64; 2])> {
    if let Some(id) = key
        .strip_prefix("log/")
        .and_then(|rest| rest.strip_suffix("/head"))
    {
        return Some((id, [0, log::Head::logged(value)]));
    }
    let id = key.strip_prefix("stats/")?.strip_suffix("/all")?;
    let tally = tally::Tally::from_bytes(value)?;
    Some((id, [tally.visits + tally.bots, 0]))
}

/// Folds some of what was noted, and removes some of what deleted links left. `true`: there is more.
///
/// # Errors
/// Those of the store; what was done stays done.
pub async fn step<S: Store>(store: &S, links: &Links, now: u64) -> Result<bool, StoreError> {
    let gone = gone::step(store, now).await?;
    Ok(round::step(store, links.visit_log, now).await? || gone)
}
