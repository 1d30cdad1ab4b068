//! Some thousand seeds as part of every test run, and the proof that they would find what they are for.

#![allow(clippy::panic, reason = "test code")]

use tollgate_simulation::{Bug, Coverage, Options, Seen, run};

/// Seeds of a normal test run.
const SEEDS: u64 = 4_000;
/// A deliberate bug must be found within so many seeds.
const FOUND_WITHIN: u64 = 400;

#[test]
fn no_seed_breaks_an_invariant_and_every_fault_happens() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let report = run(seed, Options::default());
        if let Some(what) = report.violation {
            panic!("seed {seed}: {what}\nreplay: cargo xtask simulate --seeds 1 --from {seed} --trace");
        }
        coverage.merge(&report.coverage);
    }
    let never: Vec<Seen> = coverage
        .iter()
        .filter_map(|(seen, count)| (count == 0).then_some(seen))
        .collect();
    assert!(never.is_empty(), "never happened in {SEEDS} seeds: {never:?}");
}

#[test]
fn a_seed_replays_exactly_with_a_trace_or_without() {
    for seed in 0..40 {
        let (plain, traced) = (
            run(seed, Options::default()),
            run(
                seed,
                Options {
                    trace: true,
                    ..Options::default()
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
    let digest = |seed| run(seed, Options::default()).digest;
    assert_ne!(digest(1), digest(2));
}

/// Without this, all the others could pass by looking away.
#[test]
fn every_deliberate_bug_is_found() {
    for &bug in Bug::ALL {
        let found = (0..FOUND_WITHIN).find_map(|seed| {
            let options = Options {
                bug: Some(bug),
                ..Options::default()
            };
            run(seed, options).violation.map(|what| (seed, what))
        });
        match found {
            Some((seed, what)) => eprintln!("{bug:?}: seed {seed}: {what}"),
            None => panic!("{bug:?} was not found within {FOUND_WITHIN} seeds"),
        }
    }
}
