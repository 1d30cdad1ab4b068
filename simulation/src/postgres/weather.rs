//! What happens to the database, and to processes that stand still.

use std::rc::Rc;

use super::network::cut_all;
use crate::coverage::Seen;
use crate::executor::Home;
use crate::world::Sim;

/// Turns faults on and off, one after the other.
pub async fn change(sim: &Rc<Sim>) {
    let database = &sim.database;
    while !sim.calm.get() {
        sim.executor.sleep(sim.between(1_000, 150_000)).await;
        if sim.calm.get() {
            return;
        }
        let now = sim.executor.now();
        let place = sim.below(sim.gateways().into()) as u8;
        match sim.below(10) {
            0 | 1 => {
                let failover = sim.one_of(500);
                sim.saw(if failover {
                    Seen::Failovers
                } else {
                    Seen::DatabaseCrashes
                });
                sim.note(|| format!("the database crashes; failover: {failover}"));
                database.up_at.set(now + sim.between(5_000, 600_000));
                cut_all(sim, None);
                database.crash(sim, failover);
            }
            2 => {
                sim.saw(Seen::Silences);
                let most = if sim.one_of(250) { 9_000_000 } else { 300_000 };
                database.silent_until.set(now + sim.between(1_000, most));
                sim.note(|| "nothing gets through to the database".into());
            }
            3 => {
                sim.saw(Seen::GatewaysApart);
                let most = if sim.one_of(200) { 5_000_000 } else { 300_000 };
                database.apart.set((place, now + sim.between(1_000, most)));
                sim.note(|| format!("gateway {place} does not reach the database"));
            }
            4..7 => {
                sim.saw(Seen::StoodStill);
                sim.executor.stop(Some(Home::Process(place)));
                // Some for so long that their leases end.
                let most = if sim.one_of(120) { 9_000_000 } else { 400_000 };
                let until = sim.between(1_000, most);
                sim.note(|| format!("gateway {place} stands still for {until} us"));
                sim.executor.sleep(until).await;
                sim.executor.stop(None);
            }
            7 => {
                let step = i64::try_from(sim.below(60)).unwrap_or(0) - 30;
                sim.saw(Seen::DatabaseClock);
                database.clock_ms.set(step);
            }
            _ => cut_all(sim, Some(place)),
        }
    }
}
