//! A real Redis for tests: Spin's interface on the crate `redis`.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};
use tollgate_contract::redis::Redis as Server;
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::Retention;
use tollgate_store_redis::database::{Database, Failure};
use tollgate_store_redis::reply::Reply;
use tollgate_store_redis::store::RedisStore;

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

/// One for all cases of the binary, if there is one to start.
pub fn server() -> Option<&'static Server> {
    SERVER.get_or_init(|| Server::start("")).as_ref()
}

fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some(code) => Failure::Redis {
            code: code.to_owned(),
            message: error.detail().unwrap_or_default().to_owned(),
        },
        None => Failure::lost(),
    }
}

/// As Spin flattens it.
fn flatten(value: redis::Value, replies: &mut Vec<Reply>) {
    match value {
        redis::Value::Nil => replies.push(Reply::Nil),
        redis::Value::Int(number) => replies.push(Reply::Integer(number)),
        redis::Value::BulkString(bytes) => replies.push(Reply::Bytes(bytes)),
        redis::Value::SimpleString(text) => replies.push(Reply::Status(text)),
        redis::Value::Okay => replies.push(Reply::Status("OK".into())),
        redis::Value::Array(values) => values.into_iter().for_each(|value| flatten(value, replies)),
        other => panic!("no script of ours answers {other:?}"),
    }
}

/// A database of its own, and a connection as an instance keeps it.
pub struct Native {
    server: &'static Server,
    pub number: u32,
    kept: RefCell<Option<MultiplexedConnection>>,
    clock_ns: Cell<Option<u64>>,
}

impl Native {
    pub fn new(server: &'static Server, number: u32) -> Self {
        Self {
            server,
            number,
            kept: RefCell::default(),
            clock_ns: Cell::default(),
        }
    }

    pub fn ask(&self, command: &[&str]) -> String {
        self.server.ask(self.number, command)
    }

    pub fn set_clock_ns(&self, now: u64) {
        self.clock_ns.set(Some(now));
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Failure> {
        let kept = self.kept.borrow().clone();
        match kept {
            Some(kept) => Ok(kept),
            None => {
                let client = redis::Client::open(self.server.url(self.number)).unwrap();
                let config = AsyncConnectionConfig::new().set_response_timeout(None);
                let opened = client.get_multiplexed_async_connection_with_config(&config).await;
                let opened = opened.map_err(|error| Failure::NotConnected(error.to_string()))?;
                Ok(self.kept.borrow_mut().get_or_insert(opened).clone())
            }
        }
    }
}

impl Database for Native {
    async fn execute(&self, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Reply>, Failure> {
        let mut connection = self.connection().await?;
        let mut asked = redis::cmd(command);
        for argument in arguments {
            asked.arg(&**argument);
        }
        match asked.query_async::<redis::Value>(&mut connection).await {
            Ok(value) => {
                let mut replies = Vec::new();
                flatten(value, &mut replies);
                Ok(replies)
            }
            Err(error) => {
                let failure = failure(&error);
                if matches!(failure, Failure::Lost(_)) {
                    self.kept.take();
                }
                Err(failure)
            }
        }
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn bucket_clock(&self) -> Option<u64> {
        self.clock_ns.get()
    }
}

/// A store in a database of its own.
pub struct Fixture {
    pub database: Rc<Native>,
    store: RedisStore<Native>,
}

impl Fixture {
    pub fn new() -> Self {
        let server = server().unwrap();
        Self::at(server, server.fresh())
    }

    /// Another instance on the same database.
    pub fn at(server: &'static Server, number: u32) -> Self {
        let database = Rc::new(Native::new(server, number));
        Self {
            store: RedisStore::new(Rc::clone(&database)),
            database,
        }
    }

    /// From now on the store's time stands still, except for [`Self::pass`]: a day ahead of the machine's clock.
    pub fn stop_clock(&self) -> u64 {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let ahead = u64::try_from(since.as_millis()).unwrap() + 86_400_000;
        self.database.ask(&[
            "HSET",
            "{tollgate}:meta",
            "schema",
            "1",
            "revision",
            "0",
            "now",
            &ahead.to_string(),
            "sizes",
            "0 0 0 0 0 0 0 0",
        ]);
        ahead
    }

    pub fn pass(&self, ms: u64) {
        self.database
            .ask(&["HINCRBY", "{tollgate}:meta", "now", &ms.to_string()]);
    }
}

impl Deref for Fixture {
    type Target = RedisStore<Native>;

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

/// Runs a case, where there is a Redis.
pub fn run(case: impl Future<Output = ()>) {
    if server().is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(case);
    }
}
