//! A user's claim: one commit whose refusal is the verdict.
//!
//! The steps, in order:
//! 1. condition: the claim is not there yet;
//! 2. condition: the campaign is the one that was read, so that a concurrent change or closing counts;
//! 3. condition: the store's clock is inside the campaign's window;
//! 4. the next sequence is taken: one for the claim, however many units it has;
//! 5. its units are taken, if they are left: one, or as many as it asks for;
//! 6. the claim is written;
//! 7. its message is appended.
//!
//! Where claims are held, it also writes what [`super::holds`] needs.
//!
//! No lock, and no retry loop except for a campaign that changed in between, for a reply that was lost, and for units that
//! have just come back.
//!
//! A lost reply is asked for again with the same claim id: if that id is found stored, it is ours.

mod plan;

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::eligible::{self, Listed};
use super::holds::{self, Room};
use super::pool::{self, Taken};
use super::record::{Campaign, Claim, Codes, Live, MAX_METADATA, MAX_PER_USER, load_for_claim, path_segment};
use super::refusals::{already_claimed, ended, held, not_started, outside_window, sold_out, units_out_of};
use super::{claims, receipt, unknown, waitlist};
use crate::idempotency::{self, Key};
use crate::identity;
use crate::receipts::{self, Facts, Signer};
use crate::rooms;
use crate::world::World;
pub(super) use plan::window;
use plan::{Plan, Verdict};
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Committed, Outcome, StoreError, Template};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template;

/// How often a claim is tried: again when its campaign changed in between, or when a reply was lost.
const ATTEMPTS: usize = 6;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;
/// How often it is tried where each try may also meet a code that another has.
const CODE_ATTEMPTS: usize = 64;
/// How far the caller's clock may be from the store's, in milliseconds. Only further away from a campaign's window is
/// a claim refused without asking the store.
const CLOCK_MARGIN_MS: u64 = 5_000;

/// What a claim may say; it may leave it out, body and all.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClaimRequest")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// Units, up to the campaign's `perUser`; 1 where it is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_PER_USER)))]
    units: Option<u64>,
    /// An object that is kept with the claim and goes into its messages; at most 1,024 bytes as compact JSON.
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

impl Body {
    fn units(&self) -> Result<u64, Problem> {
        let units = self.units.unwrap_or(1);
        match units {
            0 => Err(units_out_of(MAX_PER_USER)),
            units => Ok(units),
        }
    }

    /// As compact JSON.
    fn metadata(&self) -> Result<Option<String>, Problem> {
        let Some(metadata) = &self.metadata else {
            return Ok(None);
        };
        let text = serde_json::to_string(metadata).unwrap_or_default();
        match text.len() <= MAX_METADATA {
            true => Ok(Some(text)),
            false => Err(Problem::field(
                "#/metadata",
                format!("must be at most {MAX_METADATA} bytes as compact JSON"),
            )),
        }
    }
}

/// `POST /api/campaigns/{id}/claims`: 201 if admitted.
pub(super) async fn claim<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let body: Body = json::body_or_default(request)?;
    let (units, metadata) = (body.units()?, body.metadata()?);
    let key = idempotency::key(request)?;
    let user = identity::explicit_user(world.settings, request, world.now)?;
    let user = user.ok_or_else(|| identity::user_required(world.settings, "claims"))?;
    let attempt = Attempt {
        request,
        user: &user,
        units,
        metadata,
        key,
        claim: ids::token(&(world.fresh)(), ids::ID_LENGTH),
        signer: receipts::signer(world).await?,
        code: OnceCell::new(),
        now: Cell::new(world.now),
    };
    let response = attempt.run(world, id).await?;
    Ok(response.with(
        "location",
        ["/api/campaigns/", id, "/claims/", &path_segment(&user)].concat(),
    ))
}

/// One request's claim. Its ids stay the same however often the store is asked.
struct Attempt<'a> {
    request: &'a Request,
    user: &'a str,
    units: u64,
    /// As compact JSON.
    metadata: Option<String>,
    key: Option<Key>,
    claim: String,
    /// Signs its receipt, where there are receipts.
    signer: Option<Arc<Signer>>,
    /// Made when the campaign has codes.
    code: OnceCell<String>,
    /// The store's time as far as it is known, Unix milliseconds: holds are counted from it.
    now: Cell<u64>,
}

impl Attempt<'_> {
    async fn run<S: Store>(&self, world: &World<'_, S>, id: &str) -> Result<Response, Problem> {
        let mut lost = 0;
        let mut tries = 0;
        let mut taken: Option<Taken> = None;
        loop {
            let live = load_for_claim(world.store, id)
                .await?
                .ok_or_else(|| unknown(id))?;
            let takes = live.campaign.codes == Codes::Import;
            if tries == if takes { CODE_ATTEMPTS } else { ATTEMPTS } {
                break;
            }
            tries += 1;
            if takes && self.units != 1 {
                return Err(Problem::field("#/units", "must be 1: each claim takes one code"));
            }
            if self.units > live.campaign.per_user {
                return Err(units_out_of(live.campaign.per_user));
            }
            // After a lost reply it was let through before.
            if let (Some(room), 0) = (&live.campaign.room, lost) {
                Box::pin(rooms::require(world, self.request, room)).await?;
            }
            let listed = match live.campaign.is_restricted() {
                true => Box::pin(eligible::look_up(world, self.request, &live.campaign, self.user)).await?,
                false => Listed::NoList,
            };
            // With a key, it may be the repetition of a claim that was admitted: the commit tells.
            if matches!(listed, Listed::Not) && self.key.is_none() && lost == 0 {
                return Err(eligible::not_eligible(&live.campaign));
            }
            // After a lost reply only a commit tells: it comes after the one whose reply was lost, a read may not.
            if lost == 0 {
                match self.judged_from_memory(world, &live).await? {
                    Judged::Open => {}
                    Judged::Refused(problem) => return Err(problem),
                    Judged::Changed => continue,
                }
            }
            // A claim that is held gets its code when it is confirmed.
            if takes && live.campaign.hold_seconds.is_none() && taken.is_none() {
                taken = Box::pin(pool::take(world.store, &live.campaign, (world.fresh)())).await?;
            }
            let (commit, plan) = self.plan(world, &live, listed, lost > 0, taken.as_ref());
            let outcome = match world.store.commit(commit).await {
                Ok(outcome) => outcome,
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => {
                    lost += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Outcome::Refused(refusal) = &outcome
                && plan.verdict(*refusal) == Some(Verdict::CodeTaken)
            {
                if let Some(taken) = taken.take() {
                    taken.spend(true);
                }
                continue;
            }
            if matches!(outcome, Outcome::Committed(_))
                && let Some(taken) = taken.take()
            {
                taken.spend(false);
            }
            if let Some(response) = self.decided(world, &live, &plan, outcome).await? {
                return Ok(response);
            }
        }
        Err(Problem::new(Kind::Unavailable, "The campaign is being changed; try again.").with_retry_after(1))
    }

    /// The answer that a commit's outcome leads to; `None` if it is worth another try.
    async fn decided<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
        plan: &Plan,
        outcome: Outcome,
    ) -> Result<Option<Response>, Problem> {
        let refusal = match outcome {
            Outcome::Committed(done) => return Ok(Some(self.created(&live.campaign, &plan.answer, &done))),
            Outcome::Replayed(answer) => return self.replayed(world, live, &answer).await.map(Some),
            Outcome::Conflict => return Err(idempotency::mismatch()),
            Outcome::Refused(refusal) => refusal,
        };
        match plan.verdict(refusal) {
            Some(Verdict::AlreadyClaimed) => self.already(world, live).await,
            Some(Verdict::OutsideWindow) => Err(outside_window(&live.campaign, world.now)),
            Some(Verdict::SoldOut) => match self.sold_out(world, live).await? {
                Some(problem) => Err(problem),
                None => Ok(None),
            },
            Some(Verdict::Changed | Verdict::CodeTaken) => Ok(None),
            Some(Verdict::NotEligible) => Err(eligible::not_eligible(&live.campaign)),
            Some(Verdict::ShortHold) => {
                let now = Box::pin(holds::store_time(world.store, &live.campaign)).await?;
                self.now.set(self.now.get().max(now));
                Ok(None)
            }
            Some(Verdict::Returned) => Err(Problem::new(
                Kind::Conflict,
                "The claim was admitted, and its unit has come back since; claim again.",
            )),
            None => Err(Problem::new(
                Kind::Internal,
                "The store refused a step that cannot be refused.",
            )),
        }
    }

    /// The answer to a claim that was just admitted, with its receipt.
    fn created(&self, campaign: &Campaign, answer: &Template, done: &Committed) -> Response {
        let body = template::fill(answer, done);
        let Some(signer) = self.signer.as_ref().filter(|_| campaign.hold_seconds.is_none()) else {
            return Response::json_bytes(201, body);
        };
        let facts = Facts {
            sub: self.user,
            jti: &self.claim,
            campaign: &campaign.id,
            sequence: done
                .sums
                .first()
                .and_then(|&sum| u64::try_from(sum).ok())
                .unwrap_or(0),
            units: self.units,
            iat: done.time / 1_000,
        };
        Response::json_bytes(201, receipt::put(body, &signer.sign(&facts)))
    }

    /// A stored answer, with the receipt that it had. If it holds our own claim, our own commit's reply was lost: it is no replay.
    async fn replayed<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
        answer: &[u8],
    ) -> Result<Response, Problem> {
        let response = idempotency::replay(answer)?;
        let (campaign, user) = (&live.campaign, self.user);
        let signer = self.signer.as_deref();
        let (response, id) = Box::pin(receipt::again(world.store, campaign, user, signer, response)).await?;
        Ok(match id.is_some_and(|id| id == self.claim) {
            true => idempotency::first_answer(response),
            false => response,
        })
    }

    /// The user holds what the campaign allows: our own claim after a lost reply, else a 409 with the first claim. `None` if
    /// it is worth another try, since a hold of the user's has ended.
    async fn already<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
    ) -> Result<Option<Response>, Problem> {
        let campaign = &live.campaign;
        let key = campaign.claim_key(self.user, &self.claim);
        let found = world
            .store
            .get(&Campaign::partition(&campaign.id), &[key])
            .await?;
        if let Some(entry) = found.first().and_then(Option::as_ref) {
            let claim: Claim = stored::decode("claim", entry)?;
            if claim.id == self.claim {
                let body = Response::json(201, &claim.admitted()).body;
                let body = match receipt::of(self.signer.as_deref(), &claim) {
                    Some(receipt) => receipt::put(body, &receipt),
                    None => body,
                };
                return Ok(Some(Response::json_bytes(201, body)));
            }
        }
        match self.claimed(world, live).await? {
            Some(problem) => Err(problem),
            None => Ok(None),
        }
    }

    /// The 409 with the first of the user's claims that take units. `None` if there is none, or if one of them was a hold that
    /// has ended and has just been given back.
    async fn claimed<S: Store>(&self, world: &World<'_, S>, live: &Live) -> Result<Option<Problem>, Problem> {
        let campaign = &live.campaign;
        let claims = claims::live(world.store, live, self.user).await?;
        let now = self.now.get();
        let over = |claim: &&Claim| claim.hold_ends().is_some_and(|end| end <= now);
        let mut returned = false;
        for claim in claims.iter().filter(over) {
            returned |= Box::pin(holds::expire(world.store, campaign, &claim.user, &claim.id, now)).await?;
        }
        Ok(match returned {
            true => None,
            false => already_claimed(campaign, &claims, self.signer.as_deref()),
        })
    }

    /// The verdict where the campaign alone decides it: sold out, closed, or far outside its window. A user
    /// who holds a claim is told so. With an `Idempotency-Key` the claim may be this very request's, which
    /// the store knows.
    async fn judged_from_memory<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
    ) -> Result<Judged, Problem> {
        let campaign = &live.campaign;
        let over = if campaign
            .starts_at
            .is_some_and(|at| world.now.saturating_add(CLOCK_MARGIN_MS) < at)
        {
            return Ok(Judged::Refused(not_started(campaign, world.now)));
        } else if campaign.closed
            || campaign
                .ends_at
                .is_some_and(|at| at.saturating_add(CLOCK_MARGIN_MS) <= world.now)
        {
            true
        } else if live.remaining < self.units {
            false
        } else {
            return Ok(Judged::Open);
        };
        let place = match campaign.per_user {
            1 => campaign.claim_key(self.user, &self.claim),
            _ => Campaign::count_key(&campaign.id, self.user),
        };
        let found = world
            .store
            .get(&Campaign::partition(&campaign.id), &[place])
            .await?;
        let entry = found.first().and_then(Option::as_ref);
        if entry.is_some() && self.key.is_some() {
            return Ok(Judged::Open);
        }
        let has_all = match campaign.per_user {
            1 => entry.is_some(),
            most => stored::count("number of units", entry)?.saturating_add(self.units) > most,
        };
        if has_all {
            let claimed = self.claimed(world, live).await?;
            return Ok(claimed.map_or(Judged::Changed, Judged::Refused));
        }
        Ok(match over {
            true => Judged::Refused(ended(campaign)),
            false => self
                .sold_out(world, live)
                .await?
                .map_or(Judged::Changed, Judged::Refused),
        })
    }

    /// Too little remains: the problem, or `None` if units of holds that have ended came back just now.
    async fn sold_out<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
    ) -> Result<Option<Problem>, Problem> {
        let campaign = &live.campaign;
        if campaign.hold_seconds.is_none() && self.units == 1 {
            return Ok(Some(sold_out(campaign, 0)));
        }
        let pick = usize::from((world.fresh)()[0]);
        let (now, units) = (self.now.get(), self.units);
        let room = Box::pin(holds::make_room(world.store, campaign, now, pick, units)).await?;
        if campaign.waitlist {
            let waiting = Box::pin(waitlist::serve(world.store, &campaign.id, now)).await?;
            if waiting > 0 {
                return Ok(Some(sold_out(campaign, 0).with_member("waiting", waiting)));
            }
        }
        Ok(match room {
            Room::Made => None,
            Room::Full { left } => Some(sold_out(campaign, left)),
            Room::Held { units, left, wait_ms } => Some(held(campaign, units, left, wait_ms)),
        })
    }
}

/// What memory says of a claim.
enum Judged {
    /// The store is to be asked.
    Open,
    Refused(Problem),
    /// A unit has come back: it is to be looked at again.
    Changed,
}
