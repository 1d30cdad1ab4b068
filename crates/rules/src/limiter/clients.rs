//! `/api/limits/clients/{clientId}` and `/api/limits/overrides`: what a client has left, and what it is granted in place of a policy's
//! own terms. Scope `limits`.
//!
//! A client is called as policies tell callers apart: `key:<id>`, `id:<name>`, `ip:<address>`, and `user:<id>` for a user.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::access::canonical;
use crate::campaigns::unescape;
use crate::keys;
use crate::policies::{NANOS_PER_SECOND, Policy};
use crate::quotas;
use crate::run_time::{self, MAX_OVERRIDES, OverrideRecord, seconds, told};
use crate::world::World;
use tollgate_api::calls::{Call, Scope};
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern::unreserved;
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::{json, time};
use tollgate_store::bucket::{Bucket, TakeError};
use tollgate_store::ports::{Buckets, Store};

/// The longest interval of an override, seconds: as of a policy.
const MAX_INTERVAL_SECONDS: u64 = 30 * 86_400;
/// Seconds after which a caller may ask again when the buckets do not answer.
const RETRY_SECONDS: u64 = 1;
/// The rule of [`canonical`], in words.
const SUBJECT_RULE: &str = "must be key:<id>, id:<name>, ip:<address> or user:<id>, percent-encoded";

/// What a client is granted, to be.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewLimitOverride")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Put {
    /// The name of a limit that counts by such a client.
    policy: String,
    /// Tokens that a full bucket holds; not less than a request costs.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    capacity: u64,
    /// Tokens gained per interval.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    refill: u64,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_INTERVAL_SECONDS)))]
    interval: u64,
    /// When the limit's own terms count again: in the future. Where it is left out, they do when this is removed.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    until: Option<u64>,
}

/// What a client is granted in place of a limit's own terms.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LimitOverride")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct OverrideView<'a> {
    /// The client id, or `user:<id>`.
    client: &'a str,
    /// The name of the limit.
    policy: &'a str,
    /// Tokens that a full bucket holds.
    capacity: u64,
    /// Tokens gained per interval.
    refill: u64,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    interval: Number,
    /// When the limit's own terms count again.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    until: Option<String>,
    /// When it was made.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    created_at: String,
}

impl<'a> From<&'a OverrideRecord> for OverrideView<'a> {
    fn from(record: &'a OverrideRecord) -> Self {
        Self {
            client: &record.client,
            policy: &record.policy,
            capacity: record.capacity,
            refill: record.refill,
            interval: seconds(record.interval_ns),
            until: told(record.until),
            created_at: time::format(record.created_at),
        }
    }
}

/// The overrides in force.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LimitOverrides")
)]
pub(super) struct Overrides<'a> {
    /// The oldest first.
    overrides: Vec<OverrideView<'a>>,
}

/// What a client has left.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClientLimits")
)]
pub(super) struct Levels<'a> {
    /// The client, as it is counted.
    client: &'a str,
    /// Of every limit that may count by it, in the order of the file.
    limits: Vec<LevelView<'a>>,
    /// Of every quota that may count by it, in the order of the file.
    quotas: Vec<UsedView<'a>>,
}

/// What a client has used of a quota.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClientQuota")
)]
#[serde(rename_all = "camelCase")]
struct UsedView<'a> {
    /// The name of the quota.
    quota: &'a str,
    /// Requests of a window.
    limit: u64,
    /// Those of this window; null where the quota counts by more than the client and the path that was asked for.
    used: Option<u64>,
    /// When the window ends.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    resets_at: String,
}

/// What a client has left under one limit.
#[derive(Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ClientLimit")
)]
#[serde(rename_all = "camelCase")]
struct LevelView<'a> {
    /// The name of the limit.
    policy: &'a str,
    /// Tokens that a full bucket holds.
    capacity: u64,
    /// Tokens gained per interval.
    refill: u64,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    interval: Number,
    /// Tokens that a request costs.
    cost: u64,
    /// Tokens left; null where the limit counts by more than the client and the path that was asked for.
    remaining: Option<u64>,
    /// Seconds until the bucket is full.
    full_in: Option<u64>,
    /// What it is granted in place of the limit's own terms, which these are then.
    #[serde(rename = "override")]
    granted: Option<OverrideView<'a>>,
}

/// Answers a call that is about clients; `segment` is what stands in the path.
pub(super) async fn handle<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    call: Call,
    segment: &str,
) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Limits).await?;
    match call {
        Call::ListOverrides => {
            let (document, _) = run_time::read(world.store).await?;
            let live = document.overrides.iter().filter(|one| !one.is_over(world.now));
            let overrides = live.map(Into::into).collect();
            Ok(Response::json(200, &Overrides { overrides }))
        }
        Call::ReadClientLimits => read(world, buckets, request, &subject(segment)?).await,
        Call::PutOverride => put(world, request, subject(segment)?).await,
        Call::RefillClient => refill(world, buckets, request, &subject(segment)?).await,
        _ => Err(Problem::not_found()),
    }
}

/// What a segment of a path calls, as policies count it: an address in its canonical form, an IPv6 address as its /64.
fn subject(segment: &str) -> Result<String, Problem> {
    let fault = || Problem::field("path:clientId", SUBJECT_RULE);
    unescape(segment).as_deref().and_then(canonical).ok_or_else(fault)
}

/// `policy` and `path` of the query: those that this call takes.
fn query(request: &Request, takes: &[&str]) -> Result<[Option<String>; 2], Problem> {
    let mut found = [None, None];
    for (name, value) in request.query_fields() {
        let place = ["policy", "path"]
            .iter()
            .position(|known| *known == name && takes.contains(known));
        match place.and_then(|place| found.get_mut(place)) {
            Some(place @ None) => *place = Some(value),
            Some(Some(_)) => return Err(Problem::field(format!("query:{name}"), "is given twice")),
            None => {
                let known = takes.join(", ");
                return Err(Problem::field(
                    format!("query:{name}"),
                    format!("is not known here; this call takes {known}"),
                ));
            }
        }
    }
    if found[1].as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err(Problem::field("query:path", "must begin with /"));
    }
    Ok(found)
}

async fn read<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    subject: &str,
) -> Result<Response, Problem> {
    let [_, path] = query(request, &["path"])?;
    let path = path.as_deref().map(unreserved);
    let (document, _) = run_time::read(world.store).await?;
    let mut limits = Vec::new();
    for policy in world.settings.policies.iter() {
        let key = policy.key_of(subject, path.as_deref());
        if key.is_none() && !policy.counts(subject) {
            continue;
        }
        let granted = document.overrides.iter().find(|one| {
            one.client == subject
                && one.policy == policy.name
                && !one.is_over(world.now)
                && policy.counts(subject)
        });
        let granted = granted.filter(|one| one.bucket(policy).check().is_ok());
        let terms = granted.map_or_else(|| policy.terms.bucket.clone(), |one| one.bucket(policy));
        let level = match key {
            None => None,
            Some(key) => {
                // Nothing is taken: the level alone is read.
                let asked = Bucket {
                    key,
                    cost: 0,
                    ..terms.clone()
                };
                Some(buckets.take_one(asked).await.map_err(unanswered)?)
            }
        };
        limits.push(LevelView {
            policy: &policy.name,
            capacity: terms.capacity,
            refill: terms.refill,
            interval: seconds(terms.interval_ns),
            cost: terms.cost,
            remaining: level.map(|level| level.remaining),
            full_in: level.map(|level| level.full_ns.div_ceil(NANOS_PER_SECOND)),
            granted: granted.map(Into::into),
        });
    }
    let mut used = Vec::new();
    for quota in &world.settings.quotas {
        let by = quota.by();
        let key = by.key_of(subject, path.as_deref());
        if key.is_none() && !by.counts(subject) {
            continue;
        }
        let counter = quota.counter(key.as_deref().unwrap_or_default(), world.now);
        used.push(UsedView {
            quota: &by.name,
            limit: quota.limit(),
            used: match key {
                None => None,
                Some(_) => Some(quotas::used(world.store, &counter.key).await?),
            },
            resets_at: time::format(counter.end),
        });
    }
    let client = subject;
    Ok(Response::json(
        200,
        &Levels {
            client,
            limits,
            quotas: used,
        },
    ))
}

fn unanswered(_: TakeError) -> Problem {
    Problem::new(Kind::Unavailable, "The rate limiter does not answer.").with_retry_after(RETRY_SECONDS)
}

async fn put<S: Store>(world: &World<'_, S>, request: &Request, client: String) -> Result<Response, Problem> {
    query(request, &[])?;
    let body: Put = json::body(request)?;
    let policy = policy_named(world, &body.policy, "#/policy")?;
    if !policy.counts(&client) {
        let detail = "does not count by such a client";
        return Err(Problem::field("#/policy", detail));
    }
    if !(1..=MAX_INTERVAL_SECONDS).contains(&body.interval) {
        return Err(Problem::field(
            "#/interval",
            format!("must be a number from 1 to {MAX_INTERVAL_SECONDS}"),
        ));
    }
    if body.capacity < policy.terms.cost() {
        return Err(Problem::field(
            "#/capacity",
            format!("must be at least {}, which a request costs", policy.terms.cost()),
        ));
    }
    if body.refill == 0 {
        return Err(Problem::field("#/refill", "must be at least 1"));
    }
    if body.until.is_some_and(|until| until <= world.now) {
        return Err(Problem::field("#/until", "must be in the future"));
    }
    let record = OverrideRecord {
        client,
        policy: body.policy,
        capacity: body.capacity,
        refill: body.refill,
        interval_ns: body.interval * NANOS_PER_SECOND,
        until: body.until,
        created_at: world.now,
    };
    if record.bucket(policy).check().is_err() {
        return Err(Problem::field(
            "#/capacity",
            "is too large for this interval and refill",
        ));
    }
    run_time::change(world.store, world.now, |document| {
        let all = &mut document.overrides;
        all.retain(|one| one.client != record.client || one.policy != record.policy);
        if all.len() >= MAX_OVERRIDES {
            return Err(Problem::new(
                Kind::Conflict,
                format!(
                    "There are {MAX_OVERRIDES} overrides, as many as may be: remove one, or change the limit."
                ),
            ));
        }
        all.push(record.clone());
        Ok(true)
    })
    .await?;
    Ok(Response::json(200, &OverrideView::from(&record)))
}

fn policy_named<'a, S>(world: &World<'a, S>, name: &str, field: &str) -> Result<&'a Policy, Problem> {
    let found = world.settings.policies.iter().find(|policy| policy.name == name);
    found.ok_or_else(|| Problem::field(field, "is no limit of the configuration"))
}

/// Under the policy's own terms again, with a full bucket. Buckets that count by the path are those of the path that is given.
async fn refill<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
    subject: &str,
) -> Result<Response, Problem> {
    let [only, path] = query(request, &["policy", "path"])?;
    if let Some(name) = &only
        && !world.settings.quotas.iter().any(|quota| quota.by().name == *name)
    {
        policy_named(world, name, "query:policy")?;
    }
    let is_meant = |policy: &str| only.as_deref().is_none_or(|only| only == policy);
    run_time::change(world.store, world.now, |document| {
        let before = document.overrides.len();
        document
            .overrides
            .retain(|one| one.client != subject || !is_meant(&one.policy));
        Ok(document.overrides.len() != before)
    })
    .await?;
    let path = path.as_deref().map(unreserved);
    let meant = world.settings.policies.iter();
    // A bucket for everybody is not one client's to fill.
    for policy in meant.filter(|policy| is_meant(&policy.name) && policy.counts(subject)) {
        let Some(key) = policy.key_of(subject, path.as_deref()) else {
            continue;
        };
        // One that gains all that it holds every nanosecond is full by now, and what is left of one token more is its capacity.
        // A take that costs nothing only reads.
        let more = policy.terms.bucket.capacity.saturating_add(1);
        let full = Bucket {
            key,
            capacity: more,
            refill: more,
            interval_ns: 1,
            cost: 1,
        };
        buckets.take_one(full).await.map_err(unanswered)?;
    }
    let all = world.settings.quotas.iter().map(|quota| (quota, quota.by()));
    let meant = all.filter(|(_, by)| is_meant(&by.name) && by.counts(subject));
    let keys = meant.filter_map(|(quota, by)| {
        let who = by.key_of(subject, path.as_deref())?;
        Some(quota.counter(&who, world.now).key)
    });
    let keys: Vec<String> = keys.collect();
    if !keys.is_empty() {
        quotas::forget(world.store, keys).await?;
    }
    Ok(Response::empty(204))
}
