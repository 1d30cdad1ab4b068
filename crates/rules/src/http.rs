//! A request and a response as values. Doors turn HTTP into a [`Request`] and a [`Response`] back into HTTP.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::problem::Problem;

/// One header field. Names are lower case. Its `Debug` leaves out what only the gateway and its caller should know.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Lower case. Borrowed where it is one that the program knows.
    pub name: Cow<'static, str>,
    /// As received; not necessarily UTF-8.
    pub value: Vec<u8>,
}

/// Headers whose values are credentials.
const SECRET_HEADERS: &[&str] = &["authorization", "cookie", "proxy-authorization", "set-cookie"];

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
    "authorization",
    "content-encoding",
    "content-type",
    "forwarded",
    "host",
    "idempotency-key",
    "purpose",
    "referer",
    "sec-purpose",
    "user-agent",
    "x-forwarded-for",
    "x-moz",
    "x-partition-key",
    "x-purpose",
    "x-request-id",
];

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

/// The 400 for a header that was sent more than once.
pub fn sent_twice(name: &str) -> Problem {
    Problem::field(format!("header:{name}"), "must be sent once")
}

/// Judges what was sent as `Host`, and as the authority of the target.
///
/// # Errors
/// A 400 for one that is not a host.
pub fn check_hosts<'a>(mut sent: impl Iterator<Item = &'a [u8]>) -> Result<(), Problem> {
    match sent.all(is_host) {
        true => Ok(()),
        false => Err(Problem::field(
            "header:host",
            "must be a name or an address, and perhaps a port",
        )),
    }
}

/// Whether a text is a `Host` (RFC 9110, section 7.2): an address or a registered name that is not empty, and perhaps a
/// port up to 65,535. User information is no part of it.
fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => (&text[..end + 2], &rest[end + 1..]),
            None => return false,
        },
        None => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let port_is_fine = match port.split_first() {
        None => true,
        Some((b':', [])) => true,
        Some((b':', digits)) => {
            let number = std::str::from_utf8(digits).ok().map(str::parse::<u16>);
            digits.iter().all(u8::is_ascii_digit) && matches!(number, Some(Ok(_)))
        }
        Some(_) => false,
    };
    port_is_fine && (is_bracketed(name) || is_registered_name(name))
}

fn is_bracketed(name: &[u8]) -> bool {
    let inner = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let address = inner.and_then(|inner| std::str::from_utf8(inner).ok());
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// RFC 3986, section 3.2.2, not empty.
fn is_registered_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let Some((byte, rest)) = name.split_first() {
        name = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            _ if NAME_BYTES[usize::from(*byte)] => rest,
            _ => return false,
        };
    }
    true
}

/// What stands in a registered name as it is: `unreserved` and `sub-delims`. Every request is asked.
const NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let marks = b"-._~!$&'()*+,;=";
    let mut byte = 0;
    while byte < allowed.len() {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut mark = 0;
    while mark < marks.len() {
        allowed[marks[mark] as usize] = true;
        mark += 1;
    }
    allowed
};

impl Request {
    /// The value of the only header called `name` (lower case), if it is text. A repeated header counts as the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.name == name)?;
        std::str::from_utf8(&found.value).ok()
    }

    /// The value of `name` (lower case), text or not.
    ///
    /// # Errors
    /// A 400 that names the header where it was sent more than once, even with the same value: which one counts would be
    /// a guess.
    pub fn single(&self, name: &str) -> Result<Option<&[u8]>, Problem> {
        let mut sent = self.headers.iter().filter(|header| header.name == name);
        let first = sent.next();
        match sent.next() {
            None => Ok(first.map(|header| header.value.as_slice())),
            Some(_) => Err(sent_twice(name)),
        }
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
    fn a_host_is_a_name_or_an_address_with_a_sane_port() {
        for good in [
            "a",
            "example.com",
            "example.com.",
            "EXAMPLE.com:65535",
            "example.com:",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8080",
            "x_y.test",
            "caf%C3%A9.example",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "user@example.com",
            "user:secret@example.com",
            "example.com:65536",
            "example.com:99999999999999999999",
            "example.com:8a",
            "example.com:-1",
            "example.com:+80",
            "example.com:80:80",
            "a b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "<script>",
            "a%2",
            "a%zz",
            "[::1",
            "[::1]x",
            "[::1]:65536",
            "[]",
            "[fe80::1%eth0]",
            "::1",
            "a|b",
            "\u{e9}.example",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        assert!(!is_host(b"a\xff"));
    }

    #[test]
    fn a_header_that_may_be_sent_once_is_refused_when_it_is_sent_twice() {
        let request = |values: &[&str]| Request {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: values
                .iter()
                .map(|value| Header::new("x-user-id", *value))
                .collect(),
            body: Vec::new(),
            peer: String::new(),
        };
        assert_eq!(request(&[]).single("x-user-id"), Ok(None));
        assert_eq!(request(&["a"]).single("x-user-id"), Ok(Some(b"a".as_slice())));
        let problem = request(&["a", "a"]).single("x-user-id").unwrap_err();
        assert_eq!(problem.errors[0].pointer, "header:x-user-id");
    }

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
