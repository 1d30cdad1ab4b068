//! What a claim would be answered now, without making one. It changes nothing, and promises nothing: only a claim decides.

use serde::Serialize;

use super::eligible::{self, Listed};
use super::holds;
use super::record::{Claim, Codes, MAX_PER_USER, State, load_counted};
use super::{claims, refusals, unknown};
use crate::identity;
use crate::receipts;
use crate::rooms;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_store::ports::Store;

/// What a claim would be answered.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Eligibility")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Eligibility {
    /// Whether it would be admitted.
    eligible: bool,
    /// The problem document that it would be answered with; null where it would be admitted.
    problem: Option<serde_json::Value>,
    /// The seconds of its `Retry-After`, if it would have one.
    retry_after: Option<u64>,
}

/// `GET /api/campaigns/{id}/claims/eligibility`.
pub(super) async fn check<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let query = Query::of(request, &["units"])?;
    let units = query.number("units", 1..=MAX_PER_USER, 1)?;
    let user = identity::explicit_user(world.settings, request, world.now)?;
    let user = user.ok_or_else(|| identity::user_required(world.settings, "claims"))?;
    let problem = verdict(world, request, id, &user, units).await?;
    let retry_after = problem.as_ref().and_then(|problem| {
        let header = problem
            .headers
            .iter()
            .find(|header| header.name == "retry-after")?;
        std::str::from_utf8(&header.value).ok()?.parse().ok()
    });
    Ok(Response::json(
        200,
        &Eligibility {
            eligible: problem.is_none(),
            problem: problem.map(|problem| serde_json::to_value(problem).unwrap_or_default()),
            retry_after,
        },
    ))
}

/// The reason why not; in the order in which a claim finds them.
async fn verdict<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
    user: &str,
    units: u64,
) -> Result<Option<Problem>, Problem> {
    let now = world.now;
    let found = load_counted(world.store, id).await?;
    let (live, counters) = found.ok_or_else(|| unknown(id))?;
    let campaign = &*live.campaign;
    if units > campaign.per_user {
        let rule = format!("must be from 1 to {}", campaign.per_user);
        return Err(Problem::field("query:units", rule));
    }
    if units > 1 && campaign.codes == Codes::Import {
        return Err(Problem::field(
            "query:units",
            "must be 1: each claim takes one code",
        ));
    }
    if let Some(room) = &campaign.room
        && let Err(problem) = rooms::require(world, request, room).await
    {
        return Ok(Some(problem));
    }
    if matches!(
        eligible::look_up(world, request, campaign, user).await?,
        Listed::Not
    ) {
        return Ok(Some(eligible::not_eligible(campaign)));
    }
    let state = campaign.state(counters.remaining, now);
    if state == State::Scheduled {
        return Ok(Some(refusals::not_started(campaign, now)));
    }
    let mut claims = claims::live(world.store, &live, user).await?;
    // A hold that has ended is given back by whoever asks.
    let is_over = |claim: &Claim| claim.hold_ends().is_some_and(|end| end <= now);
    claims.retain(|claim| !is_over(claim));
    let signer = receipts::signer(world).await?;
    let taken: u64 = claims.iter().map(|claim| claim.units).sum();
    if taken.saturating_add(units) > campaign.per_user
        && let Some(problem) = refusals::already_claimed(campaign, &claims, signer.as_deref())
    {
        return Ok(Some(problem));
    }
    let (left, held) = (counters.remaining, counters.held);
    Ok(match state {
        State::Ended | State::Closed => Some(refusals::ended(campaign)),
        _ if counters.waiting > 0 => {
            Some(refusals::sold_out(campaign, 0).with_member("waiting", counters.waiting))
        }
        _ if left >= units => None,
        _ if held == 0 => Some(refusals::sold_out(campaign, left)),
        _ => {
            let next = holds::next_end(world.store, campaign).await?;
            // The next claim gives back what has ended.
            let wait_ms = next.unwrap_or(now).saturating_sub(now);
            (wait_ms > 0).then(|| refusals::held(campaign, held, left, wait_ms))
        }
    })
}
