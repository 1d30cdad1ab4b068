//! Inputs as text, so that a corpus can be read and a dictionary helps: requests as in HTTP/1.1, one after another.
//!
//! ```text
//! POST /api/links?x=1
//! as: admin
//! x-client-id: ann
//!
//! {"url": "https://example.com/"}
//! ===
//! GET /abc
//! ```
//!
//! Headers that no door passes on say what the input is about: `as` (whose key is sent), `later` (seconds that pass
//! first), `peer`, and what a target reads besides (`route`).

use tollgate_api::http::{Header, Request};

/// The most requests of one input.
const MAX_REQUESTS: usize = 8;
const SEPARATOR: &[u8] = b"\n===\n";

/// A request, and what the input says beside it.
pub(crate) struct Input {
    pub(crate) request: Request,
    notes: Vec<(String, String)>,
}

impl Input {
    /// What the input says under this name.
    pub(crate) fn notes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.notes
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, text)| text.as_str())
    }
}

const NOTES: [&str; 4] = ["as", "later", "peer", "route"];

/// The requests of an input; what no door would pass on (a method or path that HTTP does not allow) is left out.
pub(crate) fn requests(data: &[u8]) -> Vec<Input> {
    let mut rest = data;
    let mut found = Vec::new();
    while found.len() < MAX_REQUESTS && !rest.is_empty() {
        let end = rest
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR);
        let (one, after) = match end {
            Some(end) => (&rest[..end], &rest[end + SEPARATOR.len()..]),
            None => (rest, &[][..]),
        };
        found.extend(request(one));
        rest = after;
    }
    found
}

fn request(data: &[u8]) -> Option<Input> {
    let (line, mut rest) = line(data);
    let line = std::str::from_utf8(line).ok()?;
    let (method, target) = line.split_once(' ')?;
    let method = http::Method::from_bytes(method.as_bytes()).ok()?;
    // As hyper reads a request line.
    let target: http::uri::PathAndQuery = target.parse().ok()?;
    let path = target.path();
    if !path.starts_with('/') {
        return None;
    }
    let mut input = Input {
        request: Request {
            method: tollgate_api::http::method(method.as_str()),
            path: path.to_owned(),
            query: target.query().map(str::to_owned),
            headers: Vec::new(),
            body: Vec::new(),
            peer: "192.0.2.1".to_owned(),
        },
        notes: Vec::new(),
    };
    while !rest.is_empty() {
        let (header, after) = self::line(rest);
        rest = after;
        if header.is_empty() {
            input.request.body = rest.to_vec();
            break;
        }
        let Some(colon) = header.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let Ok(name) = http::HeaderName::from_bytes(&header[..colon]) else {
            continue;
        };
        let value = header[colon + 1..].trim_ascii();
        if http::HeaderValue::from_bytes(value).is_err() {
            continue;
        }
        match NOTES.iter().find(|note| **note == name.as_str()) {
            Some(note) => {
                let text = String::from_utf8_lossy(value).into_owned();
                if *note == "peer" {
                    input.request.peer.clone_from(&text);
                }
                input.notes.push(((*note).to_owned(), text));
            }
            None => input.request.headers.push(Header {
                name: tollgate_api::http::seen_header(name.as_str()),
                value: value.to_vec(),
            }),
        }
    }
    Some(input)
}

/// Up to a newline, and what follows it.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}
