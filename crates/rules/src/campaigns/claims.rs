//! A user's claims, read.

use serde::Serialize;

use super::record::{Campaign, Claim, ClaimView, Live, MAX_PER_USER, load, unescape};
use super::{receipt, unknown};
use crate::identity;
use crate::keys;
use crate::receipts;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{MAX_PAGE, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// A user's claims.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Claims"))]
pub(super) struct Claims<'a> {
    /// In order of admission. Those whose units came back are told for 30 days.
    claims: Vec<ClaimView<'a>>,
}

/// `GET /api/campaigns/{id}/claims/{user}`: that user's claims in order of admission, for the user and for the scope
/// `campaigns`. `segment` is the user, still percent-encoded.
pub(super) async fn of_user<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
    segment: &str,
) -> Result<Response, Problem> {
    let user = unescape(segment).ok_or_else(Problem::not_found)?;
    let with_key = identity::is_key_sent(world.settings, request)?;
    match identity::explicit_user(world.settings, request, world.now)? {
        Some(caller) if caller == user => {}
        Some(_) if !with_key => {
            return Err(Problem::new(Kind::Forbidden, "These are another user's claims."));
        }
        _ => {
            keys::require(world.store, request, world.now, Scope::Campaigns).await?;
        }
    }
    if user.is_empty() || user.len() > identity::MAX_ID_CHARS {
        return Err(Problem::not_found());
    }
    let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
    let claims = stored(world.store, &live, &user).await?;
    let signer = receipts::signer(world).await?;
    let receipts: Vec<_> = claims
        .iter()
        .map(|claim| receipt::of(signer.as_deref(), claim))
        .collect();
    let views = claims.iter().zip(&receipts).map(|(claim, receipt)| {
        let mut view = claim.view();
        view.receipt = receipt.as_deref();
        view
    });
    Ok(Response::json(
        200,
        &Claims {
            claims: views.collect(),
        },
    ))
}

/// The most claims of a user that are read: those that take units, and so many that did.
const MAX_READ: usize = MAX_PER_USER as usize + MAX_PAGE as usize;

/// A user's claims in order of admission, with those whose units came back in the last 30 days; at most [`MAX_READ`].
async fn stored<S: Store>(store: &S, live: &Live, user: &str) -> Result<Vec<Claim>, StoreError> {
    let prefix = Campaign::claims_prefix(&live.campaign.id, user);
    let mut claims: Vec<Claim> = Vec::new();
    let mut after: Option<String> = None;
    // A page may be short of its limit, at its bound in bytes: only an empty one is the end. Each page holds at
    // least one claim.
    while claims.len() < MAX_READ {
        let items = store.scan(&prefix, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = items.last() else { break };
        after = Some(last.key.clone());
        for item in &items {
            claims.push(stored::decode("claim", &item.entry)?);
        }
    }
    claims.sort_by_key(|claim| claim.sequence.known());
    Ok(claims)
}

/// A user's claims that take units, in order of admission; at most `perUser` of them.
pub(super) async fn live<S: Store>(store: &S, live: &Live, user: &str) -> Result<Vec<Claim>, StoreError> {
    let campaign = &live.campaign;
    if campaign.per_user == 1 {
        let place = [campaign.claim_key(user, "")];
        let found = store.get(&Campaign::partition(&campaign.id), &place).await?;
        let claims = found.iter().flatten();
        return claims.map(|entry| stored::decode("claim", entry)).collect();
    }
    let mut claims = Box::pin(stored(store, live, user)).await?;
    claims.retain(|claim| claim.status.is_live());
    Ok(claims)
}
