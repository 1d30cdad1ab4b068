//! Delivery into a Postgres: a statement of the subscription's own for each message, whose parameters are bound to the message's
//! fields. A batch is one transaction.

mod row;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tollgate_api::traceparent::Traceparent;
use tollgate_store::commit::Message;

use super::reach::{Bounded, Reach, Wire};
use super::{Report, Sink};
use crate::relay::attempt::Answered;
use crate::relay::{Blame, Delivered};
use crate::subscription::parameter::Parameter;
use crate::subscription::{Payload, Place, Security, Subscription};
use crate::webhook::{judge, reference};
use row::Value;

/// For how long a connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(30);

/// The statement of one subscription.
pub(crate) struct PostgresSink {
    reach: Arc<Reach>,
    place: Place,
    config: Config,
    allow_private: bool,
    statement: String,
    parameters: Vec<Parameter>,
    payload: Payload,
    timeout: Duration,
    source: String,
    /// Connections that wait for the next message; never more than deliveries that were under way at once.
    idle: RefCell<Vec<Open>>,
}

/// A connection, and the statement as the database knows it there.
struct Open {
    client: Client,
    statement: Statement,
    driver: JoinHandle<()>,
    since: Instant,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Else it waits for what is still to be answered.
        self.driver.abort();
    }
}

/// Why the messages are not known to be there.
enum Failure {
    /// There is no connection.
    Unreached(String),
    /// The statement is not one for these parameters.
    Unsuited(String),
    /// The message lacks what a parameter needs.
    Unfit(String),
    /// Of the database, or of the connection.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Sink for PostgresSink {
    async fn deliver(&self, message: Arc<Message>, _: Option<Traceparent>) -> Report {
        self.insert(&[self.sent(message)]).await
    }

    async fn deliver_together(&self, messages: &[(Arc<Message>, u32)]) -> Report {
        let messages = messages.iter().map(|(message, _)| self.sent(Arc::clone(message)));
        self.insert(&messages.collect::<Vec<_>>()).await
    }
}

impl PostgresSink {
    /// See [`Sinks::open`](super::Sinks::open).
    pub fn open(reach: &Arc<Reach>, settings: &Subscription, source: String) -> Result<Self, String> {
        let place = Place::parse(settings.kind, &settings.url).map_err(|fault| format!("url: {fault}"))?;
        let mut config = Config::new();
        config.user(&place.user).application_name("tollgate");
        if let Some(database) = place.path.strip_prefix('/') {
            config.dbname(database);
        }
        if let Some(password) = &settings.password {
            config.password(password.expose());
        }
        config.ssl_mode(match place.security {
            Security::Plain => SslMode::Disable,
            Security::Tls => SslMode::Require,
        });
        let parameters = settings.parameters.iter().flatten();
        let parameters = parameters.map(|text| Parameter::parse(text));
        Ok(Self {
            reach: Arc::clone(reach),
            place,
            config,
            allow_private: settings.allow_private_addresses,
            statement: settings.statement.clone().ok_or("statement: is needed")?,
            parameters: parameters
                .collect::<Result<_, _>>()
                .map_err(|fault| format!("parameters: {fault}"))?,
            payload: settings.payload,
            timeout: settings.timeout.into(),
            source,
            idle: RefCell::default(),
        })
    }

    fn sent(&self, message: Arc<Message>) -> Arc<Message> {
        match self.payload {
            Payload::Full => message,
            Payload::Reference => Arc::new(reference(&message, &self.source)),
        }
    }

    async fn insert(&self, messages: &[Arc<Message>]) -> Report {
        let began = Instant::now();
        let ended = tokio::time::timeout(self.timeout, self.attempt(messages)).await;
        let mut answered = Answered {
            ms: began.elapsed().as_millis() as u64,
            ..Answered::default()
        };
        let delivered = match ended {
            Ok(Ok(())) => Delivered::Accepted,
            Ok(Err(Failure::Unreached(why))) => judge::unreachable(why),
            Ok(Err(Failure::Unsuited(why))) => judge::disconnected(why),
            Ok(Err(Failure::Unfit(why))) => Delivered::refused(Blame::Message, why),
            Ok(Err(Failure::Failed(error))) => {
                let (why, blame) = (describe(&error), blame(&error));
                if error.as_db_error().is_some() {
                    answered.text = super::excerpt(&why);
                }
                Delivered::refused(blame, why)
            }
            // The connection is closed with it: what the database has not begun, it does not begin any more.
            Err(_) => judge::timed_out(),
        };
        Report { delivered, answered }
    }

    /// All of them, or none. A connection is kept where it is known what it waits for: nothing.
    async fn attempt(&self, messages: &[Arc<Message>]) -> Result<(), Failure> {
        let mut open = self.connection().await?;
        let types = open.statement.params();
        if types.len() != self.parameters.len() {
            let (takes, given) = (types.len(), self.parameters.len());
            return Err(Failure::Unsuited(format!(
                "statement: has {takes} parameters, and parameters lists {given}"
            )));
        }
        let rows = messages
            .iter()
            .map(|message| row::values(&self.parameters, types, message));
        let ended = match rows.collect::<Result<Vec<_>, _>>() {
            Err(why) => Err(Failure::Unfit(why)),
            Ok(rows) => execute(&mut open, &rows).await.map_err(Failure::Failed),
        };
        let is_whole = match &ended {
            Ok(()) | Err(Failure::Unfit(_)) => true,
            Err(Failure::Failed(error)) => blame(error) == Blame::Message,
            Err(Failure::Unreached(_) | Failure::Unsuited(_)) => false,
        };
        if is_whole {
            open.since = Instant::now();
            self.idle.borrow_mut().push(open);
        }
        ended
    }

    /// One that waited and is still open, or a new one.
    async fn connection(&self) -> Result<Open, Failure> {
        loop {
            let Some(open) = self.idle.borrow_mut().pop() else {
                break;
            };
            if open.since.elapsed() < IDLE && !open.client.is_closed() {
                return Ok(open);
            }
        }
        // TLS is asked for in the protocol.
        let wire = self.reach.stream(&self.place, self.allow_private).await;
        let wire = wire.map_err(|error| Failure::Unreached(error.to_string()))?;
        let wire: Box<dyn Wire> = Box::new(Bounded::new(wire));
        let mut tls = MakeRustlsConnect::new(self.tls());
        let tls = MakeTlsConnect::<Box<dyn Wire>>::make_tls_connect(&mut tls, &self.place.host);
        let tls = tls.map_err(|error| Failure::Unreached(error.to_string()))?;
        let (client, connection) = self.config.connect_raw(wire, tls).await?;
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to Postgres ended");
            }
        });
        let closes = Closes(Some(driver));
        // Nothing goes on there for longer than somebody waits for it here, and what it says besides is for nobody.
        let ms = self.timeout.as_millis();
        let session = format!(
            "SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}; SET client_min_messages = error"
        );
        client.batch_execute(&session).await?;
        let statement = client.prepare(&self.statement).await?;
        Ok(Open {
            client,
            statement,
            driver: closes.keep(),
            since: Instant::now(),
        })
    }

    fn tls(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider knows the default versions of TLS")
            .with_root_certificates(self.reach.roots())
            .with_no_client_auth()
    }
}

/// Ends a connection that is not finished.
struct Closes(Option<JoinHandle<()>>);

impl Closes {
    fn keep(mut self) -> JoinHandle<()> {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Closes {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.abort();
        }
    }
}

/// One row by itself, several in a transaction. A transaction that is not committed is rolled back.
async fn execute(open: &mut Open, rows: &[Vec<Value>]) -> Result<(), Error> {
    let Open {
        client, statement, ..
    } = open;
    if let [row] = rows {
        return client.execute(statement, &borrowed(row)).await.map(drop);
    }
    let transaction = client.transaction().await?;
    // Polled together, they travel together.
    let all = rows
        .iter()
        .map(async |row| transaction.execute(&*statement, &borrowed(row)).await);
    try_join_all(all).await?;
    transaction.commit().await
}

fn borrowed(row: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    row.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// What a message says may break a rule of its table or not be of a column's type; and of a deadlock, each message alone has none.
/// Classes of appendix A of Postgres's manual; beside them, a row that an index cannot hold.
fn blame(error: &Error) -> Blame {
    const CLASSES: [&str; 6] = ["21", "22", "23", "40", "44", "P0"];
    let of_message = error.code().is_some_and(|code| {
        CLASSES.iter().any(|class| code.code().starts_with(class))
            || *code == SqlState::PROGRAM_LIMIT_EXCEEDED
    });
    if of_message { Blame::Message } else { Blame::Origin }
}

/// For people. What the database says of a login holds no password.
fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("Postgres answered {} {}", said.code().code(), said.message());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
