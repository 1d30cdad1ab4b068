//! What claims of other kinds cost, over a plain one: codes that were imported, a list of who may claim, holds that are confirmed, and
//! receipts. Every user is a new one; the gateways are alike but for that.

use std::cell::Cell;

use anyhow::Result;
use serde_json::json;

use super::claims::{Order, claims};
use crate::bench::gateway::{self, Clicks, Gateway, Limit};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender, Sample};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row};

/// Codes and users of a call.
const BATCH: u64 = 10_000;
/// Users of the list.
const LISTED: u64 = 1_000_000;
/// Claims a second that no machine here reaches: so many codes are imported for each second that is measured.
const FASTEST: u64 = 40_000;
const CONNECTIONS: u32 = 512;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let plain = campaign(
        bench,
        "generated",
        &json!({ "quantity": 1_000_000_000, "codes": "generate" }),
        None,
    )?;
    let imported = with_codes(bench)?;
    let listed = with_list(bench)?;
    let hold = json!({ "quantity": 1_000_000_000, "codes": "generate", "holdSeconds": 3_600 });
    let held = campaign(bench, "held", &hold, None)?;
    let bare = json!({ "quantity": 1_000_000_000, "codes": "generate" });
    let without = campaign(
        bench,
        "no-receipts",
        &bare,
        Some("[receipts]\nalgorithm = \"off\"\n"),
    )?;
    let users = Cell::new(0);
    // The list has users from its beginning on.
    let on_list = Cell::new(0);
    let contenders = vec![
        Contender::new("generated", || claims(bench, &plain, &users, Order::Ascending)),
        Contender::new("imported", || claims(bench, &imported, &users, Order::Ascending)),
        Contender::new("listed", || of_the_list(bench, &listed, &on_list)),
        Contender::new("held", || hold_and_confirm(bench, &held, &users)),
        Contender::new("without", || claims(bench, &without, &users, Order::Ascending)),
    ];
    let rounds = rounds::take(bench, "admission", contenders);
    for (what, mine, theirs, floor) in [
        (
            "claims with imported codes: with generated ones",
            "imported",
            "generated",
            Some(0.8),
        ),
        (
            "claims where 1,000,000 users may: where everybody may",
            "listed",
            "generated",
            Some(0.85),
        ),
        ("hold and confirm: a claim", "held", "generated", Some(0.45)),
        (
            "claims with receipts: without",
            "generated",
            "without",
            Some(0.97),
        ),
    ] {
        let floor = floor.map_or(Floor::None, Floor::AtLeast);
        report.pair(
            Row::Admission,
            what,
            rounds.of(mine),
            rounds.of(theirs),
            floor,
            By::Cost,
        );
    }
    Ok(())
}

/// A gateway with a campaign of this kind.
fn campaign(
    bench: &Bench,
    name: &str,
    fields: &serde_json::Value,
    settings: Option<&str>,
) -> Result<Gateway> {
    let directory = bench.directory(name)?;
    let gateway = match settings {
        None => Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Submitted)?,
        Some(more) => Gateway::start_with(bench, &directory, more)?,
    };
    let mut campaign = fields.clone();
    campaign["id"] = "spring".into();
    gateway::call(gateway.port, "/api/campaigns", &campaign.to_string(), 201)?;
    Ok(gateway)
}

fn with_codes(bench: &Bench) -> Result<Gateway> {
    let gateway = campaign(bench, "imported", &json!({ "codes": "import" }), None)?;
    let wanted = FASTEST * u64::from(bench.seconds) * u64::from(bench.pairs + 1);
    bench.doing(format!("importing {wanted} codes"));
    for call in 0..wanted.div_ceil(BATCH) {
        let codes: Vec<String> = (0..BATCH)
            .map(|n| format!("SPRING-{:010}", call * BATCH + n))
            .collect();
        let body = json!({ "codes": codes }).to_string();
        gateway::call(gateway.port, "/api/campaigns/spring/codes", &body, 200)?;
    }
    Ok(gateway)
}

/// Users are `u1` to so many.
fn with_list(bench: &Bench) -> Result<Gateway> {
    let fields = json!({ "quantity": 1_000_000_000, "codes": "generate" });
    let gateway = campaign(bench, "listed", &fields, None)?;
    bench.doing(format!("writing a list of {LISTED} users"));
    for call in 0..LISTED / BATCH {
        let users: Vec<String> = (1..=BATCH).map(|n| format!("u{}", call * BATCH + n)).collect();
        let body = json!({ "add": users }).to_string();
        gateway::put(gateway.port, "/api/campaigns/spring/eligible", &body, 200)?;
    }
    Ok(gateway)
}

/// Claims by the next users of the list, for as long as there are some.
fn of_the_list(bench: &Bench, gateway: &Gateway, next: &Cell<u64>) -> Result<Sample> {
    let load = Load {
        script: "claims",
        arguments: vec![next.get().to_string()],
        port: gateway.port,
        path: "/api/campaigns/spring/claims",
        connections: CONNECTIONS,
        answers: Answers::Success,
        is_tls: false,
    };
    let sample = load.run(bench, bench.seconds, &[gateway.group()])?;
    // Those that were asked for and not answered are left out.
    next.set(next.get() + sample.count + 2 * u64::from(CONNECTIONS));
    Ok(sample.with_later(super::claims::settle(&[gateway.group()])))
}

/// Pairs of a hold and its confirmation; a sample counts pairs.
fn hold_and_confirm(bench: &Bench, gateway: &Gateway, users: &Cell<u64>) -> Result<Sample> {
    let load = Load {
        script: "hold",
        ..super::claims::load(gateway.port, users, Order::Ascending)
    };
    let sample = load.run(bench, bench.seconds, &[gateway.group()])?;
    let pairs = Sample {
        count: sample.count / 2,
        rate: sample.rate / 2.0,
        cpu: sample.cpu * 2.0,
        ..sample
    };
    Ok(pairs.with_later(super::claims::settle(&[gateway.group()])))
}
