//! Campaigns, their claims, and what becomes of them. Messages tell the story, in order; entries must agree with it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::Deserialize;
use tollgate_rules::campaigns::{self, Claim, Codes, Status};
use tollgate_store::commit::Message;
use tollgate_store::plan;

use super::line::Line;
use super::{Checked, Model, ensure, read};

/// What is known of a campaign.
#[derive(Debug, Default)]
pub struct Campaign {
    pub quantity: u64,
    pub per_user: u64,
    pub closed: bool,
    /// Whether it was ever closed, and whether it was ever opened again.
    pub was_closed: bool,
    pub was_opened: bool,
    holds: bool,
    /// Changed by the group that is being looked at; if so, whether it was closed, and when it ended, before.
    changed: Option<(bool, Option<u64>)>,
    pub starts_at: Option<u64>,
    ends_at: Option<u64>,
    /// By sequence: id and user.
    pub claims: BTreeMap<u64, (String, String)>,
    /// By id.
    pub fates: BTreeMap<String, Fate>,
    /// Units that are taken, by user.
    pub(super) by_user: BTreeMap<String, u64>,
    /// When it last had too few units left for a claim of so many, or was changed, microseconds.
    pub short_at: [u64; MAX_UNITS + 1],
    was_short: [bool; MAX_UNITS + 1],
    /// Where it imports codes: those that were given out, and the claims that have them.
    pub codes: Option<BTreeMap<String, String>>,
    /// Where it has one.
    pub line: Option<Line>,
}

/// The most units of a claim.
pub const MAX_UNITS: usize = 2;

/// What has become of a claim.
#[derive(Debug)]
pub struct Fate {
    pub user: String,
    pub units: u64,
    /// All that it was, the last at the end.
    pub history: Vec<Status>,
    /// When its hold ends, Unix milliseconds.
    pub ends: Option<u64>,
}

impl Fate {
    pub fn status(&self) -> Option<Status> {
        self.history.last().copied()
    }
}

impl Campaign {
    fn units(&self, of: impl Fn(Status) -> bool) -> u64 {
        let all = self.fates.values();
        all.filter(|fate| fate.status().is_some_and(&of))
            .map(|fate| fate.units)
            .sum()
    }

    /// Units that are taken.
    pub fn taken(&self) -> u64 {
        self.units(Status::is_live)
    }

    /// Units that are held.
    pub fn held(&self) -> u64 {
        self.units(|status| status == Status::Held)
    }

    /// Whether fewer units are left for whoever is not in line.
    pub fn is_short_of(&self, units: u64) -> bool {
        self.taken() + units > self.quantity || self.waiting() > 0
    }

    pub fn is_sold_out(&self) -> bool {
        self.is_short_of(1)
    }

    /// How many are in line.
    pub fn waiting(&self) -> usize {
        self.line.as_ref().map_or(0, Line::len)
    }

    /// Whether it admitted at `time`: before or after the change, if it was changed in this very group.
    fn admits(&self, time: u64) -> bool {
        let open = |closed: bool, end: Option<u64>| !closed && end.is_none_or(|end| time < end);
        let before = self.changed.is_some_and(|(closed, end)| open(closed, end));
        self.starts_at.is_none_or(|start| start <= time) && (open(self.closed, self.ends_at) || before)
    }
}

/// The data of a message about a claim.
#[derive(Deserialize)]
struct Announcement {
    campaign: String,
    claim: String,
    user: String,
    sequence: u64,
    units: u64,
    status: Status,
}

impl Model {
    pub(super) fn campaign_changed(&mut self, key: &str, value: &[u8], now: u64) -> Checked {
        let record: campaigns::Campaign = read(key, value)?;
        let campaign = self.campaigns.entry(record.id.clone()).or_default();
        campaign.was_closed |= record.closed;
        campaign.was_opened |= campaign.closed && !record.closed;
        campaign.changed = Some((campaign.closed, campaign.ends_at));
        (campaign.quantity, campaign.per_user) = (record.quantity, record.per_user);
        (campaign.starts_at, campaign.closed) = (record.starts_at, record.closed);
        (campaign.ends_at, campaign.holds) = (record.ends_at, record.hold_seconds.is_some());
        campaign.short_at = [now; MAX_UNITS + 1];
        if record.codes == Codes::Import {
            campaign.codes.get_or_insert_default();
        }
        if record.waitlist {
            campaign.line.get_or_insert_default();
        }
        Ok(())
    }

    /// The ids of claims of which a write tells: the one that is there now, and the one that was.
    pub(super) fn claim_written(&self, key: &str, value: Option<&[u8]>) -> Result<Vec<String>, String> {
        let before = self.mirror.entries.get(key).map(|entry| entry.value.as_slice());
        let ids = [before, value].into_iter().flatten();
        ids.map(|value| read::<Claim>(key, value).map(|claim| claim.id))
            .collect()
    }

    /// A message tells what has become of a claim; gives its campaign and its id.
    pub(super) fn told(&mut self, message: &Arc<Message>) -> Result<(String, String), String> {
        let id = &message.id;
        let data: Announcement = read(id, &message.payload)?;
        let campaign = self.campaigns.entry(data.campaign.clone()).or_default();
        if message.kind == "coupon.claimed" {
            ensure(*id == data.claim && !campaign.fates.contains_key(id), || {
                format!("{id} was admitted twice")
            })?;
            ensure(campaign.admits(message.time), || {
                format!("{id} was admitted outside its window, or after closing")
            })?;
            let expected = if campaign.holds {
                Status::Held
            } else {
                Status::Confirmed
            };
            ensure(data.status == expected, || {
                format!("{id} was admitted as {:?}", data.status)
            })?;
            let named = (id.clone(), data.user.clone());
            ensure(campaign.claims.insert(data.sequence, named).is_none(), || {
                format!("{id} has a sequence that was given out: {}", data.sequence)
            })?;
            let has = campaign.by_user.entry(data.user.clone()).or_default();
            *has += data.units;
            ensure(*has <= campaign.per_user, || {
                format!("{id}: {has} units of one user")
            })?;
            let fate = Fate {
                user: data.user,
                units: data.units,
                history: vec![data.status],
                ends: None,
            };
            campaign.fates.insert(id.clone(), fate);
            return Ok((data.campaign, data.claim));
        }
        let Some(fate) = campaign.fates.get_mut(&data.claim) else {
            return Err(format!("the message {id} is about no claim"));
        };
        let time = message.time;
        let in_time = fate.ends.is_some_and(|ends| time < ends);
        let (before, after) = (fate.status(), data.status);
        let may = match (before, after) {
            (Some(Status::Held), Status::Confirmed | Status::Released) => in_time,
            (Some(Status::Held), Status::Expired) => fate.ends.is_some() && !in_time,
            (Some(Status::Held | Status::Confirmed), Status::Revoked) => true,
            _ => false,
        };
        ensure(
            may && message.kind == after.message() && fate.user == data.user && fate.units == data.units,
            || {
                format!(
                    "{} was {before:?} until {:?} and is {after:?} at {time}",
                    data.claim, fate.ends
                )
            },
        )?;
        fate.history.push(after);
        if !after.is_live() {
            let has = campaign.by_user.entry(data.user).or_default();
            *has = has.saturating_sub(data.units);
        }
        Ok((data.campaign, data.claim))
    }

    /// State and queue agree: a claim was written if and only if a message tells of it, and it is as told.
    pub(super) fn agree(&mut self, written: &[String], told: &BTreeMap<String, String>) -> Checked {
        let silent = written.iter().find(|claim| !told.contains_key(*claim));
        ensure(silent.is_none(), || format!("no message tells of {silent:?}"))?;
        for (id, campaign) in told {
            let known = self.campaigns.entry(campaign.clone()).or_default();
            let Some(fate) = known.fates.get_mut(id) else {
                return Err(format!("{id} is no claim"));
            };
            let places = [id.as_str(), "1"].map(|place| format!("claim/{campaign}/{}/{place}", fate.user));
            let mut found = Vec::new();
            for key in &places {
                if let Some(entry) = self.mirror.entries.get(key.as_str()) {
                    let claim: Claim = read(key, &entry.value)?;
                    found.extend(Some(claim).filter(|claim| claim.id == *id));
                }
            }
            let [claim] = &found[..] else {
                return Err(format!("{id} is there {} times", found.len()));
            };
            let same = fate.status() == Some(claim.status)
                && fate.units == claim.units
                && claim
                    .sequence
                    .known()
                    .and_then(|sequence| known.claims.get(&sequence))
                    == Some(&(id.clone(), claim.user.clone()));
            ensure(same, || {
                format!("{id} is told to be {:?}, and is {claim:?}", fate.history)
            })?;
            if let Some(given) = &mut known.codes {
                super::codes::given(given, claim)?;
            }
            fate.ends = claim.hold_ends();
            ensure(fate.ends.is_some() == (claim.status == Status::Held), || {
                format!("the hold of {id} ends at {:?}", fate.ends)
            })?;
        }
        Ok(())
    }

    pub(super) fn check_campaign(&mut self, id: &str, now: u64) -> Checked {
        let number = |kind: &str| {
            let entry = self.mirror.entries.get(format!("{kind}/{id}").as_str());
            entry.map_or(Some(0), |entry| plan::counter(&entry.value))
        };
        let numbers = ["remaining", "held", "released", "sequence"].map(number);
        let prefix = format!("hold/{id}/");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let in_order = self.mirror.entries.range::<str, _>(from);
        let in_order = in_order.take_while(|(key, _)| key.starts_with(&prefix)).count() as u64;
        let Some(campaign) = self.campaigns.get_mut(id) else {
            return Err(format!("stock of {id}, which does not exist"));
        };
        let (taken, held) = (campaign.taken(), campaign.held());
        let claims = campaign.claims.len() as u64;
        ensure(taken <= campaign.quantity, || {
            format!("{id} admitted {taken} of {}", campaign.quantity)
        })?;
        let all = campaign.units(|_| true);
        let expected = [campaign.quantity - taken, held, all - taken, claims];
        let expected = expected.map(|number| i64::try_from(number).ok());
        ensure(numbers == expected, || {
            format!("{id}: left, held, released, claims are {numbers:?}, not {expected:?}")
        })?;
        let holds = campaign
            .fates
            .values()
            .filter(|fate| fate.status() == Some(Status::Held));
        let holds = holds.count() as u64;
        ensure(in_order == holds, || {
            format!("{id}: {holds} are held, and {in_order} are in the order of their ends")
        })?;
        let last = campaign.claims.last_key_value().map_or(0, |(last, _)| *last);
        ensure(last == claims, || {
            format!("{id}: {claims} claims, the last sequence is {last}")
        })?;
        if let Some(given) = &campaign.codes {
            super::codes::check(&self.mirror, id, given, campaign.quantity - taken)?;
        }
        if let Some(line) = &campaign.line {
            line.check(&self.mirror, id)?;
        }
        campaign.changed = None;
        for units in 1..=MAX_UNITS {
            let is_short = campaign.is_short_of(units as u64);
            if is_short || campaign.was_short[units] {
                campaign.short_at[units] = now;
            }
            campaign.was_short[units] = is_short;
        }
        Ok(())
    }
}
