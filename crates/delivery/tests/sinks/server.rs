//! The program of a server, on a port and in a directory of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::until;

/// Whether this program can be run; says so where not.
pub fn is_installed(program: &str, version: &str) -> bool {
    let ran = Command::new(program)
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is = ran.is_ok_and(|status| status.success());
    if !is {
        eprintln!("skipped: {program} is not installed");
    }
    is
}

/// A running program. Killed when it is dropped.
pub struct Process {
    pub address: SocketAddr,
    pub directory: TempDir,
    /// The signal at which it ends at once, with every process that it has begun; without one, it has none.
    pub ends_by: Option<&'static str>,
    command: Vec<String>,
    child: Option<Child>,
}

impl Process {
    /// Runs what this says, given a free address and an empty directory.
    pub async fn start(command: impl FnOnce(SocketAddr, &Path) -> Vec<String>) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let directory = tempfile::tempdir().expect("a directory");
        let command = command(address, directory.path());
        let mut process = Self {
            address,
            directory,
            ends_by: None,
            command,
            child: None,
        };
        process.restart().await;
        process
    }

    /// Its last argument is this from its next start on.
    pub fn last_argument(&mut self, argument: String) {
        *self.command.last_mut().expect("a program") = argument;
    }

    /// Again, with what it has kept.
    pub async fn restart(&mut self) {
        self.kill();
        let [program, arguments @ ..] = &*self.command else {
            return;
        };
        let started = Command::new(program)
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(started.expect("it is installed"));
        let address = self.address;
        until("the server listens", async || {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    /// At once, as by a failure of power.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            match self.ends_by {
                None => drop(child.kill()),
                Some(signal) => drop(
                    Command::new("kill")
                        .args([signal, &child.id().to_string()])
                        .status(),
                ),
            }
            let _ = child.wait();
        }
    }

    /// It takes connections and says nothing, until it is told otherwise. Nor do the processes that it has begun.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.pid();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let of_it = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        // The first makes no more of them.
        for pid in std::iter::once(&*pid).chain(of_it.split_whitespace()) {
            let sent = Command::new("kill").args([signal, pid]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        }
    }

    fn pid(&self) -> String {
        self.child.as_ref().expect("it runs").id().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Long enough for an attempt to end in vain where attempts may take as long as the suite lets them.
pub const SHORT: Duration = Duration::from_millis(300);
