//! When the log is copied into the database, and for how long a reader may be in the way.

use std::time::Duration;

use super::super::schema;
use super::{Failure, Writer};

/// The log may have this many times the pages of [`Options::checkpoint_pages`](super::super::Options::checkpoint_pages), because readers were in the
/// way each time; then the writer waits for them, each time that it has grown by once as many.
const CHECKPOINT_WAITING: i64 = 8;
/// How long it then waits: its own readers are done by then. A backup is not, and holds up no commit for longer.
const READERS: Duration = Duration::from_millis(100);
/// With this many times as many, the log would fill the disk: the writer waits for whoever reads, with every group.
const CHECKPOINT_BLOCKING: i64 = 64;

impl Writer {
    /// Copies the log into the database where it has become long.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), Failure> {
        let pages = self.checkpoint("PRAGMA wal_checkpoint(NOOP)")?;
        let due = self.shared.checkpoint_pages;
        if pages >= due.saturating_mul(CHECKPOINT_WAITING).max(self.wait_at) {
            self.shared.counts.checkpoints.add(1);
            let left = self.checkpoint_waiting(pages >= due.saturating_mul(CHECKPOINT_BLOCKING))?;
            self.wait_at = match left >= due {
                true => (left + due).min(due.saturating_mul(CHECKPOINT_BLOCKING)),
                false => 0,
            };
        } else if pages >= due {
            self.shared.counts.checkpoints.add(1);
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }

    /// Runs a checkpoint that waits for readers; `long`: for as long as for anything else.
    fn checkpoint_waiting(&self, long: bool) -> Result<i64, Failure> {
        let patience = |time| self.connection.busy_timeout(time).map_err(Failure::before_commit);
        if !long {
            patience(READERS)?;
        }
        let left = self.checkpoint("PRAGMA wal_checkpoint(RESTART)");
        patience(schema::BUSY_TIMEOUT)?;
        left
    }

    /// Runs a checkpoint; answers how many pages of the log are not in the database yet. An fsync of the database that
    /// failed is as bad as one of the log: it must not be tried again.
    pub(super) fn checkpoint(&self, pragma: &str) -> Result<i64, Failure> {
        let mut statement = self
            .connection
            .prepare_cached(pragma)
            .map_err(Failure::before_commit)?;
        let pages = statement.query_row([], |row| {
            let (logged, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(logged - copied)
        });
        pages.map_err(Failure::before_commit)
    }
}
