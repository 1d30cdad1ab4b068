//! A program under test: started, listened to, ended. It never outlives the tests.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

/// How much of what a program wrote is shown when a case fails, in bytes.
const TAIL: usize = 6_000;
/// How often an exit is looked for.
const STEP: Duration = Duration::from_millis(10);

/// A running program in a process group of its own.
pub struct Program {
    child: Child,
    group: Pid,
    /// Ends the group when this very process ends, however it ends.
    watchdog: Child,
    lines: UnboundedReceiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Ends with the last byte of stderr.
    reader: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it. `scratch` is removed if the tests end without dropping the program.
    pub fn start(mut command: Command, scratch: &Path) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        let group = Pid::from_child(&child);
        let watchdog = Command::new("sh")
            .args([
                "-c",
                r#"read -r _; kill -s KILL -- "-$0" 2>/dev/null; rm -rf -- "$1""#,
            ])
            .arg(group.as_raw_nonzero().to_string())
            .arg(scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start sh: {error}"));
        let (sender, lines) = unbounded_channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stderr.take().map(|mut pipe| {
            let kept = Arc::clone(&stderr);
            std::thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                }
            })
        });
        Self {
            child,
            group,
            watchdog,
            lines,
            stderr,
            reader,
        }
    }

    /// The first line on stdout that `pick` makes something of, or why there is none.
    pub async fn line<T>(&mut self, pick: impl Fn(&str) -> Option<T>, within: Duration) -> Result<T, String> {
        let deadline = Instant::now() + within;
        loop {
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(line)) => {
                    if let Some(found) = pick(&line) {
                        return Ok(found);
                    }
                }
                Ok(None) => {
                    let status = self.exit(within).await;
                    return Err(format!("it ended ({status:?}):\n{}", self.tail()));
                }
                Err(_) => return Err(format!("nothing within {within:?}:\n{}", self.tail())),
            }
        }
    }

    /// The memory that it holds (resident), in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{path} does not tell the memory:\n{status}")) << 10
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// The end of what is on stderr.
    pub fn tail(&self) -> String {
        let all = self.stderr.lock().unwrap();
        String::from_utf8_lossy(&all[all.len().saturating_sub(TAIL)..]).into_owned()
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.group, signal);
    }

    /// Ends it at once: SIGKILL to the whole group.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }

    /// How it ended, once all that it wrote to stderr has been read; `None` if it still runs after `within`.
    pub async fn exit(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let read = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            match self.child.try_wait() {
                Ok(Some(status)) if read || Instant::now() >= deadline => return Some(status),
                _ if Instant::now() >= deadline => return None,
                _ => tokio::time::sleep(STEP).await,
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The watchdog first: the group's number may be another's as soon as it has ended.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of the program's stderr ---\n{}", self.tail());
        }
    }
}
