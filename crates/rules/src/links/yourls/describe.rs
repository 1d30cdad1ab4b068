//! What the OpenAPI document says of YOURLS's calls.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::Operation;

const ABOUT: &str = "As [YOURLS](https://yourls.org/docs/guide/api) has it: `action` is `shorturl`, `expand`, `url-stats`, `stats`, `db-stats` or `version`; \
                     `format` is `json`, `jsonp`, `simple` or `xml`, which it is where it is left out. `signature` is an API key, where `Authorization` \
                     has none.";
/// Their names.
const FIELDS: &[&str] = &[
    "action",
    "format",
    "signature",
    "url",
    "keyword",
    "title",
    "shorturl",
    "filter",
    "limit",
    "start",
    "callback",
];

pub(crate) fn describe(call: Call, operation: &mut Operation<'_>) {
    operation.about(ABOUT);
    match call {
        Call::PostYourls => {
            let fields = FIELDS
                .iter()
                .map(|name| ((*name).to_owned(), json!({ "type": "string" })));
            let fields: serde_json::Map<_, _> = fields.collect();
            let form = json!({ "type": "object", "properties": fields });
            operation.takes_form(form, json!({ "action": "version", "format": "json" }));
        }
        _ => {
            for name in FIELDS {
                operation.query(name, json!({ "type": "string" }), "As YOURLS has it.");
            }
        }
    }
    for status in [200, 400, 404] {
        for media in [
            "application/xml; charset=utf-8",
            "text/plain; charset=utf-8",
            "application/javascript; charset=utf-8",
        ] {
            operation.gives_text(status, "As YOURLS answers.", media);
        }
        operation.also_gives_document(status, "application/json");
        operation.shows(status, "application/json", example(status));
        operation.answers_with(status, "X-Content-Type-Options", true);
    }
}

/// An answer with this status, by example.
fn example(status: u16) -> Value {
    match status {
        200 => json!({ "statusCode": 200, "simple": "1.9.2", "version": "1.9.2" }),
        400 => json!({
            "statusCode": 400, "errorCode": 400, "status": "fail", "code": "error:url",
            "message": "Missing or malformed URL", "simple": "Missing or malformed URL",
        }),
        _ => json!({
            "statusCode": 404, "errorCode": 404, "message": "Error: short URL not found", "simple": "not found",
        }),
    }
}
