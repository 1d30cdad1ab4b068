//! A subscription as answers show it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Number;

use crate::config::MASK as HIDDEN;
use tollgate_api::problem::Problem;
use tollgate_api::time;
use tollgate_delivery::relay::record::{BreakerRecord, PauseReason};
use tollgate_delivery::relay::restore;
use tollgate_delivery::start::StartFrom;
use tollgate_delivery::subscription::key_value::KEY;
use tollgate_delivery::subscription::{
    BATCH_INTERVAL, DEDUPLICATE, Filter, MECHANISM, Mechanism, Payload, REGION, Rate, Retry, SinkKind,
};
use tollgate_delivery::subscriptions::{Defined, Source};
use tollgate_store::commit::Topic;
use tollgate_store::ports::Store;

/// In place of a secret.
const MASK: &str = "whsec_********";
const MS_PER_SECOND: u64 = 1_000;

/// A push subscription.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Subscription")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Its topic.
    topic: String,
    /// Its name.
    name: String,
    /// What it is delivered by.
    #[serde(rename = "type")]
    kind: SinkKind,
    /// Where messages are sent to.
    url: String,
    /// Masked; only of one that has a password and is known here (that of the file is not).
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'static str>,
    /// Of `smtp`: the server that is tried where the first does not take a mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_url: Option<String>,
    /// Masked, as `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_password: Option<&'static str>,
    /// Of `smtp`: the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Of `smtp`: the template of the recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Of `smtp`: the template of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Of `smtp`: the template of the text as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// Of `nats`: the subject that messages go to, where it is said. Of `smtp`: the template of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Of `redis`: the stream that entries are added to, where it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// Of `redis`: about how many entries the stream keeps, where it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u64>,
    /// Of `postgres`: what is executed for each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<String>,
    /// Of `postgres`: the fields of a message that its parameters are bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<String>>,
    /// Of `kafka` with a user: how the user logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    mechanism: Option<Mechanism>,
    /// Of `s3`: the region that requests are signed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// Of `key-value`: the template of keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Of `redis`: for how many seconds a message that was added is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    deduplicate: Option<Number>,
    /// Masked; null where there is none or it is not known here (that of the file).
    pub secret: Option<String>,
    /// Masked; null unless it signs as well.
    previous_secret: Option<&'static str>,
    /// Until when it does.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    previous_secret_until: Option<u64>,
    /// Fixed headers of every delivery, with their values masked.
    headers: BTreeMap<String, &'static str>,
    /// Where it began, or would if it were new.
    start_from: StartFrom,
    /// Which messages are delivered; null: all.
    filter: Option<Filter>,
    /// What of a message is sent.
    payload: Payload,
    /// The most deliveries begun per second.
    rate_per_second: Rate,
    /// The most deliveries under way at once.
    concurrency: u32,
    /// The most messages of one request; null: each has one of its own.
    batch: Option<u32>,
    /// Seconds that they wait for more, at the longest.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 60)))]
    batch_interval: Option<Number>,
    /// Seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.1, max = 60)))]
    timeout: Number,
    /// Seconds of nothing but failure after which it is paused; null: never.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.001, max = 31_536_000)))]
    pause_after: Option<Number>,
    /// Whether messages of one ordering key go in order.
    ordered: bool,
    /// Whether it may lead into a private network.
    allow_private_addresses: bool,
    /// When a message that was refused is sent again.
    retry: RetryView,
    /// `file` or `api`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["file", "api"])))]
    source: &'static str,
    /// Whether nothing is sent.
    paused: bool,
    /// Why, while it is paused.
    pause_reason: Option<PauseReason>,
    /// Since when.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    paused_at: Option<u64>,
    /// Whether the origin is left alone.
    breaker: BreakerView,
    /// All messages up to here are finished.
    watermark: u64,
    /// Messages that are not finished.
    lag: u64,
    /// When the oldest of them was written; null if there is none.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    oldest_waiting: Option<u64>,
    /// What the oldest one that was refused failed with last, or else what opened the circuit breaker; null while all is well.
    last_error: Option<String>,
    /// Deliveries of the last hour that have ended, counted by steps of five minutes.
    attempts_last_hour: u64,
    /// Of these, those that failed.
    failures_last_hour: u64,
    /// When something was delivered last; null if never.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    last_delivered_at: Option<u64>,
    /// Since when there is nothing but failure; null if the last delivery was taken.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    failing_since: Option<u64>,
    /// When it was made; null for one of the file.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    created_at: Option<u64>,
    /// When it was changed last; null for one of the file.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    updated_at: Option<u64>,
}

/// The circuit breaker of a subscription.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Breaker")
)]
struct BreakerView {
    /// `closed`, `open`, or `half-open` where one message at a time finds out whether the origin works again.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["closed", "open", "half-open"])))]
    state: &'static str,
    /// Until when the origin is left alone.
    #[serde(with = "time::rfc3339_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<tollgate_api::openapi::Time>"))]
    until: Option<u64>,
    /// What it failed with last.
    why: Option<String>,
}

impl BreakerView {
    fn of(record: BreakerRecord, now: u64) -> Self {
        let state = match record.until {
            None => "closed",
            Some(until) if until > now => "open",
            Some(_) => "half-open",
        };
        Self {
            state,
            until: record.until.filter(|until| *until > now),
            why: record.why,
        }
    }
}

/// When a message that was refused is sent again.
#[derive(Debug, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "RetryPolicy")
)]
#[serde(untagged)]
enum RetryView {
    #[serde(rename_all = "camelCase")]
    Exponential {
        initial_seconds: Number,
        factor: f64,
        cap_seconds: Number,
        max_attempts: u32,
        #[serde(rename = "final")]
        finals: Vec<u16>,
    },
    #[serde(rename_all = "camelCase")]
    Fixed {
        schedule_seconds: Vec<Number>,
        #[serde(rename = "final")]
        finals: Vec<u16>,
    },
}

impl View {
    /// `extent`: of its topic; `None` if that never had a message.
    pub(super) async fn of<S: Store>(
        store: &S,
        defined: &Defined,
        extent: Option<&Topic>,
        now: u64,
    ) -> Result<Self, Problem> {
        let Defined {
            topic,
            settings,
            source,
        } = defined;
        let keys = defined.keys();
        let (polled, progress) = restore::state(store, &keys).await?;
        let oldest = restore::oldest_needed(store, &keys, &progress).await?;
        let lag = restore::lag(store, &keys, (&polled, &progress), extent).await?;
        let (mut oldest_waiting, mut last_error) = (None, polled.breaker.why.clone());
        if lag > 0 {
            oldest_waiting = restore::oldest_time(store, topic, &keys, &progress).await?;
            last_error = restore::last_error(store, &keys).await?.or(last_error);
        }
        let health = restore::health(store, &keys).await?;
        let (attempts_last_hour, failures_last_hour) = health.last_hour(now);
        let (control, _) = polled.control;
        let rotates = settings.previous_secret_until.filter(|until| *until > now);
        let (name, created_at, updated_at) = match source {
            Source::File => ("file", None, None),
            Source::Api {
                created_at,
                updated_at,
                ..
            } => ("api", Some(*created_at), Some(*updated_at)),
        };
        Ok(Self {
            topic: topic.clone(),
            name: settings.name.clone(),
            kind: settings.kind,
            url: settings.url.clone(),
            password: settings.password.as_ref().map(|_| HIDDEN),
            fallback_url: settings.fallback_url.clone(),
            fallback_password: settings.fallback_password.as_ref().map(|_| HIDDEN),
            from: settings.from.clone(),
            to: settings.to.clone(),
            text: settings.text.clone(),
            html: settings.html.clone(),
            subject: settings.subject.clone(),
            stream: settings.stream.clone(),
            max_length: settings.max_length,
            statement: settings.statement.clone(),
            parameters: settings.parameters.clone(),
            mechanism: (settings.kind == SinkKind::Kafka && settings.url.contains('@'))
                .then(|| settings.mechanism.unwrap_or(MECHANISM)),
            region: (settings.kind == SinkKind::S3)
                .then(|| settings.region.clone().unwrap_or_else(|| REGION.to_owned())),
            key: (settings.kind == SinkKind::KeyValue)
                .then(|| settings.key.clone().unwrap_or_else(|| KEY.to_owned())),
            deduplicate: (settings.kind == SinkKind::Redis)
                .then(|| seconds(settings.deduplicate.unwrap_or(DEDUPLICATE).as_millis())),
            secret: settings.secret.as_ref().map(|_| MASK.to_owned()),
            previous_secret: rotates.map(|_| MASK),
            previous_secret_until: rotates,
            headers: settings
                .headers
                .keys()
                .map(|name| (name.clone(), HIDDEN))
                .collect(),
            start_from: settings.start_from,
            filter: settings.filter.clone(),
            payload: settings.payload,
            rate_per_second: settings.rate_per_second,
            concurrency: settings.concurrency,
            batch: settings.batch,
            batch_interval: settings.batch.map(|_| {
                let interval = settings.batch_interval.unwrap_or(BATCH_INTERVAL);
                seconds(interval.as_millis())
            }),
            timeout: seconds(settings.timeout.as_millis()),
            pause_after: Some(settings.pause_after.as_millis())
                .filter(|ms| *ms > 0)
                .map(seconds),
            ordered: settings.ordered,
            allow_private_addresses: settings.allow_private_addresses,
            retry: RetryView::of(&settings.retry),
            source: name,
            paused: control.paused,
            pause_reason: control.reason,
            paused_at: control.since.filter(|_| control.paused),
            breaker: BreakerView::of(polled.breaker, now),
            watermark: oldest.saturating_sub(1),
            lag,
            oldest_waiting,
            last_error,
            attempts_last_hour,
            failures_last_hour,
            last_delivered_at: health.delivered_at(),
            failing_since: health.failing_since(),
            created_at,
            updated_at,
        })
    }
}

impl RetryView {
    fn of(retry: &Retry) -> Self {
        match &retry.schedule {
            Some(waits) => Self::Fixed {
                schedule_seconds: waits.iter().map(|wait| seconds(wait.as_millis())).collect(),
                finals: retry.finals.clone(),
            },
            None => Self::Exponential {
                initial_seconds: seconds(retry.initial.as_millis()),
                factor: retry.factor,
                cap_seconds: seconds(retry.cap.as_millis()),
                max_attempts: retry.max_attempts,
                finals: retry.finals.clone(),
            },
        }
    }
}

/// Seconds: whole, except where a file says something like `500ms`.
fn seconds(ms: u64) -> Number {
    if ms.is_multiple_of(MS_PER_SECOND) {
        return Number::from(ms / MS_PER_SECOND);
    }
    Number::from_f64(ms as f64 / MS_PER_SECOND as f64).unwrap_or_else(|| Number::from(0))
}
