//! What is looked at again and again, after `crates/engines/src/postgres/watch.rs`: the database's clock, the entries in memory that were
//! used, and whether it answers.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Gateway;
use crate::bug::Bug;
use crate::coverage::Seen;

/// Between two looks, microseconds.
const PAUSE: u64 = 100_000;
/// Between two attempts, while it is away.
const AGAIN: u64 = 250_000;
/// The most keys of one look. Small, so that several are needed.
const KEYS: usize = 40;
/// The most looks of one turn.
const LOOKS: usize = 16;

/// Looks until the process ends.
pub async fn run(gateway: Rc<Gateway>) {
    let sim = &gateway.sim;
    loop {
        let pause = match look(&gateway).await {
            Some(()) => {
                gateway.set_away(None);
                PAUSE
            }
            None => {
                // What is silent is given up after a while.
                let silent = sim.executor.now() < sim.database.silent_until.get();
                if silent {
                    sim.executor.sleep(sim.between(100_000, 3_000_000)).await;
                }
                gateway.set_away(Some("the database does not answer"));
                AGAIN
            }
        };
        sim.executor.sleep(pause).await;
    }
}

async fn look(gateway: &Gateway) -> Option<()> {
    let sim = &gateway.sim;
    let asked = gateway.millis();
    let clock = gateway.ask_for(|database| database.clock(sim)).await?;
    let half = (gateway.millis() - asked) / 2;
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    gateway.offset.set(signed(clock + half) - signed(sim.wall_ms()));
    for _ in 0..LOOKS {
        let (keys, versions) = gateway.cache.take_used(KEYS);
        if keys.is_empty() {
            break;
        }
        // Before the question: what it shows is not older.
        let moment = gateway.moment();
        let changed = gateway
            .ask_for(|database| {
                database.with(|state| {
                    let version = |key: &str| state.entries.get(key).map_or(0, |entry| entry.version);
                    let seen = keys.iter().zip(&versions);
                    let changed = seen.filter(|(key, seen)| version(key) != seen.unsigned_abs());
                    changed.map(|(key, _)| key.clone()).collect::<BTreeSet<String>>()
                })
            })
            .await?;
        sim.saw_times(Seen::Revalidated, keys.len() as u64);
        for (key, version) in keys.iter().zip(&versions) {
            if changed.contains(key) && !sim.has(Bug::SkipRevalidation) {
                sim.saw(Seen::FoundChanged);
                gateway.cache.forget(key);
            } else {
                gateway.cache.confirm(key, *version, moment);
            }
        }
    }
    gateway.wake_tails();
    Some(())
}
