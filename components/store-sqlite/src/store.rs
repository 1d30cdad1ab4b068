//! The store: `ports::Store` in SQL.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tollgate_store::commit::{Commit, Entry, Item, MAX_WAIT_MS, Message, Outcome, StoreError, Topic};
use tollgate_store::encoded::encode;
use tollgate_store::plan;
use tollgate_store::plan::page::{self, Page};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::Retention;

use crate::database::{Connection as _, Database, Failure, Purpose, Row, Value, run};
use crate::{maintain, open, sql, verdict};

/// The most deferred commits that wait for a database which is busy or not open yet. Beyond it they are lost.
const MAX_SUBMITTED: usize = 1_024;
/// How long other instances are given to defer clicks that they are about to defer, milliseconds. It is
/// many times what that takes, but Spin guarantees no bound.
const SETTLE_MS: u64 = 500;
/// The first and the longest pause of a `read` that waits, milliseconds. Other instances write too, so there is
/// nothing to be woken by.
const POLL_MS: (u64, u64) = (50, 250);

/// Keys and topics in the database: the port `Store` in SQL.
pub struct SqliteStore<D> {
    database: Rc<D>,
    deferred: RefCell<VecDeque<Vec<Value>>>,
}

impl<D: Database> SqliteStore<D> {
    /// A store on the database.
    pub fn new(database: Rc<D>) -> Self {
        Self {
            database,
            deferred: RefCell::default(),
        }
    }

    /// Whether there is work that a call should leave to [`SqliteStore::work`].
    pub fn has_work(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    /// Carries out deferred commits that could not be done at once.
    pub async fn work(&self) {
        loop {
            // Not in the loop's condition: the borrow must not live across the await.
            let next = self.deferred.borrow_mut().pop_front();
            let Some(parameters) = next else { return };
            // Nobody waits for the outcome.
            let _ = run(
                &*self.database,
                Purpose::Relaxed,
                sql::COMMIT,
                parameters,
                &mut |_| Ok(true),
            )
            .await;
        }
    }

    /// Whether it is this commit's turn to [`SqliteStore::maintain`].
    pub fn is_due(&self, version: u64) -> bool {
        maintain::is_due(version)
    }

    /// Removes what has expired, or copies the log into the database, as it is the turn of the commit with this version.
    pub async fn maintain(&self, version: u64) {
        maintain::after_commit(&*self.database, version).await;
    }

    async fn query(
        &self,
        sql: &str,
        parameters: Vec<Value>,
        mut each: impl FnMut(Row) -> Result<bool, Failure>,
    ) -> Result<(), StoreError> {
        run(&*self.database, Purpose::Durable, sql, parameters, &mut each)
            .await
            .map_err(unavailable)
    }

    async fn messages(&self, topic: &str, after: u64, limit: u32) -> Result<Vec<Message>, StoreError> {
        let mut page = Page::new(limit);
        let parameters = vec![topic.into(), after.into(), page::limit(limit).into()];
        self.query(sql::READ, parameters, |row| {
            let message = message(topic, row)?;
            let bytes = page::message_bytes(&message);
            Ok(page.push(message, bytes))
        })
        .await?;
        Ok(page.into_items())
    }
}

/// Those of [`sql::COMMIT`].
fn parameters(commit: &Commit) -> Vec<Value> {
    let (body, bytes) = encode(commit);
    vec![Value::Text(body), Value::Blob(bytes)]
}

fn entry(row: &mut Row, from: usize) -> Result<Entry, Failure> {
    Ok(Entry {
        value: row.bytes(from)?,
        version: row.number(from + 1)?,
        expires: row.optional_number(from + 2)?,
    })
}

fn message(topic: &str, mut row: Row) -> Result<Message, Failure> {
    Ok(Message {
        topic: topic.to_owned(),
        sequence: row.number(0)?,
        id: row.text(1)?,
        key: row.text(2)?,
        kind: row.text(3)?,
        content_type: row.text(4)?,
        time: row.number(5)?,
        attributes: row.bytes(6)?,
        payload: row.bytes(7)?,
    })
}

fn topic(mut row: Row) -> Result<Topic, Failure> {
    let last = row.number(1)?;
    Ok(Topic {
        name: row.text(0)?,
        first: row.optional_number(2)?.unwrap_or(last + 1),
        last,
        first_time: row.optional_number(3)?,
        last_time: row.optional_number(4)?,
        bytes: row.number(5)?,
    })
}

impl<D: Database> Store for SqliteStore<D> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        plan::validate(&commit)?;
        let mut answer = None;
        let mut keep = |row| {
            answer = Some(verdict::committed(row)?);
            Ok(true)
        };
        let parameters = parameters(&commit);
        match run(
            &*self.database,
            Purpose::Durable,
            sql::COMMIT,
            parameters,
            &mut keep,
        )
        .await
        {
            Ok(()) => answer
                .map(Outcome::Committed)
                .ok_or_else(|| StoreError::Unavailable(open::IN_USE.to_owned())),
            Err(failure) => verdict::failed(failure),
        }
    }

    /// Done at once, without waiting for the disk, and so without anything else of this instance running
    /// meanwhile. The call may not wait, and an instance that is not called again would never carry out what
    /// it keeps. Only where the database is busy (or not open yet) it is left to the next call.
    fn defer(&self, commit: Commit) {
        if plan::measure_deferred(&commit).is_err() {
            return;
        }
        let parameters = parameters(&commit);
        let tried = match self.database.opened(Purpose::Relaxed) {
            Some(connection) => connection.execute_now(sql::COMMIT, parameters.clone()),
            None => Err(Failure::Busy(String::new())),
        };
        let mut waiting = self.deferred.borrow_mut();
        if matches!(tried, Err(Failure::Busy(_))) && waiting.len() < MAX_SUBMITTED {
            waiting.push_back(parameters);
        }
    }

    /// Carries out the deferred commits that this instance keeps. Other instances cannot be asked: they are
    /// given [`SETTLE_MS`], in which an instance that has read a link defers its click.
    async fn settle(&self) -> Result<(), StoreError> {
        self.work().await;
        self.database.pause(SETTLE_MS).await;
        Ok(())
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        // For `defer`, which cannot open it and mostly follows a `get`. Without it, what is deferred waits.
        let _ = self.database.connection(Purpose::Relaxed).await;
        let mut entries = vec![None; keys.len()];
        let parameters = vec![serde_json::Value::from(keys).to_string().into()];
        self.query(sql::GET, parameters, |mut row| {
            let index = row.number(0)? as usize;
            let found = entry(&mut row, 1)?;
            if let Some(slot) = entries.get_mut(index) {
                *slot = Some(found);
            }
            Ok(true)
        })
        .await?;
        Ok(entries)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let start = match after {
            // No key holds a NUL: nothing lies between a key and itself followed by U+0001.
            Some(after) if after >= prefix => format!("{after}\u{1}"),
            _ => prefix.to_owned(),
        };
        let end = page::prefix_end(prefix).map_or(Value::Null, Value::Text);
        let mut page = Page::new(limit);
        let parameters = vec![start.into(), end, page::limit(limit).into()];
        self.query(sql::SCAN, parameters, |mut row| {
            let item = Item {
                key: row.text(0)?,
                entry: entry(&mut row, 1)?,
            };
            let bytes = page::item_bytes(&item);
            Ok(page.push(item, bytes))
        })
        .await?;
        Ok(page.into_items())
    }

    async fn read(&self, topic: &str, after: u64, limit: u32, wait: u32) -> Result<Vec<Message>, StoreError> {
        let mut left = u64::from(wait.min(MAX_WAIT_MS));
        let mut pause = POLL_MS.0;
        loop {
            let messages = self.messages(topic, after, limit).await?;
            if !messages.is_empty() || left == 0 {
                return Ok(messages);
            }
            let ms = pause.min(left);
            self.database.pause(ms).await;
            left -= ms;
            pause = (pause + POLL_MS.0).min(POLL_MS.1);
        }
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, StoreError> {
        let mut topics = Vec::new();
        // A topic's name is never empty: all come after the empty text.
        let parameters = vec![after.unwrap_or("").into(), page::limit(limit).into()];
        self.query(sql::TOPICS, parameters, |row| {
            topics.push(topic(row)?);
            Ok(true)
        })
        .await?;
        Ok(topics)
    }
}

impl<D: Database> Upkeep for SqliteStore<D> {
    async fn expire(&self) -> Result<bool, StoreError> {
        let expired = maintain::expire(&*self.database).await;
        let forgotten = maintain::forget(&*self.database).await;
        Ok(expired.map_err(unavailable)? | forgotten.map_err(unavailable)?)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        maintain::trim(&*self.database, topic, retention, needed)
            .await
            .map_err(unavailable)
    }
}

/// A removal that may have been done may be done again.
fn unavailable(failure: Failure) -> StoreError {
    StoreError::Unavailable(failure.into_message())
}
