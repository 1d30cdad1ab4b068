//! Delivery to a Redis stream: an entry for each message, over one connection for each subscription.

mod entry;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use super::reach::Reach;
use super::{Report, Sink};
use crate::relay::Delivered;
use crate::relay::attempt::Answered;
use crate::subscription::{DEDUPLICATE, Payload, Place, Subscription};
use crate::webhook::{judge, reference};
use entry::{Entry, Target};

/// Commands that wait to be written.
const PIPELINE: usize = 64;

/// The stream of one subscription.
pub(crate) struct RedisSink {
    reach: Arc<Reach>,
    place: Place,
    login: RedisConnectionInfo,
    allow_private: bool,
    target: Target,
    payload: Payload,
    timeout: std::time::Duration,
    source: String,
    /// The connection, while there is one.
    open: Mutex<Option<Open>>,
    /// How many there were.
    opened: Cell<u64>,
}

/// A connection, and what reads and writes it.
struct Open {
    /// Different for each.
    number: u64,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there was no answer that could be used.
enum Failure {
    /// Before anything was sent.
    Unreached(String),
    /// Of the server, or of the connection.
    Failed(RedisError),
}

impl Sink for RedisSink {
    async fn deliver(&self, message: Arc<Message>, place: Option<Traceparent>) -> Report {
        self.add(vec![self.entry(&message, place)]).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let entries = messages.iter().map(|(message, _)| self.entry(message, None));
        self.add(entries.collect()).await
    }
}

impl RedisSink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(reach: &Arc<Reach>, settings: &Subscription, source: String) -> Result<Self, String> {
        let place = Place::parse(settings.kind, &settings.url).map_err(|fault| format!("url: {fault}"))?;
        let mut login = RedisConnectionInfo::default().set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if !place.user.is_empty() {
            login = login.set_username(&place.user);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password.expose());
        }
        if let Some(database) = place.path.strip_prefix('/') {
            let database = database
                .parse()
                .map_err(|_| "url: must end with the number of a database")?;
            login = login.set_db(database);
        }
        Ok(Self {
            reach: Arc::clone(reach),
            place,
            login,
            allow_private: settings.allow_private_addresses,
            target: Target {
                stream: settings.stream.clone(),
                max_length: settings.max_length,
                known_ms: settings.deduplicate.unwrap_or(DEDUPLICATE).as_millis(),
            },
            payload: settings.payload,
            timeout: settings.timeout.into(),
            source,
            open: Mutex::new(None),
            opened: Cell::new(0),
        })
    }

    fn entry(&self, message: &Arc<Message>, place: Option<Traceparent>) -> Entry {
        let message = match self.payload {
            Payload::Full => Arc::clone(message),
            Payload::Reference => Arc::new(reference(message, &self.source)),
        };
        Entry::new(message, place)
    }

    async fn add(&self, entries: Vec<Entry>) -> Report {
        let began = Instant::now();
        let (command, used) = (self.target.command(&entries), Cell::new(0));
        let ended = tokio::time::timeout(self.timeout, self.send(&command, &used)).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let delivered = match ended {
            Ok(Ok(())) => Delivered::Accepted,
            Ok(Err(Failure::Unreached(why))) => judge::unreachable(why),
            Ok(Err(Failure::Failed(error))) => {
                if let Some(code) = error.code() {
                    answered.text = super::excerpt(&format!("{code} {}", error.detail().unwrap_or_default()));
                }
                // It may be another server's turn.
                if is_of_the_connection(&error) || is_of_the_server(&error) {
                    self.forget(used.get()).await;
                }
                judge::disconnected(describe(&error))
            }
            Err(_) => {
                // So that the next attempt does not queue behind it.
                self.forget(used.get()).await;
                judge::timed_out()
            }
        };
        Report { delivered, answered }
    }

    /// One command. It is sent once more, over a new connection, where one that was used before had been closed while it was idle;
    /// as of every delivery, a repetition does no harm. `used`: the number of the connection.
    async fn send(&self, command: &Cmd, used: &Cell<u64>) -> Result<(), Failure> {
        let (connection, was_used) = self.connection(used).await?;
        match ask(connection, command).await {
            Err(Failure::Failed(error)) if was_used && error.is_connection_dropped() => {
                self.forget(used.get()).await;
                let (connection, _) = self.connection(used).await?;
                ask(connection, command).await
            }
            ended => ended,
        }
    }

    /// The connection, and whether it was used before.
    async fn connection(&self, used: &Cell<u64>) -> Result<(MultiplexedConnection, bool), Failure> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref().filter(|open| !open.driver.is_finished()) {
            used.set(open.number);
            return Ok((open.connection.clone(), true));
        }
        *open = None;
        let stream = self.reach.connect(&self.place, self.allow_private).await;
        let stream = stream.map_err(|error| Failure::Unreached(error.to_string()))?;
        // The time-out of an attempt is the one that counts.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let made = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (connection, driver) = made.map_err(Failure::Failed)?;
        let number = self.opened.get() + 1;
        self.opened.set(number);
        used.set(number);
        *open = Some(Open {
            number,
            connection: connection.clone(),
            driver: tokio::task::spawn_local(driver),
        });
        Ok((connection, false))
    }

    /// Closes the connection of this number, unless another has taken its place.
    async fn forget(&self, number: u64) {
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|open| open.number == number) {
            *open = None;
        }
    }
}

async fn ask(mut connection: MultiplexedConnection, command: &Cmd) -> Result<(), Failure> {
    let answer = connection.send_packed_command(command).await;
    let answer = answer.and_then(redis::Value::extract_error);
    answer.map(drop).map_err(Failure::Failed)
}

fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}

/// This server does not write, another one might. Before version 7 an error within a script has the code `ERR`, and its own
/// in the text.
fn is_of_the_server(error: &RedisError) -> bool {
    const CODES: [&str; 5] = ["CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "READONLY"];
    let said = describe(error);
    CODES.iter().any(|code| said.contains(code))
}

/// For people. What the server says of a login names the user at most.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("Redis answered {code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}
