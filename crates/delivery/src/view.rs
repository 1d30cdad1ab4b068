//! Messages as consumers see them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::attributes::{self, Attributes};
use tollgate_api::time;
use tollgate_store::commit::Message;
use tollgate_store::template;

/// JSON that nests deeper is shown as `dataBase64`: common parsers refuse 128 levels and more, and one such message
/// must not make the whole page, or batch, unreadable.
pub const MAX_DATA_DEPTH: usize = 64;

/// `{id, sequence, topic, key, type, time, contentType, data or dataBase64, request?, traceparent?}`. `key` is null for a message that is
/// delivered in no order.
///
/// A payload of a JSON media type that is JSON is `data`, as it is, to the digit. One of `text/…` that is UTF-8 is
/// `data`, a string. Any other is `dataBase64`.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Message")
)]
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    /// Unique, and the same at every delivery.
    id: &'a str,
    /// Its place in the topic, from 1.
    sequence: u64,
    /// Where it is.
    topic: &'a str,
    /// Its ordering key; null for one that is delivered in no order.
    key: Option<&'a str>,
    /// What it tells of, as `coupon.claimed`.
    r#type: &'a str,
    /// When it was written.
    #[serde(with = "time::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Time"))]
    time: u64,
    /// Of its data.
    content_type: &'a str,
    /// Its payload.
    #[serde(flatten)]
    data: Data<'a>,
    /// Of one that was a request.
    #[cfg_attr(feature = "schema", schemars(with = "Attributes"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Attributes>,
    /// Its place in a trace: as the request had it in `traceparent`, or the gateway's own span.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// The payload as `#[serde(flatten)]` writes it: in one field or the other.
#[derive(Debug)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Serialize for Data<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Json(value) => map.serialize_entry("data", value)?,
            Self::Text(text) => map.serialize_entry("data", text)?,
            Self::Bytes(bytes) => map.serialize_entry("dataBase64", &STANDARD.encode(bytes))?,
        }
        map.end()
    }
}

/// Which of the two there is depends on the payload.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for Data<'_> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Data".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let bytes = generator.subschema_for::<tollgate_api::openapi::Base64>();
        schemars::json_schema!({
            "type": "object",
            "properties": { "data": { "description": "JSON as it is, or text." }, "dataBase64": bytes },
        })
    }
}

impl<'a> MessageView<'a> {
    /// Of a message.
    pub fn new(message: &'a Message) -> Self {
        Self {
            id: &message.id,
            sequence: message.sequence,
            topic: &message.topic,
            key: Some(message.key.as_str()).filter(|key| !key.is_empty()),
            r#type: &message.kind,
            time: message.time,
            content_type: &message.content_type,
            data: Data::of(&message.content_type, &message.payload),
            request: Attributes::read(message),
            traceparent: attributes::traceparent(message).map(|place| place.to_string()),
        }
    }
}

impl<'a> Data<'a> {
    fn of(content_type: &str, payload: &'a [u8]) -> Self {
        let media = content_type
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        let Ok(text) = std::str::from_utf8(payload) else {
            return Self::Bytes(payload);
        };
        if media == "application/json" || media.ends_with("+json") {
            return match serde_json::from_str(text) {
                Ok(value) if template::depth(payload) <= MAX_DATA_DEPTH => Self::Json(value),
                _ => Self::Bytes(payload),
            };
        }
        if media.starts_with("text/") {
            Self::Text(text)
        } else {
            Self::Bytes(payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content_type: &str, payload: &[u8]) -> String {
        let message = Message {
            topic: "t".into(),
            sequence: 3,
            id: "m".into(),
            key: "k".into(),
            kind: "x.y".into(),
            content_type: content_type.into(),
            time: 1_800_000_000_000,
            attributes: Vec::new(),
            payload: payload.to_vec(),
        };
        serde_json::to_string(&MessageView::new(&message)).unwrap()
    }

    #[test]
    fn json_is_shown_as_it_is_text_as_a_string_and_the_rest_as_base64() {
        let exact = r#"{"b":12345678901234567890123,"a":1.0}"#;
        let head =
            r#"{"id":"m","sequence":3,"topic":"t","key":"k","type":"x.y","time":"2027-01-15T08:00:00Z""#;
        assert_eq!(
            shown("application/json", exact.as_bytes()),
            format!(r#"{head},"contentType":"application/json","data":{exact}}}"#)
        );
        assert!(shown("application/cloudevents+json; charset=utf-8", b"[1]").ends_with(r#""data":[1]}"#));
        assert!(shown("text/plain", "é\"".as_bytes()).ends_with(r#""data":"é\""}"#));
        assert!(shown("application/octet-stream", b"hi").ends_with(r#""dataBase64":"aGk="}"#));
        for (content_type, payload) in [
            ("application/json", b"{".as_slice()),
            ("application/json", b""),
            ("text/a", b"\xff"),
        ] {
            assert!(
                shown(content_type, payload).contains("dataBase64"),
                "{content_type}"
            );
        }
    }

    #[test]
    fn json_too_deep_for_common_parsers_does_not_spoil_the_page() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(shown("application/json", nested(MAX_DATA_DEPTH).as_bytes()).contains("\"data\":"));
        for depth in [MAX_DATA_DEPTH + 1, 20_000] {
            assert!(shown("application/json", nested(depth).as_bytes()).contains("dataBase64"));
        }
    }
}
