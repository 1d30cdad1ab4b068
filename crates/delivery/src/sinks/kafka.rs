//! Delivery to a topic of Kafka: a record for each message, acknowledged by every replica in step. Of the protocol only what a producer
//! needs is spoken, since each connection is made and judged here: also one to a server that another server names.

mod call;
mod cluster;
mod code;
mod connection;
mod ledger;
mod murmur;
mod producer;
mod record;
mod scram;
mod taken;
#[cfg(test)]
mod tests;
mod wire;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use super::reach::Reach;
use super::{Report, Sink};
use crate::relay::attempt::Answered;
use crate::relay::{Blame, Delivered};
use crate::subscription::{MECHANISM, Payload, Place, Subscription};
use crate::webhook::{judge, reference};
use cluster::Cluster;
use connection::{Login, Way};
use producer::Producer;
use record::Record;
use wire::Malformed;

/// The topic of one subscription.
pub(crate) struct KafkaSink {
    producer: Producer,
    /// The name of the messages' own topic, where it is not said.
    topic: Option<String>,
    /// The user of the URL has no password.
    is_locked_out: bool,
    payload: Payload,
    timeout: Duration,
    source: String,
}

/// Why a message is not known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// There is no connection.
    Unreached(String),
    /// It ended.
    Broken(String),
    /// A server's word, or ours about it.
    Refused { why: String, blame: Blame },
}

impl Failure {
    /// It is the cluster's fault, or the subscription's.
    fn refused(why: String) -> Self {
        let blame = Blame::Origin;
        Self::Refused { why, blame }
    }

    /// It is the message's.
    fn unfit(why: String) -> Self {
        let blame = Blame::Message;
        Self::Refused { why, blame }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(match error.kind() {
            io::ErrorKind::UnexpectedEof => "the connection ended".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Broken("the server's answer cannot be read".to_owned())
    }
}

impl Sink for KafkaSink {
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report {
        self.append(&[message], place).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let messages: Vec<_> = messages.iter().map(|(message, _)| Arc::clone(message)).collect();
        self.append(&messages, None).await
    }
}

impl KafkaSink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(reach: &Arc<Reach>, settings: &Subscription, source: String) -> Result<Self, String> {
        let places = Place::servers(settings.kind, &settings.url).map_err(|fault| format!("url: {fault}"))?;
        let place = places.first().ok_or("url: names no server")?;
        let login = settings.password.as_ref().map(|password| Login {
            mechanism: settings.mechanism.unwrap_or(MECHANISM),
            user: place.user.clone(),
            password: password.expose().to_owned(),
        });
        let is_locked_out = login.is_none() && !place.user.is_empty();
        let topic = place.path.strip_prefix('/').map(str::to_owned);
        let way = Way {
            reach: Arc::clone(reach),
            allow_private: settings.allow_private_addresses,
            login,
        };
        let timeout = settings.timeout.into();
        Ok(Self {
            producer: Producer::new(Cluster::new(way, places), timeout),
            topic,
            is_locked_out,
            payload: settings.payload,
            timeout,
            source,
        })
    }

    async fn append(&self, messages: &[Arc<Message>], place: Option<Traceparent>) -> Report {
        if self.is_locked_out {
            let why = "password: is needed, that of the user in the URL";
            return Report {
                delivered: judge::disconnected(why.to_owned()),
                answered: Answered::default(),
            };
        }
        let began = Instant::now();
        let taken = RefCell::new(Vec::new());
        let all = join_all(messages.iter().map(|message| self.send(message, place, &taken)));
        let ended = tokio::time::timeout(self.timeout, all).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let failures = ended.map(|all| all.into_iter().filter_map(Result::err).collect::<Vec<_>>());
        let delivered = match failures {
            Ok(failures) if failures.is_empty() => Delivered::Accepted,
            Ok(failures) => {
                let delivered = judged(failures);
                if let Delivered::Refused { why, .. } = &delivered {
                    answered.text = super::excerpt(why);
                }
                delivered
            }
            Err(_) => judge::timed_out(),
        };
        if delivered != Delivered::Accepted {
            // They come again, with the others.
            self.producer.remember(taken.into_inner().into_iter());
        }
        Report { delivered, answered }
    }

    async fn send(
        &self,
        message: &Arc<Message>,
        place: Option<Traceparent>,
        taken: &RefCell<Vec<String>>,
    ) -> Result<(), Failure> {
        let sent = match self.payload {
            Payload::Full => Arc::clone(message),
            Payload::Reference => Arc::new(reference(message, &self.source)),
        };
        let record = Arc::new(Record::of(&sent, &self.source, place));
        let topic = self.topic.as_ref().unwrap_or(&message.topic);
        // A reference does not tell the key, but is kept in its order.
        self.producer.send(topic, &message.key, record).await?;
        taken.borrow_mut().push(message.id.clone());
        Ok(())
    }
}

/// What is the message's fault alone is told first: then each is sent by itself. Another attempt at it would end the same way.
fn judged(failures: Vec<Failure>) -> Delivered {
    let of_message = failures.iter().position(|failure| {
        matches!(
            failure,
            Failure::Refused {
                blame: Blame::Message,
                ..
            }
        )
    });
    let told = failures.into_iter().nth(of_message.unwrap_or(0));
    match told {
        Some(Failure::Refused { why, blame }) => Delivered::Refused {
            why,
            blame,
            is_final: blame == Blame::Message,
            retry_after_ms: None,
        },
        Some(Failure::Unreached(why)) => judge::unreachable(why),
        Some(Failure::Broken(why)) => judge::disconnected(why),
        None => judge::timed_out(),
    }
}
