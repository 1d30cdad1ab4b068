//! Building: the wasm target, the components, the gateway with the components inside it.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What components are compiled to.
const WASM_TARGET: &str = "wasm32-wasip2";
/// The component of all rules, which the gateway embeds.
pub const RULES: &str = "rules";
/// The components that Spin runs, each on routes of its own.
pub const COMPONENTS: &[&str] = &["shortener", "coupon", "forward", "admin"];
/// The stores that Spin runs them on: the first unless another is asked for.
pub const SPIN_STORES: &[&str] = &["store-sqlite", "store-postgres", "store-redis"];
/// What the end-to-end tests run in place of the rules, to see how the gateway bears it.
pub const MISBEHAVING: &str = "misbehaving";
/// What they run as components of an operator's own: one that misbehaves, and one that speaks an older `wasi:http`.
pub const HANDLERS: &[&str] = &["misbehaving-http", "old-http"];
/// The example of such a component.
pub const EXAMPLE: &str = "hello-component";

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where the components are put.
pub fn components_dir() -> PathBuf {
    root().join("build/components")
}

/// Says what happens next, on stderr.
pub fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// A `cargo` command in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command; a failure becomes a sentence.
pub fn run(command: &mut Command, purpose: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{purpose}: cannot run {:?}", command.get_program()))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "{purpose} failed ({status}): {} {}",
            command.get_program().to_string_lossy(),
            arguments.join(" ")
        );
    }
    Ok(())
}

/// The triple of this machine.
pub fn host() -> Result<String> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say for what machine it is")?
        .to_owned())
}

/// Cargo's target directory, wherever the user keeps it.
pub fn target_dir() -> Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output();
    let output = output.context("cannot run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(directory.into())
}

/// Adds the wasm target to the toolchain in use, if it is not there.
fn ensure_wasm_target() -> Result<()> {
    if rustlib()?.join(WASM_TARGET).join("lib").is_dir() {
        return Ok(());
    }
    rustup(
        ["target", "add", WASM_TARGET],
        "the rust-std of your distribution for it",
    )
}

/// The version text of rustc.
pub fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").current_dir(root()).args(arguments).output();
    let output = output.context("cannot run rustc: install Rust from https://rustup.rs")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where the toolchain in use keeps what belongs to one target.
pub fn rustlib() -> Result<PathBuf> {
    let sysroot = rustc(&["--print", "sysroot"])?;
    Ok(Path::new(&sysroot).join("lib/rustlib"))
}

/// Adds a part to the toolchain in use.
pub fn rustup(arguments: [&str; 3], otherwise: &str) -> Result<()> {
    let command = format!("rustup {}", arguments.join(" "));
    say(&format!("adding to the toolchain: {command}"));
    let added = Command::new("rustup")
        .current_dir(root())
        .args(arguments)
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("that failed: run `{command}` yourself, or install {otherwise}"),
    }
}

/// The package that a component is built from.
pub fn package(name: &str) -> String {
    match name {
        EXAMPLE => name.to_owned(),
        RULES => "tollgate-rules-component".to_owned(), // `tollgate-rules` is what it wraps
        _ => format!("tollgate-{name}"),
    }
}

/// Builds all components, and copies those that changed to [`components_dir`]. Always all of them, in one call: cargo unifies
/// the features of what is built together, so another selection would build everything again.
pub fn components() -> Result<PathBuf> {
    ensure_wasm_target()?;
    let names: Vec<&str> = COMPONENTS
        .iter()
        .chain([&RULES])
        .chain(SPIN_STORES)
        .chain([&MISBEHAVING])
        .chain(HANDLERS)
        .chain([&EXAMPLE])
        .copied()
        .collect();
    say(&format!("building the components ({})", names.join(", ")));
    let mut command = cargo();
    command.args(["build", "--profile", "wasm", "--target", WASM_TARGET]);
    for name in &names {
        command.args(["--package", &package(name)]);
    }
    run(&mut command, "building the components")?;
    let built = target_dir()?.join(WASM_TARGET).join("wasm");
    let directory = components_dir();
    fs::create_dir_all(&directory)?;
    for name in &names {
        let from = built.join(format!("{}.wasm", package(name).replace('-', "_")));
        let bytes = fs::read(&from).with_context(|| format!("the build left no {}", from.display()))?;
        write_if_changed(&directory.join(format!("{name}.wasm")), &bytes)?;
    }
    Ok(directory)
}

/// Leaves an unchanged file alone, so that nothing that depends on it is built again.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The profile that people wait for, and the one of what is shipped and measured; see `Cargo.toml`.
pub const RELEASE: &str = "release";
/// See [`RELEASE`].
pub const DIST: &str = "dist";

/// Builds the gateway in a profile, with its components inside, and gives its path.
pub fn gateway(profile: &str, features: Option<&str>) -> Result<PathBuf> {
    components()?;
    say("building the gateway (the first time, wasmtime takes several minutes)");
    run(&mut cargo_gateway(profile, features), "building the gateway")?;
    let gateway = target_dir()?.join(profile).join("tollgate");
    precompile(&gateway)?;
    Ok(gateway)
}

/// Puts the components' native code into the gateway, so that its first start on this machine compiles nothing.
pub fn precompile(gateway: &Path) -> Result<()> {
    say("compiling the components for this machine");
    let mut command = Command::new(gateway);
    command
        .args(["precompile", "--output"])
        .arg(gateway)
        .arg("--cache")
        .arg(root().join("build/native"));
    run(&mut command, "compiling the components for this machine")
}

/// The command that builds the gateway, once the components are there.
pub fn cargo_gateway(profile: &str, features: Option<&str>) -> Command {
    let mut command = cargo();
    command
        .args(["build", "--profile", profile, "--package", "tollgate"])
        .args(features.map(|features| format!("--features={features}")))
        .env("TOLLGATE_COMPONENTS", components_dir());
    command
}

/// Builds and runs the gateway.
pub fn serve(arguments: &[String]) -> Result<()> {
    let gateway = gateway(RELEASE, None)?;
    say("starting the gateway (Ctrl-C ends it)");
    let mut command = Command::new(gateway);
    command.arg("serve").args(arguments);
    hand_over(command)
}

/// Becomes the gateway, so that signals reach it and its exit code is ours.
#[cfg(unix)]
fn hand_over(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).context("cannot start the gateway")
}

#[cfg(not(unix))]
fn hand_over(mut command: Command) -> Result<()> {
    run(&mut command, "running the gateway")
}
