//! When the log is copied into the database: beside the writer, and for how long a reader may be in the way.
//!
//! Copying a long log and syncing the database takes some 100 ms. A thread of its own does it, in passes, while groups go
//! on being written. What a pass leaves is what was written meanwhile; once that is little, the writer copies it
//! itself, so that the log is all copied at one moment and begins anew.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use super::super::schema;
use super::{Failure, Writer};

/// The log may have this many times the pages of [`Options::checkpoint_pages`](super::super::Options::checkpoint_pages), because readers were in the
/// way each time; then the writer waits for them, each time that it has grown by once as many.
const CHECKPOINT_WAITING: i64 = 8;
/// How long it then waits: its own readers are done by then. A backup is not, and holds up no commit for longer.
const READERS: Duration = Duration::from_millis(100);
/// With this many times as many, the log would fill the disk: the writer waits for whoever reads, with every group.
const CHECKPOINT_BLOCKING: i64 = 64;
/// The writer copies the rest itself once it is at most this part of what is due: one sync of few pages.
const REST: i64 = 64;
/// The passes after which it does so even if more is left.
const MAX_PASSES: u32 = 3;

/// The thread that copies the log into the database beside the writer, on a connection of its own.
pub struct Copier {
    ask: Option<Sender<()>>,
    done: Receiver<rusqlite::Result<i64>>,
    is_running: bool,
    /// Passes since the log was last copied to its end.
    passes: u32,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    /// Starts the thread; it rests until it is asked.
    pub fn start(connection: Connection) -> std::io::Result<Self> {
        let (ask, asked) = channel();
        let (tell, done) = channel();
        let thread = Builder::new().name("store-copy".into()).spawn(move || {
            for () in asked {
                if tell.send(copy(&connection, PASSIVE)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            ask: Some(ask),
            done,
            is_running: false,
            passes: 0,
            thread: Some(thread),
        })
    }

    fn begin(&mut self) {
        self.passes += 1;
        self.is_running = self.ask.as_ref().is_some_and(|ask| ask.send(()).is_ok());
    }

    /// Takes note of a pass that has ended. An fsync of the database that failed is as bad as one of the log: it must
    /// not be tried again.
    fn look(&mut self) -> Result<(), Failure> {
        match self.done.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => self.ended(Ok(0)),
            Ok(copied) => self.ended(copied),
        }
    }

    /// Waits for the end of the pass that is under way.
    fn wait(&mut self) -> Result<(), Failure> {
        match self.is_running {
            true => {
                let copied = self.done.recv().unwrap_or(Ok(0));
                self.ended(copied)
            }
            false => Ok(()),
        }
    }

    fn ended(&mut self, copied: rusqlite::Result<i64>) -> Result<(), Failure> {
        self.is_running = false;
        copied.map(|_| ()).map_err(Failure::before_commit)
    }

    /// Ends the thread, after the pass that is under way.
    pub fn stop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and nothing is asked of it any more.
            let _ = thread.join();
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop();
    }
}

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Runs a checkpoint; answers how many pages of the log are not in the database yet.
fn copy(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(pragma)?;
    statement.query_row([], |row| {
        let (logged, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(logged - copied)
    })
}

impl Writer {
    /// Has the log copied into the database where it has become long.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), Failure> {
        self.copier.look()?;
        let pages = self.checkpoint("PRAGMA wal_checkpoint(NOOP)")?;
        let due = self.shared.checkpoint_pages;
        if pages >= due.saturating_mul(CHECKPOINT_WAITING).max(self.wait_at) {
            self.copier.wait()?;
            self.shared.counts.checkpoints.add(1);
            let left = self.checkpoint_waiting(pages >= due.saturating_mul(CHECKPOINT_BLOCKING))?;
            self.wait_at = match left >= due {
                true => (left + due).min(due.saturating_mul(CHECKPOINT_BLOCKING)),
                false => 0,
            };
            self.copier.passes = 0;
            return Ok(());
        }
        match (self.copier.is_running, self.copier.passes) {
            (true, _) => {}
            (false, 0) if pages >= due => {
                self.shared.counts.checkpoints.add(1);
                self.copier.begin();
            }
            (false, 0) => {}
            (false, passes) if passes < MAX_PASSES && pages > due / REST => self.copier.begin(),
            (false, _) => {
                self.checkpoint(PASSIVE)?;
                self.copier.passes = 0;
            }
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

    /// Runs a checkpoint on the writer's own connection; answers how many pages of the log are not in the database yet.
    pub(super) fn checkpoint(&self, pragma: &str) -> Result<i64, Failure> {
        copy(&self.connection, pragma).map_err(Failure::before_commit)
    }
}
