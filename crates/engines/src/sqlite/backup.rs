//! Backups of a database, and their way back.
//!
//! A backup is taken beside a running gateway, or without one. It copies the pages of one read transaction: journal and
//! tables as one commit left them, so that state and queue agree. No commit waits for it. What is committed meanwhile
//! stays in the log until the copy is made; the [limit](BackupError::Log) on that ends a backup before it fills the disk.
//! The copy is one file, in no need of a log, that is synced and checked before anybody may take it for a backup.
//!
//! A restore puts a checked copy beside the database under the name of [`DECIDED`]. That rename decides: before it there is
//! the old store, from then on the new one. Only then the old log goes, and the copy takes the database's place. Whoever
//! opens the store next finishes what a killed restore has decided ([`finish`]).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::options::OpenError;
use super::{journal, query, schema};

/// Pages of 4 KiB that are copied between two looks at the log.
const STEP_PAGES: i32 = 256;
/// How long the copy waits for a lock (only while SQLite recovers a log).
const PATIENCE: Duration = Duration::from_secs(5);
/// What the name of a copy ends with while it is made.
const PART: &str = ".restore-part";
/// What the name of a copy ends with once it is the store, and the old one is not yet gone.
const DECIDED: &str = ".restored";
/// Bytes that a restore copies at once.
const CHUNK: usize = 1 << 20;
/// Why nothing is read from a database that another copy is about to replace.
const UNFINISHED: &str = "a restore was interrupted: start the gateway, or restore again, which finishes it";

/// What a store holds, counted in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Of the last commit.
    pub revision: u64,
    /// Keys in their table.
    pub entries: u64,
    /// Groups of commits that are in the journal only.
    pub journal: u64,
    /// Topics that ever had a message.
    pub topics: u64,
    /// Messages kept.
    pub messages: u64,
    /// Remembered idempotency keys.
    pub idempotence: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why there is no backup, or no restore. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database, or the backup, cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log has grown beyond the limit while pages were copied.
    #[error(
        "the gateway has written {written} bytes of log meanwhile, more than the limit of {limit}; try again when it has less to do, or raise --max-log"
    )]
    Log {
        /// Bytes of the log.
        written: u64,
        /// The limit.
        limit: u64,
    },
    /// It is no sound store.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a store already.
    #[error("{} holds a store; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A file that belongs to the backup was not taken along.
    #[error("{} has a log beside it, so that it is no backup but the file of a store; make one with tollgate backup", .0.display())]
    NoBackup(PathBuf),
    /// A file cannot be used.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Anything else that SQLite says.
    #[error("{}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + '_ {
    move |source| BackupError::Io {
        path: path.to_owned(),
        source,
    }
}

fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> BackupError + '_ {
    move |source| match OpenError::from_sqlite(path, source) {
        OpenError::Sqlite { path, source } => BackupError::Sqlite { path, source },
        other => other.into(),
    }
}

/// Copies the store at `database` to `to`, which must not be there yet, and checks the copy. `progress` is told bytes copied
/// and all bytes. `max_log`: the most bytes that the log of a running gateway may have meanwhile.
///
/// # Errors
/// See [`BackupError`]; what was written to `to` is removed then.
pub fn back_up(
    database: &Path,
    to: &Path,
    max_log: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Contents, BackupError> {
    fs::metadata(database).map_err(io(database))?;
    if beside(database, DECIDED).exists() {
        return Err(OpenError::Io {
            path: database.to_owned(),
            source: std::io::Error::other(UNFINISHED),
        }
        .into());
    }
    create(to, true).map_err(io(to))?;
    let copied = copy(database, to, max_log, progress)
        .and_then(|revision| Ok((revision, check(to)?)))
        .and_then(|(revision, contents)| match contents.revision == revision {
            true => Ok(contents),
            false => Err(damaged(to, "its revision is not that of the store")),
        });
    if copied.is_err() {
        _ = fs::remove_file(to);
    }
    copied
}

/// Copies the pages of one read transaction; the revision that they hold.
fn copy(
    database: &Path,
    to: &Path,
    max_log: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, BackupError> {
    let failed = sqlite(database);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(database, flags).map_err(&failed)?;
    prepare(&source).map_err(&failed)?;
    schema::check_identity(&source, database)?;
    // One transaction from here on: what is read is what the same commit left.
    source.execute_batch("BEGIN").map_err(&failed)?;
    let revision = query::revision(&source).map_err(&failed)?;
    let page: u64 = pragma(&source, "page_size").map_err(&failed)?;
    let mut copy = Connection::open(to).map_err(sqlite(to))?;
    // It is synced once, whole; before that nobody takes it for a backup.
    let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;";
    copy.execute_batch(quick).map_err(sqlite(to))?;
    let backup = Backup::new(&source, &mut copy).map_err(sqlite(to))?;
    loop {
        let written = fs::metadata(beside(database, "-wal")).map_or(0, |log| log.len());
        if written > max_log {
            return Err(BackupError::Log {
                written,
                limit: max_log,
            });
        }
        let step = backup.step(STEP_PAGES).map_err(sqlite(to))?;
        let at = backup.progress();
        let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * page;
        progress(bytes(at.pagecount - at.remaining), bytes(at.pagecount));
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    drop(backup);
    drop(copy);
    seal(to)?;
    Ok(revision)
}

/// A connection that leaves the log to the gateway.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(PATIENCE)
}

/// Makes the copy a file of its own, with no log, and syncs it.
fn seal(copy: &Path) -> Result<(), BackupError> {
    let connection = Connection::open(copy).map_err(sqlite(copy))?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))
        .map_err(sqlite(copy))?;
    if mode != "delete" {
        return Err(damaged(copy, "its log cannot be taken in"));
    }
    connection.close().map_err(|(_, error)| sqlite(copy)(error))?;
    File::open(copy)
        .and_then(|file| file.sync_all())
        .map_err(io(copy))
}

/// Checks that a copy is a whole and sound store of ours, and counts what it holds. Reads all of it.
///
/// # Errors
/// See [`BackupError`].
pub fn check(copy: &Path) -> Result<Contents, BackupError> {
    let failed = sqlite(copy);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(&failed)?;
    schema::check_identity(&connection, copy)?;
    let has = |table: &str| connection.table_exists(None, table).map_err(&failed);
    if !(has("meta")? && has("entries")?) {
        return Err(damaged(copy, "it holds no store"));
    }
    let sound: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(&failed)?;
    if sound != "ok" {
        return Err(damaged(copy, &sound));
    }
    let count = |table: &str| match has(table)? {
        // A name of ours, from here.
        true => connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0).map(query::unsigned)
            })
            .map_err(&failed),
        // A database of an earlier version.
        false => Ok(0),
    };
    let contents = Contents {
        revision: query::revision(&connection).map_err(&failed)?,
        entries: count("entries")?,
        journal: count("journal")?,
        topics: count("topics")?,
        messages: count("messages")?,
        idempotence: count("idempotence")?,
        bytes: fs::metadata(copy).map_err(io(copy))?.len(),
    };
    if contents.journal > 0 {
        journal::check(&connection).map_err(&failed)?;
    }
    Ok(contents)
}

/// Puts a backup in the place of the store at `database`. Refused where a gateway runs, and without `force` where there is a
/// store. However it ends, there is the old store or the new one.
///
/// # Errors
/// See [`BackupError`].
pub fn restore(
    backup: &Path,
    database: &Path,
    force: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Contents, BackupError> {
    // Held to the end: no gateway starts meanwhile.
    let mut lock = schema::lock(database)?;
    finish(database)?;
    if !force && fs::metadata(database).is_ok_and(|file| file.len() > 1) {
        return Err(BackupError::Exists(database.to_owned()));
    }
    if fs::metadata(beside(backup, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Err(BackupError::NoBackup(backup.to_owned()));
    }
    let part = beside(database, PART);
    let copied = transfer(backup, &part, database, progress).and_then(|()| {
        seal(&part)?;
        check(&part)
    });
    let contents = copied.inspect_err(|_| _ = fs::remove_file(&part))?;
    rename(&part, &beside(database, DECIDED)).map_err(io(database))?;
    finish(database)?;
    lock.remember()?;
    Ok(contents)
}

/// Finishes a restore that has been decided, if there is one, and clears away one that was not. The caller holds the store's
/// lock.
///
/// # Errors
/// A file cannot be removed or renamed.
pub fn finish(database: &Path) -> Result<(), OpenError> {
    // It takes room, and nothing else.
    _ = fs::remove_file(beside(database, PART));
    let decided = beside(database, DECIDED);
    if !decided.exists() {
        return Ok(());
    }
    let done = || {
        // The old log first, for good: beside the new database it would be taken for its own.
        for suffix in ["-wal", "-shm"] {
            match fs::remove_file(beside(database, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_directory(database)?;
        rename(&decided, database)
    };
    done().map_err(|source| OpenError::Io {
        path: database.to_owned(),
        source,
    })
}

/// Copies a file's bytes, for whom the database belongs to.
fn transfer(
    from: &Path,
    to: &Path,
    database: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(io(from))?;
    let all = source.metadata().map_err(io(from))?.len();
    let mut copy = create(to, false).map_err(io(to))?;
    schema::hand_over(&copy, database).map_err(io(to))?;
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let read = source.read(&mut chunk).map_err(io(from))?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        copy.write_all(bytes).map_err(io(to))?;
        done += read as u64;
        progress(done, all.max(done));
    }
}

/// A file for its owner alone. `new`: it must not be there.
fn create(path: &Path, new: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).create(true).truncate(true);
    options.create_new(new).open(path)
}

/// Renames a file within its directory, durably.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(to)
}

/// Makes names in the directory of `path` durable.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The path with something at its end.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, name, |row| row.get(0).map(query::unsigned))
}

fn damaged(path: &Path, reason: &str) -> BackupError {
    BackupError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
