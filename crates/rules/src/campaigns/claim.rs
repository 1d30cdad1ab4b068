//! A user's claim: one commit whose refusal is the verdict.
//!
//! The steps, in order:
//! 1. condition: the claim is not there yet;
//! 2. condition: the campaign is the one that was read, so that a concurrent change or closing counts;
//! 3. condition: the store's clock is inside the campaign's window;
//! 4. the next sequence is taken;
//! 5. a unit is taken, if one is left;
//! 6. the claim is written;
//! 7. its message is appended.
//!
//! No lock, and no retry loop except for a campaign that changed in between and for a reply that was lost.
//!
//! A lost reply is asked for again with the same claim id: if that id is found stored, it is ours.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::record::{Campaign, Claim, Codes, Live, Status, load_for_claim, path_segment};
use super::{claims, unknown};
use crate::idempotency::{self, Key};
use crate::identity;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::traceparent::Traceparent;
use tollgate_delivery::attributes;
use tollgate_store::commit::{
    Append, Commit, Committed, Condition, Mutation, Outcome, Refusal, StoreError, Template,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;
use tollgate_store::template::{self, Blank, Form, Number};

/// How often a claim is tried: again when its campaign changed in between, or when a reply was lost.
const ATTEMPTS: usize = 6;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;
/// How far the caller's clock may be from the store's, in milliseconds. Only further away from a campaign's window is
/// a claim refused without asking the store.
const CLOCK_MARGIN_MS: u64 = 5_000;
/// Characters of a generated code: 62^10, about 2^59.
const CODE_LENGTH: usize = 10;

/// An empty object: there is nothing to say yet.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClaimRequest")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {}

/// `POST /api/campaigns/{id}/claims`: 201 if admitted.
pub(super) async fn claim<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    if !request.body.is_empty() {
        json::body::<Body>(request)?;
    }
    let key = idempotency::key(request)?;
    let user = identity::explicit_user(&world.settings.config, request)?.ok_or_else(|| {
        Problem::new(
            Kind::UserRequired,
            format!(
                "Say who claims: the header {}.",
                world.settings.config.users.header
            ),
        )
    })?;
    let attempt = Attempt {
        request,
        user,
        key,
        claim: ids::token(&(world.fresh)(), ids::ID_LENGTH),
        code: OnceCell::new(),
    };
    let response = attempt.run(world, id).await?;
    Ok(response.with(
        "location",
        ["/api/campaigns/", id, "/claims/", &path_segment(user)].concat(),
    ))
}

/// One request's claim. Its ids stay the same however often the store is asked.
struct Attempt<'a> {
    request: &'a Request,
    user: &'a str,
    key: Option<Key>,
    claim: String,
    /// Made when the campaign has codes.
    code: OnceCell<String>,
}

/// Why a claim was not admitted, as the commit tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    AlreadyClaimed,
    Changed,
    OutsideWindow,
    SoldOut,
}

/// The answer of a claim's commit, and the meaning of its refusals.
struct Plan {
    answer: Template,
    mutations: &'static [Option<Verdict>],
}

impl Plan {
    const CONDITIONS: [Verdict; 3] = [Verdict::AlreadyClaimed, Verdict::Changed, Verdict::OutsideWindow];

    fn verdict(&self, refusal: Refusal) -> Option<Verdict> {
        match refusal {
            Refusal::Condition(index) => Self::CONDITIONS.get(index as usize).copied(),
            Refusal::Mutation(index) => self.mutations.get(index as usize).copied().flatten(),
        }
    }
}

impl Attempt<'_> {
    async fn run<S: Store>(&self, world: &World<'_, S>, id: &str) -> Result<Response, Problem> {
        let mut lost = 0;
        for _ in 0..ATTEMPTS {
            let live = load_for_claim(world.store, id)
                .await?
                .ok_or_else(|| unknown(id))?;
            // After a lost reply only a commit tells: it comes after the one whose reply was lost, a read may not.
            if lost == 0
                && let Some(problem) = self.refused_from_memory(world, &live).await?
            {
                return Err(problem);
            }
            let (commit, plan) = self.plan(world, &live);
            let outcome = match world.store.commit(commit).await {
                Ok(outcome) => outcome,
                Err(StoreError::Unknown(_)) if lost < LOST_REPLIES => {
                    lost += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
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
            Outcome::Committed(done) => return Ok(Some(created(&plan.answer, &done))),
            Outcome::Replayed(answer) => return self.replayed(&answer).map(Some),
            Outcome::Conflict => return Err(idempotency::mismatch()),
            Outcome::Refused(refusal) => refusal,
        };
        match plan.verdict(refusal) {
            Some(Verdict::AlreadyClaimed) => self.already(world, live).await,
            Some(Verdict::OutsideWindow) => Err(outside_window(&live.campaign, world.now)),
            Some(Verdict::SoldOut) => Err(sold_out(&live.campaign)),
            Some(Verdict::Changed) => Ok(None),
            None => Err(Problem::new(
                Kind::Internal,
                "The store refused a step that cannot be refused.",
            )),
        }
    }

    /// A stored answer. If it holds our own claim, our own commit's reply was lost: it is no replay.
    fn replayed(&self, answer: &[u8]) -> Result<Response, Problem> {
        #[derive(Deserialize)]
        struct Stored {
            claim: StoredClaim,
        }
        #[derive(Deserialize)]
        struct StoredClaim {
            id: String,
        }
        let mut response = idempotency::replay(answer)?;
        if serde_json::from_slice(&response.body).is_ok_and(|stored: Stored| stored.claim.id == self.claim) {
            response
                .headers
                .retain(|header| header.name != idempotency::REPLAYED);
        }
        Ok(response)
    }

    /// The user holds what the campaign allows: our own claim after a lost reply, else a 409 with the first claim.
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
                return Ok(Some(Response::json(201, &claim.admitted())));
            }
        }
        match claims::stored(world.store, live, self.user).await?.first() {
            Some(first) => Err(already_claimed(campaign, first)),
            None => Ok(None),
        }
    }

    /// The verdict where the campaign alone decides it: sold out, closed, or far outside its window. A user
    /// who holds a claim is told so. With an `Idempotency-Key` the claim may be this very request's, which
    /// the store knows.
    async fn refused_from_memory<S: Store>(
        &self,
        world: &World<'_, S>,
        live: &Live,
    ) -> Result<Option<Problem>, Problem> {
        let campaign = &live.campaign;
        let problem = if campaign
            .starts_at
            .is_some_and(|at| world.now.saturating_add(CLOCK_MARGIN_MS) < at)
        {
            return Ok(Some(not_started(campaign, world.now)));
        } else if campaign.closed
            || campaign
                .ends_at
                .is_some_and(|at| at.saturating_add(CLOCK_MARGIN_MS) <= world.now)
        {
            ended(campaign)
        } else if live.remaining == 0 {
            sold_out(campaign)
        } else {
            return Ok(None);
        };
        let place = match campaign.per_user {
            1 => campaign.claim_key(self.user, &self.claim),
            _ => Campaign::count_key(&campaign.id, self.user),
        };
        let found = world
            .store
            .get(&Campaign::partition(&campaign.id), &[place])
            .await?;
        let Some(entry) = found.first().and_then(Option::as_ref) else {
            return Ok(Some(problem));
        };
        if self.key.is_some() {
            return Ok(None);
        }
        if campaign.per_user > 1 && stored::count("number of claims", Some(entry))? < campaign.per_user {
            return Ok(Some(problem));
        }
        let claims = claims::stored(world.store, live, self.user).await?;
        Ok(Some(
            claims
                .first()
                .map_or(problem, |first| already_claimed(campaign, first)),
        ))
    }

    /// The claim as one commit.
    fn plan<S>(&self, world: &World<'_, S>, live: &Live) -> (Commit, Plan) {
        let campaign = &*live.campaign;
        let mut mutations = Vec::with_capacity(4);
        let meanings = self.count(campaign, &mut mutations);
        let (forms, code) = match campaign.codes {
            Codes::None => (&*PLAIN, ""),
            Codes::Generate => {
                let fresh = || ids::token(&(world.fresh)(), CODE_LENGTH);
                (&*WITH_CODE, self.code.get_or_init(fresh).as_str())
            }
        };
        let texts = [self.claim.as_str(), &campaign.id, self.user, code];
        let key = campaign.claim_key(self.user, &self.claim);
        let partition = Campaign::partition(&campaign.id);
        let answer = forms.answer.fill(&texts);
        mutations.push(Mutation::Set {
            key: key.clone(),
            value: forms.claim.fill(&texts),
            expires: None,
        });
        let idempotence = self.key.as_ref().map(|given| {
            given.idempotence(
                "claim",
                &[&campaign.id, self.user],
                self.request,
                201,
                &answer,
                &BTreeMap::new(),
            )
        });
        let commit = Commit {
            idempotence,
            conditions: vec![
                Condition::Absent(key),
                Condition::Version {
                    key: partition.clone(),
                    version: live.version,
                },
                window(campaign),
            ],
            partition,
            mutations,
            appends: vec![Append {
                topic: campaign.topic.clone(),
                id: self.claim.clone(),
                key: self.user.to_owned(),
                kind: "coupon.claimed".into(),
                content_type: "application/json".into(),
                attributes: attributes::write(None, Traceparent::of(self.request)),
                payload: forms.announcement.fill(&texts),
            }],
        };
        let plan = Plan {
            answer,
            mutations: meanings,
        };
        (commit, plan)
    }

    /// Moves a claim's counters, the [`SEQUENCE`] first; says what a refusal of each means.
    fn count(&self, campaign: &Campaign, mutations: &mut Vec<Mutation>) -> &'static [Option<Verdict>] {
        let mut add = |key, delta, min, max| mutations.push(Mutation::Add { key, delta, min, max });
        add(Campaign::sequence_key(&campaign.id), 1, None, None);
        if campaign.per_user > 1 {
            let most = i64::try_from(campaign.per_user).unwrap_or(i64::MAX); // at most MAX_PER_USER
            add(Campaign::count_key(&campaign.id, self.user), 1, None, Some(most));
        }
        add(Campaign::remaining_key(&campaign.id), -1, Some(0), None);
        match campaign.per_user {
            1 => &[None, Some(Verdict::SoldOut)],
            _ => &[None, Some(Verdict::AlreadyClaimed), Some(Verdict::SoldOut)],
        }
    }
}

/// The index of the mutation that counts claims.
const SEQUENCE: u32 = 0;

/// A claim's documents, with blanks for its texts: its id, its campaign, its user and its code.
struct Forms {
    answer: Form,
    claim: Form,
    announcement: Form,
}

impl Forms {
    fn of(code: Option<Blank>) -> Self {
        let claim = Claim {
            id: Blank(0),
            campaign: Blank(1),
            user: Blank(2),
            sequence: Number::Sum(SEQUENCE),
            code,
            status: Status::Confirmed,
            time: Number::Time,
        };
        Self {
            answer: Form::of(&claim.admitted()),
            claim: Form::of(&claim),
            announcement: Form::of(&claim.announcement()),
        }
    }
}

/// The documents of claims without codes.
static PLAIN: LazyLock<Forms> = LazyLock::new(|| Forms::of(None));
/// The documents of claims with codes.
static WITH_CODE: LazyLock<Forms> = LazyLock::new(|| Forms::of(Some(Blank(3))));

fn created(answer: &Template, done: &Committed) -> Response {
    Response::json_bytes(201, template::fill(answer, done))
}

/// When the campaign admits, by the store's clock. A closed one never does.
fn window(campaign: &Campaign) -> Condition {
    match campaign.closed {
        true => Condition::NowIn {
            start: None,
            end: Some(0),
        },
        false => Condition::NowIn {
            start: campaign.starts_at,
            end: campaign.ends_at,
        },
    }
}

/// The store's clock is outside the window; ours, which may differ a little, tells on which side.
fn outside_window(campaign: &Campaign, now: u64) -> Problem {
    let early = match (campaign.starts_at, campaign.ends_at) {
        _ if campaign.closed => false,
        (Some(start), Some(end)) => now.abs_diff(start) < now.abs_diff(end) || now < start,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if early {
        not_started(campaign, now)
    } else {
        ended(campaign)
    }
}

fn not_started(campaign: &Campaign, now: u64) -> Problem {
    let wait = campaign.starts_at.unwrap_or(0).saturating_sub(now);
    Problem::new(
        Kind::NotStarted,
        format!("The campaign {} has not started.", campaign.id),
    )
    .with_retry_after(wait.div_ceil(1_000))
}

fn ended(campaign: &Campaign) -> Problem {
    Problem::new(Kind::Ended, format!("The campaign {} is over.", campaign.id))
}

fn sold_out(campaign: &Campaign) -> Problem {
    Problem::new(
        Kind::SoldOut,
        format!("All units of the campaign {} are taken.", campaign.id),
    )
}

fn already_claimed(campaign: &Campaign, first: &Claim) -> Problem {
    let detail = match campaign.per_user {
        1 => "The user has claimed already.".to_owned(),
        n => format!("The user has claimed {n} times already, which is the limit."),
    };
    let view = serde_json::to_value(first.view()).unwrap_or_default();
    Problem::new(Kind::AlreadyClaimed, detail).with_member("claim", view)
}
