//! Refusals of Dub's form: `{"error": {"code", "message", "doc_url"}}`.

use serde_json::json;

use tollgate_api::http::{Header, Response};
use tollgate_api::problem::{Kind, Problem};

/// Our names of fields, and Dub's.
const NAMES: &[(&str, &str)] = &[
    ("code", "key"),
    ("codeLength", "keyLength"),
    ("fallbackUrl", "expiredUrl"),
    ("tags", "tagNames"),
    ("rules", "ios, android, geo"),
    ("targets", "testVariants"),
];

/// A pointer of ours as the name of a field of theirs.
fn name(pointer: &str) -> String {
    let path = pointer.trim_start_matches("#/").trim_start_matches("query:");
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match NAMES.iter().find(|(ours, _)| *ours == first) {
        Some((_, theirs)) => (*theirs).to_owned(),
        None if first == "utm" && !rest.is_empty() => format!("utm_{rest}"),
        None => first.to_owned(),
    }
}

/// What a status is called there; `None`: it has no form of its own, and is answered as the gateway does.
fn code(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "unprocessable_entity",
        _ => return None,
    })
}

/// The code of a refusal there, and its message.
pub(super) fn told(problem: &Problem) -> (&'static str, String) {
    let (status, message) = said(problem);
    (code(status).unwrap_or("internal_server_error"), message)
}

/// Its status there, and its message.
fn said(problem: &Problem) -> (u16, String) {
    let fields: Vec<String> = problem
        .errors
        .iter()
        .filter(|error| error.pointer != "#")
        .map(|error| format!("{}: {}", name(&error.pointer), error.detail))
        .collect();
    let message = match fields.is_empty() {
        true => problem.detail.clone(),
        false => fields.join("; "),
    };
    // A field that breaks a rule is not what Dub calls a bad request.
    let status = match problem.kind {
        Kind::InvalidRequest if !fields.is_empty() => 422,
        kind => kind.status(),
    };
    (status, message)
}

/// The answer that a refusal is.
pub(super) fn answer(problem: Problem) -> Response {
    let (status, message) = said(&problem);
    let mut response = problem.into_response();
    let Some(code) = code(status) else {
        return response;
    };
    let page = code.replace('_', "-");
    let document = json!({ "error": {
        "code": code, "message": message, "doc_url": format!("https://dub.co/docs/api-reference/errors#{page}"),
    } });
    response.status = status;
    response.body = serde_json::to_vec(&document).unwrap_or_default();
    response.headers.retain(|header| header.name != "content-type");
    response
        .headers
        .push(Header::new("content-type", "application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_called_as_there() {
        for (ours, theirs) in [
            ("#/code", "key"),
            ("#/rules/2/url", "ios, android, geo"),
            ("#/utm/source", "utm_source"),
            ("#/utm", "utm"),
            ("#/title", "title"),
            ("query:page", "page"),
        ] {
            assert_eq!(name(ours), theirs);
        }
    }
}
