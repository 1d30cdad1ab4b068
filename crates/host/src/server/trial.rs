//! `POST …/subscriptions/{name}/test`: a sample goes through the relay, which knows where no delivery may lead.

use super::Shared;
use super::generation::Generation;
use super::patience::in_time;
use super::service::{Answer, BUSY_RETRY_SECONDS, from_core};
use crate::clock::now;
use std::sync::Arc;
use tollgate_api::calls::Call;
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};
use tollgate_delivery::driver::{NoTrial, Report};
use tollgate_rules::subscriptions::trial::{self, Trial};
use tollgate_rules::world::World;

/// Sends a sample, and answers with what the receiver said.
///
/// # Errors
/// Those of [`Trial::of`]; 409 for a subscription that cannot be served; 503 where as many samples are under way as may.
pub async fn answer(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    request: Request,
) -> Result<Answer, Problem> {
    let Some(Ok((Call::TestSubscription, [topic, name]))) = Call::native(&request.method, &request.path)
    else {
        return Err(Problem::not_found());
    };
    let world = World {
        store: &shared.engines.store,
        settings: &generation.settings,
        now: now(),
        fresh: &|| fastrand::u128(..).to_le_bytes(),
    };
    let trial = in_time(Trial::of(&world, &request, topic, name)).await?;
    let busy = || {
        let detail = "As many samples are under way as may be.";
        Problem::new(Kind::Unavailable, detail).with_retry_after(BUSY_RETRY_SECONDS)
    };
    let trials = shared.trials.get().ok_or_else(busy)?;
    let id = trial.sample.id.clone();
    match trials.deliver(trial.settings, trial.source, trial.sample).await {
        Ok(Report { delivered, answered }) => Ok(from_core(trial::answer(&id, &delivered, &answered))),
        Err(NoTrial::Busy) => Err(busy()),
        Err(NoTrial::Faulty(why)) => {
            let detail = format!("The subscription cannot be served: {why}.");
            Err(Problem::new(Kind::Conflict, detail))
        }
    }
}
