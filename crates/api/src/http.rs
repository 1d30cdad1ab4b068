//! A request and a response as values. Doors turn HTTP into a [`Request`] and a [`Response`] back into HTTP.

use std::borrow::Cow;

/// One header field. Names are lower case. Its `Debug` leaves out the values of credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Lower case. Borrowed where it is one that the program knows.
    pub name: Cow<'static, str>,
    /// As received; not necessarily UTF-8.
    pub value: Vec<u8>,
}

/// Headers whose values are credentials.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
];

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value: &dyn std::fmt::Debug = match SECRET_HEADERS.contains(&&*self.name) {
            true => &"…",
            false => &String::from_utf8_lossy(&self.value),
        };
        f.debug_struct("Header")
            .field("name", &self.name)
            .field("value", value)
            .finish()
    }
}

impl Header {
    /// A header of text.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into().into_bytes(),
        }
    }
}

/// A request as an adapter hands it over: bounded, already read, hop-by-hop headers removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Upper case, e.g. `GET`. Borrowed where it is one that the program knows.
    pub method: Cow<'static, str>,
    /// Begins with `/`; still percent-encoded.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// The headers that the rules look at.
    pub headers: Vec<Header>,
    /// At most the adapter's body limit.
    pub body: Vec<u8>,
    /// The address of the TCP peer, without a port.
    pub peer: String,
}

/// A response on its way to an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// In the order they are sent.
    pub headers: Vec<Header>,
    /// Empty for no body.
    pub body: Vec<u8>,
}

/// The request headers that the rules look at, besides those named in the configuration. An adapter need not
/// hand over any others.
pub const SEEN_HEADERS: &[&str] = &[
    "accept",
    "accept-language",
    "authorization",
    "content-encoding",
    "content-type",
    "forwarded",
    "host",
    "idempotency-key",
    "purpose",
    "referer",
    "sec-purpose",
    "traceparent",
    "user-agent",
    "x-amz-security-token",
    "x-delay",
    "x-deliver-at",
    "x-forwarded-for",
    "x-moz",
    "x-partition-key",
    "x-purpose",
    "x-request-id",
];

/// Those that only calls of no crowd look at: nobody hands them over to the others.
pub const SEEN_AT_REST: &[&str] = &["accept", "accept-encoding", "cookie", "if-match", "if-none-match"];

/// What an adapter that knows it puts beside the headers of a visit: the country of the client (ISO 3166-1 alpha-2, upper case). No
/// request brings a field of this name: HTTP has none with a colon (RFC 9110, section 5.1).
pub const COUNTRY: &str = ":country";

/// Those that only questions of proxies ([`crate::calls::Call::Check`]) have.
pub const SEEN_AT_CHECK: &[&str] = &["x-forwarded-method", "x-forwarded-uri"];

/// The methods that calls take.
const METHODS: &[&str] = &["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE"];

/// Room for the headers of a usual response: its own and the limiter's.
const USUAL_HEADERS: usize = 6;

/// A method, without a copy if it is one that calls take.
pub fn method(method: &str) -> Cow<'static, str> {
    known(METHODS, method)
}

/// The name of a request header, without a copy if it is one of [`SEEN_HEADERS`].
pub fn seen_header(name: &str) -> Cow<'static, str> {
    known(SEEN_HEADERS, name)
}

fn known(texts: &[&'static str], text: &str) -> Cow<'static, str> {
    match texts.iter().find(|known| **known == text) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(text.to_owned()),
    }
}

impl Request {
    /// The value of the only header called `name` (lower case), if it is text. A repeated header counts as the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.name == name)?;
        std::str::from_utf8(&found.value).ok()
    }

    /// Every value of `name` (lower case) that is text, in order.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |h| h.name == name)
            .filter_map(|h| std::str::from_utf8(&h.value).ok())
    }

    /// The path's segments after the leading slash: `/api/links/x` gives `api`, `links`, `x`.
    pub fn segments(&self) -> Vec<&str> {
        self.path.trim_start_matches('/').split('/').collect()
    }

    /// The query's fields, percent-decoded.
    pub fn query_fields(&self) -> Vec<(String, String)> {
        let query = self.query.as_deref().unwrap_or("");
        url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect()
    }
}

impl Response {
    /// No body, no headers.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A JSON body.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our own types hold string keys only, so they serialise");
        Self::json_bytes(status, body)
    }

    /// A body that is JSON already.
    pub fn json_bytes(status: u16, body: Vec<u8>) -> Self {
        let mut headers = Vec::with_capacity(USUAL_HEADERS);
        headers.push(Header::new("content-type", "application/json"));
        Self {
            status,
            headers,
            body,
        }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The text of the first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.name == name)?;
        std::str::from_utf8(&found.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_show() {
        let shown = format!(
            "{:?}",
            [
                Header::new("authorization", "Bearer k3y"),
                Header::new("host", "a.example")
            ]
        );
        assert!(!shown.contains("k3y") && shown.contains("a.example"), "{shown}");
    }
}
