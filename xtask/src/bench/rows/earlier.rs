//! An earlier build of the gateway against this one: what a change costs, row by row, measured by turns.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;

use super::claims::{self, Order};
use crate::bench::gateway::{Clicks, Gateway, Limit, time_to_first_redirect};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender, Sample};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row, http};

/// The lowest ratio of this build to the earlier one that passes: the loss is less than the machine's own
/// noise.
const KEPT: f64 = 0.97;
const NOW: &str = "now";
const EARLIER: &str = "earlier";

/// Whether this build signs receipts. An earlier one that has none does less for a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receipts {
    AsSet,
    Off,
}

/// Both builds, each with a directory of its own.
struct Builds<'a> {
    now: &'a Path,
    earlier: &'a Path,
}

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let Some(earlier) = &bench.options.earlier_gateway else {
        report.skip(Row::Earlier, "an earlier build", "--earlier-gateway names none");
        return Ok(());
    };
    let builds = Builds {
        now: &bench.gateway,
        earlier,
    };
    redirects(bench, report, &builds)?;
    refusals(bench, report, &builds)?;
    for (order, receipts, what) in [
        (
            Order::Ascending,
            Receipts::AsSet,
            "durable claims, 512 connections: the earlier build",
        ),
        (
            Order::Scattered,
            Receipts::AsSet,
            "the same, by users in no order",
        ),
        (
            Order::Ascending,
            Receipts::Off,
            "the same in order, without receipts: the earlier build, as it is",
        ),
    ] {
        admissions(bench, report, &builds, (order, receipts), what)?;
    }
    starts(bench, report, &builds)
}

fn redirects(bench: &Bench, report: &mut Report, builds: &Builds<'_>) -> Result<()> {
    for (clicks, what) in [
        (
            Clicks::Off,
            "limiter + redirect, one hot client id: the earlier build",
        ),
        (Clicks::Submitted, "the same, with click recording"),
    ] {
        let gateways = builds.start(bench, Limit::Never, clicks)?;
        let of = |gateway: &Gateway| {
            Load::hot(gateway.port, "/sale").run(bench, bench.seconds, &[gateway.group()])
        };
        pair(
            bench,
            report,
            what,
            By::Cost,
            || of(&gateways.0),
            || of(&gateways.1),
        );
    }
    Ok(())
}

fn refusals(bench: &Bench, report: &mut Report, builds: &Builds<'_>) -> Result<()> {
    let gateways = builds.start(bench, Limit::Always, Clicks::Off)?;
    for gateway in [&gateways.0, &gateways.1] {
        // The first takes the only token; see http::status for the client id.
        http::status(gateway.port, "/sale");
        http::expect(gateway.port, "/sale", 429)?;
    }
    let of = |gateway: &Gateway| {
        let load = Load {
            answers: Answers::Refusal,
            ..Load::hot(gateway.port, "/sale")
        };
        load.run(bench, bench.seconds, &[gateway.group()])
    };
    let what = "limiter refusal (429): the earlier build";
    pair(
        bench,
        report,
        what,
        By::Cost,
        || of(&gateways.0),
        || of(&gateways.1),
    );
    Ok(())
}

fn admissions(
    bench: &Bench,
    report: &mut Report,
    builds: &Builds<'_>,
    (order, receipts): (Order, Receipts),
    what: &str,
) -> Result<()> {
    let mut gateways = builds.start(bench, Limit::Never, Clicks::Submitted)?;
    if receipts == Receipts::Off {
        let directory = bench.directory("without-receipts")?;
        gateways.0 = Gateway::start_with(bench, &directory, "[receipts]\nalgorithm = \"off\"\n")?;
    }
    for gateway in [&gateways.0, &gateways.1] {
        claims::open(gateway)?;
    }
    // The same users for both: a round of one is a round of the other.
    let (mine, theirs) = (Cell::new(0), Cell::new(0));
    let of = |gateway, users| claims::claims(bench, gateway, users, order);
    pair(
        bench,
        report,
        what,
        By::Rate,
        || of(&gateways.0, &mine),
        || of(&gateways.1, &theirs),
    );
    Ok(())
}

fn starts(bench: &Bench, report: &mut Report, builds: &Builds<'_>) -> Result<()> {
    drop(builds.start(bench, Limit::Never, Clicks::Off)?);
    let of = |binary: &Path, name: &str| -> Result<Sample> {
        let took = time_to_first_redirect(bench, binary, &bench.directory(name)?)?;
        Ok(Sample::new(
            1,
            took,
            std::time::Duration::ZERO,
            std::time::Duration::ZERO,
        ))
    };
    let what = "starts per second, warm cache, to the first 302: the earlier build";
    pair(
        bench,
        report,
        what,
        By::Rate,
        || of(builds.now, NOW),
        || of(builds.earlier, EARLIER),
    );
    Ok(())
}

impl Builds<'_> {
    fn start(&self, bench: &Bench, limit: Limit, clicks: Clicks) -> Result<(Gateway, Gateway)> {
        let one = |binary: &Path, name: &str| -> Result<Gateway> {
            let directory = bench.directory(name)?;
            // Each row begins with an empty store.
            std::fs::remove_dir_all(&directory)?;
            Gateway::start(bench, binary, &directory, limit, clicks)
        };
        Ok((one(self.now, NOW)?, one(self.earlier, EARLIER)?))
    }
}

fn pair<'a>(
    bench: &Bench,
    report: &mut Report,
    what: &str,
    by: By,
    now: impl FnMut() -> Result<Sample> + 'a,
    earlier: impl FnMut() -> Result<Sample> + 'a,
) {
    let contenders = vec![Contender::new(NOW, now), Contender::new(EARLIER, earlier)];
    let rounds = rounds::take(bench, what, contenders);
    report.pair(
        Row::Earlier,
        what,
        rounds.of(NOW),
        rounds.of(EARLIER),
        Floor::AtLeast(KEPT),
        by,
    );
}
