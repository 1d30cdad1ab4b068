//! `GET` and `DELETE /api/links/{code}`.

use super::access::Credential;
use super::record::{Link, link_key, visited_key, visits_key};
use super::{MAX_RACES, index};
use crate::commit::{Commit, Condition, Mutation, Outcome};
use crate::http::{Request, Response};
use crate::ports::{Store, World};
use crate::problem::{Kind, Problem};

pub(super) async fn get<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let link = Credential::of(world, request).await?.open(world, code).await?;
    Ok(Response::json(200, &link.view(world.config)))
}

/// Deletes the link with its counters. It must still be the link that the caller was let at.
pub(super) async fn delete<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    for _ in 0..MAX_RACES {
        let link = credential.open(world, code).await?;
        if let Outcome::Committed(_) = world.store.commit(removal(&link)).await? {
            // The link is gone for good, whatever becomes of its entries in the index: they are skipped.
            let _ = index::leave(world.store, &link).await;
            return Ok(Response::empty(204));
        }
    }
    Err(contended())
}

fn removal(link: &Link) -> Commit {
    let key = link_key(&link.code);
    let keys = [key.clone(), visits_key(&link.code), visited_key(&link.code)];
    Commit {
        conditions: vec![Condition::Version {
            key: key.clone(),
            version: link.version,
        }],
        mutations: keys.into_iter().map(|key| Mutation::Delete { key }).collect(),
        partition: key,
        ..Commit::default()
    }
}

/// The link changed on every try.
pub(super) fn contended() -> Problem {
    Problem::new(
        Kind::Conflict,
        "The link is being changed by others; read it and try again.",
    )
}
