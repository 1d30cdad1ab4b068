//! What is answered from memory, under many schedules. Claims meet a cache that says "sold out" or "ended"
//! while units are claimed, more are added, and the campaign ends and is opened again. Real are the rules
//! (both ways to run them), the queue, the decisions of a group, the cache, the memtable, and the order of
//! announcing and publishing. The database is a map.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock, atomic};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use tokio::sync::oneshot;
use tollgate_api::http::{Header, Request, Response};
use tollgate_api::time;
use tollgate_rules::campaigns::{self, Campaign};
use tollgate_rules::machine::{Call, Machine, Memory, Reply, Stage, Step, Taken};
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{heads, keys};
use tollgate_store::bucket::{Bucket, Level};
use tollgate_store::commit::{Commit, Entry, Item, Message, Outcome, StoreError, Topic};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::plan::group::{Base, Found, Group};
use tollgate_store::plan::{self, Extent, Lookup as _, Record};
use tollgate_store::ports::Store;

use super::cache::{Cache, interleavings::neighbour};
use super::filter::Filter;
use super::group;
use super::memtable::Memtable;
use super::queue::{Next, Queue};
use crate::job::{Asked, Job};
use crate::reply::{self, Post};
use crate::sync::explore;
use crate::tails::Tails;

const ADMIN: &str = "an-admin-key-for-tests";
const CAMPAIGN: &str = "campaign/c";
const REMAINING: &str = "remaining/c";
const SEQUENCE: &str = "sequence/c";
/// Units at first, and after each of the two times that some are added.
const UNITS: [u64; 3] = [1, 2, 3];
/// An end so far in the past that memory alone says that the campaign is over.
const LONG_AGO: u64 = START - 60_000;
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The campaign after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    units: u64,
    left: u64,
    claims: u64,
    over: bool,
}

/// The durable state, and every moment up to it.
#[derive(Default)]
struct Database {
    entries: BTreeMap<String, Found>,
    last: BTreeMap<String, u64>,
    revision: u64,
    moments: Vec<Moment>,
}

/// The embedded store, over a map.
struct Model {
    queue: Queue,
    cache: Cache,
    memtable: Memtable,
    tails: Tails,
    database: Mutex<Database>,
    /// The last moment that somebody was told of.
    told: AtomicUsize,
}

/// The group's base: as the engine's own, the cache first.
struct Tables<'a>(&'a Model);

impl Base for Tables<'_> {
    type Error = Infallible;

    fn cached(&mut self, key: &str) -> Option<Found> {
        self.0.cache.get(key).ok()
    }
    fn entry(&mut self, key: &str) -> Result<Found, Infallible> {
        Ok(self.0.read(key))
    }
    fn topic(&mut self, topic: &str) -> Result<Extent, Infallible> {
        let database = self.0.database.lock().unwrap();
        Ok(Extent {
            last: database.last.get(topic).copied().unwrap_or(0),
            bytes: 0,
        })
    }
    fn record(&mut self, _: &str) -> Result<Option<Record>, Infallible> {
        Ok(None)
    }
}

/// A store that holds a campaign and the admin's key.
fn prepared() -> &'static [Item] {
    static ITEMS: OnceLock<Vec<Item>> = OnceLock::new();
    ITEMS.get_or_init(|| {
        let store = InMemoryStore::new();
        let body = format!(r#"{{"id": "c", "quantity": {}}}"#, UNITS[0]);
        let create = as_admin("POST", "/api/campaigns", &body);
        futures::executor::block_on(async {
            keys::install_admin(&store, ADMIN, START).await.unwrap();
            assert_eq!(ordinary(&store, &create).await.status, 201);
            store.scan("", None, 100).await.unwrap()
        })
    })
}

impl Model {
    fn new() -> Arc<Self> {
        let entries = prepared().iter().cloned();
        let entries = entries.map(|item| (item.key, Some(Arc::new(item.entry))));
        let database = Database {
            entries: entries.collect(),
            revision: 10,
            moments: vec![Moment {
                units: UNITS[0],
                left: UNITS[0],
                claims: 0,
                over: false,
            }],
            ..Database::default()
        };
        let filter = Filter::new(1 << 10);
        database.entries.keys().for_each(|key| filter.insert(key));
        filter.complete();
        Arc::new(Self {
            queue: Queue::new(100, 1 << 20, 2),
            // Each shard keeps one entry, and one that is about to be forgotten.
            cache: Cache::new(1, 1 << 20),
            memtable: Memtable::new(2, 1 << 20, filter),
            tails: Tails::default(),
            database: Mutex::new(database),
            told: AtomicUsize::new(0),
        })
    }

    fn read(&self, key: &str) -> Found {
        if let Some(found) = self.memtable.get(key) {
            return found;
        }
        let database = self.database.lock().unwrap();
        database.entries.get(key).cloned().flatten()
    }

    /// The writer, in the engine's order: decide, announce, make durable (and flush some), publish, answer.
    fn write(&self) {
        while let Next::Group(jobs) = self.queue.take(PATIENCE) {
            let revision = self.database.lock().unwrap().revision;
            let mut group = Group::new(Tables(self), START, revision);
            let (mut moments, mut answers) = (Vec::new(), Vec::new());
            for job in jobs {
                let revision = group.revision();
                let outcome = group.decide(job.asked.commit().unwrap()).unwrap();
                if group.revision() > revision {
                    moments.push(moment(&mut group));
                }
                answers.push((job.reply, outcome));
            }
            let entries = group.entries();
            group::announce(&entries, &self.cache);
            let mut database = self.database.lock().unwrap();
            let flushed = self.memtable.flush(1, START, |key, entry| {
                let found = entry.cloned().map(Arc::new);
                database.entries.insert(key.to_owned(), found);
                Ok::<_, Infallible>(())
            });
            for (topic, tail) in group.topics() {
                database.last.insert(topic.to_owned(), tail.last);
            }
            database.revision = group.revision();
            database.moments.extend(moments);
            drop(database);
            let changed = entries.iter().map(|(key, found)| (*key, found.cloned()));
            self.memtable.insert(changed, group.revision());
            if let Some(flushed) = flushed.unwrap() {
                self.memtable.forget(flushed);
            }
            self.memtable.begin_flush(false);
            group::publish(group, &self.cache, &self.tails);
            let mut post = Post::default();
            for (reply, outcome) in answers {
                post.answer(reply.unwrap(), outcome);
            }
            post.deliver();
        }
    }

    fn moments(&self) -> Vec<Moment> {
        self.database.lock().unwrap().moments.clone()
    }

    /// Records that somebody was told of the first moment for which `is` holds: from now on, no answer may
    /// rest on an earlier one.
    fn tell(&self, is: impl Fn(&Moment) -> bool) {
        let told = self.moments().iter().position(is).unwrap();
        self.told.fetch_max(told, Ordering::SeqCst);
    }
}

fn moment(group: &mut Group<Tables<'_>>) -> Moment {
    let campaign = group.entry(CAMPAIGN).unwrap().unwrap();
    let campaign: Campaign = serde_json::from_slice(&campaign.value).unwrap();
    let mut count = |key: &str| {
        let found = group.entry(key).unwrap();
        found.map_or(0, |entry| plan::counter(&entry.value).unwrap())
    };
    Moment {
        units: campaign.quantity,
        left: count(REMAINING).try_into().unwrap(),
        claims: count(SEQUENCE).try_into().unwrap(),
        over: campaign.ends_at.is_some(),
    }
}

impl Store for Model {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let bytes = plan::measure(&commit)?;
        let (reply, outcome) = oneshot::channel();
        let reply = Some(reply::Reply::Alone(reply));
        let asked = Asked::Commit(commit.into());
        let job = Job { asked, bytes, reply };
        assert!(self.queue.push(job).is_ok());
        outcome.await.unwrap()
    }
    fn defer(&self, _: Commit) {}
    /// As the engine's `get_shared`.
    async fn get(&self, _: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, StoreError> {
        let known: Vec<_> = keys.iter().map(|key| (key, self.cache.get(key))).collect();
        let found = known.into_iter().map(|(key, known)| match known {
            Ok(found) => found,
            Err(generation) => self.cache.fill(key, self.read(key), generation),
        });
        Ok(found.map(|found| found.map(Arc::unwrap_or_clone)).collect())
    }
    async fn scan(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<Item>, StoreError> {
        panic!("one claim per user needs no scan")
    }
    async fn read(&self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Message>, StoreError> {
        panic!("no claim reads a topic")
    }
    async fn topics(&self, _: Option<&str>, _: u32) -> Result<Vec<Topic>, StoreError> {
        panic!("no claim reads a topic")
    }
}

/// The store's memory, as the machine sees it.
#[derive(Clone)]
struct Handle(Arc<Model>);

impl Memory for Handle {
    fn take(&self, buckets: Vec<Bucket>) -> Taken<Vec<Bucket>, Vec<Level>> {
        Taken::Decided(Ok(buckets.iter().map(full).collect()))
    }
    fn take_one(&self, bucket: Bucket) -> Taken<Bucket, Level> {
        Taken::Decided(Ok(full(&bucket)))
    }
    fn get(&self, key: &str) -> Option<Option<Entry>> {
        let found = self.0.cache.get(key).ok()?;
        Some(found.map(Arc::unwrap_or_clone))
    }
    /// Key by key: the moment's own lock is not modelled.
    fn get_all(&self, keys: &[String]) -> Option<Vec<Option<Entry>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }
    fn defer(&self, _: Vec<Commit>) {}
}

/// What a bucket holds that nobody takes from.
fn full(bucket: &Bucket) -> Level {
    Level {
        remaining: bucket.capacity,
        next_ns: 0,
        full_ns: 0,
    }
}

fn fresh() -> [u8; 16] {
    static COUNT: atomic::AtomicU64 = atomic::AtomicU64::new(0);
    u128::from(COUNT.fetch_add(1, atomic::Ordering::Relaxed)).to_be_bytes()
}

fn request(method: &str, path: &str, header: (&str, &str), body: &str) -> Request {
    Request {
        method: tollgate_api::http::method(method),
        path: path.into(),
        query: None,
        headers: vec![Header::new(header.0.to_owned(), header.1)],
        body: body.into(),
        peer: "192.0.2.1".into(),
    }
}

fn as_admin(method: &str, path: &str, body: &str) -> Request {
    request(method, path, ("authorization", &format!("Bearer {ADMIN}")), body)
}

async fn ordinary<S: Store>(store: &S, request: &Request) -> Response {
    let world = World {
        store,
        settings: &Settings::default(),
        now: START,
        fresh: &fresh,
    };
    campaigns::handle(&world, request).await
}

/// The machine, and its host, which waits for the store.
fn in_steps(model: &Arc<Model>, request: Request) -> (u16, Vec<u8>) {
    let mut rules = Machine::new(Settings::default(), Handle(Arc::clone(model)), fresh);
    let mut step = rules.start(&heads::head_of(&request), START, false, Stage::Arrived);
    loop {
        let (task, call) = match step {
            Step::Done(response) => return (response.status, response.body),
            Step::Waits(task, call) => (task, call),
            Step::Admitted(_) | Step::Busy => panic!("a claim is on the hot path"),
        };
        let reply = match call {
            Call::Commit(commit) => Reply::Commit(block_on(model.commit(commit))),
            Call::Get(keys) => Reply::Get(block_on(model.get("", &keys))),
            Call::Packed(_) => panic!("the rules themselves pack nothing"),
            other => panic!("a claim needs no {other:?}"),
        };
        step = rules.resume(task, reply);
    }
}

/// Whether the claim was admitted. The reason for a refusal must have been true at some moment not earlier
/// than the last that anybody had been told of when the claim began.
fn claim(model: &Arc<Model>, user: &str, by_machine: bool) -> bool {
    let told = model.told.load(Ordering::SeqCst);
    let request = request("POST", "/api/campaigns/c/claims", ("x-user-id", user), "");
    let (status, body) = match by_machine {
        true => in_steps(model, request),
        false => {
            let response = block_on(ordinary(&**model, &request));
            (response.status, response.body)
        }
    };
    let moments = model.moments();
    let was = |is: fn(&Moment) -> bool| moments[told..].iter().any(is);
    let true_then = match status {
        201 => {
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let sequence = answer["claim"]["sequence"].as_u64().unwrap();
            model.tell(|moment| moment.claims == sequence);
            return true;
        }
        410 => was(|moment| moment.left == 0),
        403 => was(|moment| moment.over),
        _ => false,
    };
    let said = String::from_utf8_lossy(&body);
    assert!(true_then, "{status} {said}, after {:?}", &moments[told..]);
    false
}

fn change(model: &Model, body: &str, is: impl Fn(&Moment) -> bool) {
    let request = as_admin("PATCH", "/api/campaigns/c", body);
    let response = block_on(ordinary(model, &request));
    assert_eq!(
        response.status,
        200,
        "{}",
        String::from_utf8_lossy(&response.body)
    );
    model.tell(is);
}

#[test]
fn no_claim_is_refused_by_what_was_so_before_units_were_added_or_the_end_moved() {
    explore(|| {
        let model = Model::new();
        let writer = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.write())
        };
        // A thread that pushes the counter out of the cache, so that it is read from the database again.
        let evictor = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let others = (0..4).map(|nth| neighbour(&model.cache, REMAINING, nth));
                others.for_each(|other| model.cache.publish(other, None, true));
            })
        };
        let claimers = [(0, false), (1, true), (2, false)].map(|(number, by_machine)| {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                // Until it is admitted, and at most three times.
                let user = format!("user-{number}");
                (0..3).any(|_| claim(&model, &user, by_machine)).then_some(user)
            })
        });
        change(&model, &format!(r#"{{"quantity": {}}}"#, UNITS[1]), |moment| {
            moment.units == UNITS[1]
        });
        change(
            &model,
            &format!(r#"{{"endsAt": "{}"}}"#, time::format(LONG_AGO)),
            |moment| moment.over,
        );
        let open = format!(r#"{{"quantity": {}, "endsAt": null}}"#, UNITS[2]);
        change(&model, &open, |moment| moment.units == UNITS[2] && !moment.over);
        let claimers = claimers.map(|claimer| claimer.join().unwrap());
        let mut admitted: BTreeSet<String> = claimers.into_iter().flatten().collect();
        // Whatever is left goes to whoever comes late, and no more.
        let late = (0..).map(|number| format!("late-{number}"));
        admitted.extend(
            late.zip([true, false].into_iter().cycle())
                .map_while(|(user, door)| claim(&model, &user, door).then_some(user)),
        );
        assert_eq!(admitted.len() as u64, UNITS[2]);
        for moment in model.moments() {
            assert_eq!(moment.claims + moment.left, moment.units, "{moment:?}");
        }
        model.queue.close();
        writer.join().unwrap();
        evictor.join().unwrap();
    });
}
