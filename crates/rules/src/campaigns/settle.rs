//! What becomes of a claim: it is confirmed, released or revoked; see [`super::holds`].
//!
//! Each may be repeated: a claim that is what it shall be is answered again, and changes nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::documents;
use super::holds::{self, Found, With};
use super::pool::{self, Taken};
use super::record::{Campaign, Claim, ClaimView, Codes, Status, is_claim_id, load_for_claim};
use super::{receipt, unknown, waitlist};
use crate::idempotency::{self, Key};
use crate::receipts::{self, Signer};
use crate::world::World;
use crate::{identity, keys};
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::traceparent::Traceparent;
use tollgate_delivery::attributes;
use tollgate_store::commit::{Commit, Idempotence, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

/// How often a change is tried: again when the claim changed in between, or when a reply was lost.
const ATTEMPTS: usize = 6;
/// The same where each try may also meet a code that another has.
const CODE_ATTEMPTS: usize = 64;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;

/// An empty object: there is nothing to say.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NoFields")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {}

/// A claim after a change.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ChangedClaim")
)]
pub(super) struct Changed<'a> {
    /// The claim.
    claim: ClaimView<'a>,
}

/// `POST /api/campaigns/{id}/claims/{claimId}/confirm`, `…/release` and `…/revoke`: 200 with the claim.
pub(super) async fn settle<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
    claim: &str,
    to: Status,
) -> Result<Response, Problem> {
    let Body {} = json::body_or_default(request)?;
    let key = idempotency::key(request)?;
    let user = identity::explicit_user(world.settings, request, world.now)?;
    let needs_key = to == Status::Revoked || user.is_none();
    if needs_key {
        keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    }
    if !is_claim_id(claim) {
        return Err(no_claim(claim));
    }
    let live = load_for_claim(world.store, id)
        .await?
        .ok_or_else(|| unknown(id))?;
    let campaign = &*live.campaign;
    // The usual case: a user's own claim.
    let found = match user.as_deref().filter(|_| !needs_key) {
        Some(user) => holds::find(world.store, campaign, user, claim).await?,
        None => None,
    };
    let holder = match (&found, campaign.hold_seconds) {
        (Some(found), _) => Some(found.claim.user.clone()),
        (None, Some(_)) => holds::holder(world.store, id, claim).await?,
        // Such claims are found by their user only.
        (None, None) => Some(user.clone().ok_or_else(|| whose(world))?.into_owned()),
    };
    let holder = holder.ok_or_else(|| no_claim(claim))?;
    if !needs_key && user.as_deref() != Some(&*holder) {
        if !identity::is_key_sent(world.settings, request)? {
            return Err(Problem::new(Kind::Forbidden, "This is another user's claim."));
        }
        keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    }
    let change = Change {
        request,
        campaign,
        holder: &holder,
        claim,
        to,
        key,
        signer: match to {
            Status::Confirmed => receipts::signer(world).await?,
            _ => None,
        },
        code: OnceCell::new(),
    };
    change.run(world, found).await
}

/// One request's change. Its code stays the same however often the store is asked.
struct Change<'a> {
    request: &'a Request,
    campaign: &'a Campaign,
    holder: &'a str,
    claim: &'a str,
    to: Status,
    key: Option<Key>,
    /// Signs the receipt of a claim that is confirmed, where there are receipts.
    signer: Option<Arc<Signer>>,
    /// Made when the campaign has codes.
    code: OnceCell<String>,
}

impl Change<'_> {
    /// `known`: the claim, if it was just read.
    async fn run<S: Store>(
        &self,
        world: &World<'_, S>,
        mut known: Option<Found>,
    ) -> Result<Response, Problem> {
        let mut lost = 0;
        let mut taken: Option<Taken> = None;
        let takes = self.to == Status::Confirmed && self.campaign.codes == Codes::Import;
        for _ in 0..if takes { CODE_ATTEMPTS } else { ATTEMPTS } {
            let found = match known.take() {
                Some(found) => Some(found),
                None => holds::find(world.store, self.campaign, self.holder, self.claim).await?,
            };
            let found = found.ok_or_else(|| no_claim(self.claim))?;
            let possible = match found.claim.status {
                Status::Held => true,
                Status::Confirmed => self.to == Status::Revoked,
                Status::Released | Status::Expired | Status::Revoked => false,
            };
            if takes && possible && taken.is_none() {
                taken = pool::take(world.store, self.campaign, (world.fresh)()).await?;
                if taken.is_none() {
                    break;
                }
            }
            let (commit, after) = match possible {
                true => self.commit(world, &found, taken.as_ref()),
                false => match self.repetition(&found.claim) {
                    Some(commit) => (commit, found.claim.clone()),
                    None => return self.as_it_is(&found.claim),
                },
            };
            match world.store.commit(commit).await {
                Ok(Outcome::Committed(_)) => {
                    if let Some(taken) = taken {
                        taken.spend(false);
                    }
                    if self.campaign.waitlist && !self.to.is_live() {
                        // The next in line; whatever goes wrong there, the sweep sees to it.
                        let _ = Box::pin(waitlist::serve(world.store, &self.campaign.id, world.now)).await;
                    }
                    return Ok(self.shown(&after));
                }
                Ok(Outcome::Replayed(answer)) => {
                    let response = idempotency::replay(&answer)?;
                    let (store, signer) = (world.store, self.signer.as_deref());
                    let again = receipt::again(store, self.campaign, self.holder, signer, response).await?;
                    let (response, _) = again;
                    return Ok(match lost {
                        0 => response,
                        _ => idempotency::first_answer(response),
                    });
                }
                Ok(Outcome::Conflict) => return Err(idempotency::mismatch()),
                Ok(Outcome::Refused(_)) if !possible => return self.as_it_is(&found.claim),
                // It has changed in between.
                Ok(Outcome::Refused(Refusal::Condition(0))) => {}
                Ok(Outcome::Refused(Refusal::Condition(holds::CODE))) => {
                    // If it was our own lost commit that took it, the claim is confirmed.
                    if let Some(taken) = taken.take() {
                        taken.spend(true);
                    }
                }
                // Its end has come, by the store's clock: whoever finds that out gives it back.
                Ok(Outcome::Refused(Refusal::Condition(_))) => {
                    holds::expire(world.store, self.campaign, self.holder, self.claim, world.now).await?;
                }
                Ok(Outcome::Refused(Refusal::Mutation(_))) => {
                    return Err(Problem::new(
                        Kind::Internal,
                        "The store refused a step that cannot be refused.",
                    ));
                }
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => lost += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::new(Kind::Unavailable, "The claim is being changed; try again.").with_retry_after(1))
    }

    fn commit<S>(&self, world: &World<'_, S>, found: &Found, taken: Option<&Taken>) -> (Commit, Claim) {
        let with_code = self.to == Status::Confirmed && self.campaign.codes == Codes::Generate;
        let code = with_code.then(|| self.code.get_or_init(|| documents::generated(world)).clone());
        let code = code.or_else(|| taken.map(|taken| taken.code.clone()));
        let after = holds::changed(&found.claim, self.to, code);
        let with = With {
            idempotence: self.idempotence(&after),
            attributes: attributes::write(None, Traceparent::of(self.request)),
            taking: taken.map(|taken| (taken.condition(), taken.mutation())),
        };
        let commit = holds::change(self.campaign, found, &after, world.now, with);
        (commit, after)
    }

    fn idempotence(&self, after: &Claim) -> Option<Idempotence> {
        self.key.as_ref().map(|key| {
            let answer = literal(shown(after).body);
            key.idempotence(
                self.to.name(),
                &[&self.campaign.id, self.claim],
                self.request,
                200,
                &answer,
                &BTreeMap::new(),
            )
        })
    }

    /// Asks the store whether this very request was answered before. It changes nothing: it is refused if not.
    fn repetition(&self, claim: &Claim) -> Option<Commit> {
        let partition = Campaign::partition(&self.campaign.id);
        Some(idempotency::look_up(partition, self.idempotence(claim)?))
    }

    /// The answer with the claim, and its receipt if it has one.
    fn shown(&self, claim: &Claim) -> Response {
        let mut response = shown(claim);
        if let Some(receipt) = receipt::of(self.signer.as_deref(), claim) {
            response.body = receipt::put(response.body, &receipt);
        }
        response
    }

    /// The answer of a claim that cannot be changed so.
    fn as_it_is(&self, claim: &Claim) -> Result<Response, Problem> {
        let status = claim.status;
        if status == self.to {
            return Ok(self.shown(claim));
        }
        let view = serde_json::to_value(claim.view()).unwrap_or_default();
        let problem = match status {
            Status::Expired => Problem::new(Kind::HoldExpired, "The claim was not confirmed in time."),
            _ => Problem::new(
                Kind::Conflict,
                format!(
                    "The claim is {} and cannot be {} any more.",
                    status.name(),
                    self.to.name()
                ),
            ),
        };
        Err(problem.with_member("claim", view))
    }
}

fn shown(claim: &Claim) -> Response {
    Response::json(200, &Changed { claim: claim.view() })
}

fn no_claim(id: &str) -> Problem {
    let mut problem = Problem::not_found();
    if is_claim_id(id) {
        problem.detail = format!("There is no claim {id}.");
    }
    problem
}

fn whose<S>(world: &World<'_, S>) -> Problem {
    let header = &world.settings.config.users.header;
    Problem::field(
        format!("header:{header}"),
        "must say whose claim it is: in a campaign without holds, claims are found by their user",
    )
}
