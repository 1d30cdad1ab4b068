//! What the OpenAPI document says of each call: beside its rule, in the `describe` of its module.

use serde_json::Value;
use tollgate_api::calls::Call;
use tollgate_api::components::Component;
use tollgate_api::openapi::{self, Operation};

use crate::{
    access, admin, campaigns, challenges, draws, forward, groups, keys, limiter, links, receipts, rooms,
    subscriptions, tick, topics,
};

/// The document of this version.
///
/// # Errors
/// What contradicts itself; see [`openapi::document`].
pub fn document() -> Result<Value, String> {
    openapi::document(env!("CARGO_PKG_VERSION"), describe)
}

fn describe(call: Call, operation: &mut Operation<'_>) {
    use Call::*;
    match call.component() {
        Component::Shortener => links::describe::describe(call, operation),
        Component::Coupon if draws::owns(call.path()) => draws::describe::describe(call, operation),
        Component::Coupon if call == ReadChallenge => challenges::describe::describe(call, operation),
        Component::Coupon if rooms::owns(call.path()) => rooms::describe::describe(call, operation),
        Component::Coupon => campaigns::describe::describe(call, operation),
        Component::Forward => match call {
            ListTopics | ReadTopic | DeleteTopic | ReadMessages => {
                topics::describe::describe(call, operation)
            }
            PostMessage | ReadMessage => forward::describe::describe(call, operation),
            AskSqs | AskSqsQueue => groups::sqs::describe::describe(call, operation),
            call if groups::answers(call) => groups::describe::describe(call, operation),
            _ => subscriptions::describe::describe(call, operation),
        },
        Component::Admin => match call {
            ListKeys | CreateKey | DeleteKey | RotateKey => keys::describe::describe(call, operation),
            ListAccess | ReadAccess | PutAccess | DeleteAccess => access::describe::describe(call, operation),
            ListLimits | Check | ListOverrides | ListRefusals | ReadClientLimits | PutOverride
            | RefillClient => {
                limiter::describe::describe(call, operation);
            }
            ReadJwks => receipts::describe(call, operation),
            AskYourls | PostYourls => links::yourls::describe::describe(call, operation),
            Tick | TickByGet => tick::describe::describe(operation),
            _ => admin::describe::describe(call, operation),
        },
    }
}
