//! `/api/relay/tick`: deliver what is due now. Under Spin nothing runs between requests, so a scheduler asks. Whoever carries it out
//! is the host: here stand who may ask, for how long, and what is answered.

#[cfg(feature = "schema")]
pub(crate) mod describe;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::keys;
use crate::world::World;
use tollgate_api::calls::Scope;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_api::query::Query;
use tollgate_delivery::relay::restore;
use tollgate_delivery::subscriptions;
use tollgate_store::commit::StoreError;
use tollgate_store::ports::Store;

/// The path of the calls.
pub const PATH: &str = "/api/relay/tick";
/// The longest that one tick begins attempts for, seconds: schedulers and proxies wait for 30 at most.
pub const MAX_BUDGET: u64 = 25;
/// The budget of a tick that names none, seconds.
const BUDGET: u64 = 20;
/// The shortest secret that opens the call, bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Tick"))]
#[serde(rename_all = "camelCase")]
pub struct Ticked {
    /// Messages that receivers accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// When something is due again, seconds; null: nothing waits.
    pub next_due_in: Option<u64>,
    /// Push subscriptions that others serve at the moment.
    pub elsewhere: u64,
}

impl Ticked {
    /// The answer.
    pub fn into_response(self) -> Response {
        Response::json(200, &self).with("cache-control", "no-store")
    }
}

/// For how long the caller wants deliveries to be begun, milliseconds. `secret`: what opens the call to a scheduler that can send no
/// header, as `?secret=…`; an API key with the scope `topics` always does.
///
/// # Errors
/// 400 for a query that is not valid; 401, 403.
pub async fn budget<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    secret: Option<&str>,
) -> Result<u64, Problem> {
    let query = Query::of(request, &["budget", "secret"])?;
    let is_known = match (query.text("secret"), usable(secret)) {
        (Some(given), Some(secret)) => is_same(given, secret),
        _ => false,
    };
    // A credential that is sent is never ignored.
    if !is_known || keys::is_sent(request)? {
        keys::require(world.store, request, world.now, Scope::Topics).await?;
    }
    Ok(query.number("budget", 1..=MAX_BUDGET, BUDGET)? * 1_000)
}

/// A secret that is long enough.
fn usable(secret: Option<&str>) -> Option<&str> {
    secret.filter(|secret| secret.len() >= MIN_SECRET_BYTES)
}

/// Takes the same time wherever two texts differ, and whatever their lengths.
fn is_same(given: &str, secret: &str) -> bool {
    let [given, secret] = [given, secret].map(|text| Sha256::digest(text.as_bytes()));
    bool::from(given.as_slice().ct_eq(secret.as_slice()))
}

/// The answer of a host whose relay runs by itself: it has every subscription.
///
/// # Errors
/// See [`budget`]; those of the store.
pub async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    budget(world, request, None).await?;
    let ticked = Ticked {
        elsewhere: served(world).await?,
        ..Ticked::default()
    };
    Ok(ticked.into_response())
}

/// The subscriptions that are not paused.
async fn served<S: Store>(world: &World<'_, S>) -> Result<u64, StoreError> {
    let mut served = 0;
    for defined in subscriptions::all(world.store, world.settings.config.subscriptions()).await? {
        let polled = restore::poll(world.store, &defined.keys()).await?;
        served += u64::from(!polled.control.0.paused);
    }
    Ok(served)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use futures::executor::block_on;
    use tollgate_api::http::Header;
    use tollgate_store::memory::InMemoryStore;

    const SECRET: &str = "a-secret-of-the-scheduler";
    const KEY: &str = "an-admin-key-that-is-long";

    fn asked(query: &str, key: Option<&str>, secret: Option<&str>) -> Result<u64, u16> {
        let store = InMemoryStore::new();
        let settings = Settings::default();
        let world = World {
            store: &store,
            settings: &settings,
            now: store.now(),
            fresh: &|| [7; 16],
        };
        let authorization = key.map(|key| Header::new("authorization", format!("Bearer {key}")));
        let request = Request {
            method: "GET".into(),
            path: PATH.into(),
            query: Some(query.into()),
            headers: authorization.into_iter().collect(),
            body: Vec::new(),
            peer: String::new(),
        };
        block_on(async {
            keys::install_admin(&store, KEY, store.now()).await.unwrap();
            let asked = budget(&world, &request, secret).await;
            asked.map_err(|problem| problem.into_response().status)
        })
    }

    #[test]
    fn a_key_or_the_secret_opens_it_and_nothing_else() {
        let with = format!("secret={SECRET}");
        assert_eq!(asked("", Some(KEY), None), Ok(20_000));
        assert_eq!(asked(&with, None, Some(SECRET)), Ok(20_000));
        assert_eq!(asked(&format!("{with}&budget=3"), None, Some(SECRET)), Ok(3_000));
        for (query, key, secret) in [
            ("", None, Some(SECRET)),
            (&*with, None, None),
            ("secret=", None, Some("")),
            ("secret=short", None, Some("short")),
            ("secret=a-secret-of-the-schedule", None, Some(SECRET)),
            (&*with, Some("a-key-that-nobody-has-ever-seen"), Some(SECRET)),
        ] {
            assert_eq!(asked(query, key, secret), Err(401), "{query} {key:?}");
        }
    }

    #[test]
    fn a_budget_is_a_number_of_seconds_within_bounds() {
        assert_eq!(asked("budget=1", Some(KEY), None), Ok(1_000));
        assert_eq!(asked("budget=25", Some(KEY), None), Ok(25_000));
        for bad in [
            "budget=0",
            "budget=26",
            "budget=",
            "budget=1.5",
            "budget=-1",
            "budget=1&budget=2",
            "x=1",
        ] {
            assert_eq!(asked(bad, Some(KEY), None), Err(400), "{bad}");
        }
    }
}
