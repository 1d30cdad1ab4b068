//! Closed-loop load over HTTP: `wrk` with a script of `benches/load`.

use super::rounds::Sample;
use super::{Bench, Side, figures, load_file};
use crate::program::Program;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a run may take beyond its load.
const MARGIN: Duration = Duration::from_secs(15);
/// Errors of the wire beyond which a figure is none: one in this many requests.
const MAX_BROKEN_SHARE: u64 = 1_000;
/// Refusals (a full queue, say) beyond which a figure is none: one in this many requests. Fewer are shown, and are not
/// counted as answers.
const MAX_REFUSED_SHARE: u64 = 10;

/// What all answers must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// 2xx or 3xx.
    Success,
    /// 4xx.
    Refusal,
}

/// What is sent, and where.
pub struct Load {
    /// A script of `benches/load`, without its `.lua`.
    pub script: &'static str,
    /// The script's arguments.
    pub arguments: Vec<String>,
    /// The port of the loopback.
    pub port: u16,
    /// The path, where the script does not make its own.
    pub path: &'static str,
    /// Connections, kept alive.
    pub connections: u32,
    /// What counts as the right answer.
    pub answers: Answers,
    /// Whether the port speaks TLS.
    pub is_tls: bool,
}

impl Load {
    /// One link and one client on 32 connections.
    pub fn hot(port: u16, path: &'static str) -> Self {
        Self {
            script: "hot",
            arguments: Vec::new(),
            port,
            path,
            connections: 32,
            answers: Answers::Success,
            is_tls: false,
        }
    }

    /// Runs it; `servers` are the process groups whose time is counted.
    pub fn run(&self, bench: &Bench, seconds: u32, servers: &[i32]) -> Result<Sample> {
        together(bench, seconds, std::slice::from_ref(self), servers)
    }

    fn start(&self, bench: &Bench, seconds: u32) -> Result<Program> {
        let script = self.script(bench)?;
        let mut command = bench.cores.command(Side::Generator, Path::new("wrk"));
        command.args(["-t", "1", "-c", &self.connections.to_string()]);
        command.args(["-d", &format!("{seconds}s"), "--timeout", "10s", "-s"]);
        command.arg(script);
        let scheme = if self.is_tls { "https" } else { "http" };
        command.arg(format!("{scheme}://127.0.0.1:{}{}", self.port, self.path));
        command.arg("--").args(&self.arguments);
        // Several run at once, each with a log of its own.
        Program::start(&bench.keeper, &format!("wrk-{}", self.port), command)
    }

    /// The script with the part that reports. Of this load alone: others may be reading theirs.
    fn script(&self, bench: &Bench) -> Result<std::path::PathBuf> {
        let own = fs::read_to_string(load_file(&format!("{}.lua", self.script)))?;
        let report = fs::read_to_string(load_file("report.lua"))?;
        let name = format!("{}-{}.lua", self.script, self.port);
        let path = bench.keeper.scratch().join(name);
        fs::write(&path, format!("{own}\n{report}"))?;
        Ok(path)
    }
}

/// Runs all of them at once and adds them up; latencies are the longest of them.
pub fn together(bench: &Bench, seconds: u32, loads: &[Load], servers: &[i32]) -> Result<Sample> {
    let (server, generator) = (figures::cpu_of(servers), figures::cpu_of_children());
    let running = loads.iter().map(|load| load.start(bench, seconds));
    let running: Vec<Program> = running.collect::<Result<_>>()?;
    let (mut answered, mut requests, mut time) = (0, 0, Duration::ZERO);
    let (mut median, mut p99) = (0, 0);
    for (load, wrk) in loads.iter().zip(running) {
        let within = Duration::from_secs(seconds.into()) + MARGIN;
        let (status, output) = wrk.finish(within).context("wrk")?;
        if !status.success() {
            bail!("wrk failed ({status}): {output}");
        }
        let counts = Counts::of(&output).with_context(|| format!("wrk gave no figures: {output}"))?;
        answered += counts.answered(load.answers)?;
        (requests, time) = (requests + counts.requests, time.max(counts.time));
        (median, p99) = (median.max(counts.median), p99.max(counts.p99));
    }
    let server = figures::cpu_of(servers).saturating_sub(server);
    let generator = figures::cpu_of_children().saturating_sub(generator);
    Ok(Sample {
        refused: (requests - answered) as f64 / requests as f64,
        median,
        p99,
        ..Sample::new(answered, time, server, generator)
    })
}

/// What `report.lua` says.
struct Counts {
    requests: u64,
    time: Duration,
    refused: u64,
    broken: u64,
    /// Microseconds.
    median: u64,
    p99: u64,
}

impl Counts {
    fn of(output: &str) -> Option<Self> {
        let line = output.lines().find_map(|line| line.strip_prefix("figures "))?;
        let value = |name: &str| -> Option<u64> {
            let mut pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse().ok()
        };
        Some(Self {
            requests: value("requests")?,
            time: Duration::from_micros(value("microseconds")?),
            refused: value("refused")?,
            broken: value("broken")?,
            median: value("median")?,
            p99: value("p99")?,
        })
    }

    /// The right answers, if nearly all were right.
    fn answered(&self, answers: Answers) -> Result<u64> {
        let Self {
            requests,
            refused,
            broken,
            ..
        } = *self;
        if requests == 0 {
            bail!("nothing was answered");
        }
        if broken > requests / MAX_BROKEN_SHARE {
            bail!("{broken} connections broke or waited too long, of {requests} requests");
        }
        let wrong = match answers {
            Answers::Success => refused,
            Answers::Refusal => requests.saturating_sub(refused),
        };
        if wrong > requests / MAX_REFUSED_SHARE {
            bail!("{wrong} of {requests} answers were not what is measured");
        }
        Ok(requests - wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_line_of_the_script() {
        let output = "Running 1s test\nfigures requests=1000 microseconds=500000 refused=3 broken=1 median=15 p99=66\n";
        let counts = Counts::of(output).expect("it is there");
        assert_eq!((counts.requests, counts.refused, counts.broken), (1000, 3, 1));
        assert_eq!((counts.median, counts.p99), (15, 66));
        assert_eq!(counts.time, Duration::from_millis(500));
        assert!(Counts::of("nothing").is_none());
    }

    #[test]
    fn a_figure_of_wrong_answers_is_none() {
        let counts = |requests, refused, broken| Counts {
            requests,
            time: Duration::from_secs(1),
            refused,
            broken,
            median: 0,
            p99: 0,
        };
        let answered =
            |requests, refused, broken, answers| counts(requests, refused, broken).answered(answers).ok();
        assert_eq!(answered(1_000, 0, 1, Answers::Success), Some(1_000));
        assert_eq!(answered(1_000, 0, 2, Answers::Success), None);
        assert_eq!(answered(0, 0, 0, Answers::Success), None);
        assert_eq!(answered(1_000, 30, 0, Answers::Success), Some(970));
        assert_eq!(answered(1_000, 101, 0, Answers::Success), None);
        assert_eq!(answered(1_000, 999, 0, Answers::Refusal), Some(999));
        assert_eq!(answered(1_000, 500, 0, Answers::Refusal), None);
    }
}
