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

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::eligible::{self, Listed};
use super::holds::{self, Hold, Room};
use super::pool::{self, Taken};
use super::record::{
    Campaign, Claim, Codes, Live, MAX_METADATA, MAX_PER_USER, Status, load_for_claim, path_segment,
};
use super::{claims, receipt, unknown, waitlist};
use crate::idempotency::{self, Key};
use crate::identity;
use crate::receipts::{self, Facts, Signer};
use crate::rooms;
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
use tollgate_store::template::{self, Blank, Form, JsonBlank, Number};

/// How often a claim is tried: again when its campaign changed in between, or when a reply was lost.
const ATTEMPTS: usize = 6;
/// How many lost replies are asked for again.
const LOST_REPLIES: usize = 2;
/// How often it is tried where each try may also meet a code that another has.
const CODE_ATTEMPTS: usize = 64;
/// How far the caller's clock may be from the store's, in milliseconds. Only further away from a campaign's window is
/// a claim refused without asking the store.
const CLOCK_MARGIN_MS: u64 = 5_000;
/// Characters of a generated code: 62^10, about 2^59.
const CODE_LENGTH: usize = 10;

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

/// The 400 of a claim for no units, or for more than one user may have.
pub(super) fn units_out_of(per_user: u64) -> Problem {
    Problem::field("#/units", format!("must be from 1 to {per_user}"))
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

/// Why a claim was not admitted, as the commit tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    AlreadyClaimed,
    Changed,
    OutsideWindow,
    SoldOut,
    NotEligible,
    /// Another has the code.
    CodeTaken,
    /// The store's clock is further than was thought: the hold would be short.
    ShortHold,
    /// Our own claim was admitted before, and its units have come back since.
    Returned,
}

/// The answer of a claim's commit, and the meaning of its refusals.
struct Plan {
    answer: Template,
    /// Of the conditions beyond [`Plan::CONDITIONS`].
    further: Vec<Verdict>,
    mutations: &'static [Option<Verdict>],
}

impl Plan {
    const CONDITIONS: [Verdict; 3] = [Verdict::AlreadyClaimed, Verdict::Changed, Verdict::OutsideWindow];

    fn verdict(&self, refusal: Refusal) -> Option<Verdict> {
        match refusal {
            Refusal::Condition(index) => {
                let mut all = Self::CONDITIONS.iter().chain(&self.further);
                all.nth(index as usize).copied()
            }
            Refusal::Mutation(index) => self.mutations.get(index as usize).copied().flatten(),
        }
    }
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

    /// The claim as one commit. `again`: it may have been made before.
    fn plan<S>(
        &self,
        world: &World<'_, S>,
        live: &Live,
        listed: Listed,
        again: bool,
        taken: Option<&Taken>,
    ) -> (Commit, Plan) {
        let campaign = &*live.campaign;
        let hold = campaign
            .hold_seconds
            .map(|seconds| Hold::new(self.now.get(), seconds));
        let mut mutations = Vec::with_capacity(4);
        let meanings = self.count(campaign, &mut mutations);
        let (kind, code) = match (&hold, campaign.codes) {
            // A claim that is held gets its code when it is confirmed.
            (Some(_), _) => (FormKind::Held, ""),
            (None, Codes::None) => (FormKind::Plain, ""),
            (None, Codes::Generate) => {
                let fresh = || generated(world);
                (FormKind::WithCode, self.code.get_or_init(fresh).as_str())
            }
            (None, Codes::Import) => (
                FormKind::WithCode,
                taken.map(|taken| taken.code.as_str()).unwrap_or_default(),
            ),
        };
        let own;
        let forms = match self.units == 1 && self.metadata.is_none() {
            true => kind.usual(),
            false => {
                own = kind.forms(self.units, self.metadata.as_ref().map(|_| JsonBlank(5)));
                &own
            }
        };
        let expires = hold.as_ref().map_or("", |hold| &hold.text);
        let metadata = self.metadata.as_deref().unwrap_or_default();
        let texts = [
            self.claim.as_str(),
            &campaign.id,
            self.user,
            code,
            expires,
            metadata,
        ];
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
        let mut conditions = vec![
            Condition::Absent(key),
            Condition::Version {
                key: partition.clone(),
                version: live.version,
            },
            window(campaign),
        ];
        let mut further = Vec::new();
        match listed {
            Listed::NoList => {}
            Listed::As(condition) => {
                conditions.push(condition);
                further.push(Verdict::Changed);
            }
            Listed::Not => {
                conditions.push(NEVER);
                further.push(Verdict::NotEligible);
            }
        }
        match taken {
            Some(taken) => {
                mutations.push(taken.mutation());
                conditions.push(taken.condition());
                further.push(Verdict::CodeTaken);
            }
            // It may be the repetition of a claim that was admitted.
            None if campaign.codes == Codes::Import && hold.is_none() => {
                conditions.push(NEVER);
                further.push(Verdict::SoldOut);
            }
            None => {}
        }
        if let Some(hold) = &hold {
            mutations.extend(hold.mutations(campaign, self.user, &self.claim, self.units));
            conditions.push(hold.is_long_enough());
            further.push(Verdict::ShortHold);
        }
        if again && campaign.per_user == 1 {
            // Meanwhile its place may be free again.
            conditions.push(Condition::Absent(campaign.returned_key(self.user, &self.claim)));
            further.push(Verdict::Returned);
        }
        let commit = Commit {
            idempotence,
            conditions,
            partition,
            mutations,
            appends: vec![Append {
                topic: campaign.topic.clone(),
                id: self.claim.clone(),
                key: self.user.to_owned(),
                kind: Status::Held.message().into(),
                content_type: "application/json".into(),
                attributes: attributes::write(None, Traceparent::of(self.request)),
                payload: forms.announcement.fill(&texts),
            }],
        };
        let plan = Plan {
            answer,
            further,
            mutations: meanings,
        };
        (commit, plan)
    }

    /// Moves a claim's counters, the [`SEQUENCE`] first; says what a refusal of each means.
    fn count(&self, campaign: &Campaign, mutations: &mut Vec<Mutation>) -> &'static [Option<Verdict>] {
        let units = i64::try_from(self.units).unwrap_or(i64::MAX); // at most MAX_PER_USER
        let mut add = |key, delta, min, max| mutations.push(Mutation::Add { key, delta, min, max });
        add(Campaign::sequence_key(&campaign.id), 1, None, None);
        if campaign.per_user > 1 {
            let most = i64::try_from(campaign.per_user).unwrap_or(i64::MAX); // at most MAX_PER_USER
            add(
                Campaign::count_key(&campaign.id, self.user),
                units,
                None,
                Some(most),
            );
        }
        add(Campaign::remaining_key(&campaign.id), -units, Some(0), None);
        if campaign.waitlist {
            // Those in line come first.
            add(Campaign::waiting_key(&campaign.id), 0, None, Some(0));
        }
        const SOLD_OUT: Option<Verdict> = Some(Verdict::SoldOut);
        match (campaign.per_user, campaign.waitlist) {
            (1, false) => &[None, SOLD_OUT],
            (1, true) => &[None, SOLD_OUT, SOLD_OUT],
            (_, false) => &[None, Some(Verdict::AlreadyClaimed), SOLD_OUT],
            (_, true) => &[None, Some(Verdict::AlreadyClaimed), SOLD_OUT, SOLD_OUT],
        }
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

/// A new code.
pub(super) fn generated<S>(world: &World<'_, S>) -> String {
    ids::token(&(world.fresh)(), CODE_LENGTH)
}

/// The index of the mutation that counts claims.
const SEQUENCE: u32 = 0;

/// A claim's documents, with blanks for its texts: its id, its campaign, its user, its code, when it expires, and its metadata.
struct Forms {
    answer: Form,
    claim: Form,
    announcement: Form,
}

/// In what the documents of claims differ.
#[derive(Clone, Copy)]
enum FormKind {
    Plain,
    WithCode,
    Held,
}

impl FormKind {
    /// The documents of claims of one unit, without metadata.
    fn usual(self) -> &'static Forms {
        static PLAIN: LazyLock<Forms> = LazyLock::new(|| FormKind::Plain.forms(1, None));
        static WITH_CODE: LazyLock<Forms> = LazyLock::new(|| FormKind::WithCode.forms(1, None));
        static HELD: LazyLock<Forms> = LazyLock::new(|| FormKind::Held.forms(1, None));
        match self {
            Self::Plain => &PLAIN,
            Self::WithCode => &WITH_CODE,
            Self::Held => &HELD,
        }
    }

    fn forms(self, units: u64, metadata: Option<JsonBlank>) -> Forms {
        let (status, code, expires_at) = match self {
            Self::Plain => (Status::Confirmed, None, None),
            Self::WithCode => (Status::Confirmed, Some(Blank(3)), None),
            Self::Held => (Status::Held, None, Some(Blank(4))),
        };
        let claim = Claim {
            id: Blank(0),
            campaign: Blank(1),
            user: Blank(2),
            sequence: Number::Sum(SEQUENCE),
            units,
            code,
            status,
            metadata,
            time: Number::Time,
            expires_at,
        };
        Forms {
            answer: Form::of(&claim.admitted()),
            claim: Form::of(&claim),
            announcement: Form::of(&claim.announcement()),
        }
    }
}

/// The documents of a claim of one unit that is held: its record, and the data of its message.
pub(super) fn held_documents(
    campaign: &Campaign,
    user: &str,
    claim: &str,
    hold: &Hold,
) -> (Template, Template) {
    let texts = [claim, &campaign.id, user, "", &hold.text];
    let forms = FormKind::Held.usual();
    (forms.claim.fill(&texts), forms.announcement.fill(&texts))
}

/// Holds at no time.
const NEVER: Condition = Condition::NowIn {
    start: None,
    end: Some(0),
};

/// When the campaign admits, by the store's clock. A closed one never does.
pub(super) fn window(campaign: &Campaign) -> Condition {
    match campaign.closed {
        true => NEVER,
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

pub(super) fn not_started(campaign: &Campaign, now: u64) -> Problem {
    let wait = campaign.starts_at.unwrap_or(0).saturating_sub(now);
    Problem::new(
        Kind::NotStarted,
        format!("The campaign {} has not started.", campaign.id),
    )
    .with_retry_after(wait.div_ceil(1_000))
}

pub(super) fn ended(campaign: &Campaign) -> Problem {
    Problem::new(Kind::Ended, format!("The campaign {} is over.", campaign.id))
}

/// Too few units are left: `left`.
pub(super) fn sold_out(campaign: &Campaign, left: u64) -> Problem {
    let id = &campaign.id;
    match left {
        0 => Problem::new(
            Kind::SoldOut,
            format!("All units of the campaign {id} are taken."),
        ),
        left => Problem::new(
            Kind::SoldOut,
            format!("Only {left} units of the campaign {id} are left."),
        )
        .with_member("remaining", left),
    }
}

/// Too few units are left, some only for a time.
pub(super) fn held(campaign: &Campaign, units: u64, left: u64, wait_ms: u64) -> Problem {
    let id = &campaign.id;
    let detail = match left {
        0 => format!("All units of the campaign {id} are taken, but {units} are only held."),
        left => format!("Only {left} units of the campaign {id} are left, and {units} are only held."),
    };
    let mut problem = Problem::new(Kind::SoldOut, detail).with_member("held", units);
    if left > 0 {
        problem = problem.with_member("remaining", left);
    }
    problem.with_retry_after(wait_ms.div_ceil(1_000))
}

/// The user's claims take what they may, or nearly so; `None` if there are none.
pub(super) fn already_claimed(
    campaign: &Campaign,
    claims: &[Claim],
    signer: Option<&Signer>,
) -> Option<Problem> {
    let first = claims.first()?;
    let receipt = receipt::of(signer, first);
    let mut view = first.view();
    view.receipt = receipt.as_deref();
    let view = serde_json::to_value(view).unwrap_or_default();
    let limit = campaign.per_user;
    if limit == 1 {
        let problem = Problem::new(Kind::AlreadyClaimed, "The user has claimed already.");
        return Some(problem.with_member("claim", view));
    }
    let taken: u64 = claims.iter().map(|claim| claim.units).sum();
    let detail = format!("The user's claims take {taken} units; the limit is {limit}.");
    Some(Problem::new(Kind::AlreadyClaimed, detail).with_member("claim", view))
}
