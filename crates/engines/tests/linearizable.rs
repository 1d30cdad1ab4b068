//! Commits and reads of many threads look as if they had happened one after the other. Recorded histories are
//! searched for an order that explains every answer (Wing & Gong, <https://doi.org/10.1006/jpdc.1993.1015>).
//! States that were seen before are not searched again (Lowe, <https://doi.org/10.1002/cpe.3928>).
//!
//! Commits, of one key or several, must have one order for all keys together. A `get` must fit into the order of its
//! key; it says nothing about other keys.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use support::{get, run, scratch};
use tollgate_engines::{Options, SqliteStore};
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, literal};

/// Histories per test.
const HISTORIES: usize = 250;
const THREADS: usize = 4;
/// Calls of a thread in one history. With four threads, all calls fit into the bits of a `u64`.
const CALLS: usize = 7;
const KEYS: usize = 2;

/// A call, on keys by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Get(usize),
    Set(usize, i64),
    /// Unless there is one.
    Create(usize, i64),
    Delete(usize),
    /// One less, unless there is none.
    Take(usize),
    /// One less here, one more at the next key; or neither.
    Move(usize),
    /// All keys in one step.
    Sum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Value(Option<i64>),
    Done,
    Refused,
    Sums(Vec<i64>),
}

#[derive(Clone, Debug)]
struct Event {
    call: Call,
    answer: Answer,
    invoked: u64,
    returned: u64,
}

type State = Vec<Option<i64>>;

/// The state after the call, if the answer fits the state before it.
fn apply(state: &State, call: Call, answer: &Answer) -> Option<State> {
    let mut next = state.clone();
    let amount = |key: usize| state[key].unwrap_or(0);
    let expected = match call {
        Call::Get(key) => Answer::Value(state[key]),
        Call::Set(key, value) => {
            next[key] = Some(value);
            Answer::Done
        }
        Call::Create(key, _) if state[key].is_some() => Answer::Refused,
        Call::Create(key, value) => {
            next[key] = Some(value);
            Answer::Done
        }
        Call::Delete(key) => {
            next[key] = None;
            Answer::Done
        }
        Call::Take(key) | Call::Move(key) if amount(key) < 1 => Answer::Refused,
        Call::Take(key) => {
            next[key] = Some(amount(key) - 1);
            Answer::Done
        }
        Call::Move(key) => {
            let to = (key + 1) % KEYS;
            next[key] = Some(amount(key) - 1);
            next[to] = Some(amount(to) + 1);
            Answer::Done
        }
        Call::Sum => {
            // An addition of nothing makes the key.
            next.iter_mut().for_each(|value| _ = value.get_or_insert(0));
            Answer::Sums((0..KEYS).map(amount).collect())
        }
    };
    (expected == *answer).then_some(next)
}

/// The same for one key alone: the part of an answer that depends on other keys is taken as given.
fn apply_at(key: usize, state: &State, call: Call, answer: &Answer) -> Option<State> {
    let mut next = state.clone();
    let amount = state[key].unwrap_or(0);
    match call {
        Call::Get(at) | Call::Set(at, _) | Call::Create(at, _) | Call::Delete(at) | Call::Take(at)
            if at != key => {}
        Call::Move(at) if at != key => {
            if *answer == Answer::Done {
                next[key] = Some(amount + 1);
            }
        }
        Call::Move(_) => return apply_at(key, state, Call::Take(key), answer),
        Call::Sum => {
            let Answer::Sums(sums) = answer else { return None };
            next[key] = Some(amount);
            return (sums[key] == amount).then_some(next);
        }
        call => return apply(state, call, answer),
    }
    Some(next)
}

/// Whether some order of the events, in which none comes before one that had returned when it was invoked, explains all
/// answers.
fn has_order(events: &[Event], apply: &dyn Fn(&State, Call, &Answer) -> Option<State>) -> bool {
    let all = events
        .iter()
        .enumerate()
        .fold(0_u64, |all, (index, _)| all | 1 << index);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u64, vec![None; KEYS])];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || {
            events
                .iter()
                .enumerate()
                .filter(|(index, _)| done & 1 << index == 0)
        };
        let first_return = left().map(|(_, event)| event.returned).min().unwrap_or(u64::MAX);
        for (index, event) in left().filter(|(_, event)| event.invoked < first_return) {
            if let Some(next) = apply(&state, event.call, &event.answer) {
                let next = (done | 1 << index, next);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

fn is_linearizable(events: &[Event]) -> bool {
    let commits: Vec<Event> = events
        .iter()
        .filter(|event| !matches!(event.call, Call::Get(_)))
        .cloned()
        .collect();
    has_order(&commits, &apply)
        && (0..KEYS).all(|key| has_order(events, &|state, call, answer| apply_at(key, state, call, answer)))
}

/// What is tested: the store, or a broken one around it.
trait Port: Send + Sync {
    fn get(&self, key: &str) -> Option<i64>;
    fn commit(&self, commit: Commit) -> Outcome;
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

impl Port for SqliteStore {
    fn get(&self, key: &str) -> Option<i64> {
        get(self, key).map(|entry| number(&entry.value))
    }

    fn commit(&self, commit: Commit) -> Outcome {
        run(SqliteStore::commit(self, commit)).unwrap()
    }
}

/// Makes a call; `keys` are those of the history.
fn make(port: &dyn Port, keys: &[String], call: Call) -> Answer {
    let add = |key: usize, delta, min| Mutation::Add {
        key: keys[key].clone(),
        delta,
        min,
        max: None,
    };
    let set = |key: usize, value: i64| Mutation::Set {
        key: keys[key].clone(),
        value: literal(value.to_string()),
        expires: None,
    };
    let mut conditions = Vec::new();
    let mutations = match call {
        Call::Get(key) => return Answer::Value(port.get(&keys[key])),
        Call::Set(key, value) => vec![set(key, value)],
        Call::Create(key, value) => {
            conditions.push(Condition::Absent(keys[key].clone()));
            vec![set(key, value)]
        }
        Call::Delete(key) => vec![Mutation::Delete {
            key: keys[key].clone(),
        }],
        Call::Take(key) => vec![add(key, -1, Some(0))],
        Call::Move(key) => vec![add(key, -1, Some(0)), add((key + 1) % KEYS, 1, None)],
        Call::Sum => (0..KEYS).map(|key| add(key, 0, None)).collect(),
    };
    let commit = Commit {
        partition: "linear".into(),
        conditions,
        mutations,
        ..Commit::default()
    };
    match port.commit(commit) {
        Outcome::Committed(committed) if call == Call::Sum => Answer::Sums(committed.sums),
        Outcome::Committed(_) => Answer::Done,
        Outcome::Refused(_) => Answer::Refused,
        other => panic!("{other:?}"),
    }
}

fn any_call(random: &mut fastrand::Rng) -> Call {
    let (key, value) = (random.usize(..KEYS), random.i64(0..4));
    match random.u8(..12) {
        0..4 => Call::Get(key),
        4 => Call::Set(key, value),
        5 => Call::Create(key, value),
        6 => Call::Delete(key),
        7 | 8 => Call::Take(key),
        9 | 10 => Call::Move(key),
        _ => Call::Sum,
    }
}

/// What happened when several threads made calls on keys of their own history.
fn record(port: &dyn Port, name: usize, random: &mut fastrand::Rng) -> Vec<Event> {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("{name}/{key}")).collect();
    let clock = AtomicU64::new(0);
    let now = || clock.fetch_add(1, Ordering::SeqCst);
    let threads: Vec<Vec<Call>> = (0..THREADS)
        .map(|_| (0..CALLS).map(|_| any_call(random)).collect())
        .collect();
    std::thread::scope(|scope| {
        let calls = threads.into_iter().map(|calls| {
            let (keys, now) = (&keys, &now);
            scope.spawn(move || {
                let timed = calls.into_iter().map(|call| {
                    let invoked = now();
                    let answer = make(port, keys, call);
                    Event {
                        call,
                        answer,
                        invoked,
                        returned: now(),
                    }
                });
                timed.collect::<Vec<_>>()
            })
        });
        let calls: Vec<_> = calls.collect();
        calls
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A history that has no order, if there is one among so many.
fn find_disorder(port: &dyn Port, histories: usize) -> Option<Vec<Event>> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..histories)
        .map(|name| record(port, name, &mut random))
        .find(|events| !is_linearizable(events))
}

fn store(cache_entries: usize) -> (Arc<SqliteStore>, tempfile::TempDir) {
    let directory = scratch();
    let mut options = Options::new(directory.path().join("test.db"));
    options.cache_entries = cache_entries;
    options.memtable_entries = 4;
    options.group_commits = 3;
    (SqliteStore::open(options).unwrap(), directory)
}

#[test]
fn commits_and_reads_are_linearizable() {
    let (store, _directory) = store(262_144);
    assert_eq!(find_disorder(&*store, HISTORIES).map(show), None);
}

/// With a cache of one or two entries in each part, nearly every read is filled from the database.
#[test]
fn commits_and_reads_are_linearizable_while_entries_leave_the_cache() {
    struct Crowded(Arc<SqliteStore>);
    impl Port for Crowded {
        fn get(&self, key: &str) -> Option<i64> {
            // These push others out.
            for n in 0..60 {
                let _ = get(&self.0, &format!("{key} {n}"));
            }
            Port::get(&*self.0, key)
        }
        fn commit(&self, commit: Commit) -> Outcome {
            Port::commit(&*self.0, commit)
        }
    }
    let (store, _directory) = store(0);
    assert_eq!(find_disorder(&Crowded(store), HISTORIES).map(show), None);
}

/// For messages.
fn show(mut events: Vec<Event>) -> String {
    events.sort_by_key(|event| event.invoked);
    let lines = events
        .iter()
        .map(|e| format!("{:>3}–{:<3} {:?} → {:?}", e.invoked, e.returned, e.call, e.answer));
    format!(
        "no order explains this:\n{}",
        lines.collect::<Vec<_>>().join("\n")
    )
}

/// Remembers what it read, without a look at what was committed meanwhile.
struct Stale {
    store: Arc<SqliteStore>,
    cache: Mutex<BTreeMap<String, Option<i64>>>,
}

impl Port for Stale {
    fn get(&self, key: &str) -> Option<i64> {
        if let Some(found) = self.cache.lock().unwrap().get(key) {
            return *found;
        }
        let found = Port::get(&*self.store, key);
        std::thread::yield_now();
        self.cache.lock().unwrap().insert(key.to_owned(), found);
        found
    }

    fn commit(&self, commit: Commit) -> Outcome {
        let keys: Vec<String> = commit.mutations.iter().map(|m| m.key().to_owned()).collect();
        let outcome = Port::commit(&*self.store, commit);
        self.cache.lock().unwrap().retain(|key, _| !keys.contains(key));
        outcome
    }
}

/// Writes the halves of a commit one after the other.
struct Torn(Arc<SqliteStore>);

impl Port for Torn {
    fn get(&self, key: &str) -> Option<i64> {
        Port::get(&*self.0, key)
    }

    fn commit(&self, mut commit: Commit) -> Outcome {
        if commit.mutations.len() < 2
            || commit
                .mutations
                .iter()
                .any(|m| matches!(m, Mutation::Add { delta: 0, .. }))
        {
            return Port::commit(&*self.0, commit);
        }
        let rest = commit.mutations.split_off(1);
        let first = Port::commit(&*self.0, commit);
        if matches!(first, Outcome::Committed(_)) {
            let rest = Commit {
                mutations: rest,
                ..Commit::default()
            };
            Port::commit(&*self.0, rest);
        }
        first
    }
}

/// Shows a value before it is committed.
struct Early {
    store: Arc<SqliteStore>,
    cache: Mutex<BTreeMap<String, i64>>,
}

impl Port for Early {
    fn get(&self, key: &str) -> Option<i64> {
        let early = self.cache.lock().unwrap().get(key).copied();
        early.or_else(|| Port::get(&*self.store, key))
    }

    fn commit(&self, commit: Commit) -> Outcome {
        let shown = commit.mutations.iter().find_map(|mutation| match mutation {
            Mutation::Set { key, value, .. } => match &value[..] {
                [tollgate_store::commit::Part::Bytes(bytes)] => Some((key.clone(), number(bytes))),
                _ => None,
            },
            _ => None,
        });
        if let Some((key, value)) = &shown {
            self.cache.lock().unwrap().insert(key.clone(), *value);
        }
        let outcome = Port::commit(&*self.store, commit);
        if let Some((key, _)) = shown {
            self.cache.lock().unwrap().remove(&key);
        }
        outcome
    }
}

#[test]
fn broken_stores_are_found_out() {
    let (store, _directory) = store(262_144);
    let stale = Stale {
        store: Arc::clone(&store),
        cache: Mutex::default(),
    };
    assert!(find_disorder(&stale, 2_000).is_some(), "stale reads");
    let (store, _directory) = self::store(262_144);
    let early = Early {
        store: Arc::clone(&store),
        cache: Mutex::default(),
    };
    assert!(
        find_disorder(&early, 2_000).is_some(),
        "reads of what is not committed"
    );
    let (store, _directory) = self::store(262_144);
    assert!(find_disorder(&Torn(store), 2_000).is_some(), "half commits");
}

#[test]
fn an_order_is_found_where_there_is_one() {
    let event = |call, answer, invoked, returned| Event {
        call,
        answer,
        invoked,
        returned,
    };
    let overlapping = [
        event(Call::Set(0, 1), Answer::Done, 0, 3),
        event(Call::Get(0), Answer::Value(Some(1)), 1, 2),
    ];
    assert!(is_linearizable(&overlapping));
    let afterwards = [
        event(Call::Set(0, 1), Answer::Done, 0, 1),
        event(Call::Get(0), Answer::Value(None), 2, 3),
    ];
    assert!(!is_linearizable(&afterwards));
}
