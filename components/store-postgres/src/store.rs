//! The store: the ports `Store` and `Upkeep` in SQL.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use tollgate_store::commit::{
    Commit, Committed, Entry, Item, MAX_WAIT_MS, Message, Outcome, Refusal, StoreError, Topic,
};
use tollgate_store::encoded::encode;
use tollgate_store::lane;
use tollgate_store::plan;
use tollgate_store::plan::page::{self, Page};
use tollgate_store::ports::{Store, Upkeep};
use tollgate_store::retention::{Cut, Retention};

use crate::database::{Again, Database, Failure, Row, Value, run};
use crate::sql;

/// The most deferred commits that wait. Beyond it they are lost.
const MAX_DEFERRED: usize = 1_024;
/// How long other instances are given to defer clicks that they are about to defer, milliseconds.
const SETTLE_MS: u64 = 500;
/// The first and the longest pause of a `read` that waits, milliseconds.
const POLL_MS: (u64, u64) = (50, 250);
/// One commit in this many removes what has expired.
const EXPIRE_EVERY: u64 = 512;
/// The most rows of a kind that one step of the upkeep removes.
const STEP_ROWS: u32 = 1_000;

/// Keys and topics in the database.
pub struct PostgresStore<D> {
    database: Rc<D>,
    deferred: RefCell<VecDeque<Vec<Value>>>,
}

impl<D: Database> PostgresStore<D> {
    /// A store on the database.
    pub fn new(database: Rc<D>) -> Self {
        Self {
            database,
            deferred: RefCell::default(),
        }
    }

    /// Whether there is work that a call should leave to [`PostgresStore::work`].
    pub fn has_work(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    /// Carries out deferred commits.
    pub async fn work(&self) {
        loop {
            // Not in the loop's condition: the borrow must not live across the await.
            let next = self.deferred.borrow_mut().pop_front();
            let Some(parameters) = next else { return };
            // Nobody waits for the outcome.
            let done = run(&*self.database, Again::NotDone, sql::COMMIT, parameters.clone()).await;
            if matches!(done, Err(Failure::NotConnected(_))) {
                // The next call may find a connection.
                return self.deferred.borrow_mut().push_front(parameters);
            }
        }
    }

    /// Whether it is the turn of the commit with this version to remove what has expired.
    pub fn is_due(version: u64) -> bool {
        // Versions of a lane are some apart: any of them may be due.
        (version / 16).is_multiple_of(EXPIRE_EVERY)
    }

    /// One that reads, or may be done twice.
    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        run(&*self.database, Again::Harmless, sql, parameters)
            .await
            .map_err(Failure::unavailable)
    }

    /// Removes messages of a topic that was deleted, up to a bound; whether there may be more.
    async fn forget(&self) -> Result<bool, StoreError> {
        let found = self.query(&sql::deleted(), vec![STEP_ROWS.into()]).await?;
        let Some(mut row) = found.into_iter().next() else {
            return Ok(false);
        };
        let found = row.text(0).and_then(|topic| Ok((topic, row.number(1)?)));
        let (topic, through) = found.map_err(Failure::unavailable)?;
        self.query(&sql::trim(), vec![topic.as_str().into(), through.into()])
            .await?;
        Ok(true)
    }

    async fn messages(&self, topic: &str, after: u64, limit: u32) -> Result<Vec<Message>, StoreError> {
        let mut page = Page::new(limit);
        let parameters = vec![topic.into(), after.into(), page::limit(limit).into()];
        for row in self.query(&sql::read(), parameters).await? {
            let message = message(topic, row).map_err(Failure::unavailable)?;
            let bytes = page::message_bytes(&message);
            if !page.push(message, bytes) {
                break;
            }
        }
        Ok(page.into_items())
    }
}

/// Those of [`sql::COMMIT`].
fn parameters(commit: &Commit, is_deferred: bool) -> Vec<Value> {
    let hash = lane::hash(&commit.partition).to_string();
    let (body, bytes) = encode(commit);
    vec![
        Value::Text(hash),
        Value::Text(body),
        Value::Bytes(bytes),
        u32::from(is_deferred).into(),
    ]
}

/// What the function says of a commit.
fn outcome(mut row: Row) -> Result<Result<Outcome, StoreError>, Failure> {
    let Some(verdict) = row.optional_text(0)? else {
        let sequences = row.integers(5)?.into_iter();
        return Ok(Ok(Outcome::Committed(Committed {
            version: row.number(2)?,
            time: row.number(3)?,
            sums: row.integers(4)?,
            sequences: sequences.map(|n| u64::try_from(n).unwrap_or(0)).collect(),
        })));
    };
    let unknown = || Failure::Unexpected(format!("the database decided {verdict:?}"));
    let index = |text: &str| text.parse::<u32>().map_err(|_| unknown());
    Ok(match verdict.rsplit_once(':') {
        None if verdict == "replayed" => Ok(Outcome::Replayed(row.bytes(1)?)),
        None if verdict == "conflict" => Ok(Outcome::Conflict),
        Some(("refused:condition", at)) => Ok(Outcome::Refused(Refusal::Condition(index(at)?))),
        Some(("refused:mutation", at)) => Ok(Outcome::Refused(Refusal::Mutation(index(at)?))),
        Some(("invalid:counter", at)) => Err(StoreError::Invalid(format!(
            "mutation {at} adds to an entry that is not a counter"
        ))),
        _ => return Err(unknown()),
    })
}

fn entry(row: &mut Row, from: usize) -> Result<Entry, Failure> {
    Ok(Entry {
        value: row.bytes(from)?,
        version: row.number(from + 1)?,
        expires: row.optional_number(from + 2)?,
    })
}

fn item(mut row: Row) -> Result<Item, Failure> {
    Ok(Item {
        key: row.text(0)?,
        entry: entry(&mut row, 1)?,
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

impl<D: Database> Store for PostgresStore<D> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        plan::validate(&commit)?;
        let done = run(
            &*self.database,
            Again::NotDone,
            sql::COMMIT,
            parameters(&commit, false),
        );
        match done.await {
            Ok(rows) => match rows.into_iter().next().map(outcome) {
                Some(Ok(decided)) => decided,
                Some(Err(failure)) => Err(StoreError::Unknown(failure.into_message())),
                None => Err(StoreError::Unknown("the database answered nothing".to_owned())),
            },
            Err(failure @ (Failure::Lost(_) | Failure::Unexpected(_))) => {
                Err(StoreError::Unknown(failure.into_message()))
            }
            Err(failure) => Err(failure.unavailable()),
        }
    }

    /// Done by [`PostgresStore::work`], which the call leaves behind: nobody waits for it, and it takes no second connection.
    fn defer(&self, commit: Commit) {
        if plan::measure_deferred(&commit).is_err() {
            return;
        }
        let mut deferred = self.deferred.borrow_mut();
        if deferred.len() < MAX_DEFERRED {
            deferred.push_back(parameters(&commit, true));
        }
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.work().await;
        self.database.pause(SETTLE_MS).await;
        Ok(())
    }

    async fn get(&self, _partition: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        page::check_get(keys)?;
        let mut found = HashMap::new();
        for row in self.query(&sql::get(), vec![Value::Texts(keys.to_vec())]).await? {
            let Item { key, entry } = item(row).map_err(Failure::unavailable)?;
            found.insert(key, entry);
        }
        // A key may be asked for twice.
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let (start, is_after) = match after {
            Some(after) if after >= prefix => (after, true),
            _ => (prefix, false),
        };
        let end = page::prefix_end(prefix).map_or(Value::Null, Value::Text);
        let mut page = Page::new(limit);
        let parameters = vec![
            start.into(),
            end,
            page::limit(limit).into(),
            u32::from(is_after).into(),
        ];
        for row in self.query(&sql::scan(), parameters).await? {
            let item = item(row).map_err(Failure::unavailable)?;
            let bytes = page::item_bytes(&item);
            if !page.push(item, bytes) {
                break;
            }
        }
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
        // A topic's name is never empty: all come after the empty text.
        let parameters = vec![after.unwrap_or("").into(), page::limit(limit).into()];
        let rows = self.query(&sql::topics(), parameters).await?;
        rows.into_iter()
            .map(|row| topic(row).map_err(Failure::unavailable))
            .collect()
    }
}

impl<D: Database> Upkeep for PostgresStore<D> {
    async fn expire(&self) -> Result<bool, StoreError> {
        let mut more = false;
        for sql in [sql::expire_entries(), sql::expire_ids()] {
            let rows = self.query(&sql, vec![STEP_ROWS.into()]).await?;
            more |= rows.len() >= STEP_ROWS as usize;
        }
        Ok(more | self.forget().await?)
    }

    async fn trim(&self, topic: &str, retention: Retention, needed: u64) -> Result<bool, StoreError> {
        let parameters = vec![topic.into(), STEP_ROWS.into()];
        let (mut cut, mut end, mut rows) = (None, None, 0);
        for row in self.query(&sql::oldest(), parameters).await? {
            let number = |column| row.number(column).map_err(Failure::unavailable);
            let (bytes, now) = (number(0)?, number(1)?);
            let cut = cut.get_or_insert_with(|| Cut::new(retention, needed, bytes, now));
            let sequence = number(2)?;
            if !cut.takes(sequence, number(3)?, number(4)?) {
                break;
            }
            end = Some(sequence);
            rows += 1;
        }
        let Some(end) = end else { return Ok(false) };
        self.query(&sql::trim(), vec![topic.into(), end.into()]).await?;
        Ok(rows >= STEP_ROWS)
    }
}
