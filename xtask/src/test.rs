//! All tests, with everything they need built first.

use crate::build::{cargo, components, components_dir, gateway, run, say};
use anyhow::Result;
use std::env;

/// The crates whose tests need nothing but themselves. (The host has none of its own: it is what the end-to-end tests
/// run.)
const UNIT: &[&str] = &[
    "tollgate-core",
    "tollgate-contract",
    "tollgate-engine",
    "tollgate-relay",
    "tollgate-simulation",
    "tollgate-store-sqlite",
];

/// Unit, property and contract tests, then the end-to-end tests against the real program.
pub fn all(arguments: &[String]) -> Result<()> {
    let gateway = gateway()?;
    crate::compose::run()?;
    if arguments.is_empty() {
        say("unit, property and contract tests");
        let mut command = cargo();
        command
            .args(["test", "--release"])
            .env("TOLLGATE_COMPONENTS", components_dir());
        for name in UNIT {
            command.args(["--package", name]);
        }
        run(&mut command, "unit, property and contract tests")?;
    }
    say("end-to-end tests");
    let mut command = cargo();
    command
        .args(["test", "--release", "--package", "tollgate-tests", "--"])
        .args(arguments);
    command
        .env("TOLLGATE_BIN", gateway)
        .env("TOLLGATE_COMPONENTS", components_dir());
    run(&mut command, "the end-to-end tests")
}

/// Formatting, lints, documentation; dependencies too where `cargo deny` is installed.
pub fn lint() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]), "cargo fmt")?;
    components()?;
    let mut clippy = cargo();
    clippy.args(["clippy", "--release", "--all-targets", "--", "-D", "warnings"]);
    run(
        clippy.env("TOLLGATE_COMPONENTS", components_dir()),
        "cargo clippy",
    )?;
    let mut wasm = cargo();
    wasm.args(["clippy", "--profile", "wasm", "--target", "wasm32-wasip2"]);
    for name in crate::build::COMPONENTS
        .iter()
        .chain([&crate::build::SPIN_STORE, &"guest"])
    {
        wasm.args(["--package", &format!("tollgate-{name}")]);
    }
    run(
        wasm.args(["--", "-D", "warnings"]),
        "cargo clippy for the components",
    )?;
    let deny = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|p| p.join("cargo-deny").is_file()));
    match deny {
        true => run(cargo().args(["deny", "check"]), "cargo deny"),
        false => {
            say("cargo-deny is not installed: skipped (cargo install cargo-deny)");
            Ok(())
        }
    }
}
