//! From the start of the program to the first redirect, on a store that was used before; and to the first answer, on none.

use anyhow::Result;

use crate::bench::gateway::{Clicks, Gateway, Limit, time_to_first_answer, time_to_first_redirect};
use crate::bench::report::{Floor, Report, short};
use crate::bench::{Bench, Row, figures};

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let directory = bench.directory("start")?;
    drop(Gateway::start(
        bench,
        &bench.gateway,
        &directory,
        Limit::Never,
        Clicks::Off,
    )?);
    let mut took = Vec::new();
    for start in 1..=bench.pairs {
        bench.doing(format!("start ({start} of {})", bench.pairs));
        took.push(time_to_first_redirect(bench, &bench.gateway, &directory)?.as_secs_f64() * 1e3);
    }
    let median = figures::median(took).unwrap_or(f64::NAN);
    let what = "start, on a store that was used before, to the first 302, in ms";
    report.number(
        Row::Start,
        what,
        format!("{} ms", short(median)),
        "–".into(),
        median,
        Floor::AtMost(100.0),
    );
    let mut took = Vec::new();
    for start in 1..=bench.pairs {
        bench.doing(format!("first start ({start} of {})", bench.pairs));
        let directory = bench.directory(&format!("first-start-{start}"))?;
        took.push(time_to_first_answer(bench, &bench.gateway, &directory)?.as_secs_f64() * 1e3);
    }
    let median = figures::median(took).unwrap_or(f64::NAN);
    report.number(
        Row::Start,
        "first start, empty data directory, to the first answer of a rule, in ms",
        format!("{} ms", short(median)),
        "–".into(),
        median,
        Floor::AtMost(100.0),
    );
    Ok(())
}
