//! Messages as entries of a key-value store of Spin's: which store, under which key, with which value.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_api::{percent, time};
use tollgate_store::commit::Message;

use super::parameter::{DATA, MESSAGE, Parameter, within};
use crate::view::MessageView;

/// Why it is refused where there is no Spin.
pub const SPIN_ONLY: &str = "is for Spin, whose key-value stores it means: this host has none";
/// The scheme of a store's URL; the store's label follows.
const SCHEME: &str = "key-value://";
/// The longest label of a store, bytes.
const MAX_LABEL: usize = 64;
/// The template of keys, unless the subscription says otherwise.
pub const KEY: &str = "{topic}/{id}";
/// The longest template, bytes.
pub const MAX_TEMPLATE: usize = 256;
/// The most fields of one.
pub const MAX_FIELDS: usize = 8;
/// The longest key that one makes, bytes: what the narrowest store that Spin knows takes.
pub const MAX_KEY: usize = 255;
/// The longest value, bytes: the same.
pub const MAX_VALUE: usize = 1_000_000;
/// The field that is the same for all messages of a subscription.
const TOPIC: &str = "topic";

/// The label of the store that a URL names: `default` of `key-value://default`.
///
/// # Errors
/// What is wrong with it.
pub fn label(url: &str) -> Result<&str, &'static str> {
    let plain = |label: &&str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    url.strip_prefix(SCHEME)
        .filter(plain)
        .ok_or("must be key-value:// and the label of a store in spin.toml: 1 to 64 letters, digits, - and _, e.g. key-value://default")
}

/// What the keys of messages are made of: text, and fields of a message in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Parameter),
}

/// One message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// At most [`MAX_KEY`] bytes of visible ASCII.
    pub key: String,
    /// The message as `GET …/messages` shows it, at most [`MAX_VALUE`] bytes.
    pub value: Vec<u8>,
}

impl Template {
    /// Reads `{topic}/{id}` or `claims/{data.campaign}/{data.user}`. Different values of the fields make different keys, and none of them
    /// reaches beyond what the template begins with.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        if !(1..=MAX_TEMPLATE).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must be 1 to 256 visible ASCII characters".to_owned());
        }
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let end = from.find('}').filter(|_| from.starts_with('{'));
            let end = end.ok_or("must have a field of a message between { and }, such as {id}")?;
            let (field, after) = from.split_at(end);
            let field = field.strip_prefix('{').unwrap_or_default();
            rest = after.strip_prefix('}').unwrap_or_default();
            let parameter = Parameter::parse(field).map_err(|why| format!("{{{field}}} {why}"))?;
            if parameter.path.is_empty()
                && matches!(&*parameter.field, DATA | MESSAGE | "request" | "dataBase64")
            {
                return Err(format!("{{{field}}} must be one value, such as data.id"));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            } else if pieces.is_empty() && parameter.field != TOPIC {
                return Err(
                    "must begin with text or {topic}: else a message could name any key of the store"
                        .to_owned(),
                );
            }
            // The topic is the same for all.
            let follows_another = pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Field(field) if field.field != TOPIC));
            if follows_another
                && !before
                    .bytes()
                    .any(|b| !b.is_ascii_alphanumeric() && !b"-._~".contains(&b))
            {
                let why = "must have a character such as / or : between two fields, so that no two messages share a key by chance";
                return Err(why.to_owned());
            }
            pieces.push(Piece::Field(parameter));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let template = Self { pieces };
        match template.fields().count() {
            0 => Err("must have a field of a message, such as {id}: else all share one key".to_owned()),
            1..=MAX_FIELDS => Ok(template),
            _ => Err("must have at most 8 fields".to_owned()),
        }
    }

    fn fields(&self) -> impl Iterator<Item = &Parameter> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Field(parameter) => Some(parameter),
        })
    }

    /// Whether several messages may have one key.
    pub fn is_shared(&self) -> bool {
        !self
            .fields()
            .any(|field| matches!(&*field.field, "id" | "sequence"))
    }

    /// The entry of a message, whose value says what `shown` says of it: the message itself, or its reference.
    ///
    /// # Errors
    /// Which field the message lacks, or which bound it breaks. Another attempt would end the same way.
    pub fn entry(&self, message: &Message, shown: &Message) -> Result<Entry, String> {
        let whole = json(message)?;
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(&whole).map_err(|error| format!("key: {error}"))?;
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Field(field) => key.extend(percent::encode(&value(&fields, field)?)),
            }
        }
        if key.len() > MAX_KEY {
            return Err(format!(
                "key: it would have {} bytes; {MAX_KEY} is the most",
                key.len()
            ));
        }
        let value = json(shown)?.into_bytes();
        if value.len() > MAX_VALUE {
            return Err(format!(
                "the value would have {} bytes; {MAX_VALUE} is the most",
                value.len()
            ));
        }
        Ok(Entry { key, value })
    }
}

fn json(message: &Message) -> Result<String, String> {
    serde_json::to_string(&MessageView::new(message)).map_err(|error| error.to_string())
}

/// The text of a string, or the digits of a number.
fn value(fields: &BTreeMap<String, &RawValue>, of: &Parameter) -> Result<String, String> {
    let name = || {
        std::iter::once(&*of.field)
            .chain(of.path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(".")
    };
    let found = fields
        .get(&of.field)
        .map(|field| within(field, &of.path))
        .transpose();
    let found = found
        .map_err(|error| format!("key: {}: {error}", name()))?
        .flatten();
    let raw = found.map(RawValue::get).unwrap_or("null");
    let text = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|error| format!("key: {}: {error}", name()))?,
        Some(b'{' | b'[' | b'n') | None => String::new(),
        Some(_) => raw.to_owned(),
    };
    match text.is_empty() {
        true => Err(format!(
            "key: {} is no text, number or boolean of the message",
            name()
        )),
        false => Ok(text),
    }
}

/// What a value tells of when it was written.
#[derive(Deserialize)]
struct Written<'a> {
    sequence: u64,
    topic: &'a str,
    time: &'a str,
}

/// Whether a stored value is of a later message of the same topic: then an earlier one, which was delivered late or again, leaves it. The time
/// counts too, so that a store of messages that began anew is not held up by what an older one left.
pub fn is_later(stored: &[u8], than: &Message) -> bool {
    serde_json::from_slice::<Written<'_>>(stored).is_ok_and(|stored| {
        let at = time::parse(stored.time);
        stored.topic == than.topic && stored.sequence > than.sequence && at.is_some_and(|at| at >= than.time)
    })
}

#[cfg(test)]
mod tests;
