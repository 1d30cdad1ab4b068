//! The fuzz targets under libFuzzer; see docs/reliability.md. `cargo xtask test` runs what they have kept without it.

use crate::build::{cargo, host, root, run, say, target_dir};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A slower input is a fault, seconds.
const TIMEOUT: u32 = 20;
/// Memory beyond which an input is a fault, MiB.
const MEMORY: u32 = 2_048;
/// The coverage that libFuzzer is guided by. Stable Rust has it: these flags are the compiler's own, and LLVM's.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(Args)]
pub struct Options {
    /// Which target; all of them, one after another, if none is named.
    target: Option<String>,
    /// For how long each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Also find misuse of memory, in SQLite for instance, at a third of the speed. Lets stable Rust do what is not stable yet.
    #[arg(long)]
    address: bool,
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
    say("building the fuzz targets (the first time, SQLite and all crates below them are instrumented)");
    let built = target_dir()?.join(if options.address { "fuzz-address" } else { "fuzz" });
    let host = host()?;
    let mut flags = COVERAGE.join(" ");
    let mut build = cargo();
    build
        .env("CARGO_TARGET_DIR", &built)
        // Named, so that build scripts and macros are not instrumented.
        .args([
            "build",
            "--release",
            "--target",
            &host,
            "--manifest-path",
            "fuzz/Cargo.toml",
        ]);
    if options.address {
        flags += " -Zsanitizer=address";
        build.env("RUSTC_BOOTSTRAP", "1");
    }
    run(build.env("RUSTFLAGS", flags), "building the fuzz targets")?;
    for name in wanted {
        one(
            name,
            &built.join(&host).join("release").join(name),
            options.seconds,
        )?;
    }
    Ok(())
}

fn one(name: &str, program: &Path, seconds: u32) -> Result<()> {
    say(&format!("fuzzing {name} for {seconds} s"));
    let fuzz = root().join("fuzz");
    let (work, broken) = (fuzz.join("work").join(name), fuzz.join("artifacts").join(name));
    for directory in [&work, &broken] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let dictionary = fuzz.join("dictionaries").join(format!("{name}.dict"));
    let mut command = Command::new(program);
    command
        .args([&work, &fuzz.join("corpus").join(name)])
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-print_final_stats=1");
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let purpose = format!("fuzzing {name} (an input that breaks it is in fuzz/artifacts/{name})");
    run(&mut command, &purpose)
}

/// The names of the targets: those of the files.
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
