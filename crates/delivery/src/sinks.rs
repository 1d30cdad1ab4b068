//! Sinks: the receivers of messages, one folder for each kind. A new kind is a folder here, a row of
//! [`SinkKind`], and a row of [`AnySink`].

pub(crate) mod http;
#[cfg(feature = "sink-kafka")]
mod kafka;
#[cfg(feature = "sink-nats")]
mod nats;
#[cfg(feature = "sink-postgres")]
mod postgres;
#[cfg(feature = "sockets")]
mod reach;
#[cfg(feature = "sink-redis")]
mod redis;
#[cfg(feature = "sink-s3")]
mod s3;
#[cfg(feature = "sink-smtp")]
mod smtp;

use std::sync::Arc;
use std::time::Duration;

use crate::relay::Delivered;
use crate::relay::attempt::Answered;
#[cfg(feature = "sockets")]
use crate::relay::attempt::MAX_EXCERPT_BYTES;
use crate::subscription::key_value::SPIN_ONLY;
use crate::subscription::{SinkKind, Subscription};
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use http::{HttpClients, HttpSink, OwnAddress};

/// How a delivery ended, and what the receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub delivered: Delivered,
    /// What the receiver said.
    pub answered: Answered,
}

/// Where one subscription's messages go.
pub(crate) trait Sink {
    /// Delivers once, in bounded time, and judges what the receiver answered. `place`: that of this attempt in a trace, if it
    /// has one of its own.
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report;
    /// Delivers several at once, which are accepted or refused together.
    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report;
}

/// A sink of any kind.
pub(crate) enum AnySink {
    Http(Box<HttpSink>),
    #[cfg(feature = "sink-kafka")]
    Kafka(Box<kafka::KafkaSink>),
    #[cfg(feature = "sink-nats")]
    Nats(nats::NatsSink),
    #[cfg(feature = "sink-postgres")]
    Postgres(Box<postgres::PostgresSink>),
    #[cfg(feature = "sink-redis")]
    Redis(redis::RedisSink),
    #[cfg(feature = "sink-s3")]
    S3(Box<s3::S3Sink>),
    #[cfg(feature = "sink-smtp")]
    Smtp(Box<smtp::SmtpSink>),
}

impl Sink for AnySink {
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report {
        match self {
            Self::Http(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-kafka")]
            Self::Kafka(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-nats")]
            Self::Nats(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-postgres")]
            Self::Postgres(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-redis")]
            Self::Redis(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-s3")]
            Self::S3(sink) => sink.deliver(message, place).await,
            #[cfg(feature = "sink-smtp")]
            Self::Smtp(sink) => sink.deliver(message, place).await,
        }
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        match self {
            Self::Http(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-kafka")]
            Self::Kafka(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-nats")]
            Self::Nats(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-postgres")]
            Self::Postgres(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-redis")]
            Self::Redis(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-s3")]
            Self::S3(sink) => sink.deliver_together(messages).await,
            #[cfg(feature = "sink-smtp")]
            Self::Smtp(sink) => sink.deliver_together(messages).await,
        }
    }
}

/// Opens sinks, and holds what sinks of one kind share.
pub(crate) struct Sinks {
    http: HttpClients,
    #[cfg(feature = "sockets")]
    reach: Arc<reach::Reach>,
}

impl Sinks {
    /// `idle`: how long a connection is kept for the next delivery; should be shorter than what servers keep. `own`: where no
    /// connection may lead.
    pub fn new(idle: Duration, own: Arc<OwnAddress>) -> Self {
        Self {
            #[cfg(feature = "sockets")]
            reach: Arc::new(reach::Reach::new(Arc::clone(&own))),
            http: HttpClients::new(idle, own),
        }
    }

    /// For one subscription; `source` is its topic as a URI. The error says which setting is at fault, and quotes no
    /// secret.
    pub fn open(&self, settings: &Subscription, source: String) -> Result<AnySink, String> {
        match settings.kind {
            SinkKind::Http => {
                HttpSink::open(&self.http, settings, source).map(|sink| AnySink::Http(Box::new(sink)))
            }
            SinkKind::KeyValue => Err(format!("type: {SPIN_ONLY}")),
            #[cfg(feature = "sink-kafka")]
            SinkKind::Kafka => kafka::KafkaSink::open(&self.reach, settings, source)
                .map(|sink| AnySink::Kafka(Box::new(sink))),
            #[cfg(feature = "sink-redis")]
            SinkKind::Redis => redis::RedisSink::open(&self.reach, settings, source).map(AnySink::Redis),
            #[cfg(feature = "sink-nats")]
            SinkKind::Nats => nats::NatsSink::open(&self.reach, settings, source).map(AnySink::Nats),
            #[cfg(feature = "sink-postgres")]
            SinkKind::Postgres => postgres::PostgresSink::open(&self.reach, settings, source)
                .map(|sink| AnySink::Postgres(Box::new(sink))),
            #[cfg(feature = "sink-s3")]
            SinkKind::S3 => {
                s3::S3Sink::open(&self.http, settings, source).map(|sink| AnySink::S3(Box::new(sink)))
            }
            #[cfg(feature = "sink-smtp")]
            SinkKind::Smtp => {
                smtp::SmtpSink::open(&self.reach, settings, source).map(|sink| AnySink::Smtp(Box::new(sink)))
            }
            #[cfg(not(all(
                feature = "sink-kafka",
                feature = "sink-nats",
                feature = "sink-postgres",
                feature = "sink-redis",
                feature = "sink-s3",
                feature = "sink-smtp"
            )))]
            kind => Err(format!("type: this program was built without {}", kind.name())),
        }
    }
}

/// How an answer begins, as it is shown to people.
#[cfg(feature = "sockets")]
fn excerpt(answer: &str) -> String {
    let end = answer.floor_char_boundary(MAX_EXCERPT_BYTES);
    answer.get(..end).unwrap_or_default().to_owned()
}
