//! `cargo xtask demo`: a sale as one sees it from the dashboard. A crowd comes by a short link and claims the units, a few
//! scripts hammer, and a slow origin gets every order at its own pace. Loopback only; it ends by itself or by Ctrl-C, and fails
//! unless its figures add up.

mod crowd;
pub mod origin;
mod view;

use crate::build::{self, RELEASE, say};
use crate::program::{Keeper, Program};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, value_parser};
use crowd::{Crowd, Figures};
use jiff::{SignedDuration, Timestamp};
use origin::{Manner, Origin};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use view::View;

/// How long a start may take, and an end.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(40);
/// How long the origin may take in all, beyond what its pace takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the view moves.
const FRAME: Duration = Duration::from_millis(200);
/// The campaign, and the code of the short link to it.
const CAMPAIGN: &str = "spring";
const LINK: &str = "sale";

/// The command line of `cargo xtask demo`.
#[derive(Args)]
pub struct Options {
    /// Units on sale.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..=100_000))]
    units: u32,
    /// People who come, each for one unit.
    #[arg(long, default_value_t = 5_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    people: u32,
    /// Over how many seconds they come.
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds until the sale starts: time to open the dashboard.
    #[arg(long, default_value_t = 15, value_parser = value_parser!(u64).range(0..=600))]
    countdown: u64,
    /// Seconds that the gateway stays when all is over.
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(0..=3_600))]
    stay: u64,
    /// Where the gateway listens, on the loopback; port 0: any that is free.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// A `tollgate` that is built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// Runs the sale.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.listen.ip().is_loopback(),
        "--listen must be an address of the loopback"
    );
    let gateway = match &options.gateway {
        Some(path) => std::path::absolute(path)?,
        None => build::gateway(RELEASE, None)?,
    };
    let scratch = build::target_dir()?.join(format!("demo/{}", std::process::id()));
    let keeper = Rc::new(Keeper::start(scratch)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let origin = Origin::start(SocketAddr::from(([127, 0, 0, 1], 0)), Manner::DEMO).await?;
        let sale = Sale::open(options, &gateway, &keeper, Arc::new(origin))?;
        let told = tokio::select! {
            ran = sale.run(options) => ran,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("Ctrl-C cannot be heard"),
        };
        say("stopping the gateway");
        sale.program.stop(STOP)?;
        told
    })
}

/// A gateway, its origin, and what came of both.
struct Sale {
    program: Program,
    /// `http://127.0.0.1:…`
    base: String,
    key: String,
    origin: Arc<Origin>,
    figures: Arc<Figures>,
}

impl Sale {
    /// Starts the gateway on a store of its own, in the run's directory.
    fn open(options: &Options, gateway: &Path, keeper: &Rc<Keeper>, origin: Arc<Origin>) -> Result<Self> {
        let directory = keeper.scratch();
        fs::write(directory.join("tollgate.toml"), settings(origin.address()))?;
        let mut command = Command::new(gateway);
        command
            .args(["serve", "--config", "tollgate.toml", "--data", "data"])
            .args(["--admin-key-file", "admin.key"])
            .args(["--listen", &options.listen.to_string()])
            .current_dir(directory);
        for name in [
            "TOLLGATE_ADMIN_KEY",
            "TOLLGATE_LISTEN",
            "TOLLGATE_DATA",
            "RUST_LOG",
        ] {
            command.env_remove(name);
        }
        let mut program = Program::start(keeper, "gateway", command)?;
        let log = directory.join("gateway.log");
        let listens = || fs::read_to_string(&log).is_ok_and(|written| address(&written).is_some());
        program
            .ready(START, listens)
            .context("the gateway does not start (is another one running? --listen 127.0.0.1:0)")?;
        let base = address(&program.output()).context("it does not say where it listens")?;
        let key = fs::read_to_string(directory.join("admin.key")).context("it has made no admin key")?;
        Ok(Self {
            program,
            base,
            key: key.trim().to_owned(),
            origin,
            figures: Arc::default(),
        })
    }

    async fn run(&self, options: &Options) -> Result<()> {
        let crowd = Crowd::new(&self.base, &self.key, Arc::clone(&self.figures));
        let countdown = Duration::from_secs(options.countdown);
        let starts = Timestamp::now() + SignedDuration::try_from(countdown)?;
        crowd.prepare(options.units, starts).await?;
        self.welcome(options)?;
        let view = View::new(options, &self.figures, &self.origin);
        view.wait_until(Instant::now() + countdown).await;
        let began = Instant::now();
        let coming = crowd.come(options.people, Duration::from_secs(options.seconds));
        tokio::pin!(coming);
        loop {
            tokio::select! {
                () = &mut coming => break,
                () = sleep(FRAME) => view.show(),
            }
        }
        let took = began.elapsed();
        let admitted = self.figures.admitted();
        let end = Instant::now() + PATIENCE + self.origin.takes_for(admitted);
        while u64::try_from(self.origin.sequences().len())? < admitted && Instant::now() < end {
            view.show();
            sleep(FRAME).await;
        }
        view.finish();
        let sold = crowd.campaign().await?;
        self.judge(options, &sold, took)?;
        say(&format!(
            "the dashboard stays for {} s more; Ctrl-C ends it now",
            options.stay
        ));
        sleep(Duration::from_secs(options.stay)).await;
        Ok(())
    }

    /// Where to look, and with which key.
    fn welcome(&self, options: &Options) -> Result<()> {
        let Options { units, people, .. } = options;
        let text = format!(
            "\n  A sale of {units} units, for which {people} people come. The origin takes {pace}.\n\n  \
             dashboard   {base}/admin\n  log in with {key}\n\n",
            pace = self.origin.manner(),
            base = self.base,
            key = self.key,
        );
        told(&text)
    }

    /// The closing figures; an error if they do not add up.
    fn judge(&self, options: &Options, campaign: &serde_json::Value, took: Duration) -> Result<()> {
        let (figures, origin) = (&self.figures, &self.origin);
        let units = u64::from(options.units.min(options.people));
        let sequences = origin.sequences();
        told(&format!(
            "{}\n",
            figures.summary(took, &sequences, origin.refused())
        ))?;
        ensure!(
            figures.unexpected() == 0,
            "{} answers were none that a sale has: {}",
            figures.unexpected(),
            figures.strangest()
        );
        ensure!(
            figures.admitted() == units && campaign["admitted"] == units,
            "{} people were admitted, and the campaign says {}: it should be {units}",
            figures.admitted(),
            campaign["admitted"]
        );
        let dense = sequences.iter().copied().eq(1..=units);
        ensure!(dense, "the origin has {} orders of {units}", sequences.len());
        Ok(())
    }
}

/// On stdout, which a reader may have closed.
fn told(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// From the one line that the gateway writes to stdout.
fn address(written: &str) -> Option<String> {
    let line = written
        .lines()
        .find_map(|line| line.strip_prefix("listening on "));
    line.map(str::to_owned)
}

/// The gateway's settings: the limit of the sample, and the origin behind the campaign's topic.
fn settings(origin: SocketAddr) -> String {
    format!(
        r#"[[limits]]
name = "default"
capacity = 100
refill = 10

[[topics.coupon.subscriptions]]
name = "shop"
url = "http://{origin}/orders"
concurrency = {concurrency}
allow_private_addresses = true
retry = {{ initial = "500ms", factor = 2.0, cap = "5s", max_attempts = 30 }}
"#,
        concurrency = Manner::DEMO.at_once,
    )
}
