//! `GET` and `DELETE /api/links/{code}`.

use super::access::Credential;
use super::record::{Link, MAX_RACES};
use super::sweep;
use crate::etag::IfMatch;
use crate::events;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::ports::Store;

pub(super) async fn get<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let link = Credential::of(world, request).await?.open(world, code).await?;
    Ok(shown(world, &link))
}

/// The link, as an answer.
pub(super) fn shown<S>(world: &World<'_, S>, link: &Link) -> Response {
    Response::json(200, &link.view(world.settings)).with("etag", link.etag())
}

pub(super) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    remove(world, &credential, code, &IfMatch::of(request)).await?;
    Ok(Response::empty(204))
}

/// Deletes the link with its counters. It must still be the link that the caller was given access to.
pub(super) async fn remove<S: Store>(
    world: &World<'_, S>,
    credential: &Credential,
    code: &str,
    if_match: &IfMatch,
) -> Result<(), Problem> {
    for _ in 0..MAX_RACES {
        let link = credential.open(world, code).await?;
        if_match.check(&link.etag())?;
        let deleted = events::append(world, || events::link_deleted(&link.code));
        if sweep::remove(world.store, &link, world.now, deleted).await? {
            return Ok(());
        }
    }
    Err(contended())
}

/// The link changed on every try.
pub(super) fn contended() -> Problem {
    Problem::new(
        Kind::Conflict,
        "The link is being changed by others; read it and try again.",
    )
}
