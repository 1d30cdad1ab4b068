//! A campaign as answers show it.

use serde::Serialize;

use super::{Campaign, CodeOrder, Codes, Counters, State};
use tollgate_api::time;

/// A campaign as answers show it.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Campaign")
)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
    /// Its name.
    id: &'a str,
    /// What people call it.
    title: Option<&'a str>,
    /// Units.
    quantity: u64,
    /// The most units of one user.
    per_user: u64,
    /// From when on it admits.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    starts_at: Option<u64>,
    /// From when on it admits no more.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    ends_at: Option<u64>,
    /// For how long a claim is held before it expires; null: every claim is confirmed at once.
    hold_seconds: Option<u64>,
    /// Whether each claim carries a code.
    codes: Codes,
    /// In which order codes are given out; left out unless they are imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    code_order: Option<CodeOrder>,
    /// Where claims are announced.
    topic: &'a str,
    /// When it was made.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    created_at: u64,
    /// Units that are taken: those held and those confirmed.
    admitted: u64,
    /// Units that are held. A hold that has ended counts until its unit is back, which a claim that needs it sees to.
    held: u64,
    /// Units that are confirmed.
    confirmed: u64,
    /// Units that came back so far: released, expired or revoked.
    released: u64,
    /// Units of revoked claims whose code was shown: neither they nor their codes are given out again. Left out unless codes are imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    burnt: Option<u64>,
    /// Users in line, to whom stock that comes back goes first. Left out where nobody can wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
    /// Units that are left.
    remaining: u64,
    /// What it does now.
    state: State,
    /// Whether only some may claim: the users of its list, or whose token says so.
    restricted: bool,
    /// The waiting room in front of its claims.
    room: Option<&'a str>,
}

impl<'a> View<'a> {
    /// The view of a campaign with these counters.
    pub fn new(campaign: &'a Campaign, counters: Counters, now: u64) -> Self {
        let remaining = counters.remaining;
        let admitted = campaign.quantity.saturating_sub(remaining);
        let admitted = admitted.saturating_sub(counters.burnt);
        let imports = campaign.codes == Codes::Import;
        Self {
            id: &campaign.id,
            title: campaign.title.as_deref(),
            quantity: campaign.quantity,
            per_user: campaign.per_user,
            starts_at: campaign.starts_at,
            ends_at: campaign.ends_at,
            hold_seconds: campaign.hold_seconds,
            codes: campaign.codes,
            code_order: campaign.code_order,
            topic: &campaign.topic,
            created_at: campaign.created_at,
            admitted,
            held: counters.held,
            confirmed: admitted.saturating_sub(counters.held),
            released: counters.released,
            burnt: imports.then_some(counters.burnt),
            waiting: campaign.waitlist.then_some(counters.waiting),
            remaining,
            state: campaign.state(remaining, now),
            restricted: campaign.is_restricted(),
            room: campaign.room.as_deref(),
        }
    }
}
