//! `tollgate backup` and `tollgate restore`, of the embedded store. What belongs to it is the database: keys (as hashes),
//! links, campaigns, topics and the secrets that sign deliveries. Settings, the admin key's file and compiled code do not.

use super::exit::Failure;
use super::output::{self, Output};
use super::settings::{Place, placed};
use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tollgate_api::units::Bytes;
use tollgate_engines::sqlite::backup::{self, BackupError, Contents};
use tollgate_store::settings::StoreSettings;

const BAR: &str = "{msg:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// `tollgate backup …`
#[derive(Args)]
pub struct BackupOptions {
    /// The file to make.
    pub file: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Give up once a running gateway has written so much log meanwhile: it is kept on disk until the copy is made.
    #[arg(long, value_name = "BYTES", default_value = "2GiB")]
    pub max_log: Bytes,
    /// Where the store is.
    #[command(flatten)]
    pub place: Place,
}

/// `tollgate restore …`
#[derive(Args)]
pub struct RestoreOptions {
    /// The backup.
    pub file: PathBuf,
    /// Replace the store that is there.
    #[arg(long)]
    pub force: bool,
    /// Where the store will be.
    #[command(flatten)]
    pub place: Place,
}

/// Makes a backup, also while the gateway runs. The file is there once it is whole, checked and synced.
///
/// # Errors
/// There is no store, or no room; the file is there already.
pub fn back_up(options: &BackupOptions, mut output: Output) -> Result<(), Failure> {
    let began = Instant::now();
    crate::serve::files::make_private();
    let database = database(&options.place)?;
    let file = &options.file;
    if !options.force && file.symlink_metadata().is_ok() {
        let why = format!("{} is there already; --force replaces it", file.display());
        return Err(Failure::failed(why));
    }
    let part = part_of(file)?;
    // What a backup before it has left when it was killed.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(anyhow!(error).context(part.display().to_string()).into());
        }
        _ => {}
    }
    let bar = output::progress(Some(0), BAR).with_message("copying");
    let copied = backup::back_up(&database, &part, options.max_log.0, &mut shown_on(&bar));
    bar.finish_and_clear();
    let contents = copied.map_err(told)?;
    let placed = fs::rename(&part, file).and_then(|()| backup::sync_directory(file));
    placed.with_context(|| format!("cannot make {}", file.display()))?;
    tell(&mut output, "backed up", &database, file, contents, began)
}

/// Puts a backup in the place of a store.
///
/// # Errors
/// It is none; a gateway runs there; there is a store, and no `--force`.
pub fn restore(options: &RestoreOptions, mut output: Output) -> Result<(), Failure> {
    let began = Instant::now();
    crate::serve::files::make_private();
    let file = fs::File::open(&options.file).and_then(|file| file.metadata());
    match file {
        Ok(file) if file.is_file() => {}
        Ok(_) => return Err(Failure::Usage(format!("{} is no file", options.file.display()))),
        Err(error) => {
            let why = format!("cannot read {}: {error}", options.file.display());
            return Err(Failure::Usage(why));
        }
    }
    let database = database(&options.place)?;
    if let Some(directory) = database
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        crate::serve::files::make_directory(directory)?;
    }
    let bar = output::progress(Some(0), BAR).with_message("copying");
    let restored = backup::restore(&options.file, &database, options.force, &mut shown_on(&bar));
    bar.finish_and_clear();
    let contents = restored.map_err(told)?;
    tell(&mut output, "restored", &options.file, &database, contents, began)
}

/// The database that the settings name.
fn database(place: &Place) -> Result<PathBuf, Failure> {
    match &placed(place)?.settings.config.store {
        StoreSettings::Sqlite { path, .. } => Ok(path.into()),
        StoreSettings::Memory { .. } => Err(Failure::failed(
            "the store is in memory, which nothing outlives: there is nothing to back up or restore",
        )),
        StoreSettings::Postgres(_) => Err(Failure::failed(
            "the store is a Postgres: back it up with pg_dump or pg_basebackup",
        )),
    }
}

/// Where the file is made before it is whole: in its own directory.
fn part_of(file: &Path) -> Result<PathBuf, Failure> {
    let name = file.file_name().filter(|_| !file.is_dir());
    let mut name = name
        .ok_or_else(|| Failure::Usage(format!("{} is a directory: name a file", file.display())))?
        .to_owned();
    name.push(".part");
    Ok(file.with_file_name(name))
}

fn shown_on(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        if done >= all {
            bar.set_message("checking");
        }
    }
}

fn told(error: BackupError) -> Failure {
    Failure::Failed(error.into())
}

fn tell(
    output: &mut Output,
    what: &str,
    from: &Path,
    to: &Path,
    contents: Contents,
    began: Instant,
) -> Result<(), Failure> {
    let Contents {
        revision,
        entries,
        journal,
        topics,
        messages,
        idempotence,
        bytes,
    } = contents;
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if output.is_json() {
        return output.value(&json!({
            "from": from, "to": to, "bytes": bytes, "milliseconds": millis, "revision": revision, "entries": entries,
            "journal": journal, "topics": topics, "messages": messages, "idempotencyKeys": idempotence,
        }));
    }
    output.line(&format!("{what}: {} to {}", from.display(), to.display()))?;
    output.line(&format!(
        "{bytes} bytes, checked, in {millis} ms: {entries} entries, {messages} messages in {topics} topics, \
         {idempotence} idempotency keys, {journal} groups in the journal, revision {revision}"
    ))
}
