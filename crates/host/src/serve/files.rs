//! Permissions of the gateway's files: only their owner may read them. The store holds the secrets that sign
//! deliveries.

use anyhow::{Context as _, Result};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tollgate_engines::sqlite::backup;

/// The permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// From here on, files that the process makes are its user's own: also those that SQLite makes.
pub fn make_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Makes the directory, for its owner alone; one that is there is left as it is.
///
/// # Errors
/// It cannot be made.
pub fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot create the data directory {}", directory.display()))
}

/// Takes away what others may do with a database that an earlier version made, where it is ours.
pub fn tighten(database: &Path) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let mode = metadata.mode() & 0o777;
        let is_ours = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || mode & OTHERS == 0 {
            continue;
        }
        match fs::set_permissions(&path, Permissions::from_mode(mode & !OTHERS)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "others could read this file; now its owner alone can")
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "others can read this file"),
        }
    }
}

/// Logs a warning if others can read a secret. Not of a credential that systemd hands over: its directory is ours alone, and what looks
/// like the right of a group is the mask of the list that says so.
pub fn warn_if_shared(secret: &Path) {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty());
    if credentials.is_some_and(|directory| secret.starts_with(directory)) {
        return;
    }
    if fs::metadata(secret).is_ok_and(|metadata| metadata.mode() & OTHERS != 0) {
        tracing::warn!(path = %secret.display(), "others can read the admin key in this file: chmod 600 it");
    }
}

/// Writes a new file that only its owner may read; whole and durable, or not at all.
///
/// # Errors
/// It is there already, or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = writeln!(file, "{text}")
        .and_then(|()| file.sync_all())
        .and_then(|()| backup::sync_directory(path));
    if written.is_err() {
        _ = fs::remove_file(path);
    }
    written
}
