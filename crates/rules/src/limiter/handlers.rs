//! `/api/limits`: the policies in force. Scope `admin`. Overrides and the levels of a client
//! (`/api/limits/clients/{clientId}`) belong here too; they do not exist yet.

use serde::Serialize;

use crate::config::{Limit, OnStoreFailure, Per};
use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[derive(Serialize)]
struct Answer<'a> {
    limits: Vec<View<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    name: &'a str,
    path: &'a str,
    methods: &'a [String],
    per: &'a [Per],
    capacity: u64,
    refill: u64,
    interval: Seconds,
    cost: u64,
    shadow: bool,
    on_store_failure: OnStoreFailure,
}

/// A number of seconds, whole wherever it can be.
#[derive(Serialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Fraction(f64),
}

/// `GET /api/limits`.
pub async fn list<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    keys::require(world.store, request, world.now, Scope::Admin).await?;
    let limits = world.settings.config.limits.iter().map(view).collect();
    Ok(Response::json(200, &Answer { limits }))
}

fn view(limit: &Limit) -> View<'_> {
    let nanos = limit.interval.0;
    let interval = if nanos.is_multiple_of(NANOS_PER_SECOND) {
        Seconds::Whole(nanos / NANOS_PER_SECOND)
    } else {
        Seconds::Fraction(std::time::Duration::from_nanos(nanos).as_secs_f64())
    };
    View {
        name: &limit.name,
        path: &limit.path,
        methods: &limit.methods,
        per: &limit.per,
        capacity: limit.capacity,
        refill: limit.refill,
        interval,
        cost: limit.cost,
        shadow: limit.shadow,
        on_store_failure: limit.on_store_failure,
    }
}
