//! The machine against a store in memory and an origin that misbehaves, in virtual time: latencies, failures, crashes
//! at any point and lost answers are drawn from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use futures::executor::block_on;
use proptest::prelude::*;

use super::progress::Progress;
use super::record::{DeadLetter, Keys, Waiting};
use super::restore::{fetch, poll, restore};
use super::*;
use tollgate_store::commit::{Append, Mutation, Outcome, StoreError, literal};
use tollgate_store::memory::{InMemoryStore, START};
use tollgate_store::ports::Store;

const TOPIC: &str = "t";
const NAME: &str = "s";
const POLL_MS: u64 = 500;
/// Long enough for every schedule of these tests.
const END: u64 = START + 3_600_000;

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    messages: u64,
    keys: u64,
    concurrency: u32,
    rate: u32,
    ordered: bool,
    /// Of 100 attempts.
    failing: u64,
    /// Messages whose sequence is divisible by it always fail.
    poison: u64,
    crashes: u32,
    store_errors: bool,
    relays: usize,
    /// When it is down, from the start and for how long; and whether it cannot even be connected to.
    down: Option<(u64, u64, bool)>,
    /// Messages in memory, and those that are remembered.
    window: usize,
    held: usize,
    /// What is refused is tried again after an hour only.
    patient: bool,
    /// The bug that was there: what waits takes a place of the window.
    planted: bool,
    /// Several messages at a time.
    batch: Option<Batching>,
    /// A bug: a batch that was refused counts as accepted.
    batch_forgotten: bool,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let load = (
        any::<u64>(),
        1u64..80,
        1u64..12,
        1u32..12,
        20u32..2_000,
        any::<bool>(),
    );
    let down = prop::option::of((0u64..3_000, 1u64..20_000, any::<bool>()));
    let faults = (0u64..60, 3u64..40, 0u32..5, any::<bool>(), 1usize..3, down);
    let sizes = (
        prop::sample::select(vec![2, 5, 16, WINDOW]),
        prop::sample::select(vec![6, 30, MAX_HELD, MAX_HELD]),
    );
    (load, faults, sizes).prop_map(
        |((seed, messages, keys, concurrency, rate, ordered), faults, sizes)| {
            let (failing, poison, crashes, store_errors, relays, down) = faults;
            Scenario {
                seed,
                messages,
                keys,
                concurrency,
                rate,
                ordered,
                failing,
                poison,
                crashes,
                store_errors,
                relays,
                down,
                window: sizes.0,
                held: sizes.1,
                patient: false,
                planted: false,
                batch: None,
                batch_forgotten: false,
            }
        },
    )
}

#[derive(Debug)]
enum Step {
    Tell(Event),
    Commit(Commit),
    Restore,
    Load { after: u64, limit: u32 },
    Fetch(Vec<u64>),
    Arrive(Arc<Message>),
    ArriveTogether(u64, Vec<Arc<Message>>),
    Poll,
}

struct Life {
    machine: Machine,
    /// Counts restarts: what was meant for an earlier life is lost.
    number: u32,
    wake: u64,
    under_way: BTreeMap<u64, String>,
    batches: BTreeMap<u64, Vec<u64>>,
    open_until: u64,
    halted: bool,
}

struct Simulation {
    scenario: Scenario,
    store: InMemoryStore,
    random: u64,
    now: u64,
    counter: u64,
    lives: Vec<Life>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    steps: HashMap<u64, (usize, u32, Step)>,
    delivered: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    attempts: BTreeMap<u64, u32>,
    /// Attempts to find out whether the origin works again that found nobody there.
    free: BTreeMap<u64, u32>,
    begun: Vec<u64>,
    healthy: bool,
}

fn settings(scenario: &Scenario) -> DeliveryPolicy {
    DeliveryPolicy {
        topic: TOPIC.into(),
        name: NAME.into(),
        keys: Keys::new(TOPIC, NAME),
        rate_per_second: f64::from(scenario.rate),
        concurrency: scenario.concurrency,
        ordered: scenario.ordered,
        filter: None,
        batch: scenario.batch,
        schedule: if scenario.patient {
            Schedule::Fixed(vec![3_600_000])
        } else {
            Schedule::Exponential {
                initial_ms: 100,
                factor: 2.0,
                cap_ms: 2_000,
                max_attempts: 4,
            }
        },
        window: scenario.window,
        held: scenario.held,
        pause_after_ms: None,
        breaker: breaker::Thresholds {
            open_cap_ms: 4_000,
            ..breaker::Thresholds::default()
        },
    }
}

impl Simulation {
    fn new(scenario: Scenario) -> Self {
        let lives = (0..scenario.relays).map(|_| Self::life(&scenario, 0)).collect();
        let mut simulation = Self {
            store: InMemoryStore::new(),
            random: scenario.seed | 1,
            now: START,
            counter: 0,
            lives,
            queue: BinaryHeap::new(),
            steps: HashMap::new(),
            delivered: BTreeSet::new(),
            dead: BTreeSet::new(),
            attempts: BTreeMap::new(),
            free: BTreeMap::new(),
            begun: Vec::new(),
            healthy: false,
            scenario,
        };
        for n in 1..=simulation.scenario.messages {
            simulation.append(n);
        }
        for relay in 0..simulation.lives.len() {
            simulation.later(relay, 0, Step::Tell(Event::Tick));
            simulation.later(relay, POLL_MS, Step::Poll);
        }
        simulation
    }

    fn life(scenario: &Scenario, number: u32) -> Life {
        Life {
            machine: Machine::new(settings(scenario)),
            number,
            wake: u64::MAX,
            under_way: BTreeMap::new(),
            batches: BTreeMap::new(),
            open_until: 0,
            halted: false,
        }
    }

    fn append(&self, n: u64) {
        let append = Append {
            topic: TOPIC.into(),
            id: format!("m{n}"),
            key: format!("k{}", n % self.scenario.keys),
            kind: "test".into(),
            content_type: "text/plain".into(),
            attributes: Vec::new(),
            payload: literal(n.to_string()),
        };
        block_on(self.store.commit(Commit {
            appends: vec![append],
            ..Commit::default()
        }))
        .unwrap();
    }

    fn draw(&mut self) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.draw() >> 11) % bound
    }

    fn later(&mut self, relay: usize, delay: u64, step: Step) {
        self.counter += 1;
        let number = self.lives[relay].number;
        self.queue.push(Reverse((self.now + delay, self.counter)));
        self.steps.insert(self.counter, (relay, number, step));
    }

    /// Until nothing is left to be done but to look for news.
    fn run(&mut self) {
        self.run_until(END);
    }

    /// The same, or until `end`.
    fn run_until(&mut self, end: u64) {
        let mut crashes = self.scenario.crashes;
        while !self.is_done() && (end == END || self.now < end) {
            let due = self.queue.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            let woken = (0..self.lives.len())
                .min_by_key(|&i| self.lives[i].wake)
                .expect("a relay");
            let wake = self.lives[woken].wake;
            self.now = self.now.max(due.min(wake));
            self.store.set_now(self.now);
            assert!(
                self.now < END,
                "it does not come to an end: {:?}",
                self.lives[0].machine
            );
            if crashes > 0 && self.below(60) == 0 {
                crashes -= 1;
                let relay = self.below(self.lives.len() as u64) as usize;
                self.crash(relay);
                continue;
            }
            if wake < due {
                self.lives[woken].wake = u64::MAX;
                self.tell(woken, Event::Tick);
                continue;
            }
            let Some(Reverse((_, id))) = self.queue.pop() else {
                panic!("nothing to do, and not done")
            };
            let (relay, number, step) = self.steps.remove(&id).expect("queued with it");
            if self.lives[relay].number == number {
                self.carry_out(relay, step);
            }
        }
    }

    fn is_done(&self) -> bool {
        let finished = |life: &Life| life.machine.snapshot().watermark >= self.scenario.messages;
        self.lives.iter().any(finished)
            && self.progress().watermark() == self.scenario.messages
            && self.entries::<Waiting>("retry").is_empty()
            && self
                .lives
                .iter()
                .all(|life| life.under_way.is_empty() && life.machine.is_drained())
    }

    fn progress(&self) -> Progress {
        let keys = Keys::new(TOPIC, NAME);
        let found = block_on(self.store.get(keys.partition(), &[keys.progress()]));
        let Ok(found) = found else {
            return Progress::default();
        };
        found[0]
            .as_ref()
            .map(|e| serde_json::from_slice(&e.value).unwrap())
            .unwrap_or_default()
    }

    fn entries<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let prefix = format!("{}{kind}/", Keys::new(TOPIC, NAME).prefix());
        let found =
            block_on(self.store.scan(&prefix, None, 1_000)).expect("no failure is pending between steps");
        found
            .iter()
            .map(|i| serde_json::from_slice(&i.entry.value).unwrap())
            .collect()
    }

    fn crash(&mut self, relay: usize) {
        let number = self.lives[relay].number + 1;
        self.lives[relay] = Self::life(&self.scenario, number);
        let delay = self.below(2_000);
        self.later(relay, delay, Step::Tell(Event::Tick));
        self.later(relay, delay + POLL_MS, Step::Poll);
    }

    fn tell(&mut self, relay: usize, event: Event) {
        if let Event::Attempted { sequence, .. } = &event {
            self.lives[relay].under_way.remove(sequence);
        }
        if let Event::BatchAttempted { number, .. } = &event {
            let ended = self.lives[relay].batches.remove(number).expect("it is under way");
            ended
                .iter()
                .for_each(|sequence| drop(self.lives[relay].under_way.remove(sequence)));
        }
        let (now, random) = (self.now, self.draw());
        for action in self.lives[relay].machine.handle(now, random, event) {
            let delay = self.below(30);
            match action {
                Action::Restore => self.later(relay, delay, Step::Restore),
                Action::Load { after, limit } => self.later(relay, delay, Step::Load { after, limit }),
                Action::Fetch { sequences } => self.later(relay, delay, Step::Fetch(sequences)),
                Action::Persist(commit) => self.later(relay, delay, Step::Commit(commit)),
                Action::Wake { at } => self.lives[relay].wake = at,
                Action::Halt => self.lives[relay].halted = true,
                Action::Send { message, attempt } => {
                    self.sent(relay, &message, attempt);
                    let most = self.scenario.concurrency as usize;
                    assert!(self.lives[relay].under_way.len() <= most);
                    self.begun.push(self.now);
                    let delay = self.below(60);
                    self.later(relay, delay, Step::Arrive(message));
                }
                Action::SendBatch { number, messages } => self.sent_together(relay, number, messages),
                Action::Note(note) => self.noted(relay, note),
            }
        }
    }

    fn noted(&mut self, relay: usize, note: Note) {
        match note {
            Note::Breaker(breaker::Change::Opened { until }) => self.lives[relay].open_until = until,
            Note::Breaker(breaker::Change::Closed) => self.lives[relay].open_until = 0,
            Note::Dead { sequence, .. } => {
                self.dead.insert(sequence);
            }
            other => panic!("nothing of this kind happens here: {other:?}"),
        }
    }

    fn sent_together(&mut self, relay: usize, number: u64, messages: Vec<(Arc<Message>, u32)>) {
        let batch = self.scenario.batch.expect("there are batches");
        assert!((1..=batch.most).contains(&messages.len()));
        for (message, attempt) in &messages {
            self.sent(relay, message, *attempt);
        }
        let sequences = messages.iter().map(|(message, _)| message.sequence).collect();
        let batches = &mut self.lives[relay].batches;
        assert!(batches.insert(number, sequences).is_none());
        assert!(batches.len() <= self.scenario.concurrency as usize);
        self.begun.push(self.now);
        let messages = messages.into_iter().map(|(message, _)| message).collect();
        let delay = self.below(60);
        self.later(relay, delay, Step::ArriveTogether(number, messages));
    }

    fn sent(&mut self, relay: usize, message: &Arc<Message>, attempt: u32) {
        let (scenario, sequence) = (&self.scenario, message.sequence);
        let life = &mut self.lives[relay];
        assert!(self.now >= life.open_until, "sent while the breaker is open");
        assert!(attempt <= 4);
        let earlier = life.under_way.insert(sequence, message.key.clone());
        assert!(earlier.is_none(), "{sequence} is under way twice");
        if scenario.ordered {
            let same_key = life.under_way.values().filter(|key| **key == message.key).count();
            assert_eq!(same_key, 1, "one message of a key at a time");
        }
        if scenario.ordered && scenario.relays == 1 && !self.healthy {
            let mut before = (1..sequence).filter(|s| s % scenario.keys == sequence % scenario.keys);
            let ahead = before.find(|s| !self.delivered.contains(s) && !self.dead.contains(s));
            assert_eq!(ahead, None, "{sequence} overtook a message of its key");
        }
        *self.attempts.entry(sequence).or_default() += 1;
    }

    fn carry_out(&mut self, relay: usize, step: Step) {
        let delay = self.below(10);
        if let Step::Tell(event) = step {
            return self.tell(relay, event);
        }
        let touches_store = !matches!(step, Step::Arrive(_) | Step::ArriveTogether(..));
        if touches_store && self.scenario.store_errors && self.below(20) == 0 {
            let lost = self.below(2) == 0;
            let error = if lost {
                StoreError::Unknown
            } else {
                StoreError::Unavailable
            };
            self.store.fail_next(error("simulated".into()));
        }
        let keys = Keys::new(TOPIC, NAME);
        let event = match step {
            Step::Tell(_) => return,
            Step::Commit(commit) => match block_on(self.store.commit(commit)) {
                Ok(Outcome::Committed(done)) => Event::Persisted {
                    version: done.version,
                },
                Ok(Outcome::Refused(_)) | Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {
                    Event::PersistFailed
                }
                other => panic!("{other:?}"),
            },
            Step::Restore => match block_on(restore(&self.store, TOPIC, &keys)) {
                Ok(restored) => Event::Restored(Box::new(restored)),
                Err(_) => Event::RestoreFailed,
            },
            Step::Load { .. }
                if self.scenario.planted
                    && self.attempts.len() - self.delivered.len() >= self.scenario.window =>
            {
                return self.later(relay, 200, step);
            }
            Step::Load { after, limit } => match block_on(self.store.read(TOPIC, after, limit, 0)) {
                Ok(messages) if messages.is_empty() => {
                    return self.later(relay, 200, Step::Tell(Event::Loaded(messages)));
                }
                Ok(messages) => Event::Loaded(messages),
                Err(_) => Event::LoadFailed,
            },
            Step::Fetch(sequences) => match block_on(fetch(&self.store, TOPIC, &keys, &sequences)) {
                Ok(found) => Event::Fetched(found),
                Err(_) => Event::FetchFailed,
            },
            Step::Poll => {
                self.later(relay, POLL_MS, Step::Poll);
                match block_on(poll(&self.store, &keys)) {
                    Ok(polled) => Event::Polled(polled),
                    Err(_) => return,
                }
            }
            Step::ArriveTogether(number, messages) => {
                let refused = messages
                    .iter()
                    .map(|message| self.arrives(relay, message.sequence))
                    .find(|delivered| *delivered != Delivered::Accepted);
                if refused.is_none() {
                    self.delivered
                        .extend(messages.iter().map(|message| message.sequence));
                }
                let delivered = refused.filter(|_| !self.scenario.batch_forgotten);
                let delivered = delivered.unwrap_or(Delivered::Accepted);
                Event::BatchAttempted {
                    number,
                    delivered,
                    answered: Default::default(),
                }
            }
            Step::Arrive(message) => {
                let delivered = self.arrives(relay, message.sequence);
                if delivered == Delivered::Accepted {
                    self.delivered.insert(message.sequence);
                }
                Event::Attempted {
                    sequence: message.sequence,
                    delivered,
                    answered: Default::default(),
                }
            }
        };
        self.later(relay, delay, Step::Tell(event));
    }

    /// The same, and whether it is a probe that finds nobody there.
    fn arrives(&mut self, relay: usize, sequence: u64) -> Delivered {
        let delivered = self.deliver(sequence);
        let is_unreachable = matches!(
            delivered,
            Delivered::Refused {
                blame: Blame::Unreachable,
                ..
            }
        );
        if is_unreachable && self.lives[relay].machine.snapshot().breaker == "half-open" {
            *self.free.entry(sequence).or_default() += 1;
        }
        delivered
    }

    fn deliver(&mut self, sequence: u64) -> Delivered {
        let refused = |blame| Delivered::refused(blame, "refused");
        if self.healthy {
            return Delivered::Accepted;
        }
        let since = self.now - START;
        if let Some((from, length, is_unreachable)) = self.scenario.down
            && (from..from + length).contains(&since)
        {
            return match is_unreachable {
                true => refused(Blame::Unreachable),
                false => refused(Blame::Origin),
            };
        }
        let poisoned = sequence.is_multiple_of(self.scenario.poison);
        if self.scenario.patient {
            return if poisoned {
                refused(Blame::Message)
            } else {
                Delivered::Accepted
            };
        }
        if !poisoned && self.below(100) >= self.scenario.failing {
            return Delivered::Accepted;
        }
        match self.below(5) {
            0 | 3 => refused(Blame::Message),
            2 => Delivered::Refused {
                why: "too much".into(),
                blame: Blame::Origin,
                is_final: false,
                retry_after_ms: Some(700),
            },
            _ => refused(Blame::Origin),
        }
    }

    fn check_end(&self) {
        assert_eq!(self.progress(), Progress::up_to(self.scenario.messages));
        let dead: BTreeSet<u64> = self
            .entries::<DeadLetter>("dead")
            .iter()
            .map(|d| d.sequence)
            .collect();
        for sequence in 1..=self.scenario.messages {
            assert!(
                self.delivered.contains(&sequence) || dead.contains(&sequence),
                "{sequence} is lost"
            );
            if self.scenario.crashes == 0 && self.scenario.relays == 1 {
                assert!(self.delivered.contains(&sequence) != dead.contains(&sequence));
                // A batch that its messages are to blame for costs none of them an attempt, once.
                let free = u32::from(self.scenario.batch.is_some());
                let probes = self.free.get(&sequence).copied().unwrap_or_default();
                assert!(self.attempts[&sequence] <= 4 + free + probes);
            }
        }
        if self.scenario.relays == 1 && self.scenario.crashes == 0 {
            let rate = u64::from(self.scenario.rate);
            for (i, start) in self.begun.iter().enumerate() {
                let within = self.begun[i..]
                    .iter()
                    .take_while(|at| **at < start + 1_000)
                    .count() as u64;
                assert!(
                    within <= rate + rate * pacer::BURST_MS / 1_000 + 2,
                    "{within} in a second"
                );
            }
        }
    }

    /// The first message that was not delivered although nothing refused stands before it.
    fn held_up(&self) -> Option<u64> {
        let refused = |s: u64| s.is_multiple_of(self.scenario.poison);
        let same_key =
            |a: u64, b: u64| self.scenario.ordered && a % self.scenario.keys == b % self.scenario.keys;
        (1..=self.scenario.messages).find(|&s| {
            let behind = (1..s).any(|before| refused(before) && same_key(before, s));
            !behind && !refused(s) && !self.delivered.contains(&s)
        })
    }

    fn redrive_all(&mut self) {
        let keys = Keys::new(TOPIC, NAME);
        for letter in self.entries::<DeadLetter>("dead") {
            let waiting = Waiting {
                redriven: true,
                message: letter.message,
                ..Waiting::default()
            };
            let value = literal(serde_json::to_vec(&waiting).unwrap());
            let mutations = vec![
                Mutation::Delete {
                    key: keys.dead(letter.sequence),
                },
                Mutation::Set {
                    key: keys.retry(letter.sequence),
                    value,
                    expires: None,
                },
                Mutation::Add {
                    key: keys.redrives(),
                    delta: 1,
                    min: None,
                    max: None,
                },
            ];
            block_on(self.store.commit(Commit {
                mutations,
                ..Commit::default()
            }))
            .unwrap();
        }
        self.healthy = true;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_message_is_delivered_or_a_dead_letter_whatever_happens(scenario in scenarios()) {
        let mut simulation = Simulation::new(scenario);
        simulation.run();
        simulation.check_end();
        // What was given up is delivered once the origin is well and it is asked for.
        simulation.redrive_all();
        simulation.scenario.crashes += 1;
        simulation.run();
        prop_assert!(simulation.entries::<DeadLetter>("dead").is_empty());
        prop_assert!(simulation.lives.iter().all(|life| !life.halted));
        prop_assert_eq!(simulation.delivered.len() as u64, simulation.scenario.messages);
    }

    /// The same where messages are put together: nothing is lost, the order of keys holds, and attempts are counted.
    #[test]
    fn every_message_of_a_batch_is_delivered_or_a_dead_letter(scenario in in_batches()) {
        let mut simulation = Simulation::new(scenario);
        simulation.run();
        simulation.check_end();
    }

    /// Invariant 9: a message that is refused holds up its own ordering key only, however many are refused.
    #[test]
    fn a_refused_message_holds_up_its_own_key_only(scenario in refusals()) {
        let simulation = besieged(scenario);
        prop_assert_eq!(simulation.held_up(), None);
        for life in &simulation.lives {
            let snapshot = life.machine.snapshot();
            prop_assert!(snapshot.window <= simulation.scenario.window + MAX_LOAD);
        }
    }
}

fn in_batches() -> impl Strategy<Value = Scenario> {
    (scenarios(), 1usize..9, 10u64..400).prop_map(|(scenario, most, interval_ms)| Scenario {
        batch: Some(Batching { most, interval_ms }),
        ..scenario
    })
}

/// Many are refused for an hour; the origin is well else.
fn refusals() -> impl Strategy<Value = Scenario> {
    let many = (200u64..600, 1u64..400, 2u64..12, 0u32..3);
    (scenarios(), many).prop_map(|(scenario, (messages, keys, poison, crashes))| Scenario {
        messages,
        keys,
        poison,
        crashes,
        window: scenario.window.min(32),
        held: MAX_HELD,
        rate: scenario.rate.max(200),
        failing: 0,
        store_errors: false,
        relays: 1,
        down: None,
        patient: true,
        ..scenario
    })
}

/// What it has come to after two minutes.
fn besieged(scenario: Scenario) -> Simulation {
    let mut simulation = Simulation::new(scenario);
    simulation.run_until(START + 120_000);
    simulation
}

/// Without this, the property above could pass by looking away.
#[test]
fn a_window_that_is_full_of_what_waits_is_found() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let found = (0..20).any(|_| {
        let tree = refusals().new_tree(&mut runner).unwrap();
        let scenario = Scenario {
            planted: true,
            ..tree.current()
        };
        besieged(scenario).held_up().is_some()
    });
    assert!(found);
}

/// Without this, the property of batches could pass by looking away.
#[test]
fn a_refused_batch_that_counts_as_accepted_is_found() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let found = (0..20).any(|_| {
        let scenario = Scenario {
            batch_forgotten: true,
            ..in_batches().new_tree(&mut runner).unwrap().current()
        };
        let run = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(scenario);
            simulation.run();
            simulation.check_end();
        });
        run.is_err()
    });
    assert!(found);
}
