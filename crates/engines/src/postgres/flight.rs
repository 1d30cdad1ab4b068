//! A group of commits in two flights: one locks and reads, `tollgate_store::plan::group` decides, one writes and commits.
//!
//! What keeps it exact: the lanes are locked, and besides, the write flight compares what it replaces with what was read, by
//! statements that raise. So the COMMIT behind them fails, also where a lock did not hold what it should.

mod statements;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};
use tollgate_store::commit::{Entry, Outcome, StoreError};
use tollgate_store::lane::before_first;
use tollgate_store::plan::asked::{Looked, Wanted};
use tollgate_store::plan::group::{Found, Group};
use tollgate_store::plan::{Extent, MAX_STORED, Record};

use super::connect::{Session, told};
use super::queue::Waiting;

pub use statements::{CLOCK, Statements};

/// How long a flight may take before its connection counts as lost.
const FLIGHT: Duration = Duration::from_secs(6);

/// Why a group was not written.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was done; somebody else was faster, or the connection was lost before COMMIT was asked for.
    Again(String),
    /// Nothing was done.
    Refused(String),
    /// COMMIT was asked for, and its answer was lost; what is so if it was done.
    Lost(String, Box<Written>),
    /// COMMIT was answered with a warning: it may not be where it should.
    Warned(String),
}

/// What has become of a group.
#[derive(Debug)]
pub struct Written {
    /// Of each commit.
    pub outcomes: Vec<Result<Outcome, StoreError>>,
    /// What is known of keys now.
    pub known: Vec<(String, Found)>,
    /// Topics that it appended to, and how far they go.
    pub appended: Vec<(String, u64)>,
    /// The time at which it was decided.
    pub now: u64,
    /// Whether anything was written.
    pub dirty: bool,
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Lanes as their column has them.
fn integers(lanes: &[u32]) -> Vec<i32> {
    lanes
        .iter()
        .map(|lane| i32::try_from(*lane).unwrap_or(0))
        .collect()
}

/// An entry of the columns value, version, expires from `from` on.
pub fn entry(row: &Row, from: usize) -> Entry {
    Entry {
        value: row.get(from),
        version: unsigned(row.get(from + 1)),
        expires: row.get::<_, Option<i64>>(from + 2).map(unsigned),
    }
}

/// An error before COMMIT was asked for.
fn before(client: &Client, error: &Error) -> Failure {
    let why = told(error);
    match error.code().map(|code| code.code()) {
        // Serialisation, deadlock, lock timeout, the fence, a sequence taken, thrown out, stopping, starting.
        Some(
            "40001" | "40P01" | "55P03" | "22012" | "23505" | "25P02" | "25P03" | "57P01" | "57P02" | "57P03",
        ) => Failure::Again(why),
        None if client.is_closed() || error.is_closed() => Failure::Again(why),
        _ => Failure::Refused(why),
    }
}

fn first_failure(client: &Client, errors: impl IntoIterator<Item = Option<Error>>) -> Result<(), Failure> {
    let errors: Vec<Error> = errors.into_iter().flatten().collect();
    // What came after the first error says only that there was one.
    let cause = errors
        .iter()
        .find(|e| e.code().map(|code| code.code()) != Some("25P02"));
    cause
        .or(errors.first())
        .map_or(Ok(()), |error| Err(before(client, error)))
}

/// Where a writer's groups are numbered.
pub struct Own<'a> {
    /// Its row.
    pub id: &'a str,
    /// The number of this group.
    pub number: i64,
}

/// Carries a group out. `lanes`: how many there are; `ahead`: added to the clock.
pub async fn carry_out(
    session: &Session,
    statements: &Statements,
    own: Own<'_>,
    jobs: &[Waiting],
    lanes: u32,
    ahead: u64,
) -> Result<Written, Failure> {
    let client = &session.client;
    let wanted = Wanted::of(jobs.iter().map(|job| (job.lane, &job.commit)));
    let late = |_| Failure::Again("the database does not answer".into());
    let read = tokio::time::timeout(FLIGHT, look(client, statements, &own, &wanted, ahead));
    let (looked, seen, now, revision) = read.await.map_err(late)??;
    let now = now.min(MAX_STORED);
    let versions: HashMap<String, u64> = looked
        .entries
        .iter()
        .filter_map(|(key, found)| Some((key.clone(), found.as_ref()?.version)))
        .collect();
    let known_topics = looked.topics.clone();
    let read_entries: Vec<(String, Found)> = looked
        .entries
        .iter()
        .map(|(key, found)| (key.clone(), found.clone()))
        .collect();
    let first = wanted.lanes.first().copied().unwrap_or(0);
    let mut group = Group::spaced(
        looked,
        now,
        before_first(revision, first, lanes),
        u64::from(lanes.max(1)),
    );
    let outcomes = jobs.iter().map(|job| match group.decide(job.commit.clone()) {
        Ok(outcome) => outcome,
        Err(never) => match never {},
    });
    let outcomes: Vec<_> = outcomes.collect();
    let appended: Vec<(String, u64)> = group
        .topics()
        .into_iter()
        .map(|(name, tail)| (name.to_owned(), tail.last))
        .collect();
    let dirty = group.is_dirty();
    if !dirty {
        // Answers that change nothing need no sync.
        client
            .batch_execute("ROLLBACK")
            .await
            .map_err(|error| before(client, &error))?;
        return Ok(Written {
            outcomes,
            known: read_entries,
            appended,
            now,
            dirty,
        });
    }
    let warnings = session.warnings();
    let write = write(
        client,
        statements,
        &group,
        &wanted,
        &seen,
        &versions,
        &known_topics,
    );
    let lost = match tokio::time::timeout(FLIGHT, write).await {
        Err(_) => Some("the database does not answer".to_owned()),
        Ok(done) => done?,
    };
    let mut known: HashMap<String, Found> = read_entries.into_iter().collect();
    let changed = group.into_known().filter(|(_, known)| known.written);
    known.extend(changed.map(|(key, known)| (key, known.found)));
    let written = Written {
        outcomes,
        known: known.into_iter().collect(),
        appended,
        now,
        dirty,
    };
    match lost {
        Some(why) => Err(Failure::Lost(why, Box::new(written))),
        None if session.warnings() != warnings => {
            Err(Failure::Warned("the database warned as it committed".into()))
        }
        None => Ok(written),
    }
}

type Seen = Vec<i64>;

async fn look(
    client: &Client,
    s: &Statements,
    own: &Own<'_>,
    wanted: &Wanted,
    ahead: u64,
) -> Result<(Looked, Seen, u64, u64), Failure> {
    let own_parameters: [&(dyn ToSql + Sync); 2] = [&own.id, &own.number];
    let lanes = integers(&wanted.lanes);
    let lanes_parameters: [&(dyn ToSql + Sync); 1] = [&lanes];
    let topics_parameters: [&(dyn ToSql + Sync); 1] = [&wanted.topics];
    let keys_parameters: [&(dyn ToSql + Sync); 1] = [&wanted.keys];
    let ids_parameters: [&(dyn ToSql + Sync); 1] = [&wanted.ids];
    let topics = (!wanted.topics.is_empty()).then(|| client.query(&s.topics, &topics_parameters));
    let ids = (!wanted.ids.is_empty()).then(|| client.query(&s.records, &ids_parameters));
    // In the order in which they are polled: each statement's own state of the database is newer than the locks before it.
    let (began, own, lanes, topics, clock, entries, records) = futures::join!(
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
        client.execute(&s.own, &own_parameters),
        client.query(&s.lanes, &lanes_parameters),
        OptionFuture::from(topics),
        client.query_one(&s.clock, &[]),
        client.query(&s.entries, &keys_parameters),
        OptionFuture::from(ids),
    );
    let (topics, records) = (topics.transpose(), records.transpose());
    let (own, lanes, topics, clock, entries, records) =
        match (began, own, lanes, topics, clock, entries, records) {
            (Ok(()), Ok(own), Ok(lanes), Ok(topics), Ok(clock), Ok(entries), Ok(records)) => (
                own,
                lanes,
                topics.unwrap_or_default(),
                clock,
                entries,
                records.unwrap_or_default(),
            ),
            (a, b, c, d, e, f, g) => {
                first_failure(
                    client,
                    [a.err(), b.err(), c.err(), d.err(), e.err(), f.err(), g.err()],
                )?;
                return Err(Failure::Again("a statement failed".into()));
            }
        };
    if own != 1 {
        return Err(Failure::Again("the writer's row is gone".into()));
    }
    if lanes.len() != wanted.lanes.len() {
        return Err(Failure::Refused("lanes are missing in the database".into()));
    }
    if topics.len() < wanted.topics.len() {
        // Its row is the topic's lock: it is made first, in a transaction of its own.
        client
            .batch_execute("ROLLBACK")
            .await
            .map_err(|error| before(client, &error))?;
        client
            .execute(&s.make_topics, &[&wanted.topics])
            .await
            .map_err(|error| before(client, &error))?;
        return Err(Failure::Again("a topic is new".into()));
    }
    let (mut now, mut revision) = (unsigned(clock.get(0)).saturating_add(ahead), 0);
    let mut seen = Vec::with_capacity(lanes.len());
    for row in &lanes {
        seen.push(row.get::<_, i64>(1));
        revision = revision.max(unsigned(row.get(1)));
        now = now.max(unsigned(row.get(2)));
    }
    let mut looked = Looked::default();
    for row in &topics {
        now = now.max(unsigned(row.get(3)));
        let extent = Extent {
            last: unsigned(row.get(1)),
            bytes: unsigned(row.get(2)),
        };
        looked.topics.insert(row.get(0), extent);
    }
    for row in &entries {
        looked.entries.insert(row.get(0), Some(Arc::new(entry(row, 1))));
    }
    for key in &wanted.keys {
        looked.entries.entry(key.clone()).or_insert(None);
    }
    for row in &records {
        let id: String = row.get(0);
        let record = Record {
            id: id.clone(),
            fingerprint: row.get(1),
            answer: row.get(2),
            expires: unsigned(row.get(3)),
        };
        looked.records.insert(id, record);
    }
    Ok((looked, seen, now, revision))
}

/// The columns of entries that are written.
#[derive(Default)]
struct Columns<'a> {
    keys: Vec<&'a str>,
    values: Vec<&'a [u8]>,
    versions: Vec<i64>,
    expires: Vec<Option<i64>>,
    seen: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, key: &'a str, entry: &'a Entry, seen: i64) {
        self.keys.push(key);
        self.values.push(&entry.value);
        self.versions.push(integer(entry.version));
        self.expires.push(entry.expires.map(integer));
        self.seen.push(seen);
    }
}

/// Writes and commits; answers why it is not known whether it was done, if so.
async fn write(
    client: &Client,
    s: &Statements,
    group: &Group<Looked>,
    wanted: &Wanted,
    seen: &Seen,
    versions: &HashMap<String, u64>,
    topics: &HashMap<String, Extent>,
) -> Result<Option<String>, Failure> {
    let (mut updated, mut inserted) = (Columns::default(), Columns::default());
    let (mut deleted, mut deleted_seen) = (Vec::new(), Vec::new());
    for (key, found) in group.entries() {
        let seen = versions.get(key).copied().map(integer);
        match (found, seen) {
            (Some(entry), Some(seen)) => updated.add(key, entry, seen),
            (Some(entry), None) => inserted.add(key, entry, 0),
            (None, Some(seen)) => {
                deleted.push(key);
                deleted_seen.push(seen);
            }
            (None, None) => {}
        }
    }
    let (m, records) = (group.messages(), group.records());
    let changed = group.topics();
    let names: Vec<&str> = changed.iter().map(|(name, _)| *name).collect();
    let topic_seen: Vec<i64> = names
        .iter()
        .map(|name| integer(topics.get(*name).map_or(0, |t| t.last)))
        .collect();
    let last: Vec<i64> = changed.iter().map(|(_, tail)| integer(tail.last)).collect();
    let added: Vec<i64> = changed
        .iter()
        .map(|(_, tail)| integer(tail.added_bytes))
        .collect();
    let (revision, now) = (integer(group.revision()), integer(group.now()));
    let texts = |of: fn(&tollgate_store::commit::Message) -> &str| m.iter().map(of).collect::<Vec<&str>>();
    let (topic, id, key) = (texts(|m| &m.topic), texts(|m| &m.id), texts(|m| &m.key));
    let (kind, content_type) = (texts(|m| &m.kind), texts(|m| &m.content_type));
    let sequence: Vec<i64> = m.iter().map(|m| integer(m.sequence)).collect();
    let time: Vec<i64> = m.iter().map(|m| integer(m.time)).collect();
    let attributes: Vec<&[u8]> = m.iter().map(|m| m.attributes.as_slice()).collect();
    let payload: Vec<&[u8]> = m.iter().map(|m| m.payload.as_slice()).collect();
    let ids: Vec<&str> = records.iter().map(|r| r.id.as_str()).collect();
    let fingerprints: Vec<&[u8]> = records.iter().map(|r| r.fingerprint.as_slice()).collect();
    let answers: Vec<&[u8]> = records.iter().map(|r| r.answer.as_slice()).collect();
    let forgotten: Vec<i64> = records.iter().map(|r| integer(r.expires)).collect();
    let lanes = integers(&wanted.lanes);
    let steps: [(&Statement, Vec<&(dyn ToSql + Sync)>, bool); 7] = [
        (&s.set_lanes, vec![&lanes, seen, &revision, &now], true),
        (
            &s.update,
            vec![
                &updated.keys,
                &updated.values,
                &updated.versions,
                &updated.expires,
                &updated.seen,
            ],
            !updated.keys.is_empty(),
        ),
        (
            &s.insert,
            vec![
                &inserted.keys,
                &inserted.values,
                &inserted.versions,
                &inserted.expires,
            ],
            !inserted.keys.is_empty(),
        ),
        (&s.delete, vec![&deleted, &deleted_seen], !deleted.is_empty()),
        (
            &s.messages,
            vec![
                &topic,
                &sequence,
                &id,
                &key,
                &kind,
                &content_type,
                &time,
                &attributes,
                &payload,
            ],
            !m.is_empty(),
        ),
        (
            &s.set_topics,
            vec![&names, &topic_seen, &last, &added, &now],
            !names.is_empty(),
        ),
        (
            &s.set_records,
            vec![&ids, &fingerprints, &answers, &forgotten, &now],
            !ids.is_empty(),
        ),
    ];
    let due: Vec<_> = steps.iter().filter(|(_, _, due)| *due).collect();
    let sent = futures::future::join_all(
        due.iter()
            .map(|(statement, parameters, _)| client.query(*statement, parameters)),
    );
    // Polled in this order, so COMMIT travels behind all of them, and undoes them if one has failed.
    let (sent, committed) = futures::join!(sent, client.batch_execute("COMMIT"));
    let is_lost = |error: &Error| {
        error.as_db_error().is_none() || error.code().is_some_and(|code| code.code().starts_with("57P"))
    };
    let errors: Vec<Error> = sent.into_iter().filter_map(Result::err).collect();
    if let Some(error) = errors.iter().find(|error| !is_lost(error)) {
        // The database itself said so: what came behind was undone.
        return Err(before(client, error));
    }
    Ok(errors.first().or(committed.as_ref().err()).map(told))
}
