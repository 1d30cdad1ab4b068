//! Entity tags, and the conditions that requests make with them (RFC 9110, sections 8.8.3 and 13.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tollgate_api::http::Request;
use tollgate_api::problem::{Kind, Problem};

/// The bytes of a digest that a tag holds.
const DIGEST_BYTES: usize = 12;

/// The strong tag of these bytes.
pub(crate) fn of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let tag = digest.get(..DIGEST_BYTES).unwrap_or_default();
    ["\"", &URL_SAFE_NO_PAD.encode(tag), "\""].concat()
}

/// The tags of every header of this name.
fn tags<'r>(request: &'r Request, header: &'r str) -> impl Iterator<Item = &'r str> {
    let values = request.header_values(header);
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether the caller has what has this tag (`If-None-Match`): compared weakly.
pub(crate) fn is_known(request: &Request, etag: &str) -> bool {
    tags(request, "if-none-match")
        .map(|tag| tag.trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag)
}

/// What a change is tied to (`If-Match`): compared strongly. Without the header, nothing.
#[derive(Debug, Default)]
pub(crate) struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// The request's condition.
    pub(crate) fn of(request: &Request) -> Self {
        let is_sent = request.headers.iter().any(|header| header.name == "if-match");
        Self(is_sent.then(|| tags(request, "if-match").map(str::to_owned).collect()))
    }

    /// That it still has this tag.
    pub(crate) fn exactly(etag: String) -> Self {
        Self(Some(vec![etag]))
    }

    /// # Errors
    /// 412 if what is there, with this tag, is not what the caller has seen.
    pub(crate) fn check(&self, etag: &str) -> Result<(), Problem> {
        match &self.0 {
            Some(tags) if !tags.iter().any(|tag| tag == "*" || tag == etag) => Err(Problem::new(
                Kind::PreconditionFailed,
                "It was changed since: read it, and send If-Match with its new ETag.",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;
    use serde_json::Value;

    #[test]
    fn a_tag_follows_the_bytes_and_is_quoted() {
        assert_eq!(of(b"a"), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
        assert!(of(b"a").starts_with('"') && of(b"a").ends_with('"') && of(b"a").len() == 18);
    }

    #[test]
    fn a_change_is_tied_to_a_strong_tag_that_was_sent() {
        for (sent, holds) in [
            (&[][..], true),
            (&["\"a\""], true),
            (&["*"], true),
            (&["\"x\", \"a\""], true),
            (&["\"x\"", "\"a\""], true),
            (&["W/\"a\""], false),
            (&["\"x\""], false),
            (&["a"], false),
            (&[""], false),
        ] {
            let headers: Vec<(&str, &str)> = sent.iter().map(|tag| ("if-match", *tag)).collect();
            let request = request("PATCH", "/x", &headers, &Value::Null);
            assert_eq!(IfMatch::of(&request).check("\"a\"").is_ok(), holds, "{sent:?}");
        }
    }
}
