//! The attributes of a message, besides its payload. For a forwarded request: its method, path, query, and
//! the headers that were kept. Stored with the message, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use tollgate_api::http::Request;
use tollgate_api::problem::Problem;
use tollgate_api::traceparent::{self, Traceparent};
use tollgate_store::commit::Message;

/// The most header fields that are kept of one request.
pub const MAX_HEADERS: usize = 32;
/// The most bytes of their names and values.
pub const MAX_HEADER_BYTES: usize = 8 << 10;
/// The most bytes of path and query. Most servers take no longer header, and they are delivered in two.
pub const MAX_TARGET_BYTES: usize = 8 << 10;

/// Kept of every forwarded request: without it the payload cannot be read.
pub const ALWAYS_KEPT: &str = "content-encoding";
/// Headers of one hop (RFC 9110, section 7.6.1), or of the body as it was sent: never kept.
const NEVER_KEPT: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Prefixes of headers that a delivery sets itself: never kept either.
const OWN: &[&str] = &["ce-", "webhook-"];
/// Kept only by their whole name, not by a pattern.
const CREDENTIALS: &[&str] = &["authorization", "cookie"];

/// A request, as its message tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ForwardedRequest")
)]
pub struct Attributes {
    /// Upper case.
    pub method: String,
    /// Still percent-encoded.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// By name, in lower case; the values of a repeated one joined by `, ` (RFC 9110, section 5.3).
    pub headers: BTreeMap<String, String>,
}

impl Attributes {
    /// The attributes of a request, with the headers that `patterns` name, and [`ALWAYS_KEPT`].
    ///
    /// # Errors
    /// 400 where more would be kept than may be, or a value is no text: nothing of what is accepted is left out.
    pub fn of(request: &Request, patterns: &[String]) -> Result<Self, Problem> {
        let query_bytes = request.query.as_ref().map_or(0, String::len);
        if request.path.len() + query_bytes > MAX_TARGET_BYTES {
            let rule = format!("path and query may have at most {MAX_TARGET_BYTES} bytes together");
            return Err(Problem::field("query", rule));
        }
        let mut headers = BTreeMap::<String, String>::new();
        let (mut count, mut bytes) = (0, 0);
        for header in request
            .headers
            .iter()
            .filter(|header| is_kept(patterns, &header.name))
        {
            let at_fault = |rule: String| Problem::field(format!("header:{}", header.name), rule);
            let value = std::str::from_utf8(&header.value).map_err(|_| at_fault("must be UTF-8".into()))?;
            count += 1;
            bytes += header.name.len() + value.len();
            if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
                return Err(at_fault(format!(
                    "the headers that are kept may be {MAX_HEADERS} and have {MAX_HEADER_BYTES} bytes together"
                )));
            }
            match headers.get_mut(&*header.name) {
                Some(values) => {
                    values.push_str(", ");
                    values.push_str(value);
                }
                None => drop(headers.insert(header.name.to_string(), value.to_owned())),
            }
        }
        Ok(Self {
            method: request.method.to_string(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers,
        })
    }

    /// The attributes of a message, if it was a request.
    pub fn read(message: &Message) -> Option<Self> {
        serde_json::from_slice(&message.attributes).ok()
    }
}

/// A message's attributes as they are stored: those of a request, and its place in a trace; empty for neither.
pub fn write(request: Option<&Attributes>, traceparent: Option<Traceparent>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Stored<'a> {
        #[serde(flatten)]
        request: Option<&'a Attributes>,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    }
    if request.is_none() && traceparent.is_none() {
        return Vec::new();
    }
    let stored = Stored {
        request,
        traceparent: traceparent.map(|place| place.to_string()),
    };
    serde_json::to_vec(&stored).expect("our own types hold string keys only, so they serialise")
}

/// The place in a trace of what made the message, if it had one.
pub fn traceparent(message: &Message) -> Option<Traceparent> {
    #[derive(Deserialize)]
    struct Stored {
        traceparent: Option<String>,
    }
    if message.attributes.is_empty() {
        return None;
    }
    let stored: Stored = serde_json::from_slice(&message.attributes).ok()?;
    Traceparent::parse(&stored.traceparent?)
}

/// Whether a request's header of this name (lower case) is kept: see [`pattern_rule`]. Its place in a trace goes with the
/// message by itself, and differs between two attempts of one request.
pub fn is_kept(patterns: &[String], name: &str) -> bool {
    if name == ALWAYS_KEPT {
        return true;
    }
    if name == traceparent::HEADER {
        return false;
    }
    let by_pattern = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start) && !CREDENTIALS.contains(&name),
        None => name == pattern,
    };
    patterns.iter().any(|pattern| by_pattern(pattern)) && may_be_kept(name)
}

/// Whether a header that every delivery has may be called so (lower case): neither of one hop, nor of the body, nor one that a
/// delivery sets itself.
pub fn may_be_fixed(name: &str) -> bool {
    may_be_kept(name) && ![ALWAYS_KEPT, traceparent::HEADER, "tracestate"].contains(&name)
}

fn may_be_kept(name: &str) -> bool {
    !NEVER_KEPT.contains(&name) && !OWN.iter().any(|own| name.starts_with(own))
}

/// The fault of a pattern of header names, if it has one. A pattern is a name in lower case, or a prefix of
/// names and a `*`.
pub fn pattern_rule(pattern: &str) -> Result<(), &'static str> {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'+-.^_`|~".contains(&b);
    let start = pattern.strip_suffix('*').unwrap_or(pattern);
    if start.is_empty() || !start.bytes().all(token) {
        return Err("must be a header name in lower case, or what names begin with and a *, e.g. x-github-*");
    }
    if !may_be_kept(start) {
        return Err("is of one hop, of the body, or a delivery's own: it cannot be kept");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::http::Header;

    fn request(headers: &[(&str, &str)]) -> Request {
        Request {
            method: "PUT".into(),
            path: "/a%20b".into(),
            query: Some("x=1&y".into()),
            headers: headers
                .iter()
                .map(|(name, value)| Header::new((*name).to_owned(), *value))
                .collect(),
            body: Vec::new(),
            peer: String::new(),
        }
    }

    fn kept(patterns: &[&str], headers: &[(&str, &str)]) -> BTreeMap<String, String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        Attributes::of(&request(headers), &patterns).unwrap().headers
    }

    #[test]
    fn headers_are_kept_by_name_and_by_pattern_and_credentials_by_name_only() {
        let headers = [
            ("content-encoding", "gzip"),
            ("x-github-event", "push"),
            ("x-github-delivery", "7"),
            ("x-gitlab-event", "no"),
            ("authorization", "Bearer secret"),
            ("accept", "a"),
            ("accept", "b"),
        ];
        let names = |patterns: &[&str]| kept(patterns, &headers).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&[]), ["content-encoding"]);
        assert_eq!(
            names(&["x-github-*"]),
            ["content-encoding", "x-github-delivery", "x-github-event"]
        );
        assert_eq!(names(&["a*"]), ["accept", "content-encoding"]);
        assert_eq!(names(&["authorization"]), ["authorization", "content-encoding"]);
        assert_eq!(kept(&["accept"], &headers)["accept"], "a, b");
    }

    #[test]
    fn what_is_of_one_hop_or_of_the_delivery_is_never_kept() {
        for name in [
            "connection",
            "te",
            "host",
            "content-length",
            "ce-id",
            "webhook-signature",
        ] {
            assert!(pattern_rule(name).is_err(), "{name}");
            assert!(!is_kept(
                &["c*".into(), "t*".into(), "h*".into(), "w*".into()],
                name
            ));
        }
        for bad in ["", "*", "X-A", "x a", "x-*-y", "é"] {
            assert!(pattern_rule(bad).is_err(), "{bad}");
        }
        for good in ["stripe-signature", "x-github-*", "authorization"] {
            assert_eq!(pattern_rule(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_place_in_a_trace_is_stored_beside_a_request_or_alone() {
        let mut message = Message::default();
        let place = Traceparent::new(7, 9, true);
        let of_request = Attributes::of(&request(&[("content-encoding", "gzip")]), &[]).unwrap();
        for request in [None, Some(&of_request)] {
            for place in [None, place] {
                message.attributes = write(request, place);
                assert_eq!(traceparent(&message), place);
                assert_eq!(Attributes::read(&message).as_ref(), request);
            }
        }
        assert!(write(None, None).is_empty());
        // As it was stored before there were traces.
        message.attributes = serde_json::to_vec(&of_request).unwrap();
        assert_eq!(
            (traceparent(&message), Attributes::read(&message)),
            (None, Some(of_request))
        );
        for odd in [
            &b"{}"[..],
            b"no",
            b"{\"traceparent\":\"00-7\"}",
            b"{\"traceparent\":7}",
        ] {
            message.attributes = odd.to_vec();
            assert_eq!(traceparent(&message), None);
        }
        assert!(!is_kept(&["t*".into(), "traceparent".into()], "traceparent"));
    }

    #[test]
    fn what_would_have_to_be_left_out_is_refused() {
        let many: Vec<_> = (0..=MAX_HEADERS).map(|n| (format!("x-{n}"), "v")).collect();
        let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let patterns = ["x-*".to_owned()];
        assert!(Attributes::of(&request(&many), &patterns).is_err());
        assert!(Attributes::of(&request(&many[1..]), &patterns).is_ok());
        let long = "v".repeat(MAX_HEADER_BYTES);
        assert!(Attributes::of(&request(&[("x-a", &long)]), &patterns).is_err());
        let mut far = request(&[]);
        far.query = Some("q".repeat(MAX_TARGET_BYTES));
        assert!(Attributes::of(&far, &patterns).is_err());
    }
}
