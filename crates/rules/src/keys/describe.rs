//! What the OpenAPI document says of API keys.

use serde_json::json;
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, pattern};
use tollgate_api::problem::Kind;

use super::handlers::{Create, DEFAULT_PAGE, MAX_PAGE, Page, Rotate, View};

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    let key = json!({
        "id": "mzX4nQ9d", "name": "shop", "scopes": ["links", "campaigns"], "createdAt": "2027-01-15T08:00:00Z", "expiresAt": null,
        "previousUntil": null,
    });
    match call {
        Call::ListKeys => {
            operation.about(
                "Those that are valid, without their text. A page may be short while `nextCursor` leads on.",
            );
            operation.pages(MAX_PAGE.into(), DEFAULT_PAGE.into());
            operation.gives::<Page<'_>>(
                200,
                "A page of API keys.",
                json!({ "keys": [key], "nextCursor": null }),
            );
        }
        Call::CreateKey => {
            operation.about("The key itself is in this answer and nowhere else: only its SHA-256 is stored.");
            operation.takes::<Create>(json!({ "name": "shop", "scopes": ["links", "campaigns"] }));
            let mut made = key;
            made["key"] = json!("tg_mzX4nQ9d_6fT0pLr2wVbXcZ8yNqK4sJ1hGd7mAe3uRo5iBv9kYt");
            operation.gives::<View<'_>>(201, "The new key.", made);
        }
        Call::DeleteKey => {
            operation.path("id", pattern("^[0-9A-Za-z]{1,32}$"), "The key's id.");
            operation.about("From the answer on it is not valid.");
            operation.gives_nothing(204, "It is gone.");
            operation.refuses(&[Kind::NotFound]);
        }
        Call::RotateKey => {
            operation.path("id", pattern("^[0-9A-Za-z]{1,32}$"), "The key's id.");
            operation.about(
                "The key keeps its id, so its links stay its own. Its new text is in this answer and nowhere else. Two at once: \
                 one of them is refused.",
            );
            operation.takes::<Rotate>(json!({ "graceSeconds": 3600 }));
            let mut made = key;
            made["key"] = json!("tg_mzX4nQ9d_6fT0pLr2wVbXcZ8yNqK4sJ1hGd7mAe3uRo5iBv9kYt");
            made["previousUntil"] = json!("2027-01-15T09:00:00Z");
            operation.gives::<View<'_>>(200, "The key with its new text.", made);
            operation.refuses(&[Kind::NotFound, Kind::Conflict]);
        }
        _ => {}
    }
}
