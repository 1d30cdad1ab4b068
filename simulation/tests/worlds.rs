//! Some thousand seeds as part of every test run, and the proof that they would find what they are for.

#![allow(clippy::panic, reason = "test code")]

use tollgate_simulation::{Bug, Coverage, Options, Seen, run};

/// Seeds of a normal test run: of one gateway with a store of its own, and of several that share one.
const SEEDS: u64 = 4_000;
const FLEETS: u64 = 300;
/// A deliberate bug must be found within so many seeds.
const FOUND_WITHIN: u64 = 400;

const ONE: Options = Options {
    bug: None,
    trace: false,
    fleet: false,
};
const FLEET: Options = Options { fleet: true, ..ONE };

/// Runs seeds, and checks that all that is meant to happen in them does.
fn all_hold(seeds: u64, options: Options, is_meant: impl Fn(Seen) -> bool) {
    let mut coverage = Coverage::default();
    for seed in 0..seeds {
        let report = run(seed, options);
        if let Some(what) = report.violation {
            let fleet = if options.fleet { " --fleet" } else { "" };
            panic!(
                "seed {seed}: {what}\nreplay: cargo xtask simulate --seeds 1 --from {seed} --trace{fleet}"
            );
        }
        coverage.merge(&report.coverage);
    }
    let never: Vec<Seen> = coverage
        .iter()
        .filter_map(|(seen, count)| (count == 0 && is_meant(seen)).then_some(seen))
        .collect();
    assert!(never.is_empty(), "never happened in {seeds} seeds: {never:?}");
}

#[test]
fn no_seed_breaks_an_invariant_and_every_fault_happens() {
    all_hold(SEEDS, ONE, |seen| !seen.is_of_fleets());
}

#[test]
fn no_seed_of_a_fleet_breaks_an_invariant_and_every_fault_of_fleets_happens() {
    all_hold(FLEETS, FLEET, Seen::is_of_fleets);
}

#[test]
fn a_seed_replays_exactly_with_a_trace_or_without() {
    for options in [ONE, FLEET] {
        for seed in 0..40 {
            let (plain, traced) = (
                run(seed, options),
                run(
                    seed,
                    Options {
                        trace: true,
                        ..options
                    },
                ),
            );
            assert_eq!(
                (plain.digest, plain.steps, plain.coverage),
                (traced.digest, traced.steps, traced.coverage),
                "seed {seed}"
            );
            assert!(plain.trace.is_empty() && traced.trace.len() > 20);
        }
        let digest = |seed| run(seed, options).digest;
        assert_ne!(digest(1), digest(2));
    }
}

fn each_is_found(bugs: &[Bug], options: Options) {
    for &bug in bugs {
        let found = (0..FOUND_WITHIN).find_map(|seed| {
            let bug = Some(bug);
            run(seed, Options { bug, ..options })
                .violation
                .map(|what| (seed, what))
        });
        match found {
            Some((seed, what)) => eprintln!("{bug:?}: seed {seed}: {what}"),
            None => panic!("{bug:?} was not found within {FOUND_WITHIN} seeds"),
        }
    }
}

/// Without this, all the others could pass by looking away.
#[test]
fn every_deliberate_bug_is_found() {
    each_is_found(Bug::ALL, ONE);
}

#[test]
fn every_deliberate_bug_of_a_fleet_is_found() {
    each_is_found(Bug::OF_FLEETS, FLEET);
}
