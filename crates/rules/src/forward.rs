//! Requests that become messages, and what became of them: `/api/topics/…`, `/api/messages/…`, and the `[[forward]]`
//! routes of the configuration.
//!
//! Strangers may post only to topics that the configuration names (`[topics.x]`, `[[forward]]`). The topic
//! that campaigns announce claims in by default takes a configured route or the scope `topics`, so that
//! nobody forges claims. Any other topic begins with the first message of a caller with the scope `topics`:
//! the number of topics does not grow with the number of strangers.

pub mod delayed;
#[cfg(feature = "schema")]
pub(crate) mod describe;
mod post;
mod record;
#[cfg(test)]
mod tests;
mod verify;

pub use post::MESSAGE_TYPE;
pub(crate) use post::by_key;
pub(crate) use verify::Verifier;

use crate::config::{TOPIC_NAME_RULE, is_topic_name};
use crate::world::World;
use crate::{groups, subscriptions, topics};
use tollgate_api::calls::{self, Call};
use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::pattern;
use tollgate_api::problem::Problem;
use tollgate_store::ports::Store;

/// Rounds of [`delayed::release`] before one request.
const ROUNDS: usize = 4;

/// The handler where nothing works in the background (Spin): before whoever reads or leases is answered, what is due is put into its
/// topic.
pub async fn handle_alone<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    let reads = request.method == "GET" || request.path.ends_with("/lease");
    if reads && request.path.starts_with("/api/") || calls::is_sqs(&request.path) {
        for _ in 0..ROUNDS {
            // What is not done now is done before the next request.
            let more = delayed::release(world.store, &world.settings.config, world.now).await;
            if !more.unwrap_or(false) {
                break;
            }
        }
    }
    handle(world, request).await
}

/// The handler: answers every request, with a problem document where it must. No answer may be cached: each
/// is for its caller alone.
pub async fn handle<S: Store>(world: &World<'_, S>, request: &Request) -> Response {
    let answer = api(world, request).await;
    answer
        .unwrap_or_else(Problem::into_response)
        .with("cache-control", "no-store")
}

async fn api<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    if !request.path.starts_with("/api/") && !calls::is_sqs(&request.path) {
        return routed(world, request).await;
    }
    let (call, [name, subscription]) = calls::find(Component::Forward, request)?;
    if let Call::AskSqs | Call::AskSqsQueue = call {
        // Boxed to keep the future of a route small.
        return Ok(Box::pin(groups::sqs::handle(world, request)).await);
    }
    match call {
        Call::ReadMessage => return record::read(world, request, name).await,
        Call::ListTopics => return topics::list(world, request).await,
        // Our host has answered it: a component has no relay to send by.
        Call::TestSubscription => return Err(Problem::not_found()),
        _ if !is_topic_name(name) => return Err(Problem::field("path:topic", TOPIC_NAME_RULE)),
        _ => {}
    }
    match call {
        Call::ReadTopic => topics::read(world, request, name).await,
        Call::DeleteTopic => topics::delete(world, request, name).await,
        Call::ReadMessages => topics::messages(world, request, name).await,
        Call::PostMessage => post::to_topic(world, request, name).await,
        call if groups::answers(call) => groups::handle(world, request, call, name, subscription).await,
        _ => subscriptions::handle(world, request, call, name, subscription).await,
    }
}

/// The most specific configured route that matches path and method; 405 if only the path of some does.
async fn routed<S: Store>(world: &World<'_, S>, request: &Request) -> Result<Response, Problem> {
    let forwards = world.settings.forwards();
    let on_path: Vec<_> = forwards
        .enumerate()
        .filter(|(_, (route, _))| route.matches(&request.path))
        .collect();
    let taken = on_path
        .iter()
        .filter(|(_, (_, entry))| pattern::takes_method(&entry.methods, &request.method));
    if let Some((index, (_, entry))) = taken.max_by(|(_, a), (_, b)| a.0.cmp(b.0)) {
        // Before anything else: what is not genuine costs no look into the store.
        if let Some(verifier) = world.settings.verifier(*index) {
            verifier.check(request, world.now)?;
        }
        return post::routed(world, request, entry).await;
    }
    if on_path.is_empty() {
        return Err(Problem::not_found());
    }
    let mut allow: Vec<&str> = on_path
        .iter()
        .flat_map(|(_, (_, entry))| &entry.methods)
        .map(String::as_str)
        .collect();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.sort_unstable();
    allow.dedup();
    Err(Problem::method_not_allowed(&allow.join(", ")))
}
