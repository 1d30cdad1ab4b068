//! A push subscription as it is written: in `tollgate.toml`, in the body of a call, and in the store. Which values are good is for
//! the rules of the settings to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_api::secret::SecretText;
use tollgate_api::time;
use tollgate_api::units::Span;

mod filter;
pub mod key_value;
pub mod parameter;
mod place;
mod rate;
#[cfg(feature = "templates")]
pub mod templates;

pub use crate::start::StartFrom;
pub use filter::{Filter, MAX_TYPE, MAX_TYPES};
pub use place::{Place, Security};
pub use rate::Rate;

/// `[[topics.<name>.subscriptions]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Unique per topic.
    pub name: String,
    /// The kind of sink that takes its messages. Records of the version before lack it.
    #[serde(rename = "type", default)]
    pub kind: SinkKind,
    /// Where messages are sent to.
    pub url: String,
    /// Of the user of the URL, which holds none itself: it is shown, and this is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretText>,
    /// SMTP: the server that is tried where the first cannot be reached or defers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_url: Option<String>,
    /// Of the user of that URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_password: Option<SecretText>,
    /// SMTP: the sender's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// SMTP: the template of the recipient's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// SMTP: the template of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// SMTP: the template of the text as HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// NATS: the subject that messages go to; the topic's name where it is not said. SMTP: the template of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Kafka: how its user logs in; see [`MECHANISM`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// S3: the region that requests are signed for; see [`REGION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Redis: the stream that entries are added to; the topic's name where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Redis: about how many entries the stream keeps; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// Postgres: what is executed for each message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Postgres: what its parameters are bound to, in order; see [`parameter::Parameter`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<String>>,
    /// Key-value: the template of keys; see [`key_value::Template`], and [`key_value::KEY`] where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Redis: for how long a message is known that was added, so that it is not added again; zero: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Span>,
    /// Fixed headers of every delivery, by name in lower case; values count as secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, SecretText>,
    /// A Standard Webhooks secret, `whsec_<base64>`.
    #[serde(default)]
    pub secret: Option<SecretText>,
    /// The secret before it, which signs as well while receivers change over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<SecretText>,
    /// Until when it does, Unix milliseconds; written as RFC 3339.
    #[serde(
        with = "time::rfc3339_option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub previous_secret_until: Option<u64>,
    /// Where it begins in its topic when it is new.
    #[serde(default)]
    pub start_from: StartFrom,
    /// Which messages are delivered; without one, all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What of a message is sent.
    #[serde(default)]
    pub payload: Payload,
    /// The most deliveries begun per second.
    #[serde(default = "rate_per_second")]
    pub rate_per_second: Rate,
    /// The most deliveries under way.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Messages of one request, as an array; without it each has a request of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// The longest that messages wait for more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_interval: Option<Span>,
    /// How long the origin may take to answer.
    #[serde(default = "delivery_timeout")]
    pub timeout: Span,
    /// Paused after nothing but failure for so long; zero: never.
    #[serde(default = "pause_after")]
    pub pause_after: Span,
    /// One message of a key at a time, in order.
    #[serde(default = "yes")]
    pub ordered: bool,
    /// Whether loopback, private, link-local and other special addresses may be targets.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// When to try again.
    #[serde(default)]
    pub retry: Retry,
}

impl Subscription {
    /// One with a name, a target, and the default of everything else.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: SinkKind::default(),
            url: url.into(),
            password: None,
            fallback_url: None,
            fallback_password: None,
            from: None,
            to: None,
            text: None,
            html: None,
            subject: None,
            stream: None,
            max_length: None,
            statement: None,
            parameters: None,
            mechanism: None,
            region: None,
            key: None,
            deduplicate: None,
            headers: BTreeMap::new(),
            secret: None,
            previous_secret: None,
            previous_secret_until: None,
            start_from: StartFrom::default(),
            filter: None,
            payload: Payload::default(),
            rate_per_second: rate_per_second(),
            concurrency: concurrency(),
            batch: None,
            batch_interval: None,
            timeout: delivery_timeout(),
            pause_after: pause_after(),
            ordered: yes(),
            allow_private_addresses: false,
            retry: Retry::default(),
        }
    }
}

/// What of a message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PayloadKind")
)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// All of it.
    #[default]
    Full,
    /// Its id, its type, and where it can be fetched: what a receiver may know before it has shown a key.
    Reference,
}

/// The kind of sink that takes a subscription's messages: a row for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// A POST for each message.
    #[default]
    Http,
    /// A value of a key-value store of Spin's for each.
    #[serde(rename = "key-value")]
    KeyValue,
    /// A record of Kafka for each.
    Kafka,
    /// A message of NATS JetStream for each.
    Nats,
    /// A statement of Postgres for each.
    Postgres,
    /// An entry of a Redis stream for each.
    Redis,
    /// An object of storage that speaks S3 for each, or for each batch.
    S3,
    /// A mail for each.
    Smtp,
}

impl SinkKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::KeyValue => "key-value",
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::S3 => "s3",
            Self::Smtp => "smtp",
        }
    }
}

/// How a user logs in to Kafka (SASL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "LoginMechanism")
)]
pub enum Mechanism {
    /// The password as it is: for connections over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Without showing the password.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Without showing the password.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// As it is written, here and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// `retry = { … }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The first wait.
    pub initial: Span,
    /// The factor by which each wait is multiplied.
    pub factor: f64,
    /// The longest wait.
    pub cap: Span,
    /// Attempts before the message becomes a dead letter.
    pub max_attempts: u32,
    /// Fixed waits instead of the exponential ones; its length plus one is the number of attempts.
    pub schedule: Option<Vec<Span>>,
    /// Statuses that make a dead letter at once, 400 to 599.
    #[serde(rename = "final", skip_serializing_if = "Vec::is_empty")]
    pub finals: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        let (initial, cap) = (Span::from_secs(1), Span::from_secs(3_600));
        Self {
            initial,
            factor: 2.0,
            cap,
            max_attempts: 12,
            schedule: None,
            finals: Vec::new(),
        }
    }
}

/// The longest that messages of a batch wait for more, unless the subscription says otherwise.
pub const BATCH_INTERVAL: Span = Span::from_millis(200);
/// The most messages of a batch: their ids go into one header.
pub const MAX_BATCH: u32 = 100;

/// How a user logs in to Kafka, unless the subscription says otherwise.
pub const MECHANISM: Mechanism = Mechanism::ScramSha512;

/// The region that requests to S3 are signed for, unless the subscription says otherwise.
pub const REGION: &str = "us-east-1";

/// For how long an entry of a Redis stream is not added again, unless the subscription says otherwise.
pub const DEDUPLICATE: Span = Span::from_secs(600);

fn rate_per_second() -> Rate {
    Rate(500.0)
}
fn concurrency() -> u32 {
    8
}
fn delivery_timeout() -> Span {
    Span::from_secs(10)
}
fn pause_after() -> Span {
    Span::from_secs(5 * 24 * 3_600)
}
fn yes() -> bool {
    true
}
