//! Figures of the system about processes, and medians.

use anyhow::{Context as _, Result};
use std::fs;
use std::time::Duration;

/// Fields of `/proc/PID/stat` after the command's name, from 0; see proc_pid_stat(5).
const PPID: usize = 1;
const PGRP: usize = 2;
const UTIME: usize = 11;
const STIME: usize = 12;
const CUTIME: usize = 13;
const CSTIME: usize = 14;

fn stat_fields(path: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(path).ok()?;
    // The name may hold spaces and brackets; it ends at the last bracket.
    let (_, fields) = text.rsplit_once(')')?;
    Some(
        fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect(),
    )
}

fn time(fields: &[u64], names: [usize; 2]) -> Duration {
    let ticks: u64 = names.iter().filter_map(|name| fields.get(*name)).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The processes of a group, and the children of its first: Postgres gives each a group of its own.
fn members(group: i32) -> impl Iterator<Item = (String, Vec<u64>)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |entry| {
        let name = entry.file_name().into_string().ok()?;
        name.parse::<u32>().ok()?;
        let fields = stat_fields(&format!("/proc/{name}/stat"))?;
        let is_the_group = |field: usize| {
            fields
                .get(field)
                .is_some_and(|&id| i64::try_from(id) == Ok(group.into()))
        };
        let same = is_the_group(PGRP) || is_the_group(PPID);
        same.then_some((name, fields))
    })
}

/// User and system time of all threads of all processes of these groups.
pub fn cpu_of(groups: &[i32]) -> Duration {
    let each = groups.iter().map(|group| members(*group));
    each.flatten()
        .map(|(_, fields)| time(&fields, [UTIME, STIME]))
        .sum()
}

/// User and system time of the children of this process that have ended.
pub fn cpu_of_children() -> Duration {
    stat_fields("/proc/self/stat").map_or(Duration::ZERO, |fields| time(&fields, [CUTIME, CSTIME]))
}

/// Resident memory of a group, bytes.
pub fn resident(group: i32) -> Result<u64> {
    let mut total = 0;
    for (process, _) in members(group) {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .context("/proc shows no VmRSS")?;
        total += kib << 10;
    }
    Ok(total)
}

/// The middle value; of an even number, the mean of both. `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}

/// The value that `share` (0 to 1) of `sorted` are not above.
pub fn percentile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 0.99), Some(99));
        assert_eq!(percentile(&hundred, 1.0), Some(100));
        assert_eq!(percentile(&[7], 0.5), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn this_very_process_is_a_member_of_its_group() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        let this = std::process::id().to_string();
        assert!(members(group).any(|(process, _)| process == this));
    }
}
