//! `POST …/subscriptions/{name}/test`: the request itself sends the sample, and waits for what the origin says.

use tollgate_api::calls::Call;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_delivery::subscriptions::{Defined, Source};
use tollgate_rules::subscriptions::trial::{self, Trial};
use tollgate_rules::world::World;

use super::one;
use crate::port::Port;

/// Sends a sample, and tells how it was taken; `None`: the request asks for something else. How the answer of the origin began is not
/// told here: nobody waits for bodies under Spin.
pub async fn answer(world: &World<'_, Port>, request: &Request) -> Option<Response> {
    let Some(Ok((Call::TestSubscription, [topic, name]))) = Call::native(&request.method, &request.path)
    else {
        return None;
    };
    let answer = sent(world, request, topic, name).await;
    let answer = answer.unwrap_or_else(Problem::into_response);
    Some(answer.with("cache-control", "no-store"))
}

async fn sent(
    world: &World<'_, Port>,
    request: &Request,
    topic: &str,
    name: &str,
) -> Result<Response, Problem> {
    let Trial { settings, sample, .. } = Trial::of(world, request, topic, name).await?;
    let to = Defined {
        topic: topic.to_owned(),
        settings,
        // Where it is defined makes no difference to a delivery.
        source: Source::File,
    };
    let (delivered, answered) = one(&world.settings.public_url, &to, &sample).await;
    Ok(trial::answer(&sample.id, &delivered, &answered))
}
