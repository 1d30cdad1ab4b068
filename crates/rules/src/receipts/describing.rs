//! What the OpenAPI document says of the calls of receipts.
#![cfg(feature = "schema")]

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::Operation;
use tollgate_api::problem::Kind;

use super::handlers::{Key, Verified, Verify};

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    match call {
        Call::VerifyReceipt => {
            operation.about(
                "Whether this gateway has signed a receipt, what it says, and its claim as it is now: a receipt outlives a revocation. Open to \
                 whoever has one.",
            );
            operation.takes::<Verify>(json!({ "receipt": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl" }));
            let example = json!({
                "valid": false, "why": "its signature is not good", "receipt": null, "claim": null,
            });
            operation.gives::<Verified<'_>>(200, "What it is worth.", example);
        }
        Call::ReadReceiptKeys | Call::ReadJwks => {
            operation.about(
                "The public keys that check receipts, a JWK set (RFC 7517): those for Ed25519 (`[receipts] algorithm = \"EdDSA\"`). Keys for \
                 HMAC-SHA-256 are secret, and not among them.",
            );
            let schema = json!({ "type": "object", "properties": { "keys": { "type": "array", "items": { "type": "object" } } } });
            let example = json!({ "keys": [{
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "4XcP9vKq2LaB",
                "alg": "EdDSA", "use": "sig",
            }] });
            operation.gives_json(200, "The keys.", schema, example);
        }
        Call::RotateReceiptKey => {
            operation.about(
                "A new key signs receipts from now on, on every thread and gateway within 10 s. Those before it still check; of more than 16 the \
                 oldest is forgotten, and its receipts with it.",
            );
            let example =
                json!({ "kid": "4XcP9vKq2LaB", "alg": "HS256", "createdAt": "2030-03-01T08:00:00Z" });
            operation.gives::<Key>(201, "The new key.", example);
            operation.refuses(&[Kind::Conflict]);
        }
        _ => {}
    }
}
