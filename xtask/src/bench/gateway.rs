//! The gateway under measurement.

use super::{Bench, Side, free_port, http};
use crate::build::{self, cargo};
use crate::program::Program;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The admin key of every gateway of a run.
pub const ADMIN_KEY: &str = "an-admin-key-for-the-bench";
/// How long a start may take; compiling the components is part of the first.
const START: Duration = Duration::from_secs(120);
/// How long a gateway may take to end.
const STOP: Duration = Duration::from_secs(30);
/// How long making the links may take, seconds.
const SEED: u32 = 120;
/// How often a starting gateway is asked.
const STEP: Duration = Duration::from_micros(500);
/// The program that makes links, of the package `tollgate-bench`.
const SEEDER: &str = "seed-links";

/// What the limit of a gateway is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It is never reached: 10^9 tokens.
    Never,
    /// Nor is this, and a bucket is not full again within the run after one request, so that all are kept.
    Kept,
    /// Every request of a client but the first is refused.
    Always,
}

/// Whether a gateway records clicks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clicks {
    /// It does not, as its peers write no access log.
    Off,
    /// With the next group of commits: the default of the product.
    Submitted,
}

/// What a gateway's store has done in its life.
pub struct Stored {
    pub commits: u64,
    /// Each of them took one fdatasync.
    pub groups: u64,
}

/// A certificate and its key.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A running gateway with a store of its own.
pub struct Gateway {
    pub program: Program,
    pub port: u16,
}

/// Builds the program that makes links.
pub fn build_seeder() -> Result<()> {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--package",
        "tollgate-bench",
        "--bin",
        SEEDER,
    ]);
    build::run(&mut command, "building the program that makes links")
}

/// Makes `count` links, `/0000000` and so on, in the database that a gateway in `directory` will open.
pub fn seed(bench: &Bench, directory: &Path, count: u64) -> Result<()> {
    bench.doing(format!("making {count} links"));
    fs::create_dir_all(directory.join("data"))?;
    let mut command = Command::new(build::target_dir()?.join("release").join(SEEDER));
    command
        .arg(directory.join("data/tollgate.db"))
        .arg(count.to_string());
    let within = Duration::from_secs(bench.at_most(SEED)?.into());
    let (status, output) = Program::start(&bench.keeper, SEEDER, command)?.finish(within)?;
    if !status.success() {
        bail!("making links failed: {output}");
    }
    Ok(())
}

impl Gateway {
    /// Starts `binary` on the store in `directory`, and makes the link `/sale` if it is not there.
    pub fn start(
        bench: &Bench,
        binary: &Path,
        directory: &Path,
        limit: Limit,
        clicks: Clicks,
    ) -> Result<Self> {
        settings(bench, directory, limit, clicks)?;
        lend_compiled(directory)?;
        let port = free_port()?;
        bench.doing("starting the gateway (the first time, it compiles its components)");
        let mut program = launch(bench, binary, directory, port)?;
        program.ready(START, || http::status(port, "/health/ready") == Some(200))?;
        keep_compiled(directory)?;
        if limit != Limit::Always {
            make_link(port)?;
            http::expect(port, "/sale", 302)?;
        }
        Ok(Self { program, port })
    }

    /// Starts the gateway for a proxy on this machine that asks it about requests; its limit is never reached.
    pub fn start_trusting(bench: &Bench, directory: &Path) -> Result<Self> {
        settings(bench, directory, Limit::Never, Clicks::Off)?;
        let file = directory.join("tollgate.toml");
        let text = fs::read_to_string(&file)?;
        let trusting = "trusted_proxies = [\"127.0.0.1\"]\nworkers = 1";
        fs::write(&file, text.replace("workers = 1", trusting))?;
        Self::run(bench, directory)
    }

    /// The same with Envoy's rate limit service at this port, and more settings.
    pub fn start_rls(bench: &Bench, directory: &Path, rls: u16, more: &str) -> Result<Self> {
        settings(bench, directory, Limit::Never, Clicks::Off)?;
        let file = directory.join("tollgate.toml");
        let text = fs::read_to_string(&file)?;
        let listens =
            format!("trusted_proxies = [\"127.0.0.1\"]\nrls_listen = \"127.0.0.1:{rls}\"\nworkers = 1");
        fs::write(
            &file,
            format!("{}\n{more}", text.replace("workers = 1", &listens)),
        )?;
        Self::run(bench, directory)
    }

    /// The same with more settings, and without the link.
    pub fn start_with(bench: &Bench, directory: &Path, more: &str) -> Result<Self> {
        settings(bench, directory, Limit::Never, Clicks::Submitted)?;
        let file = directory.join("tollgate.toml");
        fs::write(&file, format!("{}\n{more}", fs::read_to_string(&file)?))?;
        Self::run(bench, directory)
    }

    /// One of several on the database at `url`; its limit is never reached.
    pub fn start_on(bench: &Bench, directory: &Path, url: &str) -> Result<Self> {
        settings(bench, directory, Limit::Never, Clicks::Submitted)?;
        let file = directory.join("tollgate.toml");
        let text = fs::read_to_string(&file)?;
        fs::write(
            &file,
            text.replace("[store]", &format!("[store]\nurl = \"{url}\"")),
        )?;
        Self::run(bench, directory)
    }

    /// With the settings that lie there.
    fn run(bench: &Bench, directory: &Path) -> Result<Self> {
        lend_compiled(directory)?;
        let port = free_port()?;
        let mut program = launch(bench, &bench.gateway, directory, port)?;
        program.ready(START, || http::status(port, "/health/ready") == Some(200))?;
        keep_compiled(directory)?;
        Ok(Self { program, port })
    }

    /// The same with TLS at its port, without clicks and limits. The link is made where operators are served, without TLS.
    pub fn start_tls(bench: &Bench, directory: &Path, pair: &Pair) -> Result<Self> {
        settings(bench, directory, Limit::Never, Clicks::Off)?;
        let (port, admin) = (free_port()?, free_port()?);
        let file = directory.join("tollgate.toml");
        let text = fs::read_to_string(&file)?;
        let server = format!("public_url = \"https://short.test\"\nadmin_listen = \"127.0.0.1:{admin}\"");
        let text = text.replace("public_url = \"http://short.test\"", &server);
        let (cert, key) = (pair.cert.display(), pair.key.display());
        fs::write(
            &file,
            format!("{text}\n[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n"),
        )?;
        lend_compiled(directory)?;
        let mut program = launch(bench, &bench.gateway, directory, port)?;
        program.ready(START, || http::status(admin, "/health/ready") == Some(200))?;
        keep_compiled(directory)?;
        make_link(admin)?;
        http::expect(admin, "/sale", 302)?;
        Ok(Self { program, port })
    }

    /// Its process group.
    pub fn group(&self) -> i32 {
        self.program.group()
    }

    /// Ends it in order; it says what its store has done.
    pub fn stop(self) -> Result<Stored> {
        let output = self.program.stop(STOP)?;
        let lines = output.lines().rev();
        let stored = |line: &str| -> Option<Stored> {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let of = |name: &str| line[name].as_u64();
            let (commits, groups) = (of("commits")?, of("groups")?);
            Some(Stored { commits, groups })
        };
        let mut lines = lines.filter_map(stored);
        lines
            .next()
            .context("the gateway did not say what its store has done")
    }
}

/// From the start on a store that was used before to the first redirect.
pub fn time_to_first_redirect(bench: &Bench, binary: &Path, directory: &Path) -> Result<Duration> {
    time_to_first(bench, binary, directory, 302)
}

/// From the very first start, with nothing in the data directory, to the first answer of a rule: there is no such link.
pub fn time_to_first_answer(bench: &Bench, binary: &Path, directory: &Path) -> Result<Duration> {
    settings(bench, directory, Limit::Never, Clicks::Off)?;
    time_to_first(bench, binary, directory, 404)
}

fn time_to_first(bench: &Bench, binary: &Path, directory: &Path, status: u16) -> Result<Duration> {
    let port = free_port()?;
    let began = Instant::now();
    let _program = launch(bench, binary, directory, port)?;
    while began.elapsed() < START {
        if http::status(port, "/sale") == Some(status) {
            return Ok(began.elapsed());
        }
        std::thread::sleep(STEP);
    }
    bail!("no answer {status} after {START:?}")
}

/// An admin's call, which must be answered with this status.
pub fn call(port: u16, path: &str, body: &str, wanted: u16) -> Result<()> {
    send("POST", port, path, body, wanted)
}

/// The same by PUT.
pub fn put(port: u16, path: &str, body: &str, wanted: u16) -> Result<()> {
    send("PUT", port, path, body, wanted)
}

fn send(method: &str, port: u16, path: &str, body: &str, wanted: u16) -> Result<()> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\n"
    );
    let (status, answer) = http::exchange(port, &head, body)?;
    if status != wanted {
        bail!("{method} {path} was answered {status}: {answer}");
    }
    Ok(())
}

/// `/sale`, the hot link.
pub fn make_link(port: u16) -> Result<()> {
    if http::status(port, "/sale") == Some(302) {
        return Ok(());
    }
    call(
        port,
        "/api/links",
        r#"{"url":"https://example.com/sale","code":"sale"}"#,
        201,
    )
}

/// A link with rules, of which none holds for the browser of `browser.lua`, and with weighted targets.
pub fn make_ways(port: u16) -> Result<()> {
    let link = serde_json::json!({
        "url": "https://example.com/sale", "code": "ways",
        "rules": [
            { "when": { "os": "ios" }, "url": "https://example.com/ios" },
            { "when": { "language": "ko" }, "url": "https://example.com/ko" },
            { "when": { "device": "tablet", "before": "2099-01-01T00:00:00Z" }, "url": "https://example.com/tablet" },
        ],
        "targets": [
            { "url": "https://example.com/a", "weight": 3 },
            { "url": "https://example.com/b", "weight": 1 },
        ],
    });
    call(port, "/api/links", &link.to_string(), 201)?;
    http::expect(port, "/ways", 302)
}

/// Writes `tollgate.toml` into `directory`.
pub fn settings(bench: &Bench, directory: &Path, limit: Limit, clicks: Clicks) -> Result<()> {
    fs::create_dir_all(directory)?;
    let (capacity, interval) = match limit {
        // `capacity · interval` in nanoseconds must be at most 2^62.
        Limit::Never => (1_000_000_000, "1s"),
        Limit::Kept => (1_000_000, "1h"),
        Limit::Always => (1, "24h"),
    };
    let capacity: u32 = capacity;
    let clicks = match clicks {
        Clicks::Off => "off",
        Clicks::Submitted => "submitted",
    };
    let values = [
        ("CAPACITY", &*capacity.to_string()),
        ("INTERVAL", interval),
        ("CLICKS", clicks),
    ];
    bench.template("tollgate.toml", directory, &values).map(drop)
}

fn launch(bench: &Bench, binary: &Path, directory: &Path, port: u16) -> Result<Program> {
    let mut command = bench.cores.command(Side::Server, binary);
    command
        .args(["serve", "--config", "tollgate.toml", "--data", "data"])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .current_dir(directory)
        .env_remove("TOLLGATE_LISTEN")
        .env_remove("TOLLGATE_DATA")
        .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
        .env("RUST_LOG", "warn,tollgate_host::serve=info");
    let name = directory
        .file_name()
        .map_or_else(|| "gateway".into(), |name| name.to_string_lossy());
    Program::start(&bench.keeper, &name, command)
}

/// Compiled components, by the hash of what they depend on: a later gateway need not compile them again.
fn shelf() -> Result<PathBuf> {
    Ok(build::target_dir()?.join("bench/compiled"))
}

fn lend_compiled(directory: &Path) -> Result<()> {
    copy_missing(&shelf()?, &directory.join("data/cache"))
}

fn keep_compiled(directory: &Path) -> Result<()> {
    copy_missing(&directory.join("data/cache"), &shelf()?)
}

fn copy_missing(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if !target.exists() {
            // By way of another name: a copy that is cut short must not be taken for a whole one.
            let draft = to.join(format!("draft-{}", std::process::id()));
            fs::copy(entry.path(), &draft).with_context(|| format!("cannot copy to {}", to.display()))?;
            fs::rename(&draft, &target)?;
        }
    }
    Ok(())
}
