//! The `Idempotency-Key` request header (draft-ietf-httpapi-idempotency-key-header).
//!
//! The key is an RFC 9651 String, in double quotes, or the same text bare, as many clients send it; anything
//! else is a 400. The store remembers a key with the commit that it made, in one step, for [`TTL_MS`]. A
//! request that changed nothing (a refusal) is not remembered and may be repeated with the same key. Keys are
//! scoped by the call and by the caller, so that one caller can neither see nor block another's answers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256};

use tollgate_api::headers::sent_twice;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_store::commit::{Commit, Condition, Idempotence, Part, Template};

/// How long a key is remembered: 24 hours, in milliseconds.
pub const TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// The most characters of a key, after unescaping.
pub const MAX_KEY: usize = 128;
/// Set to `true` on an answer that was stored earlier.
pub const REPLAYED: &str = "idempotency-replayed";

const HEADER: &str = "idempotency-key";

/// A caller's key, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// The request's key, if it has one. A malformed or repeated header is a 400.
pub fn key(request: &Request) -> Result<Option<Key>, Problem> {
    let mut values = request.headers.iter().filter(|h| h.name == HEADER);
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(sent_twice(HEADER));
    }
    let text = sf_string(&first.value).or_else(|| bare(&first.value)).ok_or_else(|| {
        malformed("must be a string in double quotes (RFC 9651) or a word, e.g. \"8e03978e-40d5\" or 8e03978e-40d5")
    })?;
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(malformed(&format!("must hold 1 to {MAX_KEY} characters")));
    }
    Ok(Some(Key(text)))
}

fn malformed(detail: &str) -> Problem {
    Problem::field(format!("header:{HEADER}"), detail)
}

/// RFC 9651, section 4.2.5, without parameters.
fn sf_string(value: &[u8]) -> Option<String> {
    let inner = value.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut text = String::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\') => text.push(char::from(*escaped)),
                _ => return None,
            },
            b'"' => return None,
            0x20..=0x7e => text.push(char::from(byte)),
            _ => return None,
        }
    }
    Some(text)
}

/// A key without its quotes: visible ASCII, but for what would make it two values, parameters or a broken string.
fn bare(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\,;".contains(byte);
    let text = std::str::from_utf8(value).ok()?;
    (!value.is_empty() && value.iter().all(plain)).then(|| text.to_owned())
}

/// The fingerprint that tells one request from another under the same key. It covers method, path, query,
/// body, content type, ordering key, and the headers that are kept with the message. Those that a request
/// does not send, and the content type of JSON, add nothing, so that what an earlier version stored for such
/// a request is still known.
fn fingerprint(request: &Request, kept: &BTreeMap<String, String>) -> [u8; 32] {
    const JSON: &[u8] = b"application/json";
    let sent = |name: &str| {
        let header = request.headers.iter().find(|header| header.name == name);
        header.map(|header| header.value.as_slice())
    };
    let mut parts = vec![request.method.as_bytes(), request.path.as_bytes(), &request.body];
    if let Some(query) = &request.query {
        parts.extend([b"query", query.as_bytes()]);
    }
    match sent("content-type") {
        Some(JSON) => {}
        Some(content_type) => parts.extend([b"content-type", content_type]),
        None if request.body.is_empty() => {}
        None => parts.push(b"no content-type"),
    }
    if let Some(key) = sent("x-partition-key") {
        parts.extend([b"key", key]);
    }
    for (name, tag) in [("x-deliver-at", b"at"), ("x-delay", b"in")] {
        if let Some(due) = sent(name) {
            parts.extend([&tag[..], due]);
        }
    }
    for (name, value) in kept {
        parts.extend([b"header", name.as_bytes(), value.as_bytes()]);
    }
    digest(parts)
}

impl Key {
    /// Sixteen bytes that nobody finds who does not know both the key and `nonce` (HMAC-SHA-256).
    pub(crate) fn derive(&self, nonce: &str) -> [u8; 16] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(nonce.as_bytes());
        let mut bytes = [0; 16];
        for (byte, of) in bytes.iter_mut().zip(mac.finalize().into_bytes()) {
            *byte = of;
        }
        bytes
    }

    /// The idempotence record with which a commit is repeatable. `call` names the kind of call, `scope` its
    /// caller and its target. `status` and `body` are the answer that a repetition gets. `kept` are the
    /// headers that belong to the request.
    pub fn idempotence(
        &self,
        call: &str,
        scope: &[&str],
        request: &Request,
        status: u16,
        body: &[Part],
        kept: &BTreeMap<String, String>,
    ) -> Idempotence {
        let parts = scope.iter().copied().chain([self.0.as_str()]).map(str::as_bytes);
        // Hashed, so that the id's length is bounded and the store holds no caller's text.
        let id = format!("{call}/{}", URL_SAFE_NO_PAD.encode(digest(parts)));
        Idempotence {
            id,
            fingerprint: fingerprint(request, kept).to_vec(),
            answer: stored(status, body),
            ttl: TTL_MS,
        }
    }
}

/// SHA-256 over parts, each preceded by its length, so that no two lists of parts hash alike.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// An answer as it is stored: the status, a space, the JSON body.
fn stored(status: u16, body: &[Part]) -> Template {
    let mut answer = vec![Part::Bytes(format!("{status} ").into_bytes())];
    answer.extend_from_slice(body);
    answer
}

/// The commit that only asks whether a request was answered before: it is replayed or in conflict then, and refused if not. It
/// changes nothing.
pub(crate) fn look_up(partition: String, idempotence: Idempotence) -> Commit {
    Commit {
        partition,
        idempotence: Some(idempotence),
        conditions: vec![Condition::NowIn {
            start: None,
            end: Some(0),
        }],
        ..Commit::default()
    }
}

/// The response of a stored answer that its caller has never had: the reply to our own commit was lost.
pub(crate) fn first_answer(mut response: Response) -> Response {
    response.headers.retain(|header| header.name != REPLAYED);
    response
}

/// The response of a stored answer, marked as a replay.
pub fn replay(answer: &[u8]) -> Result<Response, Problem> {
    let mut halves = answer.splitn(2, |&b| b == b' ');
    let status = halves
        .next()
        .and_then(|s| std::str::from_utf8(s).ok())
        .and_then(|s| s.parse().ok());
    match (status, halves.next()) {
        (Some(status), Some(body)) => Ok(Response::json_bytes(status, body.to_vec()).with(REPLAYED, "true")),
        _ => Err(Problem::new(Kind::Internal, "The stored answer cannot be read.")),
    }
}

/// The 422 for a key that was used with another request.
pub fn mismatch() -> Problem {
    Problem::new(
        Kind::IdempotencyMismatch,
        "This Idempotency-Key was used with another request; send a new key for a new one.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_api::http::Header;

    fn request(values: &[&[u8]], body: &str) -> Request {
        Request {
            method: "POST".into(),
            path: "/x".into(),
            query: None,
            headers: values
                .iter()
                .map(|v| Header {
                    name: HEADER.into(),
                    value: v.to_vec(),
                })
                .collect(),
            body: body.into(),
            peer: "127.0.0.1".into(),
        }
    }

    fn parsed(value: &[u8]) -> Option<String> {
        key(&request(&[value], "")).ok().flatten().map(|k| k.0)
    }

    #[test]
    fn a_key_is_a_quoted_string_or_a_word() {
        assert_eq!(parsed(br#""abc""#).as_deref(), Some("abc"));
        assert_eq!(parsed(b"abc").as_deref(), Some("abc"));
        assert_eq!(
            parsed(b" 8e03978e-40d5:1/x= ").as_deref(),
            Some("8e03978e-40d5:1/x=")
        );
        assert_eq!(
            parsed("x".repeat(MAX_KEY).as_bytes()).map(|k| k.len()),
            Some(MAX_KEY)
        );
        let long_word = "x".repeat(MAX_KEY + 1);
        assert_eq!(parsed(br#" "a \"b\" \\ c" "#).as_deref(), Some(r#"a "b" \ c"#));
        let long = format!("\"{}\"", "x".repeat(MAX_KEY));
        assert_eq!(parsed(long.as_bytes()).map(|k| k.len()), Some(MAX_KEY));
        let longer = format!("\"{}\"", "x".repeat(MAX_KEY + 1));
        let bad: &[&[u8]] = &[
            b"",
            b"two words",
            b"a,b",
            b"a;p=1",
            b"a\\b",
            b"caf\xc3\xa9",
            long_word.as_bytes(),
            b"\"",
            b"\"\"",
            b"\"a",
            b"a\"",
            b"\"a\"b\"",
            br#""a\b""#,
            br#""a\""#,
            b"\"\xc3\xa9\"",
            b"\"a\tb\"",
            b"\"a\";p=1",
            b"\"a\", \"b\"",
            b"\xff",
            longer.as_bytes(),
        ];
        for value in bad {
            let problem = key(&request(&[value], "")).unwrap_err();
            assert_eq!(problem.errors[0].pointer, "header:idempotency-key", "{value:?}");
        }
        assert!(key(&request(&[b"\"a\"", b"\"a\""], "")).is_err());
        assert_eq!(key(&request(&[], "")), Ok(None));
    }

    #[test]
    fn ids_are_scoped_and_fingerprints_follow_the_payload() {
        let one = request(&[br#""k""#], "1");
        let two = request(&[br#""k""#], "2");
        let made = |scope: &[&str], request: &Request| {
            key(request)
                .unwrap()
                .unwrap()
                .idempotence("call", scope, request, 200, &[], &BTreeMap::new())
        };
        assert_eq!(made(&["ann"], &one), made(&["ann"], &one));
        assert_ne!(made(&["ann"], &one).id, made(&["bob"], &one).id);
        assert_ne!(made(&["a", "nn"], &one).id, made(&["an", "n"], &one).id);
        assert_eq!(made(&["ann"], &one).id, made(&["ann"], &two).id);
        assert_ne!(made(&["ann"], &one).fingerprint, made(&["ann"], &two).fingerprint);
    }

    #[test]
    fn a_fingerprint_is_of_everything_that_makes_a_request() {
        let with = |change: fn(&mut Request)| {
            let mut request = request(&[b"k"], "1");
            request.headers.push(Header::new("content-type", "text/plain"));
            change(&mut request);
            fingerprint(&request, &BTreeMap::new())
        };
        let all = [
            with(|_| {}),
            with(|request| request.method = "PUT".into()),
            with(|request| request.path = "/y".into()),
            with(|request| request.query = Some(String::new())),
            with(|request| request.query = Some("a=1".into())),
            with(|request| request.query = Some("a=2".into())),
            with(|request| request.body = b"2".to_vec()),
            with(|request| request.headers[1].value = b"text/html".to_vec()),
            with(|request| request.headers[1].value = b"application/json".to_vec()),
            with(|request| request.headers.truncate(1)),
            with(|request| request.headers.push(Header::new("x-partition-key", "a"))),
            with(|request| request.headers.push(Header::new("x-partition-key", "b"))),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        // What tells nobody apart.
        assert_eq!(
            with(|request| request.headers.push(Header::new("user-agent", "x"))),
            all[0]
        );
        assert_eq!(
            with(|request| request.headers[0].value = b"\"other\"".to_vec()),
            all[0]
        );
    }

    #[test]
    fn what_an_earlier_version_stored_for_a_plain_request_is_still_known() {
        let earlier =
            |request: &Request| digest([request.method.as_bytes(), request.path.as_bytes(), &request.body]);
        let mut json = request(&[br#""k""#], "{}");
        json.headers.push(Header::new("content-type", "application/json"));
        assert_eq!(fingerprint(&json, &BTreeMap::new()), earlier(&json));
        let empty = request(&[br#""k""#], "");
        assert_eq!(fingerprint(&empty, &BTreeMap::new()), earlier(&empty));
    }

    #[test]
    fn a_stored_answer_comes_back_marked() {
        let answer = stored(201, &[Part::Bytes(br#"{"a b":1}"#.to_vec())]);
        let Part::Bytes(body) = &answer[1] else {
            panic!("the body is literal")
        };
        let response = replay(&[b"201 ".as_slice(), body].concat()).unwrap();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (201, br#"{"a b":1}"#.as_slice())
        );
        assert_eq!(response.header(REPLAYED), Some("true"));
        assert!(replay(b"").is_err());
    }
}
