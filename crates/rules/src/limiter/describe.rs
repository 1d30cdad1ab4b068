//! What the OpenAPI document says of rate limits.

use serde_json::json;
use tollgate_api::openapi::Operation;

use super::handlers::Answer;

pub(crate) fn describe(operation: &mut Operation<'_>) {
    operation
        .about("The `[[limits]]` of tollgate.toml: which requests they match, and what their buckets hold.");
    let example = json!({ "limits": [{
        "name": "default", "path": "/...", "methods": ["*"], "per": ["client"], "capacity": 100, "refill": 10, "interval": 1,
        "cost": 1, "shadow": false, "onStoreFailure": "allow",
    }] });
    operation.gives::<Answer<'_>>(200, "The limits.", example);
}
