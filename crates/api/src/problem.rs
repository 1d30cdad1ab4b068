//! The one table from errors to problem documents (RFC 9457).

use std::borrow::Cow;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::http::{Header, Response};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $slug:literal, $title:literal;)*) => {
        /// Every problem that Tollgate can answer with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them, for the documentation.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The HTTP status code.
            pub const fn status(self) -> u16 { match self { $(Kind::$name => $status,)* } }
            /// The last part of `urn:tollgate:problem:<slug>`, or a whole URI where one is registered.
            pub const fn slug(self) -> &'static str { match self { $(Kind::$name => $slug,)* } }
            /// The title, the same for every occurrence.
            pub const fn title(self) -> &'static str { match self { $(Kind::$name => $title,)* } }
        }
    };
}

kinds! {
    /// The body is not JSON of the right shape, or a field, header or query field breaks a rule.
    InvalidRequest = 400, "invalid-request", "The request is not valid";
    /// An anonymous caller must say who it is.
    ClientIdRequired = 400, "client-id-required", "A client id is required";
    /// No credential, or one that is not known.
    Unauthorized = 401, "unauthorized", "A valid API key is required";
    /// A request of a route that is to be signed is not, or not by whoever has the secret, or too long ago.
    InvalidSignature = 401, "invalid-signature", "The signature is not valid";
    /// A user's token is not good, or not any more.
    InvalidToken = 401, "invalid-token", "The token is not valid";
    /// A claim without a user.
    UserRequired = 401, "user-required", "A user is required";
    /// The key lacks the scope, or the resource belongs to somebody else.
    Forbidden = 403, "forbidden", "Not allowed";
    /// The campaign or draw has not begun.
    NotStarted = 403, "not-started", "It has not started";
    /// The campaign or draw is over or closed.
    Ended = 403, "ended", "It has ended";
    /// The campaign is for others.
    NotEligible = 403, "not-eligible", "Not eligible";
    /// A challenge is to be solved first, or the solution that was sent does not count.
    ChallengeRequired = 403, "challenge-required", "A challenge is to be solved first";
    /// Nothing there.
    NotFound = 404, "not-found", "Not found";
    /// The path exists, the method does not.
    MethodNotAllowed = 405, "method-not-allowed", "The method is not allowed";
    /// The name is taken, or a concurrent change won.
    Conflict = 409, "conflict", "In conflict with what is there";
    /// The user holds as many claims as the campaign allows.
    AlreadyClaimed = 409, "already-claimed", "Already claimed";
    /// The user has as many entries as the draw allows.
    AlreadyEntered = 409, "already-entered", "Already entered";
    /// It was there and is no more.
    Gone = 410, "gone", "No longer available";
    /// The claim was not confirmed in time.
    HoldExpired = 410, "hold-expired", "The hold has expired";
    /// All units are taken.
    SoldOut = 410, "sold-out", "Sold out";
    /// What is to be changed is not what the caller has seen.
    PreconditionFailed = 412, "precondition-failed", "It was changed since";
    /// The body is over the limit.
    TooLarge = 413, "content-too-large", "The request is too large";
    /// The `Content-Type` is not one that the call takes.
    UnsupportedMediaType = 415, "unsupported-media-type", "The content type is not supported";
    /// The same idempotency key with another payload.
    IdempotencyMismatch = 422, "idempotency-key-reused", "The idempotency key was used with another request";
    /// A rate limit.
    QuotaExceeded = 429, "https://iana.org/assignments/http-problem-types#quota-exceeded", "Request quota exceeded";
    /// There is a waiting room in front of this, and the caller's turn has not come.
    WaitingRoom = 429, "waiting-room", "Wait for your turn";
    /// The head of the request is over the limit.
    HeadTooLarge = 431, "header-fields-too-large", "The request head is too large";
    /// A defect on our side; nothing about it is told.
    Internal = 500, "internal", "Something went wrong on our side";
    /// The request has a transfer coding that we do not understand (RFC 9112, section 6.1).
    NotImplemented = 501, "not-implemented", "Not implemented";
    /// A component of the operator's own did not answer: it trapped, ended, or said so.
    ComponentFailed = 502, "component-failed", "The component failed";
    /// The origin behind a path broke off, or answered with what is no answer.
    OriginFailed = 502, "origin-failed", "The origin failed";
    /// The topic holds as much as it may that subscriptions still need.
    BacklogFull = 503, "backlog-full", "The topic is full";
    /// The store cannot be asked, or a bound of the gateway is reached.
    Unavailable = 503, "unavailable", "Temporarily unavailable";
    /// The request took longer than the gateway allows.
    Timeout = 504, "timeout", "The request took too long";
}

impl Kind {
    /// The kind of the problem document that an answer carries, as [`Problem::into_response`] writes it; `None` where it carries none, or
    /// one of a registered type. `body`: of the answer.
    pub fn of(status: u16, body: &[u8]) -> Option<Self> {
        if status < 400 {
            return None;
        }
        let slug = body.strip_prefix(b"{\"type\":\"urn:tollgate:problem:")?;
        let slug = slug.split(|byte| *byte == b'"').next()?;
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.slug().as_bytes() == slug)
    }

    /// Whether `response` carries a problem document of this kind, as [`Problem::into_response`] writes it.
    pub fn is_of(self, response: &Response) -> bool {
        let begins = ["{\"type\":\"", &Problem::new(self, "").type_uri(), "\""].concat();
        response.status == self.status() && response.body.starts_with(begins.as_bytes())
    }
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldError {
    /// A JSON pointer as a URI fragment (`#/url`), `header:<name>` or `query:<name>`.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A problem document on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Which problem.
    pub kind: Kind,
    /// This occurrence, in a sentence.
    pub detail: String,
    /// The fields at fault.
    pub errors: Vec<FieldError>,
    /// Further members of the document.
    pub members: Vec<(&'static str, Value)>,
    /// Further headers of the response.
    pub headers: Vec<Header>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            members: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// A 400 for one field. `pointer`: `#/url`, `header:idempotency-key`, `query:limit`.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        let mut problem = Self::new(Kind::InvalidRequest, format!("{pointer}: {detail}"));
        problem.errors.push(FieldError { pointer, detail });
        problem
    }

    /// A 404.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "There is nothing at this address.")
    }

    /// A 405 with `Allow`.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::new(Kind::MethodNotAllowed, format!("This address takes {allow}.")).with_header("allow", allow)
    }

    /// A 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(Kind::Unauthorized, detail)
    }

    /// The same of a part of a larger document: `at` (`/links/3`) comes before the pointers of its fields.
    pub fn within(mut self, at: &str) -> Self {
        for error in &mut self.errors {
            if let Some(rest) = error.pointer.strip_prefix('#') {
                let pointer = ["#", at, rest].concat();
                if let Some(detail) = self.detail.strip_prefix(&error.pointer) {
                    self.detail = [&pointer, detail].concat();
                }
                error.pointer = pointer;
            }
        }
        self
    }

    /// With one more header on the response.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// With `Retry-After`, at least one second.
    pub fn with_retry_after(self, seconds: u64) -> Self {
        self.with_header("retry-after", seconds.max(1).to_string())
    }

    /// With one more member in the document.
    pub fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// A further member that is text.
    pub fn member(&self, name: &str) -> Option<&str> {
        let found = self.members.iter().find(|(member, _)| *member == name)?;
        found.1.as_str()
    }

    /// The `type` member.
    pub fn type_uri(&self) -> Cow<'static, str> {
        let slug = self.kind.slug();
        match slug.contains(':') {
            true => Cow::Borrowed(slug),
            false => Cow::Owned(["urn:tollgate:problem:", slug].concat()),
        }
    }

    /// The response that carries this document.
    pub fn into_response(self) -> Response {
        let mut response = Response::json(self.kind.status(), &self);
        response.headers.clear();
        response
            .headers
            .push(Header::new("content-type", "application/problem+json"));
        response.headers.extend(self.headers);
        // RFC 9110, section 11.6.1: every 401 has it.
        if response.status == 401 {
            let challenge = match self.kind {
                // RFC 6750, section 3.1.
                Kind::InvalidToken => "Bearer error=\"invalid_token\"",
                _ => "Bearer",
            };
            response.headers.push(Header::new("www-authenticate", challenge));
        }
        response
    }
}

/// The document.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.type_uri())?;
        map.serialize_entry("title", self.kind.title())?;
        map.serialize_entry("status", &self.kind.status())?;
        map.serialize_entry("detail", &self.detail)?;
        if !self.errors.is_empty() {
            map.serialize_entry("errors", &self.errors)?;
        }
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_problem_names_its_pointer() {
        let response = Problem::field("#/url", "must be an http or https URL").into_response();
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(response.status, 400);
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(body["type"], "urn:tollgate:problem:invalid-request");
        assert_eq!(body["errors"][0]["pointer"], "#/url");
    }

    #[test]
    fn a_problem_of_a_part_names_the_field_in_the_whole() {
        let part = Problem::field("#/url", "is missing").within("/links/3");
        assert_eq!(part.errors[0].pointer, "#/links/3/url");
        assert_eq!(part.detail, "#/links/3/url: is missing");
        let whole = Problem::field("#", "is no object").within("/links/0");
        assert_eq!(whole.errors[0].pointer, "#/links/0");
        let header = Problem::field("header:x", "is odd").within("/links/0");
        assert_eq!(header.errors[0].pointer, "header:x");
    }

    #[test]
    fn a_401_and_nothing_else_asks_for_a_key() {
        for kind in Kind::ALL {
            let response = Problem::new(*kind, "of this kind").into_response();
            let asks = response
                .headers
                .iter()
                .filter(|header| header.name == "www-authenticate");
            let asks: Vec<_> = asks.map(|header| header.value.as_slice()).collect();
            let expected: &[&[u8]] = match kind {
                Kind::InvalidToken => &[b"Bearer error=\"invalid_token\""],
                kind if kind.status() == 401 => &[b"Bearer"],
                _ => &[],
            };
            assert_eq!(asks, expected, "{kind:?}");
        }
    }

    #[test]
    fn a_response_tells_its_kind() {
        for kind in Kind::ALL {
            let response = Problem::new(*kind, "of this kind").into_response();
            let of: Vec<_> = Kind::ALL.iter().filter(|kind| kind.is_of(&response)).collect();
            assert_eq!(of, [kind]);
        }
        assert!(!Kind::Unauthorized.is_of(&Response::empty(401)));
    }

    #[test]
    fn every_kind_has_its_own_slug() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|k| k.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }

    #[test]
    fn the_document_has_every_problem_and_no_other() {
        let document = include_str!("../../../docs/problems.md");
        let sections = document.split("\n## ").skip(1);
        let documented = sections.map(|section| {
            let (slug, text) = section.split_once("\n\n").unwrap();
            let head = text.split('.').next().unwrap().replace('\n', " ");
            // `410 · Sold out`, and perhaps more after a comma.
            let (status, title) = head.split_once(" · ").unwrap();
            (
                slug,
                status.parse().unwrap(),
                title.split(", or ").next().unwrap().to_owned(),
            )
        });
        let documented: Vec<(&str, u16, String)> = documented.collect();
        let known = Kind::ALL.iter().map(|kind| {
            let slug = kind.slug().rsplit('#').next().unwrap();
            (slug, kind.status(), kind.title().to_owned())
        });
        assert_eq!(documented, known.collect::<Vec<_>>(), "docs/problems.md");
    }
}
