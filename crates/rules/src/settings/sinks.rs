//! Rules of what is different for each type of a subscription: its URL, and the settings that only it has.

use tollgate_api::units::Span;
use tollgate_delivery::subscription::parameter::{MAX_PARAMETERS, Parameter};
use tollgate_delivery::subscription::{Place, SinkKind, Subscription, key_value};

use super::checks::{Checked, ensure, within};
use super::topics::target;
use crate::config::{Fault, Path};

/// Why a type is refused under Spin.
const NOT_ON_SPIN: &str =
    "must be http or key-value here: Spin's components have no connections that last, which other types need";

const MAX_URL: usize = 2_048;
/// The longest name of a stream, bytes.
const MAX_STREAM: usize = 256;
/// The longest subject, bytes.
const MAX_SUBJECT: usize = 256;
/// The longest statement, bytes.
const MAX_STATEMENT: usize = 16 << 10;
/// The longest name of a user or a database of Postgres, bytes: longer ones it cuts off.
const MAX_NAME: usize = 63;
/// The longest name of a topic of Kafka, bytes: its own bound.
const MAX_KAFKA_TOPIC: usize = 249;
/// The longest name of a user of Kafka, bytes.
const MAX_USER: usize = 256;
/// The longest access key of S3, bytes.
const MAX_ACCESS_KEY: usize = 128;
/// The longest beginning of an object's name, bytes; a name has 1,024.
const MAX_PREFIX: usize = 512;
/// The longest name of a region, bytes.
const MAX_REGION: usize = 64;
/// The longest address of a sender, bytes.
const MAX_SENDER: usize = 320;
/// The longest template, bytes.
const MAX_TEMPLATE: usize = 64 << 10;
/// The longest password, bytes.
const MAX_PASSWORD: usize = 1_024;
const LENGTH_BOUNDS: (u64, u64) = (1, 1_000_000_000);
const DEDUPLICATE_BOUNDS: (Span, Span) = (Span::from_secs(0), Span::from_secs(7 * 86_400));
/// The highest number of a database.
const MAX_DATABASE: u32 = 1_000_000;

/// Why a type is not served: `None` if it is.
pub(super) fn unserved(kind: SinkKind, on_spin: bool) -> Option<&'static str> {
    match kind {
        SinkKind::Http => None,
        SinkKind::KeyValue => (!on_spin).then_some(key_value::SPIN_ONLY),
        _ => on_spin.then_some(NOT_ON_SPIN),
    }
}

/// The settings that not every type has, and who has them.
fn own(one: &Subscription) -> [(&'static str, bool, &'static [SinkKind]); 19] {
    use SinkKind::{Http, Kafka, KeyValue, Nats, Postgres, Redis, S3, Smtp};
    [
        ("secret", one.secret.is_some(), &[Http]),
        ("previous_secret", one.previous_secret.is_some(), &[Http]),
        ("headers", !one.headers.is_empty(), &[Http]),
        (
            "password",
            one.password.is_some(),
            &[Kafka, Nats, Postgres, Redis, S3, Smtp],
        ),
        ("subject", one.subject.is_some(), &[Nats, Smtp]),
        ("fallback_url", one.fallback_url.is_some(), &[Smtp]),
        ("fallback_password", one.fallback_password.is_some(), &[Smtp]),
        ("from", one.from.is_some(), &[Smtp]),
        ("to", one.to.is_some(), &[Smtp]),
        ("text", one.text.is_some(), &[Smtp]),
        ("html", one.html.is_some(), &[Smtp]),
        ("key", one.key.is_some(), &[KeyValue]),
        ("mechanism", one.mechanism.is_some(), &[Kafka]),
        ("statement", one.statement.is_some(), &[Postgres]),
        ("parameters", one.parameters.is_some(), &[Postgres]),
        ("region", one.region.is_some(), &[S3]),
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
    if one.kind == SinkKind::KeyValue {
        return entries(one, path);
    }
    let servers = Place::servers(one.kind, &one.url);
    let servers = servers.map_err(|fault| Fault::new(path.key("url"), fault))?;
    let Some(place) = servers.first() else {
        return Err(Fault::new(path.key("url"), "names no server"));
    };
    for (name, password) in [
        ("password", &one.password),
        ("fallback_password", &one.fallback_password),
    ] {
        let Some(password) = password else { continue };
        let length = 1..=MAX_PASSWORD;
        let plain =
            length.contains(&password.expose().len()) && !password.expose().contains(char::is_control);
        ensure(
            plain,
            path.key(name),
            "must be 1 to 1,024 bytes, and no control characters",
        )?;
    }
    match one.kind {
        SinkKind::Http | SinkKind::KeyValue => Ok(()),
        SinkKind::Kafka => kafka(one, place, path),
        SinkKind::Nats => nats(one, place, path),
        SinkKind::Postgres => postgres(one, place, path),
        SinkKind::Redis => redis(one, place, path),
        SinkKind::S3 => s3(one, place, path),
        SinkKind::Smtp => smtp(one, place, path),
    }
}

fn entries(one: &Subscription, path: &Path) -> Checked {
    key_value::label(&one.url).map_err(|fault| Fault::new(path.key("url"), fault))?;
    ensure(
        one.batch.is_none(),
        path.key("batch"),
        "is not for the type key-value: each message is a value of its own",
    )?;
    let template = one.key.as_deref().unwrap_or(key_value::KEY);
    key_value::Template::parse(template).map_err(|fault| Fault::new(path.key("key"), fault))?;
    Ok(())
}

fn kafka(one: &Subscription, place: &Place, path: &Path) -> Checked {
    let user = &place.user;
    ensure(
        user.len() <= MAX_USER && !user.contains(char::is_control),
        path.key("url"),
        "must have a user's name of at most 256 bytes, without control characters",
    )?;
    for (name, is_given) in [
        ("password", one.password.is_some()),
        ("mechanism", one.mechanism.is_some()),
    ] {
        ensure(
            !is_given || !user.is_empty(),
            path.key(name),
            "is of the user in the URL, which has none",
        )?;
    }
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let topic = place.path.strip_prefix('/');
    ensure(
        topic.is_none_or(|topic| (1..=MAX_KAFKA_TOPIC).contains(&topic.len()) && topic.bytes().all(of_name)),
        path.key("url"),
        "must end with the name of a topic, or with nothing: 1 to 249 letters, digits, ., _ and -",
    )
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

fn postgres(one: &Subscription, place: &Place, path: &Path) -> Checked {
    ensure(
        (1..=MAX_NAME).contains(&place.user.len()) && !place.user.contains('\0'),
        path.key("url"),
        "must have the name of a user, at most 63 bytes",
    )?;
    let plain = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    let database = place.path.strip_prefix('/');
    ensure(
        database.is_some_and(|name| (1..=MAX_NAME).contains(&name.len()) && plain(name)),
        path.key("url"),
        "must end with the name of a database: letters, digits, _, - and .",
    )?;
    let statement = one.statement.as_deref().unwrap_or_default();
    ensure(
        !statement.trim().is_empty(),
        path.key("statement"),
        "is needed, e.g. INSERT INTO sign_ups (id, email) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    )?;
    ensure(
        statement.len() <= MAX_STATEMENT && !statement.contains('\0'),
        path.key("statement"),
        "must have at most 16,384 bytes, none of them zero",
    )?;
    let parameters = one.parameters.as_deref().unwrap_or_default();
    ensure(
        (1..=MAX_PARAMETERS).contains(&parameters.len()),
        path.key("parameters"),
        "is needed: 1 to 64 fields of a message for $1, $2 …, e.g. id and data.email",
    )?;
    for (index, parameter) in parameters.iter().enumerate() {
        Parameter::parse(parameter)
            .map_err(|fault| Fault::new(path.key("parameters").index(index), fault))?;
    }
    Ok(())
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

fn s3(one: &Subscription, place: &Place, path: &Path) -> Checked {
    let (user, has_password) = (&place.user, one.password.is_some());
    ensure(
        user.len() <= MAX_ACCESS_KEY && user.bytes().all(|b| b.is_ascii_graphic() && b != b'/'),
        path.key("url"),
        "must have an access key of at most 128 visible ASCII characters, without a slash",
    )?;
    ensure(
        !has_password || !user.is_empty(),
        path.key("url"),
        "must have the access key whose secret is given as password",
    )?;
    let names = place.path.strip_prefix('/').unwrap_or_default();
    let (bucket, prefix) = names.split_once('/').unwrap_or((names, ""));
    let of_bucket = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
    ensure(
        (3..=63).contains(&bucket.len()) && bucket.bytes().all(of_bucket),
        path.key("url"),
        "must have the name of a bucket as its path: 3 to 63 of a-z, 0-9, . and -",
    )?;
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"_-.=".contains(&b);
    let plain = prefix.is_empty()
        || prefix
            .split('/')
            .all(|part| !part.is_empty() && part.bytes().all(of_name));
    ensure(
        plain && prefix.len() <= MAX_PREFIX,
        path.key("url"),
        "must have after the bucket only names of letters, digits, _, -, . and =, at most 512 bytes",
    )?;
    let Some(region) = &one.region else { return Ok(()) };
    ensure(
        (1..=MAX_REGION).contains(&region.len())
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        path.key("region"),
        "must be 1 to 64 of a-z, 0-9 and -, e.g. eu-central-1",
    )
}

fn smtp(one: &Subscription, place: &Place, path: &Path) -> Checked {
    login(place, one.password.is_some(), path.key("url"))?;
    ensure(
        one.batch.is_none(),
        path.key("batch"),
        "is not for the type smtp: a mail is for one message",
    )?;
    match &one.fallback_url {
        Some(url) => {
            let path = path.key("fallback_url");
            ensure(
                url.len() <= MAX_URL,
                path.clone(),
                "must have at most 2,048 bytes",
            )?;
            let second = Place::parse(one.kind, url).map_err(|fault| Fault::new(path.clone(), fault))?;
            login(&second, one.fallback_password.is_some(), path)?;
        }
        None => ensure(
            one.fallback_password.is_none(),
            path.key("fallback_url"),
            "is needed where there is a password for it",
        )?,
    }
    let from = one.from.as_deref().unwrap_or_default();
    ensure(
        is_sender(from),
        path.key("from"),
        "is needed: an address in ASCII such as shop@example.com, or Shop <shop@example.com>",
    )?;
    for (name, template) in [("to", &one.to), ("subject", &one.subject), ("text", &one.text)] {
        let is_there = template
            .as_ref()
            .is_some_and(|template| !template.trim().is_empty());
        ensure(
            is_there,
            path.key(name),
            "is needed: a template, e.g. {{ data.email }}",
        )?;
    }
    for (name, template) in [
        ("to", &one.to),
        ("subject", &one.subject),
        ("text", &one.text),
        ("html", &one.html),
    ] {
        let length = template.as_ref().map_or(0, String::len);
        ensure(
            length <= MAX_TEMPLATE,
            path.key(name),
            "must have at most 65,536 bytes",
        )?;
    }
    #[cfg(feature = "templates")]
    tollgate_delivery::subscription::templates::Templates::of(one)
        .map_err(|(name, fault)| Fault::new(path.key(name), fault))?;
    Ok(())
}

fn login(place: &Place, has_password: bool, path: Path) -> Checked {
    ensure(place.path.is_empty(), path.clone(), "must not have a path")?;
    ensure(
        !has_password || !place.user.is_empty(),
        path,
        "must have the name of the user whose password is given",
    )
}

/// A name and an address in angle brackets, or an address alone. What it is exactly, the client of SMTP says.
fn is_sender(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => text,
    };
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"<>()[]\\,;:\"@".contains(&b))
    };
    text.len() <= MAX_SENDER
        && !text.contains(|c: char| c.is_control() || c == '"' || c == ',' || c == ';')
        && address
            .split_once('@')
            .is_some_and(|(local, domain)| plain(local) && plain(domain))
}
