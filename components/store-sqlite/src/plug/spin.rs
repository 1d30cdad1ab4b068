//! `spin:sqlite` behind the component's own trait.
//!
//! Spin opens a new connection with each `open`, and its statements queue up on it. So an instance keeps two, one for
//! each purpose: that what need not be durable at once does not wait behind what must.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spin_sdk::sqlite::wit::sqlite as host;
use spin_sdk::wasip3::random::insecure;

use crate::IN_MEMORY;
use crate::database::{Connection, Database, Each, Failure, Purpose, Row, Value};

/// The label in `sqlite_databases` of `spin.toml`.
const LABEL: &str = "default";

thread_local! {
    /// Whether this instance has said why it serves nothing.
    static SAID: Cell<bool> = const { Cell::new(false) };
}

/// A connection of Spin.
pub struct Link(host::Connection);

/// The connections of this instance.
#[derive(Default)]
pub struct Spin {
    durable: RefCell<Option<Rc<Link>>>,
    relaxed: RefCell<Option<Rc<Link>>>,
}

impl Spin {
    fn slot(&self, purpose: Purpose) -> &RefCell<Option<Rc<Link>>> {
        match purpose {
            Purpose::Durable => &self.durable,
            Purpose::Relaxed => &self.relaxed,
        }
    }
}

fn failure(error: host::Error) -> Failure {
    match error {
        host::Error::Io(message) => Failure::from_message(message),
        host::Error::NoSuchDatabase => Failure::NotDone(format!("Spin has no database {LABEL:?}")),
        host::Error::AccessDenied => {
            Failure::NotDone(format!("the component lacks sqlite_databases = [{LABEL:?}]"))
        }
        host::Error::InvalidConnection => {
            Failure::NotDone("Spin could not connect to the database".to_owned())
        }
        host::Error::DatabaseFull => Failure::NotDone("the database is full".to_owned()),
    }
}

fn parameters(values: Vec<Value>) -> Vec<host::Value> {
    let parameter = |value| match value {
        Value::Null => host::Value::Null,
        Value::Integer(number) => host::Value::Integer(number),
        Value::Text(text) => host::Value::Text(text),
        Value::Blob(bytes) => host::Value::Blob(bytes),
    };
    values.into_iter().map(parameter).collect()
}

fn row(row: host::RowResult) -> Row {
    let value = |value| match value {
        host::Value::Integer(number) => Value::Integer(number),
        host::Value::Text(text) => Value::Text(text),
        host::Value::Blob(bytes) => Value::Blob(bytes),
        // No column of ours is real.
        host::Value::Null | host::Value::Real(_) => Value::Null,
    };
    Row(row.values.into_iter().map(value).collect())
}

impl Connection for Link {
    async fn execute(&self, sql: &str, values: Vec<Value>, each: Each<'_>) -> Result<(), Failure> {
        let started = self.0.execute_async(sql.to_owned(), parameters(values)).await;
        let (_columns, mut rows, end) = started.map_err(failure)?;
        while let Some(next) = rows.next().await {
            if !each(row(next))? {
                // Only reads stop early.
                return Ok(());
            }
        }
        // A change is committed when its last row was asked for, not before: this says that it was.
        end.await.map_err(failure)
    }

    fn execute_now(&self, sql: &str, values: Vec<Value>) -> Result<(), Failure> {
        self.0
            .execute(sql, &parameters(values))
            .map(drop)
            .map_err(failure)
    }
}

impl Database for Spin {
    type Connection = Link;

    async fn connection(&self, purpose: Purpose) -> Result<Rc<Link>, Failure> {
        if let Some(link) = self.opened(purpose) {
            return Ok(link);
        }
        let link = Link(
            host::Connection::open_async(LABEL.to_owned())
                .await
                .map_err(failure)?,
        );
        let prepared = crate::prepare(&link, purpose).await;
        if prepared == Err(Failure::NotDone(IN_MEMORY.to_owned())) && !SAID.replace(true) {
            eprintln!("WARNING: {IN_MEMORY}");
        }
        prepared?;
        // Two tasks may have come here at once: the first one's is kept, so that the other's closes after its use.
        let link = Rc::new(link);
        Ok(Rc::clone(self.slot(purpose).borrow_mut().get_or_insert(link)))
    }

    fn opened(&self, purpose: Purpose) -> Option<Rc<Link>> {
        self.slot(purpose).borrow().clone()
    }

    async fn pause(&self, ms: u64) {
        spin_sdk::time::sleep(Duration::from_millis(ms)).await;
    }

    fn now_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        insecure::get_insecure_random_u64()
    }
}
