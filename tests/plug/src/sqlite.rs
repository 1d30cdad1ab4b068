//! `spin:sqlite@3.1.0` as Spin's in-process backend has it. A statement runs on a thread of its own, and its
//! rows are handed over one by one. Its success or error is reported apart from them. Errors are SQLite's
//! texts.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rusqlite::types::{Value as Sql, ValueRef};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, HasData, Resource, StreamProducer, StreamReader, StreamResult,
};

use crate::bindings::sqlite::{
    Error, Host, HostConnection, HostConnectionWithStore, QueryResult, RowResult, Value,
};
use crate::instance::Guest;

/// The one database that there is.
const LABEL: &str = "default";
/// Rows of a statement that wait to be asked for; the statement waits with them.
const ROWS_AHEAD: usize = 4;

/// A connection, which statements queue up on.
#[derive(Clone)]
pub struct Connection(Arc<Mutex<rusqlite::Connection>>);

type Row = Result<bool, Error>;

impl Connection {
    /// Runs a statement on this thread, and gives the names of its columns, then each row, until one is not wanted.
    fn run(
        &self,
        sql: &str,
        parameters: Vec<Value>,
        columns: impl FnOnce(Vec<String>),
        mut each: impl FnMut(RowResult) -> Row,
    ) -> Result<(), Error> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached(sql).map_err(failure)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let count = names.len();
        columns(names);
        let parameters = parameters.into_iter().map(parameter);
        let mut rows = statement
            .query(rusqlite::params_from_iter(parameters))
            .map_err(failure)?;
        while let Some(row) = rows.next().map_err(failure)? {
            let values = (0..count).map(|column| value(row.get_ref(column).map_err(failure)?));
            let values = values.collect::<Result<_, Error>>()?;
            if !each(RowResult { values })? {
                break;
            }
        }
        Ok(())
    }
}

fn failure(error: rusqlite::Error) -> Error {
    Error::Io(error.to_string())
}

fn parameter(value: Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Integer(number) => Sql::Integer(number),
        Value::Real(number) => Sql::Real(number),
        Value::Text(text) => Sql::Text(text),
        Value::Blob(bytes) => Sql::Blob(bytes),
    }
}

fn value(value: ValueRef<'_>) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(error) => return Err(Error::Io(error.to_string())),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

/// The rows of a statement that runs.
struct Rows(mpsc::Receiver<RowResult>);

impl<D> StreamProducer<D> for Rows {
    type Item = RowResult;
    type Buffer = Option<RowResult>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut destination: Destination<'a, RowResult, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.get_mut().0.poll_recv(context) {
            Poll::Ready(Some(row)) => {
                destination.set_buffer(Some(row));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Names the data that the interface works on.
pub struct Spin;

impl HasData for Spin {
    type Data<'a> = &'a mut Guest;
}

impl Host for Guest {}

impl HostConnection for Guest {
    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<QueryResult, Error> {
        let connection = self.connection(&connection)?;
        let job = move || {
            let (mut columns, mut rows) = (Vec::new(), Vec::new());
            connection.run(
                &sql,
                parameters,
                |names| columns = names,
                |row| {
                    rows.push(row);
                    Ok(true)
                },
            )?;
            Ok(QueryResult { columns, rows })
        };
        spawn_blocking(job)
            .await
            .unwrap_or_else(|error| Err(Error::Io(error.to_string())))
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl Guest {
    fn connection(&self, connection: &Resource<Connection>) -> Result<Connection, Error> {
        let found = self.table.get(connection);
        found.cloned().map_err(|_| Error::InvalidConnection)
    }
}

type Answer = (
    Vec<String>,
    StreamReader<RowResult>,
    FutureReader<Result<(), Error>>,
);

impl<T: Send + 'static> HostConnectionWithStore<T> for Spin {
    async fn open_async(accessor: &Accessor<T, Self>, label: String) -> Result<Resource<Connection>, Error> {
        if label != LABEL {
            return Err(Error::AccessDenied);
        }
        accessor.with(|mut access| {
            let guest = access.get();
            let connection = rusqlite::Connection::open(&guest.database).map_err(failure)?;
            let connection = Connection(Arc::new(Mutex::new(connection)));
            let pushed = guest.table.push(connection);
            pushed.map_err(|_| Error::Io("too many connections opened".to_owned()))
        })
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<Answer, Error> {
        let connection = accessor.with(|mut access| access.get().connection(&connection))?;
        let (told, columns) = oneshot::channel();
        let (next, rows) = mpsc::channel(ROWS_AHEAD);
        let (ended, end) = oneshot::channel();
        spawn_blocking(move || {
            let done = connection.run(
                &sql,
                parameters,
                |names| drop(told.send(names)),
                |row| match next.blocking_send(row) {
                    Ok(()) => Ok(true),
                    Err(_) => Err(Error::Io("row send error".to_owned())),
                },
            );
            // Nobody may be there to hear it any more.
            let _ = ended.send(done);
        });
        // A statement that cannot be prepared has no columns and no rows, and says why at the end.
        let columns = columns.await.unwrap_or_default();
        accessor
            .with(|mut access| {
                let rows = StreamReader::new(&mut access, Rows(rows))?;
                let end = FutureReader::new(&mut access, end)?;
                wasmtime::Result::Ok((columns, rows, end))
            })
            .map_err(|error: wasmtime::Error| Error::Io(error.to_string()))
    }
}
