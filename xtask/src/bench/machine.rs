//! The machine that the figures were measured on.

use super::{Bench, figures, find, peers};
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A page of the write-ahead log, and the file that is written round and round: allocated beforehand, as a log is that is
/// used again.
const BLOCK: usize = 4_096;
const BLOCKS: usize = 1_024;
/// Load beyond which a machine is busy with something else.
const BUSY: f64 = 0.5;

/// One line each.
pub fn facts(bench: &Bench) -> Result<Vec<String>> {
    bench.doing("measuring the disk");
    let syncs = syncs(bench.keeper.scratch(), Duration::from_secs(1))?;
    let at = |share| figures::percentile(&syncs, share).unwrap_or(0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0);
    if load > BUSY {
        bench.say(&format!(
            "the machine is busy (load {load}): ratios still mean something, figures do not"
        ));
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut facts = vec![
        format!(
            "{}, load average before: {load}",
            jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC")
        ),
        format!(
            "{}, {cores} cores, Linux {}",
            cpu_model(),
            read("/proc/sys/kernel/osrelease")
        ),
        format!(
            "fdatasync of {BLOCK} bytes: median {} µs, 99th percentile {} µs",
            at(0.5),
            at(0.99)
        ),
        match bench.cores.pinned {
            Some((server, generator)) => {
                format!("servers on core {server}, load on core {generator}, loopback")
            }
            None => "one core for servers and load, loopback".into(),
        },
        format!("Tollgate {}", commit()),
    ];
    facts.push(versions());
    if bench.options.quick {
        let sizes = &bench.sizes;
        facts.push(format!(
            "**--quick**: shows that everything works, not how fast; {} links instead of 100,000, {} instead of 1,000,000",
            sizes.links, sizes.million
        ));
    }
    Ok(facts)
}

/// How long each of the fdatasyncs took that fit into `time`, microseconds, sorted.
pub fn syncs(directory: &Path, time: Duration) -> Result<Vec<u32>> {
    let path = directory.join("fdatasync");
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(&vec![0; BLOCK * BLOCKS])?;
    file.sync_all()?;
    let mut took = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let block = took.len() % BLOCKS;
        file.seek(SeekFrom::Start((block * BLOCK) as u64))?;
        let began = Instant::now();
        file.write_all(&[took.len() as u8; BLOCK])?;
        file.sync_data()?;
        took.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    took.sort_unstable();
    Ok(took)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model() -> String {
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, model)| model.trim().to_owned(),
    )
}

/// The commit that is checked out.
fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(crate::build::root())
        .args(["describe", "--always", "--dirty"]);
    first_line(git).unwrap_or_else(|| "of an unknown commit".into())
}

/// The versions of the peers that are present.
fn versions() -> String {
    let asked = [
        ("nginx", "-v"),
        ("haproxy", "-v"),
        ("redis-server", "--version"),
        ("node", "--version"),
    ];
    let mut versions: Vec<String> = asked
        .iter()
        .filter_map(|(name, flag)| {
            let mut command = Command::new(find(name)?);
            command.arg(flag);
            Some(format!("{name} {}", number(&first_line(command)?)?))
        })
        .collect();
    for (name, path) in [("envoy", peers::envoy()), ("spin", peers::spin())] {
        if let Ok(path) = path {
            let mut command = Command::new(path);
            command.arg("--version");
            versions.extend(first_line(command).and_then(|line| Some(format!("{name} {}", number(&line)?))));
        }
    }
    match versions.is_empty() {
        true => "no peers are installed".into(),
        false => versions.join(", "),
    }
}

/// What a program says first, on stdout or else stderr.
fn first_line(mut command: Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = format!("{}\n{}", text(output.stdout), text(output.stderr));
    said.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

/// The first thing in a line that looks like a version.
fn number(line: &str) -> Option<&str> {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, '/' | '=' | ','));
    let mut words = words.map(|word| word.trim_start_matches('v'));
    words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        for (line, version) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("v20.20.2", "20.20.2"),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0",
                "7.0.15",
            ),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
                "2.6.12-1+deb12u4",
            ),
        ] {
            assert_eq!(number(line), Some(version));
        }
        assert_eq!(number("nothing"), None);
    }
}
