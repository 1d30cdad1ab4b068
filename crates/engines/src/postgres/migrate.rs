//! An embedded store, moved into the empty tables of a Postgres: everything, or nothing. The gateway of the embedded store must have
//! ended, and none may use the tables yet; both are looked after by locks.
//!
//! All is one transaction: tables are copied, then read back and compared with what was read, then committed. Versions stay as
//! they are. Each lane goes on beyond all of them, and its time beyond the store's.

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use rusqlite::types::ValueRef;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::connect::{Address, Session, told};
use super::options::PostgresOptions;
use super::schema::{self, Fault};
use crate::engine::Engine as _;
use crate::sqlite::{OpenError, Options, SqliteStore};

/// How long it is tried to learn what became of the COMMIT whose answer was lost, and the pause between two attempts.
const RESOLVE: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(250);

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Keys with their values.
    pub entries: u64,
    /// Topics that ever had a message.
    pub topics: u64,
    /// Messages kept.
    pub messages: u64,
    /// Remembered idempotency keys.
    pub idempotence: u64,
    /// Of the embedded store's last commit.
    pub revision: u64,
}

/// Why nothing was moved. Both stores are as they were.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The embedded store cannot be opened; perhaps its gateway still runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The embedded store cannot be read.
    #[error("{}: {source}", .path.display())]
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There is no embedded store.
    #[error("{} is no store", .0.display())]
    Missing(PathBuf),
    /// Its last writer could not write all of the journal into its tables.
    #[error("{} was not ended in order: start its gateway once, and stop it", .0.display())]
    Unfinished(PathBuf),
    /// The database cannot be used.
    #[error("{shown}: {why}")]
    Postgres {
        /// Where it is, without its password.
        shown: String,
        /// What is wrong.
        why: String,
    },
    /// The answer to the COMMIT was lost, and it cannot be learned what became of it.
    #[error(
        "{shown}: it is not known whether everything was moved or nothing: {why}; look whether its tables hold something"
    )]
    Unknown {
        /// Where it is, without its password.
        shown: String,
        /// Why it cannot be learned.
        why: String,
    },
    /// What was read back is not what was written.
    #[error("what the database holds of {0} is not what was written: nothing was kept")]
    Differs(&'static str),
}

/// A table of both stores, under the same columns.
struct Table {
    /// In the embedded store; `tollgate_` stands before it in the other.
    name: &'static str,
    columns: &'static str,
    /// Its key.
    order: &'static str,
    types: &'static [Type],
}

/// A topic has no time of its own in the embedded store: that of its newest message, else the store's (?1).
const TOPICS: &str = "SELECT name, last, bytes, coalesce((SELECT time FROM messages WHERE topic = name ORDER BY sequence DESC LIMIT 1), ?1)
    FROM topics ORDER BY name";

const TABLES: [Table; 4] = [
    Table {
        name: "entries",
        columns: "key, value, version, expires",
        order: "key",
        types: &[Type::TEXT, Type::BYTEA, Type::INT8, Type::INT8],
    },
    Table {
        name: "topics",
        columns: "name, last, bytes, time",
        order: "name",
        types: &[Type::TEXT, Type::INT8, Type::INT8, Type::INT8],
    },
    Table {
        name: "messages",
        columns: "topic, sequence, id, key, type, content_type, time, attributes, payload",
        order: "topic, sequence",
        types: &[
            Type::TEXT,
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::INT8,
            Type::BYTEA,
            Type::BYTEA,
        ],
    },
    Table {
        name: "idempotence",
        columns: "id, fingerprint, answer, expires",
        order: "id",
        types: &[Type::TEXT, Type::BYTEA, Type::BYTEA, Type::INT8],
    },
];

impl Table {
    /// Its rows, in the order of its key, where it has this name.
    fn rows(&self, name: &str) -> String {
        format!("SELECT {} FROM {name} ORDER BY {}", self.columns, self.order)
    }

    fn of_postgres(&self) -> String {
        ["tollgate_", self.name].concat()
    }
}

/// Nobody else uses the tables, and none of them is held up for as long as the copy takes: it waits or is told so.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = 0; SET enable_seqscan = on; BEGIN;
    LOCK TABLE tollgate_lanes, tollgate_entries, tollgate_topics, tollgate_messages, tollgate_idempotence IN ACCESS EXCLUSIVE MODE";
const USED: &str = "SELECT EXISTS (SELECT 1 FROM tollgate_entries) OR EXISTS (SELECT 1 FROM tollgate_topics)
    OR EXISTS (SELECT 1 FROM tollgate_idempotence)";
/// Versions of different lanes never meet: lane n's are n and multiples of the number of lanes beyond it.
const LANES: &str = "UPDATE tollgate_lanes SET now = $2, revision = lane + ($1::bigint / (SELECT count(*) FROM tollgate_lanes) + 1)
    * (SELECT count(*) FROM tollgate_lanes)";

/// Moves the embedded store in the file `from` into the database of `to`. `progress` is told the name of a table, and rows copied and
/// to be copied, of which each counts twice: written, and compared.
///
/// # Errors
/// See [`MigrateError`].
pub fn migrate(
    from: &Path,
    to: &PostgresOptions,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Moved, MigrateError> {
    if !from.is_file() {
        return Err(MigrateError::Missing(from.to_owned()));
    }
    let address = Address::parse(&to.url).map_err(|why| MigrateError::Postgres {
        shown: "the database".into(),
        why,
    })?;
    // An orderly end writes the journal into its tables; a running gateway is found out by the lock.
    SqliteStore::open(Options::new(from))?.close();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| MigrateError::Postgres {
        shown: address.shown.clone(),
        why: error.to_string(),
    })?;
    let source = Source::open(from)?;
    runtime.block_on(all(&source, &address, to.lanes, progress))
}

/// The embedded store, read in one transaction.
struct Source {
    connection: rusqlite::Connection,
    path: PathBuf,
    revision: u64,
    now: i64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, MigrateError> {
        let options = Options::new(path);
        let connection = crate::sqlite::schema::open_reader(&options)?;
        let told = |source| MigrateError::Sqlite {
            path: path.to_owned(),
            source,
        };
        connection.execute_batch("BEGIN").map_err(told)?;
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map_err(told)
        };
        let (revision, now) = (
            number("SELECT value FROM meta WHERE name = 'revision'")?,
            number("SELECT value FROM meta WHERE name = 'now'")?,
        );
        if number("SELECT count(*) FROM journal")? > 0 {
            return Err(MigrateError::Unfinished(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            revision: u64::try_from(revision).unwrap_or(0),
            now,
            connection,
        })
    }

    fn told(&self) -> impl Fn(rusqlite::Error) -> MigrateError + '_ {
        |source| MigrateError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    fn count(&self, table: &Table) -> Result<u64, MigrateError> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        let count = self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        count
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(self.told())
    }
}

async fn all(
    source: &Source,
    address: &Address,
    lanes: u32,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Moved, MigrateError> {
    let postgres = |why: String| MigrateError::Postgres {
        shown: address.shown.clone(),
        why,
    };
    let failed = |error: tokio_postgres::Error| postgres(told(&error));
    let session = Session::open(address).await.map_err(failed)?;
    session.promises().await.map_err(failed)?.map_err(postgres)?;
    let client = &session.client;
    schema::make(client, lanes).await.map_err(|fault| match fault {
        Fault::Database(error) => failed(error),
        Fault::Unfit(why) => postgres(why),
    })?;
    client.batch_execute(BEGIN).await.map_err(failed)?;
    if client.query_one(USED, &[]).await.map_err(failed)?.get(0) {
        return Err(postgres(
            "its tables hold something already: only empty ones are filled".into(),
        ));
    }
    let mut counts = [0; 4];
    for (table, count) in TABLES.iter().zip(&mut counts) {
        *count = source.count(table)?;
    }
    let (mut done, all) = (0, 2 * counts.iter().sum::<u64>());
    let mut step = |name: &str| {
        done += 1;
        if done % 1_000 == 0 || done == all {
            progress(name, done, all);
        }
    };
    for table in &TABLES {
        let written = copy(source, table, client, &mut step)
            .await
            .map_err(|error| match error {
                Failed::Source(error) => source.told()(error),
                Failed::Database(error) => failed(error),
            })?;
        let kept = read_back(table, client, &mut step).await.map_err(failed)?;
        if written != kept {
            return Err(MigrateError::Differs(table.name));
        }
    }
    let revision = i64::try_from(source.revision).unwrap_or(i64::MAX);
    client
        .execute(LANES, &[&revision, &source.now])
        .await
        .map_err(failed)?;
    let sql =
        "INSERT INTO tollgate_writers (id, number, seen) VALUES ('migrate-' || gen_random_uuid()::text, 1,
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint) RETURNING id";
    let mark: String = client.query_one(sql, &[]).await.map_err(failed)?.get(0);
    let warnings = session.warnings();
    if let Err(error) = client.batch_execute("COMMIT").await {
        let refused = error
            .as_db_error()
            .is_some_and(|error| !error.code().code().starts_with("57P"));
        if refused || !is_there(address, &mark).await? {
            return Err(failed(error));
        }
    }
    if session.warnings() != warnings {
        return Err(postgres(
            "the database warned at the commit: look into its log, and at what it holds".into(),
        ));
    }
    let [entries, topics, messages, idempotence] = counts;
    Ok(Moved {
        entries,
        topics,
        messages,
        idempotence,
        revision: source.revision,
    })
}

/// Whether the transaction that left this mark was committed, once it has ended.
async fn is_there(address: &Address, mark: &str) -> Result<bool, MigrateError> {
    let until = Instant::now() + RESOLVE;
    loop {
        let why = match tokio::time::timeout(RESOLVE, look_for(address, mark)).await {
            Ok(Ok(is_there)) => return Ok(is_there),
            Ok(Err(error)) => told(&error),
            Err(_) => "the database does not answer".into(),
        };
        if Instant::now() >= until {
            let shown = address.shown.clone();
            return Err(MigrateError::Unknown { shown, why });
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn look_for(address: &Address, mark: &str) -> Result<bool, tokio_postgres::Error> {
    let session = Session::open(address).await?;
    let client = &session.client;
    // It waits for the transaction, which has locked the table against everybody.
    client
        .batch_execute("BEGIN; LOCK TABLE tollgate_lanes IN ACCESS SHARE MODE")
        .await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM tollgate_writers WHERE id = $1)";
    let is_there = client.query_one(sql, &[&mark]).await?.get(0);
    client.batch_execute("ROLLBACK").await?;
    Ok(is_there)
}

enum Failed {
    Source(rusqlite::Error),
    Database(tokio_postgres::Error),
}

/// The rows of a table, so that two copies can be compared: how many, and a hash of all in order.
#[derive(PartialEq, Eq)]
struct Seen(u64, u128);

#[derive(Default)]
struct Look {
    rows: u64,
    hasher: SipHasher13,
}

impl Look {
    fn value(&mut self, value: Option<&[u8]>) {
        self.hasher
            .write_u64(value.map_or(u64::MAX, |bytes| bytes.len() as u64));
        self.hasher.write(value.unwrap_or_default());
    }

    fn number(&mut self, value: Option<i64>) {
        self.value(value.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }

    fn seen(&self) -> Seen {
        Seen(self.rows, self.hasher.finish128().as_u128())
    }
}

async fn copy(
    source: &Source,
    table: &Table,
    client: &Client,
    step: &mut impl FnMut(&str),
) -> Result<Seen, Failed> {
    let into = format!(
        "COPY {} ({}) FROM STDIN BINARY",
        table.of_postgres(),
        table.columns
    );
    let sink = client.copy_in(&into).await.map_err(Failed::Database)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, table.types));
    let select = match table.name {
        "topics" => TOPICS.to_owned(),
        name => table.rows(name),
    };
    let mut statement = source.connection.prepare(&select).map_err(Failed::Source)?;
    if statement.parameter_count() > 0 {
        statement
            .raw_bind_parameter(1, source.now)
            .map_err(Failed::Source)?;
    }
    let mut rows = statement.raw_query();
    let mut look = Look::default();
    while let Some(row) = rows.next().map_err(Failed::Source)? {
        look.rows += 1;
        let mut values: Vec<Box<dyn ToSql + Sync>> = Vec::with_capacity(table.types.len());
        for column in 0..table.types.len() {
            values.push(match row.get_ref(column).map_err(Failed::Source)? {
                ValueRef::Integer(number) => {
                    look.number(Some(number));
                    Box::new(number)
                }
                // No column of these tables holds fractions.
                ValueRef::Null | ValueRef::Real(_) => {
                    look.value(None);
                    Box::new(None::<i64>)
                }
                ValueRef::Text(bytes) => {
                    look.value(Some(bytes));
                    Box::new(String::from_utf8_lossy(bytes).into_owned())
                }
                ValueRef::Blob(bytes) => {
                    look.value(Some(bytes));
                    Box::new(bytes.to_vec())
                }
            });
        }
        let row: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
        writer.as_mut().write(&row).await.map_err(Failed::Database)?;
        step(table.name);
    }
    writer.finish().await.map_err(Failed::Database)?;
    Ok(look.seen())
}

async fn read_back(
    table: &Table,
    client: &Client,
    step: &mut impl FnMut(&str),
) -> Result<Seen, tokio_postgres::Error> {
    let none: [&(dyn ToSql + Sync); 0] = [];
    let back = table.rows(&table.of_postgres());
    let mut rows = pin!(client.query_raw(&back, none).await?);
    let mut look = Look::default();
    while let Some(row) = rows.try_next().await? {
        look.rows += 1;
        for (column, kind) in table.types.iter().enumerate() {
            match *kind {
                Type::INT8 => look.number(row.try_get(column)?),
                Type::TEXT => look.value(row.try_get::<_, Option<&str>>(column)?.map(str::as_bytes)),
                _ => look.value(row.try_get(column)?),
            }
        }
        step(table.name);
    }
    Ok(look.seen())
}
