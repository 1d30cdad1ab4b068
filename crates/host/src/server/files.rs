//! Open files: as many as the system allows, and no more connections than they suffice for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for everything else: the database and its readers, deliveries, listeners.
const OTHERS: u64 = 256;

/// Raises the limit of open files as far as it goes; how many connections there can be, at most `wanted`. Told where it is
/// less.
pub fn connections(wanted: u32) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let possible = room(files, wanted);
    if possible < u64::from(wanted) {
        tracing::warn!(
            open_files = files,
            max_connections = wanted,
            connections = possible,
            "the limit of open files (ulimit -Hn) allows fewer connections than max_connections"
        );
    }
    usize::try_from(possible).unwrap_or(usize::MAX)
}

/// `files`: unlimited if `None`.
fn room(files: Option<u64>, wanted: u32) -> u64 {
    let wanted = u64::from(wanted);
    // With few files, half of them.
    files.map_or(wanted, |files| {
        wanted.min(files.saturating_sub(OTHERS).max(files / 2).max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_files_for_them() {
        for (files, wanted, expected) in [
            (None, 10_000, 10_000),
            (Some(1_000_000), 10_000, 10_000),
            (Some(1_024), 10_000, 768),
            (Some(1_024), 40, 40),
            (Some(256), 10_000, 128),
            (Some(0), 10_000, 1),
        ] {
            assert_eq!(room(files, wanted), expected, "{files:?}");
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        connections(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
