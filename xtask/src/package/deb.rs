//! A Debian package: the program, its unit, settings, manual pages and completions, by `dpkg-deb`. The program is static, so
//! it depends on nothing.

use super::Architecture;
use crate::build::{self, root, run};
use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands in a package of Debian besides the files.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Units of systemd.
const UNITS: &[&str] = &["tollgate.service", "tollgate.socket"];
/// Settings of the operator: an upgrade asks before it replaces them.
const SETTINGS: &str = "etc/tollgate/tollgate.toml";
/// A shell, and where it looks for completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/tollgate"),
    ("zsh", "usr/share/zsh/vendor-completions/_tollgate"),
    ("fish", "usr/share/fish/vendor_completions.d/tollgate.fish"),
];

/// Writes the package into the directory `to`.
pub fn write(gateway: &Path, architecture: &Architecture, to: &Path) -> Result<PathBuf> {
    let tree = build::target_dir()?.join("deb");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    let put = |path: &str, mode: u32, bytes: &[u8]| -> Result<()> {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, bytes)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    let ours = |path: &str| fs::read(root().join(path)).with_context(|| format!("cannot read {path}"));
    put("usr/bin/tollgate", 0o755, &fs::read(gateway)?)?;
    put(SETTINGS, 0o644, &ours("tollgate.toml")?)?;
    for unit in UNITS {
        let text = ours(&format!("deploy/systemd/{unit}"))?;
        put(&format!("usr/lib/systemd/system/{unit}"), 0o644, &text)?;
    }
    let printed = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new(gateway).args(arguments).output()?;
        ensure!(output.status.success(), "tollgate {} fails", arguments.join(" "));
        Ok(output.stdout)
    };
    for (shell, path) in COMPLETIONS {
        put(path, 0o644, &printed(&["completions", shell])?)?;
    }
    let pages = build::target_dir()?.join("man");
    let _ = fs::remove_dir_all(&pages);
    fs::create_dir_all(&pages)?;
    printed(&["man", "--directory", &pages.to_string_lossy()])?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        let path = format!("usr/share/man/man1/{}.gz", page.file_name().to_string_lossy());
        put(&path, 0o644, &compressed(&fs::read(page.path())?)?)?;
    }
    put("usr/share/doc/tollgate/copyright", 0o644, &ours("LICENSE")?)?;
    put(
        "usr/share/doc/tollgate/changelog.gz",
        0o644,
        &compressed(&ours("CHANGELOG.md")?)?,
    )?;
    for script in SCRIPTS {
        put(
            &format!("DEBIAN/{script}"),
            0o755,
            &ours(&format!("deploy/debian/{script}"))?,
        )?;
    }
    put("DEBIAN/conffiles", 0o644, format!("/{SETTINGS}\n").as_bytes())?;
    put(
        "DEBIAN/control",
        0o644,
        control(architecture, size(&tree)?).as_bytes(),
    )?;
    let version = env!("CARGO_PKG_VERSION");
    let package = to.join(format!("tollgate_{version}_{}.deb", architecture.debian));
    let mut command = Command::new("dpkg-deb");
    command
        .args(["--build", "--root-owner-group", "-Zxz"])
        .arg(&tree)
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", "0");
    run(&mut command, "writing the Debian package (apt install dpkg)")?;
    Ok(package)
}

fn control(architecture: &Architecture, bytes: u64) -> String {
    format!(
        "Package: tollgate\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: The Tollgate authors <tollgate@localhost>\n\
         Section: net\nPriority: optional\nInstalled-Size: {size}\nRecommends: systemd (>= 253)\n\
         Description: gateway for the day everyone shows up at once\n \
         Short links, rate limits, coupon claims that admit exactly N, and a durable\n \
         queue that an origin works off at its own pace.\n",
        version = env!("CARGO_PKG_VERSION"),
        architecture = architecture.debian,
        size = bytes.div_ceil(1_024),
    )
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => size(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
