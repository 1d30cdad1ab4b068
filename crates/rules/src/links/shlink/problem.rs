//! Problems of Shlink's types.

use serde_json::{Value, json};

use crate::keys;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::StoreError;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// As our own call would be answered.
    Problem(Problem),
    /// Fields that break a rule.
    Invalid { names: Vec<String>, detail: String },
    /// There is no such link.
    NoLink,
    /// There is no such tag.
    NoTag(String),
    /// There is another tag of that name.
    TagConflict(String, String),
    /// There are no live updates.
    Mercure,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// Our names of fields, and Shlink's.
const NAMES: &[(&str, &str)] = &[
    ("url", "longUrl"),
    ("code", "customSlug"),
    ("codeLength", "shortCodeLength"),
    ("validFrom", "validSince"),
    ("expiresAt", "validUntil"),
    ("rules", "redirectRules"),
];

/// A pointer of ours as the name of a field of theirs.
fn name(pointer: &str) -> String {
    let pointer = pointer.trim_start_matches("#/").trim_start_matches("query:");
    let first = pointer.split('/').next().unwrap_or_default();
    let found = NAMES.iter().find(|(ours, _)| *ours == first);
    found.map_or(first, |(_, theirs)| theirs).to_owned()
}

impl Fault {
    pub(super) fn invalid(name: &str, detail: &str) -> Self {
        Self::Invalid {
            names: vec![name.to_owned()],
            detail: detail.to_owned(),
        }
    }

    /// The answer to a request about this code.
    pub(super) fn answer(self, request: &Request, code: &str) -> Response {
        let problem = match self {
            Self::Problem(problem) => problem,
            Self::Invalid { names, detail } => return invalid(&names, &detail),
            Self::NoLink => return no_link(code),
            Self::NoTag(tag) => {
                let detail = format!("Tag with name \"{tag}\" could not be found");
                return answer(
                    "tag-not-found",
                    "Tag not found",
                    404,
                    &detail,
                    json!({ "tag": tag }),
                );
            }
            Self::TagConflict(old, new) => {
                let detail = format!("You cannot rename tag {old} to {new}, because it already exists");
                let more = json!({ "oldName": old, "newName": new });
                return answer("tag-conflict", "Tag conflict", 409, &detail, more);
            }
            Self::Mercure => {
                let detail = "This gateway is not integrated with a mercure hub.";
                let title = "Mercure integration not configured";
                return answer("mercure-not-configured", title, 501, detail, json!({}));
            }
        };
        match problem.kind {
            Kind::InvalidRequest => {
                let names: Vec<_> = problem.errors.iter().map(|error| name(&error.pointer)).collect();
                invalid(&names, &problem.detail)
            }
            Kind::Conflict if request.method == "POST" => {
                let slug = json!({ "customSlug": custom_slug(request) });
                answer(
                    "non-unique-slug",
                    "Invalid custom slug",
                    400,
                    &problem.detail,
                    slug,
                )
            }
            Kind::NotFound if !code.is_empty() => no_link(code),
            Kind::NotFound => answer("not-found", "Not found", 404, &problem.detail, json!({})),
            Kind::Unauthorized => {
                let (slug, title) = match keys::is_sent(request) {
                    Ok(false) => ("missing-authentication", "Invalid authorization"),
                    _ => ("invalid-api-key", "Invalid API key"),
                };
                let response = answer(slug, title, 401, &problem.detail, json!({}));
                response.with("www-authenticate", "Bearer")
            }
            _ => problem.into_response(),
        }
    }
}

/// The code that a body asks for.
fn custom_slug(request: &Request) -> Option<Value> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    body.get("customSlug").cloned()
}

fn no_link(code: &str) -> Response {
    let detail = format!("No URL found with short code \"{code}\"");
    let more = json!({ "shortCode": code });
    answer("short-url-not-found", "Short URL not found", 404, &detail, more)
}

fn invalid(names: &[String], detail: &str) -> Response {
    let more = json!({ "invalidElements": names });
    answer("invalid-data", "Invalid data", 400, detail, more)
}

fn answer(slug: &str, title: &str, status: u16, detail: &str, more: Value) -> Response {
    let mut document = json!({
        "type": format!("https://shlink.io/api/error/{slug}"), "title": title, "detail": detail, "status": status,
    });
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    let mut response = Response::json(status, &document);
    response.headers.clear();
    response.with("content-type", "application/problem+json")
}
