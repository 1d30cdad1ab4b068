//! `cargo xtask bench`: what Tollgate costs beside its peers, as ratios of figures that were measured by turns in one
//! run. Loopback only; ends by itself; everything it starts ends with it.

mod figures;
mod gateway;
mod http;
mod machine;
mod paced;
mod peers;
mod report;
mod rounds;
mod rows;
mod train;
mod wrk;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::build;
use crate::program::Keeper;
use report::Report;

/// What a run may take beyond its minutes before it is ended from within.
const GRACE: Duration = Duration::from_secs(60);
/// A preparation that may take longer is not begun with fewer seconds left.
const SHORTEST: u32 = 10;
/// What the load that builds learn from may take.
const TRAINING: Duration = Duration::from_secs(300);
/// How often the progress bar shows that time passes.
const TICK: Duration = Duration::from_millis(500);
/// The target of every redirect of a peer.
const TARGET: &str = "https://example.com/sale";

/// What is measured; several rows of the table may belong to one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Row {
    /// Limiter and redirect, one hot client id: against nginx, Envoy, node and HAProxy.
    Redirect,
    /// The same with 10,000 client ids and 100,000 links, against its own hot figure.
    Many,
    /// The same rules compiled into the host (`--native-gateway`).
    Native,
    /// The same components under `spin up` with their SQLite store.
    Spin,
    /// Redirects with everything recorded (counters, statistics, the log of visits), against nginx with its access log on.
    Clicks,
    /// Redirects by rules and weights, against plain ones.
    Ways,
    /// A refusal of the limiter, against nginx's.
    Refusal,
    /// nginx that asks the gateway about each request, against nginx's own limiter; Envoy that asks its rate limit service, against one
    /// with a round trip to a Redis for each decision, as Envoy's reference service has it.
    Front,
    /// A GET of 1 KiB through the reverse proxy, against nginx and Envoy before the same origin.
    Proxied,
    /// Messages that consumers of a group lease and acknowledge, by 100.
    Groups,
    /// Durable claims on 512 connections: against Redis, node and Redis, and the disk.
    Claims,
    /// Claims with imported codes, for listed users, with receipts; holds that are confirmed: against plain claims.
    Admission,
    /// Claims over one, two and four gateways on one Postgres.
    Fleet,
    /// The 99th percentile of a redirect at half of peak load, against nginx's.
    Latency,
    /// The same while links are listed and made, against without.
    Beside,
    /// Redirects over TLS and handshakes, against nginx's.
    Tls,
    /// What one more client id and one more link take in memory.
    Memory,
    /// Redirects with 1,000,000 links against 1,000.
    Growth,
    /// From the start, with a warm cache, to the first redirect.
    Start,
    /// Redirects, refusals, claims and start against an earlier build (`--earlier-gateway`).
    Earlier,
}

/// The command line of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// A `tollgate` that is built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A `tollgate` that calls the rules natively, without WebAssembly.
    #[arg(long)]
    native_gateway: Option<PathBuf>,
    /// An earlier build of `tollgate`, to be measured against by turns. Then nothing else is, unless `--only` says so.
    #[arg(long)]
    earlier_gateway: Option<PathBuf>,
    /// How often each pair is measured, by turns. The table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pairs: u32,
    /// Seconds of load for one figure.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only these rows (may be repeated). All if not given.
    #[arg(long)]
    only: Vec<Row>,
    /// One pair of one second each, and far fewer links and clients: whether everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// After this many minutes nothing more is measured; a minute later, whatever still runs is ended.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=120))]
    minutes: u64,
}

impl Options {
    fn wants(&self, row: Row) -> bool {
        match self.only.is_empty() {
            false => self.only.contains(&row),
            true => self.earlier_gateway.is_some() == (row == Row::Earlier),
        }
    }
}

/// How much is asked of the rows about many links and clients.
struct Sizes {
    /// Links and clients whose memory is measured, and links of the larger side of `growth`.
    million: u64,
    /// Links of the row `many`.
    links: u64,
    /// Seconds that reading all of them once may take; fewer are read if it is not enough.
    fill_seconds: u32,
}

/// Enough to see that everything works.
const QUICK: Sizes = Sizes {
    million: 20_000,
    links: 5_000,
    fill_seconds: 5,
};

/// A run: its options, tools and time.
struct Bench {
    options: Options,
    pairs: u32,
    seconds: u32,
    sizes: Sizes,
    gateway: PathBuf,
    keeper: Rc<Keeper>,
    cores: Cores,
    bar: ProgressBar,
    deadline: Instant,
}

/// The core of the servers and the core of the load generators.
struct Cores {
    /// `None` where there is only one.
    pinned: Option<(&'static str, &'static str)>,
}

/// Which side of the wire a program is on.
#[derive(Clone, Copy)]
enum Side {
    Server,
    Generator,
}

impl Cores {
    /// The program, pinned to the core of its side.
    fn command(&self, side: Side, program: &Path) -> Command {
        let Some((server, generator)) = self.pinned else {
            return Command::new(program);
        };
        let mut command = Command::new("taskset");
        command.arg("-c").arg(match side {
            Side::Server => server,
            Side::Generator => generator,
        });
        command.arg(program);
        command
    }
}

impl Bench {
    fn wants(&self, row: Row) -> bool {
        self.options.wants(row)
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The time for something that takes at most `longest` seconds, within what is left of the run.
    fn at_most(&self, longest: u32) -> Result<u32> {
        let left = u32::try_from(self.time_left().as_secs()).unwrap_or(u32::MAX);
        if left < longest.min(SHORTEST) {
            bail!("no time was left");
        }
        Ok(longest.min(left))
    }

    fn say(&self, what: &str) {
        self.bar.suspend(|| build::say(what));
    }

    fn doing(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// A new directory of this run.
    fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.keeper.scratch().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// A file of `benches/load` with its `@NAMES@` filled in, as a file of this run.
    fn template(&self, name: &str, directory: &Path, values: &[(&str, &str)]) -> Result<PathBuf> {
        let mut text = fs::read_to_string(load_file(name)).with_context(|| format!("cannot read {name}"))?;
        for (key, value) in values {
            text = text.replace(&format!("@{key}@"), value);
        }
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A file of `benches/load`.
fn load_file(name: &str) -> PathBuf {
    build::root().join("benches/load").join(name)
}

/// A port of the loopback that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// A program in PATH, or where system programs are.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Programs are started in directories of their own: where a given one really is.
fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("there is no {}", path.display()))
}

/// Measures what was asked for, and prints the table.
pub fn run(mut options: Options) -> Result<()> {
    for (tool, package) in [("wrk", "wrk"), ("taskset", "util-linux"), ("sh", "dash")] {
        if find(tool).is_none() {
            bail!("the load generator needs {tool}: apt-get install {package}");
        }
    }
    let gateway = match &options.gateway {
        Some(path) => absolute(path)?,
        None => build::gateway(build::DIST, None)?,
    };
    for path in [&mut options.native_gateway, &mut options.earlier_gateway]
        .into_iter()
        .flatten()
    {
        *path = absolute(path)?;
    }
    let bench = prepare(options, gateway)?;
    bench.bar.enable_steady_tick(TICK);
    let mut report = Report::new(machine::facts(&bench)?);
    rows::all(&bench, &mut report);
    bench.bar.finish_and_clear();
    report.print();
    Ok(())
}

fn prepare(options: Options, gateway: PathBuf) -> Result<Bench> {
    let wants = |row| options.wants(row);
    if wants(Row::Memory) || wants(Row::Growth) || wants(Row::Many) {
        gateway::build_seeder()?;
    }
    if wants(Row::Spin) && peers::spin().is_ok() {
        crate::compose::run(crate::compose::Store::Sqlite)?;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        build::say("there is one core only: servers and generators share it, and nothing is pinned");
    }
    let keeper = Rc::new(Keeper::start(scratch()?)?);
    let length = Duration::from_secs(options.minutes * 60);
    end_after(length + GRACE);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}")?.progress_chars("=> ");
    let quick = options.quick;
    Ok(Bench {
        pairs: if quick { 1 } else { options.pairs },
        seconds: if quick { 1 } else { options.seconds },
        sizes: match quick {
            true => QUICK,
            false => Sizes {
                million: 1_000_000,
                links: 100_000,
                fill_seconds: 60,
            },
        },
        gateway,
        keeper,
        cores: Cores {
            pinned: (cores > 1).then_some(("0", "1")),
        },
        bar: ProgressBar::new(rows::STEPS).with_style(style),
        deadline: Instant::now() + length,
        options,
    })
}

/// Where this process puts what it needs for a while.
fn scratch() -> Result<PathBuf> {
    Ok(build::target_dir()?.join(format!("bench/run-{}", std::process::id())))
}

/// Puts the load on a gateway that profile-guided builds learn from; see [`train`].
pub fn train(gateway: &Path) -> Result<()> {
    let bench = Bench {
        options: Options {
            gateway: None,
            native_gateway: None,
            earlier_gateway: None,
            pairs: 1,
            seconds: 1,
            only: Vec::new(),
            quick: true,
            minutes: 1,
        },
        pairs: 1,
        seconds: 1,
        sizes: QUICK,
        gateway: absolute(gateway)?,
        keeper: Rc::new(Keeper::start(scratch()?)?),
        cores: Cores { pinned: None },
        bar: ProgressBar::new_spinner(),
        deadline: Instant::now() + TRAINING,
    };
    bench.bar.enable_steady_tick(TICK);
    let trained = train::run(&bench);
    bench.bar.finish_and_clear();
    trained
}

/// Ends this process, and with it everything that it has started, if it hangs.
fn end_after(longest: Duration) {
    thread::spawn(move || {
        thread::sleep(longest);
        build::say("the benchmark hangs: it is ended");
        std::process::exit(1);
    });
}
