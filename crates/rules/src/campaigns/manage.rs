//! Creating, listing, reading and changing campaigns.

use serde::{Deserialize, Serialize};

use super::record::{
    self, Campaign, CodeOrder, Codes, Counters, DEFAULT_TOPIC, View, is_id, load, load_counted,
};
use super::record::{MAX_HOLD_SECONDS, MAX_ID, MAX_PER_USER, MAX_QUANTITY};
use super::{remove, unknown, waitlist};
use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::events;
use crate::keys;
use crate::rooms;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{FieldError, Kind, Problem};
use tollgate_api::query::Query;
use tollgate_api::{json, time};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

/// Campaigns of a page unless the caller says otherwise.
pub(super) const DEFAULT_PAGE: u64 = 50;
/// The most campaigns of a page; each costs a look at its counter.
pub(super) const MAX_PAGE: u64 = 100;
/// How often a change is tried against concurrent changes of the same campaign.
const PATCH_ATTEMPTS: usize = 8;

/// A campaign to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewCampaign")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Create {
    /// A slug, for ever its name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,63}$")))]
    id: String,
    /// What people call it; shown, and nothing else.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = rooms::MAX_TITLE)))]
    title: Option<String>,
    /// Units. Not where codes are imported: each is a unit.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_QUANTITY)))]
    quantity: Option<u64>,
    /// The most units of one user; 1 where it is left out. Never changes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_PER_USER)))]
    per_user: Option<u64>,
    /// From when on it admits.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    starts_at: Option<u64>,
    /// From when on it admits no more; after `startsAt`.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    ends_at: Option<u64>,
    /// For how long a claim is held: until then it is confirmed, or its unit comes back. Where it is left out, every claim is
    /// confirmed at once. Never changes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_HOLD_SECONDS)))]
    hold_seconds: Option<u64>,
    /// Whether users may wait in line once all units are taken. Needs `holdSeconds`.
    #[serde(default)]
    waitlist: bool,
    /// Whether each claim carries a code.
    #[serde(default)]
    codes: Option<Codes>,
    /// In which order imported codes are given out; `random` where it is left out. Only with `codes: import`.
    #[serde(default)]
    code_order: Option<CodeOrder>,
    /// Where claims are announced; `coupon` where it is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$")))]
    topic: Option<String>,
    /// The waiting room in front of its claims: without its token a claim is refused. Never changes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$")))]
    room: Option<String>,
}

impl Create {
    fn into_campaign(self, now: u64) -> Result<Campaign, Problem> {
        if !is_id(&self.id) {
            let rule = format!("must be 1 to {MAX_ID} of a-z, 0-9 and -, and not begin with -");
            return Err(Problem::field("#/id", rule));
        }
        check_title(self.title.as_deref())?;
        let codes = self.codes.unwrap_or_default();
        let quantity = match (codes, self.quantity) {
            (Codes::Import, None) => 0,
            (Codes::Import, Some(_)) => {
                let rule = "must be left out: the stock is what is imported";
                return Err(Problem::field("#/quantity", rule));
            }
            (_, None) => return Err(Problem::field("#/quantity", "is missing")),
            (_, Some(quantity)) => check_quantity(quantity).map(|()| quantity)?,
        };
        if codes != Codes::Import && self.code_order.is_some() {
            return Err(Problem::field("#/codeOrder", "goes with codes: import alone"));
        }
        let per_user = self.per_user.unwrap_or(1);
        if !(1..=MAX_PER_USER).contains(&per_user) {
            return Err(Problem::field(
                "#/perUser",
                format!("must be from 1 to {MAX_PER_USER}"),
            ));
        }
        check_window(self.starts_at, self.ends_at)?;
        if let Some(seconds) = self.hold_seconds
            && !(1..=MAX_HOLD_SECONDS).contains(&seconds)
        {
            let rule = format!("must be from 1 to {MAX_HOLD_SECONDS}");
            return Err(Problem::field("#/holdSeconds", rule));
        }
        if self.waitlist && self.hold_seconds.is_none() {
            return Err(Problem::field(
                "#/waitlist",
                "needs holdSeconds: without holds no stock comes back",
            ));
        }
        let topic = self.topic.unwrap_or_else(|| DEFAULT_TOPIC.to_owned());
        if !is_topic_name(&topic) {
            return Err(Problem::field("#/topic", TOPIC_NAME_RULE));
        }
        Ok(Campaign {
            id: self.id,
            title: self.title,
            quantity,
            per_user,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            hold_seconds: self.hold_seconds,
            waitlist: self.waitlist,
            codes,
            code_order: (codes == Codes::Import).then(|| self.code_order.unwrap_or_default()),
            topic,
            created_at: now,
            closed: false,
            eligible: None,
            room: self.room,
            eligible_claim: None,
            removed_at: None,
        })
    }
}

/// The counters of a new campaign.
fn untouched(campaign: &Campaign) -> Counters {
    Counters {
        remaining: campaign.quantity,
        ..Counters::default()
    }
}

fn check_quantity(quantity: u64) -> Result<(), Problem> {
    if (1..=MAX_QUANTITY).contains(&quantity) {
        return Ok(());
    }
    Err(Problem::field(
        "#/quantity",
        format!("must be from 1 to {MAX_QUANTITY}"),
    ))
}

fn check_title(title: Option<&str>) -> Result<(), Problem> {
    match title.is_none_or(rooms::is_title) {
        true => Ok(()),
        false => Err(Problem::field("#/title", rooms::TITLE_RULE)),
    }
}

fn check_window(starts_at: Option<u64>, ends_at: Option<u64>) -> Result<(), Problem> {
    match (starts_at, ends_at) {
        (Some(start), Some(end)) if end <= start => Err(Problem::field("#/endsAt", "must be after startsAt")),
        _ => Ok(()),
    }
}

/// `POST /api/campaigns`: 201, or 409 if the id is taken.
pub(super) async fn create<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let campaign = json::body::<Create>(request)?.into_campaign(world.now)?;
    if let Some(room) = &campaign.room
        && !Box::pin(rooms::exists(world, room)).await?
    {
        return Err(Problem::field("#/room", "must be the name of a waiting room"));
    }
    let id = campaign.id.as_str();
    let stock = Mutation::Set {
        key: Campaign::remaining_key(id),
        value: literal(campaign.quantity.to_string()),
        expires: None,
    };
    let commit = Commit {
        partition: Campaign::partition(id),
        conditions: vec![Condition::Absent(Campaign::partition(id))],
        mutations: vec![record::set(&campaign), stock],
        appends: events::append(world, || {
            let view = View::new(&campaign, untouched(&campaign), world.now);
            events::campaign_created(&serde_json::to_value(view).unwrap_or_default())
        }),
        ..Commit::default()
    };
    let mut outcome = world.store.commit(commit.clone()).await;
    let lost = matches!(outcome, Err(StoreError::Unknown(_)));
    if lost {
        outcome = world.store.commit(commit).await;
    }
    let mut ours = matches!(outcome?, Outcome::Committed(_));
    if lost && !ours {
        // The campaign that is there may be this very one.
        let there = load(world.store, id).await?;
        ours = there.is_some_and(|live| *live.campaign == campaign);
    }
    if !ours {
        let there = record::load_record(world.store, id).await?;
        let removed_at = there.and_then(|(campaign, _)| campaign.removed_at);
        let detail = match removed_at.map(remove::free_from) {
            Some(from) => format!(
                "The campaign {id} was removed; its name is free again from {} on, once its claims are removed.",
                time::format(from)
            ),
            None => format!("There is a campaign {id} already."),
        };
        let mut problem = Problem::new(Kind::Conflict, detail);
        problem.errors.push(FieldError {
            pointer: "#/id".into(),
            detail: "is taken".into(),
        });
        return Err(problem);
    }
    let view = View::new(&campaign, untouched(&campaign), world.now);
    Ok(Response::json(201, &view).with("location", format!("/api/campaigns/{id}")))
}

/// Some campaigns.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CampaignPage")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    /// The campaigns, by id.
    campaigns: Vec<View<'a>>,
    /// Leads to the next page; null on the last one.
    next_cursor: Option<&'a str>,
}

/// `GET /api/campaigns?limit=&cursor=`, by id. A cursor is the id of the last campaign seen.
pub(super) async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let query = Query::of(request, &["limit", "cursor"])?;
    let limit = query.number("limit", 1..=MAX_PAGE, DEFAULT_PAGE)?;
    let after = match query.text("cursor") {
        Some(id) if is_id(id) => Some(Campaign::partition(id)),
        Some(_) => return Err(Problem::field("query:cursor", "is not a cursor of this list")),
        None => None,
    };
    let prefix = Campaign::partition("");
    // One more than asked for tells whether there is another page; it is short of those that were removed. Records are small: so many of them stay far below
    // the bound in bytes of a scan.
    let wanted = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let items = world.store.scan(&prefix, after.as_deref(), wanted).await?;
    let shown = items.len().min(wanted as usize - 1);
    let mut campaigns = Vec::with_capacity(shown);
    for item in &items[..shown] {
        // The record and its counters at one moment: the scan's is another.
        let id = item.key.strip_prefix(&*prefix).unwrap_or_default();
        campaigns.extend(load_counted(world.store, id).await?);
    }
    let views = campaigns
        .iter()
        .map(|(live, counters)| View::new(&live.campaign, *counters, world.now));
    let more = items.len() > shown;
    let last = items[..shown].last().filter(|_| more);
    let next_cursor = last.and_then(|item| item.key.strip_prefix(&*prefix));
    Ok(Response::json(
        200,
        &Page {
            campaigns: views.collect(),
            next_cursor,
        },
    ))
}

/// `GET /api/campaigns/{id}`, open to anyone.
///
/// # Errors
/// 404: there is none of this name; or the store does not answer.
pub async fn read<S: Store>(store: &S, id: &str, now: u64) -> Result<Response, Problem> {
    let found = match is_id(id) {
        true => load_counted(store, id).await?,
        false => None,
    };
    let (live, counters) = found.ok_or_else(|| unknown(id))?;
    Ok(Response::json(200, &View::new(&live.campaign, counters, now)))
}

/// A merge patch (RFC 7396): what is absent stays, null clears.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CampaignPatch")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Patch {
    /// What people call it; null for nothing.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = rooms::MAX_TITLE))
    )]
    title: Option<Option<String>>,
    /// Units; never below those admitted.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "u64", range(min = 1, max = MAX_QUANTITY)))]
    quantity: Option<Option<u64>>,
    /// From when on it admits; null for at once.
    #[serde(default, deserialize_with = "moment")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    starts_at: Option<Option<u64>>,
    /// From when on it admits no more; null for no end.
    #[serde(default, deserialize_with = "moment")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    ends_at: Option<Option<u64>>,
    /// Closes it, or opens it again: then its times count.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("enum" = ["closed", "open"])))]
    state: Option<Option<String>>,
}

fn moment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    time::rfc3339_option::deserialize(deserializer).map(Some)
}

impl Patch {
    /// Checks the rules that do not depend on the campaign.
    fn check(&self) -> Result<(), Problem> {
        check_title(self.title.as_ref().and_then(Option::as_deref))?;
        match self.quantity {
            Some(None) => return Err(Problem::field("#/quantity", "cannot be cleared")),
            Some(Some(quantity)) => check_quantity(quantity)?,
            None => {}
        }
        match &self.state {
            Some(state) if !matches!(state.as_deref(), Some("closed" | "open")) => Err(Problem::field(
                "#/state",
                "can only be set to \"closed\" or \"open\"",
            )),
            _ => Ok(()),
        }
    }

    fn apply(&self, before: &Campaign) -> Result<Campaign, Problem> {
        let mut after = before.clone();
        if let Some(quantity) = self.quantity.flatten() {
            if before.codes == Codes::Import {
                let rule = "is what was imported: POST /api/campaigns/{id}/codes";
                return Err(Problem::field("#/quantity", rule));
            }
            after.quantity = quantity;
        }
        if let Some(title) = &self.title {
            after.title.clone_from(title);
        }
        after.starts_at = self.starts_at.unwrap_or(before.starts_at);
        after.ends_at = self.ends_at.unwrap_or(before.ends_at);
        if self.ends_at.is_some() {
            check_window(after.starts_at, after.ends_at)?;
        } else if self.starts_at.is_some() && check_window(after.starts_at, after.ends_at).is_err() {
            return Err(Problem::field("#/startsAt", "must be before endsAt"));
        }
        if let Some(state) = self.state.as_ref().and_then(Option::as_deref) {
            after.closed = state == "closed";
        }
        Ok(after)
    }
}

/// `PATCH /api/campaigns/{id}`. The record and the units left change together; a quantity below what is admitted
/// is a 409, decided in that same step.
pub(super) async fn patch<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns).await?;
    let patch: Patch = json::body(request)?;
    patch.check()?;
    for _ in 0..PATCH_ATTEMPTS {
        let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
        let after = patch.apply(&live.campaign)?;
        match world
            .store
            .commit(change(&live.campaign, live.version, &after))
            .await?
        {
            Outcome::Committed(done) => {
                if after.waitlist {
                    Box::pin(waitlist::serve(world.store, id, world.now)).await?;
                    return read(world.store, id, world.now).await;
                }
                let sum = |index: usize| {
                    let sum = done.sums.get(index);
                    sum.and_then(|&n| u64::try_from(n).ok()).unwrap_or(0)
                };
                let counters = Counters {
                    remaining: sum(STOCK),
                    held: sum(STOCK + 1),
                    released: sum(STOCK + 2),
                    burnt: sum(STOCK + 3),
                    waiting: 0,
                };
                return Ok(Response::json(200, &View::new(&after, counters, world.now)));
            }
            Outcome::Refused(Refusal::Mutation(_)) => return Err(below_admitted()),
            _ => {} // changed in between
        }
    }
    Err(Problem::new(
        Kind::Conflict,
        "The campaign is being changed by others; try again.",
    ))
}

/// The index of the mutation that moves the units left. Those behind it tell the other counters of that moment.
const STOCK: usize = 1;

fn change(before: &Campaign, version: u64, after: &Campaign) -> Commit {
    let signed = |quantity: u64| i64::try_from(quantity).unwrap_or(i64::MAX); // at most MAX_QUANTITY
    let moved = |key, delta| Mutation::Add {
        key,
        delta,
        min: Some(0),
        max: None,
    };
    let stock = moved(
        Campaign::remaining_key(&before.id),
        signed(after.quantity) - signed(before.quantity),
    );
    let held = moved(Campaign::held_key(&before.id), 0);
    let released = moved(Campaign::released_key(&before.id), 0);
    let mut mutations = vec![record::set(after), stock, held, released];
    if after.codes == Codes::Import {
        mutations.push(moved(Campaign::burnt_key(&before.id), 0));
    }
    let partition = Campaign::partition(&before.id);
    Commit {
        conditions: vec![Condition::Version {
            key: partition.clone(),
            version,
        }],
        partition,
        mutations,
        ..Commit::default()
    }
}

fn below_admitted() -> Problem {
    let detail = "must not be below what is admitted already";
    let mut problem = Problem::new(Kind::Conflict, format!("#/quantity: {detail}"));
    problem.errors.push(FieldError {
        pointer: "#/quantity".into(),
        detail: detail.into(),
    });
    problem
}
