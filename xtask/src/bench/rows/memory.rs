//! Memory per client id and per link, and whether a million links make a redirect dearer.

use anyhow::{Result, bail};

use super::redirect::each_link;
use crate::bench::gateway::{self, Gateway, Limit};
use crate::bench::report::{By, Floor, Report, short, thousands};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, figures, http};

/// Links of the smaller side of `growth`.
const FEW: u64 = 1_000;
/// Seconds of load before memory is looked at first: buffers and allocators have grown by then.
const WARM_UP: u32 = 2;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    if bench.wants(Row::Memory) {
        clients(bench, report)?;
    }
    let directory = bench.directory("million")?;
    gateway::seed(bench, &directory, bench.sizes.million)?;
    let large = Gateway::start(bench, &bench.gateway, &directory, Limit::Never)?;
    let links = links(bench, report, &large)?;
    if bench.wants(Row::Growth) {
        growth(bench, report, &large, links)?;
    }
    Ok(())
}

/// Requests that were sent once each, and the bytes that each left behind.
fn grown(bench: &Bench, gateway: &Gateway, load: &Load) -> Result<(u64, f64)> {
    Load::hot(gateway.port, "/sale").run(bench, WARM_UP, &[gateway.group()])?;
    let before = figures::resident(gateway.group())?;
    let sample = load.run(
        bench,
        bench.at_most(bench.sizes.fill_seconds)?,
        &[gateway.group()],
    )?;
    let after = figures::resident(gateway.group())?;
    let count = sample.count.min(bench.sizes.million);
    if count == 0 {
        bail!("nothing was sent");
    }
    Ok((count, after.saturating_sub(before) as f64 / count as f64))
}

fn clients(bench: &Bench, report: &mut Report) -> Result<()> {
    let gateway = Gateway::start(bench, &bench.gateway, &bench.directory("clients")?, Limit::Never)?;
    bench.doing(format!("memory: {} clients", bench.sizes.million));
    let load = Load {
        script: "each-client",
        arguments: vec!["0".into(), bench.sizes.million.to_string()],
        ..Load::hot(gateway.port, "/sale")
    };
    let (count, bytes) = grown(bench, &gateway, &load)?;
    let what = "memory: bytes per further client id";
    line(report, what, count, bytes, 128.0);
    Ok(())
}

/// Reads every link once; gives how many were read in the time there is.
fn links(bench: &Bench, report: &mut Report, gateway: &Gateway) -> Result<u64> {
    bench.doing(format!("memory: {} links", bench.sizes.million));
    http::expect(gateway.port, &format!("/{:07}", bench.sizes.million - 1), 302)?;
    let (count, bytes) = grown(bench, gateway, &each_link(gateway.port, bench.sizes.million))?;
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
    let small = Gateway::start(bench, &bench.gateway, &directory, Limit::Never)?;
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
