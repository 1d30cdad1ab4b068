//! Reads, over connections of their own. Each is one statement, which sees one state of the database.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::try_join_all;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, Error, Row, Statement};
use tollgate_store::commit::{Item, Message, StoreError, Topic};
use tollgate_store::plan;
use tollgate_store::plan::group::Found;
use tollgate_store::plan::page::{self, Page};

use super::connect::{Address, Session, told};
use super::flight::entry;

/// The rows of a page that are fetched at once: expired ones may be among them.
const SPARE: u32 = 64;
/// How long a read may take before its connection counts as lost: what swallows it may tell nobody.
const READ: Duration = Duration::from_secs(5);

/// A connection for reads.
pub struct Reader {
    session: Session,
    get: Statement,
    scan: Statement,
    scan_to_end: Statement,
    read: Statement,
    topics: Statement,
    given_up: AtomicBool,
}

impl Reader {
    /// Opens one.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let session = Session::open(address).await?;
        session
            .client
            .batch_execute("SET statement_timeout = '10s'")
            .await?;
        let all = [
            "SELECT key, value, version, expires FROM tollgate_entries WHERE key = ANY($1)",
            "SELECT key, value, version, expires FROM tollgate_entries
             WHERE key >= $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4",
            "SELECT key, value, version, expires FROM tollgate_entries
             WHERE key >= $1 AND key > $2 ORDER BY key LIMIT $3",
            "SELECT sequence, id, key, type, content_type, time, attributes, payload FROM tollgate_messages
             WHERE topic = $1 AND sequence > greatest($2, coalesce((SELECT convert_from(value, 'UTF8')::bigint
               FROM tollgate_entries WHERE key = 'topic-deleted/' || $1::text), 0)) ORDER BY sequence LIMIT $3",
            "SELECT t.name, t.last, f.sequence, f.time, l.time, CASE WHEN t.last <= d.gone THEN 0 ELSE t.bytes END
             FROM (SELECT name, last, bytes FROM tollgate_topics WHERE name > $1 AND last > 0 ORDER BY name LIMIT $2) t
             LEFT JOIN LATERAL (SELECT convert_from(value, 'UTF8')::bigint AS gone FROM tollgate_entries
               WHERE key = 'topic-deleted/' || t.name) d ON true
             LEFT JOIN LATERAL (SELECT sequence, time FROM tollgate_messages m
               WHERE m.topic = t.name AND m.sequence > coalesce(d.gone, 0) ORDER BY sequence LIMIT 1) f ON true
             LEFT JOIN LATERAL (SELECT time FROM tollgate_messages m
               WHERE m.topic = t.name AND m.sequence > coalesce(d.gone, 0) ORDER BY sequence DESC LIMIT 1) l ON true
             ORDER BY t.name",
        ];
        let client = &session.client;
        let mut all = try_join_all(all.map(|sql| client.prepare(sql)))
            .await?
            .into_iter();
        let mut next = || all.next().expect("one for each statement above");
        let (get, scan, scan_to_end, read, topics) = (next(), next(), next(), next(), next());
        Ok(Self {
            session,
            get,
            scan,
            scan_to_end,
            read,
            topics,
            given_up: AtomicBool::new(false),
        })
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    /// Whether it can be used.
    pub fn is_closed(&self) -> bool {
        self.given_up.load(Ordering::Acquire) || self.client().is_closed()
    }

    /// What waits for its answers is told at once.
    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.session.end();
    }

    /// The entries of keys, in their order, expired ones too.
    pub async fn get(&self, keys: &[String]) -> Result<Vec<Found>, Error> {
        let rows = self.client().query(&self.get, &[&keys]).await?;
        let found: hashbrown::HashMap<String, Found> = rows
            .iter()
            .map(|row| (row.get(0), Some(Arc::new(entry(row, 1)))))
            .collect();
        // A key may be asked for twice.
        Ok(keys
            .iter()
            .map(|key| found.get(key.as_str()).cloned().flatten())
            .collect())
    }

    /// See `Store::scan`.
    pub async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: u64,
    ) -> Result<Vec<Item>, Error> {
        let mut page = Page::new(limit);
        let rows_at_once = i64::from(page::limit(limit) + SPARE);
        let end = plan::page::prefix_end(prefix);
        // No key is empty.
        let mut after = after.unwrap_or("").to_owned();
        loop {
            let rows = match &end {
                Some(end) => {
                    self.client()
                        .query(&self.scan, &[&prefix, &after, end, &rows_at_once])
                        .await?
                }
                None => {
                    self.client()
                        .query(&self.scan_to_end, &[&prefix, &after, &rows_at_once])
                        .await?
                }
            };
            for row in &rows {
                let item = Item {
                    key: row.get(0),
                    entry: entry(row, 1),
                };
                let bytes = page::item_bytes(&item);
                if plan::is_live(&item.entry, now) && !page.push(item, bytes) {
                    return Ok(page.into_items());
                }
            }
            match rows.last() {
                Some(last) if rows.len() as i64 == rows_at_once => after = last.get(0),
                _ => return Ok(page.into_items()),
            }
        }
    }

    /// See `Store::read`, without a wait.
    pub async fn read(&self, topic: &str, after: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self
            .client()
            .query(&self.read, &[&topic, &after, &i64::from(page::limit(limit))])
            .await?;
        let mut page = Page::new(limit);
        for row in &rows {
            let message = message(topic, row);
            let bytes = page::message_bytes(&message);
            if !page.push(message, bytes) {
                break;
            }
        }
        Ok(page.into_items())
    }

    /// See `Store::topics`.
    pub async fn topics(&self, after: Option<&str>, limit: u32) -> Result<Vec<Topic>, Error> {
        let limit = i64::from(page::limit(limit));
        let rows = self
            .client()
            .query(&self.topics, &[&after.unwrap_or(""), &limit])
            .await?;
        let optional = |row: &Row, column| row.get::<_, Option<i64>>(column).map(unsigned);
        Ok(rows
            .iter()
            .map(|row| {
                let last = unsigned(row.get(1));
                Topic {
                    name: row.get(0),
                    first: optional(row, 2).unwrap_or(last + 1),
                    last,
                    first_time: optional(row, 3),
                    last_time: optional(row, 4),
                    bytes: unsigned(row.get(5)),
                }
            })
            .collect())
    }
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn message(topic: &str, row: &Row) -> Message {
    Message {
        topic: topic.to_owned(),
        sequence: unsigned(row.get(0)),
        id: row.get(1),
        key: row.get(2),
        kind: row.get(3),
        content_type: row.get(4),
        time: unsigned(row.get(5)),
        attributes: row.get(6),
        payload: row.get(7),
    }
}

/// The connections for reads, used by turns.
#[derive(Default)]
pub struct Readers {
    places: Vec<Mutex<Option<Arc<Reader>>>>,
    turn: AtomicUsize,
}

impl Readers {
    /// So many places, all empty.
    pub fn new(places: usize) -> Self {
        Self {
            places: (0..places.max(1)).map(|_| Mutex::default()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks over one of them, and over another where a connection was lost meanwhile: a read may be repeated.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: none of them answers.
    pub async fn ask<T, F>(&self, question: impl Fn(Arc<Reader>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            let reader = self.one()?;
            match tokio::time::timeout(READ, question(Arc::clone(&reader))).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => {
                    let stopped = error.code().is_some_and(|code| code.code().starts_with("57P"));
                    if !(stopped || error.is_closed() || reader.is_closed()) {
                        return Err(StoreError::Unavailable(told(&error)));
                    }
                    // So each is tried once, and filled again by who looks after them.
                    reader.give_up();
                }
                // Nor does it tell what others ask over it.
                Err(_) => reader.give_up(),
            }
        }
    }

    /// One that can be used.
    fn one(&self) -> Result<Arc<Reader>, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..self.places.len() {
            let place = &self.places[(turn.wrapping_add(step)) % self.places.len()];
            let found = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(reader) = found.filter(|reader| !reader.is_closed()) {
                return Ok(reader);
            }
        }
        Err(StoreError::Unavailable("the database does not answer".into()))
    }

    /// Gives all of them up: another connection fell silent, and what swallowed its answers may swallow theirs.
    pub fn give_up(&self) {
        for place in &self.places {
            if let Some(reader) = &*place.lock().unwrap_or_else(PoisonError::into_inner) {
                reader.give_up();
            }
        }
    }

    /// Fills the places that are empty or closed.
    pub async fn fill(&self, address: &Address) -> Result<(), Error> {
        for place in &self.places {
            let is_good = {
                let found = place.lock().unwrap_or_else(PoisonError::into_inner);
                found.as_ref().is_some_and(|reader| !reader.is_closed())
            };
            if !is_good {
                let reader = Arc::new(Reader::open(address).await?);
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
            }
        }
        Ok(())
    }
}
