//! Draws: a lottery with a sure winner, which anyone can check.
//!
//! Making a draw makes its seed, and tells its commitment: SHA-256(seed). Users enter, each with a pick of words. At the close
//! the entries are fixed; the root of the Merkle tree over all of them (RFC 6962) follows. SHA-256(seed ‖ root ‖ beacon) chooses one
//! entry, whose words are the winning words, and the seed is told. So a first prize always exists.
//!
//! Everything of a draw lives in the partition `draw/<id>`:
//!
//! | key | what |
//! |---|---|
//! | `draw/<id>` | its record, which changes when it closes, when its root is known, and when it is drawn |
//! | `seed/<id>` | the seed, until it is drawn; nothing but [`drawing`] asks for it |
//! | `undrawn/<id>` | that it is not drawn yet: what [`maintain`] looks through |
//! | `entries/<id>` | how many entries there are: the next sequence |
//! | `entry/<id>/<hint>/<entry>` | every entry, nearly in order; see [`walk`] |
//! | `entrant/<id>/<user>/<entry>` | the same, by user |
//! | `entrants/<id>/<user>` | how many entries a user has |
//! | `tree/<id>`, `leaves/<id>/<page>` | the hashes of the tree, by pages; see [`drawing`] |
//! | `tally/<id>` | how far winners are counted |
//!
//! Access: creating, listing and drawing take the scope `campaigns`. Reading a draw is open to anyone; it tells nothing about
//! users. A user's entries are for that user and for the scope `campaigns`.

#[cfg(feature = "schema")]
pub(crate) mod describe;
mod drawing;
mod enter;
mod manage;
mod merkle;
mod pool;
mod prizes;
mod read;
mod record;
mod seed;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod walk;

pub use drawing::maintain;
pub use record::{MAX_ENTRIES, MAX_PER_USER, Undrawn, undrawn};
pub use verify::{Check, Report, verify};

use crate::campaigns;
use crate::world::World;
use tollgate_api::calls::{Call, Parameters};
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// Whether a path of the component `coupon` is about draws.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/api/draws")
}

/// The rule of a call about draws.
pub(crate) async fn route<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    [id, user]: Parameters<'_>,
) -> Result<Response, Problem> {
    if !id.is_empty() && !campaigns::is_id(id) {
        return Err(Problem::not_found());
    }
    match call {
        Call::Enter => enter::enter(world, request, id).await,
        // Boxed to keep the future of an entry small.
        Call::ListDraws => Box::pin(manage::list(world, request)).await,
        Call::CreateDraw => Box::pin(manage::create(world, request)).await,
        Call::ReadDraw => Box::pin(manage::read(world, id)).await,
        Call::Draw => Box::pin(manage::draw(world, request, id)).await,
        Call::ReadEntries => Box::pin(read::of_user(world, request, id, user)).await,
        Call::ProveEntries => Box::pin(read::proof(world, request, id, user)).await,
        _ => Err(Problem::not_found()),
    }
}

/// The 404 for a draw that does not exist.
fn unknown(id: &str) -> Problem {
    let mut problem = Problem::not_found();
    problem.detail = format!("There is no draw {id}.");
    problem
}
