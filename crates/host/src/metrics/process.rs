//! What the operating system says of this process. On systems without `/proc` it says less.

use super::sheet::Sheet;
use super::table::Metric;
use crate::memory;
use rustix::process::{Resource, getrlimit};
use std::fs;

/// Where `utime` and `stime` are in `/proc/self/stat` (proc(5)), counted from behind the name.
const TIMES: usize = 11;

/// Writes it.
pub fn report(sheet: &mut Sheet) {
    if let Some(bytes) = memory::resident() {
        sheet.level(Metric::Memory, &[], bytes as f64);
    }
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        // The name, in brackets, may hold anything.
        let rest = stat.rsplit_once(") ")?.1;
        let mut times = rest.split(' ').skip(TIMES).map(str::parse::<u64>);
        Some(times.next()?.ok()? + times.next()?.ok()?)
    }) {
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        sheet.level(Metric::Cpu, &[], seconds);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is this listing's own.
        sheet.number(Metric::OpenFiles, &[], files.count().saturating_sub(1));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        sheet.level(Metric::MaxFiles, &[], most as f64);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_time_and_files_are_told() {
        let mut sheet = Sheet::default();
        report(&mut sheet);
        let text = sheet.written(crate::metrics::sheet::Format::OpenMetrics);
        for name in [
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            let value: f64 = line
                .and_then(|line| line.rsplit(' ').next()?.parse().ok())
                .unwrap();
            assert!(value > 0.0 || name.contains("cpu"), "{name}{value}");
        }
    }
}
