//! The limiter component: a typed `filter` for hosts that call it so, and HTTP middleware for Spin.

use std::sync::OnceLock;
use tollgate_guest::bindings::tollgate::edge::types;
use tollgate_guest::core::http::Request;
use tollgate_guest::core::keys;
use tollgate_guest::core::limiter::{self, Policies, Verdict};
use tollgate_guest::core::ports::World;
use tollgate_guest::port::Port;
use tollgate_guest::spin_sdk;

#[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
mod door {
    tollgate_guest::wit_bindgen::generate!({
        path: "../../wit",
        world: "filter-door",
        runtime_path: "::tollgate_guest::wit_bindgen::rt",
        with: { "tollgate:edge/types@0.1.0": ::tollgate_guest::bindings::tollgate::edge::types },
    });
    use super::Limiter;
    export!(Limiter);
}

use door::exports::tollgate::edge::filter;

struct Limiter;

/// Compiled once per instance.
fn policies(world: &World<'static, Port>) -> &'static Policies {
    static POLICIES: OnceLock<Policies> = OnceLock::new();
    POLICIES.get_or_init(|| {
        Policies::compile(world.config).unwrap_or_else(|error| tollgate_guest::settings::refuse(&error))
    })
}

/// Spin gives an instance so few requests that it may not live until the next report is due.
const ENOUGH_TO_REPORT: u64 = 100;

async fn check(world: &World<'static, Port>, request: &Request) -> Verdict {
    let verdict = limiter::check(world, policies(world), &Port, request).await;
    if let Some(report) = policies(world).shadow_report(world.now, ENOUGH_TO_REPORT) {
        eprintln!("tollgate: {report}");
    }
    verdict
}

impl filter::Guest for Limiter {
    async fn check(request: types::Request) -> filter::Verdict {
        match check(&tollgate_guest::world(), &request.into()).await {
            Verdict::Admit(headers) => filter::Verdict::Admit(headers.into_iter().map(Into::into).collect()),
            Verdict::Answer(response) => filter::Verdict::Answer(response.into()),
        }
    }
}

/// Under Spin nothing runs before the first request, so that request makes sure that there is an admin key: the one
/// in the variable `tollgate_admin_key`, or one that is made now and shown once. Once per instance; a store that does
/// not answer leaves it to the next request.
async fn admin_key(world: &World<'static, Port>) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Relaxed) {
        return;
    }
    let given = spin_sdk::variables::get("tollgate_admin_key")
        .await
        .unwrap_or_default();
    let done = match given.trim() {
        "" => match keys::bootstrap(world.store, world.now, world.fresh).await {
            Ok(Some(key)) => {
                eprintln!(
                    "\n  Admin key of this store, shown this once (only its hash is kept):\n\n      {key}\n"
                );
                true
            }
            Ok(None) => true,
            Err(_) => false,
        },
        key => match keys::install_admin(world.store, key, world.now).await {
            Ok(()) => true,
            Err(keys::AdminKeyError::Store(_)) => false,
            Err(error) => {
                eprintln!("tollgate: the variable tollgate_admin_key: {error}");
                true
            }
        },
    };
    DONE.store(done, Ordering::Relaxed);
}

#[spin_sdk::http_service]
async fn serve(
    request: spin_sdk::http::Request,
) -> Result<tollgate_guest::spin::SpinResponse, spin_sdk::http::Error> {
    admin_key(&tollgate_guest::world()).await;
    tollgate_guest::spin::filter(request, check).await
}
