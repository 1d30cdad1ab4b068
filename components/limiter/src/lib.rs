//! The limiter component: a typed `filter` for hosts that call it so. Under Spin every component runs the same rule before
//! its own (`tollgate_guest::spin`): a component in front of another costs more there than a whole request.

use tollgate_guest::bindings::tollgate::edge::types;
use tollgate_guest::core::limiter::Verdict;

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

impl filter::Guest for Limiter {
    async fn check(request: types::Request) -> filter::Verdict {
        let world = tollgate_guest::world(tollgate_guest::settings::settings());
        match tollgate_guest::judge(&world, &request.into()).await {
            Verdict::Admit(headers) => filter::Verdict::Admit(headers.into_iter().map(Into::into).collect()),
            Verdict::Answer(response) => filter::Verdict::Answer(response.into()),
        }
    }
}
