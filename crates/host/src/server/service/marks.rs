//! What every response gets besides what it says.

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use tollgate_rules::cors;

use super::{Answer, Caller};

/// The additions to every response.
pub(super) struct Marks {
    pub(super) request_id: HeaderValue,
    /// Whether it is the last response of the connection.
    pub(super) last: bool,
    /// Whether it is the last response of the connection if the body was not read to its end.
    pub(super) last_if_unread: bool,
    /// `Strict-Transport-Security`, where it is sent.
    pub(super) hsts: Option<HeaderValue>,
    /// For pages of other origins; empty where none may call.
    pub(super) cors: Vec<cors::Field>,
}

impl Marks {
    pub(super) fn put_on(self, mut answer: Answer, caller: &Caller) -> Answer {
        let headers = answer.headers_mut();
        headers.insert(HeaderName::from_static("x-request-id"), self.request_id);
        if let Some(hsts) = self.hsts {
            headers.insert(http::header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        if !self.cors.is_empty() {
            put_cors(headers, self.cors);
        }
        // A connection that goes on as something else says so, and does not close.
        let ends = answer.status() != http::StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        if ends && (self.last || (self.last_if_unread && caller.traffic.is_unread())) {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// A component of the operator's own may have said something else: these settings are in force.
fn put_cors(headers: &mut http::HeaderMap, fields: Vec<cors::Field>) {
    headers.remove(http::header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.remove(http::header::ACCESS_CONTROL_ALLOW_ORIGIN);
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        match HeaderValue::from_maybe_shared(Bytes::from(value)) {
            Ok(value) if name == http::header::VARY => _ = headers.append(name, value),
            Ok(value) => _ = headers.insert(name, value),
            Err(_) => {}
        }
    }
}
