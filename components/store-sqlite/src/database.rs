//! The database as the component needs it: connections that run one statement at a time.

use std::rc::Rc;

/// A parameter or a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// A signed 64-bit integer.
    Integer(i64),
    /// UTF-8.
    Text(String),
    /// Any bytes.
    Blob(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u64> for Value {
    /// Beyond the greatest integer of SQL, that one: our times, versions and sequences never get there.
    fn from(number: u64) -> Self {
        Self::Integer(integer(number))
    }
}

/// The same number in SQL, or the greatest one it has.
pub fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Why a statement did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another connection writes. Nothing was done.
    Busy(String),
    /// Nothing was done.
    NotDone(String),
    /// Anything else: a message of SQLite, or of what lies between. It may have been done.
    Failed(String),
}

/// SQLite's messages for a statement that did nothing because others hold the database.
const BUSY: [&str; 3] = [
    "database is locked",
    "database table is locked",
    "database schema is locked",
];
/// SQLite's messages for a statement that did nothing for another reason.
const NOT_DONE: [&str; 4] = [
    "database or disk is full",
    "attempt to write a readonly database",
    "unable to open database file",
    "too many connections opened",
];

impl Failure {
    /// Classifies a message. Spin passes SQLite's text and no code.
    pub fn from_message(message: String) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        // Our own words first: a refusal may quote what callers stored.
        if message.contains(crate::sql::PREFIX) {
            Self::Failed(message)
        } else if says(&BUSY) {
            Self::Busy(message)
        } else if says(&NOT_DONE) {
            Self::NotDone(message)
        } else {
            Self::Failed(message)
        }
    }

    /// The message.
    pub fn into_message(self) -> String {
        match self {
            Self::Busy(message) | Self::NotDone(message) | Self::Failed(message) => message,
        }
    }
}

/// A row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// An integer; ours are never negative.
    pub fn number(&self, column: usize) -> Result<u64, Failure> {
        self.optional_number(column)?.ok_or_else(|| unexpected(column))
    }

    /// An integer, or `None` for `NULL`.
    pub fn optional_number(&self, column: usize) -> Result<Option<u64>, Failure> {
        match self.0.get(column) {
            Some(Value::Integer(number)) => u64::try_from(*number).map(Some).map_err(|_| unexpected(column)),
            Some(Value::Null) => Ok(None),
            _ => Err(unexpected(column)),
        }
    }

    /// Takes a text out of the row.
    pub fn text(&mut self, column: usize) -> Result<String, Failure> {
        match self.0.get_mut(column) {
            Some(Value::Text(text)) => Ok(std::mem::take(text)),
            _ => Err(unexpected(column)),
        }
    }

    /// Takes bytes out of the row.
    pub fn bytes(&mut self, column: usize) -> Result<Vec<u8>, Failure> {
        match self.0.get_mut(column) {
            Some(Value::Blob(bytes)) => Ok(std::mem::take(bytes)),
            _ => Err(unexpected(column)),
        }
    }
}

fn unexpected(column: usize) -> Failure {
    Failure::Failed(format!(
        "the database answered something unexpected in column {column}"
    ))
}

/// A callback for each row; it returns `false` when no more are wanted.
pub type Each<'a> = &'a mut dyn FnMut(Row) -> Result<bool, Failure>;

/// A connection.
#[allow(async_fn_in_trait, reason = "single-threaded: nothing needs Send")]
pub trait Connection {
    /// Runs one statement, a transaction of its own, and gives its rows to `each`.
    async fn execute(&self, sql: &str, parameters: Vec<Value>, each: Each<'_>) -> Result<(), Failure>;

    /// The same without waiting for anything else meanwhile, and without rows.
    fn execute_now(&self, sql: &str, parameters: Vec<Value>) -> Result<(), Failure>;
}

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Commits, durable when they return; and reads.
    Durable,
    /// Buckets and deferred commits: durable with the next durable commit.
    Relaxed,
}

/// Connections, and the little else that waiting takes.
#[allow(async_fn_in_trait, reason = "single-threaded: nothing needs Send")]
pub trait Database {
    /// What it connects with.
    type Connection: Connection;

    /// The connection for a purpose. It is opened and prepared ([`crate::prepare`]) when it is first asked
    /// for.
    async fn connection(&self, purpose: Purpose) -> Result<Rc<Self::Connection>, Failure>;
    /// The connection, if it is open.
    fn opened(&self, purpose: Purpose) -> Option<Rc<Self::Connection>>;
    /// Waits, milliseconds.
    async fn pause(&self, ms: u64);
    /// The wall clock, nanoseconds since 1970. Of the buckets only.
    fn now_ns(&self) -> u64;
    /// A random number, unpredictable enough to spread the retries of callers that wait for each other.
    fn random(&self) -> u64;
}

/// How often a statement is tried that finds the database busy. SQLite waits for `busy_timeout` (100 ms) in
/// each, but with sleeps that grow, so that the longest waiter is served last. Short tries are fairer. About
/// two seconds in all.
const ATTEMPTS: u32 = 20;
/// The longest pause between two tries, milliseconds; on average half of it.
const PAUSE_MS: u64 = 20;

/// Runs a statement, once.
pub async fn once<D: Database>(
    database: &D,
    purpose: Purpose,
    sql: &str,
    parameters: Vec<Value>,
    each: Each<'_>,
) -> Result<(), Failure> {
    let connection = database.connection(purpose).await?;
    connection.execute(sql, parameters, each).await
}

/// Runs a statement, again while the database is busy.
pub async fn run<D: Database>(
    database: &D,
    purpose: Purpose,
    sql: &str,
    parameters: Vec<Value>,
    each: Each<'_>,
) -> Result<(), Failure> {
    let mut attempt = 1;
    loop {
        match once(database, purpose, sql, parameters.clone(), each).await {
            Err(Failure::Busy(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                database.pause(1 + database.random() % PAUSE_MS).await;
            }
            done => return done,
        }
    }
}
