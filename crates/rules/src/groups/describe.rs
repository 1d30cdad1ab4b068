//! What the OpenAPI document says of consumer groups.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::{Page, View, lease, manage, settle};
use crate::{dead_letters, topics};

const HELD: &str = "9-8f14e45fceea167a";

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    topics::describe::name(operation);
    if call.path().contains(":group") {
        let form = pattern("^[a-z0-9][a-z0-9._-]{0,63}$");
        operation.path("group", form, "The group's name.");
        if call != Call::PutGroup {
            operation.refuses(&[Kind::NotFound]);
        }
    }
    match call {
        Call::ListGroups => {
            operation.about("All of a topic, by name.");
            operation.gives::<Page>(200, "The groups.", json!({ "groups": [group()] }));
        }
        Call::ReadGroup => {
            operation.about("With how far it is.");
            operation.gives::<View>(200, "The group.", group());
        }
        Call::PutGroup => {
            operation.about(
                "Consumers of a group share the topic's messages: each is leased to one of them at a time. What the body leaves out takes its \
                 default; an empty body takes all of them.",
            );
            operation.may_take::<manage::Body>(
                json!({ "startFrom": "oldest", "maxAttempts": 10, "ordered": true }),
            );
            operation.gives::<View>(201, "The new group.", group());
            operation.gives::<View>(200, "The changed group. It goes on where it is.", group());
            operation.refuses(&[Kind::Conflict]);
        }
        Call::DeleteGroup => {
            operation.about("Its leases hold no more; its dead letters go with it.");
            operation.gives_nothing(204, "It is gone.");
            operation.refuses(&[Kind::Conflict]);
        }
        Call::LeaseMessages => {
            operation.about(
                "Messages for the caller alone until the deadline, oldest first. Each is to be acknowledged before it; otherwise it is leased \
                 again, and after `maxAttempts` leases it is a dead letter. Where the group is ordered, one message of an ordering key is \
                 out at a time.",
            );
            operation.may_take::<lease::Body>(json!({ "limit": 100, "leaseSeconds": 30, "wait": 20 }));
            let example = json!({ "leases": [{
                "message": topics::describe::message(), "leaseId": HELD, "attempt": 1, "deadline": "2027-01-15T09:31:00Z",
            }]});
            operation.gives::<lease::Answer<'_>>(200, "The leases; none if there is no message.", example);
        }
        Call::AckMessages => {
            operation.about("The messages are done. A lease that ran out acknowledges nothing, and is told.");
            operation.takes::<settle::AckBody>(json!({ "leaseIds": [HELD] }));
            operation.gives::<settle::Acked>(200, "How many.", json!({ "acked": 1, "expired": [] }));
        }
        Call::NackMessages => {
            operation.about("The messages may be leased again, at once or after a delay.");
            operation.takes::<settle::NackBody>(json!({ "leaseIds": [HELD], "delaySeconds": 60 }));
            operation.gives::<settle::Nacked>(200, "How many.", json!({ "nacked": 1, "expired": [] }));
        }
        Call::ExtendLeases => {
            operation.about("The leases hold for `leaseSeconds` from now on.");
            operation.takes::<settle::ExtendBody>(json!({ "leaseIds": [HELD], "leaseSeconds": 60 }));
            let example = json!({ "extended": 1, "deadline": "2027-01-15T09:32:00Z", "expired": [] });
            operation.gives::<settle::Extended>(200, "How many.", example);
        }
        _ => dead_letters::describe::describe(call, operation),
    }
}

fn group() -> Value {
    json!({
        "topic": "coupon", "name": "shop", "maxAttempts": 10, "ordered": true, "next": 42, "lag": 3, "leased": 2, "waiting": 1,
        "createdAt": "2027-01-15T08:00:00Z", "updatedAt": "2027-01-15T08:00:00Z",
    })
}
