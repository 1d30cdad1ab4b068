//! Holds: a claim that its user has until it expires, and what becomes of it.
//!
//! In a campaign with `holdSeconds` a claim is held. It is confirmed, released, revoked, or it expires: each is one commit
//! under the condition that the claim is still the one that was read, so exactly one of them happens. Until its end a hold
//! can be confirmed and released; from the very millisecond of its end on it can expire. The store's clock decides, in that
//! same commit, and it never runs backwards. So a unit is back exactly once, or confirmed exactly once.
//!
//! Nothing has to happen at a hold's end. It is given back by whoever needs its unit ([`make_room`]), by whoever asks for the
//! claim too late, and by the sweep ([`maintain`]), which only makes units visible sooner.
//!
//! With the claim, in the same commit, are written:
//! - the counter `held/<campaign>`;
//! - `hold/<campaign>/<end>/<claim>`, while it is held: the holds in the order of their ends;
//! - `holder/<campaign>/<claim>`: whose it is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::record::{Campaign, Claim, Codes, KEEP_RETURNED_MS, Status, load};
use tollgate_api::time;
use tollgate_store::commit::{
    Append, Commit, Condition, Entry, Idempotence, Item, Mutation, Outcome, Refusal, StoreError, Template,
    literal,
};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// A hold is at most this much shorter than it should be, in milliseconds: for so long its claim may be on its way.
const MAX_SHORTER_MS: u64 = 1_000;
/// Holds that a claim looks at that needs a unit.
const LOOKED_AT: u32 = 16;
/// Holds that it tries to give back before it is tried again.
const TRIES: usize = 4;
/// Holds that one step of the sweep gives back.
const BATCH: usize = 64;
/// Campaigns that one step of the sweep looks at.
const CAMPAIGNS: usize = 256;
/// The prefix of the holds in the order of their ends.
const PREFIX: &str = "hold/";
const TIME_DIGITS: usize = 12;

/// A hold to be.
pub(super) struct Hold {
    ends: u64,
    /// By when the claim must be decided, lest the hold be short.
    latest: u64,
    /// When it ends, RFC 3339.
    pub(super) text: String,
}

impl Hold {
    /// One of so many seconds, from `now` on.
    pub(super) fn new(now: u64, seconds: u64) -> Self {
        let length = seconds.saturating_mul(1_000);
        let ends = now.saturating_add(length).min(time::MAX_TIME);
        Self {
            ends,
            latest: now.saturating_add(MAX_SHORTER_MS.min(length / 2)),
            text: time::format(ends),
        }
    }

    /// The store's clock must not be much further than ours.
    pub(super) fn is_long_enough(&self) -> Condition {
        Condition::NowIn {
            start: None,
            end: Some(self.latest),
        }
    }

    /// What a claim that is held writes besides itself.
    pub(super) fn mutations(
        &self,
        campaign: &Campaign,
        user: &str,
        claim: &str,
        units: u64,
    ) -> [Mutation; 3] {
        let set = |key| Mutation::Set {
            key,
            value: literal(user),
            expires: None,
        };
        [
            add(Campaign::held_key(&campaign.id), signed(units)),
            set(key(&campaign.id, self.ends, claim)),
            set(Campaign::holder_key(&campaign.id, claim)),
        ]
    }
}

/// Units as they are added: at most `MAX_PER_USER`.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn add(key: String, delta: i64) -> Mutation {
    let min = (delta < 0).then_some(0);
    Mutation::Add {
        key,
        delta,
        min,
        max: None,
    }
}

fn prefix(campaign: &str) -> String {
    [PREFIX, campaign, "/"].concat()
}

fn key(campaign: &str, ends: u64, claim: &str) -> String {
    format!("{PREFIX}{campaign}/{ends:0TIME_DIGITS$x}/{claim}")
}

/// The condition of a change that is about its code: it comes after those about a claim that is held.
pub(super) const CODE: u32 = 2;

/// A hold's key, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Due<'a> {
    campaign: &'a str,
    ends: u64,
    claim: &'a str,
}

impl<'a> Due<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let mut parts = key.strip_prefix(PREFIX)?.split('/');
        let (campaign, ends, claim) = (parts.next()?, parts.next()?, parts.next()?);
        let ends = u64::from_str_radix(ends, 16).ok()?;
        parts.next().is_none().then_some(Self {
            campaign,
            ends,
            claim,
        })
    }
}

/// The store's clock, Unix milliseconds, by a commit that changes nothing.
pub(super) async fn store_time<S: Store>(store: &S, campaign: &Campaign) -> Result<u64, StoreError> {
    let nothing = Commit {
        partition: Campaign::partition(&campaign.id),
        ..Commit::default()
    };
    match store.commit(nothing).await? {
        Outcome::Committed(done) => Ok(done.time),
        _ => Ok(0),
    }
}

/// A claim as it was read.
pub(super) struct Found {
    key: String,
    version: u64,
    pub(super) claim: Claim,
}

/// A user's claim with this id; `None` if there is none.
pub(super) async fn find<S: Store>(
    store: &S,
    campaign: &Campaign,
    user: &str,
    id: &str,
) -> Result<Option<Found>, StoreError> {
    let mut keys = vec![campaign.claim_key(user, id), campaign.returned_key(user, id)];
    keys.dedup();
    let partition = Campaign::partition(&campaign.id);
    let entries = store.get_each(&partition, &keys).await?;
    if let Some(found) = found(&keys, entries, id)? {
        return Ok(Some(found));
    }
    // It may have gone from one place to the other between two moments.
    found(&keys, store.get(&partition, &keys).await?, id)
}

fn found(keys: &[String], entries: Vec<Option<Entry>>, id: &str) -> Result<Option<Found>, StoreError> {
    for (key, entry) in keys.iter().zip(entries) {
        let Some(entry) = entry else { continue };
        let claim: Claim = stored::decode("claim", &entry)?;
        if claim.id == id {
            return Ok(Some(Found {
                key: key.clone(),
                version: entry.version,
                claim,
            }));
        }
    }
    Ok(None)
}

/// The user to whom a claim belongs, where claims are held.
pub(super) async fn holder<S: Store>(
    store: &S,
    campaign: &str,
    claim: &str,
) -> Result<Option<String>, StoreError> {
    let key = Campaign::holder_key(campaign, claim);
    let found = store.get(&Campaign::partition(campaign), &[key]).await?;
    Ok(found.into_iter().flatten().next().and_then(text))
}

fn text(entry: Entry) -> Option<String> {
    String::from_utf8(entry.value).ok()
}

/// What a change of a claim comes with.
#[derive(Default)]
pub(super) struct With {
    pub(super) idempotence: Option<Idempotence>,
    /// The attributes of its message.
    pub(super) attributes: Vec<u8>,
    /// What takes its code from those that were imported: a condition, and a mutation.
    pub(super) taking: Option<(Condition, Mutation)>,
}

/// A claim as it is after a change. `code`: the one that it gets.
pub(super) fn changed(claim: &Claim, to: Status, code: Option<String>) -> Claim {
    let mut after = claim.clone();
    after.status = to;
    if to == Status::Confirmed {
        after.code = code;
        after.expires_at = None;
    }
    after
}

/// Turns a claim into `after`, in one commit. Its refusals: condition 0, it is no longer the one that was read; condition 1,
/// too late, or too early for its end; condition [`CODE`], another has the code.
pub(super) fn change(campaign: &Campaign, found: &Found, after: &Claim, now: u64, with: With) -> Commit {
    let Found { key, version, claim } = found;
    let (id, user) = (campaign.id.as_str(), claim.user.as_str());
    let mut conditions = vec![Condition::Version {
        key: key.clone(),
        version: *version,
    }];
    let ends = claim.hold_ends();
    if let Some(ends) = ends {
        let (start, end) = match after.status {
            Status::Confirmed | Status::Released => (None, Some(ends)),
            Status::Expired => (Some(ends), None),
            Status::Held | Status::Revoked => (None, None),
        };
        conditions.push(Condition::NowIn { start, end });
    }
    let (taken, taking) = with.taking.unzip();
    conditions.extend(taken);
    let set = |key, value, expires| Mutation::Set { key, value, expires };
    let units = signed(claim.units);
    let record = json(after);
    let mut mutations: Vec<Mutation> = taking.into_iter().collect();
    if after.status.is_live() {
        mutations.push(set(key.clone(), record, None));
    } else {
        let kept_until = Some(now.saturating_add(KEEP_RETURNED_MS));
        let place = campaign.returned_key(user, &claim.id);
        if place != *key {
            mutations.push(Mutation::Delete { key: key.clone() });
        }
        mutations.push(set(place, record, kept_until));
        if campaign.codes == Codes::Import && claim.code.is_some() {
            // Its code was shown: it is nobody else's any more.
            mutations.push(add(Campaign::burnt_key(id), units));
        } else {
            mutations.push(add(Campaign::remaining_key(id), units));
            mutations.push(add(Campaign::released_key(id), units));
        }
        if campaign.per_user > 1 {
            mutations.push(add(Campaign::count_key(id, user), -units));
        }
        if campaign.hold_seconds.is_some() {
            let holder = Campaign::holder_key(id, &claim.id);
            mutations.push(set(holder, literal(user), kept_until));
        }
    }
    if let Some(ends) = ends {
        mutations.push(add(Campaign::held_key(id), -units));
        mutations.push(Mutation::Delete {
            key: self::key(id, ends, &claim.id),
        });
    }
    Commit {
        partition: Campaign::partition(id),
        idempotence: with.idempotence,
        conditions,
        mutations,
        appends: vec![Append {
            topic: campaign.topic.clone(),
            // A claim is confirmed, released, expired or revoked at most once each.
            id: [&claim.id, "-", after.status.name()].concat(),
            key: user.to_owned(),
            kind: after.status.message().to_owned(),
            content_type: "application/json".to_owned(),
            attributes: with.attributes,
            payload: json(&after.announcement()),
        }],
    }
}

/// A document all of whose numbers are known.
fn json(document: &impl Serialize) -> Template {
    let text = serde_json::to_vec(document);
    literal(text.expect("our own types hold string keys only, so they serialise"))
}

/// Gives a hold back that has ended. `true` if this was done just now, whoever did it.
pub(super) async fn expire<S: Store>(
    store: &S,
    campaign: &Campaign,
    user: &str,
    claim: &str,
    now: u64,
) -> Result<bool, StoreError> {
    let Some(found) = find(store, campaign, user, claim).await? else {
        return Ok(false);
    };
    if found.claim.status != Status::Held {
        return Ok(true);
    }
    let after = changed(&found.claim, Status::Expired, None);
    let outcome = store
        .commit(change(campaign, &found, &after, now, With::default()))
        .await?;
    // Condition 1: by the store's clock it has not ended yet.
    Ok(outcome != Outcome::Refused(Refusal::Condition(1)))
}

/// What there is for a claim when too little remains.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Units came back just now.
    Made,
    /// Too little, and nothing is held.
    Full {
        /// Units that are left.
        left: u64,
    },
    /// Too little yet.
    Held {
        /// Units that are held.
        units: u64,
        /// Units that are left.
        left: u64,
        /// When the next of these holds ends, in milliseconds.
        wait_ms: u64,
    },
}

/// Gives back a few of a campaign's holds that have ended, for a claim of so many units. `pick`: any number, so that not all who need a unit try the same.
pub(super) async fn make_room<S: Store>(
    store: &S,
    campaign: &Campaign,
    now: u64,
    pick: usize,
    units: u64,
) -> Result<Room, StoreError> {
    let counted = counts(store, campaign).await?;
    if let Some(room) = counted.room(units) {
        return Ok(room);
    }
    let items = store.scan(&prefix(&campaign.id), None, LOOKED_AT).await?;
    let dues: Vec<(Due<'_>, &Item)> = items
        .iter()
        .filter_map(|item| Some((Due::of(&item.key)?, item)))
        .collect();
    let over = dues.iter().take_while(|(due, _)| due.ends <= now).count();
    let mut made = false;
    for (due, item) in dues
        .iter()
        .take(over)
        .cycle()
        .skip(pick % over.max(1))
        .take(TRIES.min(over))
    {
        let Some(user) = text(item.entry.clone()) else {
            continue;
        };
        made |= expire(store, campaign, &user, due.claim, now).await?;
        if made && units == 1 {
            break;
        }
    }
    if made {
        return Ok(Room::Made);
    }
    // Counted again: a hold that was counted before the look may have come back before it, and was not seen.
    let counted = counts(store, campaign).await?;
    let next = dues.get(over).map_or(now, |(due, _)| due.ends);
    Ok(counted.room(units).unwrap_or(Room::Held {
        units: counted.held,
        left: counted.left,
        wait_ms: next.saturating_sub(now),
    }))
}

/// When the next of a campaign's holds ends, Unix milliseconds; `None` if nothing is held.
pub(super) async fn next_end<S: Store>(store: &S, campaign: &Campaign) -> Result<Option<u64>, StoreError> {
    let first = store.scan(&prefix(&campaign.id), None, 1).await?;
    Ok(first.first().and_then(|item| Some(Due::of(&item.key)?.ends)))
}

/// The units of a campaign that are held, and those that are left.
struct Counts {
    held: u64,
    left: u64,
}

impl Counts {
    /// What there is for a claim of so many units, unless it depends on the holds.
    fn room(&self, units: u64) -> Option<Room> {
        match (self.left, self.held) {
            (left, _) if left >= units => Some(Room::Made),
            (left, 0) => Some(Room::Full { left }),
            _ => None,
        }
    }
}

/// Both at one moment: between two, a unit may come back that neither has seen.
async fn counts<S: Store>(store: &S, campaign: &Campaign) -> Result<Counts, StoreError> {
    let id = campaign.id.as_str();
    let keys = [Campaign::held_key(id), Campaign::remaining_key(id)];
    let found = store.get(&Campaign::partition(id), &keys).await?;
    let mut counts = found.iter().map(Option::as_ref);
    let mut count = |what| stored::count(what, counts.next().flatten());
    Ok(Counts {
        held: count("number of units held")?,
        left: count("number of units left")?,
    })
}

/// Gives back a bounded number of holds that have ended, of all campaigns. `true`: there is more. To be called again after an
/// error.
///
/// # Errors
/// Those of the store.
pub async fn maintain<S: Store>(store: &S, now: u64) -> Result<bool, StoreError> {
    let mut campaigns: BTreeMap<String, Option<Campaign>> = BTreeMap::new();
    let mut after: Option<String> = None;
    let mut left = BATCH;
    // Each scan leads to another campaign, or gives back what it has found.
    for _ in 0..CAMPAIGNS {
        let items = store.scan(PREFIX, after.as_deref(), LOOKED_AT).await?;
        let Some(last) = items.last() else {
            return Ok(false);
        };
        after = Some(last.key.clone());
        for item in &items {
            let Some(due) = Due::of(&item.key) else { continue };
            if due.ends > now {
                // Those behind it end later: on to the next campaign. No key of this one comes after a `~`.
                after = Some(prefix(due.campaign) + "~");
                break;
            }
            if left == 0 {
                return Ok(true);
            }
            left -= 1;
            if !campaigns.contains_key(due.campaign) {
                let found = load(store, due.campaign).await?;
                // A copy: what is shared stays on its thread, and this may move to another.
                let campaign = found.map(|live| Campaign::clone(&live.campaign));
                campaigns.insert(due.campaign.to_owned(), campaign);
            }
            let campaign = campaigns.get(due.campaign).and_then(Option::as_ref);
            let (Some(campaign), Some(user)) = (campaign, text(item.entry.clone())) else {
                continue;
            };
            match expire(store, campaign, &user, due.claim, now).await {
                // What is damaged holds nothing else up.
                Ok(_) | Err(StoreError::Invalid(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_sort_by_their_end_and_read_back() {
        let first = key("a-b", 9, "id");
        assert!(first < key("a-b", 10, "id") && key("a-b", u64::from(u32::MAX), "id") < prefix("a-b") + "~");
        assert!(!key("a", 1, "id").starts_with(&prefix("a-b")) && prefix("a-b") + "~" < key("a", 1, "id"));
        let due = Due {
            campaign: "a-b",
            ends: 9,
            claim: "id",
        };
        assert_eq!(Due::of(&first), Some(due));
        for bad in ["hold/a/x/id", "hold/a/9", "hold/a/9/id/more", "holder/a/id"] {
            assert_eq!(Due::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hold_is_hardly_ever_shorter_than_it_says() {
        for (seconds, margin) in [(1, 500), (2, 1_000), (600, 1_000)] {
            let hold = Hold::new(5_000, seconds);
            assert_eq!(
                (hold.ends, hold.latest),
                (5_000 + seconds * 1_000, 5_000 + margin)
            );
            assert_eq!(time::parse(&hold.text), Some(hold.ends));
        }
    }
}
