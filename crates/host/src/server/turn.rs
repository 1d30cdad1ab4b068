//! `GET /api/rooms/{name}/tickets/{ticket}?wait=…` waits here, not in the rules: they are asked again and again, from memory, until the turn has
//! come or the time is over. The first question is charged, the others are not.

use super::Shared;
use super::long_poll;
use super::rules::Rules;
use super::runner::{Answer, CallError, Progress, Runner};
use crate::clock::now;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, sleep};
use tollgate_api::problem::{Kind, Problem};
use tollgate_rules::heads;
use tollgate_rules::machine::Stage;
use tollgate_rules::rooms::Patience;

/// The answer once it says something else than to wait, or the caller's patience is over, or the gateway drains.
///
/// # Errors
/// 503: as many calls wait as may.
pub async fn answer(
    shared: &Shared,
    crowd: &Rc<Runner<Rules>>,
    packed: &[u8],
    patience: &Patience,
) -> Result<heads::Response, Problem> {
    let _place = long_poll::place(shared)?;
    let until = Instant::now() + patience.wait;
    let mut stage = Stage::Arrived;
    loop {
        let answer = match crowd.start(packed, now(), false, stage)? {
            Progress::Ended(answer) => answer,
            Progress::Waits(mut waiting) => {
                let no_body = async |_| Ok::<_, CallError>(Vec::new());
                waiting.finish(no_body).await?
            }
        };
        let Answer::Done(response) = answer else {
            return Err(Problem::new(
                Kind::Internal,
                "A ticket is looked at by the rules of the crowd.",
            ));
        };
        let again = Patience::again(&response.body).filter(|_| response.status == 200);
        let is_over = Instant::now() >= until || shared.draining.load(Ordering::Relaxed);
        match again {
            Some(again) if !is_over => sleep(again.min(until - Instant::now())).await,
            _ => return Ok(response),
        }
        stage = Stage::Admitted;
    }
}
