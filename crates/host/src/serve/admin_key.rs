//! The admin key: installed if one was given, else minted on the first start of a store.

use super::files;
use crate::clock;
use crate::logging;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use tollgate_engines::AnyEngine;
use tollgate_rules::keys::{self, FirstKey};
use tollgate_store::commit::StoreError;
use tracing::Level;

/// Installs the configured admin key, or mints one on the first start: shown once, or written to the file.
/// Nothing that comes later in a start may fail, or the key would be lost.
///
/// # Errors
/// The store did not take it, or it could not be shown.
pub async fn install(store: &AnyEngine, given: Option<&str>, file: Option<&Path>) -> Result<()> {
    let now = clock::now();
    if let Some(key) = given {
        keys::install_admin(store, key, now).await?;
        return Ok(());
    }
    let fresh = || {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map(|()| bytes)
    };
    // Checked once here: the closure that the rules take cannot fail.
    if fresh().is_err() {
        bail!("the system gives no random numbers, so no admin key can be made");
    }
    let Some(key) = FirstKey::mint(store, now, &|| fresh().unwrap_or_default()).await? else {
        return Ok(());
    };
    // Shown before it is installed: a key that nobody can read would be the only one.
    match file {
        Some(path) => files::write_secret(path, key.text())
            .with_context(|| format!("cannot write the admin key to {}", path.display()))?,
        None => show(key.text())?,
    }
    let installed = key.install(store).await;
    if let Some(path) = file
        && !matches!(installed, Ok(true) | Err(StoreError::Unknown(_)))
    {
        // It opens nothing. (Where that is not known, it stays: the next start installs what is in the file.)
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    if !installed.context("the new admin key is not in force")? {
        return Ok(());
    }
    if let Some(path) = file {
        let path = path.display().to_string();
        logging::say(
            &format!("tollgate: the admin key of this store is in {path}"),
            Level::INFO,
            "the admin key of this store is in this file",
            &[("path", path.into())],
        );
    }
    Ok(())
}

fn show(key: &str) -> Result<()> {
    let shown = logging::say(
        &format!("\n  Admin key of this store, shown this once (only its hash is kept):\n\n      {key}\n"),
        Level::INFO,
        "the admin key of this store, shown this once (only its hash is kept)",
        &[("admin_key", key.into())],
    );
    if !shown {
        bail!(
            "the new admin key cannot be shown, since nobody reads stderr; name a file for it with --admin-key-file, or set \
             TOLLGATE_ADMIN_KEY"
        );
    }
    Ok(())
}
