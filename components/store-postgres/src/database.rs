//! The database as the component needs it: one statement at a time, each a transaction of its own.

use tollgate_store::commit::StoreError;

use crate::sql;

/// A parameter or a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// `bigint`.
    Integer(i64),
    /// `text`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `text[]`.
    Texts(Vec<String>),
    /// `bigint[]`.
    Integers(Vec<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
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
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Why a statement did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done: no connection could be had.
    NotConnected(String),
    /// Nothing was done: the database says why, with its code (`SQLSTATE`).
    Database {
        /// Five characters.
        code: String,
        /// In one line.
        message: String,
    },
    /// The connection was lost on the way: it may have been done.
    Lost(String),
    /// The database answered what it should not.
    Unexpected(String),
}

/// `too_many_connections` (SQLSTATE).
const TOO_MANY: &str = "53300";

impl Failure {
    /// Why no connection could be made, by Spin's text, which names the address, and may hold a backtrace: no client may see it.
    pub fn not_connected(text: &str) -> Self {
        let has = |words: &str| text.contains(words);
        // Spin passes no code on here. One of the others ends soon.
        if has("too many clients") || has("connection slots are reserved") {
            return Self::Database {
                code: TOO_MANY.to_owned(),
                message: "the database has as many connections as it may".to_owned(),
            };
        }
        Self::NotConnected(match has("not permitted") {
            true => "Spin does not allow the database's address: see tollgate_postgres_host in spin.toml"
                .to_owned(),
            false => "the database cannot be reached".to_owned(),
        })
    }

    /// What the database says; an end of the session by its operator counts as a lost connection.
    pub fn of_database(code: String, message: String) -> Self {
        match code.starts_with("57P") || code.starts_with("08") {
            true => Self::Lost(message),
            false => Self::Database { code, message },
        }
    }

    fn is(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Database { code, .. } if codes.contains(&&**code))
    }

    /// Whether it may succeed when it is tried again: serialisation, a deadlock, a lock that others held, a sequence or a name
    /// that somebody else took, an object that others replaced meanwhile, connections that others have.
    pub fn is_passing(&self) -> bool {
        self.is(&["40001", "40P01", "55P03", "23505", "XX000", TOO_MANY])
    }

    /// Whether others held what it needed.
    pub fn is_busy(&self) -> bool {
        self.is(&["55P03", "40P01", "40001"])
    }

    /// Whether tables or functions are missing.
    pub fn lacks_tables(&self) -> bool {
        self.is(&["42P01", "42883", "3F000"])
    }

    /// The error of a call that may be asked for again.
    pub fn unavailable(self) -> StoreError {
        StoreError::Unavailable(self.into_message())
    }

    /// The message.
    pub fn into_message(self) -> String {
        match self {
            Self::NotConnected(message) | Self::Lost(message) | Self::Unexpected(message) => message,
            Self::Database { code, message } => format!("{message} ({code})"),
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

    /// Takes a text out of the row, or `None` for `NULL`.
    pub fn optional_text(&mut self, column: usize) -> Result<Option<String>, Failure> {
        match self.0.get_mut(column) {
            Some(Value::Text(text)) => Ok(Some(std::mem::take(text))),
            Some(Value::Null) => Ok(None),
            _ => Err(unexpected(column)),
        }
    }

    /// Takes a text out of the row.
    pub fn text(&mut self, column: usize) -> Result<String, Failure> {
        self.optional_text(column)?.ok_or_else(|| unexpected(column))
    }

    /// Takes bytes out of the row; none for `NULL`.
    pub fn bytes(&mut self, column: usize) -> Result<Vec<u8>, Failure> {
        match self.0.get_mut(column) {
            Some(Value::Bytes(bytes)) => Ok(std::mem::take(bytes)),
            Some(Value::Null) => Ok(Vec::new()),
            _ => Err(unexpected(column)),
        }
    }

    /// Takes integers out of the row; none for `NULL`.
    pub fn integers(&mut self, column: usize) -> Result<Vec<i64>, Failure> {
        match self.0.get_mut(column) {
            Some(Value::Integers(numbers)) => Ok(std::mem::take(numbers)),
            Some(Value::Null) => Ok(Vec::new()),
            _ => Err(unexpected(column)),
        }
    }
}

fn unexpected(column: usize) -> Failure {
    Failure::Unexpected(format!(
        "the database answered something unexpected in column {column}"
    ))
}

/// A database, and the little else that waiting takes.
#[allow(async_fn_in_trait, reason = "single-threaded: nothing needs Send")]
pub trait Database {
    /// Runs one statement over a connection that is kept, and forgets the connection where it failed.
    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, Failure>;
    /// Waits, milliseconds.
    async fn pause(&self, ms: u64);
    /// The clock of buckets, nanoseconds since 1970; `None`: the database's.
    fn bucket_clock(&self) -> Option<u64>;
    /// A random number, unpredictable enough to spread the retries of callers that wait for each other.
    fn random(&self) -> u64;
}

/// How often a statement is tried that has met another, or a lost connection where that does no harm.
const ATTEMPTS: u64 = 10;
/// The pause before the second attempt, milliseconds, at most; so much more before each further one.
const PAUSE_MS: u64 = 8;

/// Whether a statement whose connection was lost may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It reads, or does nothing the second time.
    Harmless,
    /// Only if it was not done.
    NotDone,
}

/// Runs a statement, again where that may help. Makes the tables where they are missing.
///
/// # Errors
/// The last one.
pub async fn run<D: Database>(
    database: &D,
    again: Again,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Row>, Failure> {
    let (mut attempt, mut lost) = (0, 0);
    loop {
        attempt += 1;
        let failure = match database.query(sql, parameters.clone()).await {
            Ok(rows) => return Ok(rows),
            Err(failure) => failure,
        };
        match &failure {
            _ if attempt >= ATTEMPTS => return Err(failure),
            _ if failure.lacks_tables() => make(database).await?,
            _ if failure.is_passing() => {}
            // One that was kept and is dead: the next is new.
            Failure::Lost(_) if again == Again::Harmless && lost == 0 => lost += 1,
            _ => return Err(failure),
        }
        database.pause(1 + database.random() % (PAUSE_MS * attempt)).await;
    }
}

/// Makes tables and functions. Others may do it at the same time.
async fn make<D: Database>(database: &D) -> Result<(), Failure> {
    let mut attempt = 0;
    loop {
        match database.query(&sql::creation(), Vec::new()).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_passing() && attempt < ATTEMPTS => {
                attempt += 1;
                database.pause(1 + database.random() % (PAUSE_MS * attempt)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_a_refused_connection_is_told_and_a_full_database_is_asked_again() {
        let refused = Failure::not_connected("tcp://10.0.0.7: Connection refused (os error 111)");
        assert_eq!(
            refused,
            Failure::NotConnected("the database cannot be reached".to_owned())
        );
        assert!(!refused.is_passing());
        for text in [
            "db error: FATAL: sorry, too many clients already",
            "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute",
        ] {
            let full = Failure::not_connected(text);
            assert!(full.is_passing() && !full.is_busy(), "{full:?}");
        }
        let denied = Failure::not_connected("address postgres://10.0.0.7 is not permitted");
        let denied = denied.into_message();
        assert!(denied.contains("tollgate_postgres_host") && !denied.contains("10.0.0.7"));
    }
}
