//! The fields that Dub's clients send, as ours. What has no counterpart is left alone (docs/dub.md).

use serde_json::{Map, Value, json};

use super::super::record::Record;
use super::super::shlink::{host, is_on};
use crate::world::World;
use tollgate_api::problem::Problem;

/// What they call a field whose values are ours too.
const SAME: &[(&str, &str)] = &[
    ("url", "url"),
    ("key", "code"),
    ("externalId", "externalId"),
    ("title", "title"),
    ("expiresAt", "expiresAt"),
    ("expiredUrl", "fallbackUrl"),
    ("password", "password"),
];
/// Our members of `utm`, and their fields.
pub(super) const UTM: [(&str, &str); 5] = [
    ("source", "utm_source"),
    ("medium", "utm_medium"),
    ("campaign", "utm_campaign"),
    ("term", "utm_term"),
    ("content", "utm_content"),
];
/// Weights of a percent: shares have two digits after the point.
const OF_A_PERCENT: f64 = 100.0;

/// What of Dub's a rule of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// It asks for more than Dub knows.
    Own,
    Ios,
    Android,
    Country,
}

/// The kind of a rule. In the order of [`Way`], Dub looks at them.
pub(super) fn way(rule: &Value) -> Way {
    let Some(when) = rule
        .get("when")
        .and_then(Value::as_object)
        .filter(|when| when.len() == 1)
    else {
        return Way::Own;
    };
    match (when.get("os").and_then(Value::as_str), when.get("country")) {
        (Some("ios"), _) => Way::Ios,
        (Some("android"), _) => Way::Android,
        (_, Some(_)) => Way::Country,
        _ => Way::Own,
    }
}

/// The host that is sent, as links are kept under it; see [`host`].
pub(super) fn domain<'w, S>(
    world: &'w World<'_, S>,
    sent: &Map<String, Value>,
) -> Result<Option<&'w str>, Problem> {
    let found = host(world, sent.get("domain").and_then(Value::as_str));
    found.ok_or_else(|| Problem::field("#/domain", "There is no such domain here."))
}

/// That a link of this name is on the host that is sent, if one is: links do not move.
pub(super) fn stays<S>(world: &World<'_, S>, sent: &Map<String, Value>, name: &str) -> Result<(), Problem> {
    let host = domain(world, sent)?;
    let is_sent = sent.get("domain").is_some_and(|domain| !is_nothing(domain));
    match is_sent && !is_on(name, Some(host)) {
        true => Err(Problem::field("#/domain", "A link stays on its domain.")),
        false => Ok(()),
    }
}

/// Whether a value says nothing.
fn is_nothing(value: &Value) -> bool {
    value.is_null() || value == ""
}

/// The value, null where it says nothing.
fn said(value: &Value) -> Value {
    match is_nothing(value) {
        true => Value::Null,
        false => value.clone(),
    }
}

/// The body of a new link.
pub(super) fn of_new(sent: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    if sent.get("prefix").is_some_and(|prefix| !is_nothing(prefix)) {
        return Err(Problem::field("#/prefix", "is not supported"));
    }
    let mut ours = of(sent, &[])?;
    if let Some(length) = sent.get("keyLength").filter(|length| !length.is_null()) {
        ours.insert("codeLength".into(), length.clone());
    }
    // Nothing is there that could be cleared.
    ours.retain(|_, value| !is_nothing(value));
    if let Some(Value::Object(utm)) = ours.get_mut("utm") {
        utm.retain(|_, value| !value.is_null());
        if utm.is_empty() {
            ours.remove("utm");
        }
    }
    Ok(ours)
}

/// The patch of a link.
pub(super) fn of_change(sent: &Map<String, Value>, there: &Record) -> Result<Map<String, Value>, Problem> {
    let rules = serde_json::to_value(&there.rules).unwrap_or_default();
    let mut ours = of(sent, rules.as_array().map(Vec::as_slice).unwrap_or_default())?;
    ours.retain(|name, value| !(value.is_null() && matches!(&**name, "url" | "code")));
    if let Some(archived) = sent.get("archived") {
        ours.insert("archived".into(), archived.clone());
    }
    // There are none to clear.
    let clears = |utm: &Value| {
        utm.as_object()
            .is_some_and(|utm| utm.values().all(Value::is_null))
    };
    if there.utm.is_none() && ours.get("utm").is_some_and(clears) {
        ours.remove("utm");
    }
    Ok(ours)
}

/// The fields that are sent; null where they are cleared. `rules`: those that the link has.
fn of(sent: &Map<String, Value>, rules: &[Value]) -> Result<Map<String, Value>, Problem> {
    let mut ours = Map::new();
    for (theirs, name) in SAME {
        if let Some(value) = sent.get(*theirs) {
            ours.insert((*name).to_owned(), said(value));
        }
    }
    if let Some(tags) = sent.get("tagNames").or_else(|| sent.get("tagIds")) {
        ours.insert("tags".into(), tags_of(tags)?);
    }
    let mut utm = Map::new();
    for (name, theirs) in UTM {
        if let Some(value) = sent.get(theirs) {
            utm.insert(name.to_owned(), said(value));
        }
    }
    if utm.values().any(|value| !value.is_null()) {
        // As Dub does with what is in the URL.
        utm.insert("replace".into(), Value::Bool(true));
    }
    if !utm.is_empty() {
        ours.insert("utm".into(), utm.into());
    }
    if let Some(rules) = rules_of(sent, rules)? {
        ours.insert("rules".into(), rules);
    }
    if let Some(variants) = sent.get("testVariants") {
        ours.insert("targets".into(), targets_of(variants)?);
    }
    Ok(ours)
}

/// Tags: a list of words, or words between commas.
fn tags_of(sent: &Value) -> Result<Value, Problem> {
    match sent {
        Value::Null => Ok(json!([])),
        Value::String(words) => {
            let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(json!(words.collect::<Vec<_>>()))
        }
        Value::Array(_) => Ok(sent.clone()),
        _ => Err(Problem::field("#/tags", "must be a text or a list of texts")),
    }
}

/// The link's rules with those that `ios`, `android` and `geo` stand for; `None`: none of them is sent.
fn rules_of(sent: &Map<String, Value>, there: &[Value]) -> Result<Option<Value>, Problem> {
    let mut rules = there.to_vec();
    let mut is_sent = false;
    for (name, of, os) in [("ios", Way::Ios, "ios"), ("android", Way::Android, "android")] {
        let Some(url) = sent.get(name) else { continue };
        is_sent = true;
        rules.retain(|rule| way(rule) != of);
        if !is_nothing(url) {
            rules.push(json!({ "when": { "os": os }, "url": url }));
        }
    }
    if let Some(geo) = sent.get("geo") {
        is_sent = true;
        rules.retain(|rule| way(rule) != Way::Country);
        match geo {
            Value::Null => {}
            Value::Object(geo) => rules.extend(
                geo.iter()
                    .map(|(country, url)| json!({ "when": { "country": country }, "url": url })),
            ),
            _ => {
                return Err(Problem::field(
                    "#/geo",
                    "must be an object of countries and addresses",
                ));
            }
        }
    }
    rules.sort_by_key(way);
    Ok(is_sent.then_some(Value::Array(rules)))
}

/// Weighted targets for the variants of a test.
fn targets_of(sent: &Value) -> Result<Value, Problem> {
    let wrong = || Problem::field("#/testVariants", "must be a list of url and percentage");
    let variants = match sent {
        Value::Null => return Ok(json!([])),
        Value::Array(variants) => variants,
        _ => return Err(wrong()),
    };
    let target = |variant: &Value| {
        let share = variant
            .get("percentage")
            .and_then(Value::as_f64)
            .ok_or_else(wrong)?;
        let weight = (share * OF_A_PERCENT).round();
        match (1.0..=100.0 * OF_A_PERCENT).contains(&weight) {
            true => Ok(json!({ "url": variant.get("url"), "weight": weight as u64 })),
            false => Err(Problem::field(
                "#/testVariants",
                "a percentage is from 0.01 to 100",
            )),
        }
    };
    Ok(Value::Array(
        variants.iter().map(target).collect::<Result<_, _>>()?,
    ))
}
