//! The store that simulated gateways share, after `crates/engines/src/postgres`: writers with lanes of their own, groups of two
//! flights, a lost answer to COMMIT resolved by the writer's own row, entries in memory that are looked at again. What a commit means
//! is decided by the product's planner, and what memory may answer by its cache. The database and the network are modelled.

mod database;
pub mod debts;
mod history;
mod locks;
mod network;
mod port;
mod queue;
mod transaction;
mod watch;
mod weather;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use siphasher::sip::SipHasher13;
use tollgate_rules::campaigns;
use tollgate_store::cache::{Cache, Moment};
use tollgate_store::commit::StoreError;

use crate::executor::{Home, TaskId};
use crate::front::Front;
use crate::server::{self, Server};
use crate::world::Sim;
use debts::Debts;
use queue::Queue;

pub use database::Database;

/// Locks that commits share out.
pub const LANES: u32 = 4;
/// Groups that a gateway writes at a time.
const WRITERS: usize = 2;
/// How far memory may be behind, milliseconds: the setting `revalidate`.
const REVALIDATE: u64 = 250;
/// The same while the database is away: the setting `stale_if_error`.
const STALE_IF_ERROR: u64 = 1_500;
/// By how much an answer may be late at most, microseconds.
pub const LATEST: u64 = (STALE_IF_ERROR + 1) * 1_000;
/// Entries that a gateway keeps: few of them in each shard, so that some go.
const CACHED: usize = 640;

/// What a gateway knows of the shared store, and what waits for it.
pub struct Gateway {
    sim: Rc<Sim>,
    pub place: u8,
    /// Of this life of it.
    pub name: String,
    pub front: Front,
    debts: Debts,
    cache: Cache<BuildHasherDefault<SipHasher13>>,
    queue: RefCell<Queue>,
    writers: RefCell<Vec<TaskId>>,
    tails: RefCell<Vec<TaskId>>,
    /// Since when that of each key was durable which a group of this gateway has shown.
    shown: RefCell<BTreeMap<String, u64>>,
    moments: Cell<u64>,
    /// The database's clock less ours, milliseconds.
    offset: Cell<i64>,
    /// The latest time of the store that was seen.
    latest: Cell<u64>,
    /// Why the database counts as away.
    away: RefCell<Option<String>>,
    /// When it last did.
    away_at: Cell<Option<u64>>,
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

impl Gateway {
    /// One that begins.
    pub fn new(sim: &Rc<Sim>, place: u8) -> Rc<Self> {
        let name = format!("g{place}-{}", sim.database.number());
        Rc::new(Self {
            sim: Rc::clone(sim),
            place,
            name,
            front: Front::default(),
            debts: Debts::default(),
            cache: Cache::with_hasher(CACHED, 1 << 20, BuildHasherDefault::default()),
            queue: RefCell::default(),
            writers: RefCell::default(),
            tails: RefCell::default(),
            shown: RefCell::default(),
            moments: Cell::new(1),
            offset: Cell::new(0),
            latest: Cell::new(0),
            away: RefCell::default(),
            away_at: Cell::new(None),
        })
    }

    /// Begins its tasks.
    pub fn run(self: &Rc<Self>, server: &Server) {
        for place in 0..WRITERS {
            server.spawn(writer::run(Rc::clone(self), place));
        }
        server.spawn(watch::run(Rc::clone(self)));
        server.spawn(debts::tell(Rc::clone(self)));
    }

    fn millis(&self) -> u64 {
        self.sim.executor.now() / 1_000
    }

    /// A state of the database that is asked for from now on.
    fn moment(&self) -> Moment {
        let number = self.moments.replace(self.moments.get() + 1);
        let at = self.millis();
        Moment { at, number }
    }

    /// The oldest state that memory may answer with.
    fn oldest(&self) -> u64 {
        let bound = match self.is_away() {
            false => REVALIDATE,
            true => STALE_IF_ERROR,
        };
        self.millis().saturating_sub(bound)
    }

    fn is_away(&self) -> bool {
        self.away.borrow().is_some()
    }

    /// The store's time: the database's, as far as it is known.
    fn now(&self) -> u64 {
        let wall = self.sim.wall_ms().saturating_add_signed(self.offset.get());
        self.latest.set(self.latest.get().max(wall));
        self.latest.get()
    }

    /// By how much an answer to a request that began then may be late, microseconds.
    pub fn late_since(&self, began: u64) -> u64 {
        let was_away = self.is_away() || self.away_at.get().is_some_and(|at| at >= began);
        // Times of memory are whole milliseconds.
        (if was_away { STALE_IF_ERROR } else { REVALIDATE } + 1) * 1_000
    }
}

/// The tables are made, and the database's faults begin.
pub fn begin(sim: &Rc<Sim>) {
    if sim.is_fleet() {
        sim.database.make();
        sim.model.borrow_mut().is_shared = true;
        // What the rules keep for their thread is not shared by processes.
        sim.executor.on_switch.set(Some(campaigns::forget_pools));
        let weather = Rc::clone(sim);
        sim.executor
            .spawn(Home::World, async move { weather::change(&weather).await });
    }
}

/// Nothing fails any more, and all gateways run.
pub async fn calm(sim: &Sim) {
    sim.executor.stop(None);
    sim.database.clock_ms.set(0);
    if !sim.is_fleet() {
        return;
    }
    while (0..sim.gateways()).any(|place| sim.server(place).is_none()) {
        sim.executor.sleep(100_000).await;
    }
    // Flights that were swallowed before are given up.
    sim.executor.sleep(network::FLIGHT + network::FLIGHT / 10).await;
}

/// A gateway's process has ended: its connections end, and somebody starts it again.
pub fn killed(sim: &Rc<Sim>, place: u8, name: &str) {
    sim.database.accounts.died(sim, name);
    {
        let mut model = sim.model.borrow_mut();
        model.is_lossy = true;
        model.quota.forget();
    }
    network::cut_all(sim, Some(place));
    let operator = Rc::clone(sim);
    sim.executor.spawn(Home::World, async move {
        // Some for so long that their leases end.
        let most = if operator.one_of(150) { 9_000_000 } else { 60_000 };
        operator.executor.sleep(operator.between(500, most)).await;
        server::start(&operator, place);
    });
}
