//! Rules of what is different for each type of a subscription: its URL, and the settings that only it has.

use tollgate_api::units::Span;
use tollgate_delivery::subscription::{Place, SinkKind, Subscription};

use super::checks::{Checked, ensure, within};
use super::topics::target;
use crate::config::{Fault, Path};

/// Why a type is refused where nothing leaves but HTTP.
pub const HTTP_ONLY: &str =
    "must be http here: Spin's components have no connections that last, which other types need";

const MAX_URL: usize = 2_048;
/// The longest name of a stream, bytes.
const MAX_STREAM: usize = 256;
/// The longest subject, bytes.
const MAX_SUBJECT: usize = 256;
/// The longest password, bytes.
const MAX_PASSWORD: usize = 1_024;
const LENGTH_BOUNDS: (u64, u64) = (1, 1_000_000_000);
const DEDUPLICATE_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(7 * 86_400));
/// The highest number of a database.
const MAX_DATABASE: u32 = 1_000_000;

/// The settings that not every type has, and who has them.
fn own(one: &Subscription) -> [(&'static str, bool, &'static [SinkKind]); 8] {
    use SinkKind::{Http, Nats, Redis};
    [
        ("secret", one.secret.is_some(), &[Http]),
        ("previous_secret", one.previous_secret.is_some(), &[Http]),
        ("headers", !one.headers.is_empty(), &[Http]),
        ("password", one.password.is_some(), &[Nats, Redis]),
        ("subject", one.subject.is_some(), &[Nats]),
        ("stream", one.stream.is_some(), &[Redis]),
        ("max_length", one.max_length.is_some(), &[Redis]),
        ("deduplicate", one.deduplicate.is_some(), &[Redis]),
    ]
}

pub(super) fn check(one: &Subscription, path: &Path) -> Checked {
    for (name, is_given, kinds) in own(one) {
        if is_given && !kinds.contains(&one.kind) {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let detail = format!("is only for the type {}", kinds.join(" and "));
            return Err(Fault::new(path.key(name), detail));
        }
    }
    if one.kind == SinkKind::Http {
        return target(&one.url, path.key("url"));
    }
    ensure(
        one.retry.finals.is_empty(),
        path.key("retry").key("final"),
        "is only for the type http, which has statuses",
    )?;
    ensure(
        one.url.len() <= MAX_URL,
        path.key("url"),
        "must have at most 2,048 bytes",
    )?;
    let place = Place::parse(one.kind, &one.url).map_err(|fault| Fault::new(path.key("url"), fault))?;
    if let Some(password) = &one.password {
        let length = 1..=MAX_PASSWORD;
        let plain =
            length.contains(&password.expose().len()) && !password.expose().contains(char::is_control);
        ensure(
            plain,
            path.key("password"),
            "must be 1 to 1,024 bytes, and no control characters",
        )?;
    }
    match one.kind {
        SinkKind::Http => Ok(()),
        SinkKind::Nats => nats(one, &place, path),
        SinkKind::Redis => redis(one, &place, path),
    }
}

fn nats(one: &Subscription, place: &Place, path: &Path) -> Checked {
    ensure(place.path.is_empty(), path.key("url"), "must not have a path")?;
    let Some(subject) = &one.subject else {
        return Ok(());
    };
    let token =
        |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b));
    ensure(
        subject.len() <= MAX_SUBJECT && subject.split('.').all(token) && !subject.starts_with('$'),
        path.key("subject"),
        "must be 1 to 256 visible ASCII characters, in words with dots between them, without wildcards or a $ at its start",
    )
}

fn redis(one: &Subscription, place: &Place, path: &Path) -> Checked {
    let number = place.path.strip_prefix('/');
    let number = number.map(str::parse::<u32>);
    ensure(
        place.path.is_empty() || matches!(number, Some(Ok(0..=MAX_DATABASE))),
        path.key("url"),
        "must end with the number of a database, or with nothing",
    )?;
    if let Some(stream) = &one.stream {
        let visible = stream.bytes().all(|b| b.is_ascii_graphic());
        ensure(
            (1..=MAX_STREAM).contains(&stream.len()) && visible,
            path.key("stream"),
            "must be 1 to 256 visible ASCII characters",
        )?;
    }
    if let Some(length) = one.max_length {
        within(length, LENGTH_BOUNDS, path.key("max_length"))?;
    }
    if let Some(known) = one.deduplicate {
        within(known, DEDUPLICATE_BOUNDS, path.key("deduplicate"))?;
    }
    Ok(())
}
