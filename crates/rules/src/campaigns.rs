//! Campaigns: N units, each user at most `perUser` of them, admitted exactly and in order.
//!
//! Everything of a campaign lives in the partition `campaign/<id>`: its record, the counters `remaining/<id>`, `held/<id>`,
//! `released/<id>`, `burnt/<id>` and `sequence/<id>`, and its claims. A claim is one commit ([`plan`](claim)); the index of its refusal is
//! the verdict. What becomes of it is one commit each ([`holds`]).
//!
//! Access: creating, listing and changing take the scope `campaigns`. Reading one campaign is open to anyone,
//! so that a shop's page can show what is left; it tells counts and times and nothing about users. A user's
//! claims are for that user and for the scope `campaigns`.

mod claim;
mod claims;
mod codes;
#[cfg(feature = "schema")]
pub(crate) mod describe;
mod documents;
mod eligibility;
mod eligible;
mod holds;
mod list;
mod manage;
mod pool;
mod receipt;
mod record;
mod refusals;
mod remove;
mod settle;
mod stock;
#[cfg(test)]
mod tests;
mod waitlist;

pub use eligible::may_send_many;
pub use manage::read;
pub use pool::forget as forget_pools;
pub(crate) use record::ClaimView;
pub use record::{
    Campaign, Claim, Codes, DEFAULT_TOPIC, MAX_HOLD_SECONDS, MAX_PER_USER, MAX_QUANTITY, Status,
};
pub(crate) use record::{MAX_ID, is_id, path_segment, unescape};
pub use remove::purge;
pub use stock::{Phase, Standing, Stock, standings, stocks};
pub use waitlist::maintain;

use crate::world::World;
use crate::{challenges, draws, receipts, rooms};
use tollgate_api::calls::{self, Call, Parameters};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// The handler of `/api/campaigns…`, `/api/draws…`, `/api/rooms…` and `/api/receipts…`: answers every request, with a problem document where it must. All but what anybody may
/// read is for its caller alone, and no cache keeps it.
pub async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    let (answer, public) = match calls::find(Component::Coupon, request) {
        Ok((call, parameters)) => (
            route(world, request, call, parameters).await,
            matches!(call, Call::ReadCampaign | Call::ReadDraw | Call::ReadReceiptKeys),
        ),
        Err(problem) => (Err(problem), true),
    };
    let answer = answer.unwrap_or_else(Problem::into_response);
    match public {
        true => answer,
        false => answer.with("cache-control", "no-store"),
    }
}

async fn route<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    call: Call,
    parameters: Parameters<'_>,
) -> Result<Response, Problem> {
    if draws::owns(call.path()) {
        // Boxed to keep the future of a claim small.
        return Box::pin(draws::route(world, request, call, parameters)).await;
    }
    if call == Call::ReadChallenge {
        return Box::pin(challenges::read(world, parameters[0])).await;
    }
    if rooms::owns(call.path()) {
        return Box::pin(rooms::route(world, request, call, parameters)).await;
    }
    let [id, user] = parameters;
    if !id.is_empty() && !record::is_id(id) {
        return Err(unknown(id));
    }
    match call {
        Call::ListCampaigns => manage::list(world, request).await,
        Call::CreateCampaign => manage::create(world, request).await,
        Call::ReadCampaign => manage::read(world.store, id, world.now).await,
        Call::DeleteCampaign => remove::delete(world, request, id).await,
        Call::PutEligible => Box::pin(eligible::put(world, request, id)).await,
        Call::ImportCodes => Box::pin(codes::import(world, request, id)).await,
        Call::ListClaims => Box::pin(list::list(world, request, id)).await,
        Call::CheckClaim => Box::pin(eligibility::check(world, request, id)).await,
        Call::EditCampaign => manage::patch(world, request, id).await,
        Call::JoinWaitlist => Box::pin(waitlist::join(world, request, id)).await,
        Call::ReadWaitlist => Box::pin(waitlist::read(world, request, id)).await,
        Call::LeaveWaitlist => Box::pin(waitlist::leave(world, request, id)).await,
        Call::Claim => claim::claim(world, request, id).await,
        Call::ReadClaims => claims::of_user(world, request, id, user).await,
        // Boxed to keep the future of a claim small.
        Call::VerifyReceipt => Box::pin(receipts::verify(world, request)).await,
        Call::ReadReceiptKeys => Box::pin(receipts::public_keys(world)).await,
        Call::RotateReceiptKey => Box::pin(receipts::rotate(world, request)).await,
        Call::ConfirmClaim => Box::pin(settle::settle(world, request, id, user, Status::Confirmed)).await,
        Call::ReleaseClaim => Box::pin(settle::settle(world, request, id, user, Status::Released)).await,
        Call::RevokeClaim => Box::pin(settle::settle(world, request, id, user, Status::Revoked)).await,
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

/// A user's claim with this id, as it is now; `None` where nothing is known of it.
pub(crate) async fn claim_of<S: Store>(
    store: &S,
    campaign: &str,
    user: &str,
    id: &str,
) -> Result<Option<Claim>, StoreError> {
    let Some(live) = record::load(store, campaign).await? else {
        return Ok(None);
    };
    let found = holds::find(store, &live.campaign, user, id).await?;
    Ok(found.map(|found| found.claim))
}
