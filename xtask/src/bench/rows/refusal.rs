//! A refusal of the limiter: 429, with its headers and body.

use anyhow::Result;

use crate::bench::gateway::{Clicks, Gateway, Limit};
use crate::bench::report::{By, Floor, Report};
use crate::bench::rounds::{self, Contender};
use crate::bench::wrk::{Answers, Load};
use crate::bench::{Bench, Row, http, peers};

const WHAT: &str = "limiter refusal (429, headers, problem body): nginx's 429";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let nginx = match peers::nginx(bench) {
        Ok(nginx) => nginx,
        Err(why) => {
            report.skip(Row::Refusal, WHAT, &format!("{why:#}"));
            return Ok(());
        }
    };
    let tollgate = Gateway::start(
        bench,
        &bench.gateway,
        &bench.directory("refusing")?,
        Limit::Always,
        Clicks::Off,
    )?;
    let load = |port, path| Load {
        answers: Answers::Refusal,
        ..Load::hot(port, path)
    };
    for (port, path) in [(tollgate.port, "/sale"), (nginx.port, "/refused")] {
        // The first takes the only token; see http::status for the client id.
        http::status(port, path);
        http::expect(port, path, 429)?;
    }
    let (ours, theirs) = (load(tollgate.port, "/sale"), load(nginx.port, "/refused"));
    let rounds = rounds::take(
        bench,
        "refusals",
        vec![
            Contender::new("tollgate", || ours.run(bench, bench.seconds, &[tollgate.group()])),
            Contender::new("nginx", || theirs.run(bench, bench.seconds, &[nginx.group()])),
        ],
    );
    report.pair(
        Row::Refusal,
        WHAT,
        rounds.of("tollgate"),
        rounds.of("nginx"),
        Floor::AtLeast(0.65),
        By::Cost,
    );
    Ok(())
}
