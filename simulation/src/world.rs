//! The state that the tasks of one run share: the seed's random numbers, the clocks, the weather (which
//! faults are on), and the findings.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tollgate_api::time;
use tollgate_delivery::breaker;
use tollgate_delivery::relay;
use tollgate_rules::settings::Settings;
use tollgate_store::memory::START;

use crate::Options;
use crate::bug::Bug;
use crate::coverage::{Coverage, Seen};
use crate::disk::Disk;
use crate::executor::Executor;
use crate::model::Model;
use crate::model::room::OPENS;
use crate::origin::Mode;
use crate::postgres::Database;
use crate::server::Server;

/// The admin key that every seed installs.
pub const ADMIN: &str = "an-admin-key-for-simulation";
/// The topics that the origin is sent.
pub const TOPICS: [&str; 2] = ["coupon", "orders"];
/// The topic of the draw, which nobody is sent.
pub const DRAWS: &str = "draw";
/// A topic that is deleted now and then.
pub const SCRATCH: &str = "scratch";
/// The waiting room.
pub const ROOM: &str = "queue";
/// The name of each topic's consumer group.
pub const GROUP: &str = "workers";
/// The name of each topic's subscription.
pub const SUBSCRIPTION: &str = "shop";

/// Messages in the memory of a relay: few, so that those that wait are parked.
const WINDOW: usize = 4;

/// The same in every seed; made once per thread.
pub struct Setup {
    pub settings: Settings,
    pub relays: [relay::DeliveryPolicy; 2],
}

const CONFIG: &str = r#"
[[limits]]
name = "client"
capacity = 12
refill = 30

[[limits]]
name = "everybody"
per = ["all"]
capacity = 60
refill = 150

[[limits]]
name = "claims"
path = "/api/campaigns/..."
methods = ["POST"]
cost = 3
capacity = 18
refill = 40

[[limits]]
name = "watched"
capacity = 6
refill = 10
interval = "3s"
shadow = true

[[quotas]]
name = "wins"
path = "/api/campaigns/:id/claims"
methods = ["POST"]
per = ["user"]
limit = 6
window = "hour"
count = "status:2xx"

[[forward]]
path = "/signup"
topic = "orders"
ordering = "client"

[[topics.coupon.subscriptions]]
name = "shop"
url = "http://origin.example/coupon"
rate_per_second = 400
concurrency = 3
retry = { initial = "50ms", factor = 2.0, cap = "400ms", max_attempts = 4 }

[[topics.orders.subscriptions]]
name = "shop"
url = "http://origin.example/orders"
rate_per_second = 150
concurrency = 4
retry = { schedule = ["40ms", "200ms"] }
"#;

impl Setup {
    pub fn new() -> Rc<Self> {
        let room = format!(
            "[[rooms]]\nname = \"{ROOM}\"\npath = \"/behind\"\nadmit_per_second = 20\nopens = \"{}\"\n",
            time::format(OPENS)
        );
        let settings =
            Settings::parse(&[CONFIG, &room].concat(), "simulation").expect("the text above is valid");
        let relays = TOPICS.map(|topic| {
            let subscription = &settings.config.topics[topic].subscriptions[0];
            relay::DeliveryPolicy {
                pause_after_ms: None,
                breaker: breaker::Thresholds {
                    consecutive_failures: 6,
                    open_initial_ms: 100,
                    open_cap_ms: 1_000,
                    ..breaker::Thresholds::default()
                },
                window: WINDOW,
                ..relay::DeliveryPolicy::from_config(topic, subscription)
            }
        });
        Rc::new(Self { settings, relays })
    }
}

/// Which faults are on. Times are microseconds since the beginning.
#[derive(Default)]
pub struct Weather {
    /// The wall clock, milliseconds ahead of true time.
    pub wall_ms: Cell<i64>,
    /// The limiter's clock, nanoseconds ahead of true time.
    pub bucket_ns: Cell<i64>,
    pub slow_until: Cell<u64>,
    pub full_until: Cell<u64>,
    pub network_until: Cell<u64>,
    pub reads_until: Cell<u64>,
    pub sync_fails: Cell<bool>,
    pub origins: [Cell<(Mode, u64)>; 2],
}

/// The state that the tasks of one run share.
pub struct Sim {
    pub executor: Executor,
    pub setup: Rc<Setup>,
    pub bug: Option<Bug>,
    /// Whether holds that have ended are given back by a sweep, and not only by those who need them.
    pub sweeps: bool,
    /// Whether a topic is deleted now and then.
    pub scratches: bool,
    pub model: RefCell<Model>,
    pub disk: RefCell<Disk>,
    /// By place; nothing where a process has ended.
    servers: RefCell<Vec<Option<Rc<Server>>>>,
    /// What gateways share, where there are several.
    pub database: Database,
    pub weather: Weather,
    /// When all that a seed begins with was there.
    pub prepared: Cell<u64>,
    /// No more faults.
    pub calm: Cell<bool>,
    pub done: Cell<bool>,
    pub coverage: RefCell<Coverage>,
    random: RefCell<fastrand::Rng>,
    violation: RefCell<Option<String>>,
    trace: Option<RefCell<Vec<String>>>,
}

impl Sim {
    pub fn new(seed: u64, setup: Rc<Setup>, options: Options) -> Rc<Self> {
        let Options { bug, trace, fleet } = options;
        let gateways = if fleet { 2 + seed % 4 } else { 1 };
        Rc::new(Self {
            executor: Executor::new(),
            setup,
            bug,
            sweeps: seed.is_multiple_of(2),
            scratches: seed % 5 == 4,
            model: RefCell::default(),
            disk: RefCell::default(),
            servers: RefCell::new((0..gateways).map(|_| None).collect()),
            database: Database::default(),
            weather: Weather::default(),
            prepared: Cell::new(u64::MAX),
            calm: Cell::new(false),
            done: Cell::new(false),
            coverage: RefCell::default(),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            violation: RefCell::default(),
            trace: trace.then(RefCell::default),
        })
    }

    /// How many gateways there are.
    pub fn gateways(&self) -> u8 {
        u8::try_from(self.servers.borrow().len()).unwrap_or(u8::MAX)
    }

    /// Whether several share a store.
    pub fn is_fleet(&self) -> bool {
        self.servers.borrow().len() > 1
    }

    /// The process at a place, if it runs.
    pub fn server(&self, place: u8) -> Option<Rc<Server>> {
        self.servers.borrow().get(usize::from(place)).cloned().flatten()
    }

    /// A process runs there from now on, or none does.
    pub fn set_server(&self, place: u8, server: Option<Rc<Server>>) {
        let before = self
            .servers
            .borrow_mut()
            .get_mut(usize::from(place))
            .map(|at| std::mem::replace(at, server));
        drop(before);
    }

    /// Whichever of the processes a request comes to, if one runs there.
    pub fn any_server(&self) -> Option<Rc<Server>> {
        match self.gateways() {
            1 => self.server(0),
            several => self.server(self.below(several.into()) as u8),
        }
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().u64(0..bound.max(1))
    }

    pub fn pick(&self, bound: usize) -> usize {
        self.random.borrow_mut().usize(0..bound.max(1))
    }

    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub fn bits(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// With a probability of `n` in a thousand; also when all is calm.
    pub fn one_of(&self, n: u64) -> bool {
        self.below(1_000) < n
    }

    /// The same for a fault: never when all is calm.
    pub fn fault(&self, n: u64) -> bool {
        !self.calm.get() && self.one_of(n)
    }

    /// Whether a period of faults is on.
    pub fn is_on(&self, until: &Cell<u64>) -> bool {
        !self.calm.get() && self.executor.now() < until.get()
    }

    pub fn fresh(&self) -> [u8; 16] {
        (u128::from(self.bits()) << 64 | u128::from(self.bits())).to_be_bytes()
    }

    /// The machine's wall clock: Unix milliseconds, and it may step back.
    pub fn wall_ms(&self) -> u64 {
        (START + self.executor.now() / 1_000).saturating_add_signed(self.weather.wall_ms.get())
    }

    /// The limiter's clock: nanoseconds, and it may step back.
    pub fn bucket_ns(&self) -> u64 {
        (START * 1_000_000 + self.executor.now() * 1_000).saturating_add_signed(self.weather.bucket_ns.get())
    }

    /// Nanoseconds since the beginning: the clock of limits that are shared.
    pub fn bucket_time(&self) -> u64 {
        self.executor.now() * 1_000
    }

    pub fn saw(&self, seen: Seen) {
        self.saw_times(seen, 1);
    }

    pub fn saw_times(&self, seen: Seen, count: u64) {
        self.coverage.borrow_mut().add(seen, count);
    }

    pub fn note(&self, event: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let now = self.executor.now();
            let line = format!("{:>6}.{:03} ms  {}", now / 1_000, now % 1_000, event());
            trace.borrow_mut().push(line);
        }
    }

    /// An invariant is broken. The first one ends the run.
    pub fn violated(&self, what: impl FnOnce() -> String) {
        let mut violation = self.violation.borrow_mut();
        if violation.is_none() {
            let what = what();
            self.note(|| format!("VIOLATION: {what}"));
            *violation = Some(what);
        }
    }

    pub fn ensure(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(what);
        }
    }

    /// Reports what the model found.
    pub fn check(&self, result: Result<(), String>) {
        if let Err(what) = result {
            self.violated(|| what);
        }
    }

    pub fn is_violated(&self) -> bool {
        self.violation.borrow().is_some()
    }

    pub fn take_violation(&self) -> Option<String> {
        self.violation.borrow_mut().take()
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.trace.as_ref().map(RefCell::take).unwrap_or_default()
    }
}
