//! The remaining calls: keys, limits, health, robots and the contract itself, and the 404 for everything else.

#[cfg(feature = "schema")]
pub(crate) mod describe;

use serde::Serialize;

use crate::access;
use crate::config::Config;
use crate::docs;
use crate::keys;
use crate::limiter;
use crate::links::domain;
use crate::receipts;
use crate::tick;
use crate::world::World;
use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Mutation, Part, StoreError};
use tollgate_store::ports::{Buckets, Store};

/// Crawlers may follow short links (previews of links read this too) but have no business in the API.
const ROBOTS: &str = "User-agent: *\nDisallow: /api/\nDisallow: /admin\nDisallow: /docs\nDisallow: /metrics\n\
    Disallow: /openapi.json\nDisallow: /rest/\nDisallow: /sqs\nDisallow: /yourls-api.php\n";
/// In several sizes; see `admin/favicon.ico`.
const ICON: &[u8] = include_bytes!("admin/favicon.ico");
/// Sessions and event streams are kept in the memory of one process; instances under Spin share none.
const NO_DASHBOARD: &str = "The dashboard is served by the tollgate binary only: its sessions and live numbers are kept in the memory of one process.";
/// An entry in a partition of its own: when readiness last tried to write to the store.
const PROBE: &str = "health";
/// How long the result of that write counts, in milliseconds: the store is written no more often, however
/// often readiness is asked.
const PROBE_MS: u64 = 5_000;
/// Seconds after which readiness may be asked again.
const RETRY_SECONDS: u64 = 1;

/// How the gateway is.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Health"))]
struct Health {
    /// `live`, or `ready`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["live", "ready"])))]
    status: &'static str,
}

/// The handler: answers every request, with a problem document where it must.
pub async fn handle<S: Store, B: Buckets>(world: &World<'_, S>, buckets: &B, request: &Request) -> Response {
    route(world, buckets, request)
        .await
        .unwrap_or_else(Problem::into_response)
}

async fn route<S: Store, B: Buckets>(
    world: &World<'_, S>,
    buckets: &B,
    request: &Request,
) -> Result<Response, Problem> {
    // Of any method: the original request's.
    if limiter::is_check(&request.path) {
        return Ok(private(Err(limiter::not_a_proxy())));
    }
    let (call, [id, _]) = calls::find(Component::Admin, request)?;
    match call {
        Call::ListKeys | Call::CreateKey | Call::DeleteKey | Call::RotateKey => {
            Ok(private(keys::handle(world, request, call, id).await))
        }
        Call::ListLimits
        | Call::ListOverrides
        | Call::ReadClientLimits
        | Call::PutOverride
        | Call::RefillClient => Ok(private(limiter::handle(world, buckets, request, call, id).await)),
        Call::ListAccess | Call::ReadAccess | Call::PutAccess | Call::DeleteAccess => {
            Ok(private(access::handle(world, request, call, id).await))
        }
        Call::Tick | Call::TickByGet => Ok(private(tick::handle(world, request).await)),
        Call::HealthLive => Ok(healthy("live")),
        Call::HealthReady => ready(world).await,
        // Instances of Spin share no memory in which something could be counted; Spin has telemetry of its own.
        Call::Metrics => Err(Problem::not_found()),
        Call::Robots => {
            let mut response = Response::empty(200).with("content-type", "text/plain; charset=utf-8");
            response.body = ROBOTS.into();
            Ok(response)
        }
        // Its only segment is a name of ours; what it asks for are links.
        Call::AskYourls | Call::PostYourls => {
            Ok(Box::pin(crate::links::yourls::handle(world, request)).await)
        }
        Call::Welcome => root(&world.settings.config, request.header("host")).ok_or_else(Problem::not_found),
        Call::OpenApi => Ok(docs::document(request)),
        Call::Docs => Ok(docs::page(request)),
        Call::Icon => Ok(icon()),
        Call::ReadJwks => Box::pin(receipts::public_keys(world)).await,
        call if call.path().starts_with("/admin") => Err(Problem::new(Kind::NotFound, NO_DASHBOARD)),
        _ => Err(Problem::not_found()),
    }
}

/// The redirect of `GET /`, where `root_url` of the domain, or of `[links]`, says where it leads. `host`: of the request.
pub fn root(config: &Config, host: Option<&str>) -> Option<Response> {
    let url = match domain::of_host(config, host) {
        Some(domain) => domain.root_url.as_deref()?,
        None => config.links.root_url.as_deref()?,
    };
    let answer = Response::empty(302).with("location", url);
    Some(answer.with("cache-control", "private, no-store"))
}

/// What is kept by browsers for a day.
fn icon() -> Response {
    let icon = Response::empty(200).with("content-type", "image/x-icon");
    Response {
        body: ICON.into(),
        ..icon.with("cache-control", "public, max-age=86400")
    }
}

/// An answer for its caller alone, a refusal too.
fn private(answer: Result<Response, Problem>) -> Response {
    let answer = answer.unwrap_or_else(Problem::into_response);
    match answer.header("cache-control") {
        Some(_) => answer,
        None => answer.with("cache-control", "no-store"),
    }
}

fn healthy(status: &'static str) -> Response {
    Response::json(200, &Health { status }).with("cache-control", "no-store")
}

/// 200 if the store can be read and written, else 503.
async fn ready<S: Store>(world: &World<'_, S>) -> Result<Response, Problem> {
    match probe(world).await {
        Ok(()) => Ok(healthy("ready")),
        Err(_) => Err(Problem::new(
            Kind::Unavailable,
            "The store does not answer, or takes no writes.",
        )
        .with_retry_after(RETRY_SECONDS)),
    }
}

/// Writes to the store, or uses a recent result. A full disk can still be read: only a write shows that it
/// has room.
async fn probe<S: Store>(world: &World<'_, S>) -> Result<(), StoreError> {
    let found = world.store.get(PROBE, &[PROBE.to_owned()]).await?;
    let written = found.into_iter().flatten().next();
    let written: Option<u64> = written.and_then(|entry| str::from_utf8(&entry.value).ok()?.parse().ok());
    // Also if the clock was set back.
    if written.is_some_and(|written| written.abs_diff(world.now) < PROBE_MS) {
        return Ok(());
    }
    let now = Mutation::Set {
        key: PROBE.to_owned(),
        value: vec![Part::Time],
        expires: None,
    };
    let commit = Commit {
        partition: PROBE.to_owned(),
        mutations: vec![now],
        ..Commit::default()
    };
    world.store.commit(commit).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use futures::executor::block_on;
    use tollgate_store::memory::{InMemoryBuckets, InMemoryStore};

    fn call(store: &InMemoryStore, method: &str, path: &str) -> Response {
        let (settings, fresh) = (Settings::default(), || [7; 16]);
        let world = World {
            store,
            settings: &settings,
            now: store.now(),
            fresh: &fresh,
        };
        let request = Request {
            method: tollgate_api::http::method(method),
            path: path.into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            peer: "127.0.0.1".into(),
        };
        block_on(handle(&world, &InMemoryBuckets::default(), &request))
    }

    #[test]
    fn ready_asks_the_store_and_live_does_not() {
        let store = InMemoryStore::new();
        assert_eq!(call(&store, "GET", "/health/ready").status, 200);
        store.fail_next(StoreError::Unavailable("down".into()));
        assert_eq!(call(&store, "GET", "/health/live").status, 200);
        let refused = call(&store, "GET", "/health/ready");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    }

    #[test]
    fn ready_writes_at_most_every_few_seconds_and_tells_of_a_full_disk() {
        let store = InMemoryStore::new();
        let start = store.now();
        let version = || {
            let found = block_on(store.get(PROBE, &[PROBE.to_owned()])).unwrap();
            found[0].as_ref().map(|entry| entry.version)
        };
        assert_eq!(call(&store, "GET", "/health/ready").status, 200);
        let first = version();
        assert!(first.is_some(), "a full disk is still read: only a write tells");
        store.set_now(start + PROBE_MS - 1);
        assert_eq!(call(&store, "GET", "/health/ready").status, 200);
        assert_eq!(version(), first, "it was written just now");
        store.set_now(start + 2 * PROBE_MS);
        store.refuse_commits(true);
        for _ in 0..2 {
            assert_eq!(call(&store, "GET", "/health/ready").status, 503);
            assert_eq!(call(&store, "GET", "/health/live").status, 200);
        }
        store.refuse_commits(false);
        assert_eq!(call(&store, "GET", "/health/ready").status, 200);
        assert_ne!(version(), first);
    }

    #[test]
    fn everything_else_is_a_problem() {
        let store = InMemoryStore::new();
        assert_eq!(call(&store, "POST", "/health/live").status, 405);
        assert_eq!(call(&store, "GET", "/api/keys").status, 401);
        assert_eq!(call(&store, "GET", "/api/limits").status, 401);
        assert_eq!(call(&store, "GET", "/robots.txt").status, 200);
        for path in [
            "/",
            "/health",
            "/health/",
            "/health/live/",
            "/api",
            "/api/nothing",
            "/api/keys/a/b",
        ] {
            let response = call(&store, "GET", path);
            assert_eq!(response.status, 404, "{path}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
}
