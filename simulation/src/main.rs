//! Runs seeds: `cargo xtask simulate --seeds 1000000 --from 0 --jobs 2`. A failing one is replayed with a trace.

#![allow(clippy::print_stdout, reason = "what it says is what it is for")]

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tollgate_simulation::{Coverage, Options, Seen, run};

/// Seeds that a thread takes at a time.
const CHUNK: u64 = 64;
/// The last events that are shown of a failing seed.
const TRACE_LINES: usize = 60;

#[derive(Parser)]
#[command(
    name = "cargo xtask simulate",
    about = "Runs the rules in simulated worlds, one per seed."
)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Two to five gateways over one modelled Postgres.
    #[arg(long)]
    fleet: bool,
    /// Show every event of every seed: for one seed that failed.
    #[arg(long)]
    trace: bool,
}

/// What was broken, if anything; a panic of the product counts.
fn outcome(seed: u64, trace: bool, fleet: bool) -> (Option<String>, Coverage, Vec<String>) {
    let options = Options {
        trace,
        fleet,
        ..Options::default()
    };
    match panic::catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(report) => (report.violation, report.coverage, report.trace),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
            let what = format!("a panic: {}", text.unwrap_or_default());
            (Some(what), Coverage::default(), Vec::new())
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = arguments.from.saturating_add(arguments.seeds);
    let (next, failed) = (AtomicU64::new(arguments.from), AtomicBool::new(false));
    let bar = ProgressBar::new(arguments.seeds);
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} seeds, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let began = Instant::now();
    let work = || {
        let mut coverage = Coverage::default();
        while !failed.load(Ordering::Relaxed) {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= end {
                break;
            }
            for seed in first..end.min(first + CHUNK) {
                let (violation, seen, trace) = outcome(seed, arguments.trace, arguments.fleet);
                coverage.merge(&seen);
                trace.iter().for_each(|event| println!("{event}"));
                if let Some(what) = violation {
                    failed.store(true, Ordering::Relaxed);
                    bar.suspend(|| report(seed, &what, &arguments));
                    return coverage;
                }
            }
            bar.inc(CHUNK.min(end - first));
        }
        coverage
    };
    let coverage = thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut total = Coverage::default();
        for thread in threads {
            if let Ok(coverage) = thread.join() {
                total.merge(&coverage);
            }
        }
        total
    });
    bar.finish_and_clear();
    if failed.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    println!(
        "{} seeds from {} in {:.0?}",
        arguments.seeds,
        arguments.from,
        began.elapsed()
    );
    let is_meant = |seen: Seen| match arguments.fleet {
        true => !seen.is_of_one(),
        false => !seen.is_of_fleets(),
    };
    for (seen, count) in coverage.iter().filter(|(seen, _)| is_meant(*seen)) {
        println!("{count:>14}  {}", seen.text());
    }
    ExitCode::SUCCESS
}

fn report(seed: u64, what: &str, arguments: &Arguments) {
    println!("seed {seed}: {what}");
    if !arguments.trace {
        let (_, _, trace) = outcome(seed, true, arguments.fleet);
        let from = trace.len().saturating_sub(TRACE_LINES);
        trace.iter().skip(from).for_each(|event| println!("{event}"));
        let fleet = if arguments.fleet { " --fleet" } else { "" };
        println!("replay: cargo xtask simulate --seeds 1 --from {seed} --trace{fleet}");
    }
}
