//! Durable claims: answered only when they are on disk. Every user is a new one.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bench::gateway::{self, Clicks, Gateway, Limit, Stored};
use crate::bench::peers::{self, Peer, Redis};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender, Sample};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row, Side, figures, machine};
use crate::program::Program;

const CONNECTIONS: u32 = 512;
const PATH: &str = "/api/campaigns/spring/claims";
/// How many times as long as another run the one for the slowest is.
const TAIL: u32 = 4;
/// How far the numbers of users of two figures are apart.
const USERS: u64 = 10_000_000;
/// Claims of the first run against Redis, which tells how many the next ones need.
const FIRST: u64 = 20_000;
/// How long a run against Redis may take beyond what was asked for.
const MARGIN: Duration = Duration::from_secs(30);
/// Users that redis-benchmark draws from; it takes at most 2^31.
const RANDOM_USERS: &str = "1000000000";
/// Users of a run against Redis are drawn at random: some few twice.
const ADMITTED: f64 = 0.99;

/// A gateway that takes less than a hundredth of a core for so long has nothing to do: its store begins to flush after a second.
const QUIET: Duration = Duration::from_millis(1_500);
/// The longest that is waited for that.
const SETTLED: Duration = Duration::from_secs(20);

/// In which order users come. Next to each other in a sorted file, their claims share its pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In the order of their ids.
    Ascending,
    /// In none, as in a sale.
    Scattered,
}

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let tollgate = campaign(bench, "claims")?;
    let redis = peers::redis(bench);
    let node = match &redis {
        Ok(redis) => peers::node_claims(bench, redis),
        Err(why) => Err(anyhow::anyhow!("{why:#}")),
    };
    let nginx = match &redis {
        Ok(redis) => peers::nginx_claims(bench, redis),
        Err(why) => Err(anyhow::anyhow!("{why:#}")),
    };
    let scattered = campaign(bench, "scattered")?;
    let (users, next) = (Cell::new(0), Cell::new(FIRST));
    let mut contenders = vec![
        Contender::new("tollgate", || claims(bench, &tollgate, &users, Order::Ascending)),
        Contender::new("scattered", || {
            claims(bench, &scattered, &users, Order::Scattered)
        }),
        Contender::new("disk", || disk(bench)),
    ];
    if let Ok(redis) = &redis {
        contenders.push(Contender::new("redis", || bare(bench, redis, &next)));
        if let Ok(node) = &node {
            contenders.push(Contender::new("node", || {
                before_redis(bench, node, redis, &users)
            }));
        }
        if let Ok(nginx) = &nginx {
            contenders.push(Contender::new("nginx", || {
                before_redis(bench, nginx, redis, &users)
            }));
        }
    }
    let rounds = rounds::take(bench, "claims", contenders);
    let skipped = |error: &anyhow::Error| format!("{error:#}");
    let (no_redis, no_node, no_nginx) = (
        redis.as_ref().err().map(skipped),
        node.as_ref().err().map(skipped),
        nginx.as_ref().err().map(skipped),
    );
    let against_redis = [
        "durable claims, 512 connections: bare Redis `appendfsync always` + Lua",
        "the same, by users in no order: bare Redis",
    ];
    let against_node = [
        "durable claims: node's HTTP server in front of that Redis",
        "the same, by users in no order: node",
    ];
    let against_nginx = [
        "durable claims: nginx with Lua in front of that Redis",
        "the same, by users in no order: nginx with Lua",
    ];
    for (peer, missing, floor, what) in [
        ("redis", no_redis, 0.5, against_redis),
        ("node", no_node, 1.5, against_node),
        ("nginx", no_nginx, 3.0, against_nginx),
    ] {
        for (mine, what) in ["tollgate", "scattered"].into_iter().zip(what) {
            let (mine, theirs) = (rounds.of(mine), rounds.of(peer));
            match &missing {
                None => report.pair(Row::Claims, what, mine, theirs, Floor::AtLeast(floor), By::Rate),
                Some(why) => report.skip(Row::Claims, what, why),
            }
        }
    }
    drop((node, nginx));
    let what = "durable claims by users in no order: by users in the order of their ids";
    report.pair(
        Row::Claims,
        what,
        rounds.of("scattered"),
        rounds.of("tollgate"),
        Floor::None,
        By::Rate,
    );
    drop(scattered);
    let what = "durable claims per second, over fdatasyncs per second of the bare disk";
    report.pair(
        Row::Claims,
        what,
        rounds.of("tollgate"),
        rounds.of("disk"),
        Floor::None,
        By::Rate,
    );
    per_sync(bench, report)
}

/// A gateway with a campaign that no run uses up.
fn campaign(bench: &Bench, name: &str) -> Result<Gateway> {
    let directory = bench.directory(name)?;
    let gateway = Gateway::start(bench, &bench.gateway, &directory, Limit::Never, Clicks::Submitted)?;
    open(&gateway)?;
    Ok(gateway)
}

/// Opens the campaign that [`claims`] claims from.
pub(super) fn open(gateway: &Gateway) -> Result<()> {
    let campaign = r#"{"id":"spring","quantity":1000000000}"#;
    gateway::call(gateway.port, "/api/campaigns", campaign, 201)
}

/// A gateway of its own, so that its syncs are those of this load: how many claims share one.
fn per_sync(bench: &Bench, report: &mut Report) -> Result<()> {
    let tollgate = campaign(bench, "syncs")?;
    bench.doing("claims: how many share an fdatasync");
    claims(bench, &tollgate, &Cell::new(0), Order::Ascending)?;
    let Stored { commits, groups } = tollgate.stop()?;
    let each = commits as f64 / groups.max(1) as f64;
    report.number(
        Row::Claims,
        "durable claims per fdatasync that the gateway made",
        format!("{commits} commits"),
        format!("{groups} fdatasyncs"),
        each,
        Floor::AtLeast(60.0),
    );
    tail(bench, report)
}

/// Long enough for some checkpoints, which come every 64 MiB of log: none of them may stop the claims.
fn tail(bench: &Bench, report: &mut Report) -> Result<()> {
    let tollgate = campaign(bench, "tail")?;
    bench.doing("claims: the slowest");
    let seconds = bench.seconds.saturating_mul(TAIL);
    let load = load(tollgate.port, &Cell::new(0), Order::Scattered);
    let sample = load.run(bench, seconds, &[tollgate.group()])?;
    report.number(
        Row::Claims,
        "99th percentile of a durable claim, 512 connections: its median",
        format!("{} µs", sample.p99),
        format!("{} µs", sample.median),
        sample.p99 as f64 / sample.median.max(1) as f64,
        Floor::AtMost(2.0),
    );
    Ok(())
}

/// Claims by new users, with what is flushed for them later; `users` is where their numbers begin.
pub(super) fn claims(bench: &Bench, gateway: &Gateway, users: &Cell<u64>, order: Order) -> Result<Sample> {
    let sample = over_http(bench, gateway.port, PATH, users, order, &[gateway.group()])?;
    bench.doing("claims: what is flushed later");
    Ok(sample.with_later(settle(&[gateway.group()])))
}

/// Waits until servers that are left alone have nothing more to do: a store flushes what is in the journal, a database vacuums.
/// Returns the CPU time that this took. It is part of the cost of the claims, and must not run during the
/// next contender's turn.
pub(super) fn settle(servers: &[i32]) -> Duration {
    let cpu = || figures::cpu_of(servers);
    let (before, until) = (cpu(), Instant::now() + SETTLED);
    let mut last = before;
    loop {
        thread::sleep(QUIET);
        let now = cpu();
        if now.saturating_sub(last) < QUIET / 100 || Instant::now() > until {
            return now.saturating_sub(before);
        }
        last = now;
    }
}

fn over_http(
    bench: &Bench,
    port: u16,
    path: &'static str,
    users: &Cell<u64>,
    order: Order,
    servers: &[i32],
) -> Result<Sample> {
    Load {
        path,
        ..load(port, users, order)
    }
    .run(bench, bench.seconds, servers)
}

/// Claims by the next users.
pub(super) fn load(port: u16, users: &Cell<u64>, order: Order) -> Load {
    users.set(users.get() + USERS);
    let mut arguments = vec![users.get().to_string()];
    if order == Order::Scattered {
        arguments.push("scattered".to_owned());
    }
    Load {
        script: "claims",
        arguments,
        port,
        path: PATH,
        connections: CONNECTIONS,
        answers: Answers::Success,
        is_tls: false,
    }
}

/// Claims at a peer in front of that Redis.
fn before_redis(bench: &Bench, peer: &Peer, redis: &Redis, users: &Cell<u64>) -> Result<Sample> {
    over_http(
        bench,
        peer.port,
        "/claims",
        users,
        Order::Ascending,
        &[peer.group(), redis.peer.group()],
    )
}

/// As many claims over Redis's own protocol as `next` says; it then says how many fill the time.
fn bare(bench: &Bench, redis: &Redis, next: &Cell<u64>) -> Result<Sample> {
    let (count, port) = (next.get(), redis.peer.port);
    let before = admitted(port)?;
    // Every run of redis-benchmark draws the same numbers, so each run is a campaign of its own.
    let claimed = format!("claimed-{before}");
    let mut command = bench.cores.command(Side::Generator, Path::new(&redis.benchmark));
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-c",
        &CONNECTIONS.to_string(),
    ]);
    command.args(["-n", &count.to_string(), "-r", RANDOM_USERS, "-q"]);
    command.args([
        "EVALSHA",
        &redis.script,
        "3",
        &claimed,
        "stock",
        "claims",
        "user:__rand_int__",
    ]);
    let (server, generator) = (figures::cpu_of(&[redis.peer.group()]), figures::cpu_of_children());
    let program = Program::start(&bench.keeper, "redis-benchmark", command)?;
    let (status, output) = program.finish(Duration::from_secs(bench.seconds.into()) + MARGIN)?;
    let server = figures::cpu_of(&[redis.peer.group()]).saturating_sub(server);
    let generator = figures::cpu_of_children().saturating_sub(generator);
    if !status.success() {
        bail!("redis-benchmark failed ({status}): {output}");
    }
    let admitted = admitted(port)? - before;
    if (admitted as f64) < count as f64 * ADMITTED {
        bail!("only {admitted} of {count} claims were admitted");
    }
    let rate = rate(&output).with_context(|| format!("redis-benchmark gave no figure: {output}"))?;
    next.set(((rate * f64::from(bench.seconds)) as u64).max(FIRST));
    Ok(Sample::new(
        count,
        Duration::from_secs_f64(count as f64 / rate),
        server,
        generator,
    ))
}

/// How many claims there are.
fn admitted(port: u16) -> Result<u64> {
    let answer = peers::resp(port, &["XLEN", "claims"])?;
    answer
        .trim()
        .trim_start_matches(':')
        .parse()
        .context("redis gave no length")
}

/// What `redis-benchmark -q` says at last.
fn rate(output: &str) -> Option<f64> {
    let (before, _) = output.rsplit_once(" requests per second")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Syncs of the same disk.
fn disk(bench: &Bench) -> Result<Sample> {
    let time = Duration::from_secs(1);
    let syncs = machine::syncs(bench.keeper.scratch(), time)?;
    Ok(Sample::new(
        syncs.len() as u64,
        time,
        Duration::ZERO,
        Duration::ZERO,
    ))
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn the_last_rate_of_redis_benchmark_counts() {
        let output = "EVALSHA x: rps=0.0 (overall: 0.0) avg_msec=nan\rEVALSHA x: 71225.07 requests per second, p50=6.127 msec\n\n";
        assert_eq!(rate(output), Some(71_225.07));
        assert_eq!(rate("nothing"), None);
    }
}
