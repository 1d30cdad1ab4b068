//! Why a claim is not admitted, as problem documents.

use super::receipt;
use super::record::{Campaign, Claim};
use crate::receipts::Signer;
use tollgate_api::problem::{Kind, Problem};

/// The 400 of a claim for no units, or for more than one user may have.
pub(super) fn units_out_of(per_user: u64) -> Problem {
    Problem::field("#/units", format!("must be from 1 to {per_user}"))
}

/// The store's clock is outside the window; ours, which may differ a little, tells on which side.
pub(super) fn outside_window(campaign: &Campaign, now: u64) -> Problem {
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
