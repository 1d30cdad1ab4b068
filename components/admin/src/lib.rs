//! The admin component: the rule `tollgate_rules::admin::handle`.

use tollgate_guest::api::http::{Request, Response};
use tollgate_guest::port::Port;
use tollgate_guest::relay;
use tollgate_guest::rules::admin;
use tollgate_guest::rules::world::World;

async fn handle(world: &World<'_, Port>, request: &Request) -> Response {
    match relay::tick(world, request).await {
        Some(response) => response,
        None => admin::handle(world, world.store, request).await,
    }
}

tollgate_guest::handler!(Admin, handle);
