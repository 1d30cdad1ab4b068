//! `/api/limits`: the policies in force. Scope `limits`.

use serde::Serialize;
use serde_json::Number;

use crate::config::{DescriptorEntry, Limit, OnFailure, Per, QuotaCount, QuotaWindow};
use crate::keys;
use crate::run_time::seconds;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// The rate limits in force.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Limits"))]
pub(super) struct Answer<'a> {
    /// In the order of the file.
    limits: Vec<View<'a>>,
    /// In the order of the file.
    quotas: Vec<QuotaView<'a>>,
    /// In the order of the file.
    concurrency: Vec<ConcurrencyView<'a>>,
}

/// A token bucket policy.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Limit"))]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    /// Visible in headers and problems.
    name: &'a str,
    /// Which paths it applies to.
    path: &'a str,
    /// Which methods it applies to; `*` for all.
    methods: &'a [String],
    /// What it counts by; nothing: one bucket for all.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    per: &'a [Per],
    /// Tokens that a full bucket holds.
    capacity: u64,
    /// Tokens gained per interval.
    refill: u64,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.001)))]
    interval: Number,
    /// Tokens that a request costs.
    cost: u64,
    /// Whether it is charged and never refuses.
    shadow: bool,
    /// What happens when the buckets cannot be asked.
    on_store_failure: OnFailure,
    /// The domain of the descriptors that it counts instead of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    /// The entries of those descriptors.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    descriptor: &'a [DescriptorEntry],
}

/// How many requests a calendar window takes.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Quota"))]
#[serde(rename_all = "camelCase")]
struct QuotaView<'a> {
    /// Visible in headers and problems.
    name: &'a str,
    /// Which paths it applies to.
    path: &'a str,
    /// Which methods it applies to; `*` for all.
    methods: &'a [String],
    /// What it counts by; nothing: everybody together.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    per: &'a [Per],
    /// Requests of a window.
    limit: u64,
    /// The window.
    window: QuotaWindow,
    /// Where it begins and ends.
    timezone: &'a str,
    /// Which requests count: `admitted`, or by the status of their answer, as `status:2xx`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    count: QuotaCount,
}

/// How many requests may be under way at once.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Concurrency")
)]
#[serde(rename_all = "camelCase")]
struct ConcurrencyView<'a> {
    /// Visible in problems.
    name: &'a str,
    /// Which paths it applies to.
    path: &'a str,
    /// Which methods it applies to; `*` for all.
    methods: &'a [String],
    /// What it counts by; nothing: everybody together.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    per: &'a [Per],
    /// Requests under way at once.
    max: u32,
    /// What one too many is answered: 429 or 503.
    status: u16,
}

/// `GET /api/limits`.
pub(super) async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Limits).await?;
    let limits = world.settings.config.limits.iter().map(view).collect();
    let quotas = world.settings.config.quotas.iter().map(|quota| QuotaView {
        name: &quota.name,
        path: &quota.path,
        methods: &quota.methods,
        per: &quota.per,
        limit: quota.limit,
        window: quota.window,
        timezone: &quota.timezone,
        count: quota.count,
    });
    let quotas = quotas.collect();
    let concurrency = world
        .settings
        .config
        .concurrency
        .iter()
        .map(|one| ConcurrencyView {
            name: &one.name,
            path: &one.path,
            methods: &one.methods,
            per: &one.per,
            max: one.max,
            status: one.status,
        });
    let concurrency = concurrency.collect();
    Ok(Response::json(
        200,
        &Answer {
            limits,
            quotas,
            concurrency,
        },
    ))
}

fn view(limit: &Limit) -> View<'_> {
    View {
        name: &limit.name,
        path: &limit.path,
        methods: &limit.methods,
        per: &limit.per,
        capacity: limit.capacity,
        refill: limit.refill,
        interval: seconds(limit.interval.0),
        cost: limit.cost,
        shadow: limit.shadow,
        on_store_failure: limit.on_store_failure,
        domain: limit.domain.as_deref(),
        descriptor: &limit.descriptor,
    }
}
