//! Opening connections: pragmas, the schema and its version, and the lock that keeps other processes out.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use tollgate_store::schema;

use super::options::{OpenError, Options};

pub use tollgate_store::schema::{APPLICATION_ID, IN_USE, SQL as SCHEMA, VERSION as SCHEMA_VERSION};

/// Before 3.51.3 a checkpoint could lose what a second connection had just committed to the WAL.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a checkpoint waits for readers. Nothing else ever waits: there is one writer.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that the writer's connection keeps in memory, KiB. It reads few (the filter of keys), and writes
/// neighbours together. Where it gave out page numbers in another order than that of its keys, SQLite looks
/// at all of the pages in memory after the commit.
const WRITER_CACHE_KIB: i64 = 4 << 10;
/// The same for each reader's.
const READER_CACHE_KIB: i64 = 8 << 10;
/// The most bytes of the WAL file that stay allocated once all of it was checkpointed and restarted.
const WAL_KEPT_BYTES: i64 = 128 << 20;
/// Prepared statements per connection.
const STATEMENTS: usize = 32;

/// Held as long as the database is in use. The operating system releases it when the process ends, however it ends.
/// The file is empty until there is a database.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// The contents of the lock file once there is a database.
const PRESENT: &[u8] = b"There is a store beside this file.\n";

impl Lock {
    /// Refuses to begin anew where there was a database before: SQLite takes an empty file for a new one, and a file of
    /// one byte for an empty one.
    pub fn check(&self, database: &Path) -> Result<(), OpenError> {
        let empty = fs::metadata(database).map_or(true, |file| file.len() <= 1);
        let had_one = self.file.metadata().is_ok_and(|file| file.len() > 0);
        match empty && had_one {
            true => Err(OpenError::Lost(database.to_owned())),
            false => Ok(()),
        }
    }

    /// Records that there is a database now.
    pub fn remember(&mut self) -> Result<(), OpenError> {
        let mut remember = || match self.file.metadata()?.len() {
            0 => self.file.write_all(PRESENT),
            _ => Ok(()),
        };
        remember().map_err(|source| OpenError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Takes `<path>.lock`.
pub fn lock(path: &Path) -> Result<Lock, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let io = |source: std::io::Error| match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => OpenError::ReadOnly(path.to_owned()),
        _ => OpenError::Io {
            path: lock_path.clone(),
            source,
        },
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(io)?;
    hand_over(&file, path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock {
            file,
            path: lock_path,
        }),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Gives a file that root has made beside the database to whom the database belongs, or its directory: root restores, and
/// the gateway runs as another.
pub fn hand_over(file: &File, database: &Path) -> std::io::Result<()> {
    const ROOT: u32 = 0;
    if file.metadata()?.uid() != ROOT {
        return Ok(());
    }
    let directory = database
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    let owner = [database, directory.unwrap_or(Path::new("."))]
        .into_iter()
        .filter_map(|path| fs::metadata(path).ok())
        .find(|there| there.uid() != ROOT);
    match owner {
        Some(owner) => fchown(file, Some(owner.uid()), Some(owner.gid())),
        None => Ok(()),
    }
}

/// The writer's connection, on a database that has our schema.
pub fn open_writer(options: &Options) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version().to_owned()));
    }
    let path = options.path.as_path();
    if path.is_dir() {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
            reason: "a directory".into(),
        });
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = |source| OpenError::from_sqlite(path, source);
    let connection = connect(options, flags).map_err(sqlite)?;
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(sqlite)? {
        return Err(OpenError::ReadOnly(path.to_owned()));
    }
    check_identity(&connection, path)?;
    prepare(&connection, options).map_err(sqlite)?;
    Ok(connection)
}

/// A connection that only reads.
pub fn open_reader(options: &Options) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::from_sqlite(&options.path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(options, flags).map_err(sqlite)?;
    let prepare = || {
        no_checkpoint_on_close(&connection)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(())
    };
    prepare().map_err(sqlite)?;
    Ok(connection)
}

/// A connection that copies the log into the database, and syncs it as the writer would.
pub fn open_copier(options: &Options) -> Result<Connection, OpenError> {
    let connection = open_reader(options)?;
    let prepare = || {
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "fullfsync", true)
    };
    prepare().map_err(|source| OpenError::from_sqlite(&options.path, source))?;
    Ok(connection)
}

fn connect(options: &Options, flags: OpenFlags) -> rusqlite::Result<Connection> {
    match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(&options.path, flags, vfs.as_str()),
        None => Connection::open_with_flags(&options.path, flags),
    }
}

/// Refuses databases of other programs and of newer versions before anything is written.
pub fn check_identity(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::from_sqlite(path, source);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let ours = |name| connection.table_exists(None, name);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    let tables: i64 = connection
        .query_row(tables, [], |row| row.get(0))
        .map_err(sqlite)?;
    let application = pragma("application_id").map_err(sqlite)?;
    let not_ours = |reason: &str| OpenError::NotOurs {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if application != APPLICATION_ID && application != 0 {
        return Err(not_ours("a database of another application"));
    }
    let mut found = pragma("user_version").map_err(sqlite)?;
    if tables > 0 {
        // A component cannot always set pragmas: the table is what counts.
        if !(ours("meta").map_err(sqlite)? && ours("entries").map_err(sqlite)?) {
            return Err(not_ours("it has other tables"));
        }
        let schema = "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'schema'";
        let schema: i64 = connection
            .query_row(schema, [], |row| row.get(0))
            .map_err(sqlite)?;
        found = found.max(schema);
    }
    if found > IN_USE {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: IN_USE,
        });
    }
    Ok(())
}

/// The last connection to close would copy the log into the database, even after an fsync has failed and the log's
/// pages can no longer be trusted. The writer does it, where all is well.
fn no_checkpoint_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map(|_| ())
}

/// Makes durable what recovery has read: copies the log into the database, and begins it anew. A process that
/// was killed between a write and its sync leaves a log that is whole in the system's memory and not on disk.
/// Nothing may be answered from that log before it is on disk: a repeated request gets its stored answer
/// without a write, and so without a sync. After a sync that failed, Linux takes the log's pages for written,
/// and no later fsync of the log writes them: copied, they are written once more.
fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        let busy: i64 = row.get(0)?;
        match busy {
            0 => Ok(()),
            _ => Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            )),
        }
    })
}

/// Releases the database to other programs, in the open transaction: the journal is empty.
pub fn release(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE meta SET value = ?1 WHERE name = 'schema'",
            [SCHEMA_VERSION],
        )
        .map(|_| ())
}

/// Brings a database of the version before up to date, in the open transaction.
fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let has_attributes = connection.query_row(schema::HAS_ATTRIBUTES, [], |row| row.get::<_, i64>(0))?;
    if has_attributes == 0 {
        connection.execute_batch(schema::ADD_ATTRIBUTES)?;
    }
    connection.execute(&schema::weigh(), [])?;
    connection.execute(schema::WEIGHED, [])?;
    Ok(())
}

fn prepare(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    no_checkpoint_on_close(connection)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "fullfsync", true)?;
    // We checkpoint ourselves: the automatic one keeps quiet about an fsync that failed.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    empty_log(connection)?;
    // From this commit on nobody else's is accepted: what the database holds is read after it.
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA}"))?;
    migrate(connection)?;
    connection.execute_batch(&format!("UPDATE meta SET value = {IN_USE} WHERE name = 'schema'"))?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != APPLICATION_ID || pragma("user_version")? != SCHEMA_VERSION {
        // Within the transaction: each would be a commit, and a sync, of its own.
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    connection.execute_batch("COMMIT")?;
    // From here on nothing is written beside the database: all else may be read-only. (A migration may sort more than memory takes.)
    connection.pragma_update(None, "temp_store", "memory")?;
    if let Some(max_bytes) = options.max_bytes {
        let pages = max_bytes / pragma("page_size")?.max(1).unsigned_abs();
        connection.pragma_update(
            None,
            "max_page_count",
            i64::try_from(pages.max(1)).unwrap_or(i64::MAX),
        )?;
    }
    Ok(())
}
