//! All tests, with everything they need built first.

use crate::build::{RELEASE, cargo, components, components_dir, gateway, root, run, say};
use anyhow::{Result, bail};
use std::env;
use std::path::Path;
use std::process::Command;

/// The crates whose tests need nothing but themselves.
const UNIT: &[&str] = &[
    "tollgate-api",
    "tollgate-store",
    "tollgate-rules",
    "tollgate-contract",
    "tollgate-fuzz",
    "tollgate-vfs",
    "tollgate-engines",
    "tollgate-delivery",
    "tollgate-simulation",
    "tollgate-store-sqlite",
    "tollgate-store-postgres",
    "tollgate-store-redis",
];

/// Those of them that are quick without optimisation.
const QUICK: &[&str] = &[
    "tollgate-api",
    "tollgate-store",
    "tollgate-rules",
    "tollgate-contract",
    "tollgate-engines",
    "tollgate-delivery",
];

/// Without them, `tollgate-delivery` is what components need of it; our own host and Spin carry deliveries out by one of them.
const DRIVER: &str = "tollgate-delivery/driver,tollgate-delivery/drain";

/// Its sinks besides HTTP, each against a real server where there is one.
const SINKS: &str = "tollgate-delivery/sink-kafka,tollgate-delivery/sink-redis,tollgate-delivery/sink-nats,tollgate-delivery/sink-postgres,tollgate-delivery/sink-s3,tollgate-delivery/sink-smtp";

/// Limits over a Redis.
const LIMITS: &str = "tollgate-engines/limits-redis";

/// Crates that are optimised less for their unit tests, and to which level: more would take longer than it saves. The gateway itself is
/// tried as it is shipped.
const QUICKLY_COMPILED: &[(&str, u8)] = &[
    ("tollgate-rules", 0),
    ("tollgate-contract", 1),
    ("tollgate-delivery", 1),
    ("tollgate-engines", 1),
    ("tollgate-fuzz", 1),
    ("tollgate-store-postgres", 1),
    ("tollgate-store-redis", 1),
    ("tollgate-store-sqlite", 1),
];

/// The case that `cargo xtask crash` runs for longer.
const CRASH_LOOP: &str = "host::crash::what_was_acknowledged_survives_kill_nine_at_any_moment";
/// The same, for a fleet.
const FLEET_LOOP: &str = "host::crash::a_fleet_keeps_what_it_acknowledged_whatever_breaks";

/// Unit, property and contract tests, then the end-to-end tests against the real program. A part that fails does not keep the
/// others from running: one run tells everything that is wrong.
pub fn all(arguments: &[String]) -> Result<()> {
    let gateway = gateway(RELEASE, None)?;
    crate::compose::run(crate::compose::Store::Sqlite)?;
    crate::compose::for_tests(crate::compose::Store::Postgres)?;
    crate::compose::for_tests(crate::compose::Store::Redis)?;
    let mut failed = Vec::new();
    let mut part = |name: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("xtask: {error:#}");
            failed.push(name.to_owned());
        }
    };
    if arguments.is_empty() {
        for (name, mut command) in parts() {
            say(name);
            part(name, run(&mut command, name));
        }
        let training = "the load that profile-guided builds learn from";
        say(training);
        part(training, crate::bench::train(&gateway));
    }
    let last = "end-to-end tests";
    say(last);
    part(last, run(end_to_end(&gateway).args(arguments), last));
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("what failed, each told of above: {}", failed.join("; ")),
    }
}

/// What runs before the end-to-end tests, by name.
fn parts() -> [(&'static str, Command); 4] {
    let test = |release: bool| {
        let mut command = cargo();
        command
            .arg("test")
            .args(release.then_some("--release"))
            .arg("--no-fail-fast");
        command.env("TOLLGATE_COMPONENTS", components_dir());
        command
    };
    let mut unit = test(true);
    unit.args(UNIT.iter().flat_map(|name| ["--package", name]));
    unit.args([DRIVER, SINKS, LIMITS].iter().flat_map(|set| ["--features", set]));
    for (name, level) in QUICKLY_COMPILED {
        let level = format!("profile.release.package.{name}.opt-level={level}");
        unit.args(["--config", &level]);
    }
    // In the profile that this very program was built in.
    let mut own = test(false);
    own.args(["--package", "xtask"]);
    // Together: so wasmtime keeps the features that the gateway was built with.
    let mut host = test(true);
    host.args(["--package", "tollgate", "--package", "tollgate-plug"]);
    let mut interleavings = test(true);
    interleavings.args(["--package", "tollgate-engines", "--lib"]);
    // With less optimisation, the small stacks of shuttle's threads are too small.
    interleavings.args(["--features", "shuttle", "--", "interleavings"]);
    [
        ("unit, property and contract tests", unit),
        ("the tests of xtask", own),
        (
            "the host's own tests, and the contract against the component store-sqlite in wasmtime",
            host,
        ),
        ("what threads share, under many interleavings", interleavings),
    ]
}

/// Unit and property tests in the dev profile, of the crates that need no wasmtime; further arguments filter them.
pub fn quick(arguments: &[String]) -> Result<()> {
    say("unit and property tests (the whole suite: cargo xtask test)");
    let mut command = cargo();
    command.args(["test", "--lib", "--bins", "--tests"]);
    for name in QUICK {
        command.args(["--package", name]);
    }
    command.args(["--features", DRIVER]);
    run(command.arg("--").args(arguments), "unit and property tests")
}

/// The end-to-end tests, to be told which.
fn end_to_end(gateway: &Path) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--release", "--package", "tollgate-tests", "--"])
        .env("TOLLGATE_BIN", gateway)
        .env("TOLLGATE_COMPONENTS", components_dir());
    if let Ok(this) = env::current_exe() {
        command.env("TOLLGATE_XTASK", this);
    }
    command
}

/// The crash loop of the end-to-end tests, for so many cycles; of so many gateways over one Postgres, if there is a number.
pub fn crash(cycles: u64, gateways: Option<u8>) -> Result<()> {
    let gateway = gateway(RELEASE, None)?;
    let case = match gateways {
        None => CRASH_LOOP,
        Some(_) => FLEET_LOOP,
    };
    say(&format!("{cycles} cycles of load and kill -9"));
    let mut command = end_to_end(&gateway);
    command
        .args(["--exact", case, "--nocapture"])
        .env("TOLLGATE_CRASH_CYCLES", cycles.to_string());
    if let Some(gateways) = gateways {
        command.env("TOLLGATE_CRASH_GATEWAYS", gateways.to_string());
    }
    run(&mut command, "the crash loop")
}

/// The case in which a person works with the dashboard.
const BROWSER: &str = "host::dashboard::a_person_works_with_it_in_a_browser";
/// The pictures that documents show.
const SHOWN: &[&str] = &[
    "overview-light-1280",
    "campaigns-dark-1280",
    "topic-light-1280",
    "rooms-light-1280",
    "origins-dark-1280",
    "links-light-360",
];

/// Pictures of every view of the dashboard, taken by its case; the few that documents show are copied there.
pub fn screenshots() -> Result<()> {
    let gateway = gateway(RELEASE, None)?;
    let (all, shown) = (root().join("target/screenshots"), root().join("docs/screenshots"));
    let mut command = end_to_end(&gateway);
    command
        .args(["--exact", BROWSER, "--nocapture"])
        .env("TOLLGATE_BROWSER", "1")
        .env("SCREENSHOTS", &all);
    run(&mut command, "the dashboard's case")?;
    std::fs::create_dir_all(&shown)?;
    for name in SHOWN {
        let file = format!("{name}.png");
        std::fs::copy(all.join(&file), shown.join(&file))?;
    }
    say(&format!("the pictures are in {}", all.display()));
    Ok(())
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
    let mut benches = cargo();
    benches.args([
        "clippy",
        "--release",
        "--package",
        "tollgate-bench",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    run(&mut benches, "cargo clippy for the benches")?;
    let mut wasm = cargo();
    wasm.args(["clippy", "--profile", "wasm", "--target", "wasm32-wasip2"]);
    use crate::build::{COMPONENTS, MISBEHAVING, RULES, SPIN_STORES, package};
    for name in COMPONENTS
        .iter()
        .chain(SPIN_STORES)
        .chain(&[RULES, MISBEHAVING, "guest"])
    {
        wasm.args(["--package", &package(name)]);
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
