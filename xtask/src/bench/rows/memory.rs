//! Memory per client id and per link, and whether a million links make a redirect dearer.

use anyhow::Result;

use crate::bench::gateway::{self, Clicks, Gateway, Limit};
use crate::bench::report::{By, Floor, Report, short, thousands};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, figures, http};

/// Links of the smaller side of `growth`.
const FEW: u64 = 1_000;
/// The first of this many parts of the clients or links is not counted: buffers, allocators and SQLite's page cache grow
/// with it, and do not grow on.
const PARTS: u64 = 10;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    if bench.wants(Row::Memory) {
        clients(bench, report)?;
    }
    let directory = bench.directory("million")?;
    gateway::seed(bench, &directory, bench.sizes.million)?;
    let large = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Off)?;
    let links = links(bench, report, &large)?;
    if bench.wants(Row::Growth) {
        growth(bench, report, &large, links)?;
    }
    Ok(())
}

/// Sends what `script` has, each once; gives how many of them there were time for, and the bytes that each further one left
/// behind.
fn grown(bench: &Bench, gateway: &Gateway, script: &'static str) -> Result<(u64, f64)> {
    let (group, all) = (gateway.group(), bench.sizes.million);
    let send = |from: u64, count: u64| -> Result<u64> {
        let load = Load {
            script,
            arguments: vec![from.to_string(), count.to_string()],
            ..Load::hot(gateway.port, "/sale")
        };
        let seconds = bench.at_most(bench.sizes.fill_seconds)?;
        Ok(load.run(bench, seconds, &[group])?.count.min(count))
    };
    let first = send(0, all / PARTS)?;
    let before = figures::resident(group)?;
    let further = send(first, all - first)?;
    let after = figures::resident(group)?;
    let bytes = after.saturating_sub(before) as f64 / further.max(1) as f64;
    Ok((first + further, bytes))
}

fn clients(bench: &Bench, report: &mut Report) -> Result<()> {
    let gateway = Gateway::start(
        bench,
        &bench.gateway,
        &bench.directory("clients")?,
        Limit::Kept,
        Clicks::Off,
    )?;
    bench.doing(format!("memory: {} clients", bench.sizes.million));
    let (count, bytes) = grown(bench, &gateway, "each-client")?;
    let what = "memory: bytes per further client id";
    line(report, what, count, bytes, 128.0);
    Ok(())
}

/// Reads every link once; gives how many were read in the time there is.
fn links(bench: &Bench, report: &mut Report, gateway: &Gateway) -> Result<u64> {
    bench.doing(format!("memory: {} links", bench.sizes.million));
    http::expect(gateway.port, &format!("/{:07}", bench.sizes.million - 1), 302)?;
    let (count, bytes) = grown(bench, gateway, "each-link")?;
    if bench.wants(Row::Memory) {
        line(
            report,
            "memory: bytes per further link in the store's cache",
            count,
            bytes,
            512.0,
        );
    }
    Ok(count)
}

fn line(report: &mut Report, what: &str, count: u64, bytes: f64, most: f64) {
    let ours = format!("{} B, over {}", short(bytes), thousands(count as f64));
    report.number(Row::Memory, what, ours, "–".into(), bytes, Floor::AtMost(most));
}

fn growth(bench: &Bench, report: &mut Report, large: &Gateway, links: u64) -> Result<()> {
    let directory = bench.directory("thousand")?;
    gateway::seed(bench, &directory, FEW)?;
    let small = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Off)?;
    let random = |gateway: &Gateway, links: u64| Load {
        script: "random",
        arguments: vec![links.to_string()],
        ..Load::hot(gateway.port, "/")
    };
    let (many, few) = (random(large, links), random(&small, FEW));
    let rounds = rounds::take(
        bench,
        "growth",
        vec![
            Contender::new("many", || many.run(bench, bench.seconds, &[large.group()])),
            Contender::new("few", || few.run(bench, bench.seconds, &[small.group()])),
        ],
    );
    let what = format!(
        "redirects with {} links: with {}",
        thousands(links as f64),
        thousands(FEW as f64)
    );
    report.pair(
        Row::Growth,
        &what,
        rounds.of("many"),
        rounds.of("few"),
        Floor::AtLeast(0.85),
        By::Cost,
    );
    Ok(())
}
