//! `spin:redis` behind the component's own trait. An instance keeps one connection, which all of its calls share: Redis answers them in
//! their order. One that was lost never connects again, so it is dropped. What a client may see of an error is one line without the address.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::database::{Database, Failure};
use crate::reply::Reply;

/// The Spin variable with Redis' URL.
const VARIABLE: &str = "tollgate_redis";
/// How long an instance waits for a connection: Spin itself waits for ever while as many are open as may be.
const OPEN: Duration = Duration::from_secs(5);
/// How long a command may take before its connection counts as lost.
const COMMAND: Duration = Duration::from_secs(10);

/// An instance says at most once in this time why the store fails.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The connection of this instance.
#[derive(Default)]
pub struct Spin {
    kept: RefCell<Option<Rc<Connection>>>,
    said_at: Cell<Option<Instant>>,
}

impl Spin {
    async fn connection(&self) -> Result<Rc<Connection>, Failure> {
        if let Some(kept) = self.kept.borrow().clone() {
            return Ok(kept);
        }
        let url = spin_sdk::variables::get(VARIABLE).await.unwrap_or_default();
        if url.is_empty() {
            return Err(Failure::NotConnected(format!(
                "the Spin variable {VARIABLE} is not set"
            )));
        }
        let opened = within(OPEN, Connection::open(url)).await;
        let opened =
            opened.ok_or_else(|| Failure::NotConnected("Redis did not answer in time".to_owned()))?;
        let opened = Rc::new(opened.map_err(|error| not_connected(&error))?);
        // Two tasks may have come here at once: the first one's is kept.
        Ok(Rc::clone(self.kept.borrow_mut().get_or_insert(opened)))
    }

    /// Into the component's log, and onto the terminal of `spin up`: callers are told nothing but that the store fails.
    fn say(&self, failure: &Failure) {
        if self.said_at.get().is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            self.said_at.set(Some(Instant::now()));
            eprintln!("WARNING: the store fails: {}", failure.clone().into_message());
        }
    }

    fn forget(&self, lost: &Rc<Connection>) {
        let mut kept = self.kept.borrow_mut();
        if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, lost)) {
            *kept = None;
        }
    }
}

/// Spin's text may have the address in it.
fn not_connected(error: &Error) -> Failure {
    Failure::NotConnected(
        match error {
            Error::InvalidAddress => {
                "tollgate_redis is no address of a Redis, or one that Spin does not allow: see tollgate_redis_host in spin.toml"
            }
            Error::TooManyConnections => "too many connections to Redis are open",
            Error::Other(text) if text.contains("uthentication") => {
                "Redis refuses the user or the password of tollgate_redis"
            }
            Error::TypeError | Error::Other(_) => "Redis cannot be reached",
        }
        .to_owned(),
    )
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

fn reply(result: RedisResult) -> Reply {
    match result {
        RedisResult::Nil => Reply::Nil,
        RedisResult::Status(text) => Reply::Status(text),
        RedisResult::Int64(number) => Reply::Integer(number),
        RedisResult::Binary(bytes) => Reply::Bytes(bytes),
    }
}

impl Database for Spin {
    async fn execute(&self, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Reply>, Failure> {
        let connection = self.connection().await.inspect_err(|failure| self.say(failure))?;
        let parameters = arguments.iter().cloned().map(RedisParameter::Binary);
        let failure = match within(COMMAND, connection.execute(command, parameters)).await {
            Some(Ok(results)) => return Ok(results.into_iter().map(reply).collect()),
            Some(Err(Error::Other(text))) => Failure::of_text(&text),
            Some(Err(Error::TypeError)) => crate::reply::unexpected(),
            Some(Err(Error::InvalidAddress | Error::TooManyConnections)) => Failure::lost(),
            None => Failure::Lost("Redis did not answer in time".to_owned()),
        };
        if failure.is_elsewhere() {
            self.forget(&connection);
        }
        if !failure.lacks_script() {
            self.say(&failure);
        }
        Err(failure)
    }

    async fn pause(&self, ms: u64) {
        spin_sdk::time::sleep(Duration::from_millis(ms)).await;
    }

    fn bucket_clock(&self) -> Option<u64> {
        None
    }
}
