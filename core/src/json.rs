//! JSON bodies: decoded with bounded work, and errors that name the field (RFC 6901 pointers).

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

/// Decodes JSON bytes; see [`body`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Problem::field("#", "the body is not valid UTF-8"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
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

fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// serde's message without line and column (the pointer says where), and bounded, since it may quote the input.
fn plain(message: &str) -> String {
    const MAX: usize = 200;
    let message = message.split(" at line ").next().unwrap_or(message);
    match message.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
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

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        let text = "[".repeat(100_000);
        assert!(decode::<serde_json::Value>(text.as_bytes()).is_err());
    }
}
