//! `spin:postgres` behind the component's own trait. An instance keeps one connection, of a pool that Spin keeps for all: who kept
//! one and waited for another would keep it from those that have none. One that was lost never connects again, so it is dropped. What a
//! client may see of an error is one line without the address.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use spin_sdk::pg::wit::postgres as host;
use spin_sdk::wasip3::random::insecure;

use crate::database::{Database, Failure, Row, Value};

/// The Spin variable with the database's URL.
const VARIABLE: &str = "tollgate_postgres";
/// How long an instance waits for a connection: Spin itself waits for ever while its pool is used up.
const OPEN: Duration = Duration::from_secs(5);
/// How long a statement may take before its connection counts as lost.
const STATEMENT: Duration = Duration::from_secs(10);

/// The connection of this instance.
#[derive(Default)]
pub struct Spin(RefCell<Option<Rc<host::Connection>>>);

impl Spin {
    async fn connection(&self) -> Result<Rc<host::Connection>, Failure> {
        let kept = self.0.borrow().clone();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let url = spin_sdk::variables::get(VARIABLE).await.unwrap_or_default();
        if url.is_empty() {
            return Err(Failure::NotConnected(format!(
                "the Spin variable {VARIABLE} is not set"
            )));
        }
        let opened = within(OPEN, host::Connection::open_async(url)).await;
        let opened =
            opened.ok_or_else(|| Failure::NotConnected("the database did not answer in time".to_owned()))?;
        let opened = Rc::new(opened.map_err(not_connected)?);
        // Two tasks may have come here at once: the first one's is kept.
        Ok(Rc::clone(self.0.borrow_mut().get_or_insert(opened)))
    }

    /// Classifies a failure, and forgets the connection unless the database itself has spoken.
    fn failed(&self, of: &Rc<host::Connection>, error: host::Error) -> Failure {
        let failure = failure(error);
        if !matches!(failure, Failure::Database { .. }) {
            self.forget(of);
        }
        failure
    }

    fn forget(&self, lost: &Rc<host::Connection>) {
        let mut kept = self.0.borrow_mut();
        if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, lost)) {
            *kept = None;
        }
    }
}

fn not_connected(error: host::Error) -> Failure {
    match error {
        host::Error::ConnectionFailed(text) => Failure::not_connected(&text),
        _ => Failure::not_connected(""),
    }
}

fn failure(error: host::Error) -> Failure {
    match error {
        host::Error::QueryFailed(host::QueryError::DbError(error)) => {
            Failure::of_database(error.code, error.message)
        }
        host::Error::QueryFailed(host::QueryError::Text(_)) => {
            Failure::Lost("the connection to the database was lost".to_owned())
        }
        host::Error::ConnectionFailed(_) => not_connected(error),
        host::Error::BadParameter(_) | host::Error::ValueConversionFailed(_) | host::Error::Other(_) => {
            Failure::Unexpected(
                "the database did not understand a statement, or was not understood".to_owned(),
            )
        }
    }
}

/// What `future` gives, or `None` when it takes longer.
async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut timer) = (pin!(future), pin!(spin_sdk::time::sleep(time)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}

fn parameters(values: Vec<Value>) -> Vec<host::ParameterValue> {
    let parameter = |value| match value {
        Value::Null => host::ParameterValue::DbNull,
        Value::Integer(number) => host::ParameterValue::Int64(number),
        Value::Text(text) => host::ParameterValue::Str(text),
        Value::Bytes(bytes) => host::ParameterValue::Binary(bytes),
        Value::Texts(texts) => host::ParameterValue::ArrayStr(texts.into_iter().map(Some).collect()),
        Value::Integers(numbers) => host::ParameterValue::ArrayInt64(numbers.into_iter().map(Some).collect()),
    };
    values.into_iter().map(parameter).collect()
}

fn row(row: Vec<host::DbValue>) -> Row {
    let value = |value| match value {
        host::DbValue::Int64(number) => Value::Integer(number),
        host::DbValue::Str(text) => Value::Text(text),
        host::DbValue::Binary(bytes) => Value::Bytes(bytes),
        host::DbValue::ArrayInt64(numbers) => Value::Integers(numbers.into_iter().flatten().collect()),
        // No column of ours is anything else.
        _ => Value::Null,
    };
    Row(row.into_iter().map(value).collect())
}

async fn rows(connection: &host::Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, host::Error> {
    let (_columns, mut stream, end) = connection.query_async(sql.to_owned(), parameters(values)).await?;
    let mut found = Vec::new();
    while let Some(next) = stream.next().await {
        found.push(row(next));
    }
    // Only this says that it was done to its end.
    end.await?;
    Ok(found)
}

impl Database for Spin {
    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Failure> {
        let connection = self.connection().await?;
        match within(STATEMENT, rows(&connection, sql, values)).await {
            Some(done) => done.map_err(|error| self.failed(&connection, error)),
            None => {
                self.forget(&connection);
                Err(Failure::Lost("the database did not answer in time".to_owned()))
            }
        }
    }

    async fn pause(&self, ms: u64) {
        spin_sdk::time::sleep(Duration::from_millis(ms)).await;
    }

    fn bucket_clock(&self) -> Option<u64> {
        None
    }

    fn random(&self) -> u64 {
        insecure::get_insecure_random_u64()
    }
}
