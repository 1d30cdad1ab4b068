//! Campaigns: N units, each user at most `perUser` of them, admitted exactly and in order.
//!
//! Everything of a campaign lives in the partition `campaign/<id>`: its record, the counters `remaining/<id>` and
//! `sequence/<id>`, and its claims. A claim is one commit ([`plan`](claim)); the index of its refusal is the verdict.
//!
//! Who may: creating, listing and changing take the scope `campaigns`. Reading one campaign is open to anyone, so
//! that a shop's page can show what is left; it tells counts and times and nothing about users. A user's claims are
//! for that user and for the scope `campaigns`.

mod claim;
mod claims;
mod manage;
mod record;
#[cfg(test)]
mod tests;

pub use record::{Campaign, Claim, Codes, DEFAULT_TOPIC, MAX_PER_USER, MAX_QUANTITY};

use crate::http::{Request, Response};
use crate::ports::{Store, World};
use crate::problem::Problem;

/// The door of `/api/campaigns…`: answers every request, with a problem document where it must.
pub async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    route(world, request).await.unwrap_or_else(Problem::into_response)
}

async fn route<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let segments = request.segments();
    let method = request.method.as_str();
    match (segments.as_slice(), method) {
        (["api", "campaigns"], "GET" | "HEAD") => manage::list(world, request).await,
        (["api", "campaigns"], "POST") => manage::create(world, request).await,
        (["api", "campaigns"], _) => Err(Problem::method_not_allowed("GET, HEAD, POST")),
        (["api", "campaigns", id], _) if !record::is_id(id) => Err(unknown(id)),
        (["api", "campaigns", id], "GET" | "HEAD") => manage::read(world, id).await,
        (["api", "campaigns", id], "PATCH") => manage::patch(world, request, id).await,
        (["api", "campaigns", _], _) => Err(Problem::method_not_allowed("GET, HEAD, PATCH")),
        (["api", "campaigns", id, "claims", ..], _) if !record::is_id(id) => Err(unknown(id)),
        (["api", "campaigns", id, "claims"], "POST") => claim::claim(world, request, id).await,
        (["api", "campaigns", _, "claims"], _) => Err(Problem::method_not_allowed("POST")),
        (["api", "campaigns", id, "claims", user], "GET" | "HEAD") => {
            claims::of_user(world, request, id, user).await
        }
        (["api", "campaigns", _, "claims", _], _) => Err(Problem::method_not_allowed("GET, HEAD")),
        _ => Err(Problem::not_found()),
    }
}

/// The 404 for a campaign that does not exist.
fn unknown(id: &str) -> Problem {
    let mut problem = Problem::not_found();
    if record::is_id(id) {
        problem.detail = format!("There is no campaign {id}.");
    }
    problem
}
