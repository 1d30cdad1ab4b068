//! `/api/relay/tick`, carried out: deliveries, and [`upkeep`].

use spin_sdk::variables;
use std::cell::Cell;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_delivery::drain::Until;
use tollgate_rules::tick::{MIN_SECRET_BYTES, PATH, Ticked, budget};
use tollgate_rules::world::World;

use super::{run, upkeep};
use crate::port::Port;
use crate::spin::notice;

/// The Spin variable with the secret of schedulers that send nothing but a URL.
const VARIABLE: &str = "tollgate_tick_secret";

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
    upkeep::release(&world.settings.config).await;
    let report = run(world.settings, Until::Budget(budget), &Cell::new(false)).await?;
    upkeep::run(&world.settings.config).await;
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
