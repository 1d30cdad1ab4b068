//! The records of a campaign and its claims, the keys that they are stored under, and how answers show them.

mod claim;
mod view;

#[cfg(feature = "schema")]
pub use claim::Admitted;
pub use claim::{Claim, ClaimView, MAX_METADATA, Status, is_claim_id};
pub use view::View;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use tollgate_api::percent;
use tollgate_store::commit::{Entry, Mutation, StoreError, key_part, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// The most units of a campaign.
pub const MAX_QUANTITY: u64 = 1_000_000_000;
/// The most units of one user.
pub const MAX_PER_USER: u64 = 1_000;
/// The longest hold, seconds: 30 days.
pub const MAX_HOLD_SECONDS: u64 = 30 * 24 * 60 * 60;
/// How long a claim that was released, has expired or was revoked can still be read, in milliseconds: 30 days.
pub const KEEP_RETURNED_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The longest campaign id.
pub const MAX_ID: usize = 64;
/// Where claims are announced unless the campaign says otherwise.
pub const DEFAULT_TOPIC: &str = "coupon";

/// Whether a claim carries a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Codes"))]
#[serde(rename_all = "lowercase")]
pub enum Codes {
    /// It does not.
    #[default]
    None,
    /// An unguessable one is made with each claim.
    Generate,
    /// Each carries one of those that were imported: `POST /api/campaigns/{id}/codes`.
    Import,
}

/// In which order imported codes are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CodeOrder")
)]
#[serde(rename_all = "lowercase")]
pub enum CodeOrder {
    /// By chance: nobody can tell from one which comes next.
    #[default]
    Random,
    /// As they were imported; claims that are made at once get codes that are near each other.
    Import,
}

/// A campaign as it is stored. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Campaign {
    /// A slug; see [`is_id`].
    pub id: String,
    /// What people call it; see [`crate::rooms::TITLE_RULE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Units, 1 to [`MAX_QUANTITY`]; where codes are imported, as many as were, from 0 on.
    pub quantity: u64,
    /// Units of one user, 1 to [`MAX_PER_USER`]. Never changes: the layout of the claims' keys depends on it.
    pub per_user: u64,
    /// From when on it admits.
    pub starts_at: Option<u64>,
    /// From when on it admits no more.
    pub ends_at: Option<u64>,
    /// For how long a claim is held before it expires, 1 to [`MAX_HOLD_SECONDS`]; where it is missing, claims are confirmed at
    /// once. Never changes: the order of the holds' keys depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u64>,
    /// Whether claims carry a code.
    pub codes: Codes,
    /// Whether users may wait for stock that comes back; only where claims are held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waitlist: bool,
    /// In which order they are given out, where they are imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_order: Option<CodeOrder>,
    /// Where claims are announced.
    pub topic: String,
    /// When it was made.
    pub created_at: u64,
    /// Closed by hand.
    pub closed: bool,
    /// The list of who may claim, by its id; where it is missing, everybody may. See `eligible`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible: Option<String>,
    /// The waiting room in front of its claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// What a user's token must say; where it is missing, anything will do. Beside the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible_claim: Option<EligibleClaim>,
    /// When it was removed, Unix milliseconds. Such a record keeps its name taken, and is a campaign to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<u64>,
}

/// A claim of users' JWTs that has one of these values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EligibleClaim {
    /// The claim's name.
    pub name: String,
    /// Texts, one of which it is, or has in its list.
    pub values: Vec<String>,
}

/// The state of a campaign at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "CampaignState")
)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Before `startsAt`.
    Scheduled,
    /// Admits.
    Open,
    /// Nothing remains.
    SoldOut,
    /// From `endsAt` on.
    Ended,
    /// Closed by hand.
    Closed,
}

impl Campaign {
    /// The partition of all its keys; also the key of its record.
    pub fn partition(id: &str) -> String {
        ["campaign/", id].concat()
    }

    /// The key of its counter of units left.
    pub fn remaining_key(id: &str) -> String {
        ["remaining/", id].concat()
    }

    /// The key of its counter of claims admitted so far.
    pub fn sequence_key(id: &str) -> String {
        ["sequence/", id].concat()
    }

    /// The key of its counter of units that are held.
    pub fn held_key(id: &str) -> String {
        ["held/", id].concat()
    }

    /// The key of its counter of units that came back so far.
    pub fn released_key(id: &str) -> String {
        ["released/", id].concat()
    }

    /// The key of its counter of units whose code was shown, and which came back to nobody.
    pub fn burnt_key(id: &str) -> String {
        ["burnt/", id].concat()
    }

    /// The key of its counter of users in line.
    pub fn waiting_key(id: &str) -> String {
        ["waiting/", id].concat()
    }

    /// The prefix of its line.
    pub fn line_prefix(id: &str) -> String {
        ["line/", id, "/"].concat()
    }

    /// The key that leads to a user's place in line.
    pub fn waiter_key(id: &str, user: &str) -> String {
        ["waiter/", id, "/", &key_part(user)].concat()
    }

    /// The key of its counter of codes that were imported.
    pub fn codes_key(id: &str) -> String {
        ["codes/", id].concat()
    }

    /// The key that says that the code with this hash was imported.
    pub fn imported_key(id: &str, hash: &str) -> String {
        ["imported/", id, "/", hash].concat()
    }

    /// The prefix of the codes that were not given out.
    pub fn pool_prefix(id: &str) -> String {
        ["pool/", id, "/"].concat()
    }

    /// The key under which the user is found to whom a claim belongs. Only where claims are held.
    pub fn holder_key(id: &str, claim: &str) -> String {
        ["holder/", id, "/", claim].concat()
    }

    /// The prefix of all keys of a campaign's claims.
    pub fn all_claims_prefix(id: &str) -> String {
        ["claim/", id, "/"].concat()
    }

    /// The prefixes of all keys of which a campaign may have many.
    pub fn purged_prefixes(id: &str) -> [String; 10] {
        [
            "claim/",
            "claims/",
            "holder/",
            "hold/",
            "eligible/",
            "left-over/",
            "pool/",
            "line/",
            "waiter/",
            "imported/",
        ]
        .map(|kind| [kind, id, "/"].concat())
    }

    /// The key that says that a user is on a list of who may claim.
    pub fn eligible_key(id: &str, list: &str, user: &str) -> String {
        ["eligible/", id, "/", list, "/", &key_part(user)].concat()
    }

    /// The key that says that a list is one which no record names.
    pub fn left_over_key(id: &str, list: &str) -> String {
        ["left-over/", id, "/", list].concat()
    }

    /// The prefix of all keys of a user's claims.
    pub fn claims_prefix(id: &str, user: &str) -> String {
        Self::claim_at(id, user, "")
    }

    /// The key of a user's counter of units, where `perUser` is more than one.
    pub fn count_key(id: &str, user: &str) -> String {
        ["claims/", id, "/", &key_part(user)].concat()
    }

    /// The key of a claim that takes units. With `perUser` 1 there is a single place, whose absence is what a claim asks for.
    pub fn claim_key(&self, user: &str, claim: &str) -> String {
        let place = if self.per_user == 1 { "1" } else { claim };
        Self::claim_at(&self.id, user, place)
    }

    /// The key of a claim whose units came back.
    pub fn returned_key(&self, user: &str, claim: &str) -> String {
        Self::claim_at(&self.id, user, claim)
    }

    fn claim_at(id: &str, user: &str, place: &str) -> String {
        ["claim/", id, "/", &key_part(user), "/", place].concat()
    }

    /// Whether only some may claim.
    pub fn is_restricted(&self) -> bool {
        self.eligible.is_some() || self.eligible_claim.is_some()
    }

    /// Its state at `now`, with so many units left.
    pub fn state(&self, remaining: u64, now: u64) -> State {
        if self.closed {
            State::Closed
        } else if self.ends_at.is_some_and(|end| end <= now) {
            State::Ended
        } else if self.starts_at.is_some_and(|start| now < start) {
            State::Scheduled
        } else if remaining == 0 {
            State::SoldOut
        } else {
            State::Open
        }
    }
}

/// A campaign with its counter, as read together.
#[derive(Clone, Debug)]
pub struct Live {
    /// The record.
    pub campaign: Rc<Campaign>,
    /// The record's version.
    pub version: u64,
    /// Units left.
    pub remaining: u64,
}

/// A campaign's counters, of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Units left.
    pub remaining: u64,
    /// Units that are held.
    pub held: u64,
    /// Units that came back so far: released, expired or revoked.
    pub released: u64,
    /// Units that came back to nobody, since their code was shown.
    pub burnt: u64,
    /// Users in line.
    pub waiting: u64,
}

/// Reads a campaign with all its counters, at one moment; `None` if there is none.
pub async fn load_counted<S: Store>(store: &S, id: &str) -> Result<Option<(Live, Counters)>, StoreError> {
    let (partition, [record, remaining]) = keys(id);
    let keys = [
        record,
        remaining,
        Campaign::held_key(id),
        Campaign::released_key(id),
        Campaign::burnt_key(id),
        Campaign::waiting_key(id),
    ];
    let mut found = store.get(&partition, &keys).await?;
    let rest = found.split_off(found.len().min(2));
    let Some(live) = live(found)? else {
        return Ok(None);
    };
    let mut counts = rest.iter().map(Option::as_ref);
    let mut count = |what| stored::count(what, counts.next().flatten());
    let counters = Counters {
        remaining: live.remaining,
        held: count("number of units held")?,
        released: count("number of units that came back")?,
        burnt: count("number of units whose code was shown")?,
        waiting: count("number of those in line")?,
    };
    Ok(Some((live, counters)))
}

/// Reads a campaign; `None` if there is none.
pub async fn load<S: Store>(store: &S, id: &str) -> Result<Option<Live>, StoreError> {
    let (partition, keys) = keys(id);
    live(store.get(&partition, &keys).await?)
}

/// A campaign's record with its version, also of one that was removed; `None` if there is none.
pub async fn load_record<S: Store>(store: &S, id: &str) -> Result<Option<(Campaign, u64)>, StoreError> {
    let partition = Campaign::partition(id);
    let found = store.get(&partition, std::slice::from_ref(&partition)).await?;
    let Some(entry) = found.into_iter().next().flatten() else {
        return Ok(None);
    };
    Ok(Some((stored::decode("campaign", &entry)?, entry.version)))
}

/// Writes a campaign's record.
pub fn set(campaign: &Campaign) -> Mutation {
    let value = serde_json::to_vec(campaign).expect("our own types hold string keys only, so they serialise");
    Mutation::Set {
        key: Campaign::partition(&campaign.id),
        value: literal(value),
        expires: None,
    }
}

/// The same for a claim, whose commit decides: the units left need not be of the record's moment.
pub async fn load_for_claim<S: Store>(store: &S, id: &str) -> Result<Option<Live>, StoreError> {
    let (partition, keys) = keys(id);
    live(store.get_each(&partition, &keys).await?)
}

fn keys(id: &str) -> (String, [String; 2]) {
    let partition = Campaign::partition(id);
    (partition.clone(), [partition, Campaign::remaining_key(id)])
}

fn live(found: Vec<Option<Entry>>) -> Result<Option<Live>, StoreError> {
    let mut found = found.into_iter();
    let Some(entry) = found.next().flatten() else {
        return Ok(None);
    };
    let remaining = stored::count("number of units left", found.next().flatten().as_ref())?;
    let version = entry.version;
    let campaign = campaign(entry)?;
    if campaign.removed_at.is_some() {
        return Ok(None);
    }
    Ok(Some(Live {
        version,
        campaign,
        remaining,
    }))
}

/// Campaigns whose parsed record is remembered.
const REMEMBERED: usize = 16;

/// Parses a campaign's record. A crowd asks for the same few again and again, so parsed records are
/// remembered.
fn campaign(entry: Entry) -> Result<Rc<Campaign>, StoreError> {
    thread_local! {
        static READ: RefCell<VecDeque<(Vec<u8>, Rc<Campaign>)>> = const { RefCell::new(VecDeque::new()) };
    }
    READ.with_borrow_mut(|read| {
        if let Some((_, campaign)) = read.iter().find(|(bytes, _)| same(bytes, &entry.value)) {
            return Ok(Rc::clone(campaign));
        }
        let campaign: Rc<Campaign> = Rc::new(stored::decode("campaign", &entry)?);
        read.truncate(REMEMBERED - 1);
        read.push_front((entry.value, Rc::clone(&campaign)));
        Ok(campaign)
    })
}

/// Whether these are the same bytes. `==` looks at them one by one where there is no better `memcmp`: in WebAssembly.
fn same(a: &[u8], b: &[u8]) -> bool {
    let ((eights, rest), (others, other)) = (a.as_chunks(), b.as_chunks());
    let equal = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len() && eights.iter().zip(others).all(equal) && rest == other
}

/// Whether this is a campaign's id: `[a-z0-9][a-z0-9-]{0,63}`.
pub fn is_id(text: &str) -> bool {
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_ID).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(tail)
}

/// A text as a path segment: all but RFC 3986's unreserved characters percent-encoded.
pub fn path_segment(text: &str) -> Cow<'_, str> {
    percent::encode(text).into()
}

/// A path segment, percent-decoded; `None` if it is no text.
pub fn unescape(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
