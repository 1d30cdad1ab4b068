//! Records as they are stored. A record that cannot be read is an error of ours (a 500), and never counts as
//! missing. What is missing may be made anew, and that would overwrite the damaged record.

use serde::Deserialize;

use crate::commit::{Entry, StoreError};
use crate::plan;

/// Reads a record. `what`: what the error calls it.
///
/// # Errors
/// [`StoreError::Invalid`]: it is damaged. The error says where and quotes no value: records hold secrets.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, entry: &'a Entry) -> Result<T, StoreError> {
    let decoded = serde_json::from_slice(&entry.value);
    decoded.map_err(|error| {
        let (kind, column) = (error.classify(), error.column());
        StoreError::Invalid(format!("a damaged {what}: {kind:?} at byte {column}"))
    })
}

/// A counter's value. One that is missing counts as 0.
///
/// # Errors
/// [`StoreError::Invalid`]: it is damaged, or below 0.
pub fn count(what: &str, entry: Option<&Entry>) -> Result<u64, StoreError> {
    let Some(entry) = entry else { return Ok(0) };
    let number = plan::counter(&entry.value).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| damaged(what))
}

/// The error for a stored value that is not JSON and cannot be read.
pub fn damaged(what: &str) -> StoreError {
    StoreError::Invalid(format!("a damaged {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &[u8]) -> Entry {
        Entry {
            value: value.to_vec(),
            version: 1,
            expires: None,
        }
    }

    #[test]
    fn what_is_damaged_is_told_without_what_it_holds() {
        let of = |value: &[u8]| decode::<Vec<String>>("list", &entry(value));
        assert_eq!(of(b"[\"a\"]"), Ok(vec!["a".into()]));
        for bad in [&b""[..], b"[\"whsec_secret", b"{\"whsec_secret\":1}", b"\xff"] {
            let error = of(bad).unwrap_err().to_string();
            assert!(
                error.contains("a damaged list") && !error.contains("whsec"),
                "{error}"
            );
        }
        assert_eq!(
            (count("counter", None), count("counter", Some(&entry(b"7")))),
            (Ok(0), Ok(7))
        );
        for bad in [&b"-1"[..], b"", b"07", b"x"] {
            assert!(count("counter", Some(&entry(bad))).is_err());
        }
    }
}
