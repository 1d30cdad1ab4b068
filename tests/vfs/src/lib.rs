//! A disk that fails, below SQLite. It is a VFS (<https://sqlite.org/vfs.html>) that passes everything to the
//! system's own. It notes what was written since the last sync of each file, and fails on demand. For tests
//! only.
//!
//! What it assumes about disks:
//!
//! - A sector of 512 bytes is written whole or not at all.
//! - Until a sync has returned, each sector that was written holds any of its contents since the sync before.
//! - A file's new length may come before its contents, and then the rest is garbage.
//! - A sync that fails has lost what it was asked to keep, while the system goes on showing it
//!   (<https://lwn.net/Articles/752063/>).
//! - Files are created and deleted at once.

mod disk;
mod ffi;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use disk::State;
pub use disk::{Fault, Loss, SECTOR};

/// A disk that fails on demand. Connections opened with its [`Disk::name`] as their VFS live on it.
pub struct Disk {
    state: Arc<Drive>,
    vfs: ffi::Vfs,
}

/// What the connections of a disk share.
pub(crate) struct Drive {
    state: Mutex<State>,
    released: Condvar,
}

impl Drive {
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A sync, which waits where the disk holds the syncs of databases.
    pub(crate) fn sync(&self, path: &Path) -> i32 {
        let mut state = self.state.lock();
        if state.holds(path) {
            state.held += 1;
            self.released.wait_while(&mut state, |state| state.holds(path));
        }
        state.sync(path)
    }
}

impl Disk {
    /// A sound disk. What it loses in failures is chosen by the seed.
    pub fn new(seed: u64) -> Self {
        let state = Arc::new(Drive {
            state: Mutex::new(State::new(seed)),
            released: Condvar::new(),
        });
        let vfs = ffi::Vfs::register(&state);
        Self { state, vfs }
    }

    /// The name under which SQLite knows it.
    pub fn name(&self) -> &str {
        self.vfs.name()
    }

    /// Makes the `nth` operation of the fault's kind from now on fail; 1 is the next.
    pub fn fail(&self, fault: Fault, nth: u64) {
        self.state.lock().fail(fault, nth);
    }

    /// Whether there is no room: writes beyond a file's end fail as `SQLITE_FULL`.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Whether syncs are only claimed to have been done. No engine is safe on such a disk; it shows that a test of
    /// power cuts would see an engine that does not sync.
    pub fn set_lying(&self, lying: bool) {
        self.state.lock().lying = lying;
    }

    /// Whether syncs of databases (not of their logs) wait until they no longer have to.
    pub fn hold_database_syncs(&self, hold: bool) {
        self.state.lock().holding = hold;
        self.state.released.notify_all();
    }

    /// Syncs that had to wait so far.
    pub fn held(&self) -> u64 {
        self.state.lock().held
    }

    /// Cuts the power at the `nth` write, truncation or sync from now on (1 is the next); it is under way when that
    /// happens, and everything after it fails.
    pub fn cut_power_at(&self, nth: u64) {
        self.state.lock().cut_power_at(nth);
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        self.state.lock().is_cut()
    }

    /// Writes, truncations and syncs so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations()
    }

    /// Writes into `directory` what a power cut at this moment leaves behind, under the files' own names.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn image(&self, directory: &Path, loss: Loss) -> io::Result<()> {
        for (path, content) in self.state.lock().image(loss) {
            if let Some(name) = path.file_name() {
                std::fs::write(directory.join(name), content)?;
            }
        }
        Ok(())
    }
}
