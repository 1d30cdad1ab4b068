//! Deterministic simulation: the rules of `tollgate-rules` in a world that is made of one seed. Clients, clocks, disk,
//! network and origin are simulated, one thread polls everything in an order drawn from the seed, and a crash may hit at
//! every step. A model in plain maps and counters is told what became durable and what was answered, and checks the
//! invariants as it goes. `docs/reliability.md` says what is real here and what is modelled.

mod buckets;
mod bug;
mod clients;
mod coverage;
mod disk;
mod engine;
mod executor;
#[cfg(test)]
mod fleet;
mod front;
mod model;
mod origin;
mod postgres;
mod reading;
mod relay;
#[cfg(test)]
mod scale;
mod server;
mod store;
mod tenure;
mod world;

use std::cell::Cell;
use std::rc::Rc;

pub use bug::Bug;
pub use coverage::{Coverage, Seen};

use clients::Crowd;
use executor::Home;
use origin::Mode;
use world::{Setup, Sim};

/// The most steps of one seed, for each gateway: one that takes more does not come to an end.
const MAX_STEPS: u64 = 400_000;

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A deliberate bug.
    pub bug: Option<Bug>,
    /// Whether events are written down; costs most of the time.
    pub trace: bool,
    /// Two to five gateways over one modelled Postgres, instead of one with an embedded store.
    pub fleet: bool,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The invariant that was broken.
    pub violation: Option<String>,
    /// What happened.
    pub coverage: Coverage,
    /// Tasks polled.
    pub steps: u64,
    /// The same whenever the seed is run again.
    pub digest: u64,
    /// What happened, in order, if it was asked for.
    pub trace: Vec<String>,
}

thread_local!(static SETUP: Rc<Setup> = Setup::new());

/// Runs one seed to its end, or to the first broken invariant.
pub fn run(seed: u64, options: Options) -> Report {
    let sim = Sim::new(seed, SETUP.with(Rc::clone), options);
    postgres::begin(&sim);
    for place in 0..sim.gateways() {
        server::start(&sim, place);
    }
    let scenario = Rc::clone(&sim);
    sim.executor
        .spawn(Home::World, async move { play(scenario).await });
    let mut crashes = sim.below(6);
    let mut crash_in = sim.between(20, 600);
    let (mut steps, mut digest) = (0, 0xcbf2_9ce4_8422_2325_u64);
    while !sim.done.get() && !sim.is_violated() {
        steps += 1;
        if steps > MAX_STEPS * u64::from(sim.gateways()) {
            sim.violated(|| "it does not come to an end".into());
        }
        crash_in -= u64::from(crash_in > 0);
        let place = (crashes % u64::from(sim.gateways())) as u8;
        if crash_in == 0 && crashes > 0 && !sim.calm.get() && sim.server(place).is_some() {
            let most = 600 * u64::from(sim.gateways());
            (crashes, crash_in) = (crashes - 1, sim.between(20, most));
            server::crash(&sim, place, sim.one_of(500));
        }
        if !sim.executor.step(|count| sim.pick(count)) {
            sim.violated(|| "nothing is left to do, and it is not done".into());
        }
        digest = (digest ^ sim.executor.now()).wrapping_mul(0x100_0000_01b3);
    }
    for place in 0..sim.gateways() {
        sim.set_server(place, None);
        sim.executor.kill(Home::Process(place));
    }
    sim.executor.kill(Home::World);
    Report {
        violation: sim.take_violation(),
        coverage: sim.coverage.take(),
        steps,
        digest: digest ^ sim.bits(),
        trace: sim.take_trace(),
    }
}

/// The whole story: things are set up, clients come while everything fails, and in the end all is calm.
async fn play(sim: Rc<Sim>) {
    let weather = Rc::clone(&sim);
    sim.executor
        .spawn(Home::World, async move { change_weather(&weather).await });
    clients::prepare(&sim).await;
    sim.prepared.set(sim.executor.now());
    // Most seeds are small, since many small ones find more than few large ones.
    let large = sim.one_of(10);
    // Some are about links that change under their visitors: within moments, so that clicks are on their way.
    let links = sim.one_of(150);
    let few = if links {
        sim.between(8, 20)
    } else {
        sim.between(2, 6)
    };
    let crowd = Rc::new(Crowd {
        users: sim.between(2, 7),
        operations: if large { 25 } else { few },
        links,
    });
    let clients = if large { 10 } else { sim.between(2, 4) };
    let left = Rc::new(Cell::new(clients));
    for number in 0..clients {
        let (sim, crowd, left) = (Rc::clone(&sim), Rc::clone(&crowd), Rc::clone(&left));
        let executor = &Rc::clone(&sim).executor;
        executor.spawn(Home::World, async move {
            clients::client(&sim, number, &crowd).await;
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        sim.executor.sleep(20_000).await;
    }
    sim.calm.set(true);
    postgres::calm(&sim).await;
    sim.note(|| "all is calm".into());
    clients::finish(&sim).await;
    sim.done.set(true);
}

/// Turns faults on and off, one after the other.
async fn change_weather(sim: &Sim) {
    let weather = &sim.weather;
    while !sim.calm.get() {
        sim.executor.sleep(sim.between(500, 40_000)).await;
        let until = sim.executor.now() + sim.between(2_000, 120_000);
        match sim.below(12) {
            0 | 1 => {
                let most = if sim.one_of(200) { 60_000 } else { 500 };
                // Not ever further off: what waits by the wall clock would wait for as long after a restart.
                let forward = match weather.wall_ms.get() {
                    120_000.. => false,
                    ..-120_000 => true,
                    _ => sim.one_of(500),
                };
                let step = i64::try_from(sim.between(1, most)).unwrap_or(0);
                sim.saw(if forward {
                    Seen::ClockForward
                } else {
                    Seen::ClockBack
                });
                weather
                    .wall_ms
                    .set(weather.wall_ms.get() + if forward { step } else { -step });
                sim.note(|| format!("the clock stands {} ms ahead", weather.wall_ms.get()));
            }
            2 => {
                let step = i64::try_from(sim.between(1, 900_000_000)).unwrap_or(0);
                let forward = sim.one_of(500);
                if !forward {
                    sim.saw(Seen::BucketClockBack);
                }
                weather
                    .bucket_ns
                    .set(weather.bucket_ns.get() + if forward { step } else { -step });
            }
            3 => weather.slow_until.set(until),
            4 => weather.full_until.set(until),
            5 | 6 => weather.network_until.set(until),
            7 => weather.reads_until.set(until),
            8 => weather.sync_fails.set(sim.one_of(600)),
            _ => {
                let mode = Mode::BAD[sim.pick(Mode::BAD.len())];
                weather.origins[sim.pick(2)].set((mode, until));
            }
        }
    }
}
