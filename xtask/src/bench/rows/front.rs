//! Limits for another server: nginx that asks the gateway about each request, against nginx's own limiter.

use anyhow::Result;

use crate::bench::gateway::Gateway;
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::Load;
use crate::bench::{Bench, Row, http, peers};

const WHAT: &str = "nginx that asks the gateway (auth_request) before it answers: nginx's own limit_req";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let tollgate = Gateway::start_trusting(bench, &bench.directory("front")?)?;
    let nginx = match peers::nginx_in_front(bench, tollgate.port) {
        Ok(nginx) => nginx,
        Err(why) => {
            report.skip(Row::Front, WHAT, &format!("{why:#}"));
            return Ok(());
        }
    };
    http::expect(nginx.port, "/asking", 200)?;
    let (asking, alone) = (Load::hot(nginx.port, "/asking"), Load::hot(nginx.port, "/alone"));
    let both = [nginx.group(), tollgate.group()];
    let rounds = rounds::take(
        bench,
        "limits for nginx",
        vec![
            Contender::new("tollgate", || asking.run(bench, bench.seconds, &both)),
            Contender::new("nginx", || alone.run(bench, bench.seconds, &both)),
        ],
    );
    report.pair(
        Row::Front,
        WHAT,
        rounds.of("tollgate"),
        rounds.of("nginx"),
        Floor::AtLeast(0.1),
        By::Cost,
    );
    Ok(())
}
