//! Requests to the gateway, and what they are answered with.

use bytes::Bytes;
use serde_json::Value;

/// A request on its way.
#[must_use = "a call does nothing until it is sent"]
pub struct Call {
    request: reqwest::RequestBuilder,
    line: String,
    /// Whether the answer is held to the OpenAPI document.
    by_contract: bool,
}

impl Call {
    pub fn new(request: reqwest::RequestBuilder, line: String) -> Self {
        Self {
            request,
            line,
            by_contract: true,
        }
    }

    /// Answered by somebody else than Tollgate's own rules, perhaps: any answer is fine.
    pub fn outside_contract(mut self) -> Self {
        self.by_contract = false;
        self
    }

    /// With an API key, or a manage token.
    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// As this client.
    pub fn client(self, id: &str) -> Self {
        self.header("x-client-id", id)
    }

    /// On behalf of this user.
    pub fn user(self, id: &str) -> Self {
        self.header("x-user-id", id)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.request = self.request.body(body);
        self
    }

    /// Sends it; no answer fails the case.
    pub async fn send(self) -> Answer {
        let line = self.line.clone();
        match self.attempt().await {
            Ok(answer) => answer,
            Err(error) => panic!("{line}: no answer: {error:?}"),
        }
    }

    /// Sends it; a broken connection is a value. (The gateway may be down, on purpose.)
    pub async fn attempt(self) -> Result<Answer, reqwest::Error> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?;
        let answer = Answer {
            line: self.line,
            status,
            headers,
            body,
        };
        if self.by_contract {
            answer.check();
        }
        Ok(answer)
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path of the request.
    pub line: String,
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// It must be as the OpenAPI document says.
    #[track_caller]
    pub fn check(&self) {
        let (method, target) = self.line.split_once(' ').unwrap_or_default();
        super::contract::check(method, target.split(' ').next().unwrap_or_default(), self);
    }

    /// It must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status == status, "expected {status}\n{}", self.shown());
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is not JSON: {error}\n{}", self.shown()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header that must be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.maybe_header(name)
            .unwrap_or_else(|| panic!("no header {name}\n{}", self.shown()))
    }

    pub fn maybe_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// It must be a complete problem document of this status and type (`urn:tollgate:problem:<slug>`, or a URI).
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert!(
            self.status == status,
            "expected {status} {slug}\n{}",
            self.shown()
        );
        assert!(
            self.maybe_header("content-type") == Some("application/problem+json"),
            "not a problem document\n{}",
            self.shown()
        );
        self.header("x-request-id");
        let document = self.json();
        let uri = match slug.contains(':') {
            true => slug.to_owned(),
            false => format!("urn:tollgate:problem:{slug}"),
        };
        assert!(document["type"] == uri, "expected {uri}\n{}", self.shown());
        assert!(
            document["status"] == status,
            "another status inside\n{}",
            self.shown()
        );
        let told = |member: &str| document[member].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            told("title") && told("detail"),
            "no title or detail\n{}",
            self.shown()
        );
        document
    }

    /// It must be a 400 that names this field.
    #[track_caller]
    pub fn names(&self, pointer: &str) {
        self.problem(400, "invalid-request");
        self.points_at(pointer);
    }

    /// It must be a problem that names this field.
    #[track_caller]
    pub fn points_at(&self, pointer: &str) {
        let document = self.json();
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        let found = errors
            .iter()
            .any(|error| error["pointer"] == pointer && error["detail"].is_string());
        assert!(found, "errors do not name {pointer}\n{}", self.shown());
    }

    /// For messages.
    pub fn shown(&self) -> String {
        let body = self.text();
        let head: String = body.chars().take(2_000).collect();
        format!("{}\n→ {} {:#?}\n{head}", self.line, self.status, self.headers)
    }
}
