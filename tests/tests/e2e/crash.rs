//! The power goes at a random moment, again and again: nothing that was acknowledged is missing, nothing is admitted
//! twice, and state and queue agree.
//!
//! `cargo xtask crash --cycles 500` runs it for longer. With `--store postgres --gateways 4` it is a fleet, see [`fleet`].

mod fleet;
mod journal;
mod load;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Host, crash_cycles, crowd};
use load::Load;

pub use fleet::{a_commit_that_is_synced_late_is_missed, a_fleet_keeps_what_it_acknowledged_whatever_breaks};

/// Clients at once.
const CLIENTS: usize = 16;
/// Cycles on each host, unless told otherwise.
const CYCLES: (u64, u64) = (20, 3);
/// The longest that a cycle's load lasts, in milliseconds.
const LOAD_MS: u64 = 300;
/// The longest that a start lasts which is killed before it is ready, in milliseconds.
const START_MS: u64 = 150;

pub async fn what_was_acknowledged_survives_kill_nine_at_any_moment(host: Host) {
    let cycles = match host {
        Host::Native | Host::Memory | Host::Components => crash_cycles().unwrap_or(CYCLES.0),
        Host::Spin | Host::SpinPostgres | Host::SpinRedis => CYCLES.1,
    };
    let began = Instant::now();
    let mut random = fastrand::Rng::new();
    let gateways = Arc::new(vec![Gateway::start(host, "").await]);
    let (gateway, load) = (&gateways[0], Arc::new(Load::new(Arc::clone(&gateways))));
    load.begin().await;
    let mut checked = 0;
    for cycle in 0..cycles {
        // A third of the time the power goes early: while little is cached, or nothing was asked yet.
        let longest = if random.u8(..3) == 0 {
            LOAD_MS / 10
        } else {
            LOAD_MS
        };
        let until = Duration::from_millis(random.u64(..=longest));
        let clients = crowd(CLIENTS, 0..CLIENTS, |client| {
            Arc::clone(&load).run(format!("{cycle}-{client}"), None)
        });
        let cut = async {
            tokio::time::sleep(until).await;
            gateway.kill();
        };
        tokio::join!(clients, cut);
        if host == Host::Native && random.u8(..4) == 0 {
            // And once more, during the recovery.
            gateway
                .start_and_kill(Duration::from_millis(random.u64(..START_MS)))
                .await;
        }
        gateway.restart().await;
        load.ask_again().await;
        checked += load.check().await;
        progress(cycle + 1, cycles, checked, began);
    }
    load.finish().await;
    checked += load.check().await;
    assert!(checked > cycles, "there was no load");
    eprintln!(
        "\ncrash loop ({host:?}): {cycles} cycles, {checked} acknowledgements checked, {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

/// For a person who waits.
fn progress(cycle: u64, cycles: u64, checked: u64, began: Instant) {
    const WIDTH: u64 = 40;
    if std::io::stderr().is_terminal() || (crash_cycles().is_some() && cycle.is_multiple_of(10)) {
        let done = usize::try_from(cycle * WIDTH / cycles).unwrap_or(0);
        let bar = format!("{:<width$}", "#".repeat(done), width = WIDTH as usize);
        let seconds = began.elapsed().as_secs();
        eprint!("\r[{bar}] {cycle}/{cycles} cycles, {checked} acknowledgements, {seconds} s");
    }
}
