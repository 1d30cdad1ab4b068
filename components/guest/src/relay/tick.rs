//! `/api/relay/tick`, carried out: deliveries, and what the rules do in the background of our own host.

use spin_sdk::variables;
use std::cell::Cell;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_delivery::drain::Until;
use tollgate_rules::forward::delayed;
use tollgate_rules::tick::{MIN_SECRET_BYTES, PATH, Ticked, budget};
use tollgate_rules::world::World;
use tollgate_rules::{campaigns, draws, links, quotas};
use tollgate_store::commit::StoreError;

use super::{run, uptime_ms};
use crate::port::Port;
use crate::spin::notice;

/// The Spin variable with the secret of schedulers that send nothing but a URL.
const VARIABLE: &str = "tollgate_tick_secret";
/// How long one kind of background work may take of a tick, milliseconds, before the next has its turn.
const UPKEEP_MS: u64 = 1_000;

/// Answers a tick; `None`: the request is none.
pub async fn answer(world: &World<'_, Port>, request: &Request) -> Option<Response> {
    let is_tick = request.path == PATH && matches!(&*request.method, "GET" | "HEAD" | "POST");
    if !is_tick {
        return None;
    }
    let answer = ticked(world, request).await;
    Some(answer.unwrap_or_else(|problem| problem.into_response().with("cache-control", "no-store")))
}

async fn ticked(world: &World<'_, Port>, request: &Request) -> Result<Response, Problem> {
    let secret = secret(world.now).await;
    let budget = budget(world, request, secret.as_deref()).await?;
    // What is due is delivered by this very tick.
    again(async || delayed::release(&Port, &world.settings.config, crate::now()).await).await;
    let report = run(world.settings, Until::Budget(budget), &Cell::new(false)).await?;
    upkeep(world).await;
    let now = crate::now();
    let ticked = Ticked {
        delivered: report.delivered,
        failed: report.failed,
        next_due_in: report
            .next_due_at
            .map(|at| at.saturating_sub(now).div_ceil(1_000)),
        elsewhere: report.elsewhere,
    };
    Ok(ticked.into_response())
}

async fn secret(now: u64) -> Option<String> {
    let secret = variables::get(VARIABLE)
        .await
        .ok()
        .filter(|secret| !secret.is_empty())?;
    if secret.len() >= MIN_SECRET_BYTES {
        return Some(secret);
    }
    let line = format!("the variable {VARIABLE} is not used: it has fewer than {MIN_SECRET_BYTES} bytes");
    notice::tell_at(now, &line).await;
    None
}

/// Removes links that have ended, gives back holds that have ended, counts visits, draws what has closed. What fails, or is not
/// done in time, is left to the next tick.
async fn upkeep(world: &World<'_, Port>) {
    let config = &world.settings.config;
    let now = || crate::now();
    again(async || campaigns::maintain(&Port, now()).await).await;
    again(async || draws::maintain(&Port, now()).await).await;
    again(async || links::stats::step(&Port, &config.links, now()).await).await;
    again(async || links::maintain(&Port, config, now()).await).await;
    again(async || campaigns::purge(&Port, now()).await).await;
    again(async || quotas::maintain(&Port, now()).await).await;
}

/// Takes steps while there is more to do and time for it.
async fn again(mut step: impl AsyncFnMut() -> Result<bool, StoreError>) {
    let began = uptime_ms();
    while let Ok(true) = step().await {
        if uptime_ms().saturating_sub(began) >= UPKEEP_MS {
            return;
        }
    }
}
