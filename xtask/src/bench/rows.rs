//! The rows of the table, in groups that share their servers.

mod admission;
mod beside;
mod claims;
mod earlier;
mod fleet;
mod front;
mod groups;
mod latency;
mod memory;
mod proxied;
mod redirect;
mod refusal;
mod start;
pub(super) mod tls;

use super::report::Report;
use super::{Bench, Row};
use anyhow::Result;

/// Rows that are measured together, and how.
struct Group {
    rows: &'static [Row],
    measure: fn(&Bench, &mut Report) -> Result<()>,
}

const GROUPS: &[Group] = &[
    Group {
        rows: &[
            Row::Redirect,
            Row::Many,
            Row::Native,
            Row::Spin,
            Row::Clicks,
            Row::Ways,
        ],
        measure: redirect::measure,
    },
    Group {
        rows: &[Row::Refusal],
        measure: refusal::measure,
    },
    Group {
        rows: &[Row::Front],
        measure: front::measure,
    },
    Group {
        rows: &[Row::Proxied],
        measure: proxied::measure,
    },
    Group {
        rows: &[Row::Groups],
        measure: groups::measure,
    },
    Group {
        rows: &[Row::Claims],
        measure: claims::measure,
    },
    Group {
        rows: &[Row::Admission],
        measure: admission::measure,
    },
    Group {
        rows: &[Row::Fleet],
        measure: fleet::measure,
    },
    Group {
        rows: &[Row::Latency],
        measure: latency::measure,
    },
    Group {
        rows: &[Row::Beside],
        measure: beside::measure,
    },
    Group {
        rows: &[Row::Tls],
        measure: tls::measure,
    },
    Group {
        rows: &[Row::Start],
        measure: start::measure,
    },
    Group {
        rows: &[Row::Memory, Row::Growth],
        measure: memory::measure,
    },
    Group {
        rows: &[Row::Earlier],
        measure: earlier::measure,
    },
];

/// Steps of the progress bar.
pub const STEPS: u64 = GROUPS.len() as u64;

/// Measures what was asked for. What goes wrong is said in the table, and the rest goes on.
pub fn all(bench: &Bench, report: &mut Report) {
    for group in GROUPS {
        let wanted: Vec<Row> = group
            .rows
            .iter()
            .copied()
            .filter(|row| bench.wants(*row))
            .collect();
        if let Some(first) = wanted.first() {
            let failed = match bench.time_left().is_zero() {
                true => Some("no time was left".to_owned()),
                false => (group.measure)(bench, report)
                    .err()
                    .map(|error| format!("{error:#}")),
            };
            if let Some(why) = failed {
                report.skip(*first, "and what is measured with it", &why);
            }
        }
        bench.bar.inc(1);
    }
}
