//! The attributes that a client sends with a message, as SQS has them. They are kept as a header of the request that the message is,
//! so whoever else gets the message sees them too.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::md5;
use tollgate_delivery::attributes;

/// The header that they are kept in: JSON, of visible characters.
pub(super) const HEADER: &str = "x-sqs-message-attributes";
/// The same as a part of a request that is at fault.
pub(super) const POINTER: &str = "header:x-sqs-message-attributes";
/// Begins the names of those that the gateway makes.
pub(super) const OURS: &str = "tollgate.";
/// The most attributes of a message.
const MAX_COUNT: usize = 10;
/// The longest name and type.
const MAX_NAME: usize = 256;
/// What names may not begin with, whatever the case.
const RESERVED: [&str; 3] = ["aws.", "amazon.", OURS];

/// By name.
pub(super) type Attributes = BTreeMap<String, Attribute>;

/// An attribute. Members that are not known are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Attribute {
    data_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

impl Attribute {
    /// A text.
    pub(super) fn text(value: &str) -> Self {
        Self {
            data_type: "String".to_owned(),
            string_value: Some(value.to_owned()),
            binary_value: None,
        }
    }

    /// Whether it is binary, and its value; `None` if it has none that fits its type.
    fn value(&self) -> Option<(bool, Vec<u8>)> {
        let base = self.data_type.split('.').next().unwrap_or_default();
        let value = match (base, &self.string_value, &self.binary_value) {
            ("String" | "Number", Some(text), None) => (false, text.clone().into_bytes()),
            ("Binary", None, Some(text)) => (true, STANDARD.decode(text).ok()?),
            _ => return None,
        };
        (!value.1.is_empty()).then_some(value)
    }
}

/// Whether a message may have these.
pub(super) fn check(attributes: &Attributes) -> Result<(), Fault> {
    if attributes.len() > MAX_COUNT {
        let detail = format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MAX_COUNT}].",
            attributes.len()
        );
        return Err(Fault::invalid(&detail));
    }
    for (name, attribute) in attributes {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let lower = name.to_ascii_lowercase();
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(part)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
            && !RESERVED.iter().any(|reserved| lower.starts_with(reserved));
        if !is_name {
            return Err(Fault::invalid(&format!(
                "The message attribute name '{name}' is not allowed."
            )));
        }
        let kind = &attribute.data_type;
        let is_kind = kind.len() <= MAX_NAME && kind.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if !is_kind || attribute.value().is_none() {
            let detail = format!(
                "The message attribute '{name}' must have a DataType of String, Number or Binary, and a value that is not empty and of \
                 this type."
            );
            return Err(Fault::invalid(&detail));
        }
    }
    Ok(())
}

/// MD5 of attributes, as clients compute it: for each by name its name, its type and its value, each after its length.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
pub(super) fn digest(attributes: &Attributes) -> String {
    let mut text = Vec::new();
    let mut add = |part: &[u8], marker: Option<u8>| {
        text.extend(marker);
        text.extend((part.len() as u32).to_be_bytes());
        text.extend_from_slice(part);
    };
    for (name, attribute) in attributes {
        let (is_binary, value) = attribute.value().unwrap_or_default();
        add(name.as_bytes(), None);
        add(attribute.data_type.as_bytes(), None);
        add(&value, Some(if is_binary { 2 } else { 1 }));
    }
    md5(&text)
}

/// As a header's value: other characters are escaped.
pub(super) fn header(attributes: &Attributes) -> String {
    let json = serde_json::to_string(attributes).unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            ' '..='~' => text.push(char),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

/// Those that a message was sent with, if it was sent by a client of SQS.
pub(super) fn sent_with(request: &attributes::Attributes) -> Option<Attributes> {
    let sent: Attributes = serde_json::from_str(request.headers.get(HEADER)?).ok()?;
    // Whoever may post can send such a header where a route keeps it.
    sent.values()
        .all(|attribute| attribute.value().is_some())
        .then_some(sent)
}

/// Those that are asked for: `All`, by name, or by the beginning of names (`foo.*`).
pub(super) fn chosen(mut attributes: Attributes, names: &[String]) -> Attributes {
    attributes.retain(|name, _| {
        names.iter().any(|wanted| {
            let prefix = wanted.strip_suffix(".*");
            wanted == "All" || wanted == name || prefix.is_some_and(|prefix| name.starts_with(prefix))
        })
    });
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_as_clients_compute_it() {
        let attributes: Attributes = serde_json::from_value(serde_json::json!({
            "trace": { "DataType": "String", "StringValue": "é-1" },
            "n": { "DataType": "Number.int", "StringValue": "7" },
            "raw": { "DataType": "Binary", "BinaryValue": "AAEC/w==" },
        }))
        .unwrap();
        assert!(check(&attributes).is_ok());
        // By Python: hashlib.md5 over the encoding that the guide describes.
        assert_eq!(digest(&attributes), "c7ad658f1e9be41595266886c56c717a");
        let text = header(&attributes);
        assert!(text.is_ascii() && text.contains(r"\u00e9-1"), "{text}");
        let request = attributes::Attributes {
            method: "POST".into(),
            path: "/sqs".into(),
            query: None,
            headers: BTreeMap::from([(HEADER.to_owned(), text)]),
        };
        assert_eq!(sent_with(&request), Some(attributes));
    }

    #[test]
    fn attributes_that_make_no_sense_are_refused() {
        let one = |name: &str, attribute: serde_json::Value| -> Attributes {
            serde_json::from_value(serde_json::json!({ name: attribute })).unwrap()
        };
        let text = serde_json::json!({ "DataType": "String", "StringValue": "x" });
        assert!(check(&one("a.b-c_d9", text.clone())).is_ok());
        for name in [
            "",
            ".a",
            "a.",
            "a..b",
            "AWS.x",
            "amazon.x",
            "tollgate.type",
            "a b",
            "é",
            &"a".repeat(257),
        ] {
            assert!(check(&one(name, text.clone())).is_err(), "{name}");
        }
        for bad in [
            serde_json::json!({}),
            serde_json::json!({ "DataType": "String" }),
            serde_json::json!({ "DataType": "String", "StringValue": "" }),
            serde_json::json!({ "DataType": "String", "BinaryValue": "AAEC" }),
            serde_json::json!({ "DataType": "Binary", "BinaryValue": "***" }),
            serde_json::json!({ "DataType": "Strings", "StringValue": "x" }),
            serde_json::json!({ "DataType": "String", "StringValue": "x", "BinaryValue": "AAEC" }),
        ] {
            assert!(check(&one("a", bad.clone())).is_err(), "{bad}");
        }
        let many: Attributes = (0..11).map(|n| (format!("a{n}"), Attribute::text("x"))).collect();
        assert!(check(&many).is_err());
    }
}
