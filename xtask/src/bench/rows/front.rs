//! Limits for another server: nginx that asks the gateway about each request, against nginx's own limiter; and Envoy that asks its rate limit
//! service, against the same service with a round trip to a Redis for each decision. That is how Envoy's reference service decides; to
//! have it of one program shows what the design costs, and not in which language it is written.

use anyhow::Result;

use crate::bench::gateway::Gateway;
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, free_port, http, peers};

const NGINX: &str = "nginx that asks the gateway (auth_request) before it answers: nginx's own limit_req";
const ENVOY: &str =
    "Envoy that asks the gateway's rate limit service: one that asks a Redis for each decision";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    if let Err(why) = nginx(bench, report) {
        report.skip(Row::Front, NGINX, &format!("{why:#}"));
    }
    if let Err(why) = envoy(bench, report) {
        report.skip(Row::Front, ENVOY, &format!("{why:#}"));
    }
    Ok(())
}

fn nginx(bench: &Bench, report: &mut Report) -> Result<()> {
    let tollgate = Gateway::start_trusting(bench, &bench.directory("front")?)?;
    let nginx = peers::nginx_in_front(bench, tollgate.port)?;
    http::expect(nginx.port, "/asking", 200)?;
    let (asking, alone) = (Load::hot(nginx.port, "/asking"), Load::hot(nginx.port, "/alone"));
    let both = [nginx.group(), tollgate.group()];
    let contenders = vec![
        Contender::new("tollgate", || asking.run(bench, bench.seconds, &both)),
        Contender::new("nginx", || alone.run(bench, bench.seconds, &both)),
    ];
    let rounds = rounds::take(bench, "limits for nginx", contenders);
    let (ours, theirs) = (rounds.of("tollgate"), rounds.of("nginx"));
    report.pair(Row::Front, NGINX, ours, theirs, Floor::AtLeast(0.1), By::Cost);
    Ok(())
}

fn envoy(bench: &Bench, report: &mut Report) -> Result<()> {
    let redis = peers::redis_in_memory(bench)?;
    let store = format!("[limits_store]\nurl = \"redis://127.0.0.1:{}\"\n", redis.port);
    let (ours, our_limits) = service(bench, "rls", "", "")?;
    let (theirs, their_limits) = service(bench, "rls-redis", &store, "shared = \"exact\"")?;
    let ours_front = peers::envoy_in_front(bench, "envoy-front", our_limits)?;
    let theirs_front = peers::envoy_in_front(bench, "envoy-redis", their_limits)?;
    let (with, without) = (
        Load::hot(ours_front.port, "/x"),
        Load::hot(theirs_front.port, "/x"),
    );
    let our_groups = [ours_front.group(), ours.group()];
    let their_groups = [theirs_front.group(), theirs.group(), redis.group()];
    let contenders = vec![
        Contender::new("tollgate", || with.run(bench, bench.seconds, &our_groups)),
        Contender::new("redis", || without.run(bench, bench.seconds, &their_groups)),
    ];
    let rounds = rounds::take(bench, "limits for Envoy", contenders);
    let (ours, theirs) = (rounds.of("tollgate"), rounds.of("redis"));
    report.pair(Row::Front, ENVOY, ours, theirs, Floor::AtLeast(1.0), By::Cost);
    Ok(())
}

/// A gateway with the rate limit service, which counts by client and is never reached; and the service's port.
fn service(bench: &Bench, name: &str, store: &str, shared: &str) -> Result<(Gateway, u16)> {
    let port = free_port()?;
    let limit = format!(
        "{store}[[limits]]\nname = \"each\"\ndomain = \"site\"\ndescriptor = [{{ key = \"client\" }}]\ncapacity = 1000000000\n\
         refill = 1000000000\n{shared}\n"
    );
    let gateway = Gateway::start_rls(bench, &bench.directory(name)?, port, &limit)?;
    Ok((gateway, port))
}
