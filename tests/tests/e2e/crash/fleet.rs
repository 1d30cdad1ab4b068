//! Gateways over one Postgres, of which everything breaks in turn: gateways are killed and stopped, the database crashes and
//! goes away, and what lies between them delays, drops, swallows, and loses the answers to COMMITs.
//!
//! `cargo xtask crash --store postgres --gateways 4 --cycles 200` runs it for longer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use rustix::process::Signal;
use tollgate_contract::postgres::Postgres;

use super::load::Load;
use super::{CLIENTS, progress};
use crate::harness::{
    ADMIN_KEY, Gateway, Host, Trouble, Wire, crash_cycles, crash_gateways, crowd, eventually,
};

/// Gateways, unless told otherwise.
const GATEWAYS: usize = 3;
/// How long a cycle's load lasts before something breaks, at most, and after it has ended, in milliseconds.
const BEFORE_MS: u64 = 300;
const AFTER_MS: u64 = 200;
/// How long something is broken, in milliseconds; in a long run, longer than what bears with it.
const BROKEN_MS: std::ops::RangeInclusive<u64> = 100..=700;
const LONG_MS: u64 = 6_000;
/// By then no memory is behind commits of other gateways.
const SEEN: Duration = Duration::from_millis(600);
/// Before it the planted fault must have been found.
const PLANTED_CYCLES: u64 = 20;

/// What breaks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A gateway ends at once.
    GatewayDies,
    /// A gateway stands still, perhaps with locks, and goes on.
    GatewayStops,
    /// The database ends at once and starts again.
    DatabaseCrashes,
    /// The same, later.
    DatabaseIsAway,
    /// One gateway's way to the database, or every gateway's.
    Wire(Trouble),
    /// It carries nothing any more for connections there are, and tells nobody: they must be given up.
    WireForgets,
}

/// In a short run each once, in this order.
const FAULTS: [Fault; 10] = [
    Fault::Wire(Trouble::LosesCommits),
    Fault::GatewayDies,
    Fault::Wire(Trouble::Deaf),
    Fault::DatabaseCrashes,
    Fault::GatewayStops,
    Fault::Wire(Trouble::Slow(Duration::from_millis(20))),
    Fault::Wire(Trouble::Silent),
    Fault::DatabaseIsAway,
    Fault::Wire(Trouble::Refused),
    Fault::WireForgets,
];

struct Fleet {
    // Gateways end before what they use.
    gateways: Arc<Vec<Gateway>>,
    wires: Vec<Wire>,
    database: Arc<Postgres>,
}

impl Fleet {
    /// `None`, and says so, where there is no Postgres. With `sync_late` the database is told to sync late once all have
    /// started, and what gateways set against it is forged on the way.
    async fn start(gateways: usize, sync_late: bool) -> Option<Self> {
        let extra = match sync_late {
            false => "",
            true => "-c wal_writer_delay=10s -c wal_writer_flush_after=1GB",
        };
        let started = tokio::task::spawn_blocking(move || Postgres::start(extra));
        let database = Arc::new(started.await.unwrap()?);
        let schema = database.fresh();
        let (_, schema) = schema.rsplit_once("%3D").unwrap();
        let forgery = sync_late.then_some((&b"'off', 'on'"[..], &b"'off','off'"[..]));
        let (mut wires, mut all) = (Vec::new(), Vec::new());
        for _ in 0..gateways {
            let wire = Wire::to(database.directory(), forgery).await;
            all.push(Gateway::start_on(&wire.url(schema), "").await);
            wires.push(wire);
        }
        if sync_late {
            database.sql("ALTER ROLE postgres SET synchronous_commit = off");
            wires.iter().for_each(Wire::cut);
        }
        Some(Self {
            gateways: Arc::new(all),
            wires,
            database,
        })
    }

    /// Something breaks, and is mended. `long`: perhaps not before those who wait for it have given up.
    async fn suffers(&self, fault: Fault, long: bool) {
        let mut random = fastrand::Rng::new();
        let broken = match long && random.u8(..6) == 0 {
            true => random.u64(..LONG_MS),
            false => random.u64(BROKEN_MS),
        };
        let broken = Duration::from_millis(broken);
        let place = random.usize(..self.gateways.len());
        let gateway = &self.gateways[place];
        match fault {
            Fault::GatewayDies => {
                gateway.kill();
                if random.u8(..4) == 0 {
                    gateway.start_and_kill(broken / 4).await;
                }
                gateway.restart().await;
            }
            Fault::GatewayStops => {
                gateway.signal(Signal::STOP);
                tokio::time::sleep(broken * 3).await;
                gateway.signal(Signal::CONT);
            }
            Fault::DatabaseCrashes => {
                self.database.order("crash");
                self.answers().await;
            }
            Fault::DatabaseIsAway => {
                self.database.order("stop");
                tokio::time::sleep(broken).await;
                self.database.order("start");
                self.answers().await;
            }
            Fault::WireForgets => self.wires[place].forgets(),
            Fault::Wire(trouble) => {
                let of = match random.u8(..3) {
                    0 => &self.wires[..],
                    _ => &self.wires[place..=place],
                };
                of.iter().for_each(|wire| wire.suffers(trouble));
                tokio::time::sleep(broken).await;
                of.iter().for_each(|wire| wire.suffers(Trouble::None));
                // What was held goes on its way, or is lost.
                if random.bool() {
                    of.iter().for_each(Wire::cut);
                }
            }
        }
    }

    async fn answers(&self) {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || database.wait())
            .await
            .unwrap();
    }

    /// Until every gateway says that it is ready, and reads, and remembers nothing old.
    async fn is_well(&self) {
        for _ in 0..2 {
            for gateway in self.gateways.iter() {
                eventually("it is ready", async || {
                    let ready = gateway.get("/health/ready").attempt().await.ok()?;
                    let topics = gateway.get("/api/topics").key(ADMIN_KEY).attempt().await.ok()?;
                    (ready.status == 200 && topics.status == 200).then_some(())
                })
                .await;
            }
            tokio::time::sleep(SEEN / 2).await;
        }
    }
}

/// One cycle: load amid which something breaks, then a comparison with the journal; the acknowledgements that were compared.
async fn cycle(fleet: Arc<Fleet>, load: Arc<Load>, number: u64, fault: Fault, long: bool) -> u64 {
    let mut random = fastrand::Rng::new();
    let before = Duration::from_millis(random.u64(..BEFORE_MS));
    let over = Arc::new(tokio::sync::OnceCell::new());
    let clients = crowd(CLIENTS, 0..CLIENTS, |client| {
        let until = Arc::clone(&over);
        Arc::clone(&load).run(format!("{number}-{client}"), Some(until))
    });
    let breaks = async {
        tokio::time::sleep(before).await;
        fleet.suffers(fault, long).await;
        let after = Duration::from_millis(random.u64(..AFTER_MS));
        _ = over.set(Instant::now() + after);
    };
    tokio::join!(clients, breaks);
    fleet.is_well().await;
    load.ask_again().await;
    tokio::time::sleep(SEEN).await;
    load.check().await
}

pub async fn a_fleet_keeps_what_it_acknowledged_whatever_breaks(_: Host) {
    let asked = crash_cycles();
    let (cycles, gateways) = (
        asked.unwrap_or(FAULTS.len() as u64),
        crash_gateways().unwrap_or(GATEWAYS),
    );
    let Some(fleet) = Fleet::start(gateways, false).await else {
        return;
    };
    let (fleet, began) = (Arc::new(fleet), Instant::now());
    let load = Arc::new(Load::new(Arc::clone(&fleet.gateways)));
    load.begin().await;
    let (mut checked, mut random) = (0, fastrand::Rng::new());
    for number in 0..cycles {
        let fault = FAULTS.get(usize::try_from(number).unwrap()).copied();
        let fault = fault.unwrap_or_else(|| FAULTS[random.usize(..FAULTS.len())]);
        let cycle_began = Instant::now();
        checked += cycle(
            Arc::clone(&fleet),
            Arc::clone(&load),
            number,
            fault,
            asked.is_some(),
        )
        .await;
        eprintln!(
            "cycle {number}: {fault:?}, {:?}, {checked} compared",
            cycle_began.elapsed()
        );
        progress(number + 1, cycles, checked, began);
    }
    load.finish().await;
    load.ask_again().await;
    tokio::time::sleep(SEEN).await;
    checked += load.check().await;
    assert!(checked > cycles * 10, "there was no load: {checked}");
    for gateway in fleet.gateways.iter() {
        assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
    }
    eprintln!(
        "\ncrash loop ({gateways} gateways over Postgres): {cycles} cycles, {checked} acknowledgements checked, {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

/// A planted fault: what is checked above would find it.
pub async fn a_commit_that_is_synced_late_is_missed(_: Host) {
    let Some(fleet) = Fleet::start(2, true).await else {
        return;
    };
    let fleet = Arc::new(fleet);
    fleet.is_well().await;
    let load = Arc::new(Load::new(Arc::clone(&fleet.gateways)));
    load.begin().await;
    for number in 0..PLANTED_CYCLES {
        let cycle = cycle(
            Arc::clone(&fleet),
            Arc::clone(&load),
            number,
            Fault::DatabaseCrashes,
            false,
        );
        if let Err(failed) = AssertUnwindSafe(cycle).catch_unwind().await {
            let said = failed.downcast_ref::<String>().map_or("", String::as_str);
            assert!(
                [
                    "lost",
                    "gap",
                    "second claim",
                    "two claims",
                    "disagree",
                    "ended before",
                    "after all was sold"
                ]
                .iter()
                .any(|found| said.contains(found)),
                "something else failed: {said}"
            );
            eprintln!("found in cycle {number}: {said}");
            return;
        }
    }
    panic!("a database that syncs late was not found out in {PLANTED_CYCLES} cycles");
}
