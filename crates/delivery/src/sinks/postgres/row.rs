//! A message as the values of a statement's parameters. They are bound, never part of the statement's text.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::value::RawValue;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use tollgate_store::commit::Message;

use crate::subscription::parameter::{DATA, MESSAGE, Parameter, within};
use crate::view::MessageView;

/// A value on its way. The database reads text as the type that the statement gives the parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

impl ToSql for Value {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self {
            Self::Null | Self::Text(_) => Format::Text,
            Self::Bytes(_) => Format::Binary,
        }
    }

    to_sql_checked!();
}

/// The values of one message, for parameters of these types; there are as many.
///
/// # Errors
/// The message has no such value. Another attempt would end the same way.
pub(super) fn values(
    parameters: &[Parameter],
    types: &[Type],
    message: &Message,
) -> Result<Vec<Value>, String> {
    let shown = serde_json::to_string(&MessageView::new(message));
    let shown = shown.map_err(|error| error.to_string())?;
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(&shown).map_err(|error| error.to_string())?;
    let of = |(parameter, declared): (&Parameter, &Type)| {
        let declared = base(declared);
        let is_whole = parameter.path.is_empty();
        if is_whole && parameter.field == DATA {
            if *declared == Type::BYTEA {
                return Ok(Value::Bytes(message.payload.clone()));
            }
            if !fields.contains_key(DATA) {
                return Err(
                    "data: is neither JSON nor text; a parameter of the type bytea takes it".to_owned(),
                );
            }
        }
        if is_whole && parameter.field == MESSAGE {
            return Ok(Value::Text(shown.clone()));
        }
        // JSON may say what is no text, such as half of a surrogate pair.
        let unfit = |error: serde_json::Error| format!("{}: {error}", parameter.field);
        let Some(field) = fields.get(&parameter.field) else {
            return Ok(Value::Null);
        };
        match within(field, &parameter.path).map_err(unfit)? {
            Some(raw) => value(raw.get(), declared).map_err(unfit),
            None => Ok(Value::Null),
        }
    };
    parameters.iter().zip(types).map(of).collect()
}

/// JSON for a parameter of that type; for any other the text of a string, the digits of a number, the JSON of what holds others.
fn value(json: &str, declared: &Type) -> serde_json::Result<Value> {
    let is_json = [Type::JSON, Type::JSONB].contains(declared);
    Ok(match json.as_bytes().first() {
        _ if json == "null" => Value::Null,
        Some(b'"') if !is_json => Value::Text(serde_json::from_str(json)?),
        _ => Value::Text(json.to_owned()),
    })
}

/// What a domain is over.
fn base(mut of: &Type) -> &Type {
    while let Kind::Domain(over) = of.kind() {
        of = over;
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        parameters: &[&str],
        declared: &Type,
        content_type: &str,
        payload: &[u8],
    ) -> Result<Vec<Value>, String> {
        let parameters: Vec<Parameter> = parameters
            .iter()
            .map(|one| Parameter::parse(one).unwrap())
            .collect();
        let message = Message {
            topic: "t".into(),
            sequence: 3,
            id: "m'); DROP TABLE x; --".into(),
            key: String::new(),
            kind: "x.y".into(),
            content_type: content_type.into(),
            time: 1_800_000_000_000,
            attributes: Vec::new(),
            payload: payload.to_vec(),
        };
        let types = vec![declared.clone(); parameters.len()];
        values(&parameters, &types, &message)
    }

    fn texts(parameters: &[&str], declared: &Type, payload: &str) -> Vec<Option<String>> {
        let values = of(parameters, declared, "application/json", payload.as_bytes()).unwrap();
        let text = |value| match value {
            Value::Text(text) => Some(text),
            Value::Null => None,
            Value::Bytes(bytes) => panic!("{bytes:?}"),
        };
        values.into_iter().map(text).collect()
    }

    #[test]
    fn fields_are_text_and_what_is_missing_is_null() {
        let payload =
            r#"{"email":"a\"b","big":12345678901234567890123,"list":[{"x":1.10},true],"none":null}"#;
        let asked = [
            "id",
            "sequence",
            "key",
            "time",
            "data.email",
            "data.big",
            "data.list.0.x",
            "data.list.1",
            "data.list.9",
            "data.list.x",
            "data.email.x",
            "data.none",
            "data.nobody",
            "request.path",
        ];
        let expected = [
            Some("m'); DROP TABLE x; --"),
            Some("3"),
            None,
            Some("2027-01-15T08:00:00Z"),
            Some("a\"b"),
            Some("12345678901234567890123"),
            Some("1.10"),
            Some("true"),
            None,
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(
            texts(&asked, &Type::TEXT, payload),
            expected.map(|text| text.map(str::to_owned))
        );
        assert_eq!(
            texts(&["data"], &Type::JSONB, payload),
            [Some(payload.to_owned())]
        );
        assert_eq!(
            texts(&["data.email"], &Type::JSONB, payload),
            [Some(r#""a\"b""#.to_owned())]
        );
        let whole = texts(&["message"], &Type::JSONB, "1").remove(0).unwrap();
        assert!(
            whole.starts_with(r#"{"id":"m'"#) && whole.ends_with(r#""data":1}"#),
            "{whole}"
        );
    }

    #[test]
    fn bytes_go_where_bytes_are_taken() {
        let bytes = [0xff, 0x00];
        let whole = of(&["data"], &Type::BYTEA, "image/png", &bytes);
        assert_eq!(whole, Ok(vec![Value::Bytes(bytes.to_vec())]));
        assert!(of(&["data"], &Type::TEXT, "image/png", &bytes).is_err());
        let half = br#"{"a":"\ud800","b":1}"#;
        assert!(
            of(&["data.a"], &Type::TEXT, "application/json", half).is_err(),
            "no text"
        );
        assert_eq!(
            of(&["data.b"], &Type::INT8, "application/json", half),
            Ok(vec![Value::Text("1".into())])
        );
        let other = of(&["dataBase64"], &Type::TEXT, "image/png", &bytes);
        assert_eq!(other, Ok(vec![Value::Text("/wA=".into())]));
    }
}
