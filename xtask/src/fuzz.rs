//! The fuzz targets under libFuzzer; see docs/reliability.md. `cargo xtask test` runs what they have kept without it.

use crate::build::{root, run, say, target_dir};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A slower input is a fault, seconds.
const TIMEOUT: u32 = 20;
/// Memory beyond which an input is a fault, MiB.
const MEMORY: u32 = 2_048;

#[derive(Args)]
pub struct Options {
    /// Which target; all of them, one after another, if none is named.
    target: Option<String>,
    /// For how long each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// `address` also finds misuse of memory, in SQLite for instance, at a third of the speed.
    #[arg(long, default_value = "none")]
    sanitizer: String,
}

/// Runs the targets. New inputs go to `fuzz/work` (not committed) and begin with the kept ones of `fuzz/corpus`; an input
/// that breaks something goes to `fuzz/artifacts`.
pub fn fuzz(options: &Options) -> Result<()> {
    let known = targets()?;
    let wanted: Vec<&String> = match &options.target {
        None => known.iter().collect(),
        Some(name) => match known.iter().find(|one| *one == name) {
            Some(found) => vec![found],
            None => bail!("there is no target {name}; there are {}", known.join(", ")),
        },
    };
    for (what, arguments, remedy) in [
        (
            "nightly Rust",
            ["+nightly", "--version"],
            "rustup toolchain install nightly",
        ),
        ("cargo-fuzz", ["fuzz", "--version"], "cargo install cargo-fuzz"),
    ] {
        if !answers(&arguments) {
            bail!("fuzzing needs {what}, which is not installed: {remedy}");
        }
    }
    for name in wanted {
        one(name, options)?;
    }
    Ok(())
}

fn one(name: &str, options: &Options) -> Result<()> {
    say(&format!("fuzzing {name} for {} s", options.seconds));
    let fuzz = root().join("fuzz");
    let work = fuzz.join("work").join(name);
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let corpus = fuzz.join("corpus").join(name);
    let dictionary = fuzz.join("dictionaries").join(format!("{name}.dict"));
    let mut command = rustup_cargo();
    command
        .env("CARGO_TARGET_DIR", target_dir()?.join("fuzz"))
        .args(["+nightly", "fuzz", "run", "--sanitizer", &options.sanitizer, name])
        .args([&work, &corpus])
        .arg("--")
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-print_final_stats=1");
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let purpose = format!("fuzzing {name} (an input that breaks it is in fuzz/artifacts/{name})");
    run(&mut command, &purpose)
}

/// The names of the targets: those of the kept inputs.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        names.extend(stem.filter(|_| path.extension() == Some(Path::new("rs").as_os_str())));
    }
    names.sort();
    Ok(names)
}

/// The `cargo` of rustup, which takes `+nightly`; the one that runs this is that of one toolchain.
fn rustup_cargo() -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(root())
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC");
    command
}

fn answers(arguments: &[&str]) -> bool {
    let status = rustup_cargo()
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
