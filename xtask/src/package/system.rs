//! The Debian package, installed in a Debian system in a directory, whose own systemd is then booted in namespaces: the unit as an
//! operator runs it, with its sandbox, credential, socket and reload.

use crate::build::{self, run, say};
use crate::program::{Keeper, Program};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// How long it may take in all.
const TRIAL: Duration = Duration::from_secs(180);
/// Boots the directory `$1` with the first unit `$2`.
const BOOT: &str = include_str!("boot.sh");
const UNIT: &str = "tollgate-trial.service";
const UNIT_TEXT: &str = include_str!("system.service");
const SCRIPT: &str = include_str!("system.sh");
/// Where the trial has its files in the system.
const TRIAL_DIRECTORY: &str = "trial";
/// Processes are in a control group of their own, so that systemd sees no others.
const GROUP: &str = "tollgate-trial";

/// Installs the package in `system` (`debootstrap --variant=minbase --include=systemd,systemd-sysv …`) and tries it. The directory
/// is changed by that.
pub fn start(package: &Path, system: &Path) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a system can be booted by root alone"
    );
    let trial = system.join(TRIAL_DIRECTORY);
    let _ = fs::remove_dir_all(&trial);
    fs::create_dir(&trial).with_context(|| format!("cannot write to {}", system.display()))?;
    fs::copy(package, trial.join("tollgate.deb"))?;
    fs::write(trial.join("trial.sh"), SCRIPT)?;
    fs::write(system.join("etc/systemd/system").join(UNIT), UNIT_TEXT)?;
    let inside = |program: &str| {
        let mut command = Command::new("chroot");
        command.arg(system).arg(program);
        command
    };
    // Settings that an earlier trial changed are not asked about.
    let mut purge = inside("dpkg");
    let _ = purge.args(["--purge", "tollgate"]).output();
    // Nor does it meet the data of one that ended in the middle: a purge keeps them.
    for data in ["var/lib/private/tollgate", "var/lib/tollgate"] {
        let _ = fs::remove_dir_all(system.join(data));
    }
    let mut install = inside("dpkg");
    install.args(["--install", "/trial/tollgate.deb"]);
    run(&mut install, "installing the package")?;
    let group = group()?;
    let keeper = Rc::new(Keeper::start(
        build::target_dir()?.join(format!("trial/{}", std::process::id())),
    )?);
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "echo $$ > \"$0/cgroup.procs\" && exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup sh -eu -c \"$@\"",
        ])
        .arg(&group)
        .args([BOOT, "boot"])
        .arg(system)
        .arg(UNIT);
    let program = Program::start(&keeper, "system", command)?;
    let (status, output) = program.finish(TRIAL).context("the booted system")?;
    let log = fs::read_to_string(trial.join("log")).unwrap_or_default();
    ensure!(
        status.success(),
        "the package does not run under systemd ({status}):\n{output}\n{log}"
    );
    let version = inside("systemctl").arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.lines().next().unwrap_or("systemd").to_owned();
    let user = log
        .lines()
        .find(|line| line.starts_with("user "))
        .unwrap_or_default();
    say(&format!("the package runs under {version}: {user}"));
    Ok(())
}

/// A control group of version 2, wherever this machine has those.
fn group() -> Result<std::path::PathBuf> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let place = places
        .iter()
        .map(Path::new)
        .find(|place| place.join("cgroup.procs").exists() && place.join("cgroup.controllers").exists());
    let group = place
        .context("this machine has no control groups of version 2")?
        .join(GROUP);
    fs::create_dir_all(&group)?;
    Ok(group)
}
