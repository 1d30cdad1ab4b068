//! Short links: the redirect, the preview, and `/api/links`. See `api.md`, "Short links".
//!
//! A link is one entry `link/<code>`, so that the redirect reads one key. Its counters are entries of their
//! own, `visits/<code>/<id>` and `visited/<code>/<id>`, in the same partition. So a visit never rewrites the
//! link, an edit never loses a visit, and a late visit never counts for another link. A commit can tie a
//! visit to the very version of the link that it was granted by ([`redirect`]). The links of an owner are
//! found through an index in another partition ([`index`]). Links that end by time are removed by a sweep
//! ([`sweep`]), and links of strangers are bounded in number ([`strangers`]).
//!
//! Invariants:
//! - a link with `maxVisits` = N redirects at most N visitors, whatever the concurrency;
//! - a code is never taken over from another link;
//! - the settings of a link are read by its owner, an admin, or the holder of its manage token only.
//!
//! What is known of visits beside their number is in [`stats`]. The ranking ([`top`]) is our host's: its address answers 404 in [`route`].

mod access;
mod again;
mod agent;
mod asks;
mod bulk;
mod claim;
mod create;
#[cfg(feature = "schema")]
pub(crate) mod describe;
pub(crate) mod domain;
pub(crate) mod dub;
mod edit;
mod fields;
mod index;
mod list;
mod lost;
mod maintain;
mod manage;
mod many;
mod page;
mod password;
mod preview;
mod put;
mod qr;
mod record;
mod redirect;
mod rename;
mod repair;
mod routing;
pub mod shlink;
pub mod stats;
mod strangers;
mod sweep;
#[cfg(test)]
mod tests;
pub mod top;
mod utm;
mod visitor;
pub(crate) mod yourls;

use self::redirect::private;
use crate::codes;
use crate::world::World;
use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern::unreserved;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

pub use fields::{MAX_TAGS, MAX_VISITS};
pub use list::{DEFAULT_PAGE, MAX_PAGE};
pub use maintain::maintain;
pub use record::{Facts, Limits, State, state};
pub use redirect::needs_no_body;

/// Where a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where a crowd waits: what is work is done elsewhere.
    Crowd,
    /// Where it may take a while.
    Rest,
}

/// Answers `/api/links…` and `/{code}`; 404 for any other path.
pub async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    match calls::one_segment(&request.path) {
        Some(segment) => match follow(world, request, segment, Place::Rest).await {
            Some(response) => response,
            None => Problem::new(Kind::Internal, "Nobody answers this link.").into_response(),
        },
        // Boxed to keep the future of a redirect small.
        None if request.path.starts_with(shlink::PREFIX) => {
            match calls::find(Component::Shortener, request) {
                Ok(found) => Box::pin(shlink::handle(world, request, found)).await,
                Err(problem) => private(problem.into_response()),
            }
        }
        None if request.path.starts_with(dub::PREFIX) => Box::pin(dub::handle(world, request)).await,
        None => match Box::pin(route(world, request)).await {
            // An image says by itself who may keep it.
            Ok(response) if response.header("cache-control").is_some() => response,
            Ok(response) => private(response),
            Err(problem) => private(problem.into_response()),
        },
    }
}

/// Answers `/{segment}`, for a caller that knows already that the path is one segment; `None`: not at this place.
pub(crate) async fn follow<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    segment: &str,
    place: Place,
) -> Option<Response> {
    match redirect::answer(world, request, segment, place).await {
        Ok(response) => response,
        Err(problem) => Some(lost::answer(world, request, problem)),
    }
}

/// Whether a caller may send the body of a call about many links, for an adapter that is about to read it.
///
/// # Errors
/// Those of the credential: 401, 403, or of the store.
pub async fn may_send_many<S: Store>(world: &World<'_, S>, request: &Request) -> Result<(), Problem> {
    bulk::may_send(world, request).await.map(drop)
}

async fn route<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    // Our host answers that by itself. No link can have this code.
    if let Some("top") = request.path.strip_prefix("/api/links/") {
        return Err(Problem::not_found());
    }
    let (call, [code, _]) = calls::find(Component::Shortener, request)?;
    let code = &*unreserved(code);
    // Of the calls about one link: others have no such field, or read it themselves.
    let domain = match code.is_empty() || code.contains(':') {
        true => None,
        false => domain::taken_out(world, request)?,
    };
    let (rest, host) = match &domain {
        Some((rest, host)) => (rest, host.as_deref()),
        None => (request, None),
    };
    let (request, name) = (rest, codes::name(host, code));
    let code = &*name;
    match call {
        Call::CreateLink => create::post(world, request).await,
        Call::ListLinks => list::get(world, request).await,
        Call::ReadLink => manage::get(world, request, code).await,
        Call::PutLink => put::put(world, request, code).await,
        Call::EditLink => edit::patch(world, request, code).await,
        Call::DeleteLink => manage::delete(world, request, code).await,
        Call::ExtendLink => edit::extend(world, request, code).await,
        Call::CreateLinks => bulk::post(world, request).await,
        Call::EditLinks => bulk::patch(world, request).await,
        Call::DeleteLinks => bulk::delete(world, request).await,
        Call::ClaimLinks => claim::post(world, request).await,
        Call::DrawLink => qr::get(world, request, code).await,
        Call::ReadLinkStats => stats::get(world, request, code).await,
        Call::ReadLinksStats => stats::get_all(world, request).await,
        Call::ListVisits => stats::visits::get(world, request, code).await,
        Call::DeleteVisits => stats::visits::delete(world, request, code).await,
        Call::ListOrphans => stats::visits::get_lost(world, request).await,
        Call::DeleteOrphans => stats::visits::delete_lost(world, request).await,
        _ => Err(Problem::not_found()),
    }
}
