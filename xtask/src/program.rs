//! Programs that a run starts: each in a process group of its own, and none outlives the run.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a program is looked at that is to become ready, or to end.
const STEP: Duration = Duration::from_millis(5);
/// How much of a program's log is shown when it fails, in bytes.
const TAIL: usize = 2_000;

/// Ends all programs and removes the run's directory once this process is gone, however it went: Ctrl-C and SIGKILL too.
/// It knows them by the pipe on its stdin, which closes with us.
pub struct Keeper {
    scratch: PathBuf,
    watchdog: RefCell<Child>,
    pipe: RefCell<Option<ChildStdin>>,
}

const WATCHDOG: &str = r#"
groups=
while read -r verb group; do
    rest=
    for known in $groups; do [ "$known" = "$group" ] || rest="$rest $known"; done
    groups=$rest
    [ "$verb" = add ] && groups="$groups $group"
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$0"
"#;

impl Keeper {
    /// Starts the watchdog. `scratch` is made, and removed at the end.
    pub fn start(scratch: PathBuf) -> Result<Self> {
        fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG])
            .arg(&scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let pipe = RefCell::new(watchdog.stdin.take());
        Ok(Self {
            scratch,
            watchdog: RefCell::new(watchdog),
            pipe,
        })
    }

    /// The directory of this run.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn tell(&self, verb: &str, group: Pid) {
        if let Some(pipe) = self.pipe.borrow_mut().as_mut() {
            // If the watchdog is gone, programs still end with their `Program`.
            let _ = writeln!(pipe, "{verb} {}", group.as_raw_nonzero());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.pipe.borrow_mut().take());
        let _ = self.watchdog.borrow_mut().wait();
    }
}

/// A running program; its process group is killed when this is dropped.
pub struct Program {
    child: Child,
    group: Pid,
    log: PathBuf,
    keeper: Rc<Keeper>,
}

impl Program {
    /// Starts it; what it writes goes to `<name>.log` in the run's directory.
    pub fn start(keeper: &Rc<Keeper>, name: &str, mut command: Command) -> Result<Self> {
        let log = keeper.scratch().join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let group = Pid::from_child(&child);
        keeper.tell("add", group);
        Ok(Self {
            child,
            group,
            log,
            keeper: Rc::clone(keeper),
        })
    }

    /// Its process group, by the number of its first process.
    pub fn group(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Waits until `is_ready` says so.
    pub fn ready(&mut self, within: Duration, is_ready: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + within;
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it has ended ({status}): {}", self.tail());
            }
            if Instant::now() > end {
                bail!("it is not ready after {within:?}: {}", self.tail());
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Waits until it has ended by itself, and gives what it has written.
    pub fn finish(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, self.output()));
            }
            if Instant::now() > end {
                bail!("it still runs after {within:?}: {}", self.tail());
            }
            thread::sleep(STEP);
        }
    }

    /// Asks it to end in order (SIGTERM), and gives what it has written.
    pub fn stop(self, within: Duration) -> Result<String> {
        kill_process_group(self.group, Signal::TERM).context("it cannot be told to end")?;
        let (status, output) = self.finish(within)?;
        match status.success() {
            true => Ok(output),
            false => bail!("it ended with {status}: {output}"),
        }
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn tail(&self) -> String {
        let output = self.output();
        let from = output.len().saturating_sub(TAIL);
        output.get(from..).unwrap_or(&output).trim().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        self.keeper.tell("drop", self.group);
    }
}
