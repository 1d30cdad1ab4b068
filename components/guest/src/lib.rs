//! What every component shares: the bindings of the ports ([`port`]), its settings ([`settings`]), and its two
//! doors. A gate's crate is one line: [`gate!`] with a rule from `tollgate-core`.

pub mod port;
pub mod settings;
pub mod spin;

/// Generated from `wit/edge.wit`, once for all components.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "guest", generate_all });
}

tollgate_core::wit_types!(crate::bindings::tollgate::edge::types);
tollgate_core::wit_buckets!(crate::bindings::tollgate::edge::buckets);
tollgate_core::wit_store!(crate::bindings::tollgate::edge::store);

pub use {spin_sdk, tollgate_core as core, wit_bindgen};

use port::Port;
use tollgate_core::ports::World;

/// Sixteen bytes from the host's random source.
fn fresh() -> [u8; 16] {
    let bytes = spin_sdk::wasip3::random::random::get_random_bytes(16);
    let mut fresh = [0; 16];
    fresh.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    fresh
}

/// The world of this instance, at this moment.
pub fn world() -> World<'static, Port> {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    World {
        store: &Port,
        config: settings::config(),
        now,
        fresh: &fresh,
    }
}

/// Exports a rule `async fn(&World<Port>, &Request) -> Response` through both doors: `tollgate:edge/gate` for hosts
/// that call it typed, and `wasi:http/handler` for Spin.
#[macro_export]
macro_rules! gate {
    ($rule:path) => {
        #[allow(missing_docs, clippy::all, unsafe_code, reason = "generated")]
        mod door {
            $crate::wit_bindgen::generate!({
                path: "../../wit",
                world: "gate-door",
                runtime_path: "::tollgate_guest::wit_bindgen::rt",
                with: { "tollgate:edge/types@0.1.0": ::tollgate_guest::bindings::tollgate::edge::types },
            });
            use super::Component;
            export!(Component);
        }

        struct Component;

        impl door::exports::tollgate::edge::gate::Guest for Component {
            async fn handle(
                request: $crate::bindings::tollgate::edge::types::Request,
            ) -> $crate::bindings::tollgate::edge::types::Response {
                $rule(&$crate::world(), &request.into()).await.into()
            }
        }

        #[$crate::spin_sdk::http_service]
        async fn serve(request: $crate::spin_sdk::http::Request) -> impl $crate::spin_sdk::http::IntoResponse {
            $crate::spin::gate(request, async |world, request| $rule(world, request).await).await
        }
    };
}
