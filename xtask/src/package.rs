//! `cargo xtask package`: what people install. A static binary (musl), an OCI image around it, and a Debian package; sums of
//! all. The image's root file system is started as a container would be: read-only, without network, as nobody.

mod deb;
mod image;
mod system;
mod trial;

use crate::build::{self, RELEASE, run, say};
use crate::pgo;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is nobody in containers: the number that distroless images use.
const NOBODY: u32 = 65_532;
/// Where the data of an installed gateway is.
const DATA: &str = "/var/lib/tollgate";

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The static binary.
    Binary,
    /// An OCI image, as a directory (`skopeo copy oci:…`) and as an archive (`docker load`, `podman load`).
    Image,
    /// A Debian package. Needs `dpkg-deb`.
    Deb,
    /// All of them.
    All,
}

/// The command line of `cargo xtask package`.
#[derive(Args)]
pub struct Options {
    /// What to make.
    #[arg(value_enum, default_value = "all")]
    kind: Kind,
    /// Build as quickly as for tests, instead of by profile: for trying the packages, not for releases.
    #[arg(long)]
    quick: bool,
    /// A static `tollgate` that is built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A Debian system in a directory, as debootstrap makes it: the Debian package is installed there, and its systemd booted. As
    /// root only; the directory is changed.
    #[arg(long, value_name = "DIR")]
    system: Option<PathBuf>,
    /// Where packages are put [default: target/package].
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The names of this machine's architecture: in Rust's triples, in OCI images and in Debian.
struct Architecture {
    rust: &'static str,
    oci: &'static str,
    debian: &'static str,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        rust: "x86_64",
        oci: "amd64",
        debian: "amd64",
    },
    Architecture {
        rust: "aarch64",
        oci: "arm64",
        debian: "arm64",
    },
];

/// Makes the packages.
pub fn package(options: &Options) -> Result<()> {
    let architecture = ARCHITECTURES
        .iter()
        .find(|one| one.rust == std::env::consts::ARCH)
        .context("packages are made for x86_64 and aarch64 only")?;
    let gateway = match &options.gateway {
        Some(path) => path.clone(),
        None => build_static(architecture, options.quick)?,
    };
    ensure!(is_static(&gateway)?, "{} is not static", gateway.display());
    let output = match &options.output {
        Some(path) => std::path::absolute(path)?,
        None => build::target_dir()?.join("package"),
    };
    fs::create_dir_all(&output)?;
    let name = format!(
        "tollgate-{}-linux-{}",
        env!("CARGO_PKG_VERSION"),
        architecture.rust
    );
    let wants = |kind| options.kind == kind || options.kind == Kind::All;
    let mut made = Vec::new();
    let binary = output.join(&name);
    ship(&gateway, &binary)?;
    if wants(Kind::Image) {
        let image = image::write(&binary, architecture, &output.join(format!("{name}.oci")))?;
        trial::start(&image)?;
        made.push(image.archive);
    }
    if wants(Kind::Deb) {
        let package = deb::write(&binary, architecture, &output)?;
        match &options.system {
            Some(system) => system::start(&package, system)?,
            None => say(
                "the Debian package was not installed: name a Debian system with --system DIR (docs/install.md)",
            ),
        }
        made.push(package);
    }
    match wants(Kind::Binary) {
        true => made.insert(0, binary),
        false => fs::remove_file(&binary)?,
    }
    sums(&output, &made)
}

/// Copies the program as it is shipped: without the names that debuggers read, and then with the native code of its components, which is
/// no part that `strip` knows.
fn ship(gateway: &Path, to: &Path) -> Result<()> {
    fs::copy(gateway, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    run(
        Command::new("strip").arg(to),
        "taking the symbols out of the program (it takes strip: apt install binutils)",
    )?;
    build::precompile(to)
}

/// Builds the gateway for musl, with everything inside it.
fn build_static(architecture: &Architecture, quick: bool) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", architecture.rust);
    if !build::rustlib()?.join(&target).join("lib").is_dir() {
        build::rustup(
            ["target", "add", &target],
            "the rust-std of your distribution for it",
        )?;
    }
    if !quick {
        return pgo::gateway(None, Some(&target));
    }
    build::components()?;
    say("building the static gateway (for C it takes musl-gcc: apt install musl-tools)");
    let mut command = build::cargo_gateway(RELEASE, None);
    run(command.args(["--target", &target]), "building the static gateway")?;
    Ok(build::target_dir()?.join(&target).join(RELEASE).join("tollgate"))
}

/// Whether an ELF file asks for no interpreter, which is what loads shared libraries.
fn is_static(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.starts_with(b"\x7fELF"), "{} is no program", path.display());
    // An interpreter's path ends so, and stands near the beginning.
    let head = bytes.get(..4_096).unwrap_or(&bytes);
    Ok(!head.windows(7).any(|window| window == b"/ld-lin"))
}

/// SHA-256 in hex.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Writes `SHA256SUMS`, as `sha256sum --check` reads it, and says how large everything is.
fn sums(output: &Path, made: &[PathBuf]) -> Result<()> {
    let mut sums = String::new();
    for path in made {
        let bytes = fs::read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(sums, "{}  {name}", sha256(&bytes))?;
        say(&format!("{}: {:.1} MB", path.display(), bytes.len() as f64 / 1e6));
    }
    fs::write(output.join("SHA256SUMS"), sums)?;
    Ok(())
}
