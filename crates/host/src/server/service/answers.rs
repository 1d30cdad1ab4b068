//! Answers of the rules, as hyper wants them.

use super::Answer;
use crate::server::answer::AnswerBody;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use tollgate_api::http::Response;
use tollgate_rules::{heads, limiter};

/// The names that answers of the hot path have: found without being parsed.
static USUAL: [HeaderName; 8] = [
    http::header::LOCATION,
    http::header::CACHE_CONTROL,
    http::header::CONTENT_TYPE,
    http::header::RETRY_AFTER,
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit"),
    http::header::WWW_AUTHENTICATE,
    HeaderName::from_static("idempotency-replayed"),
];

/// Packed header fields as hyper wants them, in the piece that they came in; one that HTTP does not allow is left out.
fn unpacked(packed: Vec<u8>) -> http::HeaderMap {
    let packed = Bytes::from(packed);
    // With room for those that are added here.
    let mut fields = http::HeaderMap::with_capacity(USUAL.len());
    for (name, value) in heads::pairs(&packed) {
        let usual = USUAL.iter().find(|usual| usual.as_str().as_bytes() == name);
        let name = usual.map_or_else(|| HeaderName::from_bytes(name), |usual| Ok(usual.clone()));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(packed.slice_ref(value))) {
            fields.append(name, value);
        }
    }
    fields
}

/// Header fields as hyper wants them; one that HTTP does not allow is left out.
fn fields<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> http::HeaderMap {
    let mut fields = http::HeaderMap::new();
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

fn answer(status: u16, headers: http::HeaderMap, body: Vec<u8>) -> Answer {
    let mut answer = hyper::Response::new(AnswerBody::from(body));
    *answer.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    *answer.headers_mut() = headers;
    answer
}

pub(super) fn from_packed(response: heads::Response) -> Answer {
    let headers = unpacked(response.headers);
    answer(response.status, headers, response.body)
}

/// With what the limiter adds. It is in force, whatever a field of the same name says; cookies stand beside each other.
pub(super) fn with_added(mut answer: Answer, added: Vec<u8>) -> Answer {
    let headers = answer.headers_mut();
    for (name, value) in &unpacked(added) {
        if name == http::header::SET_COOKIE {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
    answer
}

/// As [`from_packed`], with the limiter's refusal as a page for a browser.
pub(super) fn for_caller(head: &http::request::Parts, response: heads::Response) -> Answer {
    if response.status != http::StatusCode::TOO_MANY_REQUESTS {
        return from_packed(response);
    }
    let mut answer = unpacked(response.headers);
    let text = |headers: &http::HeaderMap, name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let page = limiter::for_browser(
        &response.body,
        text(&answer, http::header::RETRY_AFTER).as_deref(),
        text(&head.headers, http::header::ACCEPT).as_deref(),
        text(&head.headers, http::header::ACCEPT_LANGUAGE).as_deref(),
    );
    let Some(page) = page else {
        return self::answer(response.status, answer, response.body);
    };
    for (name, value) in limiter::PAGE_HEADERS {
        answer.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    self::answer(response.status, answer, page)
}

/// An answer of the rules' own shape.
pub fn from_core(response: Response) -> Answer {
    let headers = response.headers.iter().map(|h| (h.name.as_bytes(), &*h.value));
    answer(response.status, fields(headers), response.body)
}
