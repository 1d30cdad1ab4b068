//! What is left of campaigns, for whoever watches them.

use super::record::{Campaign, State};
use serde::{Deserialize, Serialize};
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// What is left of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    /// The campaign's id.
    pub id: String,
    /// Units that there were.
    pub quantity: u64,
    /// Units that are left.
    pub remaining: u64,
    /// Units that are held; only where claims are.
    pub held: Option<u64>,
}

/// Campaigns that are looked at for [`stocks`].
const LOOKED_AT: u32 = 1_000;

/// What is left of the newest campaigns that can still admit, at most `limit` of the first [`LOOKED_AT`] by id.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn stocks<S: Store>(store: &S, now: u64, limit: usize) -> Result<Vec<Stock>, StoreError> {
    let mut campaigns = campaigns(store).await?;
    campaigns.retain(|campaign| !matches!(campaign.state(1, now), State::Closed | State::Ended));
    campaigns.sort_by_key(|campaign| std::cmp::Reverse(campaign.created_at));
    campaigns.truncate(limit);
    let mut stocks = Vec::with_capacity(campaigns.len());
    for campaign in campaigns {
        let remaining = remaining(store, &campaign.id).await?;
        let held = match campaign.hold_seconds {
            Some(_) => Some(held(store, &campaign.id).await?),
            None => None,
        };
        let Campaign { id, quantity, .. } = campaign;
        stocks.push(Stock {
            id,
            quantity,
            remaining,
            held,
        });
    }
    stocks.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(stocks)
}

/// The first [`LOOKED_AT`] campaigns by id.
async fn campaigns<S: Store>(store: &S) -> Result<Vec<Campaign>, StoreError> {
    let found = store.scan(&Campaign::partition(""), None, LOOKED_AT).await?;
    let campaigns = found.iter().map(|item| stored::decode("campaign", &item.entry));
    let mut campaigns: Vec<Campaign> = campaigns.collect::<Result<_, _>>()?;
    campaigns.retain(|campaign| campaign.removed_at.is_none());
    Ok(campaigns)
}

/// The units of a campaign that are left.
async fn remaining<S: Store>(store: &S, id: &str) -> Result<u64, StoreError> {
    count(store, id, Campaign::remaining_key(id), "number of units left").await
}

/// The units of a campaign that are held.
async fn held<S: Store>(store: &S, id: &str) -> Result<u64, StoreError> {
    count(store, id, Campaign::held_key(id), "number of units held").await
}

/// A counter of a campaign. `what`: it is, for who reads of a damaged one.
async fn count<S: Store>(store: &S, id: &str, key: String, what: &str) -> Result<u64, StoreError> {
    let found = store.get(&Campaign::partition(id), &[key]).await?;
    stored::count(what, found.into_iter().next().flatten().as_ref())
}

/// How far a campaign is, as far as events tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It admits, or will.
    #[default]
    Open,
    /// Nothing remains.
    SoldOut,
    /// It is past its end, or was closed.
    Ended,
}

/// How a campaign stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The campaign's id.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// Units that there were.
    pub quantity: u64,
    /// Units that are left.
    pub remaining: u64,
}

/// How the first [`LOOKED_AT`] campaigns by id stand.
///
/// # Errors
/// The store does not answer, or holds a damaged record.
pub async fn standings<S: Store>(store: &S, now: u64) -> Result<Vec<Standing>, StoreError> {
    let campaigns = campaigns(store).await?;
    let mut standings = Vec::with_capacity(campaigns.len());
    for campaign in campaigns {
        let remaining = remaining(store, &campaign.id).await?;
        let phase = match campaign.state(remaining, now) {
            State::Scheduled | State::Open => Phase::Open,
            State::SoldOut => Phase::SoldOut,
            State::Ended | State::Closed => Phase::Ended,
        };
        standings.push(Standing {
            id: campaign.id,
            phase,
            quantity: campaign.quantity,
            remaining,
        });
    }
    Ok(standings)
}
