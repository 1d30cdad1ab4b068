//! Commits: the SQL of the Spin engine and the native engine decide any sequence of them, with odd keys and
//! values, as the store in memory does. They also leave the same behind.

#[path = "../../../components/store-sqlite/tests/support/statement.rs"]
mod statement;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Unstructured;
use futures::executor::block_on;
use tempfile::TempDir;
use tollgate_engines::{Options, SqliteStore};
use tollgate_store::commit::{
    Append, Commit, Condition, Entry, Idempotence, Item, Message, Mutation, Outcome, Part, StoreError, Topic,
};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::plan;
use tollgate_store::ports::Store;
use tollgate_store_sqlite::database::{Connection, Database, Each, Failure, Purpose, Value};

/// The most steps of one input.
const MAX_STEPS: usize = 24;
/// The Spin engine takes its time from SQLite, never earlier than that of its last commit. Here the last
/// commit lies far ahead, so that time stands still except for the steps that move it.
const AHEAD: u64 = START * 3;
/// Keys, topics and ids that have gone wrong somewhere: quotes of SQL and JSON, bounds of UTF-8, ranges of prefixes.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "a/b",
    "a/",
    "a0",
    "A",
    "",
    "it's",
    "\"$.a[0]\"",
    "\\u0000",
    "\u{1}",
    "\u{7f}",
    "ключ",
    "\u{d7ff}",
    "\u{e000}",
    "\u{10ffff}",
];
const NUMBERS: [i64; 12] = [
    0,
    1,
    -1,
    2,
    9,
    -10,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    1 << 53,
    (1 << 53) + 1,
    -(1 << 53) - 1,
];
const VALUES: [&str; 12] = [
    "",
    "0",
    "-0",
    "7",
    "07",
    "+1",
    " 1",
    "9223372036854775807",
    "9223372036854775808",
    "1e3",
    "-9223372036854775808",
    "x'00'",
];

/// Steps out of any bytes: commits, reads, and time that passes.
pub fn batch(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let steps = steps(&mut input).unwrap_or_default();
    let native = data.first().is_some_and(|byte| byte % 4 == 0);
    if native {
        in_native(&steps);
    } else {
        in_sql(&steps);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Commit),
    Submit(Commit),
    Get(Vec<String>),
    Scan(String, Option<String>, u32),
    Read(String, u64, u32),
    Topics(Option<String>, u32),
    Pass(u64),
    Restart,
}

fn steps(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Step>> {
    let _engine: u8 = input.arbitrary()?;
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < MAX_STEPS {
        steps.push(match input.arbitrary::<u8>()? % 16 {
            0..=8 => Step::Commit(commit(input)?),
            9 => Step::Submit(commit(input)?),
            10 => Step::Get(list(input, 4, name)?),
            11 => Step::Scan(name(input)?, option(input, name)?, limit(input)?),
            12 => Step::Read(
                name(input)?,
                u64::from(input.arbitrary::<u8>()? % 8),
                limit(input)?,
            ),
            13 => Step::Topics(option(input, name)?, limit(input)?),
            14 => Step::Pass(u64::from(input.arbitrary::<u16>()?)),
            _ => Step::Restart,
        });
    }
    Ok(steps)
}

fn commit(input: &mut Unstructured<'_>) -> arbitrary::Result<Commit> {
    let shape: u8 = input.arbitrary()?;
    let idempotence = match shape % 4 {
        0 => Some(Idempotence {
            id: name(input)?,
            fingerprint: vec![input.arbitrary::<u8>()? % 3],
            answer: template(input)?,
            ttl: span(input)?,
        }),
        _ => None,
    };
    Ok(Commit {
        partition: if shape & 64 == 0 {
            String::new()
        } else {
            name(input)?
        },
        idempotence,
        conditions: list(input, 3, condition)?,
        mutations: list(input, 5, mutation)?,
        appends: list(input, 3, append)?,
    })
}

fn list<T>(
    input: &mut Unstructured<'_>,
    most: u8,
    one: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let byte: u8 = input.arbitrary()?;
    // At times more than a commit may have.
    let count = if byte == 255 {
        65
    } else {
        u32::from(byte % (most + 1))
    };
    (0..count).map(|_| one(input)).collect()
}

fn option<T>(
    input: &mut Unstructured<'_>,
    one: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Option<T>> {
    match input.arbitrary::<u8>()? % 2 {
        0 => Ok(None),
        _ => one(input).map(Some),
    }
}

/// Mostly a few that meet again.
fn name(input: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    Ok(match input.arbitrary::<u8>()? {
        byte @ 0..=159 => NAMES[usize::from(byte) % 6].to_owned(),
        byte @ 160..=239 => NAMES[usize::from(byte) % NAMES.len()].to_owned(),
        240..=243 => "ab".repeat(256),
        244 => "x".repeat(513),
        245 => "a\0b".to_owned(),
        _ => {
            let length = usize::from(input.arbitrary::<u8>()? % 8);
            String::from_utf8_lossy(input.bytes(length.min(input.len()))?).into_owned()
        }
    })
}

fn number(input: &mut Unstructured<'_>) -> arbitrary::Result<i64> {
    Ok(match input.arbitrary::<u8>()? {
        byte @ 0..=199 => NUMBERS[usize::from(byte) % 6],
        byte @ 200..=239 => NUMBERS[usize::from(byte) % NUMBERS.len()],
        _ => input.arbitrary()?,
    })
}

/// Milliseconds: few, or as many as there can be.
fn span(input: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    Ok(match input.arbitrary::<u8>()? {
        byte @ 0..=239 => u64::from(byte) * 100,
        240..=247 => u64::MAX,
        248..=251 => plan::MAX_STORED,
        _ => input.arbitrary()?,
    })
}

/// A moment near the store's time, or a far one.
fn moment(input: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    let span = span(input)?;
    Ok(if span > 1 << 32 {
        span
    } else {
        AHEAD - 5_000 + span
    })
}

fn limit(input: &mut Unstructured<'_>) -> arbitrary::Result<u32> {
    Ok(match input.arbitrary::<u8>()? {
        255 => u32::MAX,
        byte => u32::from(byte % 6),
    })
}

fn template(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Part>> {
    list(input, 3, |input| {
        Ok(match input.arbitrary::<u8>()? {
            byte @ 0..=99 => Part::Bytes(VALUES[usize::from(byte) % VALUES.len()].into()),
            byte @ 100..=139 => Part::Sum(u32::from(byte % 4)),
            byte @ 140..=179 => Part::Sequence(u32::from(byte % 3)),
            180..=209 => Part::Time,
            210..=213 => Part::Bytes(vec![b'x'; 400_000]),
            _ => {
                let length = usize::from(input.arbitrary::<u8>()? % 16);
                Part::Bytes(input.bytes(length.min(input.len()))?.to_vec())
            }
        })
    })
}

fn condition(input: &mut Unstructured<'_>) -> arbitrary::Result<Condition> {
    Ok(match input.arbitrary::<u8>()? % 5 {
        4 => Condition::TopicBelow {
            topic: name(input)?,
            bytes: u64::from(input.arbitrary::<u16>()?),
        },
        0 | 1 => Condition::Absent(name(input)?),
        2 => Condition::Version {
            key: name(input)?,
            version: match input.arbitrary::<u8>()? {
                255 => u64::MAX,
                254 => 0,
                byte => u64::from(byte % 8),
            },
        },
        _ => Condition::NowIn {
            start: option(input, moment)?,
            end: option(input, moment)?,
        },
    })
}

fn mutation(input: &mut Unstructured<'_>) -> arbitrary::Result<Mutation> {
    Ok(match input.arbitrary::<u8>()? % 8 {
        0..=2 => Mutation::Set {
            key: name(input)?,
            value: template(input)?,
            expires: option(input, moment)?,
        },
        3 => Mutation::Delete { key: name(input)? },
        _ => Mutation::Add {
            key: name(input)?,
            delta: number(input)?,
            min: option(input, number)?,
            max: option(input, number)?,
        },
    })
}

fn append(input: &mut Unstructured<'_>) -> arbitrary::Result<Append> {
    Ok(Append {
        topic: name(input)?,
        id: name(input)?,
        key: name(input)?,
        kind: name(input)?,
        content_type: name(input)?,
        attributes: Vec::new(),
        payload: template(input)?,
    })
}

/// An answer, as far as engines must agree: what exactly is invalid, or why, each says in its own words.
#[derive(Debug, PartialEq)]
enum Answer {
    Outcome(Outcome),
    Entries(Vec<Option<Entry>>),
    Items(Vec<Item>),
    Messages(Vec<Message>),
    Topics(Vec<Topic>),
    Invalid,
    Unavailable(String),
}

fn answer<T>(result: Result<T, StoreError>, shape: fn(T) -> Answer) -> Answer {
    match result {
        Ok(value) => shape(value),
        Err(StoreError::Invalid(_)) => Answer::Invalid,
        Err(StoreError::Unavailable(why) | StoreError::Unknown(why)) => Answer::Unavailable(why),
    }
}

async fn take<S: Store>(store: &S, step: &Step) -> Option<Answer> {
    Some(match step.clone() {
        Step::Commit(commit) => answer(store.commit(commit).await, Answer::Outcome),
        Step::Get(keys) => answer(store.get("", &keys).await, Answer::Entries),
        Step::Scan(prefix, after, limit) => {
            answer(store.scan(&prefix, after.as_deref(), limit).await, Answer::Items)
        }
        Step::Read(topic, after, limit) => {
            answer(store.read(&topic, after, limit, 0).await, Answer::Messages)
        }
        Step::Topics(after, limit) => answer(store.topics(after.as_deref(), limit).await, Answer::Topics),
        Step::Submit(commit) => {
            store.defer(commit);
            return None;
        }
        Step::Pass(_) | Step::Restart => return None,
    })
}

/// Everything there is.
async fn everything<S: Store>(store: &S) -> Vec<Answer> {
    let topics = store.topics(None, u32::MAX).await.unwrap();
    let mut found = vec![answer(store.scan("", None, u32::MAX).await, Answer::Items)];
    for topic in &topics {
        found.push(answer(
            store.read(&topic.name, 0, u32::MAX, 0).await,
            Answer::Messages,
        ));
    }
    found.push(Answer::Topics(topics));
    found
}

async fn agree<A: Store, B: Store>(model: &A, store: &B, step: &Step) {
    let (expected, given) = (take(model, step).await, take(store, step).await);
    assert_eq!(given, expected, "after {step:?}");
}

fn model(now: u64) -> InMemoryStore {
    let model = InMemoryStore::new();
    model.set_now(now);
    model
}

/// The statements of the Spin engine, on one connection that every input begins anew.
fn in_sql(steps: &[Step]) {
    thread_local!(static DATABASE: Rc<Native> = Rc::new(Native::new()));
    let database = DATABASE.with(Rc::clone);
    database.clear();
    let (model, store) = (
        model(AHEAD),
        tollgate_store_sqlite::store::SqliteStore::new(Rc::clone(&database)),
    );
    block_on(async {
        store.get("", &[]).await.unwrap(); // both connections are open
        for step in steps {
            if let Step::Pass(ms) = step {
                model.set_now(model.now() + ms);
                database.set_now(model.now());
                continue;
            }
            agree(&model, &store, step).await;
            store.work().await;
        }
        assert_eq!(everything(&store).await, everything(&model).await);
    });
}

/// The native engine on a file, opened and closed again as the input says.
fn in_native(steps: &[Step]) {
    let directory = scratch();
    let clock = Arc::new(AtomicU64::new(AHEAD));
    let model = model(AHEAD);
    let mut store = open(directory.path(), &clock);
    for step in steps {
        match step {
            Step::Pass(ms) => {
                model.set_now(model.now() + ms);
                clock.store(model.now(), Ordering::Release);
            }
            Step::Restart => {
                drop(store);
                store = open(directory.path(), &clock);
                block_on(async { assert_eq!(everything(&*store).await, everything(&model).await) });
            }
            // When it is carried out is left to the engine.
            Step::Submit(_) => {}
            step => block_on(agree(&model, &*store, step)),
        }
    }
    block_on(async { assert_eq!(everything(&*store).await, everything(&model).await) });
}

/// In memory where the system has a place for that: what is tested here is not the disk.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    }
}

fn open(directory: &Path, clock: &Arc<AtomicU64>) -> Arc<SqliteStore> {
    let clock = Arc::clone(clock);
    SqliteStore::open(Options {
        clock: Arc::new(move || clock.load(Ordering::Acquire)),
        readers: 1,
        // Few enough that entries are read from the file too.
        cache_entries: 2,
        memtable_entries: 3,
        ..Options::new(directory.join("fuzz.db"))
    })
    .unwrap()
}

struct Link(rusqlite::Connection);

impl Connection for Link {
    async fn execute(&self, sql: &str, parameters: Vec<Value>, each: Each<'_>) -> Result<(), Failure> {
        statement::execute(&self.0, sql, parameters, each)
    }

    fn execute_now(&self, sql: &str, parameters: Vec<Value>) -> Result<(), Failure> {
        statement::execute(&self.0, sql, parameters, &mut |_| Ok(true))
    }
}

/// One connection for everything, to a file: one in memory is refused. It lies in memory where the system has a place for that.
struct Native {
    directory: TempDir,
    link: RefCell<Option<Rc<Link>>>,
}

impl Native {
    fn new() -> Self {
        Self {
            directory: scratch(),
            link: RefCell::new(None),
        }
    }

    fn link(&self) -> Rc<Link> {
        self.opened(Purpose::Durable).expect("it was opened")
    }

    fn clear(&self) {
        if self.opened(Purpose::Durable).is_none() {
            let file = self.directory.path().join("batch.db");
            let link = Rc::new(Link(rusqlite::Connection::open(file).unwrap()));
            block_on(tollgate_store_sqlite::prepare(&*link, Purpose::Durable)).unwrap();
            *self.link.borrow_mut() = Some(link);
        }
        let wipe = "DELETE FROM entries; DELETE FROM topics; DELETE FROM messages; DELETE FROM idempotence;
                    UPDATE meta SET value = 0 WHERE name = 'revision';";
        self.link().0.execute_batch(wipe).unwrap();
        self.set_now(AHEAD);
    }

    fn set_now(&self, now: u64) {
        let sql = format!("UPDATE meta SET value = {now} WHERE name = 'now'");
        assert_eq!(self.link().0.execute(&sql, []).unwrap(), 1);
    }
}

impl Database for Native {
    type Connection = Link;

    async fn connection(&self, _: Purpose) -> Result<Rc<Link>, Failure> {
        Ok(self.link())
    }

    fn opened(&self, _: Purpose) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    async fn pause(&self, _: u64) {}

    fn now_ns(&self) -> u64 {
        AHEAD * 1_000_000
    }

    fn random(&self) -> u64 {
        7
    }
}
