//! The pool, its instances' tasks, and callers, under many orders of their turns. What is called is no WebAssembly: a
//! door whose calls answer, trap, never answer, or keep their whole instance from going on, as a seed has it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::runtime::seeded::{run, thread};
use super::runtime::{sleep, spawn_local, timeout};
use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use tollgate_engine::{MemoryBuckets, Options, SqliteStore};
use wasmtime::Store;
use wasmtime::component::Accessor;

/// How long a call may take, in milliseconds.
const TIMEOUT: u64 = 1_000;
/// How late the thread may be, in all, in milliseconds.
const LATENESS: u64 = TIMEOUT / 4;
const SEEDS: u64 = 3_000;

/// What a call does, so many milliseconds after the instance took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answers(u64),
    Traps(u64),
    NeverAnswers,
    /// The guest runs without a pause, so that nothing else of its instance goes on; then it answers, or is ended.
    Sticks {
        for_ms: u64,
        ends: bool,
    },
}

/// The pool, and what it calls.
type Guests = Pool<Rc<World>>;

struct Request {
    number: usize,
    fate: Fate,
}

/// What is known of a call.
#[derive(Clone, Copy, Debug)]
struct Known {
    fate: Fate,
    begun: u64,
    /// How many instances had been given up before it began.
    given_up: usize,
    /// By which instance, and when.
    taken: Option<(usize, u64)>,
}

/// What is known of an instance.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    alive: bool,
    /// It trapped, stuck, or did not start as it should.
    failed: bool,
    /// A call of it ended or timed out: when, and as which of all instances that were given up.
    given_up: Option<(u64, usize)>,
}

/// The guests of one seed, and what became of them.
struct World {
    calls: RefCell<Vec<Known>>,
    under_way: Cell<usize>,
    instances: RefCell<Vec<Seen>>,
    given_up: Cell<usize>,
    faults: Cell<bool>,
    outcomes: RefCell<BTreeMap<&'static str, u64>>,
}

/// An instance for as long as it lives.
struct Instance {
    number: usize,
    world: Rc<World>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.world.instances.borrow_mut()[self.number].alive = false;
    }
}

impl Instance {
    fn failed(&self) {
        self.world.instances.borrow_mut()[self.number].failed = true;
    }
}

impl Door for Rc<World> {
    type Input = Request;
    type Output = usize;
    type Instance = Instance;

    async fn instantiate(&self, _: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        let instance = self.started();
        if self.faults.get() {
            let kind = thread().random().u8(..20);
            if kind < 3 {
                instance.failed();
            }
            if kind == 1 || kind == 2 {
                sleep(Duration::from_millis(TIMEOUT / 2)).await;
            }
            if kind == 0 || kind == 1 {
                return Err(wasmtime::format_err!("it does not start"));
            }
        }
        Ok(instance)
    }

    async fn call(instance: &Instance, _: &Accessor<Guest>, request: Request) -> wasmtime::Result<usize> {
        instance.world.taken(request.number, instance.number);
        match request.fate {
            Fate::Answers(after) => sleep(Duration::from_millis(after)).await,
            Fate::Traps(after) => {
                sleep(Duration::from_millis(after)).await;
                instance.failed();
                return Err(wasmtime::format_err!("trap"));
            }
            Fate::NeverAnswers => pending().await,
            Fate::Sticks { for_ms, ends } => {
                instance.failed();
                thread().stick(for_ms, ends);
                sleep(Duration::from_millis(for_ms)).await;
            }
        }
        Ok(request.number)
    }
}

impl World {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            calls: RefCell::default(),
            under_way: Cell::new(0),
            instances: RefCell::default(),
            given_up: Cell::new(0),
            faults: Cell::new(true),
            outcomes: RefCell::default(),
        })
    }

    fn started(self: &Rc<Self>) -> Instance {
        let now = thread().now();
        let mut instances = self.instances.borrow_mut();
        instances.push(Seen {
            alive: true,
            ..Seen::default()
        });
        let alive = instances.iter().filter(|instance| instance.alive).count();
        assert!(alive <= 2 * INSTANCES + INSTANCES, "{alive} instances at once");
        for instance in instances.iter().filter(|instance| instance.alive) {
            let since = instance.given_up.map_or(now, |(at, _)| at);
            assert!(
                now <= since + TIMEOUT + LATENESS,
                "{instance:?} lives on at {now}"
            );
        }
        Instance {
            number: instances.len() - 1,
            world: Rc::clone(self),
        }
    }

    fn taken(&self, call: usize, instance: usize) {
        let known = &mut self.calls.borrow_mut()[call];
        assert!(known.taken.is_none(), "call {call} is made twice");
        known.taken = Some((instance, thread().now()));
        if let Some((_, nth)) = self.instances.borrow()[instance].given_up {
            assert!(
                nth >= known.given_up,
                "call {call} was given to instance {instance}, which had been replaced"
            );
        }
    }

    /// One call, from its beginning to its only outcome. `patience`: when the caller gives up by itself.
    async fn call(&self, pool: &Guests, fate: Fate, patience: Option<u64>) {
        let number = self.calls.borrow().len();
        let begun = thread().now();
        self.calls.borrow_mut().push(Known {
            fate,
            begun,
            given_up: self.given_up.get(),
            taken: None,
        });
        let under_way = self.under_way.replace(self.under_way.get() + 1);
        let call = pool.call(Request { number, fate });
        let outcome = match patience {
            Some(patience) => timeout(Duration::from_millis(patience), call).await,
            None => Ok(call.await),
        };
        self.under_way.set(self.under_way.get() - 1);
        let Ok(outcome) = outcome else {
            return self.count("given up by its caller");
        };
        self.ended(number, outcome, under_way);
    }

    fn ended(&self, number: usize, outcome: Result<usize, CallError>, others: usize) {
        let (now, known) = (thread().now(), self.calls.borrow()[number]);
        assert!(
            now <= known.begun + TIMEOUT + LATENESS,
            "{known:?} ended at {now}"
        );
        self.count(match outcome {
            Ok(_) => "answered",
            Err(CallError::Busy) => "busy",
            Err(CallError::Ended) => "ended",
            Err(CallError::TimedOut) => "timed out",
        });
        match outcome {
            Ok(answer) => {
                let answers = matches!(known.fate, Fate::Answers(_) | Fate::Sticks { ends: false, .. });
                assert!(
                    answer == number && answers,
                    "{known:?} was answered with {answer}"
                );
                return;
            }
            Err(CallError::Busy) => {
                assert!(others >= instance::MAX_CALLS, "busy with {others} calls");
                return;
            }
            Err(CallError::Ended | CallError::TimedOut) => {}
        }
        let Some((instance, at)) = known.taken else {
            return;
        };
        let instance = &mut self.instances.borrow_mut()[instance];
        if let Fate::Answers(after) = known.fate {
            let in_time = at + after + LATENESS < known.begun + TIMEOUT;
            assert!(
                instance.failed || !in_time,
                "{known:?} came to {outcome:?} on {instance:?}"
            );
        }
        if instance.given_up.is_none() {
            instance.given_up = Some((now, self.given_up.get()));
            self.given_up.set(self.given_up.get() + 1);
        }
    }

    fn count(&self, outcome: &'static str) {
        *self.outcomes.borrow_mut().entry(outcome).or_default() += 1;
    }

    /// A call of the seed, and how long its caller waits.
    fn any() -> (Fate, Option<u64>) {
        let thread = thread();
        let mut random = thread.random();
        let fate = match random.u8(..20) {
            0 | 1 => Fate::Traps(random.u64(..50)),
            2 | 3 => Fate::NeverAnswers,
            4 => Fate::Sticks {
                for_ms: random.u64(1..2 * TIMEOUT),
                ends: random.bool(),
            },
            _ => Fate::Answers(random.u64(..TIMEOUT / 2)),
        };
        let patience = (random.u8(..8) == 0).then(|| random.u64(1..TIMEOUT));
        (fate, patience)
    }
}

/// What instances need to start.
fn engines() -> (Engine, Engines, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let engines = Engines {
        store: SqliteStore::open(Options::new(directory.path().join("tollgate.db"))).unwrap(),
        buckets: Arc::new(MemoryBuckets::new(10)),
        settings: "".into(),
        settling: Default::default(),
    };
    let engine = crate::wasm::compiled::Engines::new(1, 1).unwrap().waiting;
    (engine, engines, directory)
}

/// The seed that is run: said when it fails.
struct Running(Cell<u64>);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0.get());
        }
    }
}

/// Runs a story with a pool of its own, under many seeds.
fn explore<F: Future<Output = ()> + 'static>(
    story: fn(Rc<World>, Rc<Guests>) -> F,
) -> BTreeMap<&'static str, u64> {
    let (engine, engines, _directory) = engines();
    let seen: Rc<RefCell<BTreeMap<&str, u64>>> = Rc::default();
    let running = Running(Cell::new(0));
    for seed in 0..SEEDS {
        running.0.set(seed);
        let (engine, engines, seen) = (engine.clone(), engines.clone(), Rc::clone(&seen));
        run(seed, LATENESS, async move {
            let world = World::new();
            let door = Rc::new(Rc::clone(&world));
            let pool = Pool::new(engine, engines, door, "model", Duration::from_millis(TIMEOUT));
            story(Rc::clone(&world), pool).await;
            for (outcome, count) in world.outcomes.take() {
                *seen.borrow_mut().entry(outcome).or_default() += count;
            }
        });
    }
    seen.take()
}

/// Spawns a caller.
fn caller(world: &Rc<World>, pool: &Rc<Guests>, fate: Fate, patience: Option<u64>) {
    let (world, pool) = (Rc::clone(world), Rc::clone(pool));
    spawn_local(async move { world.call(&pool, fate, patience).await });
}

#[test]
fn every_call_has_one_outcome_and_when_faults_have_stopped_all_are_answered() {
    let seen = explore(|world, pool| async move {
        let crowd = match thread().random().u8(..30) {
            0 => 4 * instance::MAX_CALLS * INSTANCES,
            _ => 40,
        };
        // A crowd may come at once, and leave before the time is up.
        let hurry = thread().random().bool();
        for _ in 0..crowd {
            let (fate, patience) = match crowd {
                40 => World::any(),
                _ => (Fate::NeverAnswers, hurry.then_some(TIMEOUT / 2)),
            };
            caller(&world, &pool, fate, patience);
            let pause = match crowd {
                40 => thread().random().u64(..TIMEOUT / 4),
                _ => 0,
            };
            sleep(Duration::from_millis(pause)).await;
        }
        world.faults.set(false);
        sleep(Duration::from_millis(4 * TIMEOUT)).await;
        assert_eq!(world.under_way.get(), 0, "some have had no outcome");
        let before = world.outcomes.borrow().get("answered").copied().unwrap_or(0);
        const CALM: u64 = 20;
        for _ in 0..CALM {
            caller(&world, &pool, Fate::Answers(1), None);
        }
        sleep(Duration::from_millis(3 * TIMEOUT)).await;
        assert_eq!(world.outcomes.borrow()["answered"] - before, CALM, "all is calm");
        let alive = world
            .instances
            .borrow()
            .iter()
            .filter(|instance| instance.alive)
            .count();
        assert_eq!(alive, INSTANCES);
    });
    for outcome in ["answered", "busy", "ended", "timed out", "given up by its caller"] {
        assert!(
            seen.get(outcome).is_some_and(|count| *count > 100),
            "{outcome}: {seen:?}"
        );
    }
}

#[test]
fn calls_pass_by_an_instance_that_is_stuck() {
    explore(|world, pool| async move {
        world.faults.set(false);
        let stuck = Fate::Sticks {
            for_ms: TIMEOUT / 2,
            ends: true,
        };
        caller(&world, &pool, stuck, None);
        sleep(Duration::from_millis(1)).await;
        for _ in 0..5 {
            world.call(&pool, Fate::Answers(1), None).await;
        }
        assert_eq!(world.outcomes.borrow()["answered"], 5);
    });
}
