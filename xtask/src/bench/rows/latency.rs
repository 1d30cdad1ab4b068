//! The 99th percentile of a redirect at half of peak load, open loop.

use std::time::Duration;

use anyhow::Result;

use crate::bench::gateway::{Clicks, Gateway, Limit};
use crate::bench::paced::{Latency, Pace};
use crate::bench::report::{Floor, Report, short, thousands};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, figures, peers};

const WHAT: &str = "99th percentile of a redirect at half of its own peak, open loop: nginx";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let nginx = match peers::nginx(bench) {
        Ok(nginx) => nginx,
        Err(why) => {
            report.skip(Row::Latency, WHAT, &format!("{why:#}"));
            return Ok(());
        }
    };
    let tollgate = Gateway::start(
        bench,
        &bench.gateway,
        &bench.directory("latency")?,
        Limit::Never,
        Clicks::Off,
    )?;
    bench.doing("latency: finding the peaks");
    let peak = |port, group| {
        Load::hot(port, "/sale")
            .run(bench, bench.seconds, &[group])
            .map(|sample| sample.rate)
    };
    // The first warms up.
    peak(tollgate.port, tollgate.group())?;
    let (ours, theirs) = (
        peak(tollgate.port, tollgate.group())?,
        peak(nginx.port, nginx.group())?,
    );
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for pair in 1..=bench.pairs {
        if pair > 1 && bench.time_left().is_zero() {
            break;
        }
        bench.doing(format!("latency at half of peak ({pair} of {})", bench.pairs));
        our.push(paced(bench, tollgate.port, ours)?);
        their.push(paced(bench, nginx.port, theirs)?);
    }
    let pairs = our.iter().zip(&their);
    let ratio = figures::median(pairs.map(|(a, b)| a.p99.as_secs_f64() / b.p99.as_secs_f64()));
    report.number(
        Row::Latency,
        WHAT,
        shown(&our, ours),
        shown(&their, theirs),
        ratio.unwrap_or(f64::NAN),
        Floor::AtMost(3.0),
    );
    Ok(())
}

/// At half of that peak.
pub(super) fn paced(bench: &Bench, port: u16, peak: f64) -> Result<Latency> {
    let pace = Pace {
        port,
        path: "/sale",
        rate: peak / 2.0,
        connections: 32,
        seconds: bench.seconds,
        status: 302,
    };
    pace.run(bench)
}

pub(super) fn shown(latencies: &[Latency], peak: f64) -> String {
    let micros = |pick: fn(&Latency) -> Duration| {
        let micros = latencies.iter().map(|latency| pick(latency).as_secs_f64() * 1e6);
        short(figures::median(micros).unwrap_or(f64::NAN))
    };
    let (median, p99) = (micros(|latency| latency.median), micros(|latency| latency.p99));
    let kept = match latencies.iter().all(|latency| latency.kept) {
        true => "",
        false => " (which was not kept up with)",
    };
    format!(
        "p99 {p99} µs, median {median} µs at {}/s{kept}",
        thousands(peak / 2.0)
    )
}
