//! Durable claims of one campaign over one, two and four gateways on one Postgres, which is synced as it comes, and by node on that
//! Postgres. All servers share one core: what is seen is what more gateways cost, not what more machines gain. The time of Postgres
//! counts as theirs.

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::claims::{self, Order};
use crate::bench::gateway::Gateway;
use crate::bench::peers::{self, Database};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender, Sample};
use crate::bench::wrk::{self, Load};
use crate::bench::{Bench, Row};

/// Connections of all gateways together.
const CONNECTIONS: u32 = 512;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let database = peers::postgres(bench)?;
    let (one, two, four) = (
        start(bench, &database, 1)?,
        start(bench, &database, 2)?,
        start(bench, &database, 4)?,
    );
    let users = Cell::new(0);
    let node = peers::node_postgres(bench, &database);
    let (logged, claimed) = (Cell::new(0), Cell::new(0));
    let mut contenders = vec![
        Contender::new("one", || {
            let before = database.written()?;
            let sample = together(bench, &database, &one, &users)?;
            logged.set(logged.get() + database.written()? - before);
            claimed.set(claimed.get() + sample.count);
            Ok(sample)
        }),
        Contender::new("two", || together(bench, &database, &two, &users)),
        Contender::new("four", || together(bench, &database, &four, &users)),
    ];
    if let Ok(node) = &node {
        contenders.push(Contender::new("node", || {
            let load = Load {
                path: "/claims",
                ..claims::load(node.port, &users, Order::Scattered)
            };
            let servers = [node.group(), database.group()];
            let sample = load.run(bench, bench.seconds, &servers)?;
            Ok(sample.with_later(claims::settle(&servers)))
        }));
    }
    let rounds = rounds::take(bench, "fleet", contenders);
    let what = "durable claims, 1 gateway on a Postgres: node on that Postgres, `FOR UPDATE`";
    match &node {
        Ok(_) => report.pair(
            Row::Fleet,
            what,
            rounds.of("one"),
            rounds.of("node"),
            Floor::AtLeast(3.0),
            By::Rate,
        ),
        Err(why) => report.skip(Row::Fleet, what, &format!("{why:#}")),
    }
    let bytes = logged.get() as f64 / claimed.get().max(1) as f64;
    report.number(
        Row::Fleet,
        "bytes of Postgres' log for a durable claim",
        format!("{bytes:.0}"),
        "–".into(),
        bytes,
        Floor::AtMost(800.0),
    );
    for (mine, what) in [
        ("two", "durable claims, 2 gateways on one Postgres: 1 gateway"),
        ("four", "durable claims, 4 gateways on one Postgres: 1 gateway"),
    ] {
        report.pair(
            Row::Fleet,
            what,
            rounds.of(mine),
            rounds.of("one"),
            Floor::None,
            By::Rate,
        );
    }
    Ok(())
}

/// So many gateways on tables of their own, with a campaign that no run uses up.
fn start(bench: &Bench, database: &Database, count: usize) -> Result<Vec<Gateway>> {
    let url = database.schema(&format!("fleet_{count}"))?;
    let mut all = Vec::new();
    for n in 0..count {
        let directory: PathBuf = bench.directory(&format!("fleet-{count}-{n}"))?;
        all.push(Gateway::start_on(bench, &directory, &url)?);
    }
    claims::open(all.first().context("there is one")?)?;
    Ok(all)
}

/// Claims at all of them at once, by new users.
fn together(bench: &Bench, database: &Database, all: &[Gateway], users: &Cell<u64>) -> Result<Sample> {
    let share = CONNECTIONS / u32::try_from(all.len()).unwrap_or(1);
    let loads: Vec<Load> = all
        .iter()
        .map(|gateway| Load {
            connections: share,
            ..claims::load(gateway.port, users, Order::Scattered)
        })
        .collect();
    let servers = all.iter().map(Gateway::group);
    let groups: Vec<i32> = servers.chain([database.group()]).collect();
    let sample = wrk::together(bench, bench.seconds, &loads, &groups)?;
    Ok(sample.with_later(claims::settle(&groups)))
}
