//! How a database is opened, and why it may not be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, system_clock};

/// Where the database is and what it may use. [`Options::new`] gives the defaults.
#[derive(Clone)]
pub struct Options {
    /// The database file. `<path>-wal`, `<path>-shm` and `<path>.lock` lie beside it.
    pub path: PathBuf,
    /// The most commits that wait for the disk; beyond it they are refused as `Unavailable`. Default 65,536.
    pub queue_commits: usize,
    /// The most bytes of commits that wait for the disk. Default 256 MiB.
    pub queue_bytes: usize,
    /// The most commits that become durable together. Default 1,024.
    pub group_commits: usize,
    /// The most entries in the read cache, absent keys included. Default 262,144.
    pub cache_entries: usize,
    /// The most bytes of keys and values in the read cache. Default 128 MiB.
    pub cache_bytes: usize,
    /// The most entries that are durable in the journal before they are flushed into their table; as many again while a
    /// flush is under way. The more, the fewer pages a flush writes for each; after a crash they are read when the store
    /// is opened. Default 131,072.
    pub memtable_entries: usize,
    /// The most bytes of those. Default 32 MiB.
    pub memtable_bytes: usize,
    /// Bytes of the filter that tells, without a look into the database, of most keys that they are not there. Good for
    /// two keys for each byte; beyond that the database is asked. Default 8 MiB.
    pub filter_bytes: usize,
    /// Connections for reads that the cache cannot answer. Default 4.
    pub readers: usize,
    /// The most bytes of the database file; beyond it commits are refused as `Unavailable`. Default: no bound but the
    /// disk.
    pub max_bytes: Option<u64>,
    /// The wall clock. Default: the system's.
    pub clock: Clock,
    /// Pages of 4 KiB in the log after which it is copied into the database; readers are waited for at eight times as
    /// many. A page that many groups wrote is copied once; measured, a quarter of the default costs three times as
    /// much per commit. Default 16,384, which is 64 MiB.
    pub checkpoint_pages: u32,
    /// The SQLite VFS (how it reaches files), by its name. Default: SQLite's own. Tests of failing disks set it.
    pub vfs: Option<String>,
}

impl Options {
    /// The defaults for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            queue_commits: 65_536,
            queue_bytes: 256 << 20,
            group_commits: 1_024,
            cache_entries: 262_144,
            cache_bytes: 128 << 20,
            memtable_entries: 131_072,
            memtable_bytes: 32 << 20,
            filter_bytes: 8 << 20,
            readers: 4,
            max_bytes: None,
            clock: Arc::new(system_clock),
            checkpoint_pages: 16_384,
            vfs: None,
        }
    }
}

/// Why a database was not opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another Tollgate; stop that one first, or configure another file", .0.display())]
    Locked(PathBuf),
    /// It holds something else.
    #[error("{} is not a Tollgate database ({reason}); configure another file, or move this one away", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        reason: String,
    },
    /// It was written by a newer Tollgate.
    #[error("{} has schema version {found}, this Tollgate knows {known}; use the newer Tollgate", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another program has it locked.
    #[error("{} is in use by another program; close it there, or configure another file", .0.display())]
    Busy(PathBuf),
    /// SQLite finds it broken.
    #[error("{} is damaged ({reason}); restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// It is not there, or empty, but it was.
    #[error("{} is missing or empty, but it held a store; restore it from a backup, or remove {}.lock to begin with an empty one", .0.display(), .0.display())]
    Lost(PathBuf),
    /// It cannot be written.
    #[error("{} cannot be written; give this user write access to the file and its directory", .0.display())]
    ReadOnly(PathBuf),
    /// The file, its directory or its lock file cannot be used.
    #[error("{} cannot be used: {source}; check that the directory exists and can be written", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A database server cannot be used.
    #[error("the database at {at} cannot be used: {why}")]
    Database {
        /// Where it is, without its password.
        at: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Anything else that SQLite says.
    #[error("{} cannot be opened: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The SQLite in this binary has a bug that can lose data.
    #[error("this Tollgate was built with SQLite {0}; it needs 3.51.3 or newer")]
    OldSqlite(String),
}

impl OpenError {
    /// The error that SQLite's error means for the file.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotOurs {
                path,
                reason: "no SQLite file".into(),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(path),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                reason: source.to_string(),
            },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::ReadOnly(path)
            }
            _ => Self::Sqlite { path, source },
        }
    }
}
