//! What the OpenAPI document says of the calls of Dub's API: that they are there, and what they are for. Their bodies are described by
//! Dub itself.

use serde_json::{Value, json};
use tollgate_api::calls::Call;
use tollgate_api::openapi::{Operation, text};
use tollgate_api::problem::Kind;

/// Where the bodies are described.
const ELSEWHERE: &str = "The bodies are those of [Dub's API](https://dub.co/docs/api-reference); the key is in `Authorization`. Unknown fields \
                         are left alone.";

/// A refusal of each status, by example: its code, and what it says.
const REFUSALS: &[(u16, &str, &str)] = &[
    (400, "bad_request", "The body is not JSON."),
    (401, "unauthorized", "An API key is required."),
    (403, "forbidden", "The API key lacks the scope links."),
    (404, "not_found", "There is no such link."),
    (409, "conflict", "key: is taken"),
    (
        422,
        "unprocessable_entity",
        "url: must be an absolute http or https URL",
    ),
];

pub(in crate::links) fn describe(call: Call, operation: &mut Operation<'_>) {
    operation.about(&format!("{} {ELSEWHERE}", about(call)));
    if let Call::DubEditLink | Call::DubDeleteLink = call {
        let rule = "The `id` that Dub's calls tell, or `ext_` and the caller's own `externalId`.";
        operation.path("link", text(1, 256), rule);
    }
    if call.has_body() {
        let kind = match call {
            Call::DubCreateLinks => "array",
            _ => "object",
        };
        operation.takes_json(json!({ "type": kind }), example(call));
    }
    queries(call, operation);
    match call {
        Call::DubListLinks => {
            let links = json!({ "type": "array", "items": { "type": "object" } });
            operation.gives_json(200, "A page of links.", links, json!([link()]));
        }
        Call::DubCreateLinks | Call::DubEditLinks => {
            let links = json!({ "type": "array", "items": { "type": "object" } });
            let refused = json!({ "link": { "url": "x" }, "error": "url: must be an absolute http or https URL", "code": "unprocessable_entity" });
            operation.gives_json(
                200,
                "Of each the link, or what is wrong with it.",
                links,
                json!([link(), refused]),
            );
        }
        Call::DubDeleteLinks => {
            let count = json!({ "type": "object" });
            operation.gives_json(200, "How many were there.", count, json!({ "deletedCount": 2 }));
        }
        Call::DubCountLinks => {
            operation.gives_json(
                200,
                "How many.",
                json!({ "type": "integer", "minimum": 0 }),
                json!(3),
            );
        }
        _ => {
            operation.gives_document(200, "As Dub answers.", "application/json");
            let example = match call {
                Call::DubDeleteLink => json!({ "id": ID }),
                _ => link(),
            };
            operation.shows(200, "application/json", example);
        }
    }
    operation.refuses_otherwise(&[400, 401, 403, 404, 409, 422], Some("application/json"));
    for (status, code, message) in REFUSALS {
        let page = format!(
            "https://dub.co/docs/api-reference/errors#{}",
            code.replace('_', "-")
        );
        let example = json!({ "error": { "code": code, "message": message, "doc_url": page } });
        operation.shows(*status, "application/json", example);
    }
    if let Call::DubCreateLinks | Call::DubEditLinks | Call::DubDeleteLinks = call {
        // Of a large body, the gateway asks by itself who may send it.
        operation.refuses(&[Kind::InvalidRequest, Kind::Unauthorized, Kind::Forbidden]);
    }
}

/// A link's id, by example.
const ID: &str = "link_01kf1s5m00e5bw2pxw9qvb4ntz";

/// A link, by example: the beginning of it.
fn link() -> Value {
    json!({
        "id": ID, "domain": "localhost:3000", "key": "sale", "url": "https://example.com/sale",
        "shortLink": "http://localhost:3000/sale", "utm_source": "mail", "clicks": 42, "archived": false,
    })
}

fn queries(call: Call, operation: &mut Operation<'_>) {
    let word = || json!({ "type": "string" });
    let whole = |most: u64| json!({ "type": "integer", "minimum": 1, "maximum": most });
    match call {
        Call::DubListLinks => {
            operation.query(
                "page",
                whole(10_000),
                "From 1. Pages reach to the first 10,000 links.",
            );
            operation.query("pageSize", whole(100), "Links of a page; 100.");
            operation.query("search", word(), "In key, URL, title, `externalId` or tags.");
            operation.query("tagNames", word(), "One of these tags.");
            operation.query("showArchived", json!({ "type": "boolean" }), "Archived ones too.");
        }
        Call::DubCountLinks => {
            operation.query("search", word(), "In key, URL, title, `externalId` or tags.");
            operation.query("tagNames", word(), "One of these tags.");
            operation.query("showArchived", json!({ "type": "boolean" }), "Archived ones too.");
        }
        Call::DubDeleteLinks => {
            operation.query(
                "linkIds",
                word(),
                "Which links: ids with commas between them, at most 100.",
            );
        }
        Call::DubReadLink => {
            for name in ["linkId", "externalId", "domain", "key"] {
                operation.query(
                    name,
                    word(),
                    "Which link: by one of its ids, or by domain and key.",
                );
            }
        }
        _ => {}
    }
}

/// What a call does.
fn about(call: Call) -> &'static str {
    match call {
        Call::DubListLinks => {
            "The caller's links, newest first: `search`, `tagNames`, `showArchived`, `sortBy`, `sortOrder`, by `page` or `startingAfter`."
        }
        Call::DubCreateLink => "A new link.",
        Call::DubCreateLinks => "Up to 100 new links, each on its own.",
        Call::DubEditLinks => {
            "Changes up to 100 of the key's own links in the same way: `linkIds` or `externalIds`, and `data`."
        }
        Call::DubDeleteLinks => "Removes up to 100 of the key's own links.",
        Call::DubUpsertLink => "Changes the caller's newest link to this URL, or makes one.",
        Call::DubCountLinks => "How many links the caller has.",
        Call::DubReadLink => "One link, by `linkId`, `externalId`, or `domain` and `key`.",
        Call::DubEditLink => "Changes a link; null clears.",
        _ => "Removes a link.",
    }
}

fn example(call: Call) -> Value {
    match call {
        Call::DubEditLink => json!({ "title": "Spring sale", "expiresAt": null }),
        Call::DubCreateLinks => {
            json!([{ "url": "https://example.com/sale", "key": "sale" }, { "url": "https://example.com/new" }])
        }
        Call::DubEditLinks => json!({ "linkIds": [ID], "data": { "tagNames": ["spring"] } }),
        _ => {
            json!({ "url": "https://example.com/sale", "key": "sale", "tagNames": ["spring"], "utm_source": "mail" })
        }
    }
}
