//! A database for tests: Spin's interface on rusqlite.

#![allow(dead_code, reason = "each test binary uses its part")]

mod statement;

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::Retention;
use tollgate_store_sqlite::database::{Connection, Database, Each, Failure, Purpose, Value};
use tollgate_store_sqlite::store::SqliteStore;

pub struct Link(pub rusqlite::Connection);

impl Connection for Link {
    async fn execute(&self, sql: &str, parameters: Vec<Value>, each: Each<'_>) -> Result<(), Failure> {
        // Lets others in between, as a call to Spin does.
        tokio::task::yield_now().await;
        statement::execute(&self.0, sql, parameters, each)
    }

    fn execute_now(&self, sql: &str, parameters: Vec<Value>) -> Result<(), Failure> {
        statement::execute(&self.0, sql, parameters, &mut |_| Ok(true))
    }
}

pub struct Native {
    directory: TempDir,
    connections: RefCell<[Option<Rc<Link>>; 2]>,
    /// Nanoseconds since 1970; the wall clock until it is set.
    clock_ns: Cell<Option<u64>>,
}

impl Native {
    pub fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("sqlite_db.db")
    }

    pub fn set_now_ns(&self, now: u64) {
        self.clock_ns.set(Some(now));
    }

    /// As the end of an instance does.
    pub fn close(&self) {
        self.connections.take();
    }

    pub fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

impl Database for Native {
    type Connection = Link;

    async fn connection(&self, purpose: Purpose) -> Result<Rc<Link>, Failure> {
        if let Some(open) = self.opened(purpose) {
            return Ok(open);
        }
        let link = Link(self.raw());
        tollgate_store_sqlite::prepare(&link, purpose).await?;
        let link = Rc::new(link);
        self.connections.borrow_mut()[purpose as usize] = Some(Rc::clone(&link));
        Ok(link)
    }

    fn opened(&self, purpose: Purpose) -> Option<Rc<Link>> {
        self.connections.borrow()[purpose as usize].clone()
    }

    async fn pause(&self, ms: u64) {
        sleep(ms).await;
    }

    fn now_ns(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        self.clock_ns.get().unwrap_or(wall)
    }

    fn random(&self) -> u64 {
        self.now_ns() >> 3
    }
}

/// A store in a directory of its own.
pub struct Fixture {
    pub database: Rc<Native>,
    store: SqliteStore<Native>,
}

impl Fixture {
    pub fn new() -> Self {
        let native = Native {
            directory: TempDir::new().unwrap(),
            connections: RefCell::default(),
            clock_ns: Cell::new(None),
        };
        Self::on(Rc::new(native))
    }

    /// From now on the store's time stands still, except for [`Self::pass`]. It never runs backwards, so it
    /// is set to a day ahead of the machine's clock.
    pub async fn stop_clock(&self) {
        self.store.get("", &[]).await.unwrap(); // makes the tables
        self.set_now("CAST(unixepoch('subsec') * 1000 AS INTEGER) + 86400000");
    }

    /// Lets time pass, once the clock was stopped.
    pub fn pass(&self, ms: u64) {
        self.set_now(&format!("value + {ms}"));
    }

    fn set_now(&self, to: &str) {
        let sql = format!("UPDATE meta SET value = {to} WHERE name = 'now'");
        assert_eq!(self.database.raw().execute(&sql, []).unwrap(), 1);
    }

    pub fn on(database: Rc<Native>) -> Self {
        Self {
            store: SqliteStore::new(Rc::clone(&database)),
            database,
        }
    }
}

impl Deref for Fixture {
    type Target = SqliteStore<Native>;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

/// As the component does around each call.
impl Store for Fixture {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let outcome = self.store.commit(commit).await;
        self.store.work().await;
        if let Ok(Outcome::Committed(committed)) = &outcome {
            self.store.maintain(committed.version).await;
        }
        outcome
    }

    fn defer(&self, commit: Commit) {
        self.store.defer(commit);
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.store.settle().await
    }

    async fn get(&self, partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        self.store.get(partition, keys).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        self.store.read(topic, after, limit, wait).await
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

pub async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

pub fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(case);
}
