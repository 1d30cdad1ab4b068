//! A GET of 1 KiB through the reverse proxy, limited by client, against nginx and Envoy before the same origin.

use anyhow::Result;

use crate::bench::gateway::Gateway;
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, http, peers};

const NGINX: &str =
    "proxied GET of 1 KiB, limited by client: nginx `limit_req` + `proxy_pass`, connections kept";
const ENVOY: &str = "the same: Envoy with local rate limit";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let origin = peers::origin(bench)?;
    let settings = format!(
        "[[origins]]\nname = \"origin\"\nurls = [\"http://127.0.0.1:{}\"]\n[[proxy]]\npath = \"/proxied/...\"\norigin = \"origin\"\n",
        origin.port
    );
    let tollgate = Gateway::start_with(bench, &bench.directory("proxied")?, &settings)?;
    http::expect(tollgate.port, "/proxied/x", 200)?;
    let nginx = peers::nginx_proxy(bench, origin.port)?;
    let envoy = peers::envoy_proxy(bench, origin.port);
    let of = |port| Load::hot(port, "/proxied/x");
    let (ours, theirs) = (of(tollgate.port), of(nginx.port));
    let mut contenders = vec![
        Contender::new("tollgate", || ours.run(bench, bench.seconds, &[tollgate.group()])),
        Contender::new("nginx", || theirs.run(bench, bench.seconds, &[nginx.group()])),
    ];
    if let Ok(envoy) = &envoy {
        let load = of(envoy.port);
        let group = envoy.group();
        contenders.push(Contender::new("envoy", move || {
            load.run(bench, bench.seconds, &[group])
        }));
    }
    let rounds = rounds::take(bench, "proxied requests", contenders);
    let pair = |report: &mut Report, what, theirs, floor| {
        report.pair(
            Row::Proxied,
            what,
            rounds.of("tollgate"),
            rounds.of(theirs),
            floor,
            By::Cost,
        );
    };
    pair(report, NGINX, "nginx", Floor::AtLeast(0.6));
    match &envoy {
        Ok(_) => pair(report, ENVOY, "envoy", Floor::AtLeast(1.5)),
        Err(why) => report.skip(Row::Proxied, ENVOY, &format!("{why:#}")),
    }
    Ok(())
}
