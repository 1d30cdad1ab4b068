//! The commands of the documents, run as they stand: a document is a shell session against a gateway of its own.
//!
//! What a fenced block is for stands behind its language:
//! - `sh`: run. A `text` block right below it is what it prints; `…` stands for anything in a line, and alone for any lines.
//! - `sh server`: started, and left running. Where it listens takes the place of the address that the document names.
//! - `sh stop`, `sh kill`: the gateway is ended in order, or by SIGKILL, whatever the block says.
//! - `sh elsewhere`: needs programs or rights that a test has not; only the programs below may be named there.
//! - `toml NAME`: a file of this name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::harness::{Host, Program, address, binary, root, xtask};

/// How long a block may take, and the end of a gateway.
const BLOCK: Duration = Duration::from_secs(60);
/// The programs of blocks that are not run.
const ELSEWHERE: &[&str] = &[
    "apt",
    "cargo",
    "curl",
    "docker",
    "git",
    "helm",
    "journalctl",
    "kafka-console-consumer.sh",
    "kafka-topics.sh",
    "kubectl",
    "nats",
    "podman",
    "redis-cli",
    "skopeo",
    "spin",
    "sudo",
    "systemctl",
];
/// Between the output of a block and that of the next.
const END: &str = "--- the end of a block ---";

/// A fenced block.
struct Block {
    language: String,
    purpose: String,
    text: String,
    /// Of its first line in the document.
    line: usize,
    /// Whether only empty lines stand between it and the block before.
    is_next: bool,
}

/// The fenced blocks of a document.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut is_next = false;
    for (number, line) in document.lines().enumerate() {
        let fence = line.strip_prefix("```");
        open = match (open, fence) {
            (Some(block), Some(_)) => {
                blocks.push(block);
                is_next = true;
                None
            }
            (Some(mut block), None) => {
                block.text += line;
                block.text += "\n";
                Some(block)
            }
            (None, Some(info)) => {
                let (language, purpose) = info.split_once(' ').unwrap_or((info, ""));
                Some(Block {
                    language: language.to_owned(),
                    purpose: purpose.trim().to_owned(),
                    text: String::new(),
                    line: number + 1,
                    is_next,
                })
            }
            (None, None) => {
                is_next &= line.trim().is_empty();
                None
            }
        };
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

/// A shell, and the programs that the document has started.
struct Session {
    directory: tempfile::TempDir,
    _shell: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    gateway: Option<Program>,
    origin: Option<Program>,
    /// Where the programs really listen, by the address that documents name.
    addresses: BTreeMap<&'static str, String>,
    /// Files of the document, by their names. They are written with the addresses that are real when a program starts.
    files: BTreeMap<String, String>,
    xtask: PathBuf,
}

impl Session {
    fn start(xtask: PathBuf) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is ours");
        let mut shell = tokio::process::Command::new("bash");
        let beside = binary().parent().map(Path::to_path_buf).unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([beside].into_iter().chain(std::env::split_paths(&path)));
        shell
            .args(["--noprofile", "--norc"])
            .current_dir(directory.path())
            .env("PATH", path.expect("it was split before"))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for name in [
            "TOLLGATE_ADMIN_KEY",
            "TOLLGATE_LISTEN",
            "TOLLGATE_DATA",
            "TOLLGATE_KEY",
            "RUST_LOG",
        ] {
            shell.env_remove(name);
        }
        let mut shell = shell.spawn().expect("bash is there");
        let stdin = shell.stdin.take().expect("it is piped");
        let stdout = BufReader::new(shell.stdout.take().expect("it is piped")).lines();
        Self {
            directory,
            _shell: shell,
            stdin,
            stdout,
            gateway: None,
            origin: None,
            addresses: BTreeMap::new(),
            files: BTreeMap::new(),
            xtask,
        }
    }

    /// With the addresses that programs really have in place of those that the document names.
    fn real(&self, text: &str) -> String {
        self.addresses
            .iter()
            .fold(text.to_owned(), |text, (named, real)| text.replace(named, real))
    }

    /// What a shell printed for these commands, with the addresses that the document names; an error if one failed.
    async fn run(&mut self, commands: &str) -> Result<String, String> {
        let file = self.directory.path().join(".block");
        fs::write(&file, self.real(commands)).expect("it is ours");
        let line =
            format!("set -euo pipefail; exec 2>&1; . ./.block </dev/null; set +eu; echo; echo '{END}'\n");
        self.stdin
            .write_all(line.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut printed = String::new();
        loop {
            match timeout(BLOCK, self.stdout.next_line()).await {
                Ok(Ok(Some(line))) if line == END => break,
                Ok(Ok(Some(line))) => printed += &(line + "\n"),
                Ok(_) => return Err(format!("it failed, after\n{printed}")),
                Err(_) => return Err(format!("it did not end within {BLOCK:?}, after\n{printed}")),
            }
        }
        let named = self.addresses.iter();
        Ok(named.fold(printed, |text, (named, real)| text.replace(real, named)))
    }

    fn write(&self) {
        for (name, text) in &self.files {
            fs::write(self.directory.path().join(name), self.real(text)).expect("it is ours");
        }
    }

    /// Starts a program of the document, and leaves it running.
    async fn serve(&mut self, command: &str) {
        self.write();
        let command = command.trim();
        let (of_origin, command) = match command.strip_prefix("cargo xtask origin") {
            Some(rest) => (
                true,
                format!("{} origin --listen 127.0.0.1:0{rest}", self.xtask.display()),
            ),
            None => (false, command.replacen("cargo xtask serve", "tollgate serve", 1)),
        };
        let mut shell = std::process::Command::new("bash");
        let beside = binary();
        let path = format!(
            "{}:{}",
            beside.parent().expect("it is in a directory").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        shell
            .args(["-c", &format!("exec {command}")])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("TOLLGATE_LISTEN", "127.0.0.1:0")
            .env_remove("TOLLGATE_DATA")
            .env_remove("TOLLGATE_ADMIN_KEY");
        let mut program = Program::start(shell, self.directory.path());
        let base = program.line(address, BLOCK).await;
        let base = base.unwrap_or_else(|why| panic!("{command}: {why}"));
        let at = base.trim_start_matches("http://").to_owned();
        if of_origin {
            self.addresses.insert("127.0.0.1:9000", at);
            self.origin = Some(program);
        } else {
            // Short URLs say `localhost`, as long as no other name is set.
            let by_name = at.replacen("127.0.0.1", "localhost", 1);
            self.addresses.insert("127.0.0.1:3000", at);
            self.addresses.insert("localhost:3000", by_name);
            self.gateway = Some(program);
            self.run(&format!("export TOLLGATE_URL={base}\n"))
                .await
                .expect("it is plain");
        }
    }

    /// Ends the gateway.
    async fn end(&mut self, signal: Signal) {
        let mut gateway = self.gateway.take().expect("a gateway runs");
        gateway.signal(signal);
        gateway.exit(BLOCK).await.expect("it ends");
    }
}

/// Whether what was printed is what is shown.
fn fits(shown: &str, printed: &str) -> bool {
    let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    lines_fit(&shown, &printed)
}

fn lines_fit(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (Some((&"…", rest)), _) => (0..=printed.len()).any(|skipped| lines_fit(rest, &printed[skipped..])),
        (Some((line, rest)), Some((got, others))) => line_fits(line, got) && lines_fit(rest, others),
        (None, None) => true,
        _ => false,
    }
}

/// `…` stands for anything.
fn line_fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Runs one document.
async fn follow(name: &str) {
    let Some(xtask) = xtask() else {
        return eprintln!("skipped: cargo xtask test sets TOLLGATE_XTASK, and nobody else did");
    };
    let document = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut session = Session::start(xtask);
    let mut printed: Option<String> = None;
    for block in blocks(&document) {
        let at = format!("{name}:{}", block.line);
        let before = printed.take().filter(|_| block.is_next);
        match (&*block.language, &*block.purpose) {
            ("sh", "") => match session.run(&block.text).await {
                Ok(output) => printed = Some(output),
                Err(why) => panic!("{at}: {why}"),
            },
            ("sh", "server") => session.serve(&block.text).await,
            ("sh", "stop") => session.end(Signal::TERM).await,
            ("sh", "kill") => session.end(Signal::KILL).await,
            ("sh", "elsewhere") => {
                let text = block.text.replace("\\\n", " ");
                let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                for line in lines.filter(|line| !line.trim().is_empty()) {
                    let is_named = line.split_whitespace().any(|word| ELSEWHERE.contains(&word));
                    assert!(is_named, "{at}: this can be run here: {line}");
                }
            }
            ("text", "") => {
                if let Some(printed) = before {
                    assert!(
                        fits(&block.text, &printed),
                        "{at}: it shows\n{}and the command prints\n{printed}",
                        block.text
                    );
                }
            }
            ("toml", file) if !file.is_empty() => {
                session.files.insert(file.to_owned(), block.text);
                session.write();
            }
            ("sh", other) => panic!("{at}: what is `{other}`?"),
            _ => {}
        }
    }
}

pub async fn every_command_of_the_tutorial_does_what_it_shows(_: Host) {
    follow("docs/tutorial.md").await;
    follow("README.md").await;
}

pub async fn every_command_of_the_guides_does_what_it_shows(_: Host) {
    assert!(line_fits("a…c", "abc") && line_fits("…", "") && line_fits("a", "a"));
    assert!(!line_fits("a…c", "ab") && !line_fits("a", "ab") && !line_fits("a…b…c", "acb"));
    assert!(fits("a\n…\nd\n", "a\nb\nc\nd\n") && !fits("a\n", "a\nb\n"));
    let mut guides: Vec<String> = fs::read_dir(root().join("docs/guides"))
        .expect("there are guides")
        .map(|entry| {
            entry
                .expect("it can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    guides.sort();
    for guide in guides {
        follow(&format!("docs/guides/{guide}")).await;
    }
}
