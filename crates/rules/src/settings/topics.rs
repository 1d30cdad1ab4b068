//! Rules of `[topics.<name>]` and their subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use super::checks::{Checked, MAX_HEADER_NAME, at_most, ensure, within};
use super::sinks;
use crate::config::{
    Fault, MAX_SUBSCRIPTIONS, MAX_TOPICS, Path, TOPIC_NAME_RULE, TopicSettings, is_topic_name,
};
use crate::own_address::OwnAddresses;
use tollgate_api::secret::SecretText;
use tollgate_api::units::{Bytes, Span};
use tollgate_delivery::attributes;
use tollgate_delivery::relay::address;
use tollgate_delivery::subscription::{
    BATCH_INTERVAL, MAX_BATCH, MAX_TYPE, MAX_TYPES, Rate, Retry, Subscription,
};

const SECRET_PREFIX: &str = "whsec_";
/// Standard Webhooks: keys of 24 to 64 bytes.
const SECRET_BYTES: (usize, usize) = (24, 64);
const MAX_URL: usize = 2_048;
const RETENTION_BOUNDS: (Span, Span) = (Span::from_secs(1), Span::from_secs(3_650 * 86_400));
const MAX_BYTES_BOUNDS: (Bytes, Bytes) = (Bytes(1 << 10), Bytes(1 << 50));
pub(crate) const RATE_BOUNDS: (Rate, Rate) = (Rate(0.01), Rate(100_000.0));
/// The most fixed headers of a subscription.
pub(crate) const MAX_FIXED_HEADERS: usize = 16;
/// The longest value of one, bytes.
const MAX_FIXED_VALUE: usize = 1_024;
pub(crate) const CONCURRENCY_BOUNDS: (u32, u32) = (1, 256);
const TIMEOUT_BOUNDS: (Span, Span) = (Span::from_millis(100), Span::from_secs(60));
/// How long there may be nothing but failure; zero for ever.
const PAUSE_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(365 * 86_400));
/// How long the messages of a batch wait for more.
const INTERVAL_BOUNDS: (Span, Span) = (Span::from_millis(10), Span::from_secs(60));
const MIN_WAIT: Span = Span::from_millis(10);
const MAX_WAIT: Span = Span::from_secs(30 * 86_400);
pub(crate) const FACTOR_BOUNDS: (f64, f64) = (1.0, 10.0);
pub(crate) const ATTEMPTS_BOUNDS: (u32, u32) = (1, 100);
pub(crate) const MAX_SCHEDULE: usize = 100;
pub(crate) const FINAL_BOUNDS: (u16, u16) = (400, 599);
pub(crate) const MAX_FINALS: usize = 32;
/// Pauses a subscription, whatever else is said.
const GONE: u16 = 410;

/// Why the gateway itself is no target.
pub const OWN_TARGET: &str = "is the gateway itself: each message would make another one, without end";

pub(super) fn check(topics: &BTreeMap<String, TopicSettings>, own: &OwnAddresses, path: &Path) -> Checked {
    at_most(topics.len(), MAX_TOPICS, path)?;
    for (name, settings) in topics {
        let path = path.key(name);
        ensure(
            is_topic_name(name),
            path.clone(),
            &format!("the name of a topic {TOPIC_NAME_RULE}"),
        )?;
        within(settings.retention, RETENTION_BOUNDS, path.key("retention"))?;
        within(settings.max_bytes, MAX_BYTES_BOUNDS, path.key("max_bytes"))?;
        if let Some(max_backlog) = settings.max_backlog {
            let bounds = (settings.max_bytes, MAX_BYTES_BOUNDS.1);
            within(max_backlog, bounds, path.key("max_backlog"))?;
        }
        let path = path.key("subscriptions");
        at_most(settings.subscriptions.len(), MAX_SUBSCRIPTIONS, &path)?;
        let mut names = BTreeSet::new();
        for (index, one) in settings.subscriptions.iter().enumerate() {
            let path = path.index(index);
            subscription(one, &path)?;
            for (setting, target) in one.leads_to() {
                ensure(
                    one.allow_private_addresses || !address::is_plainly_private(&target),
                    path.key(setting),
                    "is not a public address; only allow_private_addresses = true lets it be one",
                )?;
                ensure(!own.are_target(&target), path.key(setting), OWN_TARGET)?;
            }
            ensure(
                names.insert(&one.name),
                path.key("name"),
                "is used by an earlier subscription of this topic",
            )?;
        }
    }
    Ok(())
}

/// The same rules for a subscription that is not from a file. An error names the setting, as the segments of a JSON pointer
/// (`retry/cap`), and the fault.
pub fn check_subscription(one: &Subscription) -> Result<(), (String, String)> {
    subscription(one, &Path::default()).map_err(|fault| (fault.path.pointer(), fault.message))
}

fn subscription(one: &Subscription, path: &Path) -> Checked {
    ensure(is_topic_name(&one.name), path.key("name"), TOPIC_NAME_RULE)?;
    sinks::check(one, path)?;
    if let Some(text) = &one.secret {
        secret(text.expose(), path.key("secret"))?;
    }
    if let Some(text) = &one.previous_secret {
        secret(text.expose(), path.key("previous_secret"))?;
    }
    match (&one.previous_secret, one.previous_secret_until) {
        (Some(_), None) => {
            let detail = "is needed with a previous secret: until then both sign";
            return Err(Fault::new(path.key("previous_secret_until"), detail));
        }
        (None, Some(_)) => {
            let detail = "is needed where there is a time until which it signs";
            return Err(Fault::new(path.key("previous_secret"), detail));
        }
        _ => {}
    }
    fixed_headers(&one.headers, &path.key("headers"))?;
    if let Some(filter) = &one.filter {
        types(&filter.types, &path.key("filter").key("types"))?;
    }
    within(one.rate_per_second, RATE_BOUNDS, path.key("rate_per_second"))?;
    within(one.concurrency, CONCURRENCY_BOUNDS, path.key("concurrency"))?;
    match (one.batch, one.batch_interval) {
        (Some(batch), interval) => {
            within(batch, (1, MAX_BATCH), path.key("batch"))?;
            let interval = interval.unwrap_or(BATCH_INTERVAL);
            within(interval, INTERVAL_BOUNDS, path.key("batch_interval"))?;
        }
        (None, Some(_)) => {
            let detail = "is needed where there is an interval: the most messages of a batch";
            return Err(Fault::new(path.key("batch"), detail));
        }
        (None, None) => {}
    }
    within(one.timeout, TIMEOUT_BOUNDS, path.key("timeout"))?;
    within(one.pause_after, PAUSE_BOUNDS, path.key("pause_after"))?;
    retry(&one.retry, &path.key("retry"))
}

fn fixed_headers(headers: &BTreeMap<String, SecretText>, path: &Path) -> Checked {
    at_most(headers.len(), MAX_FIXED_HEADERS, path)?;
    for (name, value) in headers {
        let path = path.key(name);
        let character = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        ensure(
            (1..=MAX_HEADER_NAME).contains(&name.len()) && name.bytes().all(character),
            path.clone(),
            "must be called by 1 to 64 of a-z, 0-9, '-' and '_'",
        )?;
        ensure(
            attributes::may_be_fixed(name),
            path.clone(),
            "is of one hop, of the body, or a delivery's own: it cannot be set",
        )?;
        let value = value.expose();
        let visible = value.bytes().all(|b| (0x20..=0x7e).contains(&b)) && value.trim() == value;
        ensure(
            (1..=MAX_FIXED_VALUE).contains(&value.len()) && visible,
            path,
            "must be 1 to 1,024 visible ASCII characters, with no space at either end",
        )?;
    }
    Ok(())
}

fn types(types: &[String], path: &Path) -> Checked {
    ensure(!types.is_empty(), path.clone(), "must name at least one type")?;
    at_most(types.len(), MAX_TYPES, path)?;
    for (index, one) in types.iter().enumerate() {
        let start = one.strip_suffix('*').unwrap_or(one);
        let plain = start.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
        ensure(
            (1..=MAX_TYPE).contains(&one.len()) && plain,
            path.index(index),
            "must be a type of 1 to 128 visible ASCII characters, or what types begin with and a *",
        )?;
    }
    Ok(())
}

pub(super) fn target(text: &str, path: Path) -> Checked {
    let url = url::Url::parse(text).ok().filter(|_| text.len() <= MAX_URL);
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Err(Fault::new(
            path,
            "must be an http or https URL of at most 2,048 bytes",
        ));
    };
    // The relay's client knows fewer characters in a host's name than a browser does.
    ensure(
        url.as_str().parse::<http::Uri>().is_ok(),
        path.clone(),
        "must have a host's name, or an address, that a request can be sent to",
    )?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    ensure(
        anonymous,
        path.clone(),
        "must not have a user name or password; deliveries are signed with the secret",
    )?;
    ensure(url.fragment().is_none(), path, "must not have a fragment")
}

/// The message never repeats the secret, not even a broken one.
pub(super) fn secret(text: &str, path: Path) -> Checked {
    let (least, most) = SECRET_BYTES;
    let decoded = text
        .strip_prefix(SECRET_PREFIX)
        .and_then(|encoded| base64::engine::general_purpose::STANDARD.decode(encoded).ok());
    let ok = decoded.is_some_and(|bytes| (least..=most).contains(&bytes.len()));
    ensure(ok, path, "must be whsec_ and the base64 of 24 to 64 random bytes")
}

fn retry(retry: &Retry, path: &Path) -> Checked {
    within(retry.initial, (MIN_WAIT, MAX_WAIT), path.key("initial"))?;
    within(retry.factor, FACTOR_BOUNDS, path.key("factor"))?;
    within(retry.cap, (retry.initial, MAX_WAIT), path.key("cap"))?;
    within(retry.max_attempts, ATTEMPTS_BOUNDS, path.key("max_attempts"))?;
    finals(&retry.finals, &path.key("final"))?;
    let Some(schedule) = &retry.schedule else {
        return Ok(());
    };
    let path = path.key("schedule");
    at_most(schedule.len(), MAX_SCHEDULE, &path)?;
    for (index, wait) in schedule.iter().enumerate() {
        within(*wait, (MIN_WAIT, MAX_WAIT), path.index(index))?;
    }
    Ok(())
}

fn finals(finals: &[u16], path: &Path) -> Checked {
    at_most(finals.len(), MAX_FINALS, path)?;
    for (index, status) in finals.iter().enumerate() {
        let path = path.index(index);
        within(*status, FINAL_BOUNDS, path.clone())?;
        ensure(
            *status != GONE,
            path.clone(),
            "cannot be 410, which pauses the subscription",
        )?;
        let first = finals.iter().position(|other| other == status);
        ensure(first == Some(index), path, "is there twice")?;
    }
    Ok(())
}
