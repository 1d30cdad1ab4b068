//! What the OpenAPI document says of ticks.

use serde_json::json;
use tollgate_api::openapi::Operation;

use super::{MAX_BUDGET, Ticked};

pub(crate) fn describe(operation: &mut Operation<'_>) {
    operation.about(
        "Under Spin: takes every push subscription that nobody serves and that has something to deliver, delivers what is due, and ends when \
         nothing more is, or when the budget is used up (and the attempts that it began have ended). For schedulers; `docs/spin.md`. With the \
         variable `tollgate_tick_secret`, `?secret=` stands in the place of an API key. The relay of the `tollgate` binary runs by itself: \
         there all subscriptions are `elsewhere`.",
    );
    operation.query(
        "budget",
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_BUDGET, "default": 20 }),
        "For how long attempts are begun, seconds.",
    );
    operation.query(
        "secret",
        json!({ "type": "string" }),
        "The secret of the variable, under Spin.",
    );
    operation.gives::<Ticked>(
        200,
        "What was done.",
        json!({ "delivered": 12, "failed": 1, "nextDueIn": 4, "elsewhere": 0 }),
    );
}
