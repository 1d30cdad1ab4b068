//! What every component shares: the bindings of the ports ([`port`]), its settings ([`settings`]), and its two
//! doors. A gate's crate is one line: [`gate!`] with a rule from `tollgate-core`.

mod convert;
pub mod port;
pub mod settings;
pub mod spin;

/// Generated from `wit/edge.wit`, once for all components.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "guest", generate_all });
}

pub use convert::{request_from_wit, response_into_wit, verdict_into_wit};
pub use {spin_sdk, tollgate_core as core, wit_bindgen};

use port::{NowPort, Port};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
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
    world_on(&Port)
}

/// The world of a rule that must not wait.
pub fn world_now() -> World<'static, NowPort> {
    world_on(&NowPort)
}

fn world_on<S>(store: &'static S) -> World<'static, S> {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    World {
        store,
        config: settings::config(),
        now,
        fresh: &fresh,
    }
}

/// The result of a rule that runs on [`NowPort`], or `None` if it would have to wait.
pub fn now<T>(rule: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(rule).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
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
                let request = $crate::request_from_wit(request);
                $crate::response_into_wit($rule(&$crate::world(), &request).await)
            }

            fn handle_now(
                request: $crate::bindings::tollgate::edge::types::Request,
            ) -> Option<$crate::bindings::tollgate::edge::types::Response> {
                let request = $crate::request_from_wit(request);
                $crate::now($rule(&$crate::world_now(), &request)).map($crate::response_into_wit)
            }
        }

        #[$crate::spin_sdk::http_service]
        async fn serve(request: $crate::spin_sdk::http::Request) -> impl $crate::spin_sdk::http::IntoResponse {
            $crate::spin::gate(request, async |world, request| $rule(world, request).await).await
        }
    };
}
