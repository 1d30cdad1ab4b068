//! What a statement's parameter is bound to: a field of a message, as `GET …/messages` shows it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The longest path of a parameter, bytes.
pub const MAX_PARAMETER: usize = 256;
/// The most parameters of a statement.
pub const MAX_PARAMETERS: usize = 64;

/// All of a message.
pub const MESSAGE: &str = "message";
/// Its payload.
pub const DATA: &str = "data";
/// The fields that hold others.
const HOLDERS: [&str; 2] = [DATA, "request"];
/// The fields that hold none.
const PLAIN: [&str; 10] = [
    "id",
    "topic",
    "sequence",
    "key",
    "type",
    "time",
    "contentType",
    "dataBase64",
    "traceparent",
    MESSAGE,
];

/// A path into a message: a field, and names or numbers within `data` or `request`, with dots between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// A field of a message, or [`MESSAGE`].
    pub field: String,
    /// The way on from there: names of members, or numbers of elements from 0.
    pub path: Vec<String>,
}

impl Parameter {
    /// Reads `id`, `data.email`, `data.items.0.price`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_PARAMETER {
            return Err("must have at most 256 bytes");
        }
        let mut words = text.split('.').map(str::to_owned);
        let field = words.next().unwrap_or_default();
        let path: Vec<String> = words.collect();
        if !HOLDERS.contains(&&*field) && !PLAIN.contains(&&*field) {
            return Err(
                "must begin with a field of a message, such as id, key, time, data.email, or be message",
            );
        }
        if path.iter().any(String::is_empty) || (!path.is_empty() && PLAIN.contains(&&*field)) {
            return Err("must be a field, and within data or request a path with dots, such as data.items.0");
        }
        Ok(Self { field, path })
    }
}

/// Follows a path. Numbers keep all of their digits: what is passed by is not read. `None`: there is nothing.
///
/// # Errors
/// What is on the way cannot be read.
pub fn within<'a>(mut raw: &'a RawValue, path: &[String]) -> serde_json::Result<Option<&'a RawValue>> {
    for word in path {
        let found = match raw.get().as_bytes().first() {
            Some(b'{') => {
                let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get())?;
                members.remove(word)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw.get())?;
                let at = word.parse::<usize>().ok();
                at.and_then(|at| elements.get(at).copied())
            }
            _ => None,
        };
        match found {
            Some(found) => raw = found,
            None => return Ok(None),
        }
    }
    Ok(Some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_with_a_field_and_goes_on_within_what_holds_others() {
        let read = Parameter::parse("data.items.0").unwrap();
        assert_eq!(
            (&*read.field, read.path),
            ("data", vec!["items".to_owned(), "0".to_owned()])
        );
        assert!(Parameter::parse("message").unwrap().path.is_empty());
        for bad in [
            "",
            "nobody",
            "id.x",
            "data.",
            "data..x",
            ".data",
            "Data",
            "message.id",
        ] {
            assert!(Parameter::parse(bad).is_err(), "{bad}");
        }
        assert!(Parameter::parse(&format!("data.{}", "x".repeat(MAX_PARAMETER))).is_err());
    }
}
