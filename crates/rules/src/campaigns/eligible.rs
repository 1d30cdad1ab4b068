//! The list of who may claim, where a campaign has one: an entry for each user, so that a claim looks at one key.
//!
//! The entries belong to a list with an id, which the campaign's record names. A list is replaced by writing another beside it, and
//! then the record: so at every moment the whole of one list counts. A list that no record names any more is removed later
//! ([`super::remove`]).
//!
//! Beside it, or in its place, the record may say what a user's JWT has to say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::record::{self, Campaign, EligibleClaim, Live, load};
use super::unknown;
use crate::identity;
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::ids;
use tollgate_api::json;
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Entry, Mutation, Outcome, Refusal, StoreError, literal};
use tollgate_store::ports::Store;

/// Users of a call, those to add and those to remove together.
pub const MAX_USERS: usize = 10_000;
/// Users of one commit.
const BATCH: usize = 60;
/// How often a change is tried against concurrent changes of the same campaign.
const ATTEMPTS: usize = 4;
/// Characters of a list's id.
const ID_LENGTH: usize = 8;
/// After so long a list that no record names is left over, in milliseconds: no call takes as long.
const LEFT_OVER_MS: u64 = 60 * 60 * 1_000;

/// A change of the list.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "EligibleChange")
)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Users that may claim from now on. Where everybody may, they are a list from now on.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("maxItems" = MAX_USERS)))]
    add: Vec<String>,
    /// Users that may not any more. What they have claimed stays.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("maxItems" = MAX_USERS)))]
    remove: Vec<String>,
    /// The whole list, in place of what there is, at one moment; null: everybody may.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    replace: Option<Option<Vec<String>>>,
    /// What a user's JWT must say, beside the list if there is one; null: anything. Goes with nothing else. Needs `[users.jwt]`.
    #[serde(default, deserialize_with = "json::patch")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<ClaimRule>"))]
    claim: Option<Option<ClaimRule>>,
}

/// A claim of a JWT, and what it has to be: `value`, or one of `values`. One that is a list has to have one of them in it.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "EligibleClaim")
)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimRule {
    /// 1 to 64 characters.
    name: String,
    /// 1 to 128 characters.
    #[serde(default)]
    value: Option<String>,
    /// At most 32.
    #[serde(default)]
    values: Option<Vec<String>>,
}

/// The longest name of a claim, and the longest value, characters.
const MAX_CLAIM_NAME: usize = 64;
const MAX_CLAIM_VALUE: usize = 128;
/// The most values.
const MAX_CLAIM_VALUES: usize = 32;

impl ClaimRule {
    fn checked(self) -> Result<EligibleClaim, Problem> {
        let within = |text: &str, most: usize| (1..=most).contains(&text.chars().count());
        if !within(&self.name, MAX_CLAIM_NAME) {
            return Err(Problem::field(
                "#/claim/name",
                format!("must be 1 to {MAX_CLAIM_NAME} characters"),
            ));
        }
        let (at, values) = match (self.value, self.values) {
            (Some(value), None) => ("#/claim/value", vec![value]),
            (None, Some(values)) => ("#/claim/values", values),
            (Some(_), Some(_)) => return Err(Problem::field("#/claim/values", "does not go with value")),
            (None, None) => return Err(Problem::field("#/claim/value", "is missing")),
        };
        if !(1..=MAX_CLAIM_VALUES).contains(&values.len()) {
            return Err(Problem::field(
                at,
                format!("must be 1 to {MAX_CLAIM_VALUES} texts"),
            ));
        }
        if !values.iter().all(|value| within(value, MAX_CLAIM_VALUE)) {
            return Err(Problem::field(
                at,
                format!("must be 1 to {MAX_CLAIM_VALUE} characters each"),
            ));
        }
        Ok(EligibleClaim {
            name: self.name,
            values,
        })
    }
}

/// What a change has done.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "EligibleChanged")
)]
pub(super) struct Changed {
    /// Whether only those of the list may claim.
    restricted: bool,
    /// Users that were written into the list, whether or not they were there.
    added: usize,
    /// Users that were taken from it, whether or not they were there.
    removed: usize,
}

impl Change {
    /// What it says, without repetitions.
    fn checked(self) -> Result<Checked, Problem> {
        if let Some(claim) = self.claim {
            if !self.add.is_empty() || !self.remove.is_empty() || self.replace.is_some() {
                return Err(Problem::field(
                    "#/claim",
                    "goes with neither add, remove nor replace",
                ));
            }
            return Ok(Checked::Claim(claim.map(ClaimRule::checked).transpose()?));
        }
        let (add, remove) = (users("#/add", self.add)?, users("#/remove", self.remove)?);
        if add.len() + remove.len() > MAX_USERS {
            let rule = format!("must be at most {MAX_USERS} users with those of #/add");
            return Err(Problem::field("#/remove", rule));
        }
        if let Some(both) = add.intersection(&remove).next() {
            let at = remove.iter().position(|user| user == both).unwrap_or(0);
            return Err(Problem::field(format!("#/remove/{at}"), "is in #/add, too"));
        }
        match self.replace {
            Some(_) if !add.is_empty() || !remove.is_empty() => {
                Err(Problem::field("#/replace", "goes with neither add nor remove"))
            }
            Some(None) => Ok(Checked::Everybody),
            Some(Some(all)) => Ok(Checked::Replace(users("#/replace", all)?)),
            None => Ok(Checked::Change { add, remove }),
        }
    }
}

/// A change that keeps the rules.
enum Checked {
    Claim(Option<EligibleClaim>),
    Everybody,
    Replace(BTreeSet<String>),
    Change {
        add: BTreeSet<String>,
        remove: BTreeSet<String>,
    },
}

fn users(at: &str, users: Vec<String>) -> Result<BTreeSet<String>, Problem> {
    if users.len() > MAX_USERS {
        return Err(Problem::field(at, format!("must be at most {MAX_USERS} users")));
    }
    for (index, user) in users.iter().enumerate() {
        if !identity::is_id(user) {
            let rule = format!(
                "must be a user's id: 1 to {} visible ASCII characters",
                identity::MAX_ID_CHARS
            );
            return Err(Problem::field(format!("{at}/{index}"), rule));
        }
    }
    Ok(users.into_iter().collect())
}

/// `PUT /api/campaigns/{id}/eligible`: 200. It is applied in batches; a call that failed can be repeated. A list is replaced at one
/// moment.
pub(super) async fn put<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    id: &str,
) -> Result<Response, Problem> {
    may_send_many(world, request).await?;
    let change = json::body::<Change>(request)?.checked()?;
    if matches!(change, Checked::Claim(Some(_))) && world.settings.jwt.is_none() {
        return Err(Problem::field(
            "#/claim",
            "needs [users.jwt]: users have no tokens here",
        ));
    }
    for _ in 0..ATTEMPTS {
        let live = load(world.store, id).await?.ok_or_else(|| unknown(id))?;
        let list = live.campaign.eligible.clone();
        let done = match (&change, list) {
            (Checked::Claim(claim), _) => {
                let after = Campaign {
                    eligible_claim: claim.clone(),
                    ..(*live.campaign).clone()
                };
                let restricted = after.is_restricted();
                if !write_record(world, &live, vec![record::set(&after)]).await? {
                    continue;
                }
                return Ok(changed(restricted, 0, 0));
            }
            (Checked::Everybody, _) => switch(world, &live, None).await?.then_some((0, 0)),
            (Checked::Replace(all), _) => replace(world, &live, all).await?.then_some((all.len(), 0)),
            // Where everybody may claim, there is no list to take somebody from.
            (Checked::Change { add, remove }, None) if add.is_empty() => {
                if !remove.is_empty() {
                    let rule = "must be empty where everybody may claim: replace sets a list";
                    return Err(Problem::field("#/remove", rule));
                }
                Some((0, 0))
            }
            (Checked::Change { add, remove }, None) => replace(world, &live, add)
                .await?
                .then_some((add.len(), remove.len())),
            (Checked::Change { add, remove }, Some(list)) => {
                let added = write(world, &live, &list, add, true).await?;
                let done = added && write(world, &live, &list, remove, false).await?;
                done.then_some((add.len(), remove.len()))
            }
        };
        if let Some((added, removed)) = done {
            let has_list = !matches!(change, Checked::Everybody)
                && (live.campaign.eligible.is_some() || added > 0 || matches!(change, Checked::Replace(_)));
            let restricted = has_list || live.campaign.eligible_claim.is_some();
            return Ok(changed(restricted, added, removed));
        }
    }
    Err(Problem::new(
        Kind::Conflict,
        "The campaign is being changed by others; try again.",
    ))
}

fn changed(restricted: bool, added: usize, removed: usize) -> Response {
    Response::json(
        200,
        &Changed {
            restricted,
            added,
            removed,
        },
    )
}

/// Whether a request about many users may be sent; asked before its body is read.
///
/// # Errors
/// Those of the credential: 401, 403, or of the store.
pub async fn may_send_many<S: Store>(world: &World<'_, S>, request: &Request) -> Result<(), Problem> {
    keys::require(world.store, request, world.now, Scope::Campaigns)
        .await
        .map(drop)
}

/// Writes a new list, and makes it the campaign's. `false`: the campaign was changed meanwhile.
async fn replace<S: Store>(
    world: &World<'_, S>,
    live: &Live,
    all: &BTreeSet<String>,
) -> Result<bool, Problem> {
    let list = ids::token(&(world.fresh)(), ID_LENGTH);
    let campaign = live.campaign.id.as_str();
    // Nobody knows of it yet: whatever becomes of this call, it is not left over.
    let marked = Commit {
        partition: Campaign::partition(campaign),
        mutations: vec![left_over(campaign, &list, world.now)],
        ..Commit::default()
    };
    world.store.commit(marked).await?;
    Ok(write(world, live, &list, all, true).await? && switch(world, live, Some(list)).await?)
}

/// Marks a list as one that no record names.
fn left_over(campaign: &str, list: &str, now: u64) -> Mutation {
    Mutation::Set {
        key: Campaign::left_over_key(campaign, list),
        value: literal(now.saturating_add(LEFT_OVER_MS).to_string()),
        expires: None,
    }
}

/// Makes this list the campaign's; `None`: everybody may claim. `false`: the campaign was changed meanwhile.
async fn switch<S: Store>(world: &World<'_, S>, live: &Live, list: Option<String>) -> Result<bool, Problem> {
    let before = &*live.campaign;
    let mut mutations = Vec::new();
    if let Some(list) = &list {
        mutations.push(Mutation::Delete {
            key: Campaign::left_over_key(&before.id, list),
        });
    }
    if let Some(old) = &before.eligible {
        mutations.push(left_over(&before.id, old, world.now));
    }
    let after = Campaign {
        eligible: list,
        ..before.clone()
    };
    mutations.push(record::set(&after));
    write_record(world, live, mutations).await
}

/// Makes these changes, with that of the record. `false`: the campaign was changed meanwhile.
async fn write_record<S: Store>(
    world: &World<'_, S>,
    live: &Live,
    mutations: Vec<Mutation>,
) -> Result<bool, Problem> {
    let commit = Commit {
        partition: Campaign::partition(&live.campaign.id),
        conditions: vec![as_it_was_read(live)],
        mutations,
        ..Commit::default()
    };
    match world.store.commit(commit).await {
        Ok(outcome) => Ok(matches!(outcome, Outcome::Committed(_))),
        // If it was made, the next attempt does the same again.
        Err(StoreError::Unknown(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn as_it_was_read(live: &Live) -> Condition {
    Condition::Version {
        key: Campaign::partition(&live.campaign.id),
        version: live.version,
    }
}

/// Writes these users into a list, or takes them from it. `false`: the campaign was changed meanwhile.
async fn write<S: Store>(
    world: &World<'_, S>,
    live: &Live,
    list: &str,
    users: &BTreeSet<String>,
    add: bool,
) -> Result<bool, Problem> {
    let campaign = live.campaign.id.as_str();
    let users: Vec<&String> = users.iter().collect();
    let commits = users.chunks(BATCH).map(|users| Commit {
        partition: Campaign::partition(campaign),
        conditions: vec![as_it_was_read(live)],
        mutations: users
            .iter()
            .map(|user| {
                let key = Campaign::eligible_key(campaign, list, user);
                match add {
                    true => Mutation::Set {
                        key,
                        value: literal(""),
                        expires: None,
                    },
                    false => Mutation::Delete { key },
                }
            })
            .collect(),
        ..Commit::default()
    });
    for outcome in world.store.commit_each(commits.collect()).await {
        match outcome {
            Ok(Outcome::Committed(_)) => {}
            Ok(Outcome::Refused(Refusal::Condition(_))) | Err(StoreError::Unknown(_)) => return Ok(false),
            Ok(_) => {
                return Err(Problem::new(
                    Kind::Internal,
                    "The store refused what it cannot refuse.",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// How a user stands with a campaign's list.
pub(super) enum Listed {
    /// The user may: there is no list.
    NoList,
    /// The user may, as long as this holds.
    As(Condition),
    /// The user may not.
    Not,
}

/// Whether the user may claim.
pub(super) async fn look_up<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    campaign: &Campaign,
    user: &str,
) -> Result<Listed, StoreError> {
    if let Some(claim) = &campaign.eligible_claim {
        // The token is good: the user is who it names.
        let jwt = world.settings.jwt.as_ref();
        let token = jwt.and_then(|jwt| jwt.shown(request, world.now).ok().flatten());
        if !token.is_some_and(|token| token.says(&claim.name, &claim.values)) {
            return Ok(Listed::Not);
        }
    }
    let Some(list) = &campaign.eligible else {
        return Ok(Listed::NoList);
    };
    let key = Campaign::eligible_key(&campaign.id, list, user);
    let found = world
        .store
        .get(&Campaign::partition(&campaign.id), std::slice::from_ref(&key))
        .await?;
    Ok(match found.into_iter().next().flatten() {
        Some(Entry { version, .. }) => Listed::As(Condition::Version { key, version }),
        None => Listed::Not,
    })
}

/// The 403 of a user that is not on the list.
pub(super) fn not_eligible(campaign: &Campaign) -> Problem {
    Problem::new(
        Kind::NotEligible,
        format!("The campaign {} is for others.", campaign.id),
    )
}
