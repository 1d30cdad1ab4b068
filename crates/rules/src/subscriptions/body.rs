//! What a push subscription is made of, as `PUT` takes it, and the settings that it describes.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::MASK;
use tollgate_api::json;
use tollgate_api::problem::Problem;
use tollgate_api::secret::SecretText;
use tollgate_api::time;
use tollgate_api::units::Span;
use tollgate_delivery::relay::address;
use tollgate_delivery::start::StartFrom;
use tollgate_delivery::subscription::{Filter, Mechanism, Payload, Rate, Retry, SinkKind, Subscription};

/// A push subscription to be. What is left out takes its default.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewSubscription")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Body {
    /// What it is delivered by.
    #[serde(rename = "type")]
    kind: Option<SinkKind>,
    /// Where messages are sent to, a public address without a fragment: http or https, without a user's name; with `type`
    /// nats or tls, postgres or postgresql with a user and a database, smtp or smtps, redis or rediss, that with the number of a
    /// database if need be; kafka or kafka+ssl, with a topic as its path if need be; with `type` s3, http or https with an access key, and
    /// a bucket as its path; with `type` key-value, `key-value://` and the label of a store.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_api::openapi::Uri"))]
    url: String,
    /// Of the user of the URL, or of all; not with `http`. Shown in no answer. A changed subscription that is given none keeps its own
    /// while it leads to the same `url`, executes the same `statement` and logs in by the same `mechanism`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = 1024))
    )]
    password: Option<SecretText>,
    /// `smtp`: the server that is tried where the first cannot be reached or defers.
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Uri>"))]
    fallback_url: Option<String>,
    /// Of the user of that URL; as `password`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", length(min = 1, max = 1024))
    )]
    fallback_password: Option<SecretText>,
    /// `smtp`, needed: the sender, `shop@example.com` or `Shop <shop@example.com>`.
    #[cfg_attr(feature = "schema", schemars(length(min = 3, max = 320)))]
    from: Option<String>,
    /// `smtp`, needed: the template of one recipient, e.g. `{{ data.email }}`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    to: Option<String>,
    /// `smtp`, needed: the template of the text.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    text: Option<String>,
    /// `smtp`: the template of the text as HTML, in which the message's values are escaped.
    #[cfg_attr(feature = "schema", schemars(length(max = 65_536)))]
    html: Option<String>,
    /// `nats`: the subject that messages go to, which a stream of JetStream takes; the topic's name unless it is given. `smtp`, needed: the
    /// template of the subject.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 65_536)))]
    subject: Option<String>,
    /// `redis`: the stream that entries are added to; the topic's name unless it is given.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[!-~]{1,256}$"))
    )]
    stream: Option<String>,
    /// `redis`: about how many entries the stream keeps; without it, all.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000)))]
    max_length: Option<u64>,
    /// `postgres`, needed: what is executed for each message; a batch is one transaction.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16_384)))]
    statement: Option<String>,
    /// `postgres`, needed: the fields of a message that `$1`, `$2` … are bound to, e.g. `id`, `data.email`; `message` is all of it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    parameters: Option<Vec<String>>,
    /// `kafka`: how the user of the URL logs in, `SCRAM-SHA-512` unless it is given. `PLAIN` sends the password as it is.
    mechanism: Option<Mechanism>,
    /// `s3`: the region that requests are signed for, `us-east-1` unless it is given.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[a-z0-9-]{1,64}$"))
    )]
    region: Option<String>,
    /// `key-value`: the template of keys, `{topic}/{id}` unless it is given: text, and fields of a message in braces, e.g.
    /// `claims/{data.campaign}/{data.user}`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", regex(pattern = r"^[!-~]{1,256}$"))
    )]
    key: Option<String>,
    /// `redis`: for how many seconds a message that was added is known, so that it is not added again: 600 unless it is given. 0: not
    /// at all.
    #[cfg_attr(feature = "schema", schemars(range(max = 604_800)))]
    deduplicate: Option<u32>,
    /// Signs deliveries (Standard Webhooks): `whsec_` and the base64 of 24 to 64 bytes. A new subscription that gives none is given one; a changed one keeps its own.
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<String>",
            regex(pattern = r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")
        )
    )]
    secret: Option<SecretText>,
    /// The secret before it, which signs as well until `previousSecretUntil`. A changed subscription keeps its own.
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<String>",
            regex(pattern = r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")
        )
    )]
    previous_secret: Option<SecretText>,
    /// Until when both sign; in the past, the previous one is forgotten. A changed subscription keeps its own.
    #[serde(default, with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    previous_secret_until: Option<u64>,
    /// Fixed headers of every delivery, at most 16; names in lower case. Values count as secrets: they are shown in no answer. A changed
    /// subscription that is given none keeps its own; `{}` removes them.
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, String>>"))]
    pub(super) headers: Option<BTreeMap<String, SecretText>>,
    /// Where a new subscription begins: `oldest` (the default), `newest`, a sequence, or a time. One that is there goes on where it is.
    start_from: Option<StartFrom>,
    /// Which messages are delivered; without one, all are.
    filter: Option<Filter>,
    /// What of a message is sent: `full` (the default), or a `reference`: its id, its type, and where to fetch it.
    payload: Option<Payload>,
    /// The most deliveries begun per second; may be below one.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 100_000.0)))]
    rate_per_second: Option<f64>,
    /// The most deliveries under way at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    concurrency: Option<u32>,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    timeout: Option<u32>,
    /// Seconds of nothing but failure, at least ten times in a row, after which it is paused: 432000 (five days) unless it is given. 0: never.
    #[cfg_attr(feature = "schema", schemars(range(max = 31_536_000)))]
    pause_after: Option<u32>,
    /// Whether messages of one ordering key go in order.
    ordered: Option<bool>,
    /// Whether it may lead into a private network; takes the scope `admin`.
    allow_private_addresses: Option<bool>,
    /// When a message that was refused is sent again.
    retry: Option<RetryBody>,
    /// The most messages of one request, which is a JSON array then. Without it, each has a request of its own.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    batch: Option<u32>,
    /// Seconds that they wait for more, at the longest: 0.2 unless it is given.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 60.0)))]
    batch_interval: Option<f64>,
}

/// When a message that was refused is sent again: exponential waits, or a schedule.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NewRetryPolicy")
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RetryBody {
    /// The first wait.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 2_592_000)))]
    initial_seconds: Option<u32>,
    /// How much longer each wait is than the one before.
    #[cfg_attr(feature = "schema", schemars(range(min = 1.0, max = 10.0)))]
    factor: Option<f64>,
    /// The longest wait; not below the first.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 2_592_000)))]
    cap_seconds: Option<u32>,
    /// Attempts before a message is a dead letter.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    max_attempts: Option<u32>,
    /// Every wait; stands alone.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 100), inner(range(min = 1, max = 2_592_000)))
    )]
    schedule_seconds: Option<Vec<u32>>,
    /// Statuses after which a message is a dead letter at once; not 410, which pauses.
    #[serde(rename = "final")]
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 400, max = 599))))]
    finals: Option<Vec<u16>>,
}

/// The settings that a body describes, checked by the same rules as those of the file.
pub(super) fn settings(name: &str, body: Body) -> Result<Subscription, Problem> {
    let mut settings = Subscription::new(name, body.url);
    settings.kind = body.kind.unwrap_or_default();
    settings.password = body.password;
    settings.fallback_url = body.fallback_url;
    settings.fallback_password = body.fallback_password;
    settings.from = body.from;
    settings.to = body.to;
    settings.text = body.text;
    settings.html = body.html;
    settings.subject = body.subject;
    settings.stream = body.stream;
    settings.max_length = body.max_length;
    settings.statement = body.statement;
    settings.parameters = body.parameters;
    settings.mechanism = body.mechanism;
    settings.region = body.region;
    settings.key = body.key;
    settings.deduplicate = body.deduplicate.map(seconds);
    settings.secret = body.secret;
    settings.previous_secret = body.previous_secret;
    settings.previous_secret_until = body.previous_secret_until;
    settings.headers = body.headers.unwrap_or_default();
    if let Some((name, _)) = settings.headers.iter().find(|(_, value)| value.expose() == MASK) {
        let detail = "is how values are hidden: give the value, or leave headers out to keep them";
        return Err(Problem::field(
            format!("#/headers/{}", json::escape(name)),
            detail,
        ));
    }
    for (field, password) in [
        ("password", &settings.password),
        ("fallbackPassword", &settings.fallback_password),
    ] {
        if password
            .as_ref()
            .is_some_and(|password| password.expose() == MASK)
        {
            let detail = "is how passwords are hidden: give the password, or leave it out to keep it";
            return Err(Problem::field(format!("#/{field}"), detail));
        }
    }
    settings.start_from = body.start_from.unwrap_or_default();
    settings.filter = body.filter;
    settings.payload = body.payload.unwrap_or_default();
    settings.rate_per_second = body.rate_per_second.map_or(settings.rate_per_second, Rate);
    settings.concurrency = body.concurrency.unwrap_or(settings.concurrency);
    settings.batch = body.batch;
    settings.batch_interval = body.batch_interval.map(|seconds| {
        // Out of bounds as it is, it is refused below.
        Span::from_millis((seconds * 1_000.0).round() as u64)
    });
    settings.timeout = body.timeout.map_or(settings.timeout, seconds);
    settings.pause_after = body.pause_after.map_or(settings.pause_after, seconds);
    settings.ordered = body.ordered.unwrap_or(settings.ordered);
    settings.allow_private_addresses = body.allow_private_addresses.unwrap_or(false);
    settings.retry = retry(body.retry.unwrap_or_default())?;
    // Half of a rotation may be what is kept.
    let mut alone = settings.clone();
    if alone.previous_secret.is_none() || alone.previous_secret_until.is_none() {
        (alone.previous_secret, alone.previous_secret_until) = (None, None);
    }
    check(&alone)?;
    let private = |target: &str| !settings.allow_private_addresses && address::is_plainly_private(target);
    let found = settings.leads_to().find(|(_, target)| private(target));
    if let Some(setting) = found.map(|(setting, _)| setting) {
        let detail = "is not a public address; only allowPrivateAddresses (scope admin) lets it be one";
        return Err(Problem::field(pointer(setting), detail));
    }
    Ok(settings)
}

pub(super) fn check(settings: &Subscription) -> Result<(), Problem> {
    crate::settings::check_subscription(settings)
        .map_err(|(setting, detail)| Problem::field(pointer(&setting), detail))
}

fn seconds(seconds: u32) -> Span {
    Span::from_secs(u64::from(seconds))
}

fn retry(body: RetryBody) -> Result<Retry, Problem> {
    let RetryBody {
        initial_seconds,
        factor,
        cap_seconds,
        max_attempts,
        schedule_seconds,
        finals,
    } = body;
    let growing = initial_seconds.is_some() || factor.is_some() || cap_seconds.is_some();
    if schedule_seconds.is_some() && (growing || max_attempts.is_some()) {
        let detail = "stands alone: its length plus one is the number of attempts";
        return Err(Problem::field("#/retry/scheduleSeconds", detail));
    }
    let default = Retry::default();
    let initial = initial_seconds.map_or(default.initial, seconds);
    Ok(Retry {
        initial,
        factor: factor.unwrap_or(default.factor),
        // A long first wait lengthens the default cap.
        cap: cap_seconds.map_or(default.cap.max(initial), seconds),
        max_attempts: max_attempts.unwrap_or(default.max_attempts),
        schedule: schedule_seconds.map(|waits| waits.into_iter().map(seconds).collect()),
        finals: finals.unwrap_or_default(),
    })
}

/// The field of the body that a setting comes from; `setting`: as [`crate::settings::check_subscription`] names it.
pub(super) fn pointer(setting: &str) -> String {
    match setting {
        "rate_per_second" => "#/ratePerSecond".to_owned(),
        "batch_interval" => "#/batchInterval".to_owned(),
        "max_length" => "#/maxLength".to_owned(),
        "fallback_url" => "#/fallbackUrl".to_owned(),
        "fallback_password" => "#/fallbackPassword".to_owned(),
        "pause_after" => "#/pauseAfter".to_owned(),
        "previous_secret" => "#/previousSecret".to_owned(),
        "previous_secret_until" => "#/previousSecretUntil".to_owned(),
        "retry/initial" => "#/retry/initialSeconds".to_owned(),
        "retry/cap" => "#/retry/capSeconds".to_owned(),
        "retry/max_attempts" => "#/retry/maxAttempts".to_owned(),
        _ => match setting.strip_prefix("retry/schedule") {
            Some(rest) => format!("#/retry/scheduleSeconds{rest}"),
            None => format!("#/{setting}"),
        },
    }
}
