//! What the OpenAPI document says of access lists.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::handlers::{All, Put, View};

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    let list = json!({
        "name": "scrapers", "action": "deny", "path": "/...", "cidrs": ["203.0.113.0/24"], "clients": ["id:harvester"], "users": [],
        "readOnly": false,
    });
    if call != Call::ListAccess {
        operation.path("name", pattern("^[a-z0-9][a-z0-9._-]{0,63}$"), "The list's name.");
    }
    match call {
        Call::ListAccess => {
            operation.about("Those of `[[access]]`, and those that are set here.");
            operation.gives::<All<'_>>(200, "All lists.", json!({ "access": [list] }));
        }
        Call::ReadAccess => {
            operation.about("One of `[[access]]`, or one that is set here.");
            operation.refuses(&[Kind::NotFound]);
            operation.gives::<View<'_>>(200, "The list.", list);
        }
        Call::PutAccess => {
            operation.about(
                "In force when it is answered, on every thread, and kept across a restart. A list to deny comes before one to exempt. \
                 Health checks, and calls below `/api/access` that send a credential, are never denied.",
            );
            let example =
                json!({ "action": "deny", "cidrs": ["203.0.113.0/24"], "clients": ["id:harvester"] });
            operation.takes::<Put>(example);
            operation.refuses(&[Kind::Conflict]);
            operation.gives::<View<'_>>(201, "A new list.", list.clone());
            operation.gives::<View<'_>>(200, "A changed list.", list);
        }
        _ => {
            operation.about("Only what was set here: a list of the configuration is changed there (409).");
            operation.refuses(&[Kind::NotFound, Kind::Conflict]);
            operation.gives_nothing(204, "It is removed, and no longer in force.");
        }
    }
}
