//! The shortener component: the rule `tollgate_rules::links::handle`. No host works in the background here, so that some requests
//! count what others have noted.

use tollgate_guest::api::http::{Request, Response};
use tollgate_guest::port::Port;
use tollgate_guest::rules::links;
use tollgate_guest::rules::world::World;

async fn answer(world: &World<'_, Port>, request: &Request) -> Response {
    let response = links::handle(world, request).await;
    links::stats::now_and_then(world).await;
    response
}

tollgate_guest::handler!(Shortener, answer);
