//! Simulated worlds, one per seed; see docs/reliability.md.

use crate::build::{cargo, run};
use anyhow::Result;

/// Builds the simulation with optimisations and runs it; it knows its own options.
pub fn simulate(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "tollgate-simulation",
        "--",
    ]);
    run(command.args(arguments), "the simulation")
}
