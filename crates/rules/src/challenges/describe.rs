//! What the OpenAPI document says of challenges.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::Posed;

pub(crate) fn describe(_: Call, operation: &mut Operation<'_>) {
    let form = pattern("^[a-z0-9][a-z0-9._-]{0,63}$");
    operation.path("name", form, "The name of the `[[challenges]]`.");
    operation.refuses(&[Kind::NotFound]);
    operation.about(
        "What is to be solved. Of the kind `altcha`: a new challenge in the form of ALTCHA, for its widget and libraries. Find the number for which SHA-256(salt ‖ number) is the challenge, and send \
         algorithm, challenge, number, salt and signature as JSON in base64, in `x-challenge`, with the request that asked for it. Of the kind `siteverify`: whose widget gives the token that is sent there, and with which site key. Each solution counts once.",
    );
    let example = json!({
        "algorithm": "SHA-256", "challenge": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "maxnumber": 50000,
        "salt": "01010101010101010101010101010101?expires=1800000600&",
        "signature": "2c78901d3fb33738768511a30617afa01d6e340b9cffb37a989ca544e6bb780a",
    });
    operation.gives::<Posed>(200, "What is to be solved.", example);
}
