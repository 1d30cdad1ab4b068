//! The forward component: the rule `tollgate_rules::forward::handle_alone`.

use tollgate_guest::api::http::{Request, Response};
use tollgate_guest::port::Port;
use tollgate_guest::relay;
use tollgate_guest::rules::forward;
use tollgate_guest::rules::world::World;

async fn handle(world: &World<'_, Port>, request: &Request) -> Response {
    match relay::trial(world, request).await {
        Some(response) => response,
        None => forward::handle_alone(world, request).await,
    }
}

tollgate_guest::handler!(Forward, handle);
