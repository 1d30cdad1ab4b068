//! Consumers of a group: messages that are leased and acknowledged, by 100. Each run is a group of its own, from the beginning of the
//! same topic.

use std::cell::Cell;

use anyhow::{Context as _, Result, bail};

use crate::bench::gateway::{self, ADMIN_KEY, Clicks, Gateway, Limit};
use crate::bench::report::{Floor, Report, short, thousands};
use crate::bench::rounds::{self, Contender, Sample, middle};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row, http};

const WHAT: &str = "messages that a group's consumers lease and acknowledge, by 100, per second";
const NAME: &str = "groups";
const TOPIC: &str = "work";
/// Messages of a lease.
const BATCH: u32 = 100;
/// Consumers at once.
const CONSUMERS: u32 = 16;
/// Messages a second that no machine here reaches: so many lie there for each second that is measured.
const FASTEST: u64 = 150_000;
/// Connections that post them.
const POSTERS: u32 = 256;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let directory = bench.directory(NAME)?;
    let gateway = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Off)?;
    fill(bench, &gateway)?;
    let run = Cell::new(0);
    let contenders = vec![Contender::new(NAME, || lease(bench, &gateway, &run))];
    let rounds = rounds::take(bench, NAME, contenders);
    match rounds.of(NAME) {
        Err(why) => report.skip(Row::Groups, WHAT, &why),
        Ok(samples) => {
            let (rate, cpu) = (middle(samples, |one| one.rate), middle(samples, |one| one.cpu));
            let ours = format!("{}/s, {} µs each", thousands(rate), short(cpu));
            report.number(
                Row::Groups,
                WHAT,
                ours,
                "–".into(),
                rate,
                Floor::AtLeast(50_000.0),
            );
        }
    }
    Ok(())
}

fn load(gateway: &Gateway, script: &'static str, connections: u32, arguments: Vec<String>) -> Load {
    Load {
        script,
        arguments,
        port: gateway.port,
        path: "/api/topics/work/messages",
        connections,
        answers: Answers::Success,
        is_tls: false,
    }
}

fn fill(bench: &Bench, gateway: &Gateway) -> Result<()> {
    let wanted = FASTEST * u64::from(bench.seconds);
    bench.doing(format!("posting {} messages", thousands(wanted as f64)));
    let arguments = vec![ADMIN_KEY.into(), wanted.to_string()];
    let seconds = bench.at_most(bench.sizes.fill_seconds)?;
    load(gateway, "post", POSTERS, arguments).run(bench, seconds, &[gateway.group()])?;
    Ok(())
}

/// Consumers of a new group, for as long as a run takes; counts what they acknowledged.
fn lease(bench: &Bench, gateway: &Gateway, run: &Cell<u32>) -> Result<Sample> {
    let group = format!("run{}", run.replace(run.get() + 1));
    let path = format!("/api/topics/{TOPIC}/groups/{group}");
    gateway::put(gateway.port, &path, r#"{"startFrom":"oldest"}"#, 201)?;
    let before = lag(gateway, &path)?;
    let arguments = vec![TOPIC.into(), group, BATCH.to_string(), ADMIN_KEY.into()];
    let load = load(gateway, "lease", CONSUMERS, arguments);
    let sample = load.run(bench, bench.seconds, &[gateway.group()])?;
    let left = lag(gateway, &path)?;
    let acknowledged = before.saturating_sub(left);
    if left < u64::from(BATCH * CONSUMERS) || acknowledged == 0 {
        bail!("of {before} messages {left} are left: that is no figure");
    }
    let each = sample.count as f64 / acknowledged as f64;
    Ok(Sample {
        count: acknowledged,
        rate: sample.rate / each,
        cpu: sample.cpu * each,
        ..sample
    })
}

/// Messages that no consumer has acknowledged.
fn lag(gateway: &Gateway, path: &str) -> Result<u64> {
    let head = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let (_, answer) = http::exchange(gateway.port, &head, "")?;
    let (_, rest) = answer.split_once("\"lag\":").context("the group has no lag")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no lag: {answer}"))
}
