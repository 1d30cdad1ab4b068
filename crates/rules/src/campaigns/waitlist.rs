//! The line of a campaign that is sold out: stock that comes back goes to the next in it, as a claim that is held, and to nobody else.
//!
//! A place is the entry `line/<campaign>/<time><id>`, in order, and `waiter/<campaign>/<user>` leads to it. `waiting/<campaign>` counts
//! them. A claim of somebody else asks in its commit that nobody waits. The claim of a place is one commit that takes the place away, so
//! it happens once, whoever makes it: who gives a unit back, who asks for one, or the sweep.

use serde::{Deserialize, Serialize};

use super::claim;
use super::eligible::{self, Listed};
use super::holds::{self, Hold};
use super::record::{self, Campaign, State, Status, load_counted};
use super::{claims, documents, refusals, unknown};
use crate::identity;
use crate::receipts;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{ids, json, time};
use tollgate_delivery::attributes;
use tollgate_store::commit::{
    Append, Commit, Condition, Item, MAX_PAGE, Mutation, Outcome, Refusal, StoreError, literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The most users in a line.
pub const MAX_LINE: u64 = 100_000;
/// Places that one call gives units to.
const SERVED: usize = 16;
/// How often a change is tried against concurrent ones.
const ATTEMPTS: usize = 8;
/// Pages of counters that one step of the sweep looks at.
const PAGES: usize = 16;
/// The prefix of the counters of all lines.
const WAITING: &str = "waiting/";

/// A place as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    user: String,
    /// The id of the claim that it becomes.
    claim: String,
    /// Unix milliseconds.
    since: u64,
}

/// A user's place in line.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Place"))]
#[serde(rename_all = "camelCase")]
pub(super) struct PlaceView {
    /// From 1; null for a user that is not in line (any more), or has more than 999 before it.
    position: Option<usize>,
    /// Since when; null for a user that is not in line.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    since: Option<u64>,
    /// All that are in line.
    waiting: u64,
}

fn entry_of(item: &Item) -> Result<Place, StoreError> {
    stored::decode("place in line", &item.entry)
}

/// The campaign of a call, which has a line, and the user who makes it.
async fn asked<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<(Campaign, u64, String), Problem> {
    let user = identity::explicit_user(world.settings, request, world.now)?;
    let user = user.ok_or_else(|| identity::user_required(world.settings, "waits"))?;
    let found = record::load_record(world.store, id).await?;
    let found = found.filter(|(campaign, _)| campaign.removed_at.is_none());
    let (campaign, version) = found.ok_or_else(|| unknown(id))?;
    match campaign.waitlist {
        true => Ok((campaign, version, user.into_owned())),
        false => Err(Problem::new(
            Kind::Conflict,
            "The campaign has no waiting list: it was made without \"waitlist\": true.",
        )),
    }
}

/// `POST /api/campaigns/{id}/waitlist`: 201, or 200 for a user that is in line already.
pub(super) async fn join<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let super::settle::Body {} = json::body_or_default(request)?;
    for _ in 0..ATTEMPTS {
        let (campaign, version, user) = asked(world, request, id).await?;
        let (live, counters) = load_counted(world.store, id).await?.ok_or_else(|| unknown(id))?;
        match campaign.state(counters.remaining, world.now) {
            State::Ended | State::Closed => return Err(refusals::ended(&campaign)),
            State::Scheduled => return Err(refusals::not_started(&campaign, world.now)),
            State::Open | State::SoldOut => {}
        }
        if matches!(
            eligible::look_up(world, request, &campaign, &user).await?,
            Listed::Not
        ) {
            return Err(eligible::not_eligible(&campaign));
        }
        let view = place(world.store, &campaign, &user).await?;
        if view.since.is_some() {
            return Ok(Response::json(200, &view));
        }
        let mine = claims::live(world.store, &live, &user).await?;
        let taken: u64 = mine.iter().map(|claim| claim.units).sum();
        if taken >= campaign.per_user {
            let signer = receipts::signer(world).await?;
            if let Some(problem) = refusals::already_claimed(&campaign, &mine, signer.as_deref()) {
                return Err(problem);
            }
        }
        if counters.remaining > 0 && view.waiting == 0 {
            let problem = Problem::new(Kind::Conflict, "Units are left: claim one.");
            return Err(problem.with_member("remaining", counters.remaining));
        }
        let joining = joining(world, &campaign, version, &user);
        match world.store.commit(joining).await {
            Ok(Outcome::Committed(_)) => {
                serve(world.store, id, world.now).await?;
                let view = place(world.store, &campaign, &user).await?;
                return Ok(Response::json(201, &view));
            }
            Ok(Outcome::Refused(Refusal::Mutation(_))) => {
                return Err(Problem::new(
                    Kind::Conflict,
                    format!("{MAX_LINE} are in line, as many as may be."),
                ));
            }
            // In line by now, or the campaign has changed: looked at again.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new(Kind::Unavailable, "The campaign is being changed; try again.").with_retry_after(1))
}

fn joining<S>(world: &World<'_, S>, campaign: &Campaign, version: u64, user: &str) -> Commit {
    let id = campaign.id.as_str();
    let token = ids::token(&(world.fresh)(), ids::ID_LENGTH);
    let place = Place {
        user: user.to_owned(),
        claim: token.clone(),
        since: world.now,
    };
    let key = [
        &Campaign::line_prefix(id),
        &*format!("{:012x}", world.now),
        &token,
    ]
    .concat();
    let set = |key: String, value: Vec<u8>| Mutation::Set {
        key,
        value: literal(value),
        expires: None,
    };
    let record = serde_json::to_vec(&place).expect("our own types hold string keys only, so they serialise");
    Commit {
        partition: Campaign::partition(id),
        conditions: vec![
            Condition::Version {
                key: Campaign::partition(id),
                version,
            },
            Condition::Absent(Campaign::waiter_key(id, user)),
        ],
        mutations: vec![
            Mutation::Add {
                key: Campaign::waiting_key(id),
                delta: 1,
                min: None,
                max: i64::try_from(MAX_LINE).ok(),
            },
            set(key.clone(), record),
            set(Campaign::waiter_key(id, user), key.into_bytes()),
        ],
        ..Commit::default()
    }
}

/// `GET /api/campaigns/{id}/waitlist`: 200, with the user's place if it has one.
pub(super) async fn read<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let (campaign, _, user) = asked(world, request, id).await?;
    serve(world.store, id, world.now).await?;
    Ok(Response::json(200, &place(world.store, &campaign, &user).await?))
}

/// `DELETE /api/campaigns/{id}/waitlist`: 204, also for a user that is not in line.
pub(super) async fn leave<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    let (campaign, _, user) = asked(world, request, id).await?;
    for _ in 0..ATTEMPTS {
        let Some((key, version)) = place_key(world.store, &campaign, &user).await? else {
            return Ok(Response::empty(204));
        };
        match world.store.commit(leaving(id, &user, &key, version)).await {
            Ok(Outcome::Committed(_)) => return Ok(Response::empty(204)),
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new(Kind::Unavailable, "The campaign is being changed; try again.").with_retry_after(1))
}

/// Takes a place away. `version`: that of its `waiter`.
fn leaving(id: &str, user: &str, key: &str, version: u64) -> Commit {
    let waiter = Campaign::waiter_key(id, user);
    Commit {
        partition: Campaign::partition(id),
        conditions: vec![Condition::Version {
            key: waiter.clone(),
            version,
        }],
        mutations: gone(id, waiter, key).to_vec(),
        ..Commit::default()
    }
}

/// A place is there no more.
fn gone(id: &str, waiter: String, key: &str) -> [Mutation; 3] {
    [
        Mutation::Delete { key: key.to_owned() },
        Mutation::Delete { key: waiter },
        Mutation::Add {
            key: Campaign::waiting_key(id),
            delta: -1,
            min: Some(0),
            max: None,
        },
    ]
}

/// The key of a user's place, and the version of what leads to it.
async fn place_key<S: Store>(
    store: &S,
    campaign: &Campaign,
    user: &str,
) -> Result<Option<(String, u64)>, StoreError> {
    let key = Campaign::waiter_key(&campaign.id, user);
    let found = store.get(&Campaign::partition(&campaign.id), &[key]).await?;
    let entry = found.into_iter().next().flatten();
    Ok(entry.and_then(|entry| Some((String::from_utf8(entry.value).ok()?, entry.version))))
}

async fn waiting<S: Store>(store: &S, id: &str) -> Result<u64, StoreError> {
    let found = store
        .get(&Campaign::partition(id), &[Campaign::waiting_key(id)])
        .await?;
    stored::count("number of those in line", found.first().and_then(Option::as_ref))
}

async fn place<S: Store>(store: &S, campaign: &Campaign, user: &str) -> Result<PlaceView, StoreError> {
    let id = campaign.id.as_str();
    let waiting = waiting(store, id).await?;
    let (mut position, mut since) = (None, None);
    if let Some((key, _)) = place_key(store, campaign, user).await? {
        let line = store.scan(&Campaign::line_prefix(id), None, MAX_PAGE).await?;
        position = line
            .iter()
            .position(|item| item.key == key)
            .map(|index| index + 1);
        let found = store.get(&Campaign::partition(id), &[key]).await?;
        if let Some(entry) = found.first().and_then(Option::as_ref) {
            since = Some(stored::decode::<Place>("place in line", entry)?.since);
        }
    }
    Ok(PlaceView {
        position,
        since,
        waiting,
    })
}

/// Gives what is left of a campaign's stock to those in line, a bounded number of them. How many still wait.
pub(super) async fn serve<S: Store>(store: &S, id: &str, now: u64) -> Result<u64, StoreError> {
    let mut now = now;
    for _ in 0..SERVED {
        let still = waiting(store, id).await?;
        let Some((campaign, version)) = record::load_record(store, id).await? else {
            return Ok(0);
        };
        let (Some(seconds), true, None) = (campaign.hold_seconds, still > 0, campaign.removed_at) else {
            return Ok(still);
        };
        let left = store
            .get(&Campaign::partition(id), &[Campaign::remaining_key(id)])
            .await?;
        if stored::count("number of units left", left.first().and_then(Option::as_ref))? == 0 {
            return Ok(still);
        }
        let first = store.scan(&Campaign::line_prefix(id), None, 1).await?;
        let Some(first) = first.first() else { continue };
        let place = entry_of(first)?;
        let hold = Hold::new(now, seconds);
        match store
            .commit(claiming(&campaign, version, first, &place, &hold))
            .await
        {
            Ok(Outcome::Refused(Refusal::Condition(WINDOW))) => return Ok(still),
            Ok(Outcome::Refused(Refusal::Condition(SHORT))) => {
                now = now.max(holds::store_time(store, &campaign).await?);
            }
            // The user has claimed meanwhile as much as it may: the place is another's.
            Ok(Outcome::Refused(Refusal::Condition(HAS_ONE) | Refusal::Mutation(COUNT))) => {
                if let Some((key, version)) = place_key(store, &campaign, &place.user).await?
                    && key == first.key
                {
                    store.commit(leaving(id, &place.user, &key, version)).await?;
                }
            }
            // Another was faster, or something has changed: looked at again.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    waiting(store, id).await
}

/// The conditions of [`claiming`] that say more than that it is to be looked at again.
const WINDOW: u32 = 2;
const SHORT: u32 = 3;
const HAS_ONE: u32 = 4;
/// The mutation that counts the user's units, where it may have several.
const COUNT: u32 = 2;

/// Makes a place a claim that is held.
fn claiming(campaign: &Campaign, version: u64, first: &Item, place: &Place, hold: &Hold) -> Commit {
    let id = campaign.id.as_str();
    let (user, claim) = (place.user.as_str(), place.claim.as_str());
    let (record, announcement) = documents::held_documents(campaign, user, claim, hold);
    let key = campaign.claim_key(user, claim);
    let add = |key, delta, min, max| Mutation::Add { key, delta, min, max };
    let mut mutations = vec![
        add(Campaign::sequence_key(id), 1, None, None),
        add(Campaign::remaining_key(id), -1, Some(0), None),
    ];
    if campaign.per_user > 1 {
        let most = i64::try_from(campaign.per_user).ok();
        mutations.push(add(Campaign::count_key(id, user), 1, None, most));
    }
    mutations.push(Mutation::Set {
        key: key.clone(),
        value: record,
        expires: None,
    });
    mutations.extend(hold.mutations(campaign, user, claim, 1));
    mutations.extend(gone(id, Campaign::waiter_key(id, user), &first.key));
    Commit {
        partition: Campaign::partition(id),
        conditions: vec![
            Condition::Version {
                key: first.key.clone(),
                version: first.entry.version,
            },
            Condition::Version {
                key: Campaign::partition(id),
                version,
            },
            claim::window(campaign),
            hold.is_long_enough(),
            Condition::Absent(key),
        ],
        mutations,
        appends: vec![Append {
            topic: campaign.topic.clone(),
            id: claim.to_owned(),
            key: user.to_owned(),
            kind: Status::Held.message().into(),
            content_type: "application/json".into(),
            attributes: attributes::write(None, None),
            payload: announcement,
        }],
        ..Commit::default()
    }
}

/// Gives back holds that have ended, and what is left to those in line: a bounded part, of all campaigns. `true`: there is more. To be
/// called again after an error.
///
/// # Errors
/// Those of the store.
pub async fn maintain<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let has_more = holds::maintain(store, now).await?;
    let mut after: Option<String> = None;
    for _ in 0..PAGES {
        let items = store.scan(WAITING, after.as_deref(), MAX_PAGE).await?;
        let Some(last) = items.last() else { break };
        after = Some(last.key.clone());
        for item in &items {
            let id = item.key.strip_prefix(WAITING).unwrap_or_default();
            if stored::count("number of those in line", Some(&item.entry))? > 0 {
                serve(store, id, now).await?;
            }
        }
    }
    Ok(has_more)
}
