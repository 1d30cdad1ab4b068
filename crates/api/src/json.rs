//! JSON bodies: decoded with bounded work, and errors that name the field (RFC 6901 pointers).

mod strict;

pub use strict::Strict;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::Request;
use crate::problem::{Kind, Problem};

/// Decodes a JSON body. Types must carry `#[serde(deny_unknown_fields)]`; an unknown field, a wrong type or broken
/// JSON becomes a 400 that names the field. A `Content-Type` other than JSON is a 415; a missing one is taken as JSON.
pub fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Problem> {
    if let Some(content_type) = request.single("content-type")? {
        let media = String::from_utf8_lossy(content_type)
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        if media != "application/json" && !media.ends_with("+json") {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "This call takes application/json (with curl: --json, or -H 'content-type: application/json').",
            ));
        }
    }
    decode(&request.body)
}

/// As [`body`], but a request without a body is one that leaves everything out.
pub fn body_or_default<T: DeserializeOwned + Default>(request: &Request) -> Result<T, Problem> {
    match request.body.is_empty() {
        true => Ok(T::default()),
        false => body(request),
    }
}

/// Decodes JSON bytes; see [`body`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Problem::field("#", "the body is not valid UTF-8"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Strict(&mut deserializer)).map_err(|error| {
        let pointer = pointer(error.path(), error.inner());
        Problem::field(pointer, plain(&error.inner().to_string()))
    })?;
    deserializer
        .end()
        .map_err(|error| Problem::field("#", plain(&error.to_string())))?;
    Ok(value)
}

/// For merge-patch fields (RFC 7396): absent is `None`, null is `Some(None)`, a value is `Some(Some(value))`.
/// Use with `#[serde(default, deserialize_with = "json::patch")]`.
pub fn patch<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn pointer(path: &serde_path_to_error::Path, error: &serde_json::Error) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::from("#");
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{}", escape(variant))),
            Segment::Unknown => {}
        }
    }
    // A missing field is reported at its parent: name the field itself.
    if let Some(name) = error
        .to_string()
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        pointer.push_str(&format!("/{}", escape(name)));
    }
    pointer
}

/// A segment of a JSON pointer (RFC 6901, section 3).
pub fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// serde's words for a value and its expected type, and ours: a caller need not know how we hold a value.
const WORDS: &[(&str, &str)] = &[
    ("map", "an object"),
    ("sequence", "an array"),
    ("a sequence", "an array"),
    ("a map", "an object"),
    ("unit", "nothing"),
    ("option", "a value or null"),
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number from 0 to 18446744073709551615"),
    ("i8", "a whole number"),
    ("i16", "a whole number"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("usize", "a whole number"),
    ("f32", "a number"),
    ("f64", "a number"),
];

/// A message of serde's in the terms of the document: without the names of our types.
pub fn reworded(message: &str) -> String {
    let word = |text: &str| -> Option<&'static str> {
        if text.starts_with("struct ") || text.starts_with("a struct") {
            return Some("an object");
        }
        WORDS
            .iter()
            .find(|(theirs, _)| *theirs == text)
            .map(|(_, ours)| *ours)
    };
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let Some((kind, what)) = found
        .split_once(": ")
        .filter(|(kind, _)| kind.starts_with("invalid "))
    else {
        return message.to_owned();
    };
    let (what, expected) = (word(what).unwrap_or(what), word(expected).unwrap_or(expected));
    format!("{kind}: {what}, expected {expected}")
}

/// serde's message without line and column (the pointer says where), and bounded, since it may quote the input.
fn plain(message: &str) -> String {
    const MAX: usize = 200;
    let message = &reworded(
        message
            .rsplit_once(" at line ")
            .map_or(message, |(before, _)| before),
    );
    match message.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its decoding is looked at")]
    struct Sample {
        max_visits: u32,
        tags: Option<Vec<String>>,
    }

    fn pointer_of(text: &str) -> String {
        decode::<Sample>(text.as_bytes()).unwrap_err().errors[0]
            .pointer
            .clone()
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(pointer_of(r#"{"maxVisits":"x"}"#), "#/maxVisits");
        assert_eq!(pointer_of(r#"{"maxVisits":-1}"#), "#/maxVisits");
        assert_eq!(pointer_of(r#"{"maxVisits":1,"tags":["a",2]}"#), "#/tags/1");
        assert_eq!(pointer_of(r#"{"maxVisits":1,"nope":2}"#), "#/nope");
        assert_eq!(pointer_of(r#"{}"#), "#/maxVisits");
        assert_eq!(pointer_of(r#"{"maxVisits":1} x"#), "#");
        assert_eq!(pointer_of("{"), "#");
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its decoding is looked at")]
    enum Kind {
        One,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its decoding is looked at")]
    struct Nested {
        inner: Option<Sample>,
        list: Option<Vec<Sample>>,
        kind: Option<Kind>,
        kinds: Option<Vec<Kind>>,
        #[serde(default, deserialize_with = "patch")]
        patched: Option<Option<Sample>>,
    }

    fn refused(text: &str) -> (String, String) {
        let problem = decode::<Nested>(text.as_bytes()).unwrap_err();
        (
            problem.errors[0].pointer.clone(),
            problem.errors[0].detail.clone(),
        )
    }

    #[test]
    fn an_array_is_no_object_wherever_it_stands() {
        for (text, pointer) in [
            ("[]", "#"),
            ("[null, null, null, null, null]", "#"),
            (r#"{"inner":[1,null]}"#, "#/inner"),
            (r#"{"list":[{"maxVisits":1},[1,null]]}"#, "#/list/1"),
            (r#"{"patched":[1,null]}"#, "#/patched"),
        ] {
            let (at, detail) = refused(text);
            assert_eq!(
                (at.as_str(), detail.as_str()),
                (pointer, "invalid type: an array, expected an object"),
                "{text}"
            );
        }
        for (text, pointer) in [
            (r#"{"kind":{"one":null}}"#, "#/kind"),
            (r#"{"kinds":["one",{"one":null}]}"#, "#/kinds/1"),
        ] {
            let (at, detail) = refused(text);
            assert_eq!(
                (at.as_str(), detail.as_str()),
                (pointer, "invalid type: an object, expected a string"),
                "{text}"
            );
        }
        let sound = r#"{"inner":{"maxVisits":1},"list":[{"maxVisits":1}],"kind":"one","kinds":["one"],"patched":null}"#;
        assert!(decode::<Nested>(sound.as_bytes()).is_ok());
    }

    #[test]
    fn messages_do_not_name_our_types() {
        for text in [
            "5",
            "null",
            "\"x\"",
            "true",
            "[]",
            "{}",
            "1.5",
            "-1",
            "1e99",
            r#"{"inner":5}"#,
            r#"{"inner":{"maxVisits":"x"}}"#,
            r#"{"inner":{"maxVisits":{}}}"#,
            r#"{"inner":{"maxVisits":[]}}"#,
            r#"{"inner":{"maxVisits":-1}}"#,
            r#"{"inner":{"maxVisits":1.5}}"#,
            r#"{"inner":{"maxVisits":5000000000}}"#,
            r#"{"inner":{"maxVisits":null}}"#,
            r#"{"inner":{"maxVisits":1,"tags":{}}}"#,
            r#"{"inner":{"maxVisits":1,"tags":5}}"#,
            r#"{"list":{}}"#,
            r#"{"kind":5}"#,
            r#"{"kind":"two"}"#,
            r#"{"kind":[]}"#,
        ] {
            let Err(problem) = decode::<Nested>(text.as_bytes()) else {
                assert_eq!(text, "{}");
                continue;
            };
            let detail = &problem.errors[0].detail;
            for ours in [
                "struct", "u32", "u64", "i64", "Sample", "Nested", "Kind", "enum", "map", "sequence", "unit",
            ] {
                assert!(!detail.contains(ours), "{text}: {detail}");
            }
        }
        let (_, detail) = refused(r#"{"inner":{"maxVisits":"u32, expected struct Body"}}"#);
        assert!(
            detail.ends_with("expected a whole number from 0 to 4294967295"),
            "{detail}"
        );
    }

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        let text = "[".repeat(100_000);
        assert!(decode::<serde_json::Value>(text.as_bytes()).is_err());
    }
}
