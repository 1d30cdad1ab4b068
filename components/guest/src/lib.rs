//! The code that every component of Spin shares: the bindings of the ports ([`port`]), its settings
//! ([`settings`]), how a request comes in ([`spin`]), and how messages go out ([`relay`]). A component's crate is one line: [`handler!`] with
//! a rule from `tollgate-rules`.

mod deferred;
mod outbound;
pub mod port;
pub mod relay;
mod run_time;
pub mod settings;
pub mod spin;
mod turn;

/// Generated from `wit/edge.wit`, once for all components.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "guest", generate_all });
}

tollgate_store::wit_buckets!(crate::bindings::tollgate::edge::buckets);
tollgate_store::wit_store!(crate::bindings::tollgate::edge::store);
tollgate_store::wit_upkeep!(crate::bindings::tollgate::edge::upkeep);

pub use {spin_sdk, tollgate_api as api, tollgate_rules as rules};

use port::Port;
use std::cell::Cell;
use tollgate_api::http::Request;
use tollgate_rules::limiter::{self, Verdict};
use tollgate_rules::quotas;
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;

/// Sixteen bytes from the host's random source.
fn fresh() -> [u8; 16] {
    let bytes = spin_sdk::wasip3::random::random::get_random_bytes(16);
    let mut fresh = [0; 16];
    fresh.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    fresh
}

/// The wall clock, Unix milliseconds.
fn now() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The world of this instance, at this moment.
pub fn world(settings: &Settings) -> World<'_, Port> {
    World {
        store: &Port,
        settings,
        now: now(),
        fresh: &fresh,
    }
}

/// Spin gives an instance so few requests that it may not live until the next report is due.
const ENOUGH_TO_REPORT: u64 = 100;

thread_local! {
    /// Whether this instance has removed counters of quotas that are over.
    static SWEPT: Cell<bool> = const { Cell::new(false) };
}

/// Asks the limiter about a request: its verdict. Where there are quotas, an instance removes one batch of counters that are over:
/// nothing else runs in the background here.
pub async fn judge(world: &World<'_, Port>, request: &Request) -> Verdict {
    if !world.settings.config.quotas.is_empty() && !SWEPT.replace(true) {
        // What was not removed is another instance's to remove.
        let _ = quotas::maintain(&Port, world.now).await;
    }
    let verdict = limiter::check(world, &Port, request).await;
    if let Some(report) = world.settings.policies.shadow_report(world.now, ENOUGH_TO_REPORT) {
        eprintln!("tollgate: {report}");
    }
    verdict
}

/// Exports a rule `async fn(&World<Port>, &Request) -> Response` of a component as `wasi:http/handler`.
#[macro_export]
macro_rules! handler {
    ($component:ident, $rule:path) => {
        #[$crate::spin_sdk::http_service]
        async fn serve(
            request: $crate::spin_sdk::http::Request,
        ) -> impl $crate::spin_sdk::http::IntoResponse {
            let component = $crate::api::components::Component::$component;
            $crate::spin::answer(component, request, async |world, request| {
                $rule(world, request).await
            })
            .await
        }
    };
}
