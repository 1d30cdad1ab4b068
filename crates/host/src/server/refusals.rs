//! `GET /api/limits/refusals`: what limits have decided since the start, and who was refused most lately.

use super::Shared;
use super::patience::in_time;
use super::service::{Answer, from_core};
use crate::clock::now;
use crate::metrics::refused::HALF;
use serde_json::json;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_rules::{keys, policies};

/// The answer to a key with the scope `limits`.
///
/// # Errors
/// 401 and 403; 503 where the store does not answer in time.
pub async fn answer(shared: &Shared, request: Request) -> Result<Answer, Problem> {
    in_time(keys::require(
        &shared.engines.store,
        &request,
        now(),
        Scope::Limits,
    ))
    .await?;
    let counted = &shared.engines.counted;
    let limits: Vec<_> = counted
        .refusals()
        .into_iter()
        .map(|one| json!({ "policy": one.policy, "refused": one.refused, "wouldRefuse": one.would_refuse }))
        .collect();
    let most = counted
        .refused_most()
        .into_iter()
        .filter(|count| count.refused > 0);
    let most: Vec<_> = most
        .map(|count| {
            let (policy, who) = policies::parts(&count.key);
            json!({ "policy": policy, "who": who, "refused": count.refused, "isLeast": count.is_least })
        })
        .collect();
    let concurrency: Vec<_> = shared
        .current
        .get()
        .settings
        .config
        .concurrency
        .iter()
        .map(|limit| {
            let numbers = shared.under_way.numbers(&limit.name);
            json!({ "limit": limit.name, "underWay": numbers.under_way, "refused": numbers.refused })
        })
        .collect();
    let document = json!({ "limits": limits, "most": most, "lookedBackSeconds": HALF.as_secs(), "concurrency": concurrency });
    let response = Response::json(200, &document).with("cache-control", "no-store");
    Ok(from_core(response))
}
