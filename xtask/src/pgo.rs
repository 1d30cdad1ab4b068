//! Profile-guided optimisation. The gateway is built so that it counts what it does, and is put under the
//! load of [`bench::train`]. Then it is built once more from those counts: hot code lies together, and calls
//! and branches are laid out for the common way. Worth a fifteenth of a redirect's CPU
//! (`benches/RESULTS.md`). <https://doc.rust-lang.org/rustc/profile-guided-optimization.html>

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench;
use crate::build::{self, DIST, run, say};

/// Builds the gateway twice, and gives the path of the second. `target`: for another triple than this machine's own, whose
/// programs this machine can run.
pub fn gateway(features: Option<&str>, target: Option<&str>) -> Result<PathBuf> {
    build::components()?;
    let host = build::host()?;
    let merge = profdata(&host)?;
    let target = target.unwrap_or(&host);
    let directory = build::target_dir()?.join("pgo");
    let (counts, profile) = (directory.join("counts"), directory.join("profile"));
    // What an earlier build has counted may be of other code.
    if counts.exists() {
        fs::remove_dir_all(&counts).with_context(|| format!("cannot remove {}", counts.display()))?;
    }
    say("building the gateway that counts what it does");
    let counting = build_with(&directory.join("counting"), target, "generate", &counts, features)?;
    say("putting it under load");
    bench::train(&counting)?;
    let mut command = Command::new(merge);
    command.arg("merge").arg("-o").arg(&profile).arg(&counts);
    run(&mut command, "merging what it has counted")?;
    say("building the gateway by what was counted");
    let gateway = build_with(&directory.join("optimised"), target, "use", &profile, features)?;
    build::precompile(&gateway)?;
    Ok(gateway)
}

/// Builds the gateway with one of rustc's two flags. For a target that is named, so that cargo does not give the flag to
/// build scripts as well.
fn build_with(
    directory: &Path,
    target: &str,
    step: &str,
    path: &Path,
    features: Option<&str>,
) -> Result<PathBuf> {
    let mut command = build::cargo_gateway(DIST, features);
    command
        .args(["--target", target, "--target-dir"])
        .arg(directory)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Cprofile-{step}={}", path.display()),
        );
    run(&mut command, "building the gateway")?;
    Ok(directory.join(target).join(DIST).join("tollgate"))
}

/// The program that merges counts; it belongs to the toolchain, which must have the same version of LLVM.
fn profdata(host: &str) -> Result<PathBuf> {
    let program = build::rustlib()?.join(host).join("bin/llvm-profdata");
    if !program.exists() {
        build::rustup(
            ["component", "add", "llvm-tools"],
            "the llvm-profdata of your distribution's Rust there",
        )?;
    }
    Ok(program)
}
