//! The image's root file system, started as a container would be: mounted read-only, without network but the loopback, as
//! nobody, with the data directory as its only place to write, and without `/proc` and `/dev`.

use super::image::Image;
use super::{DATA, NOBODY};
use crate::build::{self, say};
use crate::program::{Keeper, Program};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// How long it may take in all.
const TRIAL: Duration = Duration::from_secs(120);
/// In namespaces of its own: `$1` is the root, `$2` the data directory in it, `$3` who it runs as; the rest is the command.
const SCRIPT: &str = include_str!("trial.sh");

/// Starts it, asks it, and ends it. Says so where this machine does not permit the namespaces.
pub fn start(image: &Image) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command
    };
    let permitted = unshare()
        .args(["sh", "-c", "mount --make-rprivate / && ip link set lo up"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !permitted.is_ok_and(|status| status.success()) {
        say("the image was not started: this machine has no unshare, no ip, or permits no namespaces");
        return Ok(());
    }
    let scratch = build::target_dir()?.join(format!("trial/{}", std::process::id()));
    let keeper = Rc::new(Keeper::start(scratch)?);
    let root = keeper.scratch().join("root");
    tar::Archive::new(&*image.layer)
        .unpack(&root)
        .context("the layer cannot be unpacked")?;
    let data = root.join(&DATA[1..]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    let user = match is_root {
        true => NOBODY,
        false => 0, // the only one that is mapped
    };
    if is_root {
        chown(&data, Some(user), Some(user))?;
    }
    let mut command = unshare();
    command
        .args(["sh", "-eu", "-c", SCRIPT, "trial"])
        .arg(&root)
        .args([DATA, &user.to_string()])
        .args(&image.command)
        .env_clear()
        .env("HOST_PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(image.environment.iter().filter_map(|one| one.split_once('=')));
    let program = Program::start(&keeper, "trial", command)?;
    let (status, output) = program.finish(TRIAL).context("the image's root file system")?;
    ensure!(status.success(), "the image does not run ({status}):\n{output}");
    say("the image runs with a read-only root, without network, as nobody");
    Ok(())
}
