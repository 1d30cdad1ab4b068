//! Delivery to NATS JetStream: a message for each, acknowledged by the stream that takes its subject, over one connection for each
//! subscription.

mod pinned;

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, HeaderMap, HeaderName, HeaderValue, ServerAddr};
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::{Mutex, watch};
use tollgate_api::traceparent::{self, Traceparent};
use tollgate_store::commit::Message;

use super::reach::{CONNECT_TIMEOUT, Reach};
use super::{Report, Sink};
use crate::relay::attempt::Answered;
use crate::relay::{Blame, Delivered};
use crate::subscription::{Payload, Place, Security, Subscription};
use crate::webhook::{delivery_headers, judge, reference};

/// What JetStream knows a message by, within the stream's window of duplicates.
const ID: &str = "Nats-Msg-Id";
/// Messages that wait for the stream's word.
const UNACKNOWLEDGED: usize = 1_024;
/// Commands that wait to be written.
const QUEUE: usize = 256;
/// JetStream's code for a message that is longer than its stream takes.
const TOO_LONG: ErrorCode = ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM;

/// The subject of one subscription.
pub(crate) struct NatsSink {
    reach: Arc<Reach>,
    place: Place,
    password: Option<String>,
    allow_private: bool,
    /// The topic's name, where it is not said.
    subject: Option<String>,
    payload: Payload,
    timeout: Duration,
    source: String,
    /// The connection, while there is one.
    open: Mutex<Option<Open>>,
    /// How many there were.
    opened: Cell<u64>,
}

/// A connection.
#[derive(Clone)]
struct Open {
    /// Different for each.
    number: u64,
    context: Context,
    /// Why nothing more can be expected of it, once that is so.
    broken: watch::Receiver<Option<String>>,
}

/// Why there was no acknowledgement.
enum Failure {
    /// There is no connection.
    Unreached(String),
    /// It ended, or is of no use.
    Broken(String),
    /// The stream's word, or that there is none.
    Refused(PublishError),
}

impl Sink for NatsSink {
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report {
        self.publish(&[self.sent(message)], place).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let messages = messages.iter().map(|(message, _)| self.sent(Arc::clone(message)));
        self.publish(&messages.collect::<Vec<_>>(), None).await
    }
}

impl NatsSink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(reach: &Arc<Reach>, settings: &Subscription, source: String) -> Result<Self, String> {
        let place = Place::parse(settings.kind, &settings.url).map_err(|fault| format!("url: {fault}"))?;
        Ok(Self {
            reach: Arc::clone(reach),
            place,
            password: settings
                .password
                .as_ref()
                .map(|password| password.expose().to_owned()),
            allow_private: settings.allow_private_addresses,
            subject: settings.subject.clone(),
            payload: settings.payload,
            timeout: settings.timeout.into(),
            source,
            open: Mutex::new(None),
            opened: Cell::new(0),
        })
    }

    fn sent(&self, message: Arc<Message>) -> Arc<Message> {
        match self.payload {
            Payload::Full => message,
            Payload::Reference => Arc::new(reference(&message, &self.source)),
        }
    }

    async fn publish(&self, messages: &[Arc<Message>], place: Option<Traceparent>) -> Report {
        let (began, used) = (Instant::now(), Cell::new(0));
        let ended = tokio::time::timeout(self.timeout, self.send(messages, place, &used)).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let delivered = match ended {
            Ok(Ok(())) => Delivered::Accepted,
            Ok(Err(Failure::Unreached(why))) => judge::unreachable(why),
            Ok(Err(Failure::Broken(why))) => judge::disconnected(why),
            Ok(Err(Failure::Refused(error))) => {
                let (blame, why) = judged(&error);
                answered.text = super::excerpt(&why);
                Delivered::refused(blame, why)
            }
            Err(_) => {
                self.forget(used.get()).await;
                judge::timed_out()
            }
        };
        Report { delivered, answered }
    }

    /// All of them. They are sent once more, over a new connection, where one that was used before had ended: the stream knows
    /// what it has.
    async fn send(
        &self,
        messages: &[Arc<Message>],
        place: Option<Traceparent>,
        used: &Cell<u64>,
    ) -> Result<(), Failure> {
        let (open, was_used) = self.connection(used).await?;
        match self.over(open, messages, place).await {
            Err(Failure::Broken(_)) if was_used => {
                self.forget(used.get()).await;
                let (open, _) = self.connection(used).await?;
                self.over(open, messages, place).await
            }
            ended => ended,
        }
    }

    /// Until the stream has acknowledged every one, or the connection ends.
    async fn over(
        &self,
        open: Open,
        messages: &[Arc<Message>],
        place: Option<Traceparent>,
    ) -> Result<(), Failure> {
        let Open {
            context, mut broken, ..
        } = open;
        let publishing = async {
            let mut waiting = Vec::with_capacity(messages.len());
            for message in messages {
                let subject = self.subject.clone().unwrap_or_else(|| message.topic.clone());
                let payload = Bytes::copy_from_slice(&message.payload);
                let sent = context.publish_with_headers(subject, self.headers(message, place), payload);
                waiting.push(sent.await?.into_future());
            }
            try_join_all(waiting).await.map(drop)
        };
        tokio::select! {
            published = publishing => published.map_err(|error| match error.kind() {
                PublishErrorKind::BrokenPipe => Failure::Broken("the connection ended".to_owned()),
                _ => Failure::Refused(error),
            }),
            why = broken.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone());
                Err(Failure::Broken(why.unwrap_or_else(|| "the connection ended".to_owned())))
            }
        }
    }

    /// CloudEvents in binary mode, as the protocol binding of NATS has it.
    fn headers(&self, message: &Message, place: Option<Traceparent>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for header in delivery_headers(message, &self.source, &[], 0) {
            // Those of a webhook say nothing here.
            let name = header.name.parse::<HeaderName>().ok();
            let value = std::str::from_utf8(&header.value).ok();
            let value = value.and_then(|value| value.parse::<HeaderValue>().ok());
            match name.zip(value) {
                Some((_, value)) if *header.name == *"webhook-id" => headers.insert(ID, value),
                Some((name, value)) if !header.name.starts_with("webhook-") => headers.insert(name, value),
                _ => {}
            }
        }
        // In the place of the message's own.
        if let Some(Ok(value)) = place.map(|place| place.to_string().parse::<HeaderValue>()) {
            headers.insert(traceparent::HEADER, value);
        }
        headers
    }

    /// The connection, and whether it was used before.
    async fn connection(&self, used: &Cell<u64>) -> Result<(Open, bool), Failure> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref().filter(|open| open.broken.borrow().is_none()) {
            used.set(open.number);
            return Ok((open.clone(), true));
        }
        *open = None;
        let addresses = self.reach.addresses(&self.place, self.allow_private).await;
        let mut failed = None;
        for address in addresses.map_err(|error| Failure::Unreached(error.to_string()))? {
            match self.connect(address).await {
                Ok(made) => {
                    used.set(made.number);
                    *open = Some(made.clone());
                    return Ok((made, false));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::Unreached("the name has no address".to_owned())))
    }

    /// To the very address that was judged; other servers that this one names are not followed.
    async fn connect(&self, address: SocketAddr) -> Result<Open, Failure> {
        let (broke, broken) = watch::channel(None);
        let mut options = ConnectOptions::new()
            .name("tollgate")
            .no_echo()
            .ignore_discovered_servers()
            .max_reconnects(1_usize)
            .client_capacity(QUEUE)
            .connection_timeout(CONNECT_TIMEOUT)
            .require_tls(self.place.security == Security::Tls)
            .tls_client_config(pinned::to(&self.place.host, self.reach.roots()).map_err(Failure::Broken)?)
            .event_callback(move |event| {
                let why = match event {
                    Event::Disconnected | Event::Closed => Some("the connection ended".to_owned()),
                    // Such as a subject that its user may not publish to.
                    Event::ServerError(error) => Some(format!("NATS answered {error}")),
                    _ => None,
                };
                if why.is_some() {
                    broke.send_replace(why);
                }
                std::future::ready(())
            });
        match (&*self.place.user, &self.password) {
            ("", None) => {}
            ("", Some(token)) => options = options.token(token.clone()),
            (user, password) => {
                let password = password.clone().unwrap_or_default();
                options = options.user_and_password(user.to_owned(), password);
            }
        }
        let server: ServerAddr = format!("nats://{address}")
            .parse()
            .map_err(|_| Failure::Broken("url: no address".to_owned()))?;
        let client = options.connect(server).await;
        let client = client.map_err(|error| match error.kind() {
            ConnectErrorKind::Io | ConnectErrorKind::TimedOut => Failure::Unreached(describe(&error)),
            _ => Failure::Broken(describe(&error)),
        })?;
        let context = ContextBuilder::new()
            .timeout(self.timeout)
            .ack_timeout(self.timeout)
            .max_ack_inflight(UNACKNOWLEDGED)
            .build(client);
        let number = self.opened.get() + 1;
        self.opened.set(number);
        Ok(Open {
            number,
            context,
            broken,
        })
    }

    /// Gives the connection of this number up, unless another has taken its place. It ends when nobody holds it any more.
    async fn forget(&self, number: u64) {
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|open| open.number == number) {
            *open = None;
        }
    }
}

/// Whose fault it is, and what is told.
fn judged(error: &PublishError) -> (Blame, String) {
    use std::error::Error as _;
    if error.kind() == PublishErrorKind::StreamNotFound {
        return (Blame::Origin, "no stream takes this subject".to_owned());
    }
    let said = error
        .source()
        .and_then(|source| source.downcast_ref::<jetstream::Error>());
    let is_too_long = error.kind() == PublishErrorKind::MaxPayloadExceeded
        || said.is_some_and(|said| said.error_code() == TOO_LONG);
    let blame = if is_too_long {
        Blame::Message
    } else {
        Blame::Origin
    };
    let why = said.map_or_else(|| describe(error), |said| format!("JetStream answered {said}"));
    (blame, why)
}

/// The innermost cause, which says most.
fn describe(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
