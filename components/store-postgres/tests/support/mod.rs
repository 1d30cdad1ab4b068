//! A real Postgres for tests: Spin's interface on `tokio-postgres`.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{Client, NoTls};
use tollgate_contract::postgres::Postgres as Server;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::Retention;
use tollgate_store_postgres::database::{Database, Failure, Row, Value};
use tollgate_store_postgres::store::PostgresStore;

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

/// One for all cases of the binary, if there are binaries of Postgres.
pub fn server() -> Option<&'static Server> {
    SERVER.get_or_init(|| Server::start("")).as_ref()
}

/// A parameter as `spin:postgres` sends it.
#[derive(Debug)]
struct Parameter(Value);

impl ToSql for Parameter {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(number) => number.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
            Value::Bytes(bytes) => bytes.to_sql(kind, out),
            Value::Texts(texts) => texts.to_sql(kind, out),
            Value::Integers(numbers) => numbers.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        // As Spin: no other type is converted to.
        [
            Type::INT8,
            Type::TEXT,
            Type::BYTEA,
            Type::TEXT_ARRAY,
            Type::INT8_ARRAY,
        ]
        .contains(kind)
    }

    to_sql_checked!();
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(error) => Failure::of_database(error.code().code().to_owned(), error.message().to_owned()),
        None if error.is_closed() => Failure::Lost(error.to_string()),
        None => panic!("a statement is not what it should be: {error:?}"),
    }
}

fn row(row: &tokio_postgres::Row) -> Row {
    let value = |index: usize| match *row.columns()[index].type_() {
        Type::INT8 => row
            .get::<_, Option<i64>>(index)
            .map_or(Value::Null, Value::Integer),
        Type::TEXT => row
            .get::<_, Option<String>>(index)
            .map_or(Value::Null, Value::Text),
        Type::BYTEA => row
            .get::<_, Option<Vec<u8>>>(index)
            .map_or(Value::Null, Value::Bytes),
        Type::INT8_ARRAY => row
            .get::<_, Option<Vec<i64>>>(index)
            .map_or(Value::Null, Value::Integers),
        ref other => panic!("no column of ours is a {other}"),
    };
    Row((0..row.len()).map(value).collect())
}

async fn ask(client: &Client, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Failure> {
    let parameters: Vec<Parameter> = values.into_iter().map(Parameter).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|one| one as _).collect();
    let rows = client.query(sql, &parameters).await;
    Ok(rows.map_err(|error| failure(&error))?.iter().map(row).collect())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { _ = connection.await });
    client
}

/// A schema of its own, and a connection as an instance keeps it.
pub struct Native {
    url: String,
    kept: RefCell<Option<Rc<Client>>>,
    clock_ns: Cell<Option<u64>>,
    turn: Cell<u64>,
}

impl Native {
    pub fn new(url: String) -> Self {
        Self {
            url,
            kept: RefCell::default(),
            clock_ns: Cell::default(),
            turn: Cell::new(1),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn set_clock_ns(&self, now: u64) {
        self.clock_ns.set(Some(now));
    }

    async fn client(&self) -> Rc<Client> {
        let kept = self.kept.borrow().clone();
        match kept {
            Some(kept) => kept,
            None => {
                let client = Rc::new(connect(&self.url).await);
                Rc::clone(self.kept.borrow_mut().get_or_insert(client))
            }
        }
    }
}

impl Database for Native {
    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, Failure> {
        let client = self.client().await;
        let done = ask(&client, sql, parameters).await;
        if matches!(done, Err(Failure::Lost(_))) {
            self.kept.take();
        }
        done
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn bucket_clock(&self) -> Option<u64> {
        self.clock_ns.get()
    }

    fn random(&self) -> u64 {
        // An order that is no order.
        self.turn.set(
            self.turn
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        );
        self.turn.get() >> 33
    }
}

/// A store in a schema of its own.
pub struct Fixture {
    pub database: Rc<Native>,
    store: PostgresStore<Native>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::at(server().unwrap().fresh())
    }

    /// Another instance on the same schema.
    pub fn at(url: String) -> Self {
        let database = Rc::new(Native::new(url));
        Self {
            store: PostgresStore::new(Rc::clone(&database)),
            database,
        }
    }

    pub async fn sql(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    /// From now on the store's time stands still, except for [`Self::pass`]: a day ahead of the machine's clock.
    pub async fn stop_clock(&self) {
        self.store.get("", &["makes the tables".into()]).await.unwrap();
        self.sql("UPDATE tollgate_lanes SET now = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 86400000")
            .await;
    }

    pub async fn pass(&self, ms: u64) {
        self.sql(&format!(
            "UPDATE tollgate_lanes SET now = (SELECT max(now) FROM tollgate_lanes) + {ms}"
        ))
        .await;
    }
}

impl Deref for Fixture {
    type Target = PostgresStore<Native>;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

/// As the component does around each call.
impl Store for Fixture {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let outcome = self.store.commit(commit).await;
        self.store.work().await;
        outcome
    }

    fn defer(&self, commit: Commit) {
        self.store.defer(commit);
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.store.settle().await
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let found = self.store.get(partition, keys).await;
        self.store.work().await;
        found
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        Store::read(&self.store, topic, after, limit, wait).await
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        self.store.topics(after, limit).await
    }
}

impl Upkeep for Fixture {
    async fn expire(&self) -> Result<bool, StoreError> {
        self.store.expire().await
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        self.store.trim(topic, retention, needed).await
    }
}

fn run_alone<T>(case: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(case)
}

/// Runs a case, where there is a Postgres.
pub fn run(case: impl Future<Output = ()>) {
    if server().is_some() {
        run_alone(case);
    }
}
